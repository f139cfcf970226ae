//! Lists, a page at a time, by key.
//!
//! A page token says where the list went on, and for which question: the version of its form, a hash
//! of the filter, and the last key. It is checked again when it comes back, because it comes from
//! outside.
//!
//! ```text
//! let filter = Filter::of("ListReleases").with(&site).with(&commit);
//! let page = Page::<Uuid>::read(&mut faults, &filter, message.page_size, &message.page_token, SIZES);
//! faults.finish()?;
//! let rows = store::list(&mut conn, page.after(), page.limit()).await?;   // one more than wanted
//! let (rows, next_page_token) = page.cut(rows, |row| row.id);
//! ```

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::field::Faults;

/// Tokens of another form are refused instead of misread.
const VERSION: u8 = 1;
/// Enough of the filter's hash to notice another question; it guards nothing.
const FILTER_LEN: usize = 8;
/// No key of ours needs more.
const TOKEN_MAX: usize = 512;
/// Of the requests that carry a token and its size.
const TOKEN: &str = "page_token";
const SIZE: &str = "page_size";

/// How many a page has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) default: i32,
    pub(crate) most: i32,
}

/// Of most lists.
pub(crate) const SIZES: Sizes = Sizes {
    default: 50,
    most: 200,
};

/// What a list is about: a token only goes on with the same.
#[derive(Debug, Clone)]
pub(crate) struct Filter(Sha256);

impl Filter {
    /// The question of one method.
    pub(crate) fn of(method: &str) -> Self {
        Self(Sha256::new()).with(method)
    }

    /// Narrowed by one more field.
    pub(crate) fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        // The length first: ("ab", "c") is not ("a", "bc").
        self.0
            .update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.update(part);
        self
    }

    fn hash(&self) -> Vec<u8> {
        self.0
            .clone()
            .finalize()
            .iter()
            .copied()
            .take(FILTER_LEN)
            .collect()
    }
}

/// What a list is ordered by.
pub(crate) trait PageKey: Sized {
    fn to_bytes(&self) -> Vec<u8>;
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

impl PageKey for String {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        // Postgres has no text with NUL.
        let text = std::str::from_utf8(bytes).ok()?;
        (!text.contains('\0')).then(|| text.to_owned())
    }
}

impl PageKey for Uuid {
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::from_slice(bytes).ok()
    }
}

impl PageKey for i64 {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::from_be_bytes)
    }
}

impl PageKey for [u8; 32] {
    fn to_bytes(&self) -> Vec<u8> {
        self.to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
    }
}

/// The page that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page<K> {
    after: Option<K>,
    size: i32,
    filter: Vec<u8>,
}

impl<K: PageKey> Page<K> {
    /// Reads a request's `page_size` and `page_token`.
    pub(crate) fn read(
        faults: &mut Faults,
        filter: &Filter,
        page_size: i32,
        page_token: &str,
        sizes: Sizes,
    ) -> Self {
        let size = faults.count(SIZE, page_size, sizes.default, 1..=sizes.most);
        let filter = filter.hash();
        let after = if page_token.is_empty() {
            None
        } else {
            match decode(page_token, &filter) {
                Ok(key) => Some(key),
                Err(message) => {
                    faults.add(TOKEN, message);
                    None
                }
            }
        };
        Self {
            after,
            size,
            filter,
        }
    }

    /// The last key of the page before.
    pub(crate) const fn after(&self) -> Option<&K> {
        self.after.as_ref()
    }

    /// How many the page has at most.
    pub(crate) const fn size(&self) -> i32 {
        self.size
    }

    /// How many rows to read: one more than wanted tells whether there are more.
    pub(crate) fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// The token that goes on after this key.
    pub(crate) fn token(&self, key: &K) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.filter);
        bytes.extend_from_slice(&key.to_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The wanted of the rows that [`Page::limit`] read, and the next page's token; empty on the last.
    pub(crate) fn cut<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> K) -> (Vec<T>, String) {
        let size = usize::try_from(self.size).unwrap_or(0);
        let more = rows.len() > size;
        rows.truncate(size);
        let next = rows
            .last()
            .filter(|_| more)
            .map(|last| self.token(&key(last)));
        (rows, next.unwrap_or_default())
    }
}

fn decode<K: PageKey>(token: &str, filter: &[u8]) -> Result<K, &'static str> {
    const UNKNOWN: &str = "is not one that this API gave";
    if token.len() > TOKEN_MAX {
        return Err(UNKNOWN);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().ok_or(UNKNOWN)?;
    let (&version, rest) = bytes.split_first().ok_or(UNKNOWN)?;
    let (asked, key) = rest.split_at_checked(FILTER_LEN).ok_or(UNKNOWN)?;
    if version != VERSION {
        return Err("is of another version of this API; begin with the first page again");
    }
    if asked != filter {
        return Err("belongs to another question; begin with the first page again");
    }
    K::from_bytes(key).ok_or(UNKNOWN)
}

#[cfg(test)]
mod tests;
