//! A delivery that came as a form: GitHub puts the JSON into its field `payload`, and signs the form.

use std::borrow::Cow;

const FIELD: &str = "payload";
/// How such a body begins; no JSON does.
const START: &[u8] = b"payload=";

/// The JSON of a body, whichever of the two content types it was sent in.
pub(super) fn json_of(body: &[u8]) -> Cow<'_, [u8]> {
    if !body.starts_with(START) {
        return Cow::Borrowed(body);
    }
    let mut fields = url::form_urlencoded::parse(body);
    let found = fields.find(|(name, _)| name == FIELD);
    found.map_or(Cow::Borrowed(body), |(_, value)| {
        Cow::Owned(value.into_owned().into_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_holds_the_json_and_all_else_stays_as_it_is() {
        for (body, json) in [
            (
                "payload=%7B%22a%22%3A+%22%C3%BC+%2B%22%7D",
                "{\"a\": \"ü +\"}",
            ),
            ("payload=%7B%7D&other=1", "{}"),
            ("payload=", ""),
            ("{\"payload=\": 1}", "{\"payload=\": 1}"),
            ("other=1&payload=2", "other=1&payload=2"),
            ("", ""),
        ] {
            assert_eq!(&*json_of(body.as_bytes()), json.as_bytes(), "{body}");
        }
        assert_eq!(&*json_of(b"\xff{"), b"\xff{");
    }
}
