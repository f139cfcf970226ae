//! Reading GitHub's `pull_request`: pure. Fields that we do not use may be anything.

use serde::Deserialize;

use super::super::{
    About,
    push::{Head, Push, Target, is_commit, is_name},
};

/// What a delivery says of a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PullRequest {
    /// `owner/name`, where it is to be merged.
    pub(crate) repository: String,
    pub(crate) number: i32,
    pub(crate) action: Action,
    pub(crate) is_open: bool,
    pub(crate) merged: bool,
    /// Its branch is in another repository, or in one that is gone.
    pub(crate) is_fork: bool,
    pub(crate) branch: String,
    /// The branch that it is to be merged into.
    pub(crate) base: String,
    /// The commit that it is at.
    pub(crate) head: String,
    /// The commit that it was at, where the delivery says so.
    pub(crate) before: String,
    /// By GitHub's clock, in seconds.
    pub(crate) updated_at: i64,
    pub(crate) title: String,
    pub(crate) author: String,
    pub(crate) sender: String,
}

/// What happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Opened,
    Reopened,
    /// It was pushed to.
    Synchronized,
    /// It is no draft any more.
    Ready,
    Closed,
    /// No delivery told of it: GitHub lists it so.
    Seen {
        /// It was opened after the first look.
        is_new: bool,
    },
    /// Something that changes no content, in GitHub's word.
    Other(String),
}

/// Why a body is no pull request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("it is not the JSON of a pull request: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{field} is no commit")]
    Commit { field: &'static str },
    #[error("{field} is no name")]
    Name { field: &'static str },
    #[error("updated_at is no moment")]
    Moment,
    #[error("{0} is no number of a pull request")]
    Number(i32),
}

#[derive(Deserialize)]
struct Body {
    action: String,
    number: i32,
    pull_request: Described,
    repository: Repository,
    #[serde(default)]
    before: String,
    #[serde(default)]
    sender: Option<User>,
}

/// A pull request as deliveries and lists describe it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Described {
    number: i32,
    state: String,
    // Lists say when, deliveries whether.
    #[serde(default)]
    merged: Option<bool>,
    #[serde(default)]
    merged_at: Option<String>,
    #[serde(default)]
    title: String,
    #[serde(default)]
    created_at: String,
    updated_at: String,
    #[serde(default)]
    user: Option<User>,
    head: Side,
    base: Side,
}

#[derive(Debug, Clone, Deserialize)]
struct Side {
    #[serde(rename = "ref")]
    branch: String,
    sha: String,
    // Gone, when the fork was deleted.
    #[serde(default)]
    repo: Option<Repository>,
}

#[derive(Debug, Clone, Deserialize)]
struct Repository {
    full_name: String,
}

#[derive(Debug, Clone, Deserialize)]
struct User {
    #[serde(default)]
    login: String,
}

impl PullRequest {
    /// Reads a body.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Error> {
        let body: Body = serde_json::from_slice(body)?;
        let action = Action::of(body.action);
        let mut told = Self::described(body.repository.full_name, body.pull_request, action)?;
        told.number = checked(body.number)?;
        if is_commit(&body.before) {
            told.before = body.before;
        }
        told.sender = named("sender.login", login(body.sender))?;
        Ok(told)
    }

    /// Reads what a list says of it; it is new when it was opened after that second of GitHub's clock.
    pub(super) fn listed(listed: Described, new_since: Option<i64>) -> Result<Self, Error> {
        let base = listed.base.repo.as_ref();
        let repository = base.map(|base| base.full_name.clone()).unwrap_or_default();
        let created_at = moment(&listed.created_at);
        let is_new = new_since
            .zip(created_at)
            .is_some_and(|(since, at)| at > since);
        Self::described(repository, listed, Action::Seen { is_new })
    }

    fn described(repository: String, described: Described, action: Action) -> Result<Self, Error> {
        let updated_at = described.updated_at().ok_or(Error::Moment)?;
        let (head, base) = (described.head, described.base);
        if !is_commit(&head.sha) {
            return Err(Error::Commit { field: "head.sha" });
        }
        let is_own = head.repo.as_ref().zip(base.repo.as_ref());
        let is_own = is_own.is_some_and(|(head, base)| same(&head.full_name, &base.full_name));
        Ok(Self {
            repository: named("repository.full_name", repository)?,
            number: checked(described.number)?,
            action,
            is_open: described.state == "open",
            merged: described
                .merged
                .unwrap_or_else(|| described.merged_at.is_some()),
            is_fork: !is_own,
            branch: named("head.ref", head.branch)?,
            base: named("base.ref", base.branch)?,
            head: head.sha,
            before: String::new(),
            updated_at,
            title: described.title,
            author: login(described.user),
            sender: String::new(),
        })
    }

    /// What its trigger says of it.
    pub(super) fn about(&self) -> About {
        About {
            pull_request: Some(self.number),
            ..self.push().about()
        }
    }

    /// Its head as a push would have told it. What it descends from is not said: history may have been
    /// rewritten.
    pub(super) fn push(&self) -> Push {
        let head = Head::new(&self.title, &self.author, "", None);
        Push::of_commit(
            &self.repository,
            Target::Branch(self.branch.clone()),
            (&self.before, &self.head),
            self.updated_at,
            &self.sender,
            head,
        )
    }
}

