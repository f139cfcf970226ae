//! Why a call to GitHub brought nothing, and what that means for whoever repeats it.

use std::time::Duration;

/// The call that asks where an App is installed.
pub(super) const INSTALLATION: &str = "installation";
/// The call that asks whether a repository is shown to us at all.
pub(super) const VISIBLE: &str = "visible";

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("GitHub is left alone for {left:?}: it failed too often")]
    Resting { left: Duration },
    #[error("GitHub's limit is reached: again in {left:?}")]
    Limited { left: Duration },
    #[error("what may be asked of GitHub is not known")]
    Budget(#[source] sqlx::Error),
    #[error("GitHub refuses {call} with {status}: {message}")]
    Refused {
        call: &'static str,
        status: u16,
        message: String,
    },
    #[error("GitHub failed at {call} with {status}")]
    Failed { call: &'static str, status: u16 },
    #[error("GitHub did not answer {call} within {after:?}")]
    Late { call: &'static str, after: Duration },
    #[error("GitHub was not reached for {call}")]
    Unreached {
        call: &'static str,
        #[source]
        source: Box<octocrab::Error>,
    },
    #[error("GitHub's answer to {call} cannot be read")]
    Unreadable {
        call: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("GitHub's answer to {call} broke off")]
    Broken {
        call: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("GitHub does not say where to go for {call}")]
    NoPlace { call: &'static str },
    #[error("GitHub's {call} has more than {most} bytes")]
    Large { call: &'static str, most: u64 },
    #[error("what GitHub sends cannot be kept")]
    Disk(#[source] std::io::Error),
    #[error("the client cannot be made")]
    Client(#[source] Box<octocrab::Error>),
    #[error("the HTTP client cannot be made")]
    Http(#[source] reqwest::Error),
    #[error("the App's key {path} cannot be read")]
    Key {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{repository:?} is no repository of GitHub: owner/name")]
    Repository { repository: String },
}

impl Error {
    /// As `/metrics` counts it.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Resting { .. } => "resting",
            Self::Limited { .. } => "limited",
            Self::Budget(_) => "unasked",
            Self::Failed { .. } => "failed",
            Self::Late { .. } => "late",
            Self::Unreached { .. } => "unreached",
            Self::Broken { .. } => "broken",
            Self::Unreadable { .. } => "unreadable",
            Self::Disk(_) => "unkept",
            Self::Refused { .. }
            | Self::NoPlace { .. }
            | Self::Large { .. }
            | Self::Client(_)
            | Self::Http(_)
            | Self::Key { .. }
            | Self::Repository { .. } => "refused",
        }
    }

    /// A write that ended so may have worked all the same: it is looked for before it is repeated.
    pub(crate) const fn may_have_worked(&self) -> bool {
        match self {
            Self::Failed { .. }
            | Self::Late { .. }
            | Self::Unreached { .. }
            | Self::Broken { .. }
            | Self::Unreadable { .. } => true,
            Self::Resting { .. }
            | Self::Limited { .. }
            | Self::Budget(_)
            | Self::Refused { .. }
            | Self::NoPlace { .. }
            | Self::Large { .. }
            | Self::Disk(_)
            | Self::Client(_)
            | Self::Http(_)
            | Self::Key { .. }
            | Self::Repository { .. } => false,
        }
    }

    /// Asking the same again brings the same: what is asked for is not there, or not allowed.
    pub(crate) const fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Repository { .. })
    }

    /// The fault of GitHub, of the way, of our database or of our disk: it may be asked again, and brings
    /// something else then.
    pub(crate) const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Resting { .. }
                | Self::Limited { .. }
                | Self::Budget(_)
                | Self::Failed { .. }
                | Self::Late { .. }
                | Self::Unreached { .. }
                | Self::Unreadable { .. }
                | Self::Broken { .. }
                | Self::Disk(_)
        )
    }

    /// Any other call brings nothing either: GitHub is not reached, or not to be asked. Whether one that
    /// fails on its side is down is the breaker's to say.
    pub(super) const fn is_of_every_call(&self) -> bool {
        matches!(
            self,
            Self::Resting { .. } | Self::Limited { .. } | Self::Budget(_) | Self::Unreached { .. }
        )
    }

    /// Who asks may not: somebody can let them. An App that is not installed is answered so as well, and so is
    /// who may not see the repository.
    pub(crate) fn is_for_want_of_rights(&self) -> bool {
        match self {
            Self::Refused { call, status, .. } => {
                matches!(status, 401 | 403)
                    || *status == 404 && [INSTALLATION, VISIBLE].contains(call)
            }
            _ => false,
        }
    }

    /// Who asks is refused whatever is asked, for a while at least: the token is not good, a right is missing,
    /// the App is not installed. GitHub gives its 403 also where one pull request takes no comment, which only
    /// the words tell.
    pub(super) fn is_of_credentials(&self) -> bool {
        /// "…because issue is locked", "Commenting is disabled on issues with more than 2500 comments".
        const OF_ONE: [&str; 2] = [" is locked", "Commenting is disabled"];
        match self {
            Self::Refused {
                status: 403,
                message,
                ..
            } => !OF_ONE.iter().any(|words| message.contains(words)),
            _ => self.is_for_want_of_rights(),
        }
    }

    /// It may be about what was asked, and not about who asks: GitHub's 403 is about either.
    pub(super) fn may_be_of_one(&self) -> bool {
        matches!(self, Self::Refused { call, status: 403, .. } if *call != INSTALLATION)
    }

    /// What is asked for is not there, or may not be seen.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// When it may be asked again, where GitHub or the breaker says: in whole milliseconds, for the
    /// database knows no nanoseconds, and refuses them.
    pub(crate) fn left(&self) -> Option<Duration> {
        match self {
            Self::Resting { left } | Self::Limited { left } => {
                let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
                Some(Duration::from_millis(millis.saturating_add(1)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::types::PgInterval;

    use super::*;

    #[test]
    fn what_is_refused_whatever_is_asked_is_told_from_what_one_pull_request_refuses() {
        let locked = "Unable to create comment because issue is locked.";
        let many = "Commenting is disabled on issues with more than 2500 comments";
        for (call, status, message, expected) in [
            ("create_status", 401, "Bad credentials", true),
            (
                "create_comment",
                403,
                "Resource not accessible by integration",
                true,
            ),
            ("create_comment", 403, "User is blocked", true),
            ("create_comment", 403, locked, false),
            ("create_comment", 403, many, false),
            (INSTALLATION, 404, "Not Found", true),
            (VISIBLE, 404, "Not Found", true),
            ("create_status", 404, "Not Found", false),
            ("create_status", 422, "Validation Failed", false),
        ] {
            let message = message.to_owned();
            let error = Error::Refused {
                call,
                status,
                message,
            };
            assert_eq!(error.is_of_credentials(), expected, "{error}");
        }
    }

    #[test]
    fn what_is_left_can_be_stored() {
        let left = Duration::from_nanos(1_234_567_891);
        let error = Error::Resting { left };
        assert!(PgInterval::try_from(left).is_err());
        assert_eq!(error.left(), Some(Duration::from_millis(1_235)));
        PgInterval::try_from(error.left().unwrap()).unwrap();
    }
}
