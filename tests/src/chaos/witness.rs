//! Who watches while a run goes on: one looks at the database from moment to moment, one listens to
//! the bus, one follows the events through the gateways. None of them asks a service how it is.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result};
use candlefish_devstack::Stack;
use candlefish_proto::event::{Envelope, WatchEventsRequest, WatchEventsResponse};
use candlefish_testkit::checker::{self, Broken, Told};
use futures_util::StreamExt;
use prost::Message;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::callers::{Callers, pause};

/// For how long something due, or given up by who died, may stay so while everything is killed in
/// turn. One lease would be the promise to a platform whose processes run.
const PATIENCE: Duration = Duration::from_secs(20);
/// The last events are told within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// Looks from moment to moment until the run is over or something is broken.
pub(super) async fn moments(url: &str, over: CancellationToken) -> Broken {
    let mut connection = None;
    loop {
        let look =
            async |connection: &mut PgConnection| checker::moment(connection, PATIENCE).await;
        if let Some(broken) = with_database(url, &mut connection, look).await
            && !broken.is_empty()
        {
            return broken;
        }
        if over.run_until_cancelled(pause()).await.is_none() {
            return Broken::new();
        }
    }
}

/// Asks the database, and opens a new connection for the next time when it does not answer.
async fn with_database<T>(
    url: &str,
    connection: &mut Option<PgConnection>,
    ask: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
) -> Option<T> {
    if connection.is_none() {
        *connection = PgConnection::connect(url).await.ok();
    }
    let answer = ask(connection.as_mut()?).await;
    if answer.is_err() {
        *connection = None;
    }
    answer.ok()
}

/// Listens to the bus: what it carries must be in the database already.
pub(super) async fn bus(
    stack: &Stack,
    over: CancellationToken,
) -> Result<impl Future<Output = Broken> + use<>> {
    let url = stack.superuser_database_url();
    let client = async_nats::ConnectOptions::new()
        .max_reconnects(None)
        .connect(stack.nats().url())
        .await?;
    let mut messages = client.subscribe("deploy.>").await?;
    client.flush().await?;
    Ok(async move {
        // Held: a client that is dropped unsubscribes.
        let _client = client;
        let mut connection = None;
        while let Some(Some(message)) = over.run_until_cancelled(messages.next()).await {
            let Ok(event) = Envelope::decode(message.payload.as_ref()) else {
                continue;
            };
            if let Err((claim, words)) = judge(&url, &mut connection, &event).await {
                return Broken::from([(claim.to_owned(), vec![words])]);
            }
        }
        Broken::new()
    })
}

async fn judge(
    url: &str,
    connection: &mut Option<PgConnection>,
    event: &Envelope,
) -> Result<(), checker::Fault> {
    loop {
        let ask =
            async |connection: &mut PgConnection| checker::is_committed(connection, event).await;
        match with_database(url, connection, ask).await {
            Some(verdict) => return verdict,
            None => pause().await,
        }
    }
}

/// Follows the events from now on through one gateway after the other, each time from the last
/// cursor; at the end of the run it must have been told all of them.
pub(super) struct Follower {
    callers: Callers,
    url: String,
    cursor: String,
    told: Vec<Told>,
}

impl Follower {
    pub(super) fn new(callers: Callers, stack: &Stack) -> Self {
        Self {
            callers,
            url: stack.superuser_database_url(),
            cursor: String::new(),
            told: Vec::new(),
        }
    }

    /// Follows until the first event is told; the run may begin then.
    pub(super) async fn begin(mut self, cause: impl Future<Output = Result<()>>) -> Result<Self> {
        let mut events = self.open().await?;
        cause.await?;
        // A message may be nothing but a cursor.
        while self.told.is_empty() {
            let next = events.message().await?.context("a first event")?;
            self.take(next.cursor, next.event);
        }
        Ok(self)
    }

    /// Follows until `over`, and then until it was told everything or that takes too long.
    pub(super) async fn follow(mut self, over: CancellationToken) -> Broken {
        over.run_until_cancelled(self.listen()).await;
        let url = self.url.clone();
        let caught_up = tokio::time::timeout(TOLD_WITHIN, async {
            loop {
                let missing = checker::told(&url, &self.told).await;
                if missing.is_empty() {
                    return;
                }
                // Dropping this in the middle loses nothing: the cursor is moved with each event.
                let _more = tokio::time::timeout(Duration::from_secs(1), self.listen()).await;
            }
        });
        // Late: then the last look says what is missing.
        let _late = caught_up.await;
        checker::told(&url, &self.told).await
    }

    async fn listen(&mut self) {
        loop {
            if let Ok(mut events) = self.open().await {
                while let Ok(Some(next)) = events.message().await {
                    self.take(next.cursor, next.event);
                }
            }
            pause().await;
        }
    }

    async fn open(&self) -> Result<Streaming<WatchEventsResponse>, Status> {
        let request = WatchEventsRequest {
            cursor: self.cursor.clone(),
            ..Default::default()
        };
        let mut client = self.callers.any().events();
        Ok(client.watch_events(request).await?.into_inner())
    }

    fn take(&mut self, cursor: String, event: Option<Envelope>) {
        self.cursor = cursor;
        self.told.extend(event.as_ref().map(Told::from));
    }
}
