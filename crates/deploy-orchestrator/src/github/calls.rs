//! What is asked of GitHub, in our words. Answers are read leniently: what we do not use may be
//! anything, and a word that we do not know is no error where we can do without it.

use http::Method;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    Error,
    client::{Call, GitHub, read},
};

/// GitHub lists no more commits of one comparison.
const MOST_COMMITS: usize = 250;
/// Nor more files.
const MOST_FILES: usize = 300;
/// Files of a page.
const PAGE: usize = 100;
/// Pages of files that are read of one pull request: one that changes more may touch anything.
const PAGES: usize = 10;

/// How a head stands to a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Relation {
    /// It descends from the base.
    Ahead,
    /// The base descends from it.
    Behind,
    /// Neither descends from the other.
    Diverged,
    Identical,
}

/// Two commits compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) relation: Relation,
    /// What the head has and the base has not, oldest first; perhaps not all of it.
    pub(crate) commits: Vec<String>,
    /// The files that differ; none when they are not all listed.
    pub(crate) files: Option<Vec<String>>,
}

/// A file that differs.
#[derive(Deserialize)]
struct File {
    filename: String,
    #[serde(default)]
    previous_filename: Option<String>,
}

impl File {
    /// One that was renamed has two.
    fn names(self) -> impl Iterator<Item = String> {
        [Some(self.filename), self.previous_filename]
            .into_iter()
            .flatten()
    }
}

impl GitHub {
    /// How `head` stands to `base`.
    pub(crate) async fn compare(
        &self,
        repository: &str,
        base: &str,
        head: &str,
    ) -> Result<Comparison, Error> {
        #[derive(Deserialize)]
        struct Answer {
            status: Relation,
            #[serde(default)]
            commits: Vec<Listed>,
            #[serde(default)]
            files: Option<Vec<File>>,
        }
        #[derive(Deserialize)]
        struct Listed {
            sha: String,
        }
        let path = format!("/compare/{base}...{head}");
        let answer: Answer = self.get("compare", repository, &path).await?;
        let files = answer.files.filter(|files| files.len() < MOST_FILES);
        let files = files.filter(|_| answer.commits.len() < MOST_COMMITS);
        Ok(Comparison {
            relation: answer.status,
            commits: answer.commits.into_iter().map(|one| one.sha).collect(),
            files: files.map(|files| files.into_iter().flat_map(File::names).collect()),
        })
    }

    /// The files that a pull request changes; none when there are more than are read. All pages together
    /// may take little longer than one call: what asks is waited for.
    pub(crate) async fn changed_files(
        &self,
        repository: &str,
        number: i32,
    ) -> Result<Option<Vec<String>>, Error> {
        const CALL: &str = "pull_files";
        let after = self.settings().timeout;
        let begun = Instant::now();
        let mut all = Vec::new();
        for page in 1..=PAGES {
            if begun.elapsed() > after {
                return Err(Error::Late { call: CALL, after });
            }
            let path = format!("/pulls/{number}/files?per_page={PAGE}&page={page}");
            let listed: Vec<File> = self.get(CALL, repository, &path).await?;
            let is_last = listed.len() < PAGE;
            all.extend(listed.into_iter().flat_map(File::names));
            if is_last {
                return Ok(Some(all));
            }
        }
        Ok(None)
    }

    pub(super) async fn get<T: serde::de::DeserializeOwned>(
        &self,
        name: &'static str,
        repository: &str,
        path: &str,
    ) -> Result<T, Error> {
        let answer = self.ask(repository, get(name, repository, path)?).await?;
        read(name, answer.body)
    }
}

pub(super) fn get(
    name: &'static str,
    repository: &str,
    path: &str,
) -> Result<Call<'static>, Error> {
    Ok(Call {
        name,
        method: Method::GET,
        path: of_repository(repository, path)?,
        body: None,
    })
}

/// What GitHub may call an owner or a repository; anything else would be another path.
pub(super) fn of_repository(repository: &str, path: &str) -> Result<String, Error> {
    let is_name = |name: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !name.is_empty() && !name.starts_with("..") && name != "." && name.bytes().all(known)
    };
    match repository.split_once('/') {
        Some((owner, name)) if is_name(owner) && is_name(name) => {
            Ok(format!("/repos/{repository}{path}"))
        }
        _ => Err(Error::Repository {
            repository: repository.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_repository_is_asked_about() {
        let path = of_repository("example/docs.site", "/hooks").unwrap();
        assert_eq!(path, "/repos/example/docs.site/hooks");
        for wrong in [
            "docs", "a/b/c", "/b", "a/", "a/..", "../user", "a/b?x", "a/b#", "a b/c",
        ] {
            assert!(of_repository(wrong, "").is_err(), "{wrong}");
        }
    }
}
