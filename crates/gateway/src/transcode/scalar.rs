//! One value of one field: from JSON, or from the text of a path or a query parameter.

use base64::Engine as _;
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Value,
};

use super::json::Json;

pub(super) const TIMESTAMP: &str = "google.protobuf.Timestamp";
pub(super) const DURATION: &str = "google.protobuf.Duration";
/// What a `Duration` may hold: about 10,000 years.
const MOST_SECONDS: i64 = 315_576_000_000;

type Read = Result<Value, String>;

/// From JSON; not for messages other than times and durations.
pub(super) fn from_json(kind: &Kind, json: Json) -> Read {
    match (kind, json) {
        (Kind::Bool, Json::Bool(value)) => Ok(Value::Bool(value)),
        (Kind::Enum(values), Json::String(name)) => enum_by_name(values, &name),
        (Kind::Enum(values), Json::Number(number)) => enum_by_number(values, &number),
        (Kind::Bool, other) => Err(expected("true or false", &other)),
        (Kind::Enum(values), other) => Err(expected(&names(values), &other)),
        (Kind::String | Kind::Bytes | Kind::Message(_), Json::String(text)) => {
            from_words(kind, &text)
        }
        (Kind::String, other) => Err(expected("a text", &other)),
        (Kind::Bytes, other) => Err(expected("a text in base64", &other)),
        (Kind::Message(message), other) => Err(expected(example(message), &other)),
        (_, Json::Number(number)) => number_from(kind, &number),
        (_, Json::String(text)) => from_words(kind, &text),
        (_, other) => Err(expected("a number", &other)),
    }
}

/// From text in a path or a query.
pub(super) fn from_text(field: &FieldDescriptor, text: &str) -> Read {
    match field.kind() {
        Kind::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            other => Err(format!("must be true or false, not {}", quoted(other))),
        },
        Kind::Enum(values) => enum_by_name(&values, text),
        kind => from_words(&kind, text),
    }
}

fn from_words(kind: &Kind, text: &str) -> Read {
    match kind {
        Kind::String => plain(text),
        Kind::Bytes => bytes(text),
        Kind::Message(message) if message.full_name() == TIMESTAMP => timestamp(message, text),
        Kind::Message(message) if message.full_name() == DURATION => duration(message, text),
        Kind::Message(_) => Err("must be an object, not a text".to_owned()),
        _ => {
            // The JSON reader would skip blanks around a number.
            let number = Some(text)
                .filter(|text| !text.contains(char::is_whitespace))
                .and_then(|text| serde_json::from_str::<serde_json::Number>(text).ok())
                .ok_or_else(|| format!("must be a number, not {}", quoted(text)))?;
            number_from(kind, &number)
        }
    }
}

fn plain(text: &str) -> Read {
    // No text column of ours can hold it, and nobody means it.
    if text.contains('\0') {
        return Err("must not contain the character U+0000".to_owned());
    }
    Ok(Value::String(text.to_owned()))
}

fn bytes(text: &str) -> Read {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    [STANDARD, URL_SAFE, STANDARD_NO_PAD, URL_SAFE_NO_PAD]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
        .map(|bytes| Value::Bytes(bytes.into()))
        .ok_or_else(|| "must be a text in base64".to_owned())
}

/// Whole numbers may be written with a zero fraction, as JavaScript writes them.
fn number_from(kind: &Kind, number: &serde_json::Number) -> Read {
    let whole = number
        .as_i64()
        .map(i128::from)
        .or_else(|| number.as_u64().map(i128::from))
        .or_else(|| number.as_f64().and_then(exact));
    let float = number.as_f64();
    let value = match kind {
        Kind::Double => float.map(Value::F64),
        Kind::Float => float.and_then(to_f32).map(Value::F32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            whole.and_then(|n| n.try_into().ok()).map(Value::I32)
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            whole.and_then(|n| n.try_into().ok()).map(Value::I64)
        }
        Kind::Uint32 | Kind::Fixed32 => whole.and_then(|n| n.try_into().ok()).map(Value::U32),
        Kind::Uint64 | Kind::Fixed64 => whole.and_then(|n| n.try_into().ok()).map(Value::U64),
        Kind::Bool | Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => None,
    };
    value.ok_or_else(|| format!("must be {}, not {number}", range(kind)))
}

