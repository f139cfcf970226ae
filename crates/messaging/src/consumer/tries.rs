//! How often events failed by themselves in this process.
//!
//! The bus counts deliveries, also those in an outage of the database, which no event is to blame for.

use std::collections::HashMap;

use candlefish_proto::event::Envelope;

use crate::inbox::Place;

/// The failed tries of events that are not settled.
#[derive(Debug, Default)]
pub(super) struct Tries(HashMap<(i32, i64), i64>);

impl Tries {
    /// It failed once more; answers how often by now.
    pub(super) fn add(&mut self, event: &Envelope) -> i64 {
        let tries = self.0.entry((event.epoch, event.seq)).or_default();
        *tries += 1;
        *tries
    }

    pub(super) fn of(&self, event: &Envelope) -> i64 {
        let tries = self.0.get(&(event.epoch, event.seq));
        tries.copied().unwrap_or_default()
    }

    /// It is settled.
    pub(super) fn forget(&mut self, event: &Envelope) {
        self.0.remove(&(event.epoch, event.seq));
    }

    /// Everything up to the place is settled, and all of epochs before: also what another replica did, of
    /// which nothing comes here any more.
    pub(super) fn forget_upto(&mut self, place: Place) {
        self.0
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
        assert_eq!(tries.of(&event(2, 3)), 0);
        assert_eq!(tries.of(&event(2, 4)), 2);
        tries.forget_upto(Place { epoch: 2, upto: 4 });
        assert_eq!(tries.of(&event(2, 9)), 1);
        assert_eq!(tries.0.len(), 1);
    }
}
