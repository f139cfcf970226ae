//! The deployment's state machine: pure, no await, no SQL, no clock.
//!
//! ```text
//! Pending ──grant──▶ Running ⇄ Waiting ──▶ Succeeded
//!    │                  │         │
//!    │                  └────┬────┘ undo, with its cause
//!    ▼                       ▼
//! Cancelled, Superseded   Cancelling ──▶ Cancelled, Superseded, Failed, RolledBack
//! ```
//!
//! Before the pivot nothing has moved; from the pivot on, ending early means sending traffic back.
#![deny(clippy::wildcard_enum_match_arm)]

use candlefish_clock::Moment;

#[cfg(test)]
mod tests;

/// How far a deployment is, with what each state needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// Accepted; the lane is not granted.
    Pending,
    /// Acting.
    Running(Acting),
    /// Acting, and waiting for what its blockers say.
    Waiting(Acting),
    /// Being undone; ends in `ends` once every undo step is done.
    Cancelling { acting: Acting, ends: Ending },
    /// Terminal.
    Ended {
        outcome: Outcome,
        at: Moment,
        acting: Option<Acting>,
    },
}

/// The moments of a deployment that was granted.
#[expect(clippy::struct_field_names, reason = "the columns' own names")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Acting {
    pub(crate) started_at: Moment,
    /// The commit that first gave the release traffic.
    pub(crate) pivoted_at: Option<Moment>,
    pub(crate) live_at: Option<Moment>,
}

/// What an undo ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Cancelled,
    Superseded,
    Failed,
    RolledBack,
}

/// How a deployment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    Superseded,
    RolledBack,
}

/// Why a deployment is ended early; a stable word for rows and the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Cancelled,
    Aborted,
    Superseded,
    /// A fetched page was not the release's.
    Verification,
    /// Traffic said that the release hurts.
    Verdict,
    Deadline,
    Preempted,
    /// No edge could stage or follow.
    Edges,
    /// A person gave a quarantined step up.
    Discarded,
    /// Its content cannot be had.
    Content,
    /// Too little traffic to judge it by, and a policy that goes back then.
    Evidence,
}

/// What happens to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Granted,
    /// The step that acts waits for what a blocker says.
    Waits,
    Resumes,
    /// The release gets its first traffic.
    Pivots,
    /// All traffic is on the release, and it was fetched.
    GoesLive,
    /// The last step is done.
    Finishes,
    /// Ended early, for this cause.
    Stops(Cause),
    /// Every undo step is done.
    Undone,
}

/// What a move requires of the rest of the world, in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// Make the release the environment's, and let the history tell it.
    GoLive,
    /// Let the history tell that it failed, and why.
    RecordFailure,
    /// Let the history tell that traffic goes back, and why.
    RecordReturn,
    /// Raise the fence, abandon open steps, ready the undo steps.
    Undo,
    /// Raise the fence and abandon open steps; a rollback inherits the undo, see [`crate::step::undo`].
    HandOver,
    /// Reject the release in this environment.
    Reject,
    /// Write the terminal event and let the lane choose again.
    End,
}

/// A move that the state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} is not possible in {from}")]
pub(crate) struct InvalidTransition {
    pub(crate) from: &'static str,
    pub(crate) event: Event,
}

/// What the machine must know of the deployment besides its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// There is a release to send traffic back to.
    pub(crate) can_return: bool,
    /// What there is to return to is its own release.
    pub(crate) stays: bool,
    /// A rollback: it is never rolled back by itself.
    pub(crate) is_rollback: bool,
}

/// The next state and what must follow from it.
pub(crate) type Move = (State, Vec<Consequence>);

