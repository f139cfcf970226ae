//! Which pushes deploy to an environment by themselves: a branch, and the files that count.

use candlefish_proto::deploy as pb;

use crate::field::Faults;

const BRANCH_MAX: usize = 250;
const PATHS_MAX: usize = 50;
const PATH_MAX: usize = 200;

/// The rule of one environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PushRule {
    /// Without `refs/heads/`; empty for none.
    pub(crate) branch: String,
    /// Patterns of files that count; none for all.
    pub(crate) paths: Vec<String>,
}

impl PushRule {
    /// Reads the rule at the field `path` of a request.
    pub(crate) fn read(faults: &mut Faults, path: &str, given: &pb::PushRule) -> Self {
        let field = format!("{path}.branch");
        if given.branch.starts_with("refs/") {
            faults.add(&field, "is named without refs/heads/");
        }
        let branch = faults.optional_text(&field, &given.branch, BRANCH_MAX);
        if branch.is_empty() && !given.paths.is_empty() {
            faults.add(&field, "is needed with paths");
        }
        if given.paths.len() > PATHS_MAX {
            let count = given.paths.len();
            faults.add(
                format!("{path}.paths"),
                format!("has {count}; at most {PATHS_MAX} fit"),
            );
        }
        for (place, pattern) in given.paths.iter().take(PATHS_MAX).enumerate() {
            let field = format!("{path}.paths[{place}]");
            faults.text(&field, pattern, PATH_MAX);
            if pattern.trim_start_matches('!').starts_with('/') {
                faults.add(field, "begins at the repository's root, without a slash");
            }
        }
        Self {
            branch,
            paths: given.paths.clone(),
        }
    }

    /// Whether any of these files counts. The last pattern that fits a file decides about it; a rule
    /// that begins by leaving out takes everything else.
    pub(crate) fn counts(&self, changed: &[String]) -> bool {
        self.paths.is_empty() || changed.iter().any(|file| self.counts_one(file))
    }

    fn counts_one(&self, file: &str) -> bool {
        let begins_out = self.paths.first().is_some_and(|one| one.starts_with('!'));
        let decided = self
            .paths
            .iter()
            .rev()
            .find_map(|pattern| match pattern.strip_prefix('!') {
                Some(left_out) => fits(left_out, file).then_some(false),
                None => fits(pattern, file).then_some(true),
            });
        decided.unwrap_or(begins_out)
    }
}

impl From<&PushRule> for pb::PushRule {
    fn from(rule: &PushRule) -> Self {
        Self {
            branch: rule.branch.clone(),
            paths: rule.paths.clone(),
        }
    }
}

/// Whether a pattern fits a file, or a folder that it is in.
fn fits(pattern: &str, file: &str) -> bool {
    let segments: Vec<&str> = file.split('/').collect();
    // How many segments of the file the pattern may have used so far.
    let mut used = vec![false; segments.len() + 1];
    if let Some(none) = used.first_mut() {
        *none = true;
    }
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = vec![false; used.len()];
        let mut any_before = false;
        for (place, was_used) in used.iter().enumerate() {
            any_before |= *was_used;
            if part == "**" {
                if let Some(here) = next.get_mut(place) {
                    *here = any_before;
                }
            } else if *was_used
                && segments
                    .get(place)
                    .is_some_and(|one| fits_segment(part, one))
                && let Some(behind) = next.get_mut(place + 1)
            {
                *behind = true;
            }
        }
        used = next;
    }
    used.contains(&true)
}

/// `*` stands for any characters.
fn fits_segment(pattern: &str, segment: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == segment;
    };
    let Some(mut left) = segment.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = left.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    left.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(paths: &[&str], file: &str) -> bool {
        let rule = PushRule {
            branch: "main".to_owned(),
            paths: paths.iter().map(|&one| one.to_owned()).collect(),
        };
        rule.counts(&[file.to_owned()])
    }

    #[test]
    fn without_patterns_everything_counts() {
        assert!(counts(&[], "anything"));
        assert!(PushRule::default().counts(&[]));
    }

    #[test]
    fn a_pattern_fits_a_file_or_the_folder_it_is_in() {
        for (pattern, file, expected) in [
            ("docs", "docs/a.md", true),
            ("docs/", "docs/deep/a.md", true),
            ("docs", "docs", true),
            ("docs", "docs2/a.md", false),
            ("docs", "site/docs/a.md", false),
            ("README.md", "README.md", true),
            ("*.md", "README.md", true),
            ("*.md", "docs/README.md", false),
            ("**/*.md", "README.md", true),
            ("**/*.md", "docs/deep/README.md", true),
            ("**/*.md", "docs/deep/README.txt", false),
            ("docs/**/img", "docs/a/b/img/x.png", true),
            ("docs/**/img", "docs/img/x.png", true),
            ("docs/**/img", "docs/imgs/x.png", false),
            ("docs/*/x", "docs/a/b/x", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("**", "anything/at/all", true),
        ] {
            assert_eq!(counts(&[pattern], file), expected, "{pattern} {file}");
        }
    }

    #[test]
    fn the_last_pattern_that_fits_decides() {
        let rule = &["docs/", "!docs/drafts/", "docs/drafts/soon.md"];
        assert!(counts(rule, "docs/a.md"));
        assert!(!counts(rule, "docs/drafts/a.md"));
        assert!(counts(rule, "docs/drafts/soon.md"));
        assert!(!counts(rule, "src/main.rs"));
        let others = &["!vendor/"];
        assert!(counts(others, "src/main.rs"));
        assert!(!counts(others, "vendor/x.rs"));
    }

    #[test]
    fn many_stars_cost_no_time() {
        let pattern = "**/".repeat(60) + "z";
        assert!(!counts(&[&pattern], &"a/".repeat(500)));
        let stars = "*a".repeat(90) + "b";
        assert!(!counts(&[&stars], &"a".repeat(2000)));
    }
}
