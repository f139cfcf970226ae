//! A real edge, its content in a directory, and a scripted orchestrator.
#![expect(clippy::unwrap_used, reason = "tests")]

mod content;
mod orchestrator;
mod outage;
mod previews;
mod process;
mod rules;
mod sandbox;
mod serving;
mod splitting;
mod telling;
mod visitor;
