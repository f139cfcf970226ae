//! What happened, why, and what to do next.

use candlefish_manifest::{Error as ManifestError, WalkError};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Look, Tone};
use crate::{
    contexts::{self, TokenOf},
    error::{Again, Error},
    project,
};

/// The whole text of an error.
pub(crate) fn text(error: &Error, look: &Look) -> String {
    let mut lines = vec![format!(
        "{} {}",
        look.paint(Tone::Bad, "error:"),
        sentence(error)
    )];
    lines.extend(next(error).into_iter().map(|line| format!("  {line}")));
    lines.join("\n")
}

/// What happened and its causes, each once.
fn sentence(error: &Error) -> String {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let said = source.to_string();
        // TOML shows where in the file, on lines of its own.
        if !words.contains(said.trim()) {
            words = format!("{words}: {}", said.trim());
        }
        cause = source.source();
    }
    words
}

fn next(error: &Error) -> Vec<String> {
    match error {
        Error::Wrong { next, .. } => vec![next.clone()],
        Error::UnknownSite { near, .. } => {
            vec![meant(near.as_deref(), "All sites: candlefish sites")]
        }
        Error::UnknownEnvironment {
            site, near, known, ..
        } => {
            let all = if known.is_empty() {
                format!("Make one: candlefish env create {site}/ENV")
            } else {
                format!("It has {}.", known.join(", "))
            };
            vec![meant(near.as_deref(), &all)]
        }
        Error::NoPreview { site, commit, .. } => vec![
            "GitHub's delivery of the pull request makes it. Does the webhook send pull requests?"
                .to_owned(),
            format!("Does {site} give previews?  candlefish sites show {site}"),
            format!("What became of the commit?  candlefish push {commit}"),
        ],
        Error::ClosedPreview {
            site,
            environment,
            commit,
        } => vec![
            "GitHub's delivery of the reopened pull request opens it. Is the pull request open?"
                .to_owned(),
            format!("Who closed it, when and why?  candlefish history {site}/{environment}"),
            format!("What became of the commit?  candlefish push {commit}"),
        ],
        Error::Unreachable(unreachable) => again(unreachable.again),
        Error::Unwritten { .. } => {
            vec![
                "What was asked of the server holds; only what there was to say of it is lost."
                    .to_owned(),
            ]
        }
        Error::CarriedOut { now } => carried_out(now.as_deref()),
        Error::Refused(status) => refused(status),
        Error::Stranger { token_of, .. } => vec![another_token(token_of)],
        Error::Context(error) => vec![context(error)],
        Error::Walk(error) => unsent(unread(error)),
        Error::Manifest(error) => unsent(refit(error)),
        Error::Git(_) => {
            vec!["Say which commit it is with its whole hash: --commit SHA".to_owned()]
        }
        Error::Upload(_) => {
            vec!["It is safe to repeat the command: what was stored is not sent again.".to_owned()]
        }
        Error::Project(project::Error::Read { .. }) => {
            vec!["It must be a text file that you may read.".to_owned()]
        }
        Error::Project(project::Error::Format { .. }) => {
            vec!["Mend the file, or name all of it on the command line without it.".to_owned()]
        }
    }
}

/// A dry run that was none.
fn carried_out(now: Option<&str>) -> Vec<String> {
    let look = now.map(|now| format!("What is now: {now}"));
    let upgrade = "Upgrade the gateways before you use --dry-run.".to_owned();
    look.into_iter().chain([upgrade]).collect()
}

fn unsent(next: &str) -> Vec<String> {
    vec!["Nothing was sent.".to_owned(), next.to_owned()]
}

/// What to do about a folder that cannot be read as a release.
fn unread(error: &WalkError) -> &'static str {
    match error {
        WalkError::Folder { .. } => "Name a folder that you may read.",
        WalkError::Read { .. } => "Make it a file that you may read, or take it out of the folder.",
        WalkError::LinkOut { .. } | WalkError::LinkLoop { .. } => {
            "Put what the link leads to in its place, or take it out of the folder."
        }
        WalkError::Special { .. } => "Take it out of the folder.",
        WalkError::Path(_) => RENAME,
        WalkError::Large(error) => refit(error),
    }
}

/// What to do about content that is no release.
fn refit(error: &ManifestError) -> &'static str {
    match error {
        ManifestError::Path(_) => RENAME,
        ManifestError::Files { .. }
        | ManifestError::FileBytes { .. }
        | ManifestError::TotalBytes { .. }
        | ManifestError::ManifestBytes { .. } => {
            "Leave out what the site does not need. Whoever runs this Candlefish can raise the limit."
        }
        ManifestError::ContentType { .. }
        | ManifestError::Sizes { .. }
        | ManifestError::Head
        | ManifestError::Line { .. } => "Repeat it when nothing writes to the folder any more.",
    }
}

const RENAME: &str = "Rename it where the site is built, then repeat it.";

