//! Links between documents lead somewhere.

use std::collections::BTreeSet;
use std::path::Path;

use crate::check::{Outcome, faultless};
use crate::workspace::Workspace;

pub(super) fn check(workspace: &Workspace) -> Outcome {
    let mut faults = Vec::new();
    let mut all = Vec::new();
    for folder in [
        "docs", "crates", "proto", "examples", "helm", "argocd", "tests",
    ] {
        all.extend(workspace.files(folder)?);
    }
    all.extend(["README.md", "CHANGELOG.md"].map(Into::into));
    for path in all {
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = workspace.read(&path)?;
        for link in links(&text) {
            if let Some(fault) = fault_of(workspace, &path, &text, link) {
                faults.push(format!("{}: {fault}", path.display()));
            }
        }
    }
    faultless(faults)
}

fn fault_of(workspace: &Workspace, path: &Path, text: &str, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() {
        text.to_owned()
    } else {
        let whole = workspace.root.join(path).parent()?.join(file);
        if !whole.exists() {
            return Some(format!("{link} leads nowhere"));
        }
        if anchor.is_empty() || whole.is_dir() {
            return None;
        }
        std::fs::read_to_string(whole).ok()?
    };
    let known = anchor.is_empty() || anchors(&target).contains(anchor);
    (!known).then(|| format!("{link}: no such heading"))
}

/// Targets of `[text](target)`, outside of code.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in prose(text) {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, behind)) = after.split_once(')') else {
                break;
            };
            found.push(target.split(' ').next().unwrap_or_default());
            rest = behind;
        }
    }
    found
}

/// Anchors of headings, as forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter_map(|line| line.strip_prefix('#'));
    let slugs = headings.map(|heading| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    });
    slugs.collect()
}

fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_of_code_only() {
        let text = "See [a](a.md) and [b](b.md#c \"d\").\n```\n[no](no.md)\n```\n[e](#f)";
        assert_eq!(links(text), ["a.md", "b.md#c", "#f"]);
    }

    #[test]
    fn a_heading_gives_the_anchor_that_a_forge_makes() {
        let known = anchors("# One thing, and `another`\n## Two");
        assert!(known.contains("one-thing-and-another"), "{known:?}");
        assert!(known.contains("two"));
    }
}
