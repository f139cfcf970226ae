//! Lists, a page at a time, by key: the page token is base64url of (version, hash of the filter,
//! last key), and is checked again when it comes back, because it comes from outside.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::field::Faults;

const VERSION: u8 = 1;
/// Enough of the filter's hash to notice another question; it guards nothing.
const FILTER_LEN: usize = 8;
/// No key of ours needs more.
const TOKEN_MAX: usize = 512;
const DEFAULT_SIZE: i32 = 50;
const MOST: i32 = 200;

/// The page that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    after: Option<Vec<u8>>,
    size: i32,
    filter: Vec<u8>,
}

impl Page {
    /// Reads `page_size` and `page_token` of a list that is about `filter`.
    pub(crate) fn read(
        faults: &mut Faults,
        filter: &[&str],
        page_size: i32,
        page_token: &str,
    ) -> Self {
        let size = if page_size == 0 {
            DEFAULT_SIZE
        } else {
            page_size
        };
        if !(1..=MOST).contains(&size) {
            faults.add("page_size", format!("must be 1 to {MOST}"));
        }
        let filter = hash(filter);
        let mut page = Self {
            after: None,
            size,
            filter,
        };
        if !page_token.is_empty() {
            match page.decode(page_token) {
                Ok(key) => page.after = Some(key),
                Err(message) => faults.add("page_token", message),
            }
        }
        page
    }

    /// The last key of the page before.
    pub(crate) fn after(&self) -> Option<&[u8]> {
        self.after.as_deref()
    }

    /// One row more than wanted tells whether there are more.
    pub(crate) fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// The wanted of the rows, and the next page's token; empty on the last page.
    pub(crate) fn cut<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> Vec<u8>) -> (Vec<T>, String) {
        let size = usize::try_from(self.size).unwrap_or(0);
        let more = rows.len() > size;
        rows.truncate(size);
        let next = rows
            .last()
            .filter(|_| more)
            .map(|last| self.encode(&key(last)));
        (rows, next.unwrap_or_default())
    }

    /// As [`Page::cut`], of what was picked from a look that has a limit: where it ended by that, the
    /// next page goes on there, unless there is more of this one.
    pub(crate) fn cut_look<T>(
        &self,
        rows: Vec<T>,
        key: impl Fn(&T) -> Vec<u8>,
        ended: Option<Vec<u8>>,
    ) -> (Vec<T>, String) {
        let (rows, next) = self.cut(rows, key);
        match ended {
            Some(ended) if next.is_empty() => (rows, self.encode(&ended)),
            _ => (rows, next),
        }
    }

    fn encode(&self, key: &[u8]) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.filter);
        bytes.extend_from_slice(key);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(&self, token: &str) -> Result<Vec<u8>, &'static str> {
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
        if asked != self.filter {
            return Err("belongs to another question; begin with the first page again");
        }
        Ok(key.to_vec())
    }
}

fn hash(parts: &[&str]) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in parts {
        // The length first: ("ab", "c") is not ("a", "bc").
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().iter().copied().take(FILTER_LEN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(filter: &str, size: i32, token: &str) -> Result<Page, Vec<String>> {
        let mut faults = Faults::default();
        let page = Page::read(&mut faults, &["ListTokens", filter], size, token);
        let names: Vec<String> = faults.names();
        if names.is_empty() {
            Ok(page)
        } else {
            Err(names)
        }
    }

    #[test]
    fn a_page_goes_on_where_the_one_before_ended() {
        let first = page("ada", 2, "").unwrap();
        assert_eq!((first.limit(), first.after()), (3, None));
        let (rows, next) = first.cut(vec!["a", "b", "c"], |row| row.as_bytes().to_vec());
        assert_eq!(rows, ["a", "b"]);
        assert_eq!(
            page("ada", 2, &next).unwrap().after(),
            Some(b"b".as_slice())
        );
        let (rows, next) = first.cut(vec!["a", "b"], |row| row.as_bytes().to_vec());
        assert_eq!((rows.len(), next.as_str()), (2, ""));
    }

    #[test]
    fn tokens_from_elsewhere_are_refused() {
        let (_, next) = page("ada", 1, "")
            .unwrap()
            .cut(vec!["a", "b"], |r| r.as_bytes().to_vec());
        assert_eq!(page("bob", 1, &next), Err(vec!["page_token".to_owned()]));
        for token in ["x", "?", "AAAA", &"A".repeat(600)] {
            assert_eq!(
                page("ada", 1, token),
                Err(vec!["page_token".to_owned()]),
                "{token}"
            );
        }
        for size in [-1, 201] {
            assert_eq!(page("ada", size, ""), Err(vec!["page_size".to_owned()]));
        }
    }
}
