//! What is asked of branches, of pull requests, and of deliveries that did not arrive.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use url::form_urlencoded::byte_serialize;

use super::{
    Error,
    calls::{get, of_repository},
    client::{Answer, Call, GitHub, read},
};
use crate::trigger::pull_request::Described;

/// Of a page.
const PAGE: usize = 100;
/// Pages that are looked at: a webhook that is so busy has lost more than deliveries.
const PAGES: usize = 30;

/// Where a branch is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) commit: String,
    pub(crate) message: String,
    pub(crate) author: String,
    pub(crate) author_email: String,
    pub(crate) committed_at: String,
    /// Seconds of GitHub's clock when it said so.
    pub(crate) seen_at: Option<i64>,
}

/// A webhook of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Hook {
    pub(crate) id: u64,
    #[serde(default)]
    pub(crate) active: bool,
    #[serde(default)]
    config: HookConfig,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct HookConfig {
    #[serde(default)]
    url: String,
}

impl Hook {
    pub(crate) fn url(&self) -> &str {
        &self.config.url
    }
}

/// One try to bring us a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Sent {
    pub(crate) id: u64,
    /// The same for every try.
    pub(crate) guid: String,
    #[serde(default)]
    pub(crate) status_code: i64,
    #[serde(default)]
    pub(crate) event: String,
    #[serde(default)]
    delivered_at: String,
}

impl Sent {
    pub(crate) fn arrived(&self) -> bool {
        (200..300).contains(&self.status_code)
    }

    /// A gateway took it whole, and would not have it: for its signature, its kind or its size. Other
    /// answers may be of what stands before the gateways.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.status_code, 401 | 413 | 415)
    }

    /// How long ago it was, by GitHub's clock.
    fn age(&self, now: Option<i64>) -> Option<Duration> {
        let then = self.delivered_at.parse::<jiff::Timestamp>().ok()?;
        let age = now?.saturating_sub(then.as_second());
        Some(Duration::from_secs(u64::try_from(age).unwrap_or(0)))
    }
}

impl GitHub {
    /// Where a branch is; none when there is no such branch.
    pub(crate) async fn branch(
        &self,
        repository: &str,
        branch: &str,
    ) -> Result<Option<Head>, Error> {
        let path = format!("/branches/{}", encoded(branch));
        let asked = self
            .ask(repository, get("branch", repository, &path)?)
            .await;
        match asked {
            Err(error) if error.is_not_found() => Ok(None),
            answer => head(branch, answer?),
        }
    }

    /// The pull requests that changed since a second of GitHub's clock, newest change first, and the
    /// second of its answer. Without one, as many as fit on a page.
    pub(crate) async fn pull_requests(
        &self,
        repository: &str,
        since: Option<i64>,
    ) -> Result<(Vec<Described>, Option<i64>), Error> {
        let (mut all, mut answered_at) = (Vec::new(), None);
        for page in 1..=PAGES {
            let path =
                format!("/pulls?state=all&sort=updated&direction=desc&per_page={PAGE}&page={page}");
            let answer = self
                .ask(repository, get("pulls", repository, &path)?)
                .await?;
            // What changes while pages are read is of the next look.
            answered_at = answered_at.or(answer.at);
            let listed: Vec<Described> = read("pulls", answer.body)?;
            let is_whole = listed.len() == PAGE;
            let oldest = listed.last().and_then(Described::updated_at);
            all.extend(listed);
            let more = is_whole && since.zip(oldest).is_some_and(|(since, at)| at >= since);
            if !more {
                break;
            }
        }
        all.retain(|one| one.updated_at() >= since);
        Ok((all, answered_at))
    }

    /// The webhooks of a repository.
    pub(crate) async fn hooks(&self, repository: &str) -> Result<Vec<Hook>, Error> {
        self.get("hooks", repository, &format!("/hooks?per_page={PAGE}"))
            .await
    }

