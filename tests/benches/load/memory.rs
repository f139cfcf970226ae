//! Memory of each process while nothing happens.

use candlefish_devstack::Service;
use e2e::Sandbox;

use crate::Row;

pub(super) fn at_rest(sandbox: &Sandbox) -> Vec<Row> {
    Service::ALL
        .iter()
        .filter_map(|service| {
            let process = sandbox.stack.processes(*service).into_iter().next()?;
            let status =
                std::fs::read_to_string(format!("/proc/{}/status", process.pid()?)).ok()?;
            let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
            let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
            Some(Row {
                path: match service {
                    Service::Gateway => "memory at rest, gateway",
                    Service::Orchestrator => "memory at rest, deploy-orchestrator",
                    Service::Edge => "memory at rest, edge",
                },
                target: "< 40 MiB",
                measured: format!("{} MiB", kib / 1024),
            })
        })
        .collect()
}
