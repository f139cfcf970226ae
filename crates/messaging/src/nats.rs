//! The connection to NATS: made in the background, kept for ever.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, connection::State, jetstream};

const PING_INTERVAL: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Also how long a publish waits for its acknowledgement.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Acknowledgements that may be outstanding on one connection.
const ACKS_IN_FLIGHT: usize = 1024;
/// A bus that comes back is found within this time.
const LONGEST_RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// The text is not an address, or options clash.
#[derive(Debug, thiserror::Error)]
#[error("prepare the connection to NATS")]
pub struct Error(#[from] async_nats::ConnectError);

/// Connects in the background and for ever: a process starts, and works, while the bus is down.
pub async fn connect(name: &str, url: &str) -> Result<Client, Error> {
    Ok(ConnectOptions::new()
        .name(name)
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            let steps = u32::try_from(attempts.min(10)).unwrap_or(10);
            (Duration::from_millis(10) * 2_u32.pow(steps)).min(LONGEST_RECONNECT_DELAY)
        })
        .ping_interval(PING_INTERVAL)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .event_callback(|event| async move { tracing::info!("nats: {event}") })
        .connect(url)
        .await?)
}

/// Whether the bus is there now, for `/readyz` and for those who rather wait.
pub fn is_connected(client: &Client) -> bool {
    client.connection_state() == State::Connected
}

/// JetStream with our time limits.
pub(crate) fn jetstream(client: &Client) -> jetstream::Context {
    jetstream::context::ContextBuilder::new()
        .timeout(REQUEST_TIMEOUT)
        .ack_timeout(REQUEST_TIMEOUT)
        .max_ack_inflight(ACKS_IN_FLIGHT)
        .build(client.clone())
}
