//! What can become of a push in one environment, in stable words and in people's.

use candlefish_ids::DeploymentId;

/// What became of a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is this deployment, made by it or there already.
    Created(DeploymentId),
    /// Something newer was there when it came.
    Superseded(DeploymentId),
    Ignored(Reason, Option<DeploymentId>),
    /// It closed the preview of its pull request.
    Closed,
}

/// Why a push was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// No site has the repository.
    UnknownRepository,
    /// No environment of the site takes pushes.
    NoRule,
    /// The environment takes another branch.
    Branch,
    /// Nothing that counts has changed.
    Paths,
    /// Another delivery told of the same push, or a look at GitHub found it.
    Duplicate,
    /// The environment rejected the commit's release.
    RejectedRelease,
    /// The commit's release is banned.
    BannedRelease,
    /// A tag, or something else that is no branch.
    NotABranch,
    /// The branch is gone.
    Deleted,
    /// Nothing is done for such a delivery.
    NotActedOn,
    /// It is not what its event's deliveries are.
    Unreadable,
    /// The site gives no pull request a preview.
    PreviewsOff,
    /// The site gives no pull request of a fork a preview.
    Fork,
    /// The pull request, or its preview, is closed.
    Closed,
    /// A lasting environment has the preview's slug.
    SlugTaken,
    /// A newer delivery said something else.
    Older,
}

impl Reason {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::UnknownRepository => "unknown_repository",
            Self::NoRule => "no_rule",
            Self::Branch => "branch",
            Self::Paths => "paths",
            Self::Duplicate => "duplicate",
            Self::RejectedRelease => "rejected_release",
            Self::BannedRelease => "banned_release",
            Self::NotABranch => "not_a_branch",
            Self::Deleted => "deleted",
            Self::NotActedOn => "not_acted_on",
            Self::Unreadable => "unreadable",
            Self::PreviewsOff => "previews_off",
            Self::Fork => "fork",
            Self::Closed => "closed",
            Self::SlugTaken => "slug_taken",
            Self::Older => "older",
        }
    }
}

impl Outcome {
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Superseded(_) => "superseded",
            Self::Ignored(..) => "ignored",
            Self::Closed => "closed",
        }
    }

    /// The stable word of why, where there is one.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Created(_) | Self::Closed => "",
            Self::Superseded(_) => "older",
            Self::Ignored(reason, _) => reason.word(),
        }
    }

    pub(crate) const fn deployment(&self) -> Option<DeploymentId> {
        match self {
            Self::Created(id) | Self::Superseded(id) => Some(*id),
            Self::Ignored(_, id) => *id,
            Self::Closed => None,
        }
    }
}
