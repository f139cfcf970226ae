//! Previews of a repository that their site no longer has are closed: nobody will hear that their pull
//! requests are.
//!
//! Each in a transaction of its own under its lane, by a sweep: a change of the site that locked every lane
//! would wait for all of them. As with their age, the next push opens one again, should the site have the
//! repository again by then.

use candlefish_ids::EnvironmentId;

use super::{
    close,
    store::{self, Moved},
};
use crate::{
    ctx::Ctx,
    deployment::{Error, event::SYSTEM},
    lane,
    step::worker::chain,
};

/// One sweep.
pub(super) async fn sweep(ctx: &Ctx) -> Result<(), Error> {
    let mut conn = ctx.pool.acquire().await?;
    let moved = store::list_moved(&mut conn).await?;
    drop(conn);
    for id in moved {
        // One that cannot be closed must not keep the others.
        if let Err(error) = end(ctx, id).await {
            tracing::warn!(
                environment.id = %id, error = %chain(&error),
                "a preview of another repository was not closed"
            );
        }
    }
    Ok(())
}

async fn end(ctx: &Ctx, id: EnvironmentId) -> Result<(), Error> {
    let mut tx = ctx.begin().await.map_err(Error::Begin)?;
    let mut lane = lane::store::lock(&mut tx, id).await?;
    if lane.closed {
        return Ok(());
    }
    // Asked again: a pull request of the new repository may have taken it over meanwhile.
    let Some(moved) = store::find_moved(&mut tx, id).await? else {
        return Ok(());
    };
    close::close(ctx, &mut tx, &mut lane, SYSTEM, &reason(&moved)).await?;
    Ok(ctx.commit(tx).await?)
}

fn reason(moved: &Moved) -> String {
    let Moved {
        site,
        repository,
        by,
        number,
        was,
    } = moved;
    let of = was.as_deref().unwrap_or("another repository");
    let now = if repository.is_empty() {
        format!("left {site} without a repository")
    } else {
        format!("made {repository} the repository of {site}")
    };
    format!("{by} {now}: pull request {number} is of {of}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_says_who_changed_the_repository_and_from_what() {
        let moved = |repository: &str, was: Option<&str>| Moved {
            site: "docs".to_owned(),
            repository: repository.to_owned(),
            by: "erin".to_owned(),
            number: 12,
            was: was.map(str::to_owned),
        };
        assert_eq!(
            reason(&moved("acme/docs", Some("example/docs"))),
            "erin made acme/docs the repository of docs: pull request 12 is of example/docs"
        );
        assert_eq!(
            reason(&moved("", None)),
            "erin left docs without a repository: pull request 12 is of another repository"
        );
    }
}
