//! How often events failed by themselves in this process.
//!
//! The bus counts deliveries, also those in an outage of the database, which no event is to blame for. A
//! busy database is in between: whether it is busy with one event or with everything shows in whether
//! others are applied meanwhile. One that is overloaded applies some and breaks others off, whichever they
//! are, so that this says something only after a while.

use std::{collections::HashMap, time::Duration};

use candlefish_proto::event::Envelope;
use tokio::time::Instant;

use crate::inbox::Place;

/// The failed tries of events that are not settled.
#[derive(Debug, Default)]
pub(super) struct Tries {
    failed: HashMap<(i32, i64), Failed>,
    /// How often something was applied.
    applied: u64,
}

/// The failed tries of one event.
#[derive(Debug)]
struct Failed {
    /// When the first of them failed.
    since: Instant,
    /// All of them.
    made: i64,
    /// Those that it is to blame for.
    counted: i64,
    /// How often something had been applied by the last one.
    applied: u64,
}

impl Tries {
    /// It failed once more by itself; answers how often by now.
    pub(super) fn add(&mut self, event: &Envelope) -> i64 {
        let failed = self.fail(event);
        failed.counted += 1;
        failed.counted
    }

    /// The database was busy once more when it was tried. Counts when others were applied since the try
    /// before, and answers how often by now then. The first one never counts: nothing is known of before.
    pub(super) fn add_busy(&mut self, event: &Envelope) -> Option<i64> {
        let applied = self.applied;
        let failed = self.fail(event);
        let others = failed.made > 1 && failed.applied < applied;
        failed.applied = applied;
        if !others {
            return None;
        }
        failed.counted += 1;
        Some(failed.counted)
    }

    fn fail(&mut self, event: &Envelope) -> &mut Failed {
        let failed = self.failed.entry((event.epoch, event.seq));
        let failed = failed.or_insert_with(|| Failed {
            since: Instant::now(),
            made: 0,
            counted: 0,
            applied: 0,
        });
        failed.made += 1;
        failed
    }

    /// How often it was tried and failed, whoever was to blame.
    pub(super) fn made(&self, event: &Envelope) -> i64 {
        let failed = self.failed.get(&(event.epoch, event.seq));
        failed.map(|failed| failed.made).unwrap_or_default()
    }

    /// How long ago it failed first, for whatever reason; zero before that.
    pub(super) fn age(&self, event: &Envelope) -> Duration {
        let failed = self.failed.get(&(event.epoch, event.seq));
        failed
            .map(|failed| failed.since.elapsed())
            .unwrap_or_default()
    }

    /// Something was applied: the database works.
    pub(super) fn applied(&mut self) {
        self.applied += 1;
    }

    /// It is settled.
    pub(super) fn forget(&mut self, event: &Envelope) {
        self.failed.remove(&(event.epoch, event.seq));
    }

    /// Everything up to the place is settled, and all of epochs before: also what another replica did, of
    /// which nothing comes here any more.
    pub(super) fn forget_upto(&mut self, place: Place) {
        self.failed
            .retain(|(epoch, seq), _| (*epoch, *seq) > (place.epoch, place.upto));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(epoch: i32, seq: i64) -> Envelope {
        Envelope {
            epoch,
            seq,
            ..Envelope::default()
        }
    }

    #[test]
    fn tries_count_until_the_event_is_settled_here_or_by_another_replica() {
        let mut tries = Tries::default();
        for seq in [3, 4, 9] {
            assert_eq!(tries.add(&event(2, seq)), 1);
        }
        assert_eq!(tries.add(&event(1, 7)), 1);
        assert_eq!(tries.add(&event(2, 4)), 2);
        tries.forget(&event(2, 3));
        assert_eq!(tries.made(&event(2, 3)), 0);
        assert_eq!(tries.made(&event(2, 4)), 2);
        tries.forget_upto(Place { epoch: 2, upto: 4 });
        assert_eq!(tries.made(&event(2, 9)), 1);
        assert_eq!(tries.failed.len(), 1);
    }

    #[test]
    fn a_busy_database_counts_against_an_event_only_when_others_are_applied_between_its_tries() {
        let mut tries = Tries::default();
        let (sick, other) = (event(2, 3), event(2, 4));
        tries.applied();
        // However often both are met by it, and whatever was applied before.
        for _ in 0..20 {
            assert_eq!(tries.add_busy(&sick), None);
            assert_eq!(tries.add_busy(&other), None);
        }
        for count in 1..=3 {
            tries.applied();
            assert_eq!(tries.add_busy(&sick), Some(count));
            assert_eq!(tries.add_busy(&sick), None);
        }
        assert_eq!((tries.made(&sick), tries.made(&other)), (26, 20));
        // What fails by itself counts on from there.
        assert_eq!(tries.add(&sick), 4);
    }
}
