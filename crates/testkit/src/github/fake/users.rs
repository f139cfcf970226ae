//! Who writes at this GitHub: who has the token, the App, and others.

use serde_json::{Value, json};

use super::{
    answers::{ANYWHERE, AT},
    who::APP_ID,
};

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Who has the token.
    Token,
    /// The App.
    App,
    Somebody,
}

/// As other things name a user.
pub(super) fn user(writer: Writer) -> Value {
    let (id, login, kind) = match writer {
        Writer::Token => (101, "candlefish-deploys", "User"),
        Writer::App => (102, "candlefish[bot]", "Bot"),
        Writer::Somebody => (103, "mallory", "User"),
    };
    json!({
        "login": login, "id": id, "node_id": "U", "avatar_url": ANYWHERE, "gravatar_id": null,
        "url": ANYWHERE, "html_url": ANYWHERE, "followers_url": ANYWHERE, "following_url": ANYWHERE,
        "gists_url": ANYWHERE, "starred_url": ANYWHERE, "subscriptions_url": ANYWHERE,
        "organizations_url": ANYWHERE, "repos_url": ANYWHERE, "events_url": ANYWHERE,
        "received_events_url": ANYWHERE, "type": kind, "site_admin": false,
    })
}

/// A user as GitHub shows it to whoever has a token of it.
pub(super) fn person(writer: Writer) -> Value {
    let mut person = user(writer);
    for field in [
        "name", "company", "blog", "location", "email", "hireable", "bio",
    ] {
        person[field] = Value::Null;
    }
    for field in ["public_repos", "public_gists", "followers", "following"] {
        person[field] = json!(0);
    }
    for field in ["created_at", "updated_at"] {
        person[field] = json!(AT);
    }
    person
}

/// The App by which something was written; null where it was none.
pub(super) fn app(writer: Writer) -> Value {
    if writer != Writer::App {
        return Value::Null;
    }
    json!({
        "id": APP_ID, "slug": "candlefish", "node_id": "A", "owner": user(Writer::Somebody),
        "name": "Candlefish", "description": null, "external_url": ANYWHERE,
        "html_url": ANYWHERE, "created_at": AT, "updated_at": AT, "permissions": {}, "events": [],
    })
}
