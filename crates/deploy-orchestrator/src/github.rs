//! GitHub, asked: the one room that speaks to its API, and what is asked of it again and again.
//!
//! ```text
//! compare  ──▶ relations that no push told of ──▶ the lane chooses again
//! sweep    ──▶ heads and failed deliveries    ──▶ the trigger that a lost push would have made
//! trigger  ──▶ files of a pull request   ──▶ the sites at which its preview opens
//! archive  ──▶ content of pushed commits  ──▶ the release that a push expects, whole
//! write    ──▶ deployments and their statuses, each said once
//! comment  ──▶ one comment for each pull request that has a preview: turns, as write
//!     └────────── client: one budget per installation, for all replicas; one breaker, a timeout on
//!                 every call
//! ```
//!
//! Invariants: no lane and no transaction waits for GitHub; whatever GitHub does, no deployment fails
//! for it; what it limits is obeyed, by installation and by all replicas as one, and where that cannot
//! be read nothing is asked; a call that may have worked is looked for before it is repeated. Without
//! credentials the room is off, and all else works as it does.
//!
//! The library behind it repeats calls by itself unless it is told not to: it is told, but for one that
//! an installation's token was not good for, which it repeats once with a new one. Nothing outside of
//! this room names it.

mod app;
pub(crate) mod archive;
mod breaker;
mod budget;
mod calls;
mod client;
pub(crate) mod comment;
pub(crate) mod compare;
mod error;
mod heads;
mod installation;
mod rests;
mod store;
pub(crate) mod sweep;
mod turns;
pub(crate) mod write;
mod writing;

pub(crate) use calls::Relation;
pub(crate) use client::GitHub;
pub(crate) use error::Error;

use std::{path::PathBuf, time::Duration};

/// How GitHub is reached, when it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://api.github.com`, or `https://host/api/v3`.
    pub api: String,
    /// Who asks.
    pub credentials: Credentials,
    /// Of one call.
    pub timeout: Duration,
    /// Between two calls that write.
    pub write_pause: Duration,
    /// How long GitHub is left alone after it failed too often.
    pub rest: Duration,
    /// How often the heads and the failed deliveries of a repository are looked at.
    pub sweep: Duration,
    /// How long what GitHub brings once more has until all else of its repository is decided; no longer than
    /// `sweep`, whatever is set.
    pub head_start: Duration,
    /// For the archive of one commit, until its content is stored.
    pub archive: Duration,
    /// Where people reach the gateway; statuses link to it.
    pub public_url: Option<String>,
}

/// Who asks GitHub.
#[derive(Clone)]
pub enum Credentials {
    /// A token of a user, or a fine-grained one.
    Token(String),
    /// An App, by the private key in this file.
    App {
        /// Its number.
        id: u64,
        /// PEM.
        key: PathBuf,
    },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(_) => f.write_str("a token"),
            Self::App { id, .. } => write!(f, "app {id}"),
        }
    }
}
