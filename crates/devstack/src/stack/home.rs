//! Where a stack keeps its files.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::install::is_root;

/// Everybody may enter it, and it holds more than memory does.
const SHARED: &str = "/var/tmp";
/// Everybody may enter it, and nobody sweeps it: what is in `/var/tmp` goes after a month on some systems,
/// file by file.
const KEPT: &str = "/var/lib/candlefish-dev";

static MADE: AtomicU32 = AtomicU32::new(0);

/// A stack's folder.
#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    postgres: PathBuf,
    temporary: bool,
}

impl Home {
    /// A folder that is removed with the stack.
    pub(super) fn temporary() -> Result<Self> {
        let folder = make_temporary(Path::new(SHARED))?;
        // The user who runs Postgres must be able to enter.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711))?;
        let postgres = folder.join("postgres");
        Self::with_parts(folder, postgres, true)
    }

    /// A folder that outlives the stack. As root Postgres runs as another user, who cannot enter
    /// a clone below a private home: then its data lies elsewhere, and a link shows where.
    pub(super) fn kept(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let link = folder.join("postgres");
        let postgres = match fs::read_link(&link) {
            Ok(elsewhere) => elsewhere,
            Err(_) if is_root() => {
                let mut hasher = DefaultHasher::new();
                folder.hash(&mut hasher);
                let name = format!("candlefish-{:016x}", hasher.finish());
                fs::create_dir_all(KEPT).with_context(|| format!("making {KEPT}"))?;
                let elsewhere = Path::new(KEPT).join(name);
                discard_orphan(&elsewhere)?;
                symlink(&elsewhere, &link).context("linking to the data of Postgres")?;
                elsewhere
            }
            Err(_) => link,
        };
        Self::with_parts(folder, postgres, false)
    }

    fn with_parts(folder: PathBuf, postgres: PathBuf, temporary: bool) -> Result<Self> {
        for part in ["blobs", "keys", "logs"] {
            fs::create_dir_all(folder.join(part))?;
        }
        Ok(Self {
            folder,
            postgres,
            temporary,
        })
    }

    /// Removes a kept folder and what it links to. True when there was one.
    pub(super) fn wipe(folder: &Path) -> Result<bool> {
        if !folder.exists() {
            return Ok(false);
        }
        if let Ok(elsewhere) = fs::read_link(folder.join("postgres"))
            && elsewhere.exists()
        {
            fs::remove_dir_all(&elsewhere)
                .with_context(|| format!("removing {}", elsewhere.display()))?;
        }
        fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
        Ok(true)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn postgres(&self) -> &Path {
        &self.postgres
    }

    pub(super) const fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Removes a temporary folder.
    pub(super) fn leave(&self) {
        if self.temporary {
            // What could not be removed now is the warden's.
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

/// A folder that nobody had: not one that a process of our number left when the power went.
fn make_temporary(parent: &Path) -> Result<PathBuf> {
    loop {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("candlefish-test-{}-{number}", std::process::id());
        let folder = parent.join(name);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => {
                made.with_context(|| format!("making {}", folder.display()))?;
                return Ok(folder);
            }
        }
    }
}

/// Removes data that nothing links to: the clone it belonged to was removed, and with it the secrets
/// and the blobs without which the data is of no use to a new one in the same place.
fn discard_orphan(postgres: &Path) -> Result<()> {
    if !postgres.exists() {
        return Ok(());
    }
    let pid = fs::read_to_string(postgres.join("data/postmaster.pid")).unwrap_or_default();
    let pid = pid.lines().next().unwrap_or_default();
    ensure!(
        pid.is_empty() || !Path::new("/proc").join(pid).exists(),
        "a Postgres of an earlier clone in this place still runs: stop the process {pid}, then try \
         again"
    );
    fs::remove_dir_all(postgres).with_context(|| format!("removing {}", postgres.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_of_our_number_left_behind_is_in_nobodys_way() {
        let parent = tempfile::tempdir().unwrap();
        let own = std::process::id();
        for number in 0..100 {
            let left = format!("candlefish-test-{own}-{number}");
            fs::create_dir(parent.path().join(left)).unwrap();
        }
        let made = make_temporary(parent.path()).unwrap();
        assert!(made.exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 101);
    }

    #[test]
    fn data_of_a_clone_that_is_gone_goes_unless_its_server_runs() {
        let folder = tempfile::tempdir().unwrap();
        let postgres = folder.path().join("postgres");
        discard_orphan(&postgres).unwrap();
        let data = postgres.join("data");
        fs::create_dir_all(&data).unwrap();
        let own = std::process::id();
        fs::write(data.join("postmaster.pid"), format!("{own}\n/data\n")).unwrap();
        let refused = discard_orphan(&postgres).unwrap_err().to_string();
        assert!(refused.contains(&format!("the process {own}")), "{refused}");
        assert!(data.exists());
        // More than any process has.
        fs::write(data.join("postmaster.pid"), "99999999\n").unwrap();
        discard_orphan(&postgres).unwrap();
        assert!(!postgres.exists());
    }
}
