//! A JSON body to a message.

use std::collections::{HashMap, HashSet};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::{
    Faults,
    json::{self, Json},
    scalar::{self, DURATION, TIMESTAMP},
    unknown_field,
};

/// Reads the whole body; what is wrong is noted and left out.
pub(super) fn read(
    message: &MessageDescriptor,
    bytes: &[u8],
    faults: &mut Faults,
) -> DynamicMessage {
    let empty = || DynamicMessage::new(message.clone());
    match json::parse(bytes) {
        Ok(json) => Walk {
            faults,
            path: String::new(),
        }
        .message(message, json)
        .unwrap_or_else(empty),
        Err(error) => {
            faults.add("", format!("the body is no JSON: {error}"));
            empty()
        }
    }
}

struct Walk<'a> {
    faults: &'a mut Faults,
    /// Where the walk is: `strategy.canary`.
    path: String,
}

impl Walk<'_> {
    fn fault(&mut self, message: impl Into<String>) {
        self.faults.add(&self.path, message);
    }

    /// Does something one level deeper.
    fn within<T>(&mut self, step: &str, act: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if length > 0 && !step.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(step);
        let answer = act(self);
        self.path.truncate(length);
        answer
    }

    fn message(&mut self, message: &MessageDescriptor, json: Json) -> Option<DynamicMessage> {
        let fields = match json {
            Json::Object(fields) => fields,
            other => {
                let what = if self.path.is_empty() {
                    "the body must"
                } else {
                    "must"
                };
                self.fault(format!("{what} be an object, not {}", other.kind()));
                return None;
            }
        };
        let mut target = DynamicMessage::new(message.clone());
        let mut seen = HashSet::new();
        for (name, value) in fields {
            let Some(field) = message.get_field_by_name(&name) else {
                // The words list all fields: not to be made for each of many that nobody is told of.
                if !self.faults.are_full() {
                    self.within(&name, |walk| walk.fault(unknown_field(message, &name)));
                }
                continue;
            };
            if !seen.insert(name) {
                self.within(field.name(), |walk| walk.fault("is given twice"));
                continue;
            }
            self.within(field.name(), |walk| walk.field(&mut target, &field, value));
        }
        Some(target)
    }

    fn field(&mut self, target: &mut DynamicMessage, field: &FieldDescriptor, json: Json) {
        if json == Json::Null {
            // ProtoJSON: null is the default, so the field is as good as not given.
            return;
        }
        if let Some(other) = set_member(target, field) {
            self.fault(format!("does not go with {other:?}: give one of them"));
            return;
        }
        let value = if field.is_map() {
            self.map(field, json)
        } else if field.is_list() {
            self.list(&field.kind(), json)
        } else {
            self.value(&field.kind(), json)
        };
        // What cannot be read was given all the same.
        let value = value.unwrap_or_else(|| Value::default_value_for_field(field));
        target.set_field(field, value);
    }

    fn list(&mut self, kind: &Kind, json: Json) -> Option<Value> {
        let Json::List(items) = json else {
            self.fault(format!("must be a list, not {}", json.kind()));
            return None;
        };
        let mut values = Vec::with_capacity(items.len());
        for (place, item) in items.into_iter().enumerate() {
            values.extend(self.within(&format!("[{place}]"), |walk| walk.value(kind, item)));
        }
        Some(Value::List(values))
    }

    fn map(&mut self, field: &FieldDescriptor, json: Json) -> Option<Value> {
        let Json::Object(fields) = json else {
            self.fault(format!("must be an object, not {}", json.kind()));
            return None;
        };
        let kind = field.kind();
        let entry = kind.as_message()?;
        let (key_field, value_kind) = (
            entry.map_entry_key_field(),
            entry.map_entry_value_field().kind(),
        );
        let mut values = HashMap::new();
        for (name, item) in fields {
            self.within(&name, |walk| {
                let key = walk.key(&key_field, &name);
                let value = walk.value(&value_kind, item);
                if let (Some(key), Some(value)) = (key, value)
                    && values.insert(key, value).is_some()
                {
                    walk.fault("is given twice");
                }
            });
        }
        Some(Value::Map(values))
    }

    fn key(&mut self, field: &FieldDescriptor, name: &str) -> Option<MapKey> {
        match scalar::from_text(field, name) {
            Ok(value) => value.into_map_key(),
            Err(message) => {
                self.fault(message);
                None
            }
        }
    }

    fn value(&mut self, kind: &Kind, json: Json) -> Option<Value> {
        match kind {
            Kind::Message(message) if matches!(message.full_name(), TIMESTAMP | DURATION) => {
                self.scalar(kind, json)
            }
            Kind::Message(message) if message.full_name().starts_with("google.protobuf.") => {
                self.well_known(message, json)
            }
            Kind::Message(message) => self.message(message, json).map(Value::Message),
            _ => self.scalar(kind, json),
        }
    }

    fn scalar(&mut self, kind: &Kind, json: Json) -> Option<Value> {
        match scalar::from_json(kind, json) {
            Ok(value) => Some(value),
            Err(message) => {
                self.fault(message);
                None
            }
        }
    }

    /// `Struct`, `Any`, wrappers and the like have forms of their own, which the library knows.
    fn well_known(&mut self, message: &MessageDescriptor, json: Json) -> Option<Value> {
        match DynamicMessage::deserialize(message.clone(), json.into_value()) {
            Ok(value) => Some(Value::Message(value)),
            Err(error) => {
                self.fault(error.to_string());
                None
            }
        }
    }
}

/// Another member of the field's oneof that is set already.
fn set_member(target: &DynamicMessage, field: &FieldDescriptor) -> Option<String> {
    let choice = field
        .containing_oneof()
        .filter(|choice| !choice.is_synthetic())?;
    choice
        .fields()
        .find(|other| other != field && target.has_field(other))
        .map(|other| other.name().to_owned())
}
