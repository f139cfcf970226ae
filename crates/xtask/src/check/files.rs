//! Sizes and names of source files.

use std::path::Path;

use crate::check::{Outcome, faultless};
use crate::workspace::Workspace;

/// A file longer than this hides a noun that is missing.
const LONGEST: usize = 500;
const LONGEST_TEST: usize = 800;

pub(super) fn check(workspace: &Workspace) -> Outcome {
    let mut faults = Vec::new();
    for folder in ["crates", "tests"] {
        for path in workspace.files(folder)? {
            if path.extension().is_some_and(|extension| extension == "rs") {
                let lines = workspace.read(&path)?.lines().count();
                faults.extend(fault_of(&path, lines));
            }
        }
    }
    faultless(faults)
}

fn fault_of(path: &Path, lines: usize) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let shown = path.display();
    if name == "mod.rs" {
        return Some(format!(
            "{shown}: the face of a folder is the file beside it"
        ));
    }
    let limit = if is_test(path, name) {
        LONGEST_TEST
    } else {
        LONGEST
    };
    (lines > limit).then(|| format!("{shown}: {lines} lines, of at most {limit}"))
}

fn is_test(path: &Path, name: &str) -> bool {
    let mut parts = path.components();
    name == "tests.rs" || parts.any(|part| part.as_os_str() == "tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_fault(path: &str, lines: usize) -> bool {
        fault_of(Path::new(path), lines).is_some()
    }

    #[test]
    fn tests_may_be_longer_than_code() {
        assert!(!is_fault("crates/edge/src/serve.rs", 500));
        assert!(is_fault("crates/edge/src/serve.rs", 501));
        assert!(!is_fault("crates/edge/src/serve/tests.rs", 800));
        assert!(!is_fault("crates/edge/tests/it/main.rs", 800));
        assert!(is_fault("crates/edge/tests/it/main.rs", 801));
    }

    #[test]
    fn a_mod_rs_is_a_fault() {
        assert!(is_fault("crates/edge/src/serve/mod.rs", 1));
    }
}
