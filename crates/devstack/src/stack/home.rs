//! Where a stack keeps its files.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::install::is_root;

/// Everybody may enter it, and it survives a reboot.
const SHARED: &str = "/var/tmp";

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
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("candlefish-test-{}-{number}", std::process::id());
        let folder = Path::new(SHARED).join(name);
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
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
                let elsewhere = Path::new(SHARED).join(name);
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
