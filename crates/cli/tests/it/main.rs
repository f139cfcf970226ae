//! The binary against a server that answers as it is told: streams, exit codes, repeats.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod access;
mod asks;
mod awaits;
mod cli;
mod deploys;
mod dry_runs;
mod ends;
mod events;
mod lists;
mod logs;
mod opens;
mod pushes;
mod queues;
mod repeats;
#[cfg(target_os = "linux")]
mod results;
mod rolls_back;
mod server;
mod services;
mod status;
mod stops;
#[cfg(target_os = "linux")]
mod terminal;
mod why;
