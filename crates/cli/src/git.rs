//! What git knows about the tree that is deployed. Asks `git` itself, so that worktrees,
//! submodules and configuration mean what they mean to the person.

use std::{
    io,
    path::Path,
    process::{Command, Output},
};

/// How many ancestors the API takes.
const ANCESTORS: usize = 1000;

/// Where a release was built from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Its hash.
    pub(crate) id: String,
    /// Its parents.
    pub(crate) parents: Vec<String>,
    /// Its ancestors, nearest first.
    pub(crate) ancestors: Vec<String>,
    /// The branch that is checked out; empty when none is.
    pub(crate) branch: String,
    /// Its first line.
    pub(crate) message: String,
    /// Its author, by name.
    pub(crate) author: String,
    /// The author's address.
    pub(crate) author_email: String,
    /// When it was made, in seconds since 1970.
    pub(crate) committed_at: Option<i64>,
    /// The tree has changes that no commit holds.
    pub(crate) dirty: bool,
    /// The clone is shallow: there are more ancestors than are known here.
    pub(crate) shallow: bool,
}

impl Commit {
    /// A commit of which nothing is known but its hash; `None` unless that is a whole one.
    pub(crate) fn of_hash(id: &str) -> Option<Self> {
        let whole = matches!(id.len(), 40 | 64) && id.bytes().all(|b| b.is_ascii_hexdigit());
        whole.then(|| Self {
            id: id.to_ascii_lowercase(),
            ..Self::default()
        })
    }
}

/// Why the commit is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `git` does not start.
    #[error("cannot start git")]
    Start(#[source] io::Error),
    /// `git` says no.
    #[error("git refuses: {words}")]
    Refused {
        /// Its first line of complaint.
        words: String,
    },
    /// No such commit here.
    #[error("{id:?} is neither a commit of this tree nor a whole hash")]
    Unknown {
        /// As it was given.
        id: String,
    },
}

/// The commit that `folder` has checked out; `None` outside a working tree and before the first
/// commit.
pub(crate) fn head(folder: &Path) -> Result<Option<Commit>, Error> {
    let git = Git { folder };
    let inside = match git.run(&["rev-parse", "--is-inside-work-tree"]) {
        // A machine without git has no commit to name.
        Err(Error::Start(source)) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if !inside.status.success() {
        let words = first_line(&inside.stderr);
        // Another refusal ("dubious ownership") means that there is a commit, not that there is none.
        return if words.contains("not a git repository") {
            Ok(None)
        } else {
            Err(Error::Refused { words })
        };
    }
    if !git
        .run(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])?
        .status
        .success()
    {
        return Ok(None);
    }
    let mut commit = git.commit("HEAD")?;
    commit.branch = git.text(&["branch", "--show-current"])?;
    commit.dirty = git.is_dirty()?;
    Ok(Some(commit))
}

/// The commit that somebody named; only its hash when this tree does not have it.
pub(crate) fn named(folder: &Path, id: &str) -> Result<Commit, Error> {
    let git = Git { folder };
    let verified = git.run(&[
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &format!("{id}^{{commit}}"),
    ]);
    if let Ok(done) = verified
        && done.status.success()
    {
        return git.commit(&first_line(&done.stdout));
    }
    Commit::of_hash(id).ok_or_else(|| Error::Unknown { id: id.to_owned() })
}

struct Git<'a> {
    folder: &'a Path,
}

impl Git<'_> {
    fn run(&self, arguments: &[&str]) -> Result<Output, Error> {
        Command::new("git")
            .arg("-C")
            .arg(self.folder)
            .args(arguments)
            // Looking must not lock the index of somebody who works in the tree.
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("LC_ALL", "C")
            .output()
            .map_err(Error::Start)
    }

    fn text(&self, arguments: &[&str]) -> Result<String, Error> {
        let output = self.run(arguments)?;
        if !output.status.success() {
            return Err(Error::Refused {
                words: first_line(&output.stderr),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    fn commit(&self, id: &str) -> Result<Commit, Error> {
        let shown = self.text(&[
            "log",
            "-1",
            "--no-show-signature",
            "--format=%H%x00%P%x00%an%x00%ae%x00%ct%x00%s",
            id,
        ])?;
        let mut fields = shown.split('\0').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let (id, parents, author, author_email, time, message) =
            (next(), next(), next(), next(), next(), next());
        // One more than the API takes: the commit itself comes first.
        let list = self.text(&["rev-list", &format!("--max-count={}", ANCESTORS + 1), &id])?;
        Ok(Commit {
            parents: parents
                .split_whitespace()
                .take(16)
                .map(str::to_owned)
                .collect(),
            ancestors: list.lines().skip(1).map(str::to_owned).collect(),
            branch: String::new(),
            message: shorten(&message, 200),
            author: shorten(&author, 100),
            author_email: shorten(&author_email, 254),
            committed_at: time.parse().ok(),
            dirty: false,
            shallow: self.text(&["rev-parse", "--is-shallow-repository"])? == "true",
            id,
        })
    }

    /// Any change of a tracked file counts, and any file that git neither tracks nor ignores. A
    /// folder without a tracked file is the output of a build: what lies there is no change.
    fn is_dirty(&self) -> Result<bool, Error> {
        let is_output = self.text(&["ls-files", "--", "."])?.is_empty();
        let mut arguments = vec![
            "status",
            "--porcelain",
            "--untracked-files=normal",
            "--",
            ":/",
        ];
        if is_output {
            arguments.push(":(exclude).");
        }
        Ok(!self.text(&arguments)?.is_empty())
    }
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// What prints of a text, at most this many letters: the API takes no control characters, and a
/// commit may have some.
fn shorten(text: &str, letters: usize) -> String {
    let printed = text.chars().filter(|letter| !letter.is_control());
    printed.take(letters).collect()
}

#[cfg(test)]
mod tests;
