//! What an entry is called: by its header, or by the extended header before it. Where the two, or two
//! readers, could disagree, the archive is refused.

use std::{borrow::Cow, collections::HashMap, io::Read};

use tar::Header;

use super::{Error, PathError, budget::Spent};

/// Bytes of an extended header: many times the longest path.
const EXTENDED: u64 = 64 * 1024;

/// What extended headers say of the entry that follows them.
#[derive(Debug, Default)]
pub(super) struct Names {
    pax: Option<HashMap<String, Vec<u8>>>,
    long: Option<Vec<u8>>,
    long_link: bool,
}

impl Names {
    /// Reads an extended header; false when it is none.
    pub(super) fn take(
        &mut self,
        header: &Header,
        content: &mut dyn Read,
        spent: &Spent,
    ) -> Result<bool, Error> {
        let refused = |why| Error::Extended { why };
        let kind = header.entry_type().as_byte();
        if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
            return Ok(false);
        }
        let size = size(header).map_err(refused)?;
        if size > EXTENDED {
            return Err(refused("is longer than any path"));
        }
        let mut bytes = Vec::new();
        let read = content.read_to_end(&mut bytes);
        read.map_err(|error| spent.explain(error))?;
        if u64::try_from(bytes.len()).ok() != Some(size) {
            return Err(Error::ends_early());
        }
        match kind {
            b'g' if self.pax.is_some() || self.long.is_some() || self.long_link => {
                return Err(refused("stands between another and its file"));
            }
            b'g' => {
                let said = records(&bytes).map_err(refused)?;
                if said.keys().any(|key| says_what(key)) {
                    return Err(refused("names or measures every file"));
                }
            }
            b'x' => {
                let said = records(&bytes).map_err(refused)?;
                if self.pax.replace(said).is_some() {
                    return Err(refused("follows another"));
                }
            }
            b'L' => {
                let name = terminated(bytes).ok_or_else(|| refused("is not one name"))?;
                if self.long.replace(name).is_some() {
                    return Err(refused("follows another"));
                }
            }
            _ => {
                terminated(bytes).ok_or_else(|| refused("is not one name"))?;
                if std::mem::replace(&mut self.long_link, true) {
                    return Err(refused("follows another"));
                }
            }
        }
        Ok(true)
    }

    /// The name of the entry with this header; what was said of it is said of no other.
    pub(super) fn of(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let of_header = of_header(header)?;
        let pax = self.pax.take().unwrap_or_default();
        let long = self.long.take();
        self.long_link = false;
        let refused = |name: &[u8], why| Error::Header {
            path: String::from_utf8_lossy(name).into_owned(),
            why,
        };
        if let Some(said) = pax.get("size") {
            let said = std::str::from_utf8(said).ok();
            let said = said.and_then(|text| text.parse::<u64>().ok());
            let size = size(header).map_err(|why| refused(&of_header, why))?;
            if said != Some(size) {
                return Err(refused(&of_header, "has two sizes"));
            }
        }
        if pax.keys().any(|key| key.starts_with("GNU.sparse.")) {
            return Err(refused(&of_header, "is one of a sparse file"));
        }
        match (pax.get("path"), long) {
            (Some(_), Some(_)) => Err(refused(&of_header, "has two names before it")),
            (Some(path), None) if path.contains(&0) => Err(nul(path)),
            (Some(path), None) => Ok(path.clone()),
            (None, Some(path)) => Ok(path),
            (None, None) => Ok(of_header.into_owned()),
        }
    }

    /// After an extended header comes what it is about.
    pub(super) fn finish(&self) -> Result<(), Error> {
        if self.pax.is_some() || self.long.is_some() || self.long_link {
            Err(Error::ends_early())
        } else {
            Ok(())
        }
    }
}

/// What changes which entry it is, or how long.
fn says_what(key: &str) -> bool {
    matches!(key, "path" | "linkpath" | "size") || key.starts_with("GNU.sparse.")
}

