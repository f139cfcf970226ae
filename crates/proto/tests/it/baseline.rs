//! What landed is in the baseline, with which `buf` compares a change: a name that it lacks could go again
//! unnoticed.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

const BASELINE: &[u8] = include_bytes!("../../../../proto/baseline.binpb");

/// Every service, RPC, message, field, enum and value of our packages, by its whole name.
fn names(descriptors: &[u8]) -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(descriptors).unwrap();
    let mut names = BTreeSet::new();
    let ours = |package: &str| package.starts_with("candlefish.");
    for file in set.file.iter().filter(|file| ours(file.package())) {
        for service in &file.service {
            let service_name = format!("{}.{}", file.package(), service.name());
            let methods = service.method.iter();
            names.extend(methods.map(|one| format!("rpc {service_name}/{}", one.name())));
            names.insert(format!("service {service_name}"));
        }
        for message in &file.message_type {
            add_message(&mut names, file.package(), message);
        }
        for one in &file.enum_type {
            add_enum(&mut names, file.package(), one);
        }
        for one in &file.extension {
            names.insert(format!("extension {}.{}", file.package(), one.name()));
        }
    }
    names
}

fn add_message(names: &mut BTreeSet<String>, parent: &str, message: &DescriptorProto) {
    let name = format!("{parent}.{}", message.name());
    let fields = message.field.iter();
    names.extend(fields.map(|field| format!("field {name}.{}", field.name())));
    for nested in &message.nested_type {
        add_message(names, &name, nested);
    }
    for one in &message.enum_type {
        add_enum(names, &name, one);
    }
    names.insert(format!("message {name}"));
}

fn add_enum(names: &mut BTreeSet<String>, parent: &str, one: &EnumDescriptorProto) {
    let name = format!("{parent}.{}", one.name());
    let values = one.value.iter();
    names.extend(values.map(|value| format!("value {name}.{}", value.name())));
    names.insert(format!("enum {name}"));
}

#[test]
fn everything_that_landed_is_in_the_baseline() {
    let tree = names(candlefish_proto::DESCRIPTORS);
    assert!(tree.len() > 500, "only {} names were read", tree.len());
    let baseline = names(BASELINE);
    let missing: Vec<_> = tree.difference(&baseline).collect();
    assert!(
        missing.is_empty(),
        "proto/baseline.binpb lacks {} names, which nothing protects: {missing:#?}\n\
         Renew it: cargo xtask prepare --baseline",
        missing.len()
    );
}
