//! What fails at every turn while Postgres or the bus is away: said when it begins and when it is over.

use std::error::Error;

/// Whether one act of the relay fails now.
#[derive(Debug)]
pub(super) struct Outage {
    source: &'static str,
    act: &'static str,
    lasts: bool,
}

impl Outage {
    /// None yet, of an act (`stamping`) of a source's relay.
    pub(super) const fn of(source: &'static str, act: &'static str) -> Self {
        Self {
            source,
            act,
            lasts: false,
        }
    }

    /// It failed, and is tried again soon.
    pub(super) fn failed(&mut self, error: &dyn Error) {
        let Self { source, act, .. } = *self;
        let cause = error.source().map(|cause| format!(": {cause}"));
        let cause = cause.unwrap_or_default();
        if std::mem::replace(&mut self.lasts, true) {
            tracing::debug!(source, "relay: {act} still fails: {error}{cause}");
        } else {
            tracing::warn!(source, "relay: {act} fails: {error}{cause}");
        }
    }

    /// It went well.
    pub(super) fn over(&mut self) {
        let Self { source, act, .. } = *self;
        if std::mem::take(&mut self.lasts) {
            tracing::info!(source, "relay: {act} works again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use candlefish_testkit::wait_until;
    use sqlx::PgPool;
    use tokio_util::sync::CancellationToken;
    use tracing::{Event, Level, Metadata, Subscriber, span};

    use super::*;
    use crate::{
        nats,
        relay::{Relay, RelayConfig},
    };

    const SOON: Duration = Duration::from_secs(40);

    /// How loud a relay was, each time that it said something.
    #[derive(Debug, Clone, Default)]
    struct Said(Arc<Mutex<Vec<Level>>>);

    impl Said {
        fn levels(&self) -> Vec<Level> {
            self.0.lock().unwrap().clone()
        }
    }

    impl Subscriber for Said {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target().starts_with("candlefish_messaging::relay")
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

    #[test]
    fn an_outage_is_said_when_it_begins_and_when_it_is_over() {
        let said = Said::default();
        tracing::subscriber::with_default(said.clone(), || {
            let mut outage = Outage::of("test", "stamping");
            outage.over();
            for _ in 0..3 {
                outage.failed(&sqlx::Error::PoolTimedOut);
            }
            outage.over();
            outage.over();
            outage.failed(&sqlx::Error::PoolTimedOut);
        });
        let levels = [
            Level::WARN,
            Level::DEBUG,
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
        let pool = PgPool::connect_lazy("postgres://nobody@127.0.0.1:9/nothing").unwrap();
        pool.close().await;
        let bus = nats::connect("test", "nats://127.0.0.1:9").await.unwrap();
        let config = RelayConfig {
            lease: Duration::from_millis(50),
            ..RelayConfig::of("test")
        };
        let stopping = CancellationToken::new();
        let relaying = Relay::new(pool, bus, config).run(stopping.clone());
        let watching = async {
            wait_until(SOON, "some turns", async || said.levels().len() >= 5).await;
            stopping.cancel();
        };
        tokio::join!(relaying, watching);
        let levels = said.levels();
        assert_eq!(levels[0], Level::WARN);
        assert!(levels[1..].iter().all(|one| *one == Level::DEBUG));
    }
}
