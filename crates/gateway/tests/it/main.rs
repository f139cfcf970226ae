//! The gateway's public surface: a real gateway on a real Postgres, before a scripted
//! deploy-orchestrator that checks identities as the real one does.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::indexing_slicing, reason = "tests")]

mod backend;
mod bodies;
mod events;
mod identity;
mod inputs;
mod internal;
mod keys;
mod memory;
mod open;
mod pass;
mod plans;
mod process;
mod raw;
mod ready;
mod rehearsals;
mod repeats;
mod rest;
mod roles;
mod sse;
mod stand;
mod table;
mod uploads;
mod webhooks;
