//! Where a watcher goes on: base64url of (version, list of (source, epoch, seq)). It comes from
//! outside, so it is read as strictly as anything else.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::Place;

const VERSION: u8 = 1;
/// There are five areas that publish.
const MOST_SOURCES: usize = 16;
const MOST_SOURCE_LEN: usize = 32;
const MOST_TEXT: usize = 1024;
const UNKNOWN: &str = "is not one that this API gave; leave it out to begin with what happens now";

/// A place in each of the sources that the watcher heard of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor(Vec<(String, Place)>);

impl Cursor {
    /// Empty text is a cursor that knows no place.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if text.len() > MOST_TEXT {
            return Err(UNKNOWN);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().ok_or(UNKNOWN)?;
        let (version, rest) = bytes.split_first().ok_or(UNKNOWN)?;
        if *version != VERSION {
            return Err("is of another version of this API; leave it out to begin anew");
        }
        read(rest).ok_or(UNKNOWN)
    }

    pub(super) fn place(&self, source: &str) -> Option<Place> {
        self.0
            .iter()
            .find(|(name, _)| name == source)
            .map(|(_, place)| *place)
    }

    /// Places of sources that this release does not know stay as they are: during an upgrade a
    /// watcher comes back to a newer gateway, which does.
    pub(super) fn set(&mut self, source: &str, place: Place) {
        if let Some((_, known)) = self.0.iter_mut().find(|(name, _)| name == source) {
            *known = place;
        } else {
            self.0.push((source.to_owned(), place));
            self.0.sort();
        }
    }

    pub(super) fn text(&self) -> String {
        let mut bytes = vec![VERSION];
        for (source, place) in &self.0 {
            bytes.push(u8::try_from(source.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(source.as_bytes());
            bytes.extend_from_slice(&place.epoch.to_be_bytes());
            bytes.extend_from_slice(&place.seq.to_be_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn read(mut bytes: &[u8]) -> Option<Cursor> {
    let mut places: Vec<(String, Place)> = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first()?;
        let (source, rest) = rest.split_at_checked(usize::from(*length))?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (seq, rest) = rest.split_first_chunk()?;
        let place = Place {
            epoch: i32::from_be_bytes(*epoch),
            seq: i64::from_be_bytes(*seq),
        };
        let named = (1..=MOST_SOURCE_LEN).contains(&source.len())
            && source.iter().all(u8::is_ascii_lowercase);
        if !named || place.epoch < 0 || place.seq < 0 || places.len() == MOST_SOURCES {
            return None;
        }
        places.push((String::from_utf8(source.to_vec()).ok()?, place));
        bytes = rest;
    }
    let ordered = places.is_sorted_by(|(one, _), (other, _)| one < other);
    (ordered && !places.is_empty()).then_some(Cursor(places))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor(places: &[(&str, i32, i64)]) -> Cursor {
        let mut cursor = Cursor::default();
        for (source, epoch, seq) in places {
            let place = Place {
                epoch: *epoch,
                seq: *seq,
            };
            cursor.set(source, place);
        }
        cursor
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        let given = cursor(&[("health", 1, 3), ("deploy", 2, i64::MAX)]);
        let back = Cursor::parse(&given.text()).unwrap();
        assert_eq!(back, given);
        let place = Place { epoch: 1, seq: 3 };
        assert_eq!(back.place("health"), Some(place));
        assert_eq!(back.place("alert"), None);
        assert_eq!(Cursor::parse(""), Ok(Cursor::default()));
    }

    #[test]
    fn places_of_sources_unknown_here_are_kept() {
        let mut back = Cursor::parse(&cursor(&[("deploy", 1, 7), ("later", 4, 9)]).text()).unwrap();
        back.set("deploy", Place { epoch: 1, seq: 8 });
        assert_eq!(back, cursor(&[("deploy", 1, 8), ("later", 4, 9)]));
    }

    #[test]
    fn cursors_from_elsewhere_are_refused() {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let place = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5];
        let entry = |name: &str, place: &[u8]| {
            let mut bytes = vec![u8::try_from(name.len()).unwrap()];
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(place);
            bytes
        };
        let with = |entries: &[Vec<u8>]| encode(&[vec![VERSION], entries.concat()].concat());
        let negative = [255; 12];
        for text in [
            "?".to_owned(),
            encode(&[VERSION]),
            encode(&[2, 1, 2, 3]),
            with(&[entry("", &place)]),
            with(&[entry("Deploy", &place)]),
            with(&[entry("deploy", &negative)]),
            with(&[entry("deploy", &place[1..])]),
            with(&[entry("deploy", &place), entry("deploy", &place)]),
            with(&[entry("health", &place), entry("deploy", &place)]),
            with(&[entry(&"a".repeat(33), &place)]),
            "A".repeat(MOST_TEXT + 4),
        ] {
            assert!(Cursor::parse(&text).is_err(), "{text}");
        }
        assert!(Cursor::parse(&with(&[entry("deploy", &place)])).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_what_is_taken_is_canonical(text in "[A-Za-z0-9_-]{0,80}") {
            if let Ok(cursor) = Cursor::parse(&text) && !text.is_empty() {
                prop_assert_eq!(Cursor::parse(&cursor.text()), Ok(cursor));
            }
        }
    }
}
