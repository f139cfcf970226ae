//! The options that say how a release goes live.

use candlefish_proto::deploy::{BlueGreen, Canary, Recreate, Rolling, Strategy, strategy::Kind};
use clap::{Args, ValueEnum, builder::PossibleValue};
use jiff::SignedDuration;

use crate::error::Error;

/// How a release goes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// All at once, without a bake
    Recreate,
    /// Edge by edge
    Rolling,
    /// Staged beside what is live, then switched at once
    BlueGreen,
    /// A growing share of the traffic, judged at each
    Canary,
}

/// Options that say how a release goes live.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Strategy")]
pub(crate) struct Options {
    /// How the release goes live; else the environment's own way
    #[arg(long, value_enum)]
    pub(crate) strategy: Option<Name>,
    /// Canary: the shares of the traffic in percent, rising
    #[arg(long, value_name = "PERCENT", value_delimiter = ',')]
    pub(crate) weights: Vec<i32>,
    /// Canary: how long each share is watched
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) interval: Option<SignedDuration>,
    /// Rolling: edges switched at a time
    #[arg(long, value_name = "EDGES")]
    pub(crate) batch: Option<i32>,
    /// How long the release before stays ready to return to
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) bake: Option<SignedDuration>,
}

impl Options {
    /// The strategy; `None` when nothing was said. Options that the strategy does not know are
    /// wrong use: silently leaving them out would be a surprise in production.
    pub(crate) fn strategy(&self) -> Result<Option<Strategy>, Error> {
        let Some(name) = self.strategy else {
            return match self.first_option() {
                None => Ok(None),
                Some(option) => Err(Error::wrong(
                    format!("{option} is of no use without --strategy"),
                    "Say which: --strategy recreate, rolling, blue-green or canary",
                )),
            };
        };
        let foreign = [
            (
                "--weights",
                !self.weights.is_empty() && name != Name::Canary,
            ),
            (
                "--interval",
                self.interval.is_some() && name != Name::Canary,
            ),
            ("--batch", self.batch.is_some() && name != Name::Rolling),
            ("--bake", self.bake.is_some() && name == Name::Recreate),
        ];
        if let Some((option, _)) = foreign.into_iter().find(|(_, is_foreign)| *is_foreign) {
            let value = name.to_possible_value();
            let name = value
                .as_ref()
                .map(PossibleValue::get_name)
                .unwrap_or_default();
            return Err(Error::wrong(
                format!("{option} is not an option of {name}"),
                "See: candlefish deploy --help",
            ));
        }
        let bake = self.bake.map(length);
        let kind = match name {
            Name::Recreate => Kind::Recreate(Recreate {}),
            Name::Rolling => Kind::Rolling(Rolling {
                batch: self.batch.unwrap_or_default(),
                bake,
            }),
            Name::BlueGreen => Kind::BlueGreen(BlueGreen { bake }),
            Name::Canary => Kind::Canary(Canary {
                weights: self.weights.clone(),
                interval: self.interval.map(length),
                bake,
            }),
        };
        Ok(Some(Strategy { kind: Some(kind) }))
    }

    fn first_option(&self) -> Option<&'static str> {
        let given = [
            ("--weights", !self.weights.is_empty()),
            ("--interval", self.interval.is_some()),
            ("--batch", self.batch.is_some()),
            ("--bake", self.bake.is_some()),
        ];
        given
            .into_iter()
            .find_map(|(option, given)| given.then_some(option))
    }
}

/// Reads `30s`, `2m`, `1h30m`.
pub(crate) fn duration(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(duration) if !duration.is_negative() => Ok(duration),
        _ => Err("must be a length of time such as 30s, 2m or 1h30m".to_owned()),
    }
}

/// A length of time that may be said in days: `30d`.
pub(crate) fn days(text: &str) -> Result<SignedDuration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    match days {
        Some(days @ 0..=36_500) => Ok(SignedDuration::from_hours(24 * days)),
        Some(_) => Err("is longer than anything stays".to_owned()),
        None => duration(text)
            .map_err(|_fault| "must be a length of time such as 30d or 12h".to_owned()),
    }
}

/// A length of time as the API takes it.
pub(crate) fn length(duration: SignedDuration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: duration.as_secs(),
        nanos: duration.subsec_nanos(),
    }
}
