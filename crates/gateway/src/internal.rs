//! The port for our own processes: what they read of deliveries and of our events.
//!
//! It is not the way in: no token of the API opens it, and nothing of it is on a public surface.

use std::{net::SocketAddr, path::PathBuf};

use candlefish_proto::{
    delivery::delivery_service_server::DeliveryServiceServer,
    event::feed_service_server::FeedServiceServer,
};
use candlefish_runtime::{
    identity::{Allow, KeyError, Verifier, VerifyLayer},
    listen,
};
use sqlx::PgPool;
use tonic::service::Routes;

use crate::{auth, call::ORCHESTRATOR, delivery, replay};

/// Where it listens, and whom it knows.
#[derive(Debug, Clone)]
pub(crate) struct Internal {
    pub(crate) listen: SocketAddr,
    /// Directory of `<issuer>.pub.pem`.
    pub(crate) trusted_keys: PathBuf,
}

impl Internal {
    /// What it serves; the deploy-orchestrator alone may call it.
    pub(crate) fn routes(&self, pool: &PgPool) -> Result<Routes, KeyError> {
        let allowed = Allow::none()
            .service("candlefish.delivery.v1.DeliveryService")
            .service("candlefish.event.v1.FeedService");
        let issuers = [(ORCHESTRATOR, allowed)];
        let verifier = Verifier::from_dir(auth::ISSUER, &self.trusted_keys, &issuers)?;
        let deliveries = delivery::rpc::Rpc { pool: pool.clone() };
        let deliveries = DeliveryServiceServer::new(deliveries)
            .max_decoding_message_size(listen::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(delivery::rpc::MOST_MESSAGE_BYTES);
        let feed = FeedServiceServer::new(replay::Rpc { pool: pool.clone() })
            .max_decoding_message_size(listen::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(listen::MAX_MESSAGE_BYTES);
        let routes = Routes::new(deliveries).add_service(feed);
        let identity = VerifyLayer::new(verifier);
        Ok(Routes::from(routes.into_axum_router().layer(identity)))
    }
}
