//! Numbers, times and names as people read them.

use candlefish_proto::deploy::{
    Deployment, Strategy,
    deployment::{Kind, State},
    strategy,
};
use jiff::{SignedDuration, Timestamp, ToSpan as _, Unit, Zoned};

/// Letters of an id that are shown where it is only named: the prefix and the time it was made.
const SHORT: usize = 10;
/// So near that a minute is no answer.
const NEAR: SignedDuration = SignedDuration::from_mins(2);
const SECOND: i64 = 1_000;
/// From here on, tenths of a second say nothing.
const TENTHS: i64 = 10 * SECOND;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// `1,124`.
pub(crate) fn count(number: impl Into<i64>) -> String {
    let digits = number.into().to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 file`, `1,124 files`.
pub(crate) fn counted(number: impl Into<i64>, noun: &str) -> String {
    let number = number.into();
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

/// `38.2 MB`, `212 kB`, `12 B`.
pub(crate) fn bytes(number: u64) -> String {
    let mut unit = "B";
    let mut thousandths = u128::from(number) * 1000;
    for larger in ["kB", "MB", "GB", "TB"] {
        if thousandths < 1_000_000 {
            break;
        }
        thousandths /= 1000;
        unit = larger;
    }
    let whole = thousandths / 1000;
    if unit == "B" || whole >= 100 {
        format!("{whole} {unit}")
    } else {
        format!("{whole}.{} {unit}", thousandths % 1000 / 100)
    }
}

/// `12 ms`, `4.2 s`, `18 s`, `1 min 3 s`, `2 h 5 min`, `2 d 17 h`.
pub(crate) fn duration(duration: SignedDuration) -> String {
    let ms = millis(duration);
    match ms {
        ..SECOND => format!("{ms} ms"),
        SECOND..TENTHS if ms % SECOND >= 100 => tenths(ms),
        SECOND..MINUTE => format!("{} s", ms / SECOND),
        MINUTE..HOUR => two(ms, MINUTE, "min", SECOND, "s"),
        HOUR..DAY => two(ms, HOUR, "h", MINUTE, "min"),
        DAY.. => two(ms, DAY, "d", HOUR, "h"),
    }
}

/// `0.3 s`, `18 s`: how long a piece of work took.
pub(crate) fn took(time: SignedDuration) -> String {
    let ms = millis(time);
    if ms < TENTHS {
        tenths(ms)
    } else {
        duration(time)
    }
}

fn tenths(ms: i64) -> String {
    format!("{}.{} s", ms / SECOND, ms % SECOND / 100)
}

/// `12 min`, `3 h`, `2 d`: about how long.
pub(crate) fn about(duration: SignedDuration) -> String {
    let ms = millis(duration);
    match ms {
        ..MINUTE => format!("{} s", ms / SECOND),
        MINUTE..HOUR => format!("{} min", ms / MINUTE),
        HOUR..DAY => format!("{} h", ms / HOUR),
        DAY.. => format!("{} d", ms / DAY),
    }
}

fn millis(duration: SignedDuration) -> i64 {
    // The server's clock may be ahead of ours: nothing took less than no time.
    i64::try_from(duration.as_millis())
        .unwrap_or(i64::MAX)
        .max(0)
}

fn two(ms: i64, large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    let rest = ms % large / small;
    let first = format!("{} {large_unit}", ms / large);
    if rest == 0 {
        first
    } else {
        format!("{first} {rest} {small_unit}")
    }
}

/// A moment of the API.
pub(crate) fn moment(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// From one moment of the API to another.
pub(crate) fn between(
    from: Option<&prost_types::Timestamp>,
    to: Option<&prost_types::Timestamp>,
) -> Option<SignedDuration> {
    Some(moment(from)?.duration_until(moment(to)?))
}

/// From a moment of the API until now.
pub(crate) fn since(from: Option<&prost_types::Timestamp>, now: &Zoned) -> Option<SignedDuration> {
    Some(moment(from)?.duration_until(now.timestamp()))
}

/// A length of the API.
pub(crate) fn length(duration: Option<&prost_types::Duration>) -> Option<SignedDuration> {
    let duration = duration?;
    Some(SignedDuration::new(duration.seconds, duration.nanos))
}

/// `12 min ago`; `just now`.
pub(crate) fn ago(from: Option<&prost_types::Timestamp>, now: &Zoned) -> String {
    match since(from, now) {
        None => "never".to_owned(),
        Some(passed) if passed.as_secs() < 2 => "just now".to_owned(),
        Some(passed) => format!("{} ago", about(passed)),
    }
}

/// `12 min`: how long something has been so; empty when it is not.
pub(crate) fn lasted(from: Option<&prost_types::Timestamp>, now: &Zoned) -> String {
    since(from, now).map(about).unwrap_or_default()
}

/// `14:07`, `14:07:12` when it is near; `Monday 14:07` within a week; else with its date.
pub(crate) fn clock(time: Timestamp, now: &Zoned) -> String {
    let near = time.duration_until(now.timestamp()).abs() < NEAR;
    let time = time.to_zoned(now.time_zone().clone());
    let week = now.checked_add(6.days()).is_ok_and(|week| time < week) && time > *now;
    let format = if near {
        "%H:%M:%S"
    } else if time.date() == now.date() {
        "%H:%M"
    } else if week {
        "%A %H:%M"
    } else {
        "%Y-%m-%d %H:%M"
    };
    time.strftime(format).to_string()
}

/// `14:05:12`: when a line was written.
pub(crate) fn stamp(time: &Zoned) -> String {
    time.round(Unit::Second)
        .unwrap_or_else(|_| time.clone())
        .strftime("%H:%M:%S")
        .to_string()
}

/// `rel_01k8qv2ab3…`: an id where it is named and not meant to be copied.
pub(crate) fn short(id: &str) -> String {
    match id.split_once('_') {
        Some((prefix, suffix)) if suffix.len() > SHORT && suffix.is_ascii() => {
            format!("{prefix}_{}…", suffix.get(..SHORT).unwrap_or(suffix))
        }
        _ => id.to_owned(),
    }
}

/// `4ac21e0`.
pub(crate) fn short_commit(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

/// `docs/production`; `docs, a preview`.
pub(crate) fn place(site: &str, environment: &str, kind: Kind) -> String {
    if kind == Kind::Preview {
        format!("{site}, as a preview")
    } else {
        format!("{site}/{environment}")
    }
}

/// Where people see it: of a preview its release's own address, also once nothing is served there.
pub(crate) fn address(deployment: &Deployment) -> &str {
    if deployment.kind() == Kind::Preview && !deployment.preview_url.is_empty() {
        &deployment.preview_url
    } else {
        &deployment.url
    }
}

/// The strategy's name.
pub(crate) fn strategy(strategy: Option<&Strategy>) -> &'static str {
    match strategy.and_then(|strategy| strategy.kind.as_ref()) {
        None => "usual strategy",
        Some(strategy::Kind::Recreate(_)) => "recreate",
        Some(strategy::Kind::Rolling(_)) => "rolling",
        Some(strategy::Kind::BlueGreen(_)) => "blue-green",
        Some(strategy::Kind::Canary(_)) => "canary",
    }
}

/// A deployment's state in a sentence ("it is …").
pub(crate) fn state(state: State) -> &'static str {
    match state {
        State::Unspecified => "in a state that this version does not know",
        State::Pending => "pending",
        State::Running => "running",
        State::Waiting => "waiting",
        State::Cancelling => "being undone",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
        State::Superseded => "superseded",
        State::RolledBack => "rolled back",
    }
}

/// Whether a deployment has ended.
pub(crate) fn is_terminal(state: State) -> bool {
    match state {
        State::Succeeded
        | State::Failed
        | State::Cancelled
        | State::Superseded
        | State::RolledBack => true,
        State::Unspecified
        | State::Pending
        | State::Running
        | State::Waiting
        | State::Cancelling => false,
    }
}

/// At most this many letters.
pub(crate) fn shorten(text: &str, letters: usize) -> String {
    console::truncate_str(text, letters, "…").into_owned()
}
