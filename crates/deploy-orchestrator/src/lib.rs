//! The deploy-orchestrator: owns sites, environments, lanes, releases, deployments, steps, routes
//! and edges, in the Postgres schema `deploy`.
//!
//! Modules in reading order: what is deployed ([`site`], [`release`], [`blob`]), why ([`trigger`], [`github`]), the act
//! ([`deployment`], [`lane`], [`stop`], [`step`]), where it goes ([`route`], [`edge`], [`traffic`]), and what the rooms share
//! ([`ctx`], [`idempotency`], [`page`], [`noun`]).

mod config;
mod ctx;
mod wiring;

mod site;

mod release;

mod blob;

mod deployment;

mod blocker;

mod trigger;

mod github;

mod lane;

mod stop;

mod preview;

mod record;

mod step;

mod route;

mod edge;

mod traffic;

mod queue;

mod feed;

mod poke;

mod reconcile;

mod restorable;

mod collect;

mod observed;

mod trace;

mod forget;

mod idempotency;

mod page;

mod noun;

mod backoff;

mod field;

mod upload;

pub use config::Config;
pub use wiring::{Error, Running, migrate, run};