    /// The tries to bring a webhook's deliveries, newest first, as far back as asked.
    pub(crate) async fn deliveries(
        &self,
        repository: &str,
        hook: u64,
        back: Duration,
    ) -> Result<Vec<Sent>, Error> {
        let path = format!("/hooks/{hook}/deliveries");
        let (mut all, mut pages) = (Vec::new(), Pages::default());
        while let Some(query) = pages.next_query() {
            let call = get("deliveries", repository, &format!("{path}?{query}"))?;
            let answer = self.ask(repository, call).await?;
            all.extend(pages.read("deliveries", answer, back)?);
        }
        Ok(all)
    }

    /// Has a delivery sent once more.
    pub(crate) async fn redeliver(
        &self,
        repository: &str,
        hook: u64,
        delivery: u64,
    ) -> Result<(), Error> {
        let path = format!("/hooks/{hook}/deliveries/{delivery}/attempts");
        let call = Call {
            name: "redeliver",
            method: Method::POST,
            path: of_repository(repository, &path)?,
            body: None,
        };
        self.ask(repository, call).await?;
        Ok(())
    }
}

/// Where a branch is, by the answer about it. One that was renamed is no such branch any more: GitHub
/// sends who asks for it on to the other, which nobody said to follow.
fn head(asked: &str, answer: Answer) -> Result<Option<Head>, Error> {
    #[derive(Deserialize)]
    struct Branch {
        name: String,
        commit: Commit,
    }
    #[derive(Deserialize)]
    struct Commit {
        sha: String,
        #[serde(default)]
        commit: Said,
    }
    #[derive(Deserialize, Default)]
    struct Said {
        #[serde(default)]
        message: String,
        #[serde(default)]
        author: Option<Author>,
    }
    #[derive(Deserialize, Default)]
    struct Author {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        email: Option<String>,
        #[serde(default)]
        date: Option<String>,
    }
    let branch: Branch = read("branch", answer.body)?;
    if branch.name != asked {
        return Ok(None);
    }
    let said = branch.commit.commit;
    let author = said.author.unwrap_or_default();
    Ok(Some(Head {
        commit: branch.commit.sha,
        message: said.message,
        author: author.name.unwrap_or_default(),
        author_email: author.email.unwrap_or_default(),
        committed_at: author.date.unwrap_or_default(),
        seen_at: answer.at,
    }))
}

/// A walk through the pages of deliveries, back in time.
#[derive(Debug, Default)]
pub(super) struct Pages {
    seen: usize,
    cursor: Option<String>,
}

impl Pages {
    /// The query of the next page; none after the last.
    pub(super) fn next_query(&mut self) -> Option<String> {
        let cursor = match (self.seen, self.cursor.take()) {
            (0, _) => String::new(),
            (PAGES.., _) | (_, None) => return None,
            (_, Some(cursor)) => format!("&cursor={}", encoded(&cursor)),
        };
        self.seen += 1;
        Some(format!("per_page={PAGE}{cursor}"))
    }

    /// Reads a page; the next one is wanted while this one does not go back far enough.
    pub(super) fn read(
        &mut self,
        call: &'static str,
        answer: Answer,
        back: Duration,
    ) -> Result<Vec<Sent>, Error> {
        let Answer { body, at, cursor } = answer;
        let page: Vec<Sent> = read(call, body)?;
        let oldest = page.last().and_then(|one| one.age(at));
        self.cursor = cursor.filter(|_| oldest.is_some_and(|age| age < back));
        Ok(page)
    }
}

/// A name within a path or a query. Git takes no spaces in it, so no plus stands for one.
pub(super) fn encoded(name: &str) -> String {
    byte_serialize(name.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_that_was_renamed_is_no_such_branch() {
        let commit = "4ac21e05c5f6f4a7bb3b0f4bd1f0a2c3d4e5f607";
        let found = |name: &str| {
            let body = serde_json::json!({"name": name, "commit": {"sha": commit}});
            let answer = Answer {
                body,
                at: Some(5),
                cursor: None,
            };
            head("master", answer).unwrap()
        };
        let expected = Head {
            commit: commit.to_owned(),
            seen_at: Some(5),
            ..Head::default()
        };
        assert_eq!(found("master"), Some(expected));
        assert_eq!(found("main"), None);
    }

    #[test]
    fn a_branch_is_one_segment() {
        assert_eq!(encoded("feature/a+b#1"), "feature%2Fa%2Bb%231");
    }
}
