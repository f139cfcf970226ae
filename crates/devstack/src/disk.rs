//! What a disk has left.

use std::path::Path;

use anyhow::{Context, Result};

/// What may still be written to the disk of this path, in bytes.
pub fn disk_left(path: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(path)
        .with_context(|| format!("asking what the disk of {} has left", path.display()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_can_be_written_to_has_bytes_left_and_a_path_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(disk_left(folder.path()).unwrap() > 0);
        let nowhere = folder.path().join("nowhere");
        let refused = format!("{:#}", disk_left(&nowhere).unwrap_err());
        assert!(refused.contains("nowhere"), "{refused}");
    }
}
