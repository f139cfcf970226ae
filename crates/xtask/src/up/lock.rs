//! One `up` at a time for one clone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Held by the `up` that runs; the system gives it back when that process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut file = open(folder)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid)?;
                bail!(
                    "it runs already, as process {}; `cargo xtask down` stops it",
                    pid.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context("locking it for this `up`");
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }

    /// The process that holds it.
    pub(crate) fn holder(folder: &Path) -> Result<Option<u32>> {
        if !folder.join("lock").exists() {
            return Ok(None);
        }
        let mut file = open(folder)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid)?;
                let pid = pid.trim().parse().context("reading who holds its lock")?;
                Ok(Some(pid))
            }
            Err(TryLockError::Error(error)) => Err(error).context("looking at its lock"),
        }
    }
}

fn open(folder: &Path) -> Result<File> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_names_its_holder_and_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Lock::holder(folder.path()).unwrap(), None);
        let lock = Lock::take(folder.path()).unwrap();
        let own = std::process::id();
        assert_eq!(Lock::holder(folder.path()).unwrap(), Some(own));
        let error = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&own.to_string()), "{error}");
        drop(lock);
        assert_eq!(Lock::holder(folder.path()).unwrap(), None);
        Lock::take(folder.path()).unwrap();
    }
}
