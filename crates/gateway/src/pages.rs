//! Pages for people: the API's documentation, the front page, one page for each kind of problem.
//!
//! Pure functions from data to HTML. Nothing is fetched from elsewhere: styles, script and icon are
//! within the page, and a content security policy names them by their hashes, so that even a text
//! that slipped through unescaped could run nothing. Only the documentation has a script.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

mod docs;
pub(crate) mod home;
mod problem;
#[cfg(test)]
mod tests;

pub(crate) use docs::docs;
pub(crate) use home::{Home, home};
pub(crate) use problem::problem;

const STYLE: &str = include_str!("pages/style.css");
const SCRIPT: &str = include_str!("pages/docs/docs.js");
/// A fish, as the icon of the page and beside its name.
const FISH: &str = "<svg class=\"fish\" viewBox=\"0 0 32 32\" aria-hidden=\"true\"><path d=\"M3 16c5-9 15-9 20 0-5 9-15 9-20 0z\"/><path d=\"M21 16l8-7c-2 5-2 9 0 14z\"/><circle cx=\"9.5\" cy=\"14.5\" r=\"1.7\"/></svg>";
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32' fill='%23d9731a'%3E%3Cpath d='M3 16c5-9 15-9 20 0-5 9-15 9-20 0z'/%3E%3Cpath d='M21 16l8-7c-2 5-2 9 0 14z'/%3E%3C/svg%3E";

/// The media type of every page.
pub(crate) const MEDIA_TYPE: &str = "text/html; charset=utf-8";

/// The `Content-Security-Policy` of the documentation: its own script may call this API.
pub(crate) fn docs_policy() -> String {
    format!(
        "{}; script-src '{}'; connect-src 'self'",
        policy(),
        hash(SCRIPT)
    )
}

/// The `Content-Security-Policy` of every other page: no script at all.
pub(crate) fn policy() -> String {
    format!(
        "default-src 'none'; style-src '{}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(STYLE)
    )
}

fn hash(text: &str) -> String {
    format!(
        "sha256-{}",
        STANDARD.encode(Sha256::digest(text.as_bytes()))
    )
}

/// A whole page. The title is text, everything else is HTML.
fn page(title: &str, class: &str, header: &str, body: &str, script: &str) -> String {
    let script = if script.is_empty() {
        String::new()
    } else {
        format!("<script>{script}</script>\n")
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"{ICON}\">\n<style>{STYLE}</style>\n</head>\n\
         <body class=\"{class}\">\n<header class=\"top\"><a class=\"brand\" href=\"/\">{FISH}<span>\
         Candlefish</span></a>{header}</header>\n{body}\n{script}</body>\n</html>\n",
        title = escape(title),
    )
}

/// Text as HTML, also within a quoted attribute.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

/// Text with `code` and **weight**, as comments and problems have it.
fn prose(text: &str) -> String {
    let mut html = String::new();
    for (place, piece) in text.split('`').enumerate() {
        if place % 2 == 1 {
            html = [&html, "<code>", &escape(piece), "</code>"].concat();
        } else {
            for (place, piece) in piece.split("**").enumerate() {
                let piece = escape(piece);
                html = if place % 2 == 1 {
                    [&html, "<strong>", &piece, "</strong>"].concat()
                } else {
                    [&html, piece.as_str()].concat()
                };
            }
        }
    }
    html
}

/// `GetDeployment` as people write it.
fn spaced(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
            words.push(letter.to_ascii_lowercase());
        } else {
            words.push(letter);
        }
    }
    match words.strip_suffix(" i") {
        Some(words) => format!("{words} I"),
        None => words,
    }
}
