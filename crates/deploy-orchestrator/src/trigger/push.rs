//! Reading GitHub's `push`: pure. Fields that we do not use may be anything.

use serde::Deserialize;

use super::{About, head::Seen};

/// GitHub lists no more commits of one push.
const MOST_COMMITS: usize = 2048;
/// Nor more changed files of one commit; what else it changed is not told.
const MOST_FILES: usize = 3000;
/// As many as a release may name.
pub(super) const MOST_ANCESTORS: usize = 1000;
const LINE_MAX: usize = 200;
/// Bytes of a name: many times what GitHub takes, and what an index can hold.
const NAME_MAX: usize = 1000;

/// What a push says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Push {
    /// `owner/name`.
    pub(crate) repository: String,
    pub(crate) target: Target,
    /// Empty for a branch that is new.
    pub(crate) before: String,
    /// Empty for a branch that is gone.
    pub(crate) after: String,
    /// History was rewritten: what was before is no ancestor.
    pub(crate) forced: bool,
    /// By GitHub's clock, in seconds.
    pub(crate) pushed_at: Option<i64>,
    pub(crate) sender: String,
    /// Oldest first.
    commits: Vec<Commit>,
    /// The files of the commits are all that changed.
    listed_whole: bool,
    pub(crate) head: Head,
}

/// What was pushed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Branch(String),
    /// A tag, by its name, or another ref in full.
    Other(String),
}

/// The commit that a branch is at now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Head {
    /// The first line.
    pub(crate) message: String,
    pub(crate) author: String,
    pub(crate) author_email: String,
    pub(crate) committed_at: Option<jiff::Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Commit {
    id: String,
    files: Vec<String>,
}

/// Why a body is no push.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("it is not the JSON of a push: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{field} is no commit")]
    Commit { field: &'static str },
    #[error("{field} is no name")]
    Name { field: &'static str },
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "ref")]
    reference: String,
    before: String,
    after: String,
    #[serde(default)]
    forced: bool,
    repository: Repository,
    #[serde(default)]
    sender: Option<Sender>,
    #[serde(default)]
    commits: Option<Vec<Listed>>,
    #[serde(default)]
    head_commit: Option<Listed>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
    // A number in a push, a text in other deliveries.
    #[serde(default)]
    pushed_at: serde_json::Value,
}

#[derive(Deserialize)]
struct Sender {
    #[serde(default)]
    login: String,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    author: Option<Author>,
    #[serde(default)]
    added: Vec<String>,
    #[serde(default)]
    removed: Vec<String>,
    #[serde(default)]
    modified: Vec<String>,
}

#[derive(Deserialize)]
struct Author {
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: Option<String>,
}

