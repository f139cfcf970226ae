//! Holds Postgres and NATS until it is killed: what `tests/it/leftovers.rs` kills.

use std::io::Write;

use anyhow::Result;
use candlefish_devstack::Stack;

#[tokio::main]
async fn main() -> Result<()> {
    let stack = Stack::builder().replicas(0, 0, 0).start().await?;
    let postgres = stack.postgres().process().pid().unwrap_or_default();
    let nats = stack.nats().process().pid().unwrap_or_default();
    let mut out = std::io::stdout();
    writeln!(out, "{postgres} {nats} {}", stack.folder().display())?;
    out.flush()?;
    std::future::pending().await
}
