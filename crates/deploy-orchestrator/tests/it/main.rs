//! A real orchestrator on a database of its own, called by a gateway's key, and scripted edges.
#![expect(clippy::unwrap_used, reason = "tests")]

mod api;
mod bans;
mod collecting;
mod crashes;
mod edge;
mod edges;
mod gateway;
mod github;
mod history;
mod idempotency;
mod identity;
mod keys;
mod metrics;
mod order;
mod plans;
mod queues;
mod releases;
mod repair;
mod repository;
mod restorable;
mod roles;
mod rollbacks;
mod rolling;
mod sandbox;
mod sites;
mod steps;
mod stops;
mod together;
mod traffic;
mod triggers;
mod verbs;
