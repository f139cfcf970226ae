//! Lines for a shell that make a call, and work when they are pasted.

use http::Method as HttpMethod;

use super::{example, schema};
use crate::contract::{Contract, Method, Route, path::Segment};

/// Two hours from now, for the shell to fill in: it ends the text in which it stands, and begins it again.
/// First as BSD and macOS take it, which is what GNU refuses, and the other way round.
const SOON: &str = "'$(date -u -v+2H +%FT%TZ 2>/dev/null || date -u -d +2hours +%FT%TZ)'";

const HEADER: &str = r#"-H "Authorization: Bearer $CANDLEFISH_TOKEN""#;

/// The lines. What only reads finds its id by itself; what changes something leaves it to the
/// reader, who should not cancel by accident what happens to be the newest.
pub(crate) fn curl(contract: &Contract, method: &Method, route: &Route, base_url: &str) -> String {
    let base_url = &plain(base_url);
    let mut url = base_url.clone();
    let mut listed = None;
    for segment in route.template.segments() {
        let place = match segment {
            Segment::Literal(word) => word,
            Segment::Field(name) => example::path_field(&method.name, name).unwrap_or_else(|| {
                listed = Some(url.clone());
                "${id}"
            }),
        };
        url = [&url, "/", place].concat();
    }
    if let Some(verb) = route.template.verb() {
        url = [&url, ":", verb].concat();
    }
    if !route.body {
        url.push_str(example::query(&method.name));
    }
    let id = listed
        .as_deref()
        .map(|listed| find_id(contract, method, base_url, listed));
    // The shell fills in the id.
    let quote = if id.is_some() { '"' } else { '\'' };
    let body = route.body.then(|| {
        let body = example::body(&method.name).unwrap_or_else(|| serde_json::json!({}));
        let body = body.to_string().replace('\'', r"'\''");
        let body = body.replace(example::UNTIL, SOON);
        format!("  --json '{body}' \\\n")
    });
    format!(
        "{}curl {}{HEADER} \\\n{}  {quote}{url}{quote}",
        id.unwrap_or_default(),
        flags(method, route),
        body.unwrap_or_default(),
    )
}

/// An address without what a shell would act on: it may come from a request's header.
pub(crate) fn plain(base_url: &str) -> String {
    base_url
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || ".:/[]-".contains(*letter))
        .collect()
}

fn flags(method: &Method, route: &Route) -> String {
    // With a body curl posts by itself.
    let implied = if route.body {
        HttpMethod::POST
    } else {
        HttpMethod::GET
    };
    let stream = if method.streams { "-N " } else { "" };
    if route.verb == implied {
        stream.to_owned()
    } else {
        format!("{stream}-X {} ", route.verb)
    }
}

/// A line that sets `id`.
fn find_id(contract: &Contract, method: &Method, base_url: &str, listed: &str) -> String {
    let prefix = id_prefix(method);
    let list = contract.methods().iter().find(|list| {
        list.is_safe()
            && list
                .routes
                .iter()
                .any(|route| format!("{base_url}{}", route.template) == listed)
    });
    match list {
        Some(list) if method.is_safe() => {
            let query = example::query(&list.name);
            format!(
                "id=$(curl -s {HEADER} \\\n  '{listed}{query}' | grep -o '{prefix}[0-9a-z]*' | head -n 1)\n"
            )
        }
        _ => format!("id={prefix}01k8qw3v7hf6b9t2m4n5p6q7r8 # the one you mean\n"),
    }
}

/// `dep_`, from the comment that says what the id looks like.
fn id_prefix(method: &Method) -> String {
    let field = method.input.get_field_by_name("id");
    let comment = field
        .map(|field| schema::about_field(&field))
        .unwrap_or_default();
    let prefix = comment.split('`').nth(1).unwrap_or_default();
    prefix.to_owned()
}
