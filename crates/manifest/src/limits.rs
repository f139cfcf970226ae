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