fn again(again: Again) -> Vec<String> {
    let lines: &[&str] = match again {
        Again::Harmless => &["It is safe to repeat the command."],
        Again::Same => &[
            "It is safe to repeat the command: it goes on as the same request, not as a second one.",
        ],
        Again::Second => &[
            "It may have been done all the same, and a repeat would be a second request: no key could \
             be kept (CANDLEFISH_CONFIG_DIR or HOME says where).",
            "Look before you repeat it: candlefish status",
        ],
    };
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn meant(near: Option<&str>, all: &str) -> String {
    near.map_or_else(
        || all.to_owned(),
        |near| format!("Did you mean \"{near}\"?  {all}"),
    )
}

/// How another token is used from now on: where a variable of the shell says which one is, a login
/// changes nothing.
pub(crate) fn another_token(token_of: &TokenOf) -> String {
    match token_of {
        TokenOf::Nobody => {
            "CANDLEFISH_API of this shell is used, and CANDLEFISH_TOKEN is not set. Set it too; or unset \
             CANDLEFISH_API, and log in: candlefish login --api URL"
                .to_owned()
        }
        TokenOf::Shell => {
            "CANDLEFISH_API and CANDLEFISH_TOKEN of this shell are used. Set CANDLEFISH_TOKEN to a token \
             that works; or unset both, and log in: candlefish login --api URL"
                .to_owned()
        }
        TokenOf::Variable => {
            "CANDLEFISH_TOKEN of this shell is used. Set it to a token that works, or unset it."
                .to_owned()
        }
        TokenOf::Context(name) => format!("Log in: candlefish login --context {name}"),
        TokenOf::Given => {
            "Nothing was kept. Log in with another token; whoever is an admin there makes one: \
             candlefish tokens create"
                .to_owned()
        }
    }
}

fn context(error: &contexts::Error) -> String {
    match error {
        contexts::Error::None => "Log in: candlefish login --api URL".to_owned(),
        contexts::Error::Unknown { known, .. } if known.is_empty() => {
            "Make it: candlefish login --api URL --context NAME".to_owned()
        }
        contexts::Error::Unknown { known, .. } => format!(
            "There is {}. All contexts: candlefish context",
            known.join(", ")
        ),
        contexts::Error::NoFolder => {
            "Name one: CANDLEFISH_CONFIG_DIR; or use CANDLEFISH_API and CANDLEFISH_TOKEN."
                .to_owned()
        }
        contexts::Error::File { .. } => "It must be a file that you may read and write.".to_owned(),
        contexts::Error::Format { path, .. } => format!(
            "Mend it, or take it away and log in again: {}",
            path.display()
        ),
    }
}

/// Field faults, one per line; then what the code itself asks for.
fn refused(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details
        .bad_request()
        .map_or(&[][..], |bad| &bad.field_violations);
    // A single fault may be all that the sentence above it says.
    let told = violations
        .iter()
        .filter(|fault| fault.description != status.message());
    let told = told.map(|fault| format!("{}: {}", fault.field, fault.description));
    let mut lines: Vec<String> = told.collect();
    lines.extend(advice(status));
    lines
}

fn advice(status: &Status) -> Option<String> {
    let said = match status.code() {
        Code::PermissionDenied => "Who you are: candlefish whoami".to_owned(),
        Code::NotFound => {
            "Is it of another API, or of a site that this token may not see?  candlefish whoami"
                .to_owned()
        }
        Code::Internal | Code::Unknown | Code::DataLoss => match request_id(status) {
            Some(id) => {
                format!("It is not your fault. Quote {id} to whoever runs this Candlefish.")
            }
            None => "It is not your fault. Tell whoever runs this Candlefish when it happened."
                .to_owned(),
        },
        // With a reason it is a refusal of ours, which says what it is.
        Code::Unimplemented if status.get_error_details().error_info().is_none() => {
            "The server is older than this command, or is not a Candlefish API: candlefish context"
                .to_owned()
        }
        // As above.
        Code::ResourceExhausted if status.get_error_details().error_info().is_none() => {
            "Try again in a moment.".to_owned()
        }
        Code::Aborted => "Somebody else was faster. Look again, then repeat it.".to_owned(),
        // Words that name a command say themselves what helps.
        Code::AlreadyExists | Code::FailedPrecondition
            if !status.message().contains("candlefish ") =>
        {
            instead(status)
        }
        _ => return None,
    };
    Some(said)
}

/// What to do about a refusal for what is so, by its reason.
fn instead(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info();
    let said = match info.map(|info| info.reason.as_str()).unwrap_or_default() {
        "secret-shown-once" => {
            let id = info.and_then(|info| info.metadata.get("id"));
            let id = id.map_or("tok_…", String::as_str);
            return format!(
                "Nobody can show it again. End that token, then make another: candlefish tokens revoke {id}"
            );
        }
        "principal-exists" => "All principals: candlefish principals list",
        "site-exists" => "All sites: candlefish sites",
        "environment-exists" | "host-taken" => "All of a site: candlefish env list SITE",
        "held" => "What holds it, and how that is lifted: candlefish hold show SITE/ENV",
        "not-held" => {
            "Nothing was changed. What else keeps what waits there: candlefish why SITE/ENV"
        }
        "live-already" | "nothing-before" | "nothing-live" | "never-live" => {
            "What was live there, and when: candlefish history SITE/ENV"
        }
        "environment-closed" => "Who closed it, when and why: candlefish history SITE/ENV",
        "stopped" | "stop-ended" => "What is stopped: candlefish stop list",
        "content-missing" | "manifest-missing" | "release-collected" => {
            "Deploy the same content again: candlefish deploy DIR"
        }
        "not-rejected" | "not-banned" | "release-banned" | "release-rejected" => {
            "How each release stands: candlefish releases SITE"
        }
        "not-pinned" | "pinned" | "not-terminal" | "not-repeatable" | "nothing-to-pass"
        | "step-passed" | "state-forbids" => "How it stands now: candlefish status DEP",
        "cursor-too-old" => "Begin without a cursor, from now on: candlefish events",
        _ => "How things stand now: candlefish status",
    };
    said.to_owned()
}

/// The request's id: in the error's details, or in the answer's metadata.
fn request_id(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    let named = details.request_info().map(|info| info.request_id.clone());
    let told = || {
        let value = status.metadata().get("candlefish-request-id")?;
        value.to_str().ok().map(str::to_owned)
    };
    named.or_else(told).filter(|id| !id.is_empty())
}
