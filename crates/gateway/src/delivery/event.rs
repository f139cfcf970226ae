//! What the room tells the world.

use candlefish_messaging::Fact;
use candlefish_proto::delivery as pb;
use prost::Message;

use super::Delivery;

/// A delivery is stored. The body stays here: it may have 25 MB.
pub(super) fn received(delivery: Delivery) -> Fact {
    let (entity, actor) = (delivery.id.to_string(), delivery.source.clone());
    let traceparent = delivery.traceparent.clone();
    let body = pb::DeliveryReceived {
        delivery: Some(delivery.into()),
    };
    Fact {
        entity,
        entity_version: 1,
        event_type: "gateway.delivery.received.v1",
        site: String::new(),
        environment: String::new(),
        actor,
        traceparent,
        terminal: false,
        body: prost_types::Any {
            type_url: "type.googleapis.com/candlefish.delivery.v1.DeliveryReceived".to_owned(),
            value: body.encode_to_vec(),
        },
    }
}
