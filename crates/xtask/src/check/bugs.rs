//! The deliberate bugs still fit the code, and their decision names each.

use crate::bugs;
use crate::check::{Outcome, faultless};
use crate::workspace::Workspace;

const RECORD: &str = "docs/adr/0013-deliberate-bugs.md";

pub(super) fn check(workspace: &Workspace) -> Outcome {
    let record = workspace.read(RECORD.as_ref())?;
    let mut faults = Vec::new();
    for patch in bugs::patches(workspace)? {
        let mut apply = bugs::apply(&workspace.root, &workspace.root.join(&patch));
        let out = apply.arg("--check").output()?;
        if !out.status.success() {
            let words = String::from_utf8_lossy(&out.stderr);
            faults.push(format!(
                "{} does not fit any more: {words}",
                patch.display()
            ));
        }
        let name = patch.file_stem().unwrap_or_default().to_string_lossy();
        if !record.contains(&format!("`{name}`")) {
            faults.push(format!("{RECORD} does not name `{name}`"));
        }
    }
    faultless(faults)
}
