//! Calls that are only rehearsed: checked and carried out as ever, and taken back where they would be
//! committed. A caller asks for it by a header; calls that only read do not look at it.
//!
//! An answer counts as one of a rehearsal only with the mark of whoever took the call back.

use candlefish_runtime::{
    listen::{REHEARSED, VALIDATED_ONLY},
    refusal::{Code, Refusal},
};
use http::{HeaderMap, HeaderValue, uri::PathAndQuery};
use sqlx::{Postgres, Transaction};
use tonic::{Response, Status, metadata::MetadataValue};

use crate::{
    call::Whole,
    contract::{Method, Owner},
};

/// The request's header or metadata: `true` or `false`.
pub(crate) const ASKED: &str = "candlefish-validate-only";

/// Whether a caller asks for a rehearsal. What is neither yes nor no is refused: the caller may mean
/// that nothing is done.
pub(crate) fn is_asked(headers: &HeaderMap) -> Result<bool, Refusal> {
    let given = headers.get_all(ASKED).iter();
    let given: Vec<&str> = given
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    match given.as_slice() {
        [] | ["false"] => Ok(false),
        ["true"] => Ok(true),
        _ => {
            let words = "whether the call is only to be validated is not said clearly";
            let refusal = Refusal::new(Code::InvalidArgument, "bad-header", words);
            Err(refusal.field(ASKED, "must be true or false, once"))
        }
    }
}

/// Where the orchestrator rehearses a method.
pub(crate) fn path(method: &Method) -> Result<PathAndQuery, Status> {
    let path = format!("{REHEARSED}{}", method.path).parse::<PathAndQuery>();
    path.map_err(|error| Status::internal(error.to_string()))
}

/// Refuses the answer of a service that knows no rehearsals. Any other refusal passes: what was lost on
/// its way has no mark.
pub(crate) fn check(method: &Method, answer: &Whole) -> Result<(), Refusal> {
    if answer.head.headers.contains_key(VALIDATED_ONLY) {
        return Ok(());
    }
    // An orchestrator of an older build takes no calls there, from nobody.
    let is_unknown = |status: &Status| {
        matches!(
            status.code(),
            tonic::Code::PermissionDenied | tonic::Code::Unimplemented
        )
    };
    match answer.refusal() {
        Some(status) if method.owner == Owner::Gateway || !is_unknown(&status) => Ok(()),
        _ => {
            let words = "the service behind the gateway is of an older build, which carries no call \
                         out for a trial; nothing was done";
            Err(Refusal::new(Code::Unimplemented, "not-rehearsed", words))
        }
    }
}

/// Marks an answer, or a refusal, of a call that was let in as a rehearsal.
pub(crate) fn mark(headers: &mut HeaderMap) {
    headers.insert(VALIDATED_ONLY, HeaderValue::from_static("true"));
}

/// Whether a call of this process's own services is only rehearsed; in the request's extensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rehearsal(pub(crate) bool);

impl Rehearsal {
    /// Ends a command's transaction: commits it, or takes it back. Answers whether it was committed.
    pub(crate) async fn end(self, tx: Transaction<'_, Postgres>) -> Result<bool, sqlx::Error> {
        if self.0 {
            tx.rollback().await?;
        } else {
            tx.commit().await?;
        }
        Ok(!self.0)
    }

    /// Marks the answer of a command that ended by [`Rehearsal::end`].
    pub(crate) fn marked<T>(self, mut answer: Response<T>) -> Response<T> {
        if self.0 {
            let mark = MetadataValue::from_static("true");
            answer.metadata_mut().insert(VALIDATED_ONLY, mark);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_or_no_is_understood() {
        let table: [(&[&'static str], Option<bool>); 7] = [
            (&[], Some(false)),
            (&["false"], Some(false)),
            (&["true"], Some(true)),
            (&["True"], None),
            (&["1"], None),
            (&[""], None),
            (&["false", "true"], None),
        ];
        for (values, expected) in table {
            let mut headers = HeaderMap::new();
            for &value in values {
                headers.append(ASKED, HeaderValue::from_static(value));
            }
            let asked = is_asked(&headers);
            if let Err(refusal) = &asked {
                assert_eq!(refusal.violations()[0].field, ASKED);
            }
            assert_eq!(asked.ok(), expected, "{values:?}");
        }
    }
}
