//! The operations port: `/healthz`, `/readyz`, `/metrics`.
//!
//! Healthy means that the process answers; ready, that every part it named works and that it is not
//! stopping. A process that is not ready says what it waits for and why.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use tokio::sync::watch;

use crate::{listen, metrics, tasks::Tasks};

/// Histograms grow until somebody drains them; without a scraper, this does.
const UPKEEP: Duration = Duration::from_secs(5);

/// What a process needs to do its work, and whether it has it; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    parts: Arc<RwLock<BTreeMap<&'static str, Result<(), String>>>>,
    changed: Arc<watch::Sender<()>>,
}

/// One part that is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// The part.
    pub name: String,
    /// Why it is not ready, in words.
    pub why: String,
}

impl Readiness {
    /// Nothing named yet: not ready, because it is starting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how a part is.
    pub fn set(&self, name: &'static str, state: Result<(), String>) {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        if parts.get(name) != Some(&state) {
            match &state {
                Ok(()) => tracing::info!(part = name, "ready"),
                // Every start begins so.
                Err(why) if !parts.contains_key(name) => {
                    tracing::info!(part = name, "not ready yet: {why}");
                }
                Err(why) => tracing::warn!(part = name, "not ready: {why}"),
            }
            parts.insert(name, state);
            self.changed.send_replace(());
        }
    }

    /// Wakes whenever a part's state becomes another one; [`Readiness::waiting`] says which.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What is not ready and why; empty when everything is.
    pub fn waiting(&self) -> Vec<Waiting> {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        if parts.is_empty() {
            return vec![Waiting {
                name: "process".to_owned(),
                why: "starting: no part has reported yet".to_owned(),
            }];
        }
        parts
            .iter()
            .filter_map(|(name, state)| {
                let why = state.as_ref().err()?.clone();
                Some(Waiting {
                    name: (*name).to_owned(),
                    why,
                })
            })
            .collect()
    }
}

/// Why the operations port does not open.
#[derive(Debug, thiserror::Error)]
#[error("open the operations port")]
pub struct Error(#[from] listen::Error);

#[derive(Debug, Clone)]
struct Shared {
    readiness: Readiness,
    tasks: Tasks,
    handle: PrometheusHandle,
}

#[derive(Debug, Serialize)]
struct Answer {
    ready: bool,
    waiting: Vec<Waiting>,
}

/// Opens the port and answers on it until everything else has ended. Answers where it listens.
pub async fn serve(
    addr: SocketAddr,
    readiness: Readiness,
    tasks: Tasks,
) -> Result<SocketAddr, Error> {
    let listener = listen::bind(addr).await?;
    let bound = listen::local_addr(&listener)?;
    let handle = metrics::install().clone();
    let upkeep = handle.clone();
    tasks.spawn_shell(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    let router = router(Shared {
        readiness,
        tasks: tasks.clone(),
        handle,
    });
    tasks.spawn_shell(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!("the operations port closed: {error}");
        }
    });
    Ok(bound)
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(shared)
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, Json<Answer>) {
    let mut waiting = shared.readiness.waiting();
    if shared.tasks.stopping().is_cancelled() {
        waiting.push(Waiting {
            name: "process".to_owned(),
            why: "stopping".to_owned(),
        });
    }
    let ready = waiting.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(Answer { ready, waiting }))
}

async fn render(State(shared): State<Shared>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        shared.handle.render(),
    )
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn ask(readiness: &Readiness, tasks: &Tasks, path: &str) -> (StatusCode, String) {
        let shared = Shared {
            readiness: readiness.clone(),
            tasks: tasks.clone(),
            handle: metrics::install().clone(),
        };
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(shared).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_process_is_ready_only_when_every_part_is_and_says_what_it_waits_for() {
        let (readiness, tasks) = (Readiness::new(), Tasks::new());
        let (status, body) = ask(&readiness, &tasks, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("starting"), "{body}");

        readiness.set("database", Err("refuses connections".to_owned()));
        readiness.set("schema", Ok(()));
        let (status, body) = ask(&readiness, &tasks, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            body,
            r#"{"ready":false,"waiting":[{"name":"database","why":"refuses connections"}]}"#
        );

        readiness.set("database", Ok(()));
        let (status, body) = ask(&readiness, &tasks, "/readyz").await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::OK, r#"{"ready":true,"waiting":[]}"#)
        );
    }

    #[test]
    fn a_part_that_was_never_ready_is_no_warning_and_one_that_is_not_any_more_is() {
        let log = candlefish_testkit::Log::hear();
        let readiness = Readiness::new();
        let away = || Err("not connected".to_owned());
        readiness.set("database", away());
        assert_eq!(log.count("WARN"), 0);
        assert_eq!(log.count("INFO not ready yet: not connected"), 1);
        readiness.set("database", Ok(()));
        readiness.set("database", away());
        readiness.set("database", away());
        assert_eq!(log.count("WARN not ready: not connected"), 1);
    }

    #[tokio::test]
    async fn a_stopping_process_is_healthy_but_not_ready() {
        let (readiness, tasks) = (Readiness::new(), Tasks::new());
        readiness.set("database", Ok(()));
        tasks.stop();
        assert_eq!(ask(&readiness, &tasks, "/healthz").await.0, StatusCode::OK);
        let (status, body) = ask(&readiness, &tasks, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("stopping"), "{body}");
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        // A process of its own has none of what other tests installed.
        metrics::install();
        ::metrics::counter!(metrics::CONSUMED, "consumer" => "ops-test", "outcome" => "done")
            .increment(3);
        let (status, body) = ask(&Readiness::new(), &Tasks::new(), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(
            body.contains(r#"events_consumed_total{consumer="ops-test",outcome="done"} 3"#)
                || body.contains(r#"events_consumed_total{outcome="done",consumer="ops-test"} 3"#),
            "{body}"
        );
    }
}
