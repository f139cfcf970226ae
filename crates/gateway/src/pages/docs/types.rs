//! Fields and types as tables.

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::super::{escape, prose};
use crate::{
    auth::role_name,
    contract::{Method, Route},
    openapi::schema::{self, Schemas},
};

/// The request's fields, and where each goes.
pub(super) fn request(schemas: &Schemas<'_>, method: &Method, route: Option<&Route>) -> String {
    let in_path: Vec<&str> = route
        .iter()
        .flat_map(|route| route.template.fields())
        .collect();
    let rest = if route.is_some_and(|route| route.body) {
        "body"
    } else {
        "query"
    };
    let rows: Vec<String> = method
        .input
        .fields()
        .map(|field| {
            let place = if in_path.contains(&field.name()) {
                "path"
            } else {
                rest
            };
            row(schemas, &field, Some(place))
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<table class=\"fields\"><tbody>{}</tbody></table>",
        rows.concat()
    )
}

fn row(schemas: &Schemas<'_>, field: &FieldDescriptor, place: Option<&str>) -> String {
    let place = place.map(|place| format!(" <span class=\"in\">{place}</span>"));
    let role = schemas.role_to_set(field).map(|role| {
        format!(
            " <span class=\"role\" title=\"The lowest role that may set it\">{}</span>",
            role_name(role)
        )
    });
    format!(
        "<tr><th scope=\"row\"><code>{name}</code>{place}</th><td><span class=\"type\">{kind}</span>\
         {role}<br>{about}</td></tr>",
        name = escape(field.name()),
        place = place.unwrap_or_default(),
        kind = kind(schemas, field),
        role = role.unwrap_or_default(),
        about = prose(&schema::about_field(field)),
    )
}

fn kind(schemas: &Schemas<'_>, field: &FieldDescriptor) -> String {
    if field.is_map() {
        return "object of texts".to_owned();
    }
    let one = word(schemas, &field.kind());
    if field.is_list() {
        format!("list of {one}")
    } else {
        one
    }
}

fn word(schemas: &Schemas<'_>, kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true or false".to_owned(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint64 | Kind::Fixed64 => {
            "whole number, as text".to_owned()
        }
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 | Kind::Uint32 | Kind::Fixed32 => {
            "whole number".to_owned()
        }
        Kind::Float | Kind::Double => "number".to_owned(),
        Kind::String => "text".to_owned(),
        Kind::Bytes => "bytes in base64".to_owned(),
        Kind::Enum(values) => link(&schemas.enum_name(values)),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => "time, RFC 3339".to_owned(),
            "google.protobuf.Duration" => "duration, such as 30s".to_owned(),
            "google.protobuf.Any" => "object with its <code>@type</code>".to_owned(),
            _ => link(&schemas.name(message)),
        },
    }
}

/// A link to a type's place in the page.
pub(super) fn link(name: &str) -> String {
    let name = escape(name);
    format!("<a href=\"#type-{name}\">{name}</a>")
}

/// All types that answers and fields speak of.
pub(super) fn section(schemas: &Schemas<'_>) -> String {
    let mut types: Vec<(String, String)> = schemas
        .answers()
        .map(|one| (schemas.name(one), message(schemas, one)))
        .collect();
    types.extend(
        schemas
            .enums()
            .map(|one| (schemas.enum_name(one), enumeration(schemas, one))),
    );
    types.sort();
    let types: Vec<String> = types.into_iter().map(|(_, html)| html).collect();
    format!(
        "<section id=\"types\" class=\"service\"><h2>Types</h2><p>Fields at their default are left \
         out of answers.</p>{}</section>",
        types.join("\n")
    )
}

fn message(schemas: &Schemas<'_>, message: &MessageDescriptor) -> String {
    let rows: Vec<String> = message
        .fields()
        .map(|field| row(schemas, &field, None))
        .collect();
    let oneofs: Vec<String> = message
        .oneofs()
        .filter(|oneof| !oneof.is_synthetic())
        .map(|oneof| {
            let names: Vec<String> = oneof
                .fields()
                .map(|field| format!("<code>{}</code>", escape(field.name())))
                .collect();
            format!("<p>At most one of {} is set.</p>", names.join(", "))
        })
        .collect();
    article(
        &schemas.name(message),
        &schema::about(message),
        &oneofs.concat(),
        &rows.concat(),
    )
}

fn enumeration(schemas: &Schemas<'_>, values: &EnumDescriptor) -> String {
    let rows: Vec<String> = schema::values(values)
        .iter()
        .map(|(name, comment)| {
            format!(
                "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td></tr>",
                escape(name),
                prose(comment)
            )
        })
        .collect();
    article(
        &schemas.enum_name(values),
        &schema::about_enum(values),
        "",
        &rows.concat(),
    )
}

fn article(name: &str, about: &str, more: &str, rows: &str) -> String {
    let name = escape(name);
    let table = if rows.is_empty() {
        "<p class=\"answer\">It has no fields.</p>".to_owned()
    } else {
        format!("<table class=\"fields\"><tbody>{rows}</tbody></table>")
    };
    format!(
        "<article class=\"type-of\" id=\"type-{name}\"><h3><a href=\"#type-{name}\">{name}</a></h3>\
         <p>{}</p>{more}{table}</article>",
        prose(about)
    )
}
