//! Each process's own Ed25519 key, and the folder of public keys that all of them read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// `<folder>/<issuer>.pem` and `<folder>/trusted/<issuer>.pub.pem`.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Makes the keys that do not exist yet.
    pub(crate) fn ensure(folder: PathBuf, openssl: &Path, issuers: &[&str]) -> Result<Self> {
        let keys = Self { folder };
        fs::create_dir_all(keys.trusted())?;
        for issuer in issuers {
            let private = keys.private(issuer);
            let public = keys.trusted().join(format!("{issuer}.pub.pem"));
            if public.exists() {
                continue;
            }
            let make = ["genpkey", "-algorithm", "ed25519", "-out"];
            run(Command::new(openssl).args(make).arg(&private))?;
            fs::set_permissions(&private, fs::Permissions::from_mode(0o600))?;
            let mut publish = Command::new(openssl);
            publish.args(["pkey", "-pubout", "-in"]).arg(&private);
            run(publish.arg("-out").arg(&public))?;
        }
        Ok(keys)
    }

    pub(crate) fn private(&self, issuer: &str) -> PathBuf {
        self.folder.join(format!("{issuer}.pem"))
    }

    pub(crate) fn trusted(&self) -> PathBuf {
        self.folder.join("trusted")
    }
}

fn run(command: &mut Command) -> Result<()> {
    let out = command.output().context("running openssl")?;
    let words = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{command:?}: {words}");
    Ok(())
}
