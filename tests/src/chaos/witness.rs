//! Who watches while a run goes on: one looks at the database from moment to moment, one listens to
//! the bus, one follows the events through the gateways. None of them asks a service how it is.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result};
use candlefish_devstack::Stack;
use candlefish_proto::event::{Envelope, WatchEventsRequest, WatchEventsResponse};
use candlefish_testkit::checker::{self, Broken, Patience, Told, Weather};
use futures_util::StreamExt;
use prost::Message;
use sqlx::{Connection, PgConnection, Row};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::{
    callers::{Callers, ONE_ACT, pause},
    lane::SITE,
};

/// What may last a while. The promise is one lease, a second, to a platform whose processes run.
const PATIENCE: Patience = Patience {
    // Everything is killed in turn, one that is frozen within a transaction keeps its locks, and two
    // cores do all the work of 24 lanes.
    at_most: Duration::from_secs(40),
    // Outside of faults an orchestrator runs that may take it up. A step that lost two workers is left to
    // an idle one for four leases more; twice these five seconds are for a machine that is busy.
    without_owner: Duration::from_secs(10),
};
/// A database that is coming back answers within this time.
const ASKED_WITHIN: Duration = Duration::from_mins(1);
/// The last events are told within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// What callers asked for has a release of its own each time, whoever asks however often; a rollback
/// is another kind.
const TWICE: &str = "
    SELECT format('%s has %s deployments of %s', e.slug, count(*), d.release_id)
    FROM deploy.deployment d JOIN deploy.environment e ON e.id = d.environment_id
    JOIN deploy.site s ON s.id = d.site_id
    WHERE s.slug = $1 AND d.kind = 'standard'
    GROUP BY e.slug, d.release_id HAVING count(*) > 1";

/// Looks from moment to moment until the run is over or something is broken.
pub(super) async fn moments(url: String, weather: Weather, over: CancellationToken) -> Broken {
    let mut connection = None;
    loop {
        let look = async |connection: &mut PgConnection| moment(connection, &weather).await;
        if let Some(broken) = with_database(&url, &mut connection, look).await
            && !broken.is_empty()
        {
            return broken;
        }
        if over.run_until_cancelled(pause()).await.is_none() {
            return Broken::new();
        }
    }
}

async fn moment(connection: &mut PgConnection, weather: &Weather) -> Result<Broken, sqlx::Error> {
    let mut broken = checker::moment(connection, PATIENCE, weather).await?;
    if !super::without_excuse() {
        broken.remove(super::DEADLOCKS);
    }
    let twice = sqlx::query(TWICE).bind(SITE).fetch_all(connection).await?;
    if !twice.is_empty() {
        let words = twice.iter().map(|row| row.get(0)).collect();
        broken.insert(ONE_ACT.to_owned(), words);
    }
    Ok(broken)
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

/// Listens to the bus: what it carries must be in the database already, and stay there whatever
/// happens to the database.
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
        let mut heard = Vec::new();
        while let Some(Some(message)) = over.run_until_cancelled(messages.next()).await {
            let Ok(event) = Envelope::decode(message.payload.as_ref()) else {
                continue;
            };
            if let Err(fault) = judge(&url, &mut connection, &heard, Some(&event)).await {
                return broken(fault);
            }
            heard.push(Told::from(&event));
        }
        // Once more at all of it.
        connection = None;
        let end = judge(&url, &mut connection, &heard, None);
        match tokio::time::timeout(ASKED_WITHIN, end).await {
            Ok(Err(fault)) => broken(fault),
            // A database that does not come back breaks the run anyway.
            Ok(Ok(())) | Err(_) => Broken::new(),
        }
    })
}

fn broken((claim, words): checker::Fault) -> Broken {
    Broken::from([(claim.to_owned(), vec![words])])
}

/// Looks at an event that was just heard, and by a new connection first at all that was heard before:
/// the database was gone.
async fn judge(
    url: &str,
    connection: &mut Option<PgConnection>,
    heard: &[Told],
    event: Option<&Envelope>,
) -> Result<(), checker::Fault> {
    loop {
        let before = if connection.is_none() { heard } else { &[] };
        let ask = async |connection: &mut PgConnection| look(connection, before, event).await;
        match with_database(url, connection, ask).await {
            Some(verdict) => return verdict,
            None => pause().await,
        }
    }
}

async fn look(
    connection: &mut PgConnection,
    before: &[Told],
    event: Option<&Envelope>,
) -> Result<Result<(), checker::Fault>, sqlx::Error> {
    let kept = checker::is_kept(connection, before).await?;
    match event {
        Some(event) if kept.is_ok() => checker::is_committed(connection, event).await,
        _ => Ok(kept),
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