/// The whole number that a float is, up to where floats are exact.
fn exact(float: f64) -> Option<i128> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if float.fract() != 0.0 || float.abs() > EXACT {
        return None;
    }
    format!("{float:.0}").parse().ok()
}

fn to_f32(float: f64) -> Option<f32> {
    float
        .to_string()
        .parse::<f32>()
        .ok()
        .filter(|small| small.is_finite())
}

const fn range(kind: &Kind) -> &'static str {
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            "a whole number from -2147483648 to 2147483647"
        }
        Kind::Uint32 | Kind::Fixed32 => "a whole number from 0 to 4294967295",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "a whole number of 64 bits",
        Kind::Uint64 | Kind::Fixed64 => "a whole number of 64 bits, not below 0",
        _ => "a number",
    }
}

fn enum_by_name(values: &EnumDescriptor, name: &str) -> Read {
    values
        .get_value_by_name(name)
        .map(|value| Value::EnumNumber(value.number()))
        .ok_or_else(|| format!("must be {}, not {}", names(values), quoted(name)))
}

fn enum_by_number(values: &EnumDescriptor, number: &serde_json::Number) -> Read {
    number
        .as_i64()
        .and_then(|number| i32::try_from(number).ok())
        .and_then(|number| values.get_value(number))
        .map(|value| Value::EnumNumber(value.number()))
        .ok_or_else(|| format!("must be {}, not {number}", names(values)))
}

/// The names that say something: the zero value means "not said" and is left out.
fn names(values: &EnumDescriptor) -> String {
    let names: Vec<String> = values
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| value.name().to_owned())
        .collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => "unset".to_owned(),
    }
}

fn timestamp(message: &MessageDescriptor, text: &str) -> Read {
    let wrong = || {
        format!(
            "must be a time such as \"2026-11-20T15:00:02Z\", not {}",
            quoted(text)
        )
    };
    let looks_right = text.len() >= 20
        && text
            .as_bytes()
            .get(10)
            .is_some_and(|t| matches!(t, b'T' | b't'));
    let time: jiff::Timestamp = text.parse().map_err(|_error| wrong())?;
    let year = time.to_zoned(jiff::tz::TimeZone::UTC).year();
    if !looks_right || text.contains('[') || !(1..=9999).contains(&year) {
        return Err(wrong());
    }
    // Both parts have the same sign in jiff; protobuf counts nanoseconds forward.
    let (mut seconds, mut nanos) = (time.as_second(), time.subsec_nanosecond());
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    Ok(seconds_and_nanos(message, seconds, nanos))
}

fn duration(message: &MessageDescriptor, text: &str) -> Read {
    let wrong = || {
        format!(
            "must be seconds such as \"30s\" or \"1.5s\", not {}",
            quoted(text)
        )
    };
    let number = text.strip_suffix('s').ok_or_else(wrong)?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|d| d.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return Err(wrong());
    }
    let seconds: i64 = whole.parse().map_err(|_error| wrong())?;
    let nanos: i32 = format!("{fraction:0<9}")
        .parse()
        .map_err(|_error| wrong())?;
    if seconds > MOST_SECONDS {
        return Err(wrong());
    }
    let sign = if negative { -1 } else { 1 };
    Ok(seconds_and_nanos(
        message,
        i64::from(sign) * seconds,
        sign * nanos,
    ))
}

fn seconds_and_nanos(message: &MessageDescriptor, seconds: i64, nanos: i32) -> Value {
    let mut value = DynamicMessage::new(message.clone());
    value.set_field_by_name("seconds", Value::I64(seconds));
    value.set_field_by_name("nanos", Value::I32(nanos));
    Value::Message(value)
}

fn example(message: &MessageDescriptor) -> &'static str {
    match message.full_name() {
        TIMESTAMP => "a time such as \"2026-11-20T15:00:02Z\"",
        DURATION => "seconds such as \"30s\"",
        _ => "an object",
    }
}

fn expected(what: &str, given: &Json) -> String {
    format!("must be {what}, not {}", given.kind())
}

/// The text in quotes, not more of it than helps.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}
