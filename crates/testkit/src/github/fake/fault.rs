//! How calls fail, when they are told to.

use axum::http::StatusCode;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use serde_json::json;

use super::{Fake, State, reply::Reply};

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// 500, and nothing happened.
    Fails,
    /// This status with GitHub's words, no word of limits, and nothing happened.
    Refused(u16),
    /// 429, again in so many seconds.
    Limited(u64),
    /// 403 as for too many writes, again in so many seconds.
    Secondary(u64),
    /// It happened, and it is the last call that is allowed for so many seconds.
    Spent(u64),
    /// It happened, and the answer asks for a pause of so many seconds before what comes next.
    Pause(u64),
    /// No answer, and nothing happened.
    Silent,
    /// No answer, and yet it happened.
    AnswerLost,
    /// Half of an archive, and then nothing; of `codeload` alone.
    Cut,
}

/// Faults that come once, and those that last.
#[derive(Debug, Default)]
pub(super) struct Faults {
    once: Vec<(String, Fault)>,
    /// Operations that are refused.
    refused: Vec<Refused>,
    fired: usize,
    is_down: bool,
}

/// Calls of an operation that are refused with a status, where they name this in path or body.
#[derive(Debug)]
struct Refused {
    operation: String,
    /// Empty for all.
    about: String,
    status: u16,
}

impl Fake {
    /// The next call of an operation (`repos/create-deployment`) fails so.
    pub fn fails(&self, operation: &str, fault: Fault) {
        self.with(|state| state.faults.once.push((operation.to_owned(), fault)));
    }

    /// Every call of an operation is refused with this status from now on, as where rights are missing.
    pub fn refuses(&self, operation: &str, status: u16) {
        self.refuses_about(operation, "", status);
    }

    /// The same of those calls alone that name this in path or body, as the commit of a deployment.
    pub fn refuses_about(&self, operation: &str, about: &str, status: u16) {
        let refused = Refused {
            operation: operation.to_owned(),
            about: about.to_owned(),
            status,
        };
        self.with(|state| state.faults.refused.push(refused));
    }

    /// What was refused so is taken again.
    pub fn allows(&self, operation: &str) {
        self.with(|state| {
            let refused = &mut state.faults.refused;
            refused.retain(|one| one.operation != operation);
        });
    }

    /// How many of the faults that were asked for have come.
    pub fn faults_fired(&self) -> usize {
        self.with(|state| state.faults.fired)
    }

    /// Every call fails until it is up again.
    pub fn goes_down(&self) {
        self.with(|state| state.faults.is_down = true);
    }

    /// It answers again.
    pub fn comes_back(&self) {
        self.with(|state| state.faults.is_down = false);
    }
}

impl State {
    /// How this call of an operation fails, which says this in path and body.
    pub(super) fn fault(&mut self, operation: &str, said: &[&str]) -> Option<Fault> {
        let faults = &mut self.faults;
        if faults.is_down {
            return Some(Fault::Fails);
        }
        if let Some(place) = faults.once.iter().position(|(of, _)| of == operation) {
            faults.fired += 1;
            return Some(faults.once.remove(place).1);
        }
        let mut refused = faults.refused.iter();
        let is_meant = |one: &&Refused| {
            one.operation == operation && said.iter().any(|said| said.contains(&one.about))
        };
        let refused = refused.find(is_meant)?;
        Some(Fault::Refused(refused.status))
    }
}

/// An error as GitHub words it.
pub(super) fn refusal(status: StatusCode, message: &str) -> Reply {
    let body = json!({
        "message": message,
        "documentation_url": "https://docs.github.com/rest",
        "status": status.as_u16().to_string(),
    });
    Reply::new(status, body)
}

/// What GitHub says with a status of [`Fault::Refused`].
pub(super) fn refused(status: u16) -> Reply {
    let message = match status {
        401 => "Bad credentials",
        403 => "Resource not accessible by integration",
        404 => "Not Found",
        _ => "Refused",
    };
    refusal(StatusCode::from_u16(status).unwrap(), message)
}

/// Too many calls, or too many writes: again in so many seconds.
pub(super) fn limited(status: StatusCode, after: u64) -> Reply {
    pause(
        refusal(status, "You have exceeded a secondary rate limit."),
        after,
    )
}

/// An answer that asks for a pause of so many seconds.
pub(super) fn pause(reply: Reply, after: u64) -> Reply {
    reply.with("retry-after", after)
}

/// The answer to the last call that is allowed for so many seconds. It says what second it is, so that
/// the reset is so far from that and from no other.
#[expect(clippy::disallowed_methods, reason = "GitHub's clock is its own")]
pub(super) fn spent(reply: Reply, after: u64) -> Reply {
    let now = Timestamp::now();
    let date = DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&now)
        .unwrap();
    let reset = now.as_second() + i64::try_from(after).unwrap();
    reply
        .with("date", date)
        .with("x-ratelimit-remaining", 0)
        .with("x-ratelimit-reset", reset)
}