impl State {
    /// The stable word of the state.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running(_) => "running",
            Self::Waiting(_) => "waiting",
            Self::Cancelling { .. } => "cancelling",
            Self::Ended { outcome, .. } => outcome.word(),
        }
    }

    /// The moments since the grant; none before it.
    pub(crate) const fn acting(&self) -> Option<&Acting> {
        match self {
            Self::Pending => None,
            Self::Running(acting) | Self::Waiting(acting) | Self::Cancelling { acting, .. } => {
                Some(acting)
            }
            Self::Ended { acting, .. } => acting.as_ref(),
        }
    }

    /// It holds the lane.
    pub(crate) const fn holds_lane(&self) -> bool {
        matches!(
            self,
            Self::Running(_) | Self::Waiting(_) | Self::Cancelling { .. }
        )
    }

    pub(crate) const fn is_terminal(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    /// The release had traffic at some moment.
    pub(crate) fn pivoted(&self) -> bool {
        self.acting()
            .is_some_and(|acting| acting.pivoted_at.is_some())
    }

    /// All traffic was on the release at some moment, and it was fetched.
    pub(crate) fn went_live(&self) -> bool {
        self.acting().is_some_and(|acting| acting.live_at.is_some())
    }

    /// What is being undone has nothing to go back to any more: it ends as one that never had.
    pub(crate) fn strand(&mut self) {
        if let Self::Cancelling { ends, .. } = self
            && *ends == Ending::RolledBack
        {
            *ends = Ending::Failed;
        }
    }

    /// Says whether the move is legal and what must follow from it.
    pub(crate) fn decide(
        self,
        now: Moment,
        event: Event,
        facts: Facts,
    ) -> Result<Move, InvalidTransition> {
        match (self, event) {
            (Self::Pending, Event::Granted) => {
                let acting = Acting {
                    started_at: now,
                    pivoted_at: None,
                    live_at: None,
                };
                Ok((Self::Running(acting), vec![]))
            }
            (Self::Pending, Event::Stops(cause)) => Self::end_pending(now, cause),
            (Self::Running(acting), Event::Waits) => Ok((Self::Waiting(acting), vec![])),
            (Self::Running(acting) | Self::Waiting(acting), Event::Resumes) => {
                Ok((Self::Running(acting), vec![]))
            }
            (state @ Self::Waiting(_), Event::Waits) => Ok((state, vec![])),
            (Self::Running(acting) | Self::Waiting(acting), Event::Pivots) => {
                let pivoted_at = acting.pivoted_at.or(Some(now));
                Ok((
                    Self::Running(Acting {
                        pivoted_at,
                        ..acting
                    }),
                    vec![],
                ))
            }
            (Self::Running(acting) | Self::Waiting(acting), Event::GoesLive) => {
                Ok(Self::go_live(now, acting))
            }
            (Self::Running(acting) | Self::Waiting(acting), Event::Finishes) => {
                Ok(Self::end(now, Outcome::Succeeded, acting, vec![]))
            }
            (Self::Running(acting) | Self::Waiting(acting), Event::Stops(cause)) => {
                Ok(Self::stop_acting(now, acting, cause, facts))
            }
            (Self::Cancelling { acting, ends }, Event::Stops(Cause::Preempted)) => Ok(Self::end(
                now,
                ends.into(),
                acting,
                vec![Consequence::HandOver],
            )),
            (Self::Cancelling { acting, ends }, Event::Undone) => {
                Ok(Self::end(now, ends.into(), acting, vec![]))
            }
            (state, event) => Err(InvalidTransition {
                from: state.word(),
                event,
            }),
        }
    }

    fn go_live(now: Moment, acting: Acting) -> Move {
        let first = acting.live_at.is_none().then_some(Consequence::GoLive);
        let live_at = acting.live_at.or(Some(now));
        let live = Self::Running(Acting { live_at, ..acting });
        (live, first.into_iter().collect())
    }

    fn end(now: Moment, outcome: Outcome, acting: Acting, mut first: Vec<Consequence>) -> Move {
        first.push(Consequence::End);
        (
            Self::Ended {
                outcome,
                at: now,
                acting: Some(acting),
            },
            first,
        )
    }

    fn end_pending(now: Moment, cause: Cause) -> Result<Move, InvalidTransition> {
        let outcome = match cause {
            Cause::Cancelled | Cause::Aborted => Outcome::Cancelled,
            Cause::Superseded => Outcome::Superseded,
            Cause::Deadline | Cause::Content => Outcome::Failed,
            Cause::Verification
            | Cause::Verdict
            | Cause::Preempted
            | Cause::Edges
            | Cause::Discarded
            | Cause::Evidence => {
                return Err(InvalidTransition {
                    from: "pending",
                    event: Event::Stops(cause),
                });
            }
        };
        Ok((
            Self::Ended {
                outcome,
                at: now,
                acting: None,
            },
            vec![Consequence::End],
        ))
    }

    fn stop_acting(now: Moment, acting: Acting, cause: Cause, facts: Facts) -> Move {
        let ends = Ending::of(cause, &acting, facts);
        let blames = matches!(cause, Cause::Aborted | Cause::Verification | Cause::Verdict);
        let pivoted = acting.pivoted_at.is_some();
        if cause == Cause::Preempted {
            return Self::end(now, ends.into(), acting, vec![Consequence::HandOver]);
        }
        // What a person or a rule named as the way back is not undone by what it finds.
        let by_itself = !matches!(cause, Cause::Cancelled | Cause::Aborted);
        if facts.is_rollback && pivoted && by_itself {
            let first = vec![Consequence::RecordFailure, Consequence::HandOver];
            return Self::end(now, Outcome::Failed, acting, first);
        }
        let recorded = match Self::recorded(cause, pivoted) {
            // A rejection would be its line.
            None if facts.stays && matches!(cause, Cause::Verification | Cause::Verdict) => {
                Some(Consequence::RecordReturn)
            }
            recorded => recorded,
        };
        let mut consequences: Vec<_> = recorded.into_iter().collect();
        consequences.push(Consequence::Undo);
        // What stays live is not rejected.
        if blames && pivoted && !facts.stays {
            consequences.push(Consequence::Reject);
        }
        (Self::Cancelling { acting, ends }, consequences)
    }

    /// The line of the history that says why one is ended that acted. A person's verb and a rejection
    /// write their own, a ban stands there, and a newer commit is told of when it goes live.
    const fn recorded(cause: Cause, pivoted: bool) -> Option<Consequence> {
        match (cause, pivoted) {
            (Cause::Cancelled | Cause::Aborted | Cause::Superseded | Cause::Preempted, _)
            | (Cause::Verification | Cause::Verdict, true) => None,
            (
                Cause::Deadline
                | Cause::Edges
                | Cause::Discarded
                | Cause::Content
                | Cause::Evidence,
                true,
            ) => Some(Consequence::RecordReturn),
            (
                Cause::Verification
                | Cause::Verdict
                | Cause::Deadline
                | Cause::Edges
                | Cause::Discarded
                | Cause::Content
                | Cause::Evidence,
                false,
            ) => Some(Consequence::RecordFailure),
        }
    }
}

