//! The tree that we work on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// The workspace's folder and what cargo says about it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
}

/// The part of `cargo metadata` that the checks read.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// `bin` is a program.
    pub(crate) kind: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` is a normal one.
    pub(crate) kind: Option<String>,
    /// Set for packages of the workspace.
    pub(crate) path: Option<PathBuf>,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = own.ancestors().nth(2).context("xtask is in crates/")?;
        Ok(Self {
            root: root.to_owned(),
        })
    }

    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let mut command = crate::cargo::command(self);
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        let out = crate::cargo::output(command)?;
        serde_json::from_str(&out).context("reading cargo metadata")
    }

    /// Every file of the tree below `folder` that git knows or would add, by path from the root.
    pub(crate) fn files(&self, folder: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let top = self.root.join(folder);
        if top.exists() {
            walk(&top, &mut found)?;
        }
        let relative = found
            .into_iter()
            .filter_map(|path| path.strip_prefix(&self.root).map(Path::to_owned).ok());
        let mut relative: Vec<_> = relative.collect();
        relative.sort();
        Ok(relative)
    }

    pub(crate) fn read(&self, path: &Path) -> Result<String> {
        let whole = self.root.join(path);
        fs::read_to_string(whole).with_context(|| format!("reading {}", path.display()))
    }
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if name != "target" && name != ".git" && name != ".dev" && name != "node_modules" {
                walk(&path, found)?;
            }
        } else {
            found.push(path);
        }
    }
    Ok(())
}
