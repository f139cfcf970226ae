//! Writing down what became of a delivery: the trigger's row, and the one line about it.

use candlefish_clock::Moment;
use candlefish_ids::{SiteId, TriggerId};

use super::{
    About, Delivery, Error, head,
    outcome::Outcome,
    store::{self, New, Place},
};
use crate::ctx::{Ctx, Tx};

/// A trigger to write.
#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) about: &'a About,
    pub(super) place: Place,
    /// The place in words; empty for a whole site.
    pub(super) named: &'a str,
    pub(super) outcome: &'a Outcome,
    pub(super) message: &'a str,
    /// Until when its deployment waits for content.
    pub(super) content_until: Option<Moment>,
}

impl Written<'_> {
    /// Writes it in the transaction of the decision.
    pub(super) async fn insert(
        &self,
        tx: &mut Tx,
        now: Moment,
        delivery: &Delivery,
    ) -> Result<(), Error> {
        let (about, outcome, message) = (self.about, self.outcome, self.message);
        tracing::info!(
            delivery.id = %delivery.id, event = delivery.event, repository = about.repository,
            branch = about.branch, commit = about.commit, place = self.named,
            outcome = outcome.word(), reason = outcome.reason(), "a delivery is decided: {message}"
        );
        // What was there already came by a call of its own.
        let there_already = matches!(outcome, Outcome::Created(_)) && !message.is_empty();
        let new = New {
            id: TriggerId::new(),
            delivery,
            about,
            place: self.place,
            outcome,
            message,
            content_until: self.content_until,
            joined: there_already,
            swept: delivery.event == head::EVENT,
        };
        Ok(store::insert(tx, now, &new).await?)
    }
}

/// Writes what concerns no environment.
pub(super) async fn of_site(
    ctx: &Ctx,
    delivery: &Delivery,
    about: &About,
    site: Option<SiteId>,
    (outcome, message): (Outcome, String),
) -> Result<(), Error> {
    let mut tx = ctx.begin().await?;
    let now = tx.read_clock().await?;
    let place = Place {
        site,
        environment: None,
    };
    if !store::is_decided(&mut tx, delivery.id, place).await? {
        let written = Written {
            about,
            place,
            named: "",
            outcome: &outcome,
            message: &message,
            content_until: None,
        };
        written.insert(&mut tx, now, delivery).await?;
    }
    ctx.commit(tx).await.map_err(Error::commit)
}

/// Why a delivery of a repository concerns nobody.
pub(super) fn no_site(repository: &str) -> String {
    format!("no site has the repository {repository}")
}
