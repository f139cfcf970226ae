//! What REST answers is what `candlefish --json` prints: both are held to the same standard.

use prost::Message as _;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage as _, SerializeOptions, Value,
};
use serde_json::Value as Json;

use crate::transcode::render;

#[test]
fn every_message_is_shown_as_the_command_line_shows_it() {
    let pool = DescriptorPool::decode(candlefish_proto::DESCRIPTORS).unwrap();
    let ours = |kind: &MessageDescriptor| {
        kind.package_name().starts_with("candlefish.") && !kind.is_map_entry()
    };
    let mut seen = 0;
    for kind in pool.all_messages().filter(ours) {
        let whole = (0..turns(&pool)).map(|turn| filled(&kind, turn, &[]));
        for message in whole.chain([DynamicMessage::new(kind.clone())]) {
            let text = render(&message);
            let shown: Json = serde_json::from_slice(&text).unwrap();
            assert_eq!(shown, standard(&message), "{}", kind.full_name());
        }
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
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
/// the command line's JSON in its `json/tests.rs`.
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
