use prost_reflect::{FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value};
use serde_json::Value as Json;

use super::*;

/// What is shown of a message that came as these bytes.
pub(super) fn text_of<M: Shown + Default>(bytes: &[u8], layout: Layout) -> String {
    text(&M::decode(bytes).unwrap(), layout)
}

#[test]
fn every_shown_message_is_in_the_descriptor_set() {
    for (name, _) in SHOWN {
        assert!(pool().get_message_by_name(name).is_some(), "{name}");
    }
}

#[test]
fn fields_keep_their_proto_names_and_enums_are_text() {
    let deployment = deploy::Deployment {
        id: "dep_1".to_owned(),
        release_id: "rel_1".to_owned(),
        state: deploy::deployment::State::Waiting.into(),
        created_at: Some(prost_types::Timestamp {
            seconds: 1_795_000_000,
            nanos: 0,
        }),
        version: 3,
        ..Default::default()
    };
    let shown: serde_json::Value = serde_json::from_str(&text(&deployment, Layout::Line)).unwrap();
    assert_eq!(
        shown,
        serde_json::json!({
            "id": "dep_1", "release_id": "rel_1", "state": "STATE_WAITING",
            "created_at": "2026-11-18T11:06:40Z", "version": 3,
            "blockers": [], "steps": []
        })
    );
}

#[test]
fn a_list_is_there_when_it_is_empty_and_objects_within_stay_whole() {
    let empty = deploy::ListSitesResponse::default();
    assert_eq!(text(&empty, Layout::Line), r#"{"sites":[]}"#);
    let release = deploy::Release {
        id: "rel_1".to_owned(),
        ..Default::default()
    };
    let deployment = deploy::Deployment {
        release: Some(release),
        ..Default::default()
    };
    for layout in [Layout::Line, Layout::Indented] {
        let text = text(&deployment, layout);
        let shown: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "release": { "id": "rel_1" }, "blockers": [], "steps": []
        });
        assert_eq!(shown, expected, "{text}");
    }
}

#[test]
fn every_message_is_shown_as_rest_shows_it() {
    for (name, text_of) in SHOWN {
        let kind = pool().get_message_by_name(name).unwrap();
        let whole: Vec<_> = (0..turns(pool()))
            .map(|turn| filled(&kind, turn, &[]))
            .collect();
        for field in kind.fields() {
            let is_filled = whole.iter().any(|message| message.has_field(&field));
            assert!(is_filled, "{}", field.full_name());
        }
        for message in whole.into_iter().chain([DynamicMessage::new(kind)]) {
            for layout in [Layout::Line, Layout::Indented] {
                let text = text_of(&message.encode_to_vec(), layout);
                let shown: Json = serde_json::from_str(&text).unwrap();
                assert_eq!(shown, standard(&message), "{name}");
            }
        }
    }
}

/// A message whose every field has a value. `turn` chooses among the members of a oneof, the values of
/// an enumeration (one that nobody knows yet among them) and the digits of a second. A message that is
/// `around` it, by its full name, is not in it once more.
fn filled(kind: &MessageDescriptor, turn: usize, around: &[&str]) -> DynamicMessage {
    let mut message = DynamicMessage::new(kind.clone());
    match kind.full_name() {
        "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
            let nanos = [0, 20_000_000, 7_000, 9][turn % 4];
            message.set_field_by_name("seconds", Value::I64(1_795_000_000));
            message.set_field_by_name("nanos", Value::I32(nanos));
        }
        "google.protobuf.Any" => {
            let name = [
                "candlefish.deploy.v1.EnvironmentChanged",
                "google.protobuf.Timestamp",
            ][turn % 2];
            let within = kind.parent_pool().get_message_by_name(name).unwrap();
            let bytes = filled(&within, turn, around).encode_to_vec();
            let url = format!("type.googleapis.com/{name}");
            message.set_field_by_name("type_url", Value::String(url));
            message.set_field_by_name("value", Value::Bytes(bytes.into()));
        }
        name => {
            let around = [around, &[name][..]].concat();
            for field in kind.fields().filter(|field| is_of_turn(field, turn)) {
                let kind = field.kind();
                let again = kind
                    .as_message()
                    .is_some_and(|within| around.contains(&within.full_name()));
                if !again {
                    message.set_field(&field, given(&field, turn, &around));
                }
            }
        }
    }
    message
}

/// Of the members of a oneof each has its turn.
fn is_of_turn(field: &FieldDescriptor, turn: usize) -> bool {
    field.containing_oneof().is_none_or(|oneof| {
        let place = turn % oneof.fields().len();
        let member = oneof.fields().nth(place);
        member.as_ref() == Some(field)
    })
}

/// A value for a field.
fn given(field: &FieldDescriptor, turn: usize, around: &[&str]) -> Value {
    let kind = field.kind();
    if field.is_map() {
        let entry = kind.as_message().unwrap();
        let value = one(&entry.map_entry_value_field().kind(), turn, around);
        return Value::Map([(MapKey::String("x-one".to_owned()), value)].into());
    }
    if field.is_list() {
        let items = [turn, turn + 1].map(|turn| one(&kind, turn, around));
        return Value::List(items.into());
    }
    one(&kind, turn, around)
}

fn one(kind: &Kind, turn: usize, around: &[&str]) -> Value {
    match kind {
        Kind::Bool => Value::Bool(true),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(-7),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(u32::MAX),
        // More than a number of JSON is sure to hold.
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(-9_007_199_254_740_993),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::MAX),
        Kind::Float => Value::F32(0.1),
        Kind::Double => Value::F64(0.1),
        Kind::String => Value::String("\"Größe\" \\ </b>\n\u{1}\u{2028}🕯".to_owned()),
        Kind::Bytes => Value::Bytes(vec![0_u8, 62, 250, 255].into()),
        Kind::Enum(values) => {
            let place = 1 + turn % values.values().len();
            let named = values.values().nth(place);
            Value::EnumNumber(named.map_or(99, |value| value.number()))
        }
        Kind::Message(within) => Value::Message(filled(within, turn, around)),
    }
}

/// So many turns that each member of a oneof and each value of an enumeration had its own.
fn turns(pool: &DescriptorPool) -> usize {
    let values = pool.all_enums().map(|one| one.values().len()).max();
    let oneofs = pool.all_messages().flat_map(|message| {
        let members = message.oneofs().map(|one| one.fields().len());
        members.collect::<Vec<_>>()
    });
    values.max(oneofs.max()).unwrap()
}

/// What the command line and REST have in common: `ProtoJSON` as another's hand writes it, with proto
/// field names, and the lists of the message itself also where they are empty. The same is asserted of
/// REST's JSON in the gateway's
/// `transcode/tests/standard.rs`.
fn standard(message: &DynamicMessage) -> Json {
    let options = SerializeOptions::new().use_proto_field_name(true);
    let shown = message.serialize_with_options(serde_json::value::Serializer, &options);
    let mut shown = shown.unwrap();
    for field in message.descriptor().fields() {
        if field.is_list() && !message.has_field(&field) {
            shown[field.name()] = Json::Array(Vec::new());
        }
    }
    shown
}
