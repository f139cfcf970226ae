//! What every member's `Cargo.toml` must say.

use std::path::Path;

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::check::{Outcome, faultless};
use crate::workspace::Workspace;

/// Generated code, which nobody lints.
const UNLINTED: &str = "candlefish-proto";

pub(super) fn check(workspace: &Workspace) -> Outcome {
    let mut faults = Vec::new();
    for package in workspace.metadata()?.packages {
        let path = package.manifest_path.strip_prefix(&workspace.root);
        let path = path.unwrap_or(&package.manifest_path);
        let manifest = workspace.read(path)?;
        faults.extend(faults_of(path, &package.name, &manifest)?);
    }
    faultless(faults)
}

fn faults_of(path: &Path, name: &str, manifest: &str) -> Result<Vec<String>> {
    let path = path.display();
    let table: Table = manifest.parse().with_context(|| path.to_string())?;
    let mut faults = Vec::new();
    let lints = table.get("lints").and_then(|lints| lints.get("workspace"));
    let inherits = lints == Some(&Value::Boolean(true));
    if inherits == (name == UNLINTED) {
        let word = if inherits {
            "must not inherit"
        } else {
            "must inherit"
        };
        faults.push(format!("{path}: {word} the workspace's lints"));
    }
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(Value::Table(dependencies)) = table.get(section) else {
            continue;
        };
        for (dependency, spec) in dependencies {
            if spec.get("workspace") != Some(&Value::Boolean(true)) {
                faults.push(format!("{path}: {dependency} must say `workspace = true`"));
            }
            if spec.get("features").is_some() {
                faults.push(format!(
                    "{path}: {dependency}'s features belong to the root"
                ));
            }
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(name: &str, manifest: &str) -> usize {
        faults_of(Path::new("Cargo.toml"), name, manifest)
            .unwrap()
            .len()
    }

    #[test]
    fn a_crate_that_forgets_the_lints_is_a_fault() {
        assert_eq!(count("edge", "[lints]\nworkspace = true"), 0);
        assert_eq!(count("edge", "[package]\nname = 'edge'"), 1);
        assert_eq!(count("candlefish-proto", "[package]\nname = 'p'"), 0);
        assert_eq!(count("candlefish-proto", "[lints]\nworkspace = true"), 1);
    }

    #[test]
    fn versions_and_features_in_a_member_are_faults() {
        let lints = "[lints]\nworkspace = true\n[dependencies]\n";
        assert_eq!(count("edge", &format!("{lints}tokio.workspace = true")), 0);
        assert_eq!(count("edge", &format!("{lints}tokio = '1'")), 1);
        let featured = "tokio = { workspace = true, features = ['fs'] }";
        assert_eq!(count("edge", &format!("{lints}{featured}")), 1);
    }
}
