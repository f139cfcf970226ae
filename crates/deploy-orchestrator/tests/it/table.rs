//! The table of verbs and states: what each verb comes to wherever a deployment is. Every row names
//! every verb and every state has its row, so that a new one of either needs all its cells.
#![deny(clippy::wildcard_enum_match_arm)]

use candlefish_proto::deploy::{
    blocker::Kind,
    deployment::State::{
        self, Cancelled, Cancelling, Failed, Pending, RolledBack, Running, Succeeded, Superseded,
        Waiting,
    },
};

use self::Verb::{
    Abort, Advance, Cancel, Clear, Close, Create, CreateLifting, Discard, Hold, Lift, Pin, Replay,
    Retry, RollBack, Unpin,
};

/// Where a deployment is when the verb comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    PendingLane,
    PendingContent,
    PendingHold,
    PendingStop,
    /// It waits for its lane as well.
    Pinned,
    Staging,
    /// A worker claimed the look at its candidate, and an edge has not answered yet.
    Fetching,
    /// Its candidate, after the first look.
    Settling,
    /// By a stop, before its candidate is verified.
    Paused,
    /// The verification of its candidate.
    Quarantined,
    Analysing,
    NoEvidence,
    /// All traffic is to be on it, and an edge has not followed.
    SwitchWaits,
    Baking,
    /// Aborted while it baked.
    Cancelling,
    Succeeded,
    Failed,
    Cancelled,
    Superseded,
    RolledBack,
    /// A rollback, of which an edge has not the content yet.
    RollbackStages,
    /// A rollback that has moved the traffic, and an edge has not followed.
    RollbackMoved,
    PreviewWaits,
    PreviewStages,
    PreviewLive,
    PreviewClosed,
    /// The newest head of a pull request, in its preview; two heads before it were live there.
    PullWaits,
    PullStages,
    PullLive,
    /// With the pull request.
    PullClosed,
}

impl At {
    /// Its environment is that of its pull request.
    pub(crate) const fn is_pull(self) -> bool {
        matches!(
            self,
            Self::PullWaits | Self::PullStages | Self::PullLive | Self::PullClosed
        )
    }

    /// It goes back from the second release to the first.
    pub(crate) const fn is_rollback(self) -> bool {
        matches!(self, Self::RollbackStages | Self::RollbackMoved)
    }

    /// Its environment is held: a rollback holds it.
    pub(crate) const fn is_held(self) -> bool {
        matches!(self, Self::PendingHold) || self.is_rollback()
    }

