//! The path of a request, decoded.

use std::borrow::Cow;

use crate::percent;

/// Longer ones are no path of a release (512 bytes, each of which may be encoded as three).
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

    proptest! {
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
