//! Which files a pull request changes, and whether they count where its preview is to open.
//!
//! Nobody but GitHub knows them all: it is asked once for all sites, and only when a site cannot be decided
//! without it. What it does not say may be anything: a preview too many is better than one that is missing.
//! Where it could not say, it is asked once more later ([`super::unanswered`]).

use super::read::PullRequest;
use crate::{github::GitHub, site::pushes::PushRule, step::worker::chain};

/// The files that a pull request changes, as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changed {
    NotAsked,
    /// GitHub is not asked, or refuses, or there are too many: they will not be known.
    Unknown,
    /// GitHub rests, limits, fails or is late: it may say later.
    Unanswered,
    Files(Vec<String>),
}

/// What an environment that follows the base branch says of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Its slug.
    pub(super) environment: String,
    pub(super) pushes: PushRule,
}

/// Whether a site is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Counts {
    Yes,
    /// For all that is known; GitHub owes the answer.
    Owed,
    /// Whatever is changed: its preview is open, or stays closed.
    Anyway,
    /// And why not.
    No(String),
    /// The files decide, and nobody asked for them.
    NotAsked,
}

impl Changed {
    /// Asks GitHub.
    pub(super) async fn ask(github: &GitHub, told: &PullRequest) -> Self {
        let (repository, number) = (&told.repository, told.number);
        match github.changed_files(repository, number).await {
            Ok(Some(files)) => Self::Files(files),
            Ok(None) => {
                tracing::info!(
                    repository,
                    number,
                    "a pull request changes too many files: it gets its previews"
                );
                Self::Unknown
            }
            Err(error) => {
                tracing::info!(
                    repository, number, error = %chain(&error),
                    "the files of a pull request are not known: it gets its previews"
                );
                if error.is_outage() {
                    Self::Unanswered
                } else {
                    Self::Unknown
                }
            }
        }
    }
}

/// Whether what a pull request changes counts at a site, by what the environments say that follow its base
/// branch. Without any of these, or with one that takes every file, all counts.
pub(super) fn count(number: i32, site: &str, rules: &[Rule], changed: &Changed) -> Counts {
    if rules.is_empty() || rules.iter().any(|rule| rule.pushes.paths.is_empty()) {
        return Counts::Yes;
    }
    let files = match changed {
        Changed::NotAsked => return Counts::NotAsked,
        Changed::Unknown => return Counts::Yes,
        Changed::Unanswered => return Counts::Owed,
        Changed::Files(files) => files,
    };
    if rules.iter().any(|rule| rule.pushes.counts(files)) {
        return Counts::Yes;
    }
    let places: Vec<String> = rules
        .iter()
        .map(|rule| {
            let paths = rule.pushes.paths.join(", ");
            format!("{site}/{}: {paths}", rule.environment)
        })
        .collect();
    Counts::No(format!(
        "pull request {number} changes nothing that counts for {}",
        places.join("; nor for ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(of: &[(&str, &[&str])]) -> Vec<Rule> {
        let rules = of.iter().map(|(environment, paths)| Rule {
            environment: (*environment).to_owned(),
            pushes: PushRule {
                branch: "main".to_owned(),
                paths: paths.iter().map(|&one| one.to_owned()).collect(),
            },
        });
        rules.collect()
    }

    fn files(names: &[&str]) -> Changed {
        Changed::Files(names.iter().map(|&one| one.to_owned()).collect())
    }

    #[test]
    fn files_are_asked_for_only_where_every_environment_has_paths() {
        let both = rules(&[("production", &["docs/"]), ("staging", &[])]);
        for taking_all in [&both[..0], &both[..]] {
            for changed in [
                Changed::NotAsked,
                Changed::Unknown,
                Changed::Unanswered,
                files(&["src/a.rs"]),
            ] {
                assert_eq!(count(12, "docs", taking_all, &changed), Counts::Yes);
            }
        }
        let one = &both[..1];
        assert_eq!(count(12, "docs", one, &Changed::NotAsked), Counts::NotAsked);
        assert_eq!(count(12, "docs", one, &Changed::Unknown), Counts::Yes);
        assert_eq!(count(12, "docs", one, &Changed::Unanswered), Counts::Owed);
    }

    #[test]
    fn one_environment_for_which_a_file_counts_is_enough() {
        let both = rules(&[
            ("production", &["docs/", "!docs/drafts/"]),
            ("staging", &["src/"]),
        ]);
        for (name, expected) in [("docs/a.md", true), ("src/a.rs", true), ("a.md", false)] {
            let counts = count(12, "docs", &both, &files(&["x/y", name]));
            assert_eq!(counts == Counts::Yes, expected, "{name}");
        }
        let words = "pull request 12 changes nothing that counts for docs/production: docs/, \
                     !docs/drafts/; nor for docs/staging: src/";
        let no = Counts::No(words.to_owned());
        assert_eq!(count(12, "docs", &both, &files(&["docs/drafts/a.md"])), no);
        assert_eq!(count(12, "docs", &both, &files(&[])), no);
    }
}
