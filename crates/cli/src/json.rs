//! The same JSON as REST: ProtoJSON with proto field names, from the descriptor set.

use std::sync::OnceLock;

use candlefish_proto::{DESCRIPTORS, access, deploy, event};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

/// A message that is shown as JSON.
pub(crate) trait Shown: Message {
    /// Its full name in the descriptor set.
    const NAME: &'static str;
}

macro_rules! shown {
    ($($package:ident: $($message:ident),+;)+) => {
        $($(impl Shown for $package::$message {
            const NAME: &'static str = concat!("candlefish.", stringify!($package), ".v1.", stringify!($message));
        })+)+

        #[cfg(test)]
        const NAMES: &[&str] = &[$($(<$package::$message as Shown>::NAME,)+)+];
    };
}

shown! {
    access: CreateTokenResponse, ListPrincipalsResponse, ListTokensResponse, Principal, Token, WhoAmIResponse;
    deploy: Deployment, Environment, Lane, ListBlockersResponse, ListDeploymentsResponse, ListEdgesResponse,
        ListEnvironmentsResponse, ListHistoryResponse, ListLogsResponse, ListQueueItemsResponse, ListReleasesResponse, ListSitesResponse,
        ListStopsResponse, ListTriggersResponse, LogLine, QueueItem, Release, Rollback, Site, Stop;
    event: WatchEventsResponse;
}

fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        DescriptorPool::decode(DESCRIPTORS).expect("the build made the descriptor set")
    })
}

/// How JSON is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// On one line, for programs that read line by line.
    Line,
    /// Indented, for people too.
    Indented,
}

/// The message as JSON. As in REST, fields at their default are left out, but a list of the message
/// itself is always there.
pub(crate) fn text<M: Shown>(message: &M, layout: Layout) -> String {
    let descriptor = pool()
        .get_message_by_name(M::NAME)
        .expect("a test looks up every name");
    let dynamic = DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice())
        .expect("generated code and the descriptor set are made from the same files");
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut out = Vec::new();
    let done = match layout {
        Layout::Line => {
            dynamic.serialize_with_options(&mut serde_json::Serializer::new(&mut out), &options)
        }
        Layout::Indented => {
            dynamic.serialize_with_options(&mut serde_json::Serializer::pretty(&mut out), &options)
        }
    };
    // An `Any` of a newer server has a type that is not known here.
    if let Err(error) = done {
        let error = format!("cannot show {}: {error}", M::NAME);
        return serde_json::json!({ "error": error }).to_string();
    }
    let mut text = String::from_utf8(out).expect("JSON is UTF-8");
    for list in descriptor
        .fields()
        .filter(|field| field.is_list() && !dynamic.has_field(field))
    {
        append(&mut text, list.name(), layout);
    }
    text
}

/// Puts an empty list at the end of an object.
fn append(object: &mut String, name: &str, layout: Layout) {
    let fields = object
        .strip_suffix('}')
        .map_or(0, |open| open.trim_end().len());
    object.truncate(fields);
    if fields > 1 {
        object.push(',');
    }
    let (before, between, after) = match layout {
        Layout::Line => ("", "", ""),
        Layout::Indented => ("\n  ", " ", "\n"),
    };
    for part in [before, "\"", name, "\":", between, "[]", after, "}"] {
        object.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shown_message_is_in_the_descriptor_set() {
        for name in NAMES {
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
        let shown: serde_json::Value =
            serde_json::from_str(&text(&deployment, Layout::Line)).unwrap();
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
}
