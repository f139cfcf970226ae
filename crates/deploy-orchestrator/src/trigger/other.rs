//! Deliveries that make nothing happen: what they are about, and why nothing follows. Reading is pure.
//!
//! They leave a trigger all the same, so that whoever asks what became of one is answered; that a branch is
//! [gone] leaves one where it is followed. What can be read and names no repository keeps its note only.

use serde_json::Value;

use super::{
    About, Delivery, Error, gone, note,
    outcome::{Outcome, Reason},
    push::is_commit,
    store::{self, SiteOf},
};
use crate::ctx::Ctx;

/// As much of a name as a sentence needs.
const NAME_MAX: usize = 100;
/// As long as the branch that an environment follows may be: it is compared with that.
const BRANCH_MAX: usize = 250;
/// GitHub's are no longer; a site's neither.
const REPOSITORY_MAX: usize = 140;
/// As much of a reason: an error may repeat what was sent.
const WORDS_MAX: usize = 300;

/// What such a delivery says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Other {
    about: About,
    reason: Reason,
    words: String,
    /// A branch was deleted, not a tag: that concerns whatever follows it.
    is_branch_gone: bool,
}

impl Other {
    /// Reads a body; none when it names no repository.
    pub(super) fn read(event: &str, body: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        let body: Value = serde_json::from_slice(body)?;
        let read = Self::of(event, &body);
        Ok(Some(read).filter(|read| !read.about.repository.is_empty()))
    }

    fn of(event: &str, body: &Value) -> Self {
        let mut about = About {
            repository: text_of(body, "/repository/full_name", REPOSITORY_MAX),
            sender: text(body, "/sender/login"),
            ..About::default()
        };
        let mut reason = Reason::NotActedOn;
        let words = match event {
            "create" | "delete" => {
                about.branch = text_of(body, "/ref", BRANCH_MAX);
                let what = format!("the {} {}", text(body, "/ref_type"), about.branch);
                if event == "delete" {
                    reason = Reason::Deleted;
                    format!("{what} was deleted; what is live stays")
                } else {
                    format!("{what} was made; its push says what becomes of it")
                }
            }
            "release" => {
                about.branch = text(body, "/release/tag_name");
                let (tag, action) = (&about.branch, text(body, "/action"));
                format!("the release {tag} was {action}; nothing deploys for a release")
            }
            "workflow_run" => {
                about.branch = text(body, "/workflow_run/head_branch");
                about.commit = commit(text(body, "/workflow_run/head_sha"));
                let action = text(body, "/action");
                format!("a workflow's run is {action}; what it builds, it uploads itself")
            }
            // Of these two only what cannot be read comes here.
            "push" => {
                let reference = text(body, "/ref");
                let tag = reference.strip_prefix("refs/tags/");
                let name = reference.strip_prefix("refs/heads/").or(tag);
                name.unwrap_or(&reference).clone_into(&mut about.branch);
                about.commit = commit(text(body, "/after"));
                format!("nothing is done for {event}")
            }
            "pull_request" => {
                about.branch = text(body, "/pull_request/head/ref");
                about.commit = commit(text(body, "/pull_request/head/sha"));
                format!("nothing is done for {event}")
            }
            "ping" => "GitHub says that the webhook works".to_owned(),
            other => format!("nothing is done for {other}"),
        };
        Self {
            about,
            reason,
            words,
            is_branch_gone: event == "delete" && text(body, "/ref_type") == "branch",
        }
    }

    /// A delivery that is not what its event's are; what it is about as far as that can be read.
    pub(super) fn unreadable(event: &str, body: &[u8], why: &str) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        Self {
            reason: Reason::Unreadable,
            words: printed(why, WORDS_MAX),
            ..Self::of(event, &body)
        }
    }

    /// Why nothing follows.
    pub(super) fn words(&self) -> &str {
        &self.words
    }

    /// Writes it down at every site of its repository; answers what there is to note of it as a whole.
    pub(super) async fn decide(self, ctx: &Ctx, delivery: &Delivery) -> Result<String, Error> {
        let mut conn = ctx.pool.acquire().await?;
        let sites = store::list_sites(&mut conn, &self.about.repository).await?;
        drop(conn);
        if sites.is_empty() {
            return self.of_no_site(ctx, delivery).await;
        }
        // A site where it cannot be written keeps no other.
        let mut all = Ok(());
        for site in sites {
            all = all.and(self.of_site(ctx, delivery, &site).await);
        }
        all.map(|()| self.words)
    }

    async fn of_site(&self, ctx: &Ctx, delivery: &Delivery, site: &SiteOf) -> Result<(), Error> {
        if self.is_branch_gone {
            return gone::of_site(ctx, delivery, &self.about, site, &self.words).await;
        }
        let told = (Outcome::Ignored(self.reason, None), self.words.clone());
        note::of_site(ctx, delivery, &self.about, Some(site.id), told).await
    }

    /// What cannot be read is as a push is then: one trigger without a site, for it may have been one.
    async fn of_no_site(self, ctx: &Ctx, delivery: &Delivery) -> Result<String, Error> {
        let repository = &self.about.repository;
        let (reason, words) = if repository.is_empty() {
            (self.reason, self.words)
        } else {
            (Reason::UnknownRepository, note::no_site(repository))
        };
        if self.reason == Reason::Unreadable {
            let told = (Outcome::Ignored(reason, None), words.clone());
            note::of_site(ctx, delivery, &self.about, None, told).await?;
        }
        Ok(words)
    }
}

