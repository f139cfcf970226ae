//! The public events, as they happen: `EventService`. Today those are the events of the deploy-orchestrator;
//! what the gateway tells of webhook deliveries is between our own processes.
//!
//! ```text
//! a service's feed ──replay──▶ Tail (one per source) ──broadcast──▶ watchers that are up to date
//!        └──────────────replay──────────────────────────────────▶ watchers that come back
//! ```
//!
//! The bus only says that there is something: events are read from their owner's feed, whose
//! numbers are dense, so nothing depends on a message that arrives, once, in order. A watcher that
//! comes back with a cursor reads the feed until it stands where the tail stands and joins it in
//! the same moment: it misses nothing and sees nothing twice.
//!
//! Invariants: what a watcher gets of one epoch is dense before its filter; a new epoch is told from
//! its first event on, to those who were told the one before to its end, and nobody else goes on; a
//! cursor never makes an owner believe that it is behind, and never is of a place before which
//! something was still to be told; who may not see a site sees no event of it.
//! Not here: storing events, or making them.

use std::time::Duration;

mod cursor;
mod filter;
mod rpc;
mod tail;
#[cfg(test)]
mod tests;
mod watch;

pub(crate) use rpc::{Rpc, Sites};
pub(crate) use tail::{Feed, Listener, Tail};

/// The header of a stream's answer that says after which cursor it begins: whoever is told nothing
/// before the stream breaks goes on from there.
pub(crate) const CURSOR: &str = "watch-cursor";

/// After so long without an event for it a watcher is told its cursor, if that has moved: as often
/// as proxies want to hear something.
pub(crate) const QUIET: Duration = Duration::from_secs(15);

/// After which event of a source somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) epoch: i32,
    /// 0 before the first event.
    pub(crate) seq: i64,
}
