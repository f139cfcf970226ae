//! The rules that a site brings: `_redirects` and `_headers`, a documented subset of Netlify's.
//!
//! Read once, when a release is staged. A line that is not understood refuses the release: a rule
//! that silently does nothing is worse than a deployment that fails and says which line.

mod header;
mod pattern;
mod redirect;

pub(crate) use header::{FOR_SHARED_CACHES, Headers};
pub(crate) use redirect::{Action, Redirects};

/// A line that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of {file}: {why}")]
pub(crate) struct Error {
    pub(crate) file: &'static str,
    pub(crate) line: usize,
    pub(crate) why: String,
}

/// Whether a path of a release is one of the two files that hold rules: they are read when it is staged,
/// and are no files to visitors.
pub(crate) fn is_file(path: &str) -> bool {
    path == header::FILE || path == redirect::FILE
}

/// Rules of one file, and headers of all its paths together; more would make every request slow. One
/// answer may have all of these headers, and takes some 24,000.
const MAX_RULES: usize = 2_000;
