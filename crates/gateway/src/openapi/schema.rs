//! Messages and enums as schemas.

use std::collections::{BTreeMap, BTreeSet};

use candlefish_proto::access::Role;
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::needs;
use crate::{auth::role_name, comments, contract::Contract};

const TIMESTAMP: &str = "google.protobuf.Timestamp";
const DURATION: &str = "google.protobuf.Duration";
const ANY: &str = "google.protobuf.Any";
const SECRET: &str = "candlefish.access.v1.secret";

/// Seconds with an `s`: what `ProtoJSON` makes of a duration.
const DURATION_PATTERN: &str = r"^-?[0-9]+(\.[0-9]{1,9})?s$";

/// All schemas that public methods speak of.
pub(crate) struct Schemas<'a> {
    contract: &'a Contract,
    messages: BTreeMap<String, MessageDescriptor>,
    enums: BTreeMap<String, EnumDescriptor>,
    /// Names that several packages use; they keep their packages.
    ambiguous: BTreeSet<String>,
}

impl<'a> Schemas<'a> {
    pub(crate) fn new(contract: &'a Contract) -> Self {
        let mut schemas = Self {
            contract,
            messages: BTreeMap::new(),
            enums: BTreeMap::new(),
            ambiguous: BTreeSet::new(),
        };
        for method in contract.methods() {
            schemas.reach(&method.input);
            schemas.reach(&method.output);
        }
        let mut seen = BTreeSet::new();
        let names = schemas
            .messages
            .values()
            .map(|m| (m.full_name(), m.package_name()));
        let enums = schemas
            .enums
            .values()
            .map(|e| (e.full_name(), e.package_name()));
        for (full, package) in names.chain(enums) {
            let short = short_name(full, package);
            if !seen.insert(short.to_owned()) {
                schemas.ambiguous.insert(short.to_owned());
            }
        }
        schemas
    }

    fn reach(&mut self, message: &MessageDescriptor) {
        let name = message.full_name().to_owned();
        if name.starts_with("google.protobuf.") || self.messages.contains_key(&name) {
            return;
        }
        if !message.is_map_entry() {
            self.messages.insert(name, message.clone());
        }
        for field in message.fields() {
            match field.kind() {
                Kind::Message(inner) => self.reach(&inner),
                Kind::Enum(inner) => {
                    self.enums.insert(inner.full_name().to_owned(), inner);
                }
                _ => {}
            }
        }
    }

