//! Why a call is refused, and the one table from codes to gRPC statuses.
//!
//! Every refusal has a code, a stable word for programs (`reason`) and words for people. The word
//! travels as `google.rpc.ErrorInfo`, bad fields as `google.rpc.BadRequest`.

use std::{collections::HashMap, time::Duration};

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of every `ErrorInfo` of ours.
pub const DOMAIN: &str = "candlefish";

/// What callers read instead of the words of an internal failure.
const INTERNAL: &str = "something failed inside Candlefish; it was logged under this request's id";

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is wrong whatever the state; it names its fields.
    InvalidArgument,
    /// Nobody, or somebody who cannot prove it.
    Unauthenticated,
    /// Somebody who may not.
    PermissionDenied,
    /// Not there, or not for this caller to see.
    NotFound,
    /// There already.
    AlreadyExists,
    /// The state forbids it; another call must come first.
    FailedPrecondition,
    /// Somebody else was faster; reading again and repeating may help.
    Aborted,
    /// A limit is reached.
    Exhausted,
    /// Not done here, whatever the request and the state.
    Unimplemented,
    /// Not now; the same call may succeed later.
    Unavailable,
    /// Our fault.
    Internal,
}

impl From<Code> for tonic::Code {
    fn from(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::InvalidArgument,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::AlreadyExists,
            Code::FailedPrecondition => Self::FailedPrecondition,
            Code::Aborted => Self::Aborted,
            Code::Exhausted => Self::ResourceExhausted,
            Code::Unimplemented => Self::Unimplemented,
            Code::Unavailable => Self::Unavailable,
            Code::Internal => Self::Internal,
        }
    }
}

/// A field of the request, by its path in proto names (`strategy.canary.weights[1]`), and what is
/// wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path.
    pub field: String,
    /// What is wrong, in words.
    pub description: String,
}

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Refusal {
    code: Code,
    reason: &'static str,
    words: String,
    violations: Vec<FieldViolation>,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal with its stable word (lower case, `-` between words) and words for people.
    pub fn new(code: Code, reason: &'static str, words: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            words: words.into(),
            violations: Vec::new(),
            metadata: HashMap::new(),
            retry_after: None,
        }
    }

    /// Names one more bad field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.violations.push(FieldViolation {
            field: field.into(),
            description: description.into(),
        });
        self
    }

    /// Names more bad fields.
    #[must_use]
    pub fn fields(mut self, violations: impl IntoIterator<Item = FieldViolation>) -> Self {
        self.violations.extend(violations);
        self
    }

    /// Adds a value for programs, such as the id that exists already.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Says after which time the same call may succeed.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The kind.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The stable word.
    pub const fn reason(&self) -> &'static str {
        self.reason
    }

    /// The bad fields.
    pub fn violations(&self) -> &[FieldViolation] {
        &self.violations
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::new();
        details.set_error_info(refusal.reason, DOMAIN, refusal.metadata);
        if !refusal.violations.is_empty() {
            details.set_bad_request(
                refusal
                    .violations
                    .into_iter()
                    .map(|v| tonic_types::FieldViolation::new(v.field, v.description))
                    .collect::<Vec<_>>(),
            );
        }
        if refusal.retry_after.is_some() {
            details.set_retry_info(refusal.retry_after);
        }
        let words = if refusal.code == Code::Internal {
            // Internal text never leaves the process; this is where it is handled, so it is logged.
            tracing::error!(
                reason = refusal.reason,
                "internal failure: {}",
                refusal.words
            );
            INTERNAL.to_owned()
        } else {
            refusal.words
        };
        Self::with_error_details(refusal.code.into(), words, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_word_its_fields_and_its_metadata() {
        let status = Status::from(
            Refusal::new(
                Code::InvalidArgument,
                "bad-strategy",
                "the strategy cannot be planned",
            )
            .field("strategy.canary.weights[1]", "must rise")
            .field("environment", "must be set")
            .metadata("deployment_id", "dep_1"),
        );
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(status.message(), "the strategy cannot be planned");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("bad-strategy", DOMAIN)
        );
        assert_eq!(info.metadata["deployment_id"], "dep_1");
        let fields = status.get_details_bad_request().unwrap().field_violations;
        let named: Vec<_> = fields.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(named, ["strategy.canary.weights[1]", "environment"]);
    }

    #[test]
    fn internal_words_stay_inside() {
        let status = Status::from(Refusal::new(
            Code::Internal,
            "database",
            "password is hunter2",
        ));
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(!status.message().contains("hunter2"));
    }
}
