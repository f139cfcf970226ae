//! The fields of a request, checked all at once: the caller reads every fault in one answer.
//!
//! ```text
//! let mut faults = Faults::default();
//! let site = faults.site("site", &message.site);
//! let release = faults.id::<ReleaseId>("release_id", &message.release_id);
//! let reason = faults.optional_text("reason", &message.reason, 500);
//! faults.finish_with(release.map(|release| Create { site, release, reason }))
//! ```
//!
//! A text is given back as it came, also when it is at fault: [`Faults::finish`] keeps it from being
//! used. What has no value without being right is an `Option`, which is empty only beside a fault.
//! Field names are the proto's, with the path from the request down (`policy.strategy.canary.bake`).
//! Only the form is checked here; whether a thing exists is its room's to say, also beside faults of the
//! form ([`crate::site::name_absent`]).

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use candlefish_ids::Digest;
use candlefish_runtime::refusal::{Code, FieldViolation, Refusal};

use crate::preview;

/// With the environment's, two hyphens between: one DNS label of at most 63.
pub(crate) const SITE_SLUG_MAX: usize = 35;
/// One less than the 26 characters that name a preview's environment, so that none can be taken.
pub(crate) const ENVIRONMENT_SLUG_MAX: usize = 25;
/// The slug of a preview's environment: the characters of its deployment.
pub(crate) const PREVIEW_SLUG_MAX: usize = 26;
/// As the API says of every reason.
pub(crate) const REASON_MAX: usize = 500;

/// What is wrong with a request so far.
#[derive(Debug, Default)]
#[must_use = "faults are reported by `finish`"]
pub(crate) struct Faults(Vec<FieldViolation>);

/// Faults that one refusal names.
const MOST_NAMED: usize = 50;

