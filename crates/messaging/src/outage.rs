//! What fails again and again while Postgres, the bus or a peer is away: said when it begins, now and
//! then while it lasts, and when it is over.

use std::{
    error::Error,
    time::{Duration, Instant},
};

/// One that lasts is said again after this, so that whoever reads only the newest lines hears of it.
const AGAIN: Duration = Duration::from_mins(10);

/// Whether one act of a loop fails now.
#[derive(Debug)]
pub struct Outage {
    who: &'static str,
    name: &'static str,
    act: &'static str,
    /// When it was said last; none while the act works.
    said: Option<Instant>,
}

impl Outage {
    /// None yet, of an act (`stamping`) of a `relay`, a `consumer` or another loop, by its source or its name.
    pub const fn of(who: &'static str, name: &'static str, act: &'static str) -> Self {
        Self {
            who,
            name,
            act,
            said: None,
        }
    }

    /// It failed, and is tried again soon.
    pub fn failed(&mut self, error: &dyn Error) {
        self.failed_at(Instant::now(), error);
    }

    fn failed_at(&mut self, now: Instant, error: &dyn Error) {
        let Self { who, name, act, .. } = *self;
        let cause = error.source().map(|cause| format!(": {cause}"));
        let cause = cause.unwrap_or_default();
        match self.said {
            None => tracing::warn!("{who} {name}: {act} fails: {error}{cause}"),
            Some(said) if now.saturating_duration_since(said) >= AGAIN => {
                tracing::warn!("{who} {name}: {act} still fails: {error}{cause}");
            }
            Some(_lately) => {
                tracing::debug!("{who} {name}: {act} still fails: {error}{cause}");
                return;
            }
        }
        self.said = Some(now);
    }

    /// It went well.
    pub fn over(&mut self) {
        let Self { who, name, act, .. } = *self;
        if self.said.take().is_some() {
            tracing::info!("{who} {name}: {act} works again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use candlefish_proto::event::{Envelope, HeadResponse, ReplayRequest, ReplayResponse};
    use candlefish_testkit::wait_until;
    use sqlx::{PgConnection, PgPool};
    use tokio_util::sync::CancellationToken;
    use tracing::{Event, Level, Metadata, Subscriber, span};

    use super::*;
    use crate::{
        consumer::{Consumer, ConsumerConfig, Failure, Handler, Owner, OwnerError},
        nats,
        relay::{Relay, RelayConfig},
    };

    const SOON: Duration = Duration::from_secs(40);
    /// Whose words count here; the connection to the bus has its own.
    const SPEAKERS: [&str; 3] = ["outage", "relay", "consumer"];

    /// How loud a relay or a consumer was, each time that it said something.
    #[derive(Debug, Clone, Default)]
    struct Said(Arc<Mutex<Vec<Level>>>);

    impl Said {
        fn levels(&self) -> Vec<Level> {
            self.0.lock().unwrap().clone()
        }

        /// Waits until it was said a few times that something fails: once loud.
        async fn warns_once(&self) {
            wait_until(SOON, "some tries", async || self.levels().len() >= 5).await;
            let levels = self.levels();
            assert_eq!(levels[0], Level::WARN);
            assert!(levels[1..].iter().all(|one| *one == Level::DEBUG));
        }
    }

    impl Subscriber for Said {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            let within = metadata.target().strip_prefix("candlefish_messaging::");
            within.is_some_and(|room| SPEAKERS.iter().any(|one| room.starts_with(one)))
        }

        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }

        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

        fn event(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(*event.metadata().level());
        }

        fn enter(&self, _: &span::Id) {}

        fn exit(&self, _: &span::Id) {}
    }

    /// Nothing comes, and nothing is asked: the database is away.
    #[derive(Debug)]
    struct Idle;

    impl Handler for Idle {
        async fn apply(&self, _conn: &mut PgConnection, _event: &Envelope) -> Result<(), Failure> {
            Ok(())
        }

        async fn rebuild(&self) -> Result<(), Failure> {
            Ok(())
        }
    }

    impl Owner for Idle {
        async fn head(&self) -> Result<HeadResponse, OwnerError> {
            Ok(HeadResponse::default())
        }

        async fn replay(&self, _request: ReplayRequest) -> Result<ReplayResponse, OwnerError> {
            Ok(ReplayResponse::default())
        }
    }

    /// A database that nobody reaches.
    async fn closed() -> PgPool {
        let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1:9/nothing").unwrap();
        pool.close().await;
        pool
    }

    #[test]
    fn an_outage_is_said_when_it_begins_now_and_then_and_when_it_is_over() {
        let said = Said::default();
        tracing::subscriber::with_default(said.clone(), || {
            let error = &sqlx::Error::PoolTimedOut;
            let begins = Instant::now();
            let mut outage = Outage::of("relay", "test", "stamping");
            outage.over();
            outage.failed_at(begins, error);
            outage.failed_at(begins, error);
            outage.failed_at(begins + AGAIN, error);
            outage.failed_at(begins + AGAIN, error);
            outage.over();
            outage.over();
            outage.failed(error);
        });
        let levels = [
            Level::WARN,
            Level::DEBUG,
            Level::WARN,
            Level::DEBUG,
            Level::INFO,
            Level::WARN,
        ];
        assert_eq!(said.levels(), levels);
    }

    #[tokio::test]
    async fn a_relay_whose_database_is_away_warns_once() {
        let said = Said::default();
        let _subscribed = tracing::subscriber::set_default(said.clone());
        let bus = nats::connect("test", "nats://127.0.0.1:9").await.unwrap();
        let config = RelayConfig {
            lease: Duration::from_millis(50),
            ..RelayConfig::of("test")
        };
        let stopping = CancellationToken::new();
        let relaying = Relay::new(closed().await, bus, config).run(stopping.clone());
        let watching = async {
            said.warns_once().await;
            stopping.cancel();
        };
        tokio::join!(relaying, watching);
    }

    #[tokio::test]
    async fn a_consumer_whose_database_is_away_warns_once() {
        let said = Said::default();
        let _subscribed = tracing::subscriber::set_default(said.clone());
        let bus = nats::connect("test", "nats://127.0.0.1:9").await.unwrap();
        let config = ConsumerConfig {
            heal_every: Duration::from_millis(10),
            ..ConsumerConfig::of("test-idle-v1", "test")
        };
        let stopping = CancellationToken::new();
        let consumer = Consumer::new(closed().await, bus, config, Idle, Idle);
        let watching = async {
            said.warns_once().await;
            stopping.cancel();
        };
        tokio::join!(consumer.run(stopping.clone()), watching);
    }
}