    /// Its environment is its own.
    pub(crate) const fn is_preview(self) -> bool {
        matches!(
            self,
            Self::PreviewWaits | Self::PreviewStages | Self::PreviewLive | Self::PreviewClosed
        )
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Cancel,
    Abort,
    Retry,
    Advance,
    Pin,
    Unpin,
    RollBack,
    Hold,
    Lift,
    Clear,
    /// Of the environment.
    Close,
    /// Of the step that it is in, as of one that waits for a person.
    Replay,
    Discard,
    /// Of the same release, whatever holds the environment.
    Create,
    /// Of the same release, with `lift_hold`.
    CreateLifting,
}

pub(crate) const VERBS: [Verb; 15] = [
    Cancel,
    Abort,
    Retry,
    Advance,
    Pin,
    Unpin,
    RollBack,
    Hold,
    Lift,
    Clear,
    Close,
    Replay,
    Discard,
    Create,
    CreateLifting,
];

/// What comes of a verb: how the deployment ends up, and the one that the verb made; or the reason
/// of the refusal.
pub(crate) type Comes = Result<(State, Option<State>), &'static str>;

/// Where a deployment is, and what it says that it waits for.
pub(crate) type Says = (State, &'static [Kind]);

/// Where it stands before the verb.
pub(crate) fn stands(at: At) -> Says {
    match at {
        At::PendingLane | At::Pinned => (Pending, &[Kind::Lane]),
        At::PendingContent | At::PreviewWaits | At::PullWaits => (Pending, &[Kind::Content]),
        At::PendingHold => (Pending, &[Kind::Hold]),
        At::PendingStop => (Pending, &[Kind::Stop]),
        At::Staging
        | At::PreviewStages
        | At::PullStages
        | At::SwitchWaits
        | At::RollbackStages
        | At::RollbackMoved => (Waiting, &[Kind::Edge]),
        At::Fetching => (Running, &[]),
        At::Paused => (Waiting, &[Kind::Stop]),
        At::Quarantined => (Waiting, &[Kind::Quarantine]),
        At::Settling | At::Analysing | At::Baking => (Waiting, &[Kind::Timer]),
        At::NoEvidence => (Waiting, &[Kind::Evidence]),
        At::Cancelling => (Cancelling, &[Kind::Edge]),
        At::Succeeded | At::PreviewLive | At::PreviewClosed | At::PullLive | At::PullClosed => {
            (Succeeded, &[])
        }
        At::Failed => (Failed, &[]),
        At::Cancelled => (Cancelled, &[]),
        At::Superseded => (Superseded, &[]),
        At::RolledBack => (RolledBack, &[]),
    }
}

/// The table.
pub(crate) fn comes(at: At, verb: Verb) -> Comes {
    match at {
        At::PendingLane | At::PendingContent | At::PendingStop => pending(verb),
        At::PendingHold => held(verb),
        At::Pinned => pinned(verb),
        // To be worked on keeps nobody from anything.
        At::Staging | At::Fetching => staging(verb),
        At::Settling => settling(verb),
        At::Paused => paused(verb),
        At::Quarantined => quarantined(verb),
        At::Analysing | At::NoEvidence | At::Baking => with_traffic(verb),
        At::SwitchWaits => switching(verb),
        At::Cancelling => cancelling(verb),
        At::Succeeded => ended(verb, Succeeded, Succeeded),
        At::Failed => ended(verb, Failed, Failed),
        // Its content never came, and does not come for the next one.
        At::Cancelled => ended(verb, Cancelled, Pending),
        At::Superseded => ended(verb, Superseded, Superseded),
        At::RolledBack => rolled_back(verb),
        At::RollbackStages => staging_rollback(verb),
        At::RollbackMoved => moved_rollback(verb),
        At::PreviewWaits | At::PreviewStages => open_preview(verb),
        At::PreviewLive => live_preview(verb),
        At::PreviewClosed => closed_preview(verb),
        At::PullWaits => open_pull(verb, Cancelled, pending),
        At::PullStages => open_pull(verb, Cancelled, staging),
        At::PullLive => open_pull(verb, Succeeded, |verb| ended(verb, Succeeded, Succeeded)),
        At::PullClosed => closed_pull(verb),
    }
}

fn pending(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((Cancelled, None)),
        Pin | Hold => Ok((Pending, None)),
        Create => Ok((Pending, Some(Pending))),
        RollBack => Ok((Pending, Some(Succeeded))),
        Retry => Err("not-terminal"),
        Advance => Err("nothing-to-pass"),
        Unpin => Err("not-pinned"),
        Lift | CreateLifting => Err("not-held"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

fn held(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((Cancelled, None)),
        Pin => Ok((Pending, None)),
        Create => Ok((Pending, Some(Pending))),
        RollBack => Ok((Pending, Some(Succeeded))),
        Lift => Ok((Succeeded, None)),
        CreateLifting => Ok((Succeeded, Some(Succeeded))),
        Hold => Err("held"),
        Retry => Err("not-terminal"),
        Advance => Err("nothing-to-pass"),
        Unpin => Err("not-pinned"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

fn pinned(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((Cancelled, None)),
        Unpin | Hold => Ok((Pending, None)),
        Create => Ok((Pending, Some(Pending))),
        RollBack => Ok((Pending, Some(Succeeded))),
        Pin => Err("pinned"),
        Retry => Err("not-terminal"),
        Advance => Err("nothing-to-pass"),
        Lift | CreateLifting => Err("not-held"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

fn staging(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((Cancelled, None)),
        Pin | Hold => Ok((Succeeded, None)),
        Create => Ok((Succeeded, Some(Succeeded))),
        RollBack => Ok((Cancelled, Some(Succeeded))),
        Retry => Err("not-terminal"),
        Advance => Err("nothing-to-pass"),
        Unpin => Err("not-pinned"),
        Lift | CreateLifting => Err("not-held"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

/// No traffic yet, in a wait that a person can pass.
fn settling(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((Cancelled, None)),
        Advance => Ok((Succeeded, None)),
        Pin | Hold => Ok((Waiting, None)),
        Create => Ok((Waiting, Some(Pending))),
        RollBack => Ok((Cancelled, Some(Succeeded))),
        Retry => Err("not-terminal"),
        Unpin => Err("not-pinned"),
        Lift | CreateLifting => Err("not-held"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

/// The stop stays: nothing but an undo and a rollback goes on.
fn paused(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((Cancelled, None)),
        Pin | Hold => Ok((Waiting, None)),
        Create => Ok((Waiting, Some(Pending))),
        RollBack => Ok((Cancelled, Some(Succeeded))),
        Retry => Err("not-terminal"),
        Advance => Err("nothing-to-pass"),
        Unpin => Err("not-pinned"),
        Lift | CreateLifting => Err("not-held"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

fn quarantined(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((Cancelled, None)),
        Pin | Hold => Ok((Waiting, None)),
        Create => Ok((Waiting, Some(Pending))),
        RollBack => Ok((Cancelled, Some(Succeeded))),
        Replay => Ok((Succeeded, None)),
        Discard => Ok((Failed, None)),
        Retry => Err("not-terminal"),
        Advance => Err("nothing-to-pass"),
        Unpin => Err("not-pinned"),
        Lift | CreateLifting => Err("not-held"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
    }
}

/// A share of it or all: in a wait that a person can pass.
fn with_traffic(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((RolledBack, None)),
        Advance => Ok((Succeeded, None)),
        Pin | Hold => Ok((Waiting, None)),
        Create => Ok((Waiting, Some(Pending))),
        RollBack => Ok((RolledBack, Some(Succeeded))),
        Retry => Err("not-terminal"),
        Unpin => Err("not-pinned"),
        Lift | CreateLifting => Err("not-held"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

/// All traffic, in a wait that nobody can pass.
fn switching(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((RolledBack, None)),
        Pin | Hold => Ok((Succeeded, None)),
        Create => Ok((Succeeded, Some(Succeeded))),
        RollBack => Ok((RolledBack, Some(Succeeded))),
        Retry => Err("not-terminal"),
        Advance => Err("nothing-to-pass"),
        Unpin => Err("not-pinned"),
        Lift | CreateLifting => Err("not-held"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

/// Aborted with traffic: its release is rejected from that moment.
fn cancelling(verb: Verb) -> Comes {
    match verb {
        Hold | Clear => Ok((RolledBack, None)),
        RollBack => Ok((RolledBack, Some(Succeeded))),
        Cancel | Abort | Advance | Pin | Unpin => Err("cancelling"),
        Retry => Err("not-terminal"),
        Lift => Err("not-held"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
        Create | CreateLifting => Err("release-rejected"),
    }
}

/// It ended so, and another one of its release is `again`.
fn ended(verb: Verb, state: State, again: State) -> Comes {
    match verb {
        Retry | Create => Ok((state, Some(again))),
        RollBack => Ok((state, Some(Succeeded))),
        Hold => Ok((state, None)),
        Cancel | Abort | Advance | Pin | Unpin => Err("terminal"),
        Lift | CreateLifting => Err("not-held"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

fn rolled_back(verb: Verb) -> Comes {
    match verb {
        RollBack => Ok((RolledBack, Some(Succeeded))),
        Hold | Clear => Ok((RolledBack, None)),
        Cancel | Abort | Advance | Pin | Unpin => Err("terminal"),
        Retry | Create | CreateLifting => Err("release-rejected"),
        Lift => Err("not-held"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

/// Whoever goes back as well is answered this one. What it goes to is older than what is live until it
/// has ended, and so no push brings it back before.
fn staging_rollback(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((Cancelled, None)),
        RollBack => Ok((Succeeded, Some(Succeeded))),
        Lift => Ok((Succeeded, None)),
        Create | CreateLifting => Ok((Succeeded, Some(Superseded))),
        Hold => Err("held"),
        Retry => Err("not-terminal"),
        Advance => Err("nothing-to-pass"),
        Pin | Unpin => Err("not-pinnable"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

/// To go back now is to leave what it went to: of two releases none is left for that.
fn moved_rollback(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort => Ok((RolledBack, None)),
        Lift => Ok((Succeeded, None)),
        Create | CreateLifting => Ok((Succeeded, Some(Superseded))),
        RollBack => Err("nothing-before"),
        Hold => Err("held"),
        Retry => Err("not-terminal"),
        Advance => Err("nothing-to-pass"),
        Pin | Unpin => Err("not-pinnable"),
        Clear => Err("not-rejected"),
        Close => Err("not-a-preview"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

fn open_preview(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort | Close => Ok((Cancelled, None)),
        Retry => Err("not-terminal"),
        Advance => Err("nothing-to-pass"),
        Pin | Unpin => Err("not-pinnable"),
        RollBack | Hold | Lift | Create | CreateLifting => Err("preview"),
        Clear => Err("not-rejected"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

fn live_preview(verb: Verb) -> Comes {
    match verb {
        Close => Ok((Succeeded, None)),
        Cancel | Abort | Advance | Pin | Unpin => Err("terminal"),
        Retry => Err("not-repeatable"),
        RollBack | Hold | Lift | Create | CreateLifting => Err("preview"),
        Clear => Err("not-rejected"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

fn closed_preview(verb: Verb) -> Comes {
    match verb {
        Cancel | Abort | Advance | Pin | Unpin => Err("terminal"),
        Retry => Err("not-repeatable"),
        RollBack | Hold | Lift => Err("preview"),
        Close | Create | CreateLifting => Err("environment-closed"),
        Clear => Err("not-rejected"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

/// As in an environment that lasts, but that it can be closed.
fn open_pull(verb: Verb, closed: State, lasting: impl Fn(Verb) -> Comes) -> Comes {
    match verb {
        Close => Ok((closed, None)),
        Cancel | Abort | Retry | Advance | Pin | Unpin | RollBack | Hold | Lift | Clear
        | Replay | Discard | Create | CreateLifting => lasting(verb),
    }
}

/// A hold stands when it is opened again.
fn closed_pull(verb: Verb) -> Comes {
    match verb {
        Hold => Ok((Succeeded, None)),
        Cancel | Abort | Advance | Pin | Unpin => Err("terminal"),
        Retry | RollBack | Close | Create | CreateLifting => Err("environment-closed"),
        Lift => Err("not-held"),
        Clear => Err("not-rejected"),
        Replay | Discard => Err("queue-item-unknown"),
    }
}

/// What a stop that pauses comes to once the edges follow; then what a ban comes to, and the stop is
/// lifted. Where one stood already it stays. A stop that lets through comes to the same of what does not
/// act ([`LetThrough`] has the others), and a preview that is closed under a stop to what it comes to
/// without one. Apart from the verbs, for both concern every place at once.
pub(crate) type Barred = (At, Says, State);

pub(crate) const BARRED_WAITING: [Barred; 7] = [
    (At::PendingLane, (Pending, &[Kind::Stop]), Cancelled),
    (
        At::PendingContent,
        (Pending, &[Kind::Content, Kind::Stop]),
        Cancelled,
    ),
    (
        At::PendingHold,
        (Pending, &[Kind::Stop, Kind::Hold]),
        Cancelled,
    ),
    (At::PendingStop, (Pending, &[Kind::Stop]), Cancelled),
    (At::Pinned, (Pending, &[Kind::Stop]), Cancelled),
    (
        At::PreviewWaits,
        (Pending, &[Kind::Content, Kind::Stop]),
        Cancelled,
    ),
    (
        At::PullWaits,
        (Pending, &[Kind::Content, Kind::Stop]),
        Cancelled,
    ),
];

pub(crate) const BARRED_BEFORE_PIVOT: [Barred; 6] = [
    (At::Staging, (Waiting, &[Kind::Stop]), Cancelled),
    (At::Settling, (Waiting, &[Kind::Timer]), Cancelled),
    (At::Paused, (Waiting, &[Kind::Stop]), Cancelled),
    (At::Quarantined, (Waiting, &[Kind::Quarantine]), Cancelled),
    (At::PreviewStages, (Waiting, &[Kind::Stop]), Cancelled),
    (At::PullStages, (Waiting, &[Kind::Stop]), Cancelled),
];

/// Of what is not live yet the traffic goes back; what bakes is.
pub(crate) const BARRED_AFTER_PIVOT: [Barred; 4] = [
    (At::Analysing, (Waiting, &[Kind::Timer]), RolledBack),
    (At::NoEvidence, (Waiting, &[Kind::Evidence]), RolledBack),
    (At::Baking, (Waiting, &[Kind::Timer]), Waiting),
    (At::Cancelling, (RolledBack, &[]), RolledBack),
];

pub(crate) const BARRED_ENDED: [Barred; 5] = [
    (At::Succeeded, (Succeeded, &[]), Succeeded),
    (At::Failed, (Failed, &[]), Failed),
    (At::Cancelled, (Cancelled, &[]), Cancelled),
    (At::Superseded, (Superseded, &[]), Superseded),
    (At::RolledBack, (RolledBack, &[]), RolledBack),
];

pub(crate) const BARRED_PREVIEW_ENDED: [Barred; 4] = [
    (At::PreviewLive, (Succeeded, &[]), Succeeded),
    (At::PreviewClosed, (Succeeded, &[]), Succeeded),
    (At::PullLive, (Succeeded, &[]), Succeeded),
    (At::PullClosed, (Succeeded, &[]), Succeeded),
];

/// Why a release that is banned does not go there once more: what is closed refuses every release.
pub(crate) fn refuses_banned(at: At) -> &'static str {
    if at == At::PullClosed {
        "environment-closed"
    } else {
        "release-banned"
    }
}

/// What a stop that lets through comes to once the edges follow, of what acts; and the verb that passes
/// what it waits for still, which comes to the same as without a stop. What is paused is not here: its
/// site has a stop already.
pub(crate) type LetThrough = (At, Says, Option<Verb>);

pub(crate) const LET_THROUGH_BEFORE_PIVOT: [LetThrough; 5] = [
    (At::Staging, (Succeeded, &[]), None),
    (At::Settling, (Waiting, &[Kind::Timer]), Some(Advance)),
    (
        At::Quarantined,
        (Waiting, &[Kind::Quarantine]),
        Some(Replay),
    ),
    (At::PreviewStages, (Succeeded, &[]), None),
    (At::PullStages, (Succeeded, &[]), None),
];

pub(crate) const LET_THROUGH_AFTER_PIVOT: [LetThrough; 4] = [
    (At::Analysing, (Waiting, &[Kind::Timer]), Some(Advance)),
    (At::NoEvidence, (Waiting, &[Kind::Evidence]), Some(Advance)),
    (At::Baking, (Waiting, &[Kind::Timer]), Some(Advance)),
    (At::Cancelling, (RolledBack, &[]), None),
];
