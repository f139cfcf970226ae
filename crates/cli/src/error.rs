//! Why a command did not do what was asked, and which exit code that is.

use std::process::ExitCode;

use tonic::{Code, Status};

use crate::{
    contexts::{self, TokenOf},
    git, project,
    repeats::Repeat,
    upload,
};

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; of a deployment: live.
    Done,
    /// Failed or rolled back, or refused for its state.
    Failed,
    /// Wrong use.
    Usage,
    /// Still waiting when patience ended.
    Waiting,
    /// Cancelled or superseded.
    Ended,
    /// Not allowed.
    Forbidden,
    /// The server cannot be reached.
    Unreachable,
    /// Ctrl-C: the shell's own number for it.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Waiting => 3,
            Exit::Ended => 4,
            Exit::Forbidden => 5,
            Exit::Unreachable => 6,
            Exit::Interrupted => 130,
        })
    }
}

/// The server could not be reached, or could not work on the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreachable {
    /// The API's address.
    pub(crate) address: String,
    /// What the network said.
    pub(crate) why: String,
    /// What the same command would be.
    pub(crate) again: Again,
}

/// What the same command is, once more, to a server that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Nothing was asked that acts.
    Harmless,
    /// The same request: its idempotency key is kept.
    Same,
    /// A second request, though the first may have arrived: its key could not be kept.
    Second,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line itself.
    #[error("{what}")]
    Wrong {
        /// What is wrong.
        what: String,
        /// What to do instead.
        next: String,
    },
    /// The site does not exist, or not for this caller.
    #[error("there is no site {site:?}")]
    UnknownSite {
        /// As it was given.
        site: String,
        /// One that was perhaps meant.
        near: Option<String>,
    },
    /// The environment does not exist.
    #[error("{site} has no environment {environment:?}")]
    UnknownEnvironment {
        /// The site.
        site: String,
        /// As it was given.
        environment: String,
        /// One that was perhaps meant.
        near: Option<String>,
        /// Those that exist.
        known: Vec<String>,
    },
    /// The preview of a pull request did not come within the time that was waited for it.
    #[error("{site} still has no environment {environment:?}")]
    NoPreview {
        /// The site.
        site: String,
        /// As it was given.
        environment: String,
        /// The commit that was to go there, as it was given.
        commit: String,
    },
    /// The preview of a pull request was not opened again within that time.
    #[error("{site}/{environment} is still closed")]
    ClosedPreview {
        /// The site.
        site: String,
        /// As it was given.
        environment: String,
        /// The commit that was to go there, as it was given.
        commit: String,
    },
    /// Not reached.
    #[error("cannot reach {}: {}", .0.address, .0.why)]
    Unreachable(Unreachable),
    /// The command went well, and its result found no place.
    #[error("cannot write the result: {why}")]
    Unwritten {
        /// What the system said.
        why: String,
    },
    /// What was only to be rehearsed was done: the server did not say that it took it back.
    #[error("the gateway does not know dry runs: THE CALL WAS CARRIED OUT")]
    CarriedOut {
        /// The command that shows what is now.
        now: Option<String>,
    },
    /// Refused by the server.
    #[error("{}", words(.0))]
    Refused(Box<Status>),
    /// The server does not know who calls.
    #[error("{}", words(.status))]
    Stranger {
        /// What it said.
        status: Box<Status>,
        /// Whose the token was.
        token_of: TokenOf,
    },
    /// Which API.
    #[error(transparent)]
    Context(#[from] contexts::Error),
    /// Which site.
    #[error(transparent)]
    Project(#[from] project::Error),
    /// The folder to deploy.
    #[error(transparent)]
    Walk(#[from] candlefish_manifest::WalkError),
    /// The content to deploy.
    #[error(transparent)]
    Manifest(#[from] candlefish_manifest::Error),
    /// The commit.
    #[error(transparent)]
    Git(#[from] git::Error),
    /// The upload.
    #[error(transparent)]
    Upload(#[from] upload::Error),
}

/// What the server said; a server that says nothing gave at least a code.
fn words(status: &Status) -> &str {
    match status.message() {
        "" => status.code().description(),
        said => said,
    }
}

impl Error {
    /// Wrong use: what is wrong, and what to do instead.
    pub(crate) fn wrong(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Wrong {
            what: what.into(),
            next: next.into(),
        }
    }

    /// When the server was lost after it had answered: keeps the key of that request, so that the
    /// same command again goes on with what it made.
    pub(crate) fn kept_by(mut self, repeat: Option<&Repeat>) -> Self {
        if let Self::Unreachable(lost) = &mut self {
            lost.again = match repeat {
                None => Again::Harmless,
                Some(repeat) if repeat.keep() => Again::Same,
                Some(_) => Again::Second,
            };
        }
        self
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Refused(status) => match status.code() {
                Code::PermissionDenied => Exit::Forbidden,
                Code::InvalidArgument | Code::NotFound => Exit::Usage,
                _ => Exit::Failed,
            },
            Self::Unreachable(_) | Self::Upload(upload::Error::Unreachable { .. }) => {
                Exit::Unreachable
            }
            Self::Stranger { .. } | Self::Context(contexts::Error::None) => Exit::Forbidden,
            Self::Upload(_)
            | Self::Unwritten { .. }
            | Self::CarriedOut { .. }
            | Self::Context(contexts::Error::File { .. }) => Exit::Failed,
            _ => Exit::Usage,
        }
    }
}
