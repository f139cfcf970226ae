//! The path of a request, decoded.

use std::{borrow::Cow, fmt::Write as _};

use http::HeaderValue;

use crate::{percent, release::Slash};

/// Longer ones are no path of a release: orchestrators take none of more than 1,365 bytes, each of which may
/// be encoded as three.
const MOST_BYTES: usize = 4096;

/// Decodes a path and takes its first slash away. What could mean another path is refused, with the
/// reason in words.
pub(super) fn decode(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if path.len() > MOST_BYTES {
        return Err("The path is too long.");
    }
    let path = path
        .strip_prefix('/')
        .ok_or("The path does not begin with a slash.")?;
    let path = if path.contains('%') {
        Cow::Owned(percent::decode(path)?)
    } else {
        Cow::Borrowed(path)
    };
    if path.chars().any(char::is_control) {
        return Err("The path holds a control character.");
    }
    if path
        .split(['/', '\\'])
        .any(|segment| segment == ".." || segment == ".")
    {
        return Err("The path points outside of itself.");
    }
    Ok(path)
}

/// A `location` header: the path that was sent, with a slash at its end or without it, and the query,
/// both written as they came. It begins with one slash, and so stays on its host, whatever they are.
pub(super) fn location(slash: Slash, path: &str, query: Option<&str>) -> HeaderValue {
    // `//host` and `/\host` are other servers to a browser.
    let path = path.trim_start_matches(['/', '\\']);
    let (path, end) = match slash {
        Slash::Add if path.is_empty() => (path, ""),
        Slash::Add => (path, "/"),
        Slash::Remove => {
            let mut ends = ["/", "%2F", "%2f"].into_iter();
            let without = ends.find_map(|end| path.strip_suffix(end));
            (without.unwrap_or(path), "")
        }
    };
    let length = path.len() + query.map_or(0, str::len);
    let mut out = String::with_capacity(length + 3);
    out.push('/');
    take_over(&mut out, path);
    out.push_str(end);
    if let Some(query) = query {
        out.push('?');
        take_over(&mut out, query);
    }
    HeaderValue::try_from(out).expect("visible ASCII is a header's value")
}

/// Appends what was sent, and encodes what no URL holds as it is.
fn take_over(out: &mut String, sent: &str) {
    for byte in sent.bytes() {
        match byte {
            b'\\' | ..=b' ' | 0x7F.. => {
                write!(out, "%{byte:02X}").expect("a String takes all text");
            }
            _ => out.push(char::from(byte)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_decoded_once() {
        assert_eq!(decode("/").unwrap(), "");
        assert_eq!(decode("/a/b.html").unwrap(), "a/b.html");
        assert_eq!(decode("/a%20b/%C3%BC+c").unwrap(), "a b/ü+c");
        assert_eq!(decode("/%252e%252e/x").unwrap(), "%2e%2e/x");
        assert_eq!(decode("/..a/b..").unwrap(), "..a/b..");
    }

    #[test]
    fn hostile_paths_are_refused() {
        for path in [
            "/../etc/passwd",
            "/a/../../b",
            "/%2e%2e/x",
            "/%2E%2e%2fx",
            "/a/%2e/b",
            "/..%5cx",
            "/a%00b",
            "/a%0d%0ab",
            "/%",
            "/%4",
            "/%zz",
            "/%ff",
            "/%c0%ae%c0%ae/x",
            "/%e0%80%ae",
            "x",
            "",
            "*",
        ] {
            assert!(decode(path).is_err(), "{path}");
        }
        assert!(decode(&format!("/{}", "a".repeat(MOST_BYTES))).is_err());
    }

    #[test]
    fn only_the_slash_at_the_end_changes() {
        for (slash, path, query, expected) in [
            (Slash::Add, "/guide", None, "/guide/"),
            (
                Slash::Add,
                "/a/%C3%BC%20b",
                Some("q=%20"),
                "/a/%C3%BC%20b/?q=%20",
            ),
            (Slash::Add, "/%67uide", Some(""), "/%67uide/?"),
            (Slash::Add, "/ü", Some("ü"), "/%C3%BC/?%C3%BC"),
            (Slash::Remove, "/about/", None, "/about"),
            (Slash::Remove, "/about%2F", Some("a/"), "/about?a/"),
            (Slash::Remove, "/a%20b%2f", None, "/a%20b"),
            (Slash::Add, "//evil.example", None, "/evil.example/"),
            (Slash::Add, "/\\evil.example", None, "/evil.example/"),
            (Slash::Remove, "/a\\b/", Some("\r\n"), "/a%5Cb?%0D%0A"),
        ] {
            assert_eq!(location(slash, path, query), expected, "{path}");
        }
    }

    proptest! {
        #[test]
        fn nobody_is_sent_to_another_host(
            path in "/.{0,20}",
            query in ".{0,20}",
            add in any::<bool>(),
        ) {
            let slash = if add { Slash::Add } else { Slash::Remove };
            let sent = location(slash, path.as_str(), Some(query.as_str()));
            let text = sent.to_str().unwrap();
            prop_assert!(text.starts_with('/'));
            prop_assert!(!text.starts_with("//"));
            prop_assert!(!text.contains(['\\', '\r', '\n', '\t']));
        }

        #[test]
        fn what_passes_stays_below_the_root(path in "/([%./\\\\a-f0-9]|%2e|%2f|%5c){0,30}") {
            if let Ok(decoded) = decode(&path) {
                prop_assert!(decoded.split('/').all(|s| s != ".."));
            }
        }

        #[test]
        fn nothing_makes_it_panic(path in ".{0,60}") {
            let _decoded = decode(&path);
        }
    }
}
