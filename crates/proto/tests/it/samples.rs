//! Every event has a stored sample that still decodes: an event stays readable as long as somebody keeps it,
//! so what was stored once is never written again.
//!
//! `samples/<type>.binpb` is an envelope as the bus carries it, `<type>.json` says what it holds. For a new event
//! write the JSON and run the test: it stores the bytes beside it, fails once, and both are committed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use candlefish_proto::{DESCRIPTORS, event::Envelope};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

/// Where facts are made.
const PUBLISHERS: [&str; 2] = ["deploy-orchestrator", "gateway"];
/// Areas of events, which are the publishers' schemas.
const AREAS: [&str; 2] = ["deploy", "gateway"];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sample(event_type: &str, ending: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples");
    folder.join(format!("{event_type}.{ending}"))
}

fn envelope() -> MessageDescriptor {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let found = pool.get_message_by_name("candlefish.event.v1.Envelope");
    found.unwrap()
}

/// What an encoded envelope holds, its body too.
fn shown(bytes: &[u8]) -> Value {
    let message = DynamicMessage::decode(envelope(), bytes).unwrap();
    let options = SerializeOptions::new().use_proto_field_name(true);
    let shown = message.serialize_with_options(serde_json::value::Serializer, &options);
    shown.unwrap()
}

/// Every type that the publishers' code names, without that of their tests.
fn published() -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    let mut folders: Vec<PathBuf> = PUBLISHERS
        .iter()
        .map(|name| crates().join(name).join("src"))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.is_file() && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                types.extend(
                    code.split('"')
                        .filter(|word| is_type(word))
                        .map(str::to_owned),
                );
            }
        }
    }
    types
}

/// `<area>.<noun>.<past verb>.v1`.
fn is_type(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    let named = |part: &str| {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        !part.is_empty() && part.bytes().all(letter)
    };
    match parts.as_slice() {
        [area, noun, verb, "v1"] => AREAS.contains(area) && named(noun) && named(verb),
        _ => false,
    }
}

/// Every type that has something stored.
fn stored() -> BTreeSet<String> {
    let folder = sample("any", "json");
    let entries = fs::read_dir(folder.parent().unwrap()).unwrap();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            path.file_stem().unwrap().to_str().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn every_event_has_a_sample() {
    let published = published();
    assert!(published.len() > 20, "only {published:?} were found");
    let stored = stored();
    let missing: Vec<_> = published.difference(&stored).collect();
    assert!(
        missing.is_empty(),
        "no sample of {missing:?}: write crates/proto/tests/samples/<type>.json"
    );
}

#[test]
fn every_sample_decodes_to_what_was_stored() {
    let mut made = Vec::new();
    // Also of an event that nobody publishes any more: somebody may keep one.
    for event_type in stored() {
        let text = fs::read_to_string(sample(&event_type, "json")).unwrap();
        let said: Value = serde_json::from_str(&text).unwrap();
        let path = sample(&event_type, "binpb");
        if !path.exists() {
            let message = DynamicMessage::deserialize(envelope(), said.clone()).unwrap();
            fs::write(&path, message.encode_to_vec()).unwrap();
            made.push(event_type.clone());
        }
        let bytes = fs::read(&path).unwrap();
        assert_eq!(shown(&bytes), said, "{event_type}");
        let typed = Envelope::decode(bytes.as_slice()).unwrap();
        assert_eq!(typed.r#type, event_type);
        assert_eq!(shown(&typed.encode_to_vec()), said, "{event_type}");
    }
    assert!(made.is_empty(), "now stored, to be committed: {made:?}");
}
