//! How much room a disk has.

use std::path::Path;

use anyhow::{Context, Result};

/// What may still be written to the disk of this path, in bytes.
pub fn room(path: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(path)
        .with_context(|| format!("asking how much room {} has", path.display()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_can_be_written_to_has_room_and_a_path_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(room(folder.path()).unwrap() > 0);
        let nowhere = folder.path().join("nowhere");
        let refused = format!("{:#}", room(&nowhere).unwrap_err());
        assert!(refused.contains("nowhere"), "{refused}");
    }
}
