//! Path templates of `google.api.http`, the part of them that this API uses: literal segments,
//! `{field}` segments, and a `:verb` at the end.

use std::fmt;

use percent_encoding::percent_decode_str;

/// Why a template cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// It must begin with `/`.
    #[error("path template {0:?} does not begin with /")]
    Relative(String),
    /// A segment that is empty, or a brace in the wrong place.
    #[error("path template {0:?} has a segment that is neither a word nor one field")]
    Segment(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Literal(String),
    /// A request field by name; takes one whole segment.
    Field(String),
}

/// A path with places for request fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
    verb: Option<String>,
}

/// What a path says, cut up once so that many templates can look at it.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    whole: Vec<&'a str>,
    /// The last segment before its last `:`, and the verb after it.
    cut: Option<(&'a str, &'a str)>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn of(path: &'a str) -> Self {
        let whole: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let cut = whole.last().and_then(|last| last.rsplit_once(':'));
        Self { whole, cut }
    }

    pub(crate) const fn verb(&self) -> Option<&'a str> {
        match self.cut {
            Some((_, verb)) => Some(verb),
            None => None,
        }
    }
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let bad = || TemplateError::Segment(text.to_owned());
        let path = text
            .strip_prefix('/')
            .ok_or_else(|| TemplateError::Relative(text.to_owned()))?;
        let (path, verb) = match path.rsplit_once(':') {
            Some((path, verb)) if !verb.contains(['}', '/']) => (path, Some(verb.to_owned())),
            _ => (path, None),
        };
        let segments = path
            .split('/')
            .map(|segment| {
                match segment
                    .strip_prefix('{')
                    .and_then(|rest| rest.strip_suffix('}'))
                {
                    Some(field) if is_word(field) => Ok(Segment::Field(field.to_owned())),
                    None if is_word(segment) => Ok(Segment::Literal(segment.to_owned())),
                    _ => Err(bad()),
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { segments, verb })
    }

    /// The fields and their texts, percent-decoded, when the path fits.
    pub(crate) fn matches(&self, path: &Pieces<'_>) -> Option<Vec<(&str, String)>> {
        if self
            .verb
            .as_deref()
            .is_some_and(|verb| path.verb() != Some(verb))
        {
            return None;
        }
        self.take(path, self.verb.is_some())
    }

    /// Whether the path would fit with another verb.
    pub(crate) fn matches_without_verb(&self, path: &Pieces<'_>) -> bool {
        path.cut.is_some() && self.take(path, true).is_some()
    }

    fn take(&self, path: &Pieces<'_>, cut: bool) -> Option<Vec<(&str, String)>> {
        if path.whole.len() != self.segments.len() {
            return None;
        }
        let mut fields = Vec::new();
        for (place, (segment, given)) in self.segments.iter().zip(&path.whole).enumerate() {
            let given = match path.cut {
                Some((before, _)) if cut && place + 1 == self.segments.len() => before,
                _ => given,
            };
            match segment {
                Segment::Literal(word) if word == given => {}
                // Ids and slugs hold no colon: what looks like a verb is not part of one.
                Segment::Field(field) if !given.is_empty() && !given.contains(':') => {
                    fields.push((field.as_str(), decoded(given)?));
                }
                _ => return None,
            }
        }
        Some(fields)
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(crate) fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Field(field) => Some(field.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// Rises with what a path must say word by word, so that `/edges/self` wins over `/edges/{id}`.
    pub(crate) fn precision(&self) -> usize {
        let fields = self.fields().count();
        (self.segments.len() - fields) * 2 + usize::from(self.verb.is_some())
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(word) => write!(f, "/{word}")?,
                Segment::Field(field) => write!(f, "/{{{field}}}")?,
            }
        }
        self.verb.iter().try_for_each(|verb| write!(f, ":{verb}"))
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|letter| letter.is_ascii_alphanumeric() || b"_-.".contains(&letter))
}

fn decoded(segment: &str) -> Option<String> {
    percent_decode_str(segment)
        .decode_utf8()
        .ok()
        .map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(template: &str, path: &str) -> Option<Vec<(String, String)>> {
        let template = Template::parse(template).unwrap();
        let pieces = Pieces::of(path);
        template.matches(&pieces).map(|fields| {
            fields
                .into_iter()
                .map(|(name, text)| (name.to_owned(), text))
                .collect()
        })
    }

    fn pair(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn a_template_takes_the_paths_that_fit_and_no_others() {
        type Case<'a> = (&'a str, &'a str, Option<&'a [(&'a str, &'a str)]>);
        let table: &[Case<'_>] = &[
            ("/v1/sites", "/v1/sites", Some(&[])),
            ("/v1/sites", "/v1/sites/", None),
            ("/v1/sites", "/v1/site", None),
            (
                "/v1/sites/{site}",
                "/v1/sites/docs",
                Some(&[("site", "docs")]),
            ),
            ("/v1/sites/{site}", "/v1/sites/", None),
            ("/v1/sites/{site}", "/v1/sites/docs/x", None),
            (
                "/v1/sites/{site}",
                "/v1/sites/do%20cs",
                Some(&[("site", "do cs")]),
            ),
            (
                "/v1/sites/{site}",
                "/v1/sites/a%2Fb",
                Some(&[("site", "a/b")]),
            ),
            ("/v1/sites/{site}", "/v1/sites/%ff", None),
            ("/v1/d/{id}", "/v1/d/x:cancel", None),
            ("/v1/d/{id}:cancel", "/v1/d/x:cancel", Some(&[("id", "x")])),
            ("/v1/d/{id}:cancel", "/v1/d/:cancel", None),
            ("/v1/d/{id}:cancel", "/v1/d/x:cancelled", None),
            ("/v1/d/{id}:cancel", "/v1/d/x", None),
            ("/v1/{a}/hold:lift", "/v1/x/hold:lift", Some(&[("a", "x")])),
            ("/v1/{a}/hold", "/v1/x/hold:lift", None),
            (
                "/v1/{a}/b/{c}",
                "/v1/1/b/2",
                Some(&[("a", "1"), ("c", "2")]),
            ),
        ];
        for (template, path, expected) in table {
            let expected = expected.map(|all| all.iter().map(|(n, t)| pair(n, t)).collect());
            assert_eq!(fields(template, path), expected, "{template} on {path}");
        }
    }

    #[test]
    fn a_template_prints_as_it_was_written() {
        for text in [
            "/v1/sites",
            "/v1/d/{id}:cancel",
            "/v1/s/{a}/e/{b}/hold:lift",
        ] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn templates_that_cannot_be_routed_are_refused() {
        for text in [
            "v1",
            "/v1//x",
            "/v1/{a",
            "/v1/{}",
            "/v1/{a=**}",
            "/v1/{a}b",
            "",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_path_and_no_template_makes_it_panic(template in "(/|\\{|\\}|:|[a-z%]){0,20}", path in "\\PC{0,40}") {
            if let Ok(template) = Template::parse(&template) {
                let pieces = Pieces::of(&path);
                template.matches(&pieces);
                template.matches_without_verb(&pieces);
            }
        }

        #[test]
        fn what_a_template_takes_is_what_was_put_in(id in "[^/:]{1,30}") {
            let encoded = percent_encoding::utf8_percent_encode(&id, percent_encoding::NON_ALPHANUMERIC);
            let path = format!("/v1/d/{encoded}:cancel");
            prop_assert_eq!(fields("/v1/d/{id}:cancel", &path), Some(vec![pair("id", &id)]));
        }
    }
}
