//! What gRPC health says: serving while the process is ready and does not stop, as `/readyz` does.

use std::collections::BTreeSet;

use candlefish_runtime::ops::Readiness;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

/// Tells of these services, and of the whole under the empty name, until the process stops.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) reporter: HealthReporter,
    pub(crate) services: BTreeSet<String>,
    pub(crate) readiness: Readiness,
    pub(crate) stopping: CancellationToken,
}

impl Health {
    /// Says how it is now.
    pub(crate) async fn tell(&self) {
        let stops = self.stopping.is_cancelled();
        let status = if !stops && self.readiness.waiting().is_empty() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in self.services.iter().map(String::as_str).chain([""]) {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Says it again whenever it becomes different.
    pub(crate) async fn follow(self) {
        let mut changes = self.readiness.changes();
        while !self.stopping.is_cancelled() {
            // Before it is read: what changes meanwhile is read again.
            changes.mark_unchanged();
            self.tell().await;
            tokio::select! {
                () = self.stopping.cancelled() => {}
                // Never an error: we hold the other end.
                _changed = changes.changed() => {}
            }
        }
        self.tell().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use candlefish_runtime::tasks::{Policy, Tasks};
    use candlefish_testkit::poll_until;
    use tonic::Request;
    use tonic_health::{
        pb::{
            HealthCheckRequest, health_check_response::ServingStatus as Said,
            health_server::Health as _,
        },
        server::HealthService,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(40);
    const SITES: &str = "candlefish.deploy.v1.SiteService";

    #[tokio::test]
    async fn health_follows_readiness_and_ends_with_the_process() {
        let (readiness, tasks) = (Readiness::new(), Tasks::new());
        let reporter = HealthReporter::new();
        let health = HealthService::from_health_reporter(reporter.clone());
        let told = Health {
            reporter,
            services: [SITES.to_owned()].into(),
            readiness: readiness.clone(),
            stopping: tasks.stopping(),
        };
        tasks.spawn("health", Policy::StopProcess, told.follow());
        let becomes = async |expected: Said| {
            for service in [SITES, ""] {
                poll_until(SOON, "what health says", async || {
                    let asked = HealthCheckRequest {
                        service: service.to_owned(),
                    };
                    let said = health.check(Request::new(asked)).await;
                    let said = said.map(|said| said.into_inner().status);
                    match said {
                        Ok(said) if said == i32::from(expected) => Ok(()),
                        other => Err(format!("{service:?}: {other:?}")),
                    }
                })
                .await;
            }
        };
        // Nothing has reported yet.
        becomes(Said::NotServing).await;
        readiness.set("database", Ok(()));
        becomes(Said::Serving).await;
        readiness.set("database", Err("gone".to_owned()));
        becomes(Said::NotServing).await;
        readiness.set("database", Ok(()));
        becomes(Said::Serving).await;
        tasks.stop();
        becomes(Said::NotServing).await;
    }
}
