//! How large a release may be.

/// How large a release may be; configuration, with these defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Files in a release.
    pub files: usize,
    /// Bytes of all files together; content that lies at two paths counts twice.
    pub total_bytes: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of one path in UTF-8.
    pub path_bytes: usize,
    /// Segments of one path.
    pub depth: usize,
    /// Bytes of the encoded manifest.
    pub manifest_bytes: usize,
}

impl Limits {
    /// For what was sealed: it passed the limits of its time, so lowering them takes no release
    /// away. Only the manifest's own size stays bounded, as the API fixes it.
    pub fn of_sealed() -> Self {
        Self {
            files: usize::MAX,
            total_bytes: u64::MAX,
            file_bytes: u64::MAX,
            path_bytes: usize::MAX,
            depth: usize::MAX,
            ..Self::default()
        }
    }
}

const MIB: u64 = 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: 50_000,
            total_bytes: 2048 * MIB,
            file_bytes: 512 * MIB,
            path_bytes: 512,
            depth: 32,
            // What the longest paths and content types of that many files come to.
            manifest_bytes: 64 * 1024 * 1024,
        }
    }
}