/// A text of a body, short and without what would not print; empty when it has none there.
fn text(body: &Value, pointer: &str) -> String {
    text_of(body, pointer, NAME_MAX)
}

fn text_of(body: &Value, pointer: &str, longest: usize) -> String {
    let found = body.pointer(pointer).and_then(Value::as_str);
    printed(found.unwrap_or_default(), longest)
}

/// As much of a text, without what would not print.
fn printed(text: &str, longest: usize) -> String {
    let printed = text.chars().filter(|c| !c.is_control());
    printed.take(longest).collect()
}

/// A whole commit, or nothing; zeros stand for none.
fn commit(text: String) -> String {
    if is_commit(&text) && text.bytes().any(|byte| byte != b'0') {
        text
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use candlefish_testkit::github;

    use super::*;

    fn read(event: &str, body: &str) -> Other {
        Other::read(event, body.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn every_published_delivery_says_why_nothing_follows() {
        let told = |example: github::Example| {
            let body = example.body.to_string();
            let read = read(example.event, &body);
            let named = read.about.repository.ends_with("/Hello-World");
            assert!(named && read.about.sender == "Codertocat", "{read:?}");
            (read.reason, read.words, read.about.branch)
        };
        let own = |word: &str| word.to_owned();
        assert_eq!(
            told(github::create()),
            (
                Reason::NotActedOn,
                own("the tag simple-tag was made; its push says what becomes of it"),
                own("simple-tag")
            )
        );
        assert_eq!(
            told(github::delete()),
            (
                Reason::Deleted,
                own("the tag simple-tag was deleted; what is live stays"),
                own("simple-tag")
            )
        );
        assert_eq!(
            told(github::release_published()),
            (
                Reason::NotActedOn,
                own("the release 0.0.1 was published; nothing deploys for a release"),
                own("0.0.1")
            )
        );
        assert_eq!(told(github::ping()).1, "GitHub says that the webhook works");
    }

    #[test]
    fn a_run_of_a_workflow_is_known_by_its_commit() {
        let example = github::workflow_run_completed();
        let read = read(example.event, &example.body.to_string());
        assert_eq!(read.about.branch, "master");
        assert_eq!(
            read.about.commit,
            "3484a3fb816e0859fd6e1cea078d76385ff50625"
        );
    }

    #[test]
    fn what_names_no_repository_concerns_no_site() {
        let organization = github::ping_organization().body.to_string();
        for body in ["[]", "{}", "{\"repository\": 5}", "\"text\"", &organization] {
            let read = Other::read("ping", body.as_bytes());
            assert!(matches!(read, Ok(None)), "{body}: {read:?}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for body in ["", "{", "{\"repository\":", "payload="] {
            let read = Other::read("ping", body.as_bytes());
            assert!(read.is_err(), "{body}: {read:?}");
        }
    }

    #[test]
    fn of_what_cannot_be_read_is_kept_what_can() {
        let hash = "4ac21e05c5f6f4a7bb3b0f4bd1f0a2c3d4e5f607";
        let body =
            format!("{{\"ref\": \"refs/heads/a/b\", \"after\": \"{hash}\", \"repository\": null}}");
        let read = Other::unreadable("push", body.as_bytes(), "it names\n none");
        let about = About {
            branch: "a/b".to_owned(),
            commit: hash.to_owned(),
            ..About::default()
        };
        assert_eq!(read.about, about);
        assert_eq!(
            (read.reason, read.words()),
            (Reason::Unreadable, "it names none")
        );
        let zeros = format!("{{\"after\": \"{}\"}}", "0".repeat(40));
        for body in [&*zeros, "{", "[]"] {
            let read = Other::unreadable("push", body.as_bytes(), &"x".repeat(5000));
            assert_eq!(read.about, About::default(), "{body}");
            assert_eq!(read.words.len(), WORDS_MAX);
        }
    }

    #[test]
    fn a_repository_of_the_longest_name_is_named_whole() {
        let longest = format!("{}/{}", "o".repeat(39), "r".repeat(100));
        let body = serde_json::json!({"repository": {"full_name": longest}}).to_string();
        assert_eq!(read("ping", &body).about.repository, longest);
    }

    #[test]
    fn what_is_sent_is_cut_and_printable() {
        let long = "x".repeat(5000);
        let body = format!(
            "{{\"repository\": {{\"full_name\": \"a/b\"}}, \"ref\": \"\\u001b[31m{long}\"}}"
        );
        let read = read("create", &body);
        assert_eq!(read.about.branch.len(), BRANCH_MAX);
        assert!(read.about.branch.starts_with("[31mx"), "{read:?}");
    }

    #[test]
    fn a_branch_that_is_gone_is_named_whole_and_a_tag_is_no_branch() {
        let longest = "b".repeat(BRANCH_MAX);
        let mut example = github::delete();
        example.body["ref"] = longest.as_str().into();
        for (kind, is_branch) in [("branch", true), ("tag", false)] {
            example.body["ref_type"] = kind.into();
            let read = read(example.event, &example.body.to_string());
            assert_eq!(
                (&read.about.branch, read.is_branch_gone),
                (&longest, is_branch)
            );
        }
        example.body["ref_type"] = "branch".into();
        assert!(!read("create", &example.body.to_string()).is_branch_gone);
    }
}
