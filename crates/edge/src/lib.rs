//! The edge: serves releases by host name and traffic split.
//!
//! It owns nothing durable. Routes come by a stream from any orchestrator, content from the blob
//! store; both stay on its disk, so that it starts and serves when everything else is down.
//!
//! Reading order: [`route`] (what a host serves), [`release`] (content, verified), [`serve`] (a
//! request's way), [`split`] and [`rule`] (pure), [`stream`] and [`report`] (what it tells and is
//! told), [`contact`] (when), [`traffic`] (what it counts).

pub mod config;
mod contact;
mod disk;
mod percent;
mod release;
mod report;
mod route;
mod rule;
mod serve;
mod split;
mod stream;
mod traffic;
mod wiring;

pub use config::Config;
pub use wiring::{Error, Running, run};