impl Push {
    /// Reads a body.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Error> {
        let body: Body = serde_json::from_slice(body)?;
        let reference = body.reference.as_str();
        let branch = reference.strip_prefix("refs/heads/");
        let other = reference.strip_prefix("refs/tags/").unwrap_or(reference);
        let target = branch.map_or_else(
            || Target::Other(other.to_owned()),
            |branch| Target::Branch(branch.to_owned()),
        );
        let commits = body.commits.unwrap_or_default().into_iter();
        let sender = body.sender.map(|sender| sender.login).unwrap_or_default();
        for (field, name) in [
            ("ref", reference),
            ("repository.full_name", body.repository.full_name.as_str()),
            ("sender.login", sender.as_str()),
        ] {
            if !is_name(name) {
                return Err(Error::Name { field });
            }
        }
        Ok(Self {
            target,
            before: commit("before", &body.before)?,
            after: commit("after", &body.after)?,
            forced: body.forced,
            pushed_at: body.repository.pushed_at.as_i64(),
            repository: body.repository.full_name,
            sender,
            commits: commits
                .map(|one| Commit {
                    id: one.id,
                    files: [one.added, one.removed, one.modified].concat(),
                })
                .collect(),
            head: body.head_commit.map(Head::from).unwrap_or_default(),
            listed_whole: true,
        })
    }

    /// What the push would have said that brought a branch where it was seen.
    pub(super) fn of_head(seen: Seen, head: Head) -> Self {
        let listed_whole = seen.files.is_some();
        let mut files = seen.files.unwrap_or_default();
        let commits = seen.commits.into_iter().map(|id| Commit {
            id,
            // Whose they are does not matter.
            files: std::mem::take(&mut files),
        });
        Self {
            target: Target::Branch(seen.branch),
            forced: seen.before.is_empty(),
            before: seen.before,
            after: seen.commit,
            pushed_at: Some(seen.at),
            repository: seen.repository,
            sender: String::new(),
            commits: commits.collect(),
            head,
            listed_whole,
        }
    }

    /// A commit that a branch is at, of which nothing more is told: neither what it descends from nor
    /// what changed since it was at `before`.
    pub(super) fn of_commit(
        repository: &str,
        target: Target,
        (before, after): (&str, &str),
        pushed_at: i64,
        sender: &str,
        head: Head,
    ) -> Self {
        Self {
            repository: repository.to_owned(),
            target,
            before: before.to_owned(),
            after: after.to_owned(),
            forced: true,
            pushed_at: Some(pushed_at),
            sender: sender.to_owned(),
            commits: Vec::new(),
            head,
            listed_whole: false,
        }
    }

    /// The files that it changes; none when GitHub does not list all of them.
    pub(crate) fn changed(&self) -> Option<Vec<String>> {
        let whole = self.listed_whole
            && !self.forced
            && !self.before.is_empty()
            && !self.commits.is_empty()
            && self.commits.len() < MOST_COMMITS
            && self.commits.iter().all(Commit::is_whole);
        let files = self.commits.iter().flat_map(|one| one.files.iter());
        whole.then(|| files.cloned().collect())
    }

    /// Ancestors of the commit, nearest first, as far as the push tells: the commits that it brings,
    /// and what the branch was at before, unless history was rewritten.
    pub(crate) fn ancestors(&self) -> Vec<String> {
        let mut ancestors: Vec<String> = Vec::new();
        let brought = self.commits.iter().rev().map(|one| &one.id);
        let before = Some(&self.before).filter(|before| !self.forced && !before.is_empty());
        for one in brought.chain(before) {
            if *one != self.after && is_commit(one) && !ancestors.contains(one) {
                ancestors.push(one.clone());
            }
            if ancestors.len() == MOST_ANCESTORS {
                break;
            }
        }
        ancestors
    }

    /// What its trigger says of it.
    pub(crate) fn about(&self) -> About {
        About {
            repository: self.repository.clone(),
            branch: self.branch().to_owned(),
            commit: self.after.clone(),
            before: self.before.clone(),
            pushed_at: self.pushed_at,
            sender: self.sender.clone(),
            pull_request: None,
        }
    }

    /// As it is named in words.
    pub(crate) fn branch(&self) -> &str {
        match &self.target {
            Target::Branch(name) | Target::Other(name) => name,
        }
    }
}

impl Commit {
    /// Its files are all that it changed.
    fn is_whole(&self) -> bool {
        self.files.len() < MOST_FILES
    }
}

impl Head {
    pub(super) fn new(
        message: &str,
        author: &str,
        author_email: &str,
        committed_at: Option<jiff::Timestamp>,
    ) -> Self {
        Self {
            message: line(message),
            author: line(author),
            author_email: line(author_email),
            committed_at,
        }
    }
}

impl From<Listed> for Head {
    fn from(listed: Listed) -> Self {
        let (author, author_email) = listed
            .author
            .map(|one| (one.name, one.email.unwrap_or_default()))
            .unwrap_or_default();
        let committed_at = listed.timestamp.and_then(|text| text.parse().ok());
        Self::new(&listed.message, &author, &author_email, committed_at)
    }
}

/// The first line, without what would not print.
fn line(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let printed = first.chars().filter(|c| !c.is_control());
    printed.take(LINE_MAX).collect()
}

/// A commit; empty for the one that stands for none.
fn commit(field: &'static str, text: &str) -> Result<String, Error> {
    if !is_commit(text) {
        return Err(Error::Commit { field });
    }
    let none = text.bytes().all(|byte| byte == b'0');
    Ok(if none { String::new() } else { text.to_owned() })
}

/// A name that a row can hold; whoever sends another is told so, and not tried for ever.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX && !text.contains('\0')
}

pub(super) fn is_commit(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    matches!(text.len(), 40 | 64) && text.bytes().all(hex)
}

#[cfg(test)]
mod tests;