impl Described {
    /// In seconds of GitHub's clock.
    pub(crate) fn updated_at(&self) -> Option<i64> {
        moment(&self.updated_at)
    }
}

impl Action {
    fn of(word: String) -> Self {
        match word.as_str() {
            "opened" => Self::Opened,
            "reopened" => Self::Reopened,
            "synchronize" => Self::Synchronized,
            "ready_for_review" => Self::Ready,
            "closed" => Self::Closed,
            _ => Self::Other(word),
        }
    }
}

fn moment(text: &str) -> Option<i64> {
    let moment: Option<jiff::Timestamp> = text.parse().ok();
    moment.map(jiff::Timestamp::as_second)
}

fn checked(number: i32) -> Result<i32, Error> {
    if number < 1 {
        return Err(Error::Number(number));
    }
    Ok(number)
}

fn named(field: &'static str, name: String) -> Result<String, Error> {
    if is_name(&name) {
        Ok(name)
    } else {
        Err(Error::Name { field })
    }
}

fn login(user: Option<User>) -> String {
    user.map(|user| user.login).unwrap_or_default()
}

/// GitHub's names differ in case alone for nobody.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use candlefish_testkit::github;
    use serde_json::Value;

    use super::*;

    fn read(change: impl Fn(&mut Value)) -> Result<PullRequest, Error> {
        let mut example = github::pull_request_synchronize();
        change(&mut example.body);
        PullRequest::read(example.body.to_string().as_bytes())
    }

    #[test]
    fn the_published_examples_are_read() {
        let opened = github::pull_request_opened().body.to_string();
        let opened = PullRequest::read(opened.as_bytes()).unwrap();
        assert_eq!(opened.action, Action::Opened);
        assert_eq!(
            (opened.number, opened.is_open, opened.is_fork),
            (2, true, false)
        );
        assert_eq!(opened.repository, "Codertocat/Hello-World");
        assert_eq!((&*opened.branch, &*opened.base), ("changes", "master"));
        assert_eq!(opened.head, "ec26c3e57ca3a959ca5aad62de7213c562f8c821");
        assert_eq!(
            (opened.before.as_str(), opened.updated_at),
            ("", 1_557_933_633)
        );
        let pushed = read(|_| {}).unwrap();
        assert_eq!(pushed.action, Action::Synchronized);
        assert_eq!(pushed.before, "f95f852bd8fca8fcc58a9a2d6c842781e32a215e");
        assert_eq!(pushed.push().ancestors(), Vec::<String>::new());
        assert_eq!(pushed.about().pull_request, Some(2));
    }

    #[test]
    fn a_fork_is_another_repository_or_one_that_is_gone() {
        let head = |value: Value| {
            let read = read(|body| body["pull_request"]["head"]["repo"] = value.clone());
            read.unwrap().is_fork
        };
        assert!(head(Value::Null));
        assert!(head(
            serde_json::json!({"full_name": "mallory/Hello-World"})
        ));
        assert!(!head(
            serde_json::json!({"full_name": "codertocat/hello-world"})
        ));
    }

    #[test]
    fn what_is_no_pull_request_says_why() {
        let words = |change: fn(&mut Value)| read(change).unwrap_err().to_string();
        assert!(words(|body| body["number"] = 0.into()).contains("no number"));
        assert!(
            words(|body| body["pull_request"]["head"]["sha"] = "x".into()).contains("head.sha")
        );
        assert!(
            words(|body| body["pull_request"]["updated_at"] = "soon".into()).contains("moment")
        );
        assert!(
            words(|body| body["pull_request"]["base"]["ref"] = "a\0b".into()).contains("base.ref")
        );
        assert!(words(|body| body["sender"]["login"] = "a\0b".into()).contains("no name"));
        assert!(words(|body| body["pull_request"] = Value::Null).contains("not the JSON"));
        assert!(PullRequest::read(b"{").is_err());
    }
}
