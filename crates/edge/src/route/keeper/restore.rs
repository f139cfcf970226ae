//! How the routes of the last run are taken up.

use std::{collections::HashMap, time::Duration};

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;
use futures_util::{StreamExt as _, stream};
use prost::Message as _;
use tokio::time::timeout;

use super::{
    Keeper, STAGING,
    read::{newest, read_all},
};
use crate::{
    disk,
    release::shelf,
    route::{ReleaseRef, Route},
};

/// What a release may take at the start, when content that should be here must come from a store
/// that may be down.
const RESTORE: Duration = Duration::from_secs(5);

impl Keeper {
    /// Takes up the routes of the last run; answers how many. What cannot be staged from the disk
    /// is tried again later, and its host says so until then.
    pub(crate) async fn restore(&mut self) -> Result<usize, disk::Error> {
        let Some(bytes) = self.disk.read_routes()? else {
            return Ok(0);
        };
        let kept = pb::WatchRoutesResponse::decode(bytes.as_slice()).inspect_err(|error| {
            tracing::error!(%error, "the routes on disk cannot be read: waiting for the orchestrator");
        });
        if kept.is_ok() {
            // Of what they do not name the last run died before it could let go. When they cannot be
            // read, nobody knows what they name.
            self.shelf.take_up_notes();
        }
        let kept = kept.unwrap_or_default();
        let later = self.disk.read_later_routes()?;
        let later = later.iter().filter_map(|bytes| {
            let route = pb::Route::decode(bytes.as_slice());
            route
                .inspect_err(|error| tracing::error!(%error, "a route on disk cannot be read"))
                .ok()
        });
        let routes = newest(read_all(kept.routes.into_iter().chain(later)));
        let named: HashMap<ReleaseId, ReleaseRef> = routes
            .iter()
            .flat_map(Route::named)
            .map(|release| (release.id, release))
            .collect();
        let shelf = &self.shelf;
        let staged: Vec<_> = stream::iter(named.into_values())
            .map(|release| async move { (release, timeout(RESTORE, shelf.stage(release)).await) })
            .buffer_unordered(STAGING)
            .collect()
            .await;
        for (release, outcome) in staged {
            let outcome = outcome.unwrap_or(Err(shelf::Error::Interrupted));
            self.note(release, outcome);
        }
        let count = routes.len();
        self.put(&routes);
        for route in routes {
            let here = route.awaited(&self.edge).iter().all(|r| self.is_here(*r));
            if here {
                self.report.hold([(route.host.as_str(), route.known())]);
                self.state.hold(route);
            } else {
                self.state.wait(route);
            }
        }
        Ok(count)
    }
}
