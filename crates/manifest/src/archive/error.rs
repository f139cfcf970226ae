//! Why an archive is not the content of a release.

use std::io;

use crate::{PathError, encoding};

/// Why an archive is not the content of a release.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where it lies it cannot be read, or what is read cannot be kept.
    #[error("the archive cannot be read here")]
    Io(#[source] io::Error),
    /// Nobody waits for it any more.
    #[error("reading the archive was stopped")]
    Stopped,
    /// It ends in the middle, or is none.
    #[error("the archive is broken")]
    Broken(#[source] io::Error),
    /// Something comes after its end.
    #[error("something follows the end of the archive")]
    Trailing,
    /// It unpacks to more bytes than a release may have.
    #[error("the archive unpacks to more than {limit} bytes")]
    Large {
        /// The limit.
        limit: u64,
    },
    /// Little that becomes much.
    #[error("the archive unpacks to more than {ratio} times its bytes")]
    Bomb {
        /// The limit.
        ratio: u64,
    },
    /// More of files, folders and extended headers than a release may come with.
    #[error("the archive holds more than {limit} entries")]
    Entries {
        /// The limit.
        limit: usize,
    },
    /// An extended header that says nothing, or too much.
    #[error("an extended header of the archive {why}")]
    Extended {
        /// In words.
        why: &'static str,
    },
    /// A header that readers could take for different things.
    #[error("the header of {path:?} {why}")]
    Header {
        /// The path, with replacement characters.
        path: String,
        /// In words.
        why: &'static str,
    },
    /// It lies beside the one folder that should hold all.
    #[error("{path:?} is not below the one folder at the top of the archive")]
    Top {
        /// The path, with replacement characters.
        path: String,
    },
    /// Neither file nor folder nor link.
    #[error("{path:?} is {kind}: a repository has none")]
    Kind {
        /// The path, with replacement characters.
        path: String,
        /// `a hard link`.
        kind: &'static str,
    },
    /// A link in the site's folder.
    #[error("{path:?} is a link: put the file itself there, or upload a built site")]
    Link {
        /// Its path in the release.
        path: String,
    },
    /// The site's folder is something else.
    #[error("{path:?} is no folder in the repository")]
    NoFolder {
        /// The folder.
        path: String,
    },
    /// No file in the site's folder.
    #[error("there is no file below {folder:?} in the repository")]
    Nothing {
        /// The folder; empty for the root.
        folder: String,
    },
    /// A path that breaks a rule.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Too large for a release, or not one.
    #[error(transparent)]
    Release(#[from] encoding::Error),
}

impl Error {
    /// The same archive brings the same error, however often it is fetched and read. What is broken
    /// may have broken on its way.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Io(_) | Self::Stopped | Self::Broken(_))
    }

    pub(super) fn ends_early() -> Self {
        let why = "it ends in the middle";
        Self::Broken(io::Error::new(io::ErrorKind::UnexpectedEof, why))
    }
}
