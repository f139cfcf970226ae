//! Traffic: what visitors got, by host and release.
//!
//! Counters only rise, from the start of the process; a sample carries them as they stand, so a
//! lost, late or repeated one changes nothing. Counting is a few additions without a lock; telling
//! goes by core NATS and never waits for it.

pub(crate) mod publish;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use candlefish_ids::ReleaseId;
use candlefish_proto::deploy as pb;

/// Upper bounds of the latency classes, in milliseconds; the last class has none.
const BOUNDS_MS: [u64; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000];
const CLASSES: usize = BOUNDS_MS.len() + 1;
/// Samples after its last change within which a counter is told again, should one be lost: the next one,
/// and then half as often each time.
const TOLD_AGAIN: u32 = 10;
/// Every so many samples, all counters are told.
const ALL_EVERY: u64 = 30;
/// Samples for which an unused counter without a route is kept.
const KEPT_FOR: u32 = 600;

/// How a request ended, as far as verdicts care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 2xx and 3xx.
    Fine,
    /// 404 for a path that another release on the route serves.
    LostPath,
    /// Other 4xx.
    ClientError,
    /// 5xx.
    ServerError,
}

/// Counters of one release on one host.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    server_errors: AtomicU64,
    lost_paths: AtomicU64,
    client_errors: AtomicU64,
    latency: [AtomicU64; CLASSES],
    /// Its host is split: no traffic is news as well.
    watched: AtomicBool,
}

impl Counters {
    /// Whether every sample is to tell it, also without traffic.
    pub(crate) fn watch(&self, watched: bool) {
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// Counts an answered request.
    pub(crate) fn count(&self, outcome: Outcome, took: Duration) {
        // The class first: a sample never has more requests than latencies.
        let ms = took.as_millis();
        let class = BOUNDS_MS.iter().position(|bound| ms < u128::from(*bound));
        if let Some(class) = self.latency.get(class.unwrap_or(CLASSES - 1)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
        let kind = match outcome {
            Outcome::Fine => None,
            Outcome::LostPath => Some(&self.lost_paths),
            Outcome::ClientError => Some(&self.client_errors),
            Outcome::ServerError => Some(&self.server_errors),
        };
        if let Some(kind) = kind {
            kind.fetch_add(1, Ordering::Relaxed);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self, host: &str, release: ReleaseId) -> pb::TrafficCounters {
        let value = |counter: &AtomicU64| signed(counter.load(Ordering::Relaxed));
        pb::TrafficCounters {
            host: host.to_owned(),
            release_id: release.to_string(),
            requests: value(&self.requests),
            server_errors: value(&self.server_errors),
            lost_paths: value(&self.lost_paths),
            client_errors: value(&self.client_errors),
            latency: self.latency.iter().map(value).collect(),
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// All counters of this start.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    all: Mutex<HashMap<(String, ReleaseId), Counted>>,
}

#[derive(Debug, Default)]
struct Counted {
    counters: Arc<Counters>,
    /// Requests when last looked at, and the samples since they changed.
    seen: u64,
    idle: u32,
}

impl Traffic {
    /// The counters of a release on a host; they outlive the route.
    pub(crate) fn counters(&self, host: &str, release: ReleaseId) -> Arc<Counters> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = all.entry((host.to_owned(), release)).or_default();
        Arc::clone(&counted.counters)
    }

    /// What sample number `number` tells: what changed lately, every so often everything that ever
    /// counted a visitor, and always what is watched.
    pub(crate) fn sample(&self, number: u64) -> Vec<pb::TrafficCounters> {
        let mut told = Vec::new();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(host, release), counted| {
            let requests = counted.counters.requests.load(Ordering::Relaxed);
            counted.idle = if requests == counted.seen {
                counted.idle.saturating_add(1)
            } else {
                0
            };
            counted.seen = requests;
            let watched = counted.counters.watched.load(Ordering::Relaxed);
            let is_due = is_told(counted.idle) || number.is_multiple_of(ALL_EVERY);
            // What has counted nothing says the same as no counter.
            if watched || (requests > 0 && is_due) {
                told.push(counted.counters.read(host, *release));
            }
            counted.idle < KEPT_FOR || Arc::strong_count(&counted.counters) > 1
        });
        told
    }
}

/// Whether a counter is told that changed so many samples ago.
const fn is_told(idle: u32) -> bool {
    idle <= TOLD_AGAIN && (idle + 1).is_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(traffic: &Traffic, number: u64) -> pb::TrafficCounters {
        traffic.sample(number).remove(0)
    }

    #[test]
    fn requests_are_counted_by_outcome_and_latency() {
        let traffic = Traffic::default();
        let release = ReleaseId::new();
        let counters = traffic.counters("docs", release);
        let ms = Duration::from_millis;
        counters.count(Outcome::Fine, Duration::from_micros(300));
        counters.count(Outcome::Fine, ms(1));
        counters.count(Outcome::LostPath, ms(7));
        counters.count(Outcome::ClientError, ms(999));
        counters.count(Outcome::ServerError, ms(60_000));
        let sample = only(&traffic, 1);
        assert_eq!(
            (sample.host.as_str(), sample.release_id),
            ("docs", release.to_string())
        );
        assert_eq!(sample.requests, 5);
        assert_eq!(
            (
                sample.lost_paths,
                sample.client_errors,
                sample.server_errors
            ),
            (1, 1, 1)
        );
        assert_eq!(sample.latency, [1, 1, 0, 1, 0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn counters_only_rise_also_over_a_change_of_routes() {
        let traffic = Traffic::default();
        let release = ReleaseId::new();
        traffic
            .counters("docs", release)
            .count(Outcome::Fine, Duration::ZERO);
        traffic
            .counters("docs", release)
            .count(Outcome::Fine, Duration::ZERO);
        assert_eq!(only(&traffic, 1).requests, 2);
        assert_eq!(only(&traffic, 2).requests, 2);
    }

    #[test]
    fn idle_counters_are_told_seldom_and_forgotten_without_a_route() {
        let traffic = Traffic::default();
        let release = ReleaseId::new();
        let counters = traffic.counters("docs", release);
        // Nobody came yet: that is told where a verdict waits for it.
        assert!((1..=ALL_EVERY).all(|number| traffic.sample(number).is_empty()));
        counters.watch(true);
        assert_eq!(only(&traffic, 1).requests, 0);
        counters.watch(false);
        counters.count(Outcome::Fine, Duration::ZERO);
        let told = (1..ALL_EVERY).filter(|number| !traffic.sample(*number).is_empty());
        assert_eq!(told.collect::<Vec<_>>(), [1, 2, 4, 8]);
        assert_eq!(traffic.sample(ALL_EVERY).len(), 1);
        counters.watch(true);
        assert_eq!(traffic.sample(31).len(), 1);
        drop(counters);
        for _ in 0..KEPT_FOR {
            traffic.sample(1);
        }
        assert_eq!(traffic.sample(ALL_EVERY).len(), 0);
    }
}
