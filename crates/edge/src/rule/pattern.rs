//! The path of a rule: literal segments, `:placeholders` for one segment, `*` at the end for the
//! rest.

use crate::percent;

/// A path with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    segments: Vec<Segment>,
    /// `*` at the end.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Placeholder(String),
}

/// What placeholders stood for; the rest of the path is `splat`.
pub(super) type Bindings<'a> = Vec<(&'a str, &'a str)>;

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let path = text
            .strip_prefix('/')
            .ok_or("a path must begin with a slash")?;
        if path.contains(['?', '#']) {
            return Err("queries and fragments are not matched");
        }
        let mut segments = Vec::new();
        let mut open = false;
        for segment in path.trim_end_matches('/').split('/') {
            if open {
                return Err("* may stand at the end alone");
            }
            match segment.strip_prefix(':') {
                _ if segment == "*" => open = true,
                _ if segment.contains('*') => return Err("* must be a segment of its own"),
                _ if segment.is_empty() && path.trim_end_matches('/').is_empty() => {}
                _ if segment.is_empty() => return Err("a path has no empty segments"),
                Some("") => return Err("a placeholder needs a name"),
                Some(name) if !name.chars().all(is_name) => {
                    return Err("a placeholder is a segment of letters, digits and _ alone");
                }
                Some(name) => segments.push(Segment::Placeholder(name.to_owned())),
                None => segments.push(Segment::Literal(literal(segment))),
            }
        }
        Ok(Self { segments, open })
    }

    /// Compares with a decoded path without its first slash; a slash at the end does not matter.
    pub(super) fn matches<'a>(&'a self, path: &'a str) -> Option<Bindings<'a>> {
        let mut bindings = Vec::new();
        self.walk(path, |name, value| bindings.push((name, value)))
            .then_some(bindings)
    }

    /// Whether a path matches, whatever stands for its placeholders.
    pub(super) fn covers(&self, path: &str) -> bool {
        self.walk(path, |_, _| {})
    }

    fn walk<'a>(&'a self, path: &'a str, mut bind: impl FnMut(&'a str, &'a str)) -> bool {
        let mut rest = path.strip_suffix('/').unwrap_or(path);
        let mut more = !rest.is_empty();
        for segment in &self.segments {
            if !more {
                return false;
            }
            let (part, after) = rest
                .split_once('/')
                .map_or((rest, None), |(a, b)| (a, Some(b)));
            match segment {
                Segment::Literal(literal) if literal == part => {}
                Segment::Literal(_) => return false,
                Segment::Placeholder(_) if part.is_empty() => return false,
                Segment::Placeholder(name) => bind(name, part),
            }
            more = after.is_some();
            rest = after.unwrap_or_default();
        }
        if self.open {
            bind("splat", rest);
        } else if more {
            return false;
        }
        true
    }

    /// Whether a placeholder of this name, or `splat`, gets a value.
    pub(super) fn binds(&self, name: &str) -> bool {
        (self.open && name == "splat")
            || self
                .segments
                .iter()
                .any(|s| matches!(s, Segment::Placeholder(n) if n == name))
    }
}

/// What a segment stands for: Netlify's rules are percent-encoded, paths are compared decoded. A percent
/// sign that encodes nothing stands for itself.
fn literal(segment: &str) -> String {
    percent::decode(segment).unwrap_or_else(|_| segment.to_owned())
}

/// Whether a placeholder's name may hold it.
pub(super) const fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bind(pattern: &str, path: &str) -> Option<Vec<(String, String)>> {
        let pattern = Pattern::parse(pattern).unwrap();
        let bindings = pattern.matches(path);
        assert_eq!(pattern.covers(path), bindings.is_some(), "{path}");
        Some(
            bindings?
                .into_iter()
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .collect(),
        )
    }

    #[test]
    fn paths_are_matched_by_segment() {
        let none = Some(vec![]);
        let one = |name: &str, value: &str| Some(vec![(name.to_owned(), value.to_owned())]);
        assert_eq!(bind("/", ""), none);
        assert_eq!(bind("/a/b", "a/b"), none);
        assert_eq!(bind("/a/b", "a/b/"), none);
        assert_eq!(bind("/a/b/", "a/b"), none);
        assert_eq!(bind("/a/b", "a"), None);
        assert_eq!(bind("/a/b", "a/b/c"), None);
        assert_eq!(bind("/a", "ab"), None);
        assert_eq!(bind("/a/:x", "a/1"), one("x", "1"));
        assert_eq!(bind("/a/:x", "a"), None);
        assert_eq!(bind("/a/:x", "a//"), None);
        assert_eq!(bind("/a/*", "a/1/2"), one("splat", "1/2"));
        assert_eq!(bind("/a/*", "a"), one("splat", ""));
        assert_eq!(bind("/*", ""), one("splat", ""));
        assert_eq!(bind("/*", "x/y"), one("splat", "x/y"));
        assert_eq!(bind("/c%C3%A9line/a%20b", "céline/a b"), none);
        assert_eq!(bind("/céline", "céline"), none);
        assert_eq!(bind("/100%", "100%"), none);
        let both = bind("/:l/blog/*", "de/blog/2024/x").unwrap();
        assert_eq!(both[0].1, "de");
        assert_eq!(both[1].1, "2024/x");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "a", "", "/a/*/b", "/a*", "/a/:/b", "/a/:b-c", "/a//b", "/a?x=1", "//a",
        ] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[/a:*]{0,12}", path in "[/a]{0,8}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                let _bindings = pattern.matches(&path);
            }
        }
    }
}