/// `30 mtime=1350244992.023960108\n`, again and again.
fn records(bytes: &[u8]) -> Result<HashMap<String, Vec<u8>>, &'static str> {
    const WHY: &str = "is not a list of records";
    let mut found = HashMap::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or(WHY)?;
        let digits = rest.get(..space).ok_or(WHY)?;
        if digits.is_empty() || digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(WHY);
        }
        let length = std::str::from_utf8(digits).ok();
        let length: usize = length.and_then(|text| text.parse().ok()).ok_or(WHY)?;
        let (record, after) = rest.split_at_checked(length).ok_or(WHY)?;
        let said = record.get(space + 1..).ok_or(WHY)?;
        let said = said.strip_suffix(b"\n").ok_or(WHY)?;
        let equals = said.iter().position(|byte| *byte == b'=').ok_or(WHY)?;
        let (key, value) = said.split_at_checked(equals).ok_or(WHY)?;
        let key = std::str::from_utf8(key).map_err(|_not_text| WHY)?;
        let value = value.get(1..).ok_or(WHY)?;
        if found.insert(key.to_owned(), value.to_vec()).is_some() {
            return Err("says the same thing twice");
        }
        rest = after;
    }
    Ok(found)
}

/// A name that ends with its only NUL, or has none.
fn terminated(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    (!bytes.is_empty() && !bytes.contains(&0)).then_some(bytes)
}

fn of_header(header: &Header) -> Result<Cow<'_, [u8]>, Error> {
    let name = header.path_bytes();
    let old = header.as_old();
    let prefix = header.as_ustar().map(|ustar| ustar.prefix.as_slice());
    for field in [Some(old.name.as_slice()), prefix].into_iter().flatten() {
        let end = field.iter().position(|byte| *byte == 0);
        let hidden = end.and_then(|end| field.get(end..));
        if hidden.is_some_and(|hidden| hidden.iter().any(|byte| *byte != 0)) {
            return Err(Error::Header {
                path: String::from_utf8_lossy(&name).into_owned(),
                why: "has bytes after the end of its name",
            });
        }
    }
    Ok(name)
}

/// The bytes of an entry, where all readers agree about them: octal digits, as all but huge files have.
pub(super) fn size(header: &Header) -> Result<u64, &'static str> {
    const WHY: &str = "has a size that is not one";
    let field = &header.as_old().size;
    let padding = |byte: &u8| matches!(byte, b' ' | 0);
    let digits = field.iter().skip_while(|byte| **byte == b' ');
    let digits: Vec<u8> = digits.take_while(|byte| !padding(byte)).copied().collect();
    let begins = field.iter().take_while(|byte| **byte == b' ').count();
    let rest = field.get(begins + digits.len()..).unwrap_or_default();
    if digits.is_empty() || !rest.iter().all(padding) {
        return Err(WHY);
    }
    let text = std::str::from_utf8(&digits).map_err(|_not_text| WHY)?;
    if !text.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
        return Err(WHY);
    }
    u64::from_str_radix(text, 8).map_err(|_too_many| WHY)
}

/// The segments of a name; what would lead elsewhere is refused, also where nobody looks.
pub(super) fn segments(name: &[u8], is_folder: bool) -> Result<Vec<&[u8]>, PathError> {
    let shown = || String::from_utf8_lossy(name).into_owned();
    if name.is_empty() {
        return Err(PathError::Empty);
    }
    if name.starts_with(b"/") {
        return Err(PathError::Absolute { path: shown() });
    }
    let whole = name.strip_suffix(b"/").filter(|_| is_folder);
    let segments: Vec<&[u8]> = whole.unwrap_or(name).split(|byte| *byte == b'/').collect();
    for segment in &segments {
        match *segment {
            b"" => return Err(PathError::EmptySegment { path: shown() }),
            b"." | b".." => {
                return Err(PathError::Dots {
                    path: shown(),
                    segment: String::from_utf8_lossy(segment).into_owned(),
                });
            }
            _ => {}
        }
    }
    Ok(segments)
}

fn nul(path: &[u8]) -> Error {
    Error::Path(PathError::Control {
        path: String::from_utf8_lossy(path).into_owned(),
        code: 0,
    })
}