impl Ending {
    fn of(cause: Cause, acting: &Acting, facts: Facts) -> Self {
        if acting.pivoted_at.is_some() {
            return if facts.can_return {
                Self::RolledBack
            } else {
                Self::Failed
            };
        }
        match cause {
            Cause::Cancelled | Cause::Aborted | Cause::Preempted => Self::Cancelled,
            Cause::Superseded => Self::Superseded,
            Cause::Verification
            | Cause::Verdict
            | Cause::Deadline
            | Cause::Edges
            | Cause::Discarded
            | Cause::Content
            | Cause::Evidence => Self::Failed,
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        [
            Self::Cancelled,
            Self::Superseded,
            Self::Failed,
            Self::RolledBack,
        ]
        .into_iter()
        .find(|ending| ending.word() == word)
    }
}

impl From<Ending> for Outcome {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Cancelled => Self::Cancelled,
            Ending::Superseded => Self::Superseded,
            Ending::Failed => Self::Failed,
            Ending::RolledBack => Self::RolledBack,
        }
    }
}

impl Outcome {
    pub(crate) const ALL: [Self; 5] = [
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Superseded,
        Self::RolledBack,
    ];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::RolledBack => "rolled_back",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.word() == word)
    }
}

impl Cause {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
            Self::Verification => "verification",
            Self::Verdict => "verdict",
            Self::Deadline => "deadline",
            Self::Preempted => "preempted",
            Self::Edges => "edges",
            Self::Discarded => "discarded",
            Self::Content => "content",
            Self::Evidence => "evidence",
        }
    }
}
