//! What deployments that share a transaction leave behind, written at once.

use std::time::Duration;

use candlefish_ids::EnvironmentId;

use super::Shared;
use crate::{
    ctx::Tx,
    deployment::Deployment,
    lane::store::{self as lane_store, Lasted, WentLive},
    record,
};

/// Those that went live, and those that ended.
#[derive(Debug, Default)]
pub(super) struct Ends {
    live: Vec<WentLive>,
    lasted: Vec<Lasted>,
}

impl Shared {
    /// Its release is its environment's now, and the history tells so. It is no rollback.
    pub(crate) fn goes_live(&mut self, deployment: &Deployment) {
        self.ends.live.push(WentLive::of(deployment));
    }

    /// A deployment that went live acted so long.
    pub(crate) fn lasted(&mut self, environment: EnvironmentId, lasted: Duration) {
        self.ends.lasted.push(Lasted::new(environment, lasted));
    }
}

impl Ends {
    pub(super) async fn write(self, tx: &mut Tx) -> Result<(), sqlx::Error> {
        let now = tx.now();
        if !self.live.is_empty() {
            lane_store::set_live_each(tx, now, &self.live).await?;
            record::write_live_each(tx, &self.live).await?;
        }
        if !self.lasted.is_empty() {
            lane_store::note_lasted_each(tx, &self.lasted).await?;
        }
        Ok(())
    }
}
