//! The gateway: the way in. It holds no business rule: it says who calls and whether they may, and
//! passes the call on, whatever surface it came by.
//!
//! Modules in reading order: what the contract says ([`contract`], [`transcode`], [`problem`]), who
//! calls ([`auth`], [`token`], [`principal`], [`access`]), the way of a call ([`front`], [`grpc`],
//! [`rest`], [`sse`], [`uploads`], [`call`], [`budget`], [`rehearsal`], [`memory`], [`backend`]), what
//! others tell us ([`delivery`]), and what answers without a token ([`open`]); beside them, the port for
//! our own processes ([`internal`]).

mod config;
mod wiring;

mod comments;
mod contract;
mod problem;
mod transcode;

mod access;
mod auth;
mod field;
mod idempotency;
mod internal;
mod page;
mod principal;
mod replay;
mod token;

mod delivery;
mod events;
mod openapi;
mod pages;

mod backend;
mod budget;
mod call;
mod deadline;
mod feed;
mod front;
mod grpc;
mod health;
mod memory;
mod open;
mod overview;
mod rehearsal;
mod rest;
mod sse;
mod uploads;

pub use config::Config;
pub use wiring::{migrate, run};
