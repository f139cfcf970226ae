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

        /// The name of each, and how its bytes are shown.
        #[cfg(test)]
        const SHOWN: &[(&str, fn(&[u8], Layout) -> String)] = &[$($((
            <$package::$message as Shown>::NAME,
            tests::text_of::<$package::$message>,
        ),)+)+];
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
mod tests;
