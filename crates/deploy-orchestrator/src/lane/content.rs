//! What a deployment without content waits for: its upload, or what GitHub packs of its repository.

use serde::Deserialize;

use super::{order::Contender, store::Setting};
use crate::{
    blocker::{self, Blocker},
    deployment::plan::Kind,
};

/// How far content is that is fetched from the repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Fetch {
    /// What went wrong at the last try; empty when nothing did.
    pub(crate) note: String,
    /// When it is tried again.
    pub(crate) retry_at: Option<jiff::Timestamp>,
}

/// The blocker of a deployment whose content is not whole.
pub(super) fn missing(one: &Contender, setting: &Setting, asks_github: bool) -> Blocker {
    let short = one.commit.get(..7).unwrap_or(&one.commit);
    let is_commit = !one.commit.is_empty();
    // GitHub packs commits; content that has none is uploaded.
    let (owner, message) = match one.fetch.as_ref().filter(|_| is_commit) {
        Some(fetch) => fetched(fetch, short, asks_github),
        None if is_commit => {
            let unless = if setting.owes_files && asks_github {
                ", unless no file of its pull request counts: GitHub has not told these yet"
            } else {
                ""
            };
            let words = "yet; whoever builds it, such as CI, does";
            let message = format!("nobody uploaded the content of {short} {words}{unless}");
            ("deployer", message)
        }
        None => {
            let message = "the content of its release is not uploaded whole";
            ("deployer", message.to_owned())
        }
    };
    Blocker {
        kind: blocker::Kind::Content,
        until: one.content_until,
        owner,
        message,
        action: upload(&setting.place, one.kind, &one.commit),
    }
}

/// What uploads the content of a deployment on `place`. The environment of a preview is its own:
/// whoever uploads makes another.
pub(crate) fn upload(place: &str, kind: Kind, commit: &str) -> String {
    let to = match (place.split_once('/'), kind) {
        (Some((site, _)), Kind::Preview) => format!("{site} --preview"),
        _ => place.replacen('/', " --env ", 1),
    };
    let commit = match commit {
        "" => String::new(),
        commit => format!(" --commit {commit}"),
    };
    format!("candlefish deploy DIR --site {to}{commit}")
}

/// Who can clear it, and the words.
fn fetched(fetch: &Fetch, short: &str, asks_github: bool) -> (&'static str, String) {
    if !asks_github {
        let message = format!(
            "the content of {short} is to be fetched from GitHub, and nothing says as whom: set \
             CANDLEFISH_GITHUB_TOKEN, or an App, for the orchestrators"
        );
        return ("admin", message);
    }
    let message = match (fetch.note.as_str(), fetch.retry_at) {
        ("", _) => format!("the content of {short} is fetched from GitHub's archive of it"),
        (note, None) => format!("GitHub's archive of {short} was not fetched: {note}"),
        (note, Some(at)) => {
            let at = at.strftime("%H:%M:%S");
            format!("GitHub's archive of {short} was not fetched: {note}; again at {at} UTC")
        }
    };
    ("github", message)
}
