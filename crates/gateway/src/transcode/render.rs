//! A message to JSON, written straight into bytes.
//!
//! `ProtoJSON` with proto field names: 64-bit numbers as text, enum names, RFC 3339 times. Fields at
//! their default are left out, but the lists of the outermost message are always there, so that
//! whoever walks a page of nothing finds a list.

use base64::Engine as _;
use jiff::Timestamp;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, SerializeOptions, Value,
};

use super::scalar::{DURATION, TIMESTAMP};

const ANY: &str = "google.protobuf.Any";

/// The JSON text of a message.
pub(crate) fn render(message: &DynamicMessage) -> Vec<u8> {
    let mut out = Writer {
        bytes: Vec::with_capacity(512),
    };
    out.outermost(message);
    out.bytes
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn raw(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, text: &str) {
        // Writing a text into memory cannot fail.
        drop(serde_json::to_writer(&mut self.bytes, text));
    }

    fn name(&mut self, first: &mut bool, name: &str) {
        if !std::mem::take(first) {
            self.raw(",");
        }
        self.text(name);
        self.raw(":");
    }

    fn outermost(&mut self, message: &DynamicMessage) {
        if message
            .descriptor()
            .full_name()
            .starts_with("google.protobuf.")
        {
            self.message(message);
            return;
        }
        self.raw("{");
        let mut first = true;
        for field in message.descriptor().fields() {
            if message.has_field(&field) {
                self.field(&mut first, &field, &message.get_field(&field));
            } else if field.is_list() {
                self.name(&mut first, field.name());
                self.raw("[]");
            }
        }
        self.raw("}");
    }

    fn message(&mut self, message: &DynamicMessage) {
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            TIMESTAMP => self.timestamp(message),
            DURATION => self.duration(message),
            ANY => self.any(message, descriptor.parent_pool()),
            name if name.starts_with("google.protobuf.") => self.well_known(message),
            _ => {
                self.raw("{");
                self.fields(message, &mut true);
                self.raw("}");
            }
        }
    }

    fn fields(&mut self, message: &DynamicMessage, first: &mut bool) {
        for (field, value) in message.fields() {
            self.field(first, &field, value);
        }
    }

    fn field(&mut self, first: &mut bool, field: &FieldDescriptor, value: &Value) {
        self.name(first, field.name());
        self.value(&field.kind(), value);
    }

    fn value(&mut self, kind: &Kind, value: &Value) {
        match value {
            Value::Bool(value) => self.raw(if *value { "true" } else { "false" }),
            Value::I32(value) => self.raw(&value.to_string()),
            Value::U32(value) => self.raw(&value.to_string()),
            Value::I64(value) => self.text(&value.to_string()),
            Value::U64(value) => self.text(&value.to_string()),
            Value::F32(value) => self.float(f64::from(*value)),
            Value::F64(value) => self.float(*value),
            Value::String(value) => self.text(value),
            Value::Bytes(value) => {
                self.text(&base64::engine::general_purpose::STANDARD.encode(value));
            }
            Value::EnumNumber(number) => self.enumeration(kind, *number),
            Value::Message(value) => self.message(value),
            Value::List(items) => self.list(kind, items),
            Value::Map(entries) => self.map(kind, entries.iter()),
        }
    }

    fn list(&mut self, kind: &Kind, items: &[Value]) {
        self.raw("[");
        for (place, item) in items.iter().enumerate() {
            if place > 0 {
                self.raw(",");
            }
            self.value(kind, item);
        }
        self.raw("]");
    }

    fn map<'a>(&mut self, kind: &Kind, entries: impl Iterator<Item = (&'a MapKey, &'a Value)>) {
        let value_kind = kind
            .as_message()
            .map(|entry| entry.map_entry_value_field().kind());
        // In order, so that the same message is the same text.
        let mut entries: Vec<(String, &Value)> =
            entries.map(|(key, value)| (key_text(key), value)).collect();
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        self.raw("{");
        let mut first = true;
        for (key, value) in entries {
            self.name(&mut first, &key);
            self.value(value_kind.as_ref().unwrap_or(kind), value);
        }
        self.raw("}");
    }

    fn float(&mut self, value: f64) {
        match serde_json::Number::from_f64(value) {
            Some(number) => self.raw(&number.to_string()),
            None if value.is_nan() => self.raw("\"NaN\""),
            None => self.raw(if value > 0.0 {
                "\"Infinity\""
            } else {
                "\"-Infinity\""
            }),
        }
    }

    /// A value that this process does not know, because a service is newer, is shown as its number.
    fn enumeration(&mut self, kind: &Kind, number: i32) {
        match kind.as_enum().and_then(|values| values.get_value(number)) {
            Some(value) => self.text(value.name()),
            None => self.raw(&number.to_string()),
        }
    }

    fn timestamp(&mut self, message: &DynamicMessage) {
        let (seconds, nanos) = parts(message);
        match Timestamp::new(seconds, nanos) {
            Ok(time) => self.text(&format!("{time:.*}", digits(nanos))),
            Err(_) => self.raw("null"),
        }
    }

    fn duration(&mut self, message: &DynamicMessage) {
        let (seconds, nanos) = parts(message);
        let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
        let (seconds, nanos) = (seconds.unsigned_abs(), nanos.unsigned_abs());
        if nanos == 0 {
            self.text(&format!("{sign}{seconds}s"));
        } else {
            let fraction = format!("{nanos:09}");
            let (fraction, _) = fraction.split_at(digits(i32::try_from(nanos).unwrap_or(0)));
            self.text(&format!("{sign}{seconds}.{fraction}s"));
        }
    }

    /// The message within, with its type beside its fields.
    fn any(&mut self, message: &DynamicMessage, pool: &DescriptorPool) {
        let read = |name: &str| {
            message
                .get_field_by_name(name)
                .map(std::borrow::Cow::into_owned)
        };
        let (Some(Value::String(url)), Some(Value::Bytes(bytes))) =
            (read("type_url"), read("value"))
        else {
            return self.raw("{}");
        };
        let inner =
            inner_type(pool, &url).and_then(|kind| DynamicMessage::decode(kind, bytes).ok());
        self.raw("{");
        let mut first = true;
        self.name(&mut first, "@type");
        self.text(&url);
        match inner {
            Some(inner)
                if inner
                    .descriptor()
                    .full_name()
                    .starts_with("google.protobuf.") =>
            {
                self.name(&mut first, "value");
                self.message(&inner);
            }
            Some(inner) => self.fields(&inner, &mut first),
            None => {}
        }
        self.raw("}");
    }

    fn well_known(&mut self, message: &DynamicMessage) {
        let options = SerializeOptions::new().use_proto_field_name(true);
        let start = self.bytes.len();
        let mut serializer = serde_json::Serializer::new(&mut self.bytes);
        if message
            .serialize_with_options(&mut serializer, &options)
            .is_err()
        {
            self.bytes.truncate(start);
            self.raw("null");
        }
    }
}

fn inner_type(pool: &DescriptorPool, url: &str) -> Option<MessageDescriptor> {
    pool.get_message_by_name(url.rsplit('/').next()?)
}

fn parts(message: &DynamicMessage) -> (i64, i32) {
    let seconds = message
        .get_field_by_name("seconds")
        .and_then(|value| value.as_i64());
    let nanos = message
        .get_field_by_name("nanos")
        .and_then(|value| value.as_i32());
    (seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// `ProtoJSON` writes fractions of a second with 0, 3, 6 or 9 digits.
const fn digits(nanos: i32) -> usize {
    match nanos {
        0 => 0,
        _ if nanos % 1_000_000 == 0 => 3,
        _ if nanos % 1_000 == 0 => 6,
        _ => 9,
    }
}
