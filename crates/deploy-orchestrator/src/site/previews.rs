//! Which pull requests get a preview, and how long previews stay.

use std::time::Duration;

use candlefish_proto::deploy::{self as pb, preview_rule};

use super::duration;
use crate::field::Faults;

const MAX_AGE: Duration = Duration::from_hours(30 * 24);
const MAX_AGE_LEAST: Duration = Duration::from_hours(1);
const MAX_AGE_MOST: Duration = Duration::from_hours(365 * 24);

/// The rule of one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PreviewRule {
    pub(crate) from: From,
    /// Since the last push of a pull request, and since a single preview was made.
    pub(crate) max_age: Duration,
}

/// Whose pull requests get a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Off,
    /// Those whose branch is in the repository itself.
    Repository,
    /// Those of forks too.
    Forks,
}

impl Default for PreviewRule {
    fn default() -> Self {
        Self {
            from: From::Off,
            max_age: MAX_AGE,
        }
    }
}

impl PreviewRule {
    /// Reads the rule at the field `path` of a request.
    pub(crate) fn read(faults: &mut Faults, path: &str, given: &pb::PreviewRule) -> Self {
        let field = |name: &str| format!("{path}.{name}");
        Self {
            from: read_from(faults, &field("from"), given.from),
            max_age: faults.duration(
                &field("max_age"),
                given.max_age.as_ref(),
                MAX_AGE,
                MAX_AGE_LEAST..=MAX_AGE_MOST,
            ),
        }
    }
}

fn read_from(faults: &mut Faults, field: &str, given: i32) -> From {
    match preview_rule::From::try_from(given) {
        Ok(preview_rule::From::Unspecified | preview_rule::From::Off) => From::Off,
        Ok(preview_rule::From::Repository) => From::Repository,
        Ok(preview_rule::From::Forks) => From::Forks,
        Err(_) => {
            let words = format!("must be FROM_OFF, FROM_REPOSITORY or FROM_FORKS, not {given}");
            faults.add(field, words);
            From::Off
        }
    }
}

impl std::convert::From<PreviewRule> for pb::PreviewRule {
    fn from(rule: PreviewRule) -> Self {
        let from = match rule.from {
            From::Off => preview_rule::From::Off,
            From::Repository => preview_rule::From::Repository,
            From::Forks => preview_rule::From::Forks,
        };
        Self {
            from: from.into(),
            max_age: Some(duration::shown(rule.max_age)),
        }
    }
}

impl From {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Repository => "repository",
            Self::Forks => "forks",
        }
    }

    /// A word that a newer release wrote allows nobody.
    pub(crate) fn of_word(word: &str) -> Self {
        match word {
            "repository" => Self::Repository,
            "forks" => Self::Forks,
            _ => Self::Off,
        }
    }
}
