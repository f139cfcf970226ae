//! The process shell: what every process of Candlefish does the same way.
//!
//! A `main` reads its configuration through [`config::Env`], starts a [`process::Process`], builds
//! its rooms, serves the operations port ([`ops`]) and its own ([`listen`]), and returns what
//! [`process::Process::wait`] answers. Nothing here knows a service or a table.

/// Every process that links this allocates by it: a sixth of what a busy orchestrator works was
/// asking for memory and giving it back, in small pieces and from many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod config;
pub mod database;
pub mod identity;
pub mod listen;
pub mod metrics;
pub mod ops;
pub mod process;
pub mod refusal;
pub mod tasks;
pub mod telemetry;
pub mod trace;
