//! Removes what a compilation under a wrapper of its own leaves in the target folder: nobody will
//! ever ask for it again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;

/// One line of cargo's messages; the only kind that names files.
#[derive(Debug, Deserialize)]
struct Artifact {
    package_id: String,
    filenames: Vec<PathBuf>,
}

/// `told` is what cargo wrote with `--message-format json`. Packages of the workspace have a path as
/// their id; those of others are shared, and stay.
pub(super) fn remove(told: &str) -> Result<()> {
    let artifacts = told
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    let own = artifacts.filter(|artifact| artifact.package_id.starts_with("path+"));
    let files: Vec<PathBuf> = own.flat_map(|artifact| artifact.filenames).collect();
    let hashes: BTreeSet<&str> = files.iter().filter_map(|path| hash(path)).collect();
    let folders = files
        .iter()
        .filter_map(|path| path.parent())
        .filter(|path| path.ends_with("deps"));
    for folder in folders.collect::<BTreeSet<_>>() {
        sweep(folder, &hashes)?;
        if let Some(above) = folder.parent() {
            sweep(&above.join(".fingerprint"), &hashes)?;
        }
    }
    Ok(())
}

/// The 16 hex digits at the end of a name, before its extension.
fn hash(path: &Path) -> Option<&str> {
    let (_, hash) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    let formed = hash.len() == 16 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
    formed.then_some(hash)
}

fn sweep(folder: &Path, hashes: &BTreeSet<&str>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !hash(&path).is_some_and(|hash| hashes.contains(hash)) {
            continue;
        }
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_workspace_left_goes_and_what_is_shared_stays() {
        let target = tempfile::tempdir().unwrap();
        let (deps, prints) = (
            target.path().join("deps"),
            target.path().join(".fingerprint"),
        );
        let (ours, theirs) = ("0123456789abcdef", "fedcba9876543210");
        fs::create_dir_all(&deps).unwrap();
        for hash in [ours, theirs] {
            fs::write(deps.join(format!("libx-{hash}.rmeta")), "").unwrap();
            fs::write(deps.join(format!("x-{hash}.d")), "").unwrap();
            fs::create_dir_all(prints.join(format!("x-{hash}"))).unwrap();
        }
        let line = |id: &str, hash: &str| {
            let file = deps.join(format!("libx-{hash}.rmeta"));
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"{id}","filenames":[{file:?}]}}"#
            )
        };
        let told = [
            line("path+file:///x#x@0.1.0", ours),
            line("registry+https://x#y@1.0.0", theirs),
        ];
        remove(&told.join("\n")).unwrap();
        assert!(!deps.join(format!("libx-{ours}.rmeta")).exists());
        assert!(!deps.join(format!("x-{ours}.d")).exists());
        assert!(!prints.join(format!("x-{ours}")).exists());
        assert!(deps.join(format!("libx-{theirs}.rmeta")).exists());
        assert!(prints.join(format!("x-{theirs}")).exists());
    }
}
