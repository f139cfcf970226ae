//! A form that makes one call.

use prost_reflect::{FieldDescriptor, Kind};

use super::escape;
use crate::{
    contract::{Method, Route},
    openapi::{self, example, schema},
};

pub(super) fn form(method: &Method, route: &Route) -> String {
    let in_path: Vec<&str> = route.template.fields().collect();
    let mut inputs = String::new();
    for name in &in_path {
        let value = example::path_field(&method.name, name).unwrap_or_default();
        inputs = [
            inputs,
            label(
                name,
                &format!(
                    "<input data-in=\"path\" name=\"{}\" value=\"{}\" required autocomplete=\"off\" \
                     spellcheck=\"false\">",
                    escape(name),
                    escape(value)
                ),
            ),
        ]
        .concat();
    }
    if route.body {
        inputs = [inputs, body(method)].concat();
    } else {
        for (name, field) in openapi::query_fields(&method.input, &in_path) {
            inputs = [inputs, label(&name, &input(&name, &field))].concat();
        }
    }
    format!(
        "<form data-verb=\"{verb}\" data-path=\"{path}\"{stream}>{inputs}<p class=\"act\"><button \
         type=\"submit\">Send {verb}</button><button type=\"button\" class=\"stop\" hidden>Stop\
         </button><span class=\"status\" role=\"status\"></span></p><pre class=\"result\" hidden>\
         </pre></form>",
        verb = route.verb,
        path = escape(&route.template.to_string()),
        stream = if method.streams { " data-stream" } else { "" },
    )
}

fn label(name: &str, input: &str) -> String {
    format!("<label><span>{}</span>{input}</label>", escape(name))
}

fn body(method: &Method) -> String {
    let example = example::body(&method.name).unwrap_or_else(|| serde_json::json!({}));
    let text = serde_json::to_string_pretty(&example).unwrap_or_default();
    let rows = text.lines().count().clamp(3, 12);
    label(
        "body",
        &format!(
            "<textarea data-in=\"body\" rows=\"{rows}\" spellcheck=\"false\">{}</textarea>",
            escape(&text)
        ),
    )
}

fn input(name: &str, field: &FieldDescriptor) -> String {
    let name = escape(name);
    let about = escape(&schema::about_field(field));
    let attributes = format!("data-in=\"query\" name=\"{name}\" title=\"{about}\"");
    match field.kind() {
        Kind::Enum(values) if !field.is_list() => {
            let names = schema::values(&values);
            // The first says "not said", which leaving it out says too.
            let names = names.iter().skip(1).map(|(name, _)| name.as_str());
            select(&attributes, names)
        }
        Kind::Bool if !field.is_list() => select(&attributes, ["true", "false"].into_iter()),
        Kind::Int32 | Kind::Uint32 if !field.is_list() => {
            format!("<input type=\"number\" {attributes}>")
        }
        _ => {
            let list = if field.is_list() {
                " data-list placeholder=\"one, another\""
            } else {
                ""
            };
            format!("<input {attributes}{list} autocomplete=\"off\" spellcheck=\"false\">")
        }
    }
}

fn select<'n>(attributes: &str, names: impl Iterator<Item = &'n str>) -> String {
    let options: Vec<String> = names
        .map(|name| format!("<option>{}</option>", escape(name)))
        .collect();
    format!(
        "<select {attributes}><option value=\"\"></option>{}</select>",
        options.concat()
    )
}
