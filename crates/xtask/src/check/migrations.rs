//! Order and form of migrations, and the copies that each service carries.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::check::{Outcome, faultless};
use crate::workspace::Workspace;

/// Tables that belong to messaging; every service carries them as `NNNN_create_<name>.sql`.
const ORIGINALS: &str = "crates/messaging/sql";

pub(super) fn check(workspace: &Workspace) -> Outcome {
    let mut folders: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for path in workspace.files("crates")? {
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        let sql = path.extension().is_some_and(|extension| extension == "sql");
        if sql && parent.ends_with("migrations") {
            folders.entry(parent.to_owned()).or_default().push(path);
        }
    }
    let originals = texts(workspace, &workspace.files(ORIGINALS)?)?;
    let mut faults = Vec::new();
    for (folder, paths) in &folders {
        let files = texts(workspace, paths)?;
        faults.extend(form(folder, &files));
        faults.extend(copies(folder, &files, &originals));
    }
    faultless(faults)
}

fn texts(workspace: &Workspace, paths: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    let files = paths.iter().map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok((name.into_owned(), workspace.read(path)?))
    });
    files.collect()
}

/// `NNNN_verb_noun.sql`, each number once, with a header that says what old code sees.
fn form(folder: &Path, files: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut numbers: BTreeMap<u32, &str> = BTreeMap::new();
    for (name, text) in files {
        let shown = format!("{}/{name}", folder.display());
        match number(name) {
            None => faults.push(format!("{shown}: must be called NNNN_verb_noun.sql")),
            Some(number) => {
                if let Some(other) = numbers.insert(number, name) {
                    faults.push(format!("{shown}: has the number of {other}"));
                }
            }
        }
        if !text.starts_with("-- ") {
            faults.push(format!(
                "{shown}: begins with a comment: what it does, what old code sees"
            ));
        }
    }
    faults
}

fn number(name: &str) -> Option<u32> {
    let (number, words) = name.strip_suffix(".sql")?.split_once('_')?;
    let formed = number.len() == 4
        && words.contains('_')
        && words
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    formed.then(|| number.parse().ok())?
}

/// The copy has the original's text, under any number.
fn copies(
    folder: &Path,
    files: &BTreeMap<String, String>,
    originals: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, original) in originals {
        let ending = format!("_create_{name}");
        let folder = folder.display();
        match files.iter().find(|(copy, _)| copy.ends_with(&ending)) {
            None => faults.push(format!("{folder}: has no copy of messaging's {name}")),
            Some((copy, text)) if text != original => {
                faults.push(format!("{folder}/{copy}: differs from messaging's {name}"));
            }
            Some(_) => {}
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[(&str, &str)]) -> BTreeMap<String, String> {
        let files = names
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        files.collect()
    }

    #[test]
    fn a_name_without_a_number_or_with_a_taken_one_is_a_fault() {
        let folder = Path::new("m");
        let good = [
            ("0001_create_clock.sql", "-- x"),
            ("0002_create_site.sql", "-- x"),
        ];
        assert!(form(folder, &files(&good)).is_empty());
        for bad in ["1_create_x.sql", "0003_x.sql", "0003-create-x.sql"] {
            assert_eq!(form(folder, &files(&[(bad, "-- x")])).len(), 1, "{bad}");
        }
        let twice = [
            ("0001_create_clock.sql", "-- x"),
            ("0001_create_site.sql", "-- x"),
        ];
        assert_eq!(form(folder, &files(&twice)).len(), 1);
        assert_eq!(
            form(folder, &files(&[("0001_create_x.sql", "SELECT 1")])).len(),
            1
        );
    }

    #[test]
    fn a_copy_that_differs_or_is_missing_is_a_fault() {
        let original = files(&[("messaging.sql", "-- a")]);
        let check = |found: &[(&str, &str)]| copies(Path::new("m"), &files(found), &original);
        assert!(check(&[("0002_create_messaging.sql", "-- a")]).is_empty());
        assert_eq!(check(&[("0002_create_messaging.sql", "-- b")]).len(), 1);
        assert_eq!(check(&[("0003_create_site.sql", "-- a")]).len(), 1);
    }
}
