//! Holds a stack until it is killed: what `tests/it/leftovers.rs` kills. For a look by hand, the
//! replicas can be named: `cargo run -p candlefish-devstack --example hold -- 1 1 2`.

use std::io::Write;

use anyhow::Result;
use candlefish_devstack::Stack;

#[tokio::main]
async fn main() -> Result<()> {
    let counts: Result<Vec<u16>, _> = std::env::args().skip(1).map(|arg| arg.parse()).collect();
    let counts = counts?;
    let count = |place: usize| counts.get(place).copied().unwrap_or(0);
    let binaries = std::env::current_exe()?;
    let mut builder = Stack::builder().replicas(count(0), count(1), count(2));
    // Examples are one folder below the programs.
    if let Some(folder) = binaries.ancestors().nth(2) {
        builder = builder.binaries(folder.to_owned());
    }
    let stack = builder.start().await?;
    let postgres = stack.postgres().process().pid().unwrap_or_default();
    let nats = stack.nats().process().pid().unwrap_or_default();
    let mut out = std::io::stdout();
    writeln!(out, "{postgres} {nats} {}", stack.folder().display())?;
    out.flush()?;
    std::future::pending().await
}
