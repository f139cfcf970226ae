//! Conditions that an entity tag answers.

use http::{HeaderMap, HeaderValue, header};

/// Whether `if-none-match` says that the visitor has this form already.
pub(super) fn has_it(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|list| names(list, etag))
}

/// By weak comparison, as RFC 9110 says of this header.
fn names(list: &str, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else {
        return false;
    };
    // Our own tags have no comma inside.
    list.split(',')
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Whether `if-match` is absent or names this form, strongly.
pub(super) fn is_wanted(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let mut lists = headers.get_all(header::IF_MATCH).iter().peekable();
    let names = |list: &str| {
        let mut tags = list.split(',').map(str::trim);
        tags.any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
    };
    lists.peek().is_none() || lists.filter_map(|value| value.to_str().ok()).any(names)
}

/// Whether a range may be taken from this form: `if-range` is absent or names it, strongly.
pub(super) fn range_holds(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers
        .get(header::IF_RANGE)
        .is_none_or(|value| value == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: HeaderValue = HeaderValue::from_static("\"abc\"");

    fn with(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn tags_are_found_in_lists() {
        for list in [
            "\"abc\"",
            "\"x\", \"abc\"",
            "W/\"abc\"",
            "*",
            " \"abc\" ,\"y\"",
        ] {
            assert!(has_it(&with(header::IF_NONE_MATCH, list), &ETAG), "{list}");
        }
        for list in ["", "\"abcd\"", "abc", "\"abc-br\"", "W/abc"] {
            assert!(!has_it(&with(header::IF_NONE_MATCH, list), &ETAG), "{list}");
        }
        assert!(!has_it(&HeaderMap::new(), &ETAG));
    }

    #[test]
    fn who_wants_another_form_does_not_get_this_one() {
        assert!(is_wanted(&HeaderMap::new(), &ETAG));
        for list in ["\"abc\"", "\"x\", \"abc\"", "*"] {
            assert!(is_wanted(&with(header::IF_MATCH, list), &ETAG), "{list}");
        }
        for list in ["", "\"x\"", "W/\"abc\"", "\"abc-br\""] {
            assert!(!is_wanted(&with(header::IF_MATCH, list), &ETAG), "{list}");
        }
    }

    #[test]
    fn a_range_needs_the_very_same_form() {
        assert!(range_holds(&HeaderMap::new(), &ETAG));
        assert!(range_holds(&with(header::IF_RANGE, "\"abc\""), &ETAG));
        for other in ["\"abc-br\"", "W/\"abc\"", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert!(
                !range_holds(&with(header::IF_RANGE, other), &ETAG),
                "{other}"
            );
        }
    }
}
