//! A step that lost two workers may be what killed them, and all that they carried was claimed anew. So it
//! goes to a worker that has nothing else in hand, which takes nothing else beside it (ADR 0072).
//!
//! What sends visitors back is never kept: not by a step that nobody knows to do harm.

use std::time::Duration;

use crate::step::store::Due;

/// How long, in leases, one is left to an idle worker, for a busy system has none; and how long whoever has
/// it takes nothing else, for one that only takes long must not keep all others.
const PATIENCE: u32 = 4;

pub(super) const fn patience(lease: Duration) -> Duration {
    lease.saturating_mul(PATIENCE)
}

/// What a worker has in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hands {
    Empty,
    Others,
    /// One that lost workers, not for long.
    Suspect,
}

impl Hands {
    /// What it may begin with these. One whose turn ends at once, because it fails or its lane is locked, is
    /// due again: so after a suspect others go first.
    pub(super) fn choice(self, had_suspect: bool) -> Choice {
        match self {
            Self::Suspect => Choice::Returns,
            Self::Empty | Self::Others if had_suspect => Choice::OthersFirst,
            Self::Empty => Choice::Any,
            Self::Others => Choice::Listed,
        }
    }
}

/// What a worker may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// What sends visitors back.
    Returns,
    /// A suspect only where nothing else is due.
    OthersFirst,
    Any,
    /// A suspect only if it was listed as one for busy workers, not because edges reported of it.
    Listed,
}

/// Parts what is due: what a worker takes that has this choice, and what it leaves.
pub(super) fn part(due: Vec<Due>, choice: Choice) -> (Vec<Due>, Vec<Due>) {
    let may = match choice {
        Choice::Returns => false,
        Choice::OthersFirst => due.iter().all(|one| one.is_suspect),
        Choice::Any | Choice::Listed => true,
    };
    let unlisted = choice != Choice::Any;
    let suspect = due
        .iter()
        .find(|one| may && one.is_suspect && !(unlisted && one.edges_reported))
        .map(|one| one.step_id);
    let alone = choice == Choice::Returns || suspect.is_some();
    due.into_iter().partition(|one| {
        if one.is_suspect {
            suspect == Some(one.step_id)
        } else {
            one.returns || !alone
        }
    })
}

#[cfg(test)]
mod tests {
    use candlefish_ids::{DeploymentId, EnvironmentId, StepId};

    use super::*;

    fn due(is_suspect: bool, returns: bool, edges_reported: bool) -> Due {
        Due {
            step_id: StepId::new(),
            deployment_id: DeploymentId::new(),
            environment_id: EnvironmentId::new(),
            edges_reported,
            is_lone: false,
            is_suspect,
            returns,
        }
    }

    /// The places of what is taken.
    fn taken(due: &[Due], hands: Hands) -> Vec<usize> {
        taken_after(due, hands, false)
    }

    fn taken_after(due: &[Due], hands: Hands, had_suspect: bool) -> Vec<usize> {
        let (taken, left) = part(due.to_vec(), hands.choice(had_suspect));
        assert_eq!(taken.len() + left.len(), due.len());
        let is = |one: &Due| taken.iter().any(|other| other.step_id == one.step_id);
        (0..due.len()).filter(|&place| is(&due[place])).collect()
    }

    #[test]
    fn without_a_suspect_all_is_taken() {
        let due = [due(false, false, false), due(false, true, true)];
        for hands in [Hands::Empty, Hands::Others] {
            assert_eq!(taken(&due, hands), [0, 1]);
        }
    }

    #[test]
    fn a_suspect_is_taken_alone_and_beside_it_only_what_sends_back() {
        let due = [
            due(false, false, false),
            due(true, false, false),
            due(true, false, false),
            due(false, true, false),
        ];
        assert_eq!(taken(&due, Hands::Empty), [1, 3]);
        // It was listed, so its time with an idle worker is over.
        assert_eq!(taken(&due, Hands::Others), [1, 3]);
        assert_eq!(taken(&due, Hands::Suspect), [3]);
    }

    #[test]
    fn after_a_suspect_others_go_first_so_that_one_whose_turns_fail_keeps_nobody() {
        let due = [due(true, false, false), due(false, false, false)];
        for hands in [Hands::Empty, Hands::Others] {
            assert_eq!(taken_after(&due, hands, true), [1]);
            assert_eq!(taken_after(&due, hands, false), [0]);
            assert_eq!(taken_after(&due[..1], hands, true), [0]);
        }
        assert!(taken_after(&due, Hands::Suspect, true).is_empty());
    }

    #[test]
    fn an_edge_that_reports_gives_a_busy_worker_no_suspect() {
        let due = [due(true, false, true), due(false, false, true)];
        assert_eq!(taken(&due, Hands::Others), [1]);
        assert_eq!(taken(&due, Hands::Empty), [0]);
    }
}
