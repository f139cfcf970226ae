//! What the owner gave out and the bus did not bring, from look to look.
//!
//! A fact that was stamped a moment ago is on its way, however quiet it was before: only what is still
//! missing at the next look, a gap's grace later, is lost; and only if nothing came meanwhile does the
//! bus bring nothing at all.

/// A gap between our place and the owner's head.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// The place before it, since it was seen first.
    at: Option<i64>,
    /// Whether the bus brought anything since the last look.
    heard: bool,
}

/// What a look at place and head finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing is missing.
    Level,
    /// What is missing may be on its way.
    New,
    /// What is missing was missing at the look before.
    Stays {
        /// Nothing else came since.
        deaf: bool,
    },
}

impl Gap {
    /// The bus brought something.
    pub(super) fn hear(&mut self) {
        self.heard = true;
    }

    /// Something beyond the place came: a look soon is the second one.
    pub(super) fn see(&mut self, upto: i64) {
        self.at = Some(upto);
    }

    /// Compares our place with the head; forgets what was heard.
    pub(super) fn look(&mut self, upto: i64, head: i64) -> Look {
        let heard = std::mem::take(&mut self.heard);
        if upto >= head {
            self.at = None;
            Look::Level
        } else if self.at == Some(upto) {
            Look::Stays { deaf: !heard }
        } else {
            self.at = Some(upto);
            Look::New
        }
    }

    /// The owner replayed up to this head, and the place is here now. What comes after it is new.
    pub(super) fn replayed(&mut self, upto: i64, head: i64) {
        self.at = (upto < head).then_some(upto);
    }

    /// Everything was read anew.
    pub(super) fn close(&mut self) {
        self.at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAF: Look = Look::Stays { deaf: true };
    const LOST: Look = Look::Stays { deaf: false };

    #[test]
    fn a_fact_that_was_just_stamped_makes_no_bus_deaf_however_quiet_it_was() {
        let mut gap = Gap::default();
        for _ in 0..3 {
            assert_eq!(gap.look(7, 7), Look::Level);
        }
        assert_eq!(gap.look(7, 8), Look::New);
        gap.hear();
        assert_eq!(gap.look(8, 8), Look::Level);
        // One after the other, each on its way at a look.
        assert_eq!(gap.look(8, 9), Look::New);
        gap.hear();
        assert_eq!(gap.look(9, 10), Look::New);
    }

    #[test]
    fn a_bus_that_brings_nothing_of_what_was_given_out_is_deaf_each_time() {
        let mut gap = Gap::default();
        for place in [7, 9] {
            assert_eq!(gap.look(place, place + 1), Look::New);
            assert_eq!(gap.look(place, place + 2), DEAF);
            // What is given out after a replay is as new as any.
            gap.replayed(place + 2, place + 2);
        }
    }

    #[test]
    fn what_alone_is_missing_is_lost_by_a_bus_that_is_not_deaf() {
        let mut gap = Gap::default();
        gap.hear();
        gap.see(3);
        assert_eq!(gap.look(3, 5), LOST);
        // Not all of it could be applied: asked for again at the next look.
        gap.replayed(4, 5);
        gap.hear();
        assert_eq!(gap.look(4, 5), LOST);
        gap.close();
        assert_eq!(gap.look(4, 5), Look::New);
    }

    #[test]
    fn what_came_before_a_gap_does_not_speak_for_the_bus() {
        let mut gap = Gap::default();
        gap.hear();
        assert_eq!(gap.look(3, 4), Look::New);
        assert_eq!(gap.look(3, 4), DEAF);
    }
}
