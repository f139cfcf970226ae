//! Fields that only a higher role may set (`role_to_set`).

use std::collections::{HashMap, HashSet};

use candlefish_proto::access::Role;
use prost_reflect::{DynamicMessage, ExtensionDescriptor, MessageDescriptor, Value};

/// The guarded fields of a request and of the messages within it, by full name.
#[derive(Debug, Default)]
pub(crate) struct Guarded(HashMap<String, Role>);

/// A field that was set by somebody who may not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    /// `strategy.canary.weights[1]`-like path of the field.
    pub(crate) field: String,
    /// The lowest role that may set it.
    pub(crate) role: Role,
}

impl Guarded {
    pub(super) fn read(message: &MessageDescriptor, role_to_set: &ExtensionDescriptor) -> Self {
        let mut found = HashMap::new();
        let mut seen = HashSet::new();
        let mut open = vec![message.clone()];
        while let Some(message) = open.pop() {
            if !seen.insert(message.full_name().to_owned()) {
                continue;
            }
            for field in message.fields() {
                let options = field.options();
                let role = options.get_extension(role_to_set).as_enum_number();
                if let Some(role) = role.and_then(|role| Role::try_from(role).ok())
                    && role != Role::Unspecified
                {
                    found.insert(field.full_name().to_owned(), role);
                }
                open.extend(field.kind().as_message().cloned());
            }
        }
        Self(found)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The role that a field needs, by its full name.
    pub(crate) fn role_of(&self, full_name: &str) -> Option<Role> {
        self.0.get(full_name).copied()
    }

    /// What of the request the role may not set.
    pub(crate) fn breaches(&self, request: &DynamicMessage, role: Role) -> Vec<Breach> {
        let mut breaches = Vec::new();
        if !self.is_empty() {
            self.look(request, role, "", &mut breaches);
        }
        breaches
    }

    fn look(&self, message: &DynamicMessage, role: Role, at: &str, found: &mut Vec<Breach>) {
        for (field, value) in message.fields() {
            let path = if at.is_empty() {
                field.name().to_owned()
            } else {
                format!("{at}.{}", field.name())
            };
            if let Some(needed) = self
                .role_of(field.full_name())
                .filter(|needed| role < *needed)
            {
                found.push(Breach {
                    field: path,
                    role: needed,
                });
                continue;
            }
            match value {
                Value::Message(inner) => self.look(inner, role, &path, found),
                Value::List(items) => {
                    for (place, item) in items.iter().enumerate() {
                        if let Some(inner) = item.as_message() {
                            self.look(inner, role, &format!("{path}[{place}]"), found);
                        }
                    }
                }
                Value::Map(entries) => {
                    for inner in entries.values().filter_map(Value::as_message) {
                        self.look(inner, role, &path, found);
                    }
                }
                _ => {}
            }
        }
    }
}
