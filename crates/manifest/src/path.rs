//! Which paths a release may hold.
//!
//! A path is relative, in UTF-8 and NFC, with `/` between its segments. The rules keep out what a
//! file system, a URL or a case-insensitive checkout could read as another path.

use std::collections::HashMap;

use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use crate::Limits;

/// Why a path is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing at all.
    #[error("a path is empty")]
    Empty,
    /// It begins at the root.
    #[error("path {path:?} must not begin with a slash")]
    Absolute {
        /// The path.
        path: String,
    },
    /// Two slashes in a row, or one at the end.
    #[error("path {path:?} has an empty segment")]
    EmptySegment {
        /// The path.
        path: String,
    },
    /// `.` or `..`.
    #[error("path {path:?} has a segment that points elsewhere ({segment})")]
    Dots {
        /// The path.
        path: String,
        /// `.` or `..`.
        segment: String,
    },
    /// NUL, a control character, or one that turns the direction of text.
    #[error("path {path:?} has the control character U+{code:04X}")]
    Control {
        /// The path.
        path: String,
        /// The character's number.
        code: u32,
    },
    /// A separator elsewhere.
    #[error("path {path:?} has a backslash")]
    Backslash {
        /// The path.
        path: String,
    },
    /// Bytes that are no text.
    #[error("path {path:?} is not UTF-8")]
    NotUtf8 {
        /// The path, with replacement characters.
        path: String,
    },
    /// The same text could be written otherwise.
    #[error("path {path:?} is not in Unicode's normal form C")]
    NotNfc {
        /// The path.
        path: String,
    },
    /// More bytes than allowed.
    #[error("path {path:?} has {bytes} bytes, more than {limit}")]
    Long {
        /// The path.
        path: String,
        /// Its bytes.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// More segments than allowed.
    #[error("path {path:?} has {depth} segments, more than {limit}")]
    Deep {
        /// The path.
        path: String,
        /// Its segments.
        depth: usize,
        /// The limit.
        limit: usize,
    },
    /// Twice the same.
    #[error("path {path:?} is there twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// The same but for case.
    #[error("path {path:?} differs from {other:?} in case alone")]
    Case {
        /// The path.
        path: String,
        /// The other.
        other: String,
    },
    /// A file where another path needs a folder.
    #[error("path {path:?} needs a folder where the file {file:?} is")]
    FileAndFolder {
        /// The path.
        path: String,
        /// The file.
        file: String,
    },
}

/// Checks one path by itself.
pub fn check(path: &str, limits: &Limits) -> Result<(), PathError> {
    let named = || path.to_owned();
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path.len() > limits.path_bytes {
        return Err(PathError::Long {
            path: shortened(path),
            bytes: path.len(),
            limit: limits.path_bytes,
        });
    }
    if let Some(control) = path.chars().find(|c| is_control(*c)) {
        return Err(PathError::Control {
            path: named(),
            code: u32::from(control),
        });
    }
    if path.contains('\\') {
        return Err(PathError::Backslash { path: named() });
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute { path: named() });
    }
    for segment in path.split('/') {
        if segment.is_empty() {
            return Err(PathError::EmptySegment { path: named() });
        }
        if segment == "." || segment == ".." {
            return Err(PathError::Dots {
                path: named(),
                segment: segment.to_owned(),
            });
        }
    }
    let depth = path.split('/').count();
    if depth > limits.depth {
        return Err(PathError::Deep {
            path: named(),
            depth,
            limit: limits.depth,
        });
    }
    if !is_nfc(path) {
        return Err(PathError::NotNfc { path: named() });
    }
    Ok(())
}

/// Checks that all paths can lie in one tree, also where case does not count.
pub(crate) fn check_together<'a>(
    paths: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), PathError> {
    let mut files: HashMap<String, &str> = HashMap::new();
    for path in paths.clone() {
        if let Some(other) = files.insert(folded(path), path) {
            return Err(if other == path {
                PathError::Twice {
                    path: path.to_owned(),
                }
            } else {
                PathError::Case {
                    path: path.to_owned(),
                    other: other.to_owned(),
                }
            });
        }
    }
    for path in paths {
        let folded = folded(path);
        for (end, _) in folded.match_indices('/') {
            let folder = folded.get(..end).unwrap_or_default();
            if let Some(file) = files.get(folder) {
                return Err(PathError::FileAndFolder {
                    path: path.to_owned(),
                    file: (*file).to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// C0, DEL and C1, and the marks that make a name look like another one.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// One text for all paths that a file system blind to case takes for the same.
fn folded(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    // Upper case first: it joins letters (ß and SS) that lower case alone keeps apart.
    path.to_uppercase().to_lowercase().nfc().collect()
}

/// The start of a path that is too long to print.
fn shortened(path: &str) -> String {
    let mut text: String = path.chars().take(80).collect();
    text.push('…');
    text
}

#[cfg(test)]
mod tests;