    /// The messages that answers and fields speak of: all but the requests themselves.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &MessageDescriptor> {
        let methods = self.contract.methods();
        self.messages
            .values()
            .filter(|message| !methods.iter().any(|method| method.input == **message))
    }

    pub(crate) fn enums(&self) -> impl Iterator<Item = &EnumDescriptor> {
        self.enums.values()
    }

    /// Every component, by name. Requests that are bodies are described where they are used.
    pub(super) fn all(&self) -> Map<String, Value> {
        let mut all = Map::new();
        for message in self.answers() {
            all.insert(self.name(message), self.message(message, &[]));
        }
        for method in self.contract.methods() {
            for route in method.routes.iter().filter(|route| route.body) {
                let bound: Vec<&str> = route.template.fields().collect();
                let schema = self.message(&method.input, &bound);
                all.insert(self.name(&method.input), schema);
            }
        }
        for values in self.enums.values() {
            all.insert(self.enum_name(values), enumeration(values));
        }
        all.insert("Problem".to_owned(), super::answer::problem());
        all
    }

    pub(crate) fn name(&self, message: &MessageDescriptor) -> String {
        self.short(message.full_name(), message.package_name())
    }

    pub(crate) fn enum_name(&self, values: &EnumDescriptor) -> String {
        self.short(values.full_name(), values.package_name())
    }

    fn short(&self, full: &str, package: &str) -> String {
        let short = short_name(full, package);
        if self.ambiguous.contains(short) {
            full.to_owned()
        } else {
            short.to_owned()
        }
    }

    /// A reference to a message's schema.
    pub(super) fn refer(&self, message: &MessageDescriptor) -> Value {
        json!({ "$ref": format!("#/components/schemas/{}", self.name(message)) })
    }

    /// A message, without the fields that a path names.
    fn message(&self, message: &MessageDescriptor, bound: &[&str]) -> Value {
        let mut properties = Map::new();
        for field in message.fields() {
            if !bound.contains(&field.name()) {
                properties.insert(field.name().to_owned(), self.field(&field));
            }
        }
        let mut description = about(message);
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let names: Vec<String> = oneof.fields().map(|f| format!("`{}`", f.name())).collect();
            description = format!("{description} At most one of {} is set.", names.join(", "));
        }
        json!({
            "type": "object",
            "description": description.trim(),
            "properties": super::sorted(properties),
            "additionalProperties": false,
        })
    }

    /// A field of a message.
    pub(super) fn field(&self, field: &FieldDescriptor) -> Value {
        let mut schema = if field.is_map() {
            let value = field
                .kind()
                .as_message()
                .map(MessageDescriptor::map_entry_value_field);
            let value = value.map_or(Value::Bool(true), |value| self.kind(&value.kind()));
            json!({ "type": "object", "additionalProperties": value })
        } else if field.is_list() {
            json!({ "type": "array", "items": self.kind(&field.kind()) })
        } else {
            self.kind(&field.kind())
        };
        let mut description = about_field(field);
        let role = self.role_to_set(field);
        if let Some(role) = role {
            description = format!("{description} {}", needs(role));
        }
        if let Some(schema) = schema.as_object_mut() {
            if !description.is_empty() {
                schema.insert("description".to_owned(), description.trim().into());
            }
            if let Some(role) = role {
                schema.insert("x-required-role".to_owned(), role_name(role).into());
            }
            if self.is_secret(field) {
                schema.insert("format".to_owned(), "password".into());
            }
        }
        schema
    }

    fn kind(&self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32" })
            }
            Kind::Uint32 | Kind::Fixed32 => {
                json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
            }
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64", "pattern": "^-?[0-9]+$" })
            }
            Kind::Uint64 | Kind::Fixed64 => {
                json!({ "type": "string", "format": "uint64", "pattern": "^[0-9]+$" })
            }
            Kind::Float => json!({ "type": "number", "format": "float" }),
            Kind::Double => json!({ "type": "number", "format": "double" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Kind::Enum(values) => {
                json!({ "$ref": format!("#/components/schemas/{}", self.enum_name(values)) })
            }
            Kind::Message(message) => match message.full_name() {
                TIMESTAMP => json!({ "type": "string", "format": "date-time" }),
                DURATION => json!({ "type": "string", "pattern": DURATION_PATTERN }),
                ANY => json!({
                    "type": "object",
                    "properties": { "@type": { "type": "string", "format": "uri" } },
                    "required": ["@type"],
                    "additionalProperties": true,
                }),
                name if name.starts_with("google.protobuf.") => json!({}),
                _ => self.refer(message),
            },
        }
    }

    /// The role that setting a field needs, when it needs more than the call.
    pub(crate) fn role_to_set(&self, field: &FieldDescriptor) -> Option<Role> {
        let mut methods = self.contract.methods().iter();
        methods.find_map(|method| method.guarded.role_of(field.full_name()))
    }

    fn is_secret(&self, field: &FieldDescriptor) -> bool {
        let secret = self.contract.pool().get_extension_by_name(SECRET);
        secret.is_some_and(|secret| field.options().get_extension(&secret).as_bool() == Some(true))
    }
}

fn short_name<'n>(full: &'n str, package: &str) -> &'n str {
    full.strip_prefix(package)
        .and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or(full)
}

/// The comment of a message.
pub(crate) fn about(message: &MessageDescriptor) -> String {
    comments::of(
        message.parent_file().file_descriptor_proto(),
        message.path(),
    )
}

/// The comment of an enum.
pub(crate) fn about_enum(values: &EnumDescriptor) -> String {
    comments::of(values.parent_file().file_descriptor_proto(), values.path())
}

/// The comment of a field.
pub(crate) fn about_field(field: &FieldDescriptor) -> String {
    comments::of(field.parent_file().file_descriptor_proto(), field.path())
}

/// The names of an enum, each with its comment.
pub(crate) fn values(values: &EnumDescriptor) -> Vec<(String, String)> {
    let file = values.parent_file();
    values
        .values()
        .map(|value| {
            let comment = comments::of(file.file_descriptor_proto(), value.path());
            (value.name().to_owned(), comment)
        })
        .collect()
}

fn enumeration(descriptor: &EnumDescriptor) -> Value {
    let mut description = about_enum(descriptor);
    let values = values(descriptor);
    for (name, comment) in &values {
        description = format!("{description}\n- `{name}`: {comment}");
    }
    let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
    json!({ "type": "string", "enum": names, "description": description.trim() })
}
