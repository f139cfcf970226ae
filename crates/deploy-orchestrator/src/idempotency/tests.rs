use candlefish_proto::{DESCRIPTORS, deploy as pb};
use candlefish_runtime::identity::{Caller, Kind, Role};
use prost_types::{FileDescriptorSet, MessageOptions, field_descriptor_proto::Type};

use super::*;

fn caller(principal: &str) -> Caller {
    Caller {
        principal: principal.to_owned(),
        kind: Kind::Person,
        role: Role::Admin,
        sites: Vec::new(),
        request_id: String::new(),
        issuer: "gateway".to_owned(),
    }
}

fn key_of(value: &str, message: &pb::CreateSiteRequest) -> Result<Option<Key>, Refusal> {
    let mut metadata = MetadataMap::new();
    metadata.insert(KEY, value.parse().unwrap());
    Key::of(&metadata, &caller("ada"), "CreateSite", message)
}

#[test]
fn a_call_without_a_key_has_none() {
    let message = pb::CreateSiteRequest::default();
    let key = Key::of(&MetadataMap::new(), &caller("ada"), "CreateSite", &message).unwrap();
    assert_eq!(key, None);
}

#[test]
fn a_key_is_1_to_255_visible_characters() {
    let message = pb::CreateSiteRequest::default();
    for good in ["a", "9b1d-0aa/~!", &"x".repeat(255)] {
        assert!(key_of(good, &message).unwrap().is_some(), "{good}");
    }
    for bad in ["", "with space", &"x".repeat(256)] {
        assert!(key_of(bad, &message).is_err(), "{bad:?}");
    }
}

#[test]
fn another_message_has_another_hash() {
    let docs = pb::CreateSiteRequest {
        slug: "docs".to_owned(),
        ..Default::default()
    };
    let api = pb::CreateSiteRequest {
        slug: "api".to_owned(),
        ..Default::default()
    };
    assert_eq!(key_of("k", &docs).unwrap(), key_of("k", &docs).unwrap());
    assert_ne!(key_of("k", &docs).unwrap(), key_of("k", &api).unwrap());
}

#[test]
fn a_replayed_answer_says_so_in_its_metadata() {
    let fresh = Reply::new(pb::Site::default()).into_response();
    assert!(fresh.metadata().get(REPLAYED).is_none());
    let replayed = Reply::replayed(pb::Site::default()).into_response();
    assert_eq!(replayed.metadata().get(REPLAYED).unwrap(), "true");
}

/// What [`Key::of`] relies on: a map's order differs from encoding to encoding.
#[test]
fn no_request_of_this_service_has_a_map() {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut looked_at = 0;
    for file in set
        .file
        .iter()
        .filter(|file| file.package() == "candlefish.deploy.v1")
    {
        for message in file
            .message_type
            .iter()
            .filter(|m| m.name().ends_with("Request"))
        {
            looked_at += 1;
            for entry in &message.nested_type {
                let is_map = entry
                    .options
                    .as_ref()
                    .is_some_and(MessageOptions::map_entry);
                assert!(!is_map, "{} has the map {}", message.name(), entry.name());
            }
            for field in message.field.iter().filter(|f| f.r#type() == Type::Message) {
                let known = [
                    ".candlefish.deploy.v1.Strategy",
                    ".candlefish.deploy.v1.Policy",
                    ".candlefish.deploy.v1.PushRule",
                    ".candlefish.deploy.v1.PreviewRule",
                    ".google.protobuf.Timestamp",
                ];
                let edge_state = message.name() == "WatchRoutesRequest";
                assert!(
                    edge_state || known.contains(&field.type_name()),
                    "{}.{} is a message whose fields this test does not know",
                    message.name(),
                    field.name()
                );
            }
        }
    }
    assert!(looked_at > 20, "the descriptors were not read: {looked_at}");
}
