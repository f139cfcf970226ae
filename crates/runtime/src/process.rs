//! A process from its start to its exit code.
//!
//! The first SIGTERM or SIGINT stops softly: not ready, no new work, what is in hand is finished,
//! at most [`PATIENCE`]. The second one drops everything. Telemetry goes last, so that the end of
//! the process is still seen.

use std::{process::ExitCode, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    tasks::Tasks,
    telemetry::{self, Telemetry, TelemetryConfig},
};

/// How long a soft stop may take. Kubernetes kills after 30 s.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Why a process cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Telemetry.
    #[error("start telemetry")]
    Telemetry(#[from] telemetry::Error),
    /// Signals.
    #[error("listen for signals")]
    Signals(#[source] std::io::Error),
}

/// The running process.
#[derive(Debug)]
pub struct Process {
    tasks: Tasks,
    telemetry: Telemetry,
    terminate: Signal,
    interrupt: Signal,
}

/// Says once, before anything is waited for, with what the process runs: what `--check-config`
/// prints, so no secret.
pub fn configured(described: &str) {
    let config: Vec<&str> = described.lines().collect();
    tracing::info!(config = config.join("; "), "configured");
}

impl Process {
    /// Starts telemetry and listens for signals. Needs a tokio runtime around it; once per process.
    pub fn start(service: &'static str, config: &TelemetryConfig) -> Result<Self, Error> {
        let terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
        let telemetry = telemetry::init(service, config)?;
        tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
        Ok(Self {
            tasks: Tasks::new(),
            telemetry,
            terminate,
            interrupt,
        })
    }

    /// The spawner.
    pub fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }

    /// Cancelled when the process begins to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.tasks.stopping()
    }

    /// Cancelled when nothing is waited for any more.
    pub fn killed(&self) -> CancellationToken {
        self.tasks.killed()
    }

    /// Waits for the end: a signal, or a task that the process cannot do without. Fails when a task
    /// ended early.
    pub async fn wait(mut self) -> ExitCode {
        let tasks = self.tasks.clone();
        let stopping = tasks.stopping();
        tokio::select! {
            () = self.signalled() => tracing::info!("stopping: finishing what is in hand"),
            () = stopping.cancelled() => {}
        }
        tokio::select! {
            _ = tasks.drain(PATIENCE) => {}
            () = self.signalled() => {
                tracing::warn!("second signal: dropping what is in hand");
                tasks.killed().cancel();
                tasks.drain(Duration::ZERO).await;
            }
        }
        let fault = tasks.fault();
        if let Some(fault) = &fault {
            tracing::error!("stopped: {fault}");
        } else {
            tracing::info!("stopped");
        }
        self.telemetry.shutdown().await;
        if fault.is_some() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    async fn signalled(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
