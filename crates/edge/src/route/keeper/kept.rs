//! What is on disk of the routes.

use std::error::Error;

use candlefish_proto::deploy as pb;
use prost::Message as _;
use tokio::time::Instant;

use super::{Keeper, pause::Pause};
use crate::route::Route;

/// So many bytes are added before all routes are written again, however few they are.
const LATER_BYTES: usize = 64 * 1024;

/// What is on disk, in bytes.
///
/// A host is never forgotten, so there are many more than change: those that come are added, and all
/// are written when as much was added as all of them take.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// When all were written last; none when nobody knows what is there.
    whole: Option<usize>,
    /// What was added since.
    later: usize,
    /// They could not be written, and are served and told as held all the same: the disk is behind.
    failed: Option<Pause>,
}

impl Kept {
    fn takes_more(&self) -> bool {
        let most = |whole: usize| whole.max(LATER_BYTES);
        self.whole.is_some_and(|whole| self.later < most(whole))
    }

    /// When to write again what could not be written.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.failed.as_ref().map(Pause::again_at)
    }

    /// That time has come.
    pub(super) fn is_due(&self) -> bool {
        self.failed.as_ref().is_some_and(Pause::is_over)
    }

    /// Nobody knows what is there until all are written.
    fn begin_anew(&mut self) {
        self.whole = None;
        self.later = 0;
    }

    fn wrote(&mut self, bytes: usize) {
        if self.whole.is_some() {
            self.later += bytes;
        } else {
            self.whole = Some(bytes);
        }
        self.failed = None;
    }

    fn broke(&mut self, error: &dyn Error) {
        tracing::error!(%error, "the routes were not kept on disk");
        self.begin_anew();
        self.failed = Some(Pause::after(self.failed.as_ref()));
    }
}

impl Keeper {
    /// Keeps what came. An edge that cannot write still serves what it was told: it would only start
    /// with older routes, should the orchestrator be down as well. It tries again until it could.
    pub(super) async fn persist(&mut self, came: &[Route]) {
        let disk = self.disk.clone();
        let written = if self.state.kept.takes_more() {
            let came: Vec<_> = came
                .iter()
                .map(|route| route.write().encode_to_vec())
                .collect();
            tokio::task::spawn_blocking(move || disk.add_routes(&came)).await
        } else {
            // What is only waited for is known as well: after a start its host says so.
            let held = &self.state.held;
            let waiting = self.state.waiting.values();
            let waiting = waiting.filter(|route| !held.contains_key(&route.host));
            let all = pb::WatchRoutesResponse {
                routes: held.values().chain(waiting).map(Route::write).collect(),
                caught_up: false,
            };
            self.state.kept.begin_anew();
            tokio::task::spawn_blocking(move || {
                let bytes = all.encode_to_vec();
                disk.write_routes(&bytes).map(|()| bytes.len())
            })
            .await
        };
        match written {
            Ok(Ok(bytes)) => self.state.kept.wrote(bytes),
            Ok(Err(error)) => self.state.kept.broke(&error),
            Err(error) => self.state.kept.broke(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_added_until_they_take_as_much_as_all_that_were_written() {
        let takes_more = |whole, later| {
            let kept = Kept {
                whole,
                later,
                failed: None,
            };
            kept.takes_more()
        };
        // Nobody knows what is there.
        assert!(!takes_more(None, 0));
        // Few routes are not written again with every one that comes.
        assert!(takes_more(Some(0), LATER_BYTES - 1));
        assert!(!takes_more(Some(0), LATER_BYTES));
        let many = 3 * LATER_BYTES;
        assert!(takes_more(Some(many), many - 1));
        assert!(!takes_more(Some(many), many));
    }
}
