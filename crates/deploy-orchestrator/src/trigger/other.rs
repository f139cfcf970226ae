//! Deliveries that make nothing happen: what they are about, and why nothing follows. Reading is pure.
//!
//! They leave a trigger all the same, so that whoever asks what became of one is answered.

use serde_json::Value;

use super::{
    About, Delivery, Error, note,
    outcome::{Outcome, Reason},
    push::is_commit,
    store,
};
use crate::ctx::Ctx;

/// As much of a name as a sentence needs.
const NAME_MAX: usize = 100;

/// What such a delivery says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Other {
    about: About,
    reason: Reason,
    words: String,
}

impl Other {
    /// Reads a body; none when it names no repository.
    pub(super) fn read(event: &str, body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let mut about = About {
            repository: text(&body, "/repository/full_name"),
            sender: text(&body, "/sender/login"),
            ..About::default()
        };
        if about.repository.is_empty() {
            return None;
        }
        let mut reason = Reason::NotActedOn;
        let words = match event {
            "create" | "delete" => {
                about.branch = text(&body, "/ref");
                let what = format!("the {} {}", text(&body, "/ref_type"), about.branch);
                if event == "delete" {
                    reason = Reason::Deleted;
                    format!("{what} was deleted; what is live stays")
                } else {
                    format!("{what} was made; its push says what becomes of it")
                }
            }
            "release" => {
                about.branch = text(&body, "/release/tag_name");
                let (tag, action) = (&about.branch, text(&body, "/action"));
                format!("the release {tag} was {action}; nothing deploys for a release")
            }
            "workflow_run" => {
                about.branch = text(&body, "/workflow_run/head_branch");
                about.commit = commit(text(&body, "/workflow_run/head_sha"));
                let action = text(&body, "/action");
                format!("a workflow's run is {action}; what it builds, it uploads itself")
            }
            // Only one that cannot be read comes here.
            "pull_request" => {
                about.branch = text(&body, "/pull_request/head/ref");
                about.commit = commit(text(&body, "/pull_request/head/sha"));
                format!("nothing is done for {event}")
            }
            "ping" => "GitHub says that the webhook works".to_owned(),
            other => format!("nothing is done for {other}"),
        };
        Some(Self {
            about,
            reason,
            words,
        })
    }

    /// A delivery that is not what its event's are.
    pub(super) fn unreadable(event: &str, body: &[u8], why: &str) -> Option<Self> {
        let read = Self::read(event, body)?;
        Some(Self {
            reason: Reason::Unreadable,
            words: why.to_owned(),
            ..read
        })
    }

    /// Writes it down at every site of its repository; answers what there is to note when there is
    /// none.
    pub(super) async fn decide(self, ctx: &Ctx, delivery: &Delivery) -> Result<String, Error> {
        let mut conn = ctx.pool.acquire().await?;
        let sites = store::list_sites(&mut conn, &self.about.repository).await?;
        drop(conn);
        if sites.is_empty() {
            return Ok(note::no_site(&self.about.repository));
        }
        // A site where it cannot be written keeps no other.
        let mut all = Ok(());
        for site in sites {
            let told = (Outcome::Ignored(self.reason, None), self.words.clone());
            all = all.and(note::of_site(ctx, delivery, &self.about, Some(site.id), told).await);
        }
        all.map(|()| self.words)
    }
}

/// A text of a body, short and without what would not print; empty when it has none there.
fn text(body: &Value, pointer: &str) -> String {
    let found = body.pointer(pointer).and_then(Value::as_str);
    let printed = found
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control());
    printed.take(NAME_MAX).collect()
}

/// A whole commit, or nothing.
fn commit(text: String) -> String {
    if is_commit(&text) {
        text
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use candlefish_testkit::github;

    use super::*;

    #[test]
    fn every_published_delivery_says_why_nothing_follows() {
        let told = |example: github::Example| {
            let body = example.body.to_string();
            let read = Other::read(example.event, body.as_bytes()).unwrap();
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
        let read = Other::read(example.event, example.body.to_string().as_bytes()).unwrap();
        assert_eq!(read.about.branch, "master");
        assert_eq!(
            read.about.commit,
            "3484a3fb816e0859fd6e1cea078d76385ff50625"
        );
    }

    #[test]
    fn what_names_no_repository_concerns_no_site() {
        for body in ["", "{", "[]", "{}", "{\"repository\": 5}", "\"text\""] {
            assert_eq!(Other::read("ping", body.as_bytes()), None, "{body}");
        }
        let organization = github::ping_organization().body.to_string();
        assert_eq!(Other::read("ping", organization.as_bytes()), None);
    }

    #[test]
    fn what_is_sent_is_cut_and_printable() {
        let long = "x".repeat(5000);
        let body = format!(
            "{{\"repository\": {{\"full_name\": \"a/b\"}}, \"ref\": \"\\u001b[31m{long}\"}}"
        );
        let read = Other::read("create", body.as_bytes()).unwrap();
        assert_eq!(read.about.branch.len(), NAME_MAX);
        assert!(read.about.branch.starts_with("[31mx"), "{read:?}");
    }
}