impl Faults {
    /// Notes a fault of a field.
    pub(crate) fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldViolation {
            field: field.into(),
            description: message.into(),
        });
    }

    /// Nothing was wrong so far.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This field is among what was wrong so far.
    pub(crate) fn names(&self, field: &str) -> bool {
        self.0.iter().any(|fault| fault.field == field)
    }

    /// Refuses the request when anything was wrong.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.refusal())
        }
    }

    /// Refuses the request when anything was wrong, or gives what was made of it.
    pub(crate) fn finish_with<T>(self, value: Option<T>) -> Result<T, Refusal> {
        self.finish()?;
        Ok(value.expect("a value is only missing beside a fault"))
    }

    fn refusal(mut self) -> Refusal {
        let title = match self.0.len() {
            1 => "the request has 1 fault".to_owned(),
            many @ ..=MOST_NAMED => format!("the request has {many} faults"),
            many => format!("the request has {many} faults; the first {MOST_NAMED} are named"),
        };
        // They travel in headers, which have a limit.
        self.0.truncate(MOST_NAMED);
        Refusal::new(Code::InvalidArgument, "invalid-fields", title).fields(self.0)
    }

    /// The slug of a site.
    pub(crate) fn site(&mut self, field: &str, text: &str) -> String {
        self.slug(field, text, SITE_SLUG_MAX)
    }

    /// The slug of an environment that exists: a preview's too.
    pub(crate) fn environment(&mut self, field: &str, text: &str) -> String {
        self.slug(field, text, PREVIEW_SLUG_MAX)
    }

    /// The slugs of `site` and `environment` that narrow a list, as far as they are given.
    pub(crate) fn optional_place(&mut self, site: &str, environment: &str) {
        if !site.is_empty() {
            self.site("site", site);
        }
        if !environment.is_empty() {
            self.environment("environment", environment);
        }
    }

    /// The slug of a lasting environment to make. Those of pull requests' previews are theirs.
    pub(crate) fn new_environment(&mut self, field: &str, text: &str) -> String {
        if preview::is_slug(text) {
            let words = format!("must not be {text}: a pull request's preview is called so");
            self.add(field, words);
        }
        self.slug(field, text, ENVIRONMENT_SLUG_MAX)
    }

    /// A slug of at most `longest` characters.
    pub(crate) fn slug(&mut self, field: &str, text: &str, longest: usize) -> String {
        if let Err(message) = slug(text, longest) {
            self.add(field, message);
        }
        text.to_owned()
    }

    /// A text of 1 to `longest` characters.
    pub(crate) fn text(&mut self, field: &str, text: &str, longest: usize) -> String {
        if text.trim().is_empty() {
            self.add(
                field,
                format!("must say something, in at most {longest} characters"),
            );
            return String::new();
        }
        self.optional_text(field, text, longest)
    }

    /// A text of at most `longest` characters, which may be empty.
    pub(crate) fn optional_text(&mut self, field: &str, text: &str, longest: usize) -> String {
        let length = text.chars().count();
        if length > longest {
            self.add(
                field,
                format!("has {length} characters; at most {longest} fit"),
            );
        }
        if text
            .chars()
            .any(|c| c.is_control() && c != '\n' && c != '\t')
        {
            self.add(field, "has control characters");
        }
        text.to_owned()
    }

    /// Why somebody does something that needs a reason.
    pub(crate) fn reason(&mut self, field: &str, text: &str) -> String {
        self.text(field, text, REASON_MAX)
    }

    /// Why somebody does something that needs none; what is blank comes back empty.
    pub(crate) fn optional_reason(&mut self, field: &str, text: &str) -> String {
        let given = self.optional_text(field, text, REASON_MAX);
        if given.trim().is_empty() {
            return String::new();
        }
        given
    }

    /// Why somebody does what is only done when a reason is given: empty, but not blank.
    pub(crate) fn reason_if_given(&mut self, field: &str, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        self.reason(field, text)
    }

    /// A `TypeID`; `None` beside a fault.
    pub(crate) fn id<T>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        match text.parse() {
            Ok(id) => Some(id),
            Err(fault) => {
                self.add(field, format!("{fault}, not {}", quoted(text)));
                None
            }
        }
    }

    /// A `TypeID` or nothing; `None` for empty, or beside a fault.
    pub(crate) fn optional_id<T>(&mut self, field: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        if text.is_empty() {
            None
        } else {
            self.id(field, text)
        }
    }

    /// A whole commit, 40 or 64 hex digits.
    pub(crate) fn commit(&mut self, field: &str, text: &str) -> String {
        if !(matches!(text.len(), 40 | 64) && is_hex(text)) {
            self.add(
                field,
                format!(
                    "must be 40 or 64 hex digits in lower case, not {}",
                    quoted(text)
                ),
            );
        }
        text.to_owned()
    }

    /// A whole commit or nothing.
    pub(crate) fn optional_commit(&mut self, field: &str, text: &str) -> String {
        if text.is_empty() {
            String::new()
        } else {
            self.commit(field, text)
        }
    }

    /// At most `most` whole commits.
    pub(crate) fn commits(&mut self, field: &str, texts: &[String], most: usize) -> Vec<String> {
        if texts.len() > most {
            self.add(field, format!("has {}; at most {most} fit", texts.len()));
            return Vec::new();
        }
        let places = texts.iter().enumerate();
        places
            .map(|(place, text)| self.commit(&format!("{field}[{place}]"), text))
            .collect()
    }

    /// A commit by its first digits, at least seven.
    pub(crate) fn commit_prefix(&mut self, field: &str, text: &str) -> String {
        if !((7..=64).contains(&text.len()) && is_hex(text)) {
            self.add(
                field,
                format!(
                    "must be at least 7 hex digits of a commit, not {}",
                    quoted(text)
                ),
            );
        }
        text.to_owned()
    }

    /// A SHA-256 in hex; `None` beside a fault.
    pub(crate) fn digest(&mut self, field: &str, text: &str) -> Option<Digest> {
        self.id(field, text)
    }

    /// A number within its limits; zero, which stands for unset, becomes `default`.
    pub(crate) fn count(
        &mut self,
        field: &str,
        number: i32,
        default: i32,
        limits: RangeInclusive<i32>,
    ) -> i32 {
        if number == 0 {
            return default;
        }
        if !limits.contains(&number) {
            let (least, most) = limits.into_inner();
            self.add(field, format!("must be {least} to {most}, not {number}"));
            return default;
        }
        number
    }

    /// A length of time within its limits; unset becomes `default`.
    pub(crate) fn duration(
        &mut self,
        field: &str,
        given: Option<&prost_types::Duration>,
        default: Duration,
        limits: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(given) = given else {
            return default;
        };
        match Duration::try_from(*given) {
            Ok(duration) if limits.contains(&duration) => duration,
            _ => {
                let (least, most) = limits.into_inner();
                self.add(
                    field,
                    format!("must be {} to {}", spoken(least), spoken(most)),
                );
                default
            }
        }
    }

    /// A moment, as far as it is one; `None` for unset, or beside a fault.
    pub(crate) fn timestamp(
        &mut self,
        field: &str,
        given: Option<&prost_types::Timestamp>,
    ) -> Option<jiff::Timestamp> {
        let given = given?;
        let moment = jiff::Timestamp::new(given.seconds, given.nanos).ok();
        // Postgres and the API's text form both end with the year 9999, and begin with 1.
        if moment.is_none_or(|at| at.as_second() < -62_135_596_800) {
            self.add(field, "is not a moment between the years 1 and 9999");
            return None;
        }
        moment
    }
}

/// What a text lacks to be a slug.
fn slug(text: &str, longest: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err("is missing".to_owned());
    }
    if text.len() > longest {
        return Err(format!(
            "has {} characters; at most {longest} fit",
            text.chars().count()
        ));
    }
    if !text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        return Err(format!(
            "may only have a-z, 0-9 and -, unlike {}",
            quoted(text)
        ));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("must not begin or end with -".to_owned());
    }
    if text.contains("--") {
        return Err("must not have two hyphens in a row: they part the names in a host".to_owned());
    }
    Ok(())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What somebody sent, as short as an answer needs it.
fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// `1 s`, `10 min`, `24 h`.
fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => "0 s".to_owned(),
        s if s % 3600 == 0 => format!("{} h", s / 3600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests;
