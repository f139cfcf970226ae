//! The binary against a server that answers as it is told: streams, exit codes, repeats.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod access;
mod cli;
mod deploys;
mod ends;
mod events;
mod repeats;
mod rolls_back;
mod server;
mod services;
#[cfg(target_os = "linux")]
mod terminal;
