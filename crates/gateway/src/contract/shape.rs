//! What the shape of messages says about a method: which resource a call makes and where it is read,
//! and how a stream is resumed. Derived, so that `proto/` needs no further options for it.

use http::Method as HttpMethod;
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor};

use super::{
    Keeps, Method,
    path::{Segment, Template},
};

/// A call that makes a resource: 201, and where to read it.
#[derive(Debug, Clone)]
pub(crate) struct Creates {
    /// The response field that holds the resource; nothing when the response is the resource.
    within: Option<FieldDescriptor>,
    /// Where the resource is read, when it can be.
    read_at: Option<Template>,
}

impl Creates {
    /// Whether this response made something, and the path where it is read.
    #[expect(
        clippy::option_option,
        reason = "nothing made, made and nowhere to read, made and there"
    )]
    pub(crate) fn made(&self, response: &DynamicMessage) -> Option<Option<String>> {
        let already = response.get_field_by_name("already");
        if already.is_some_and(|value| value.as_bool() == Some(true)) {
            return None;
        }
        let Some(field) = &self.within else {
            return Some(self.location(response));
        };
        if !response.has_field(field) {
            return None;
        }
        let value = response.get_field(field);
        Some(self.location(value.as_message()?))
    }

    fn location(&self, resource: &DynamicMessage) -> Option<String> {
        let mut path = String::new();
        let segments = self.read_at.as_ref()?.segments();
        for (place, segment) in segments.iter().enumerate() {
            path.push('/');
            match segment {
                Segment::Literal(word) => path.push_str(word),
                Segment::Field(name) => {
                    let name = field_of_resource(name, place + 1 == segments.len());
                    let value = resource.get_field_by_name(name)?;
                    path.push_str(value.as_str().filter(|text| !text.is_empty())?);
                }
            }
        }
        Some(path)
    }
}

/// In `/v1/sites/{site}` a site is named by its slug; in `/v1/deployments/{id}` by its id.
const fn field_of_resource(name: &str, last: bool) -> &str {
    if last && !matches!(name.as_bytes(), b"id") {
        "slug"
    } else {
        name
    }
}

/// Where a stream is after a message, and how to ask for what comes after.
#[derive(Debug, Clone)]
pub(crate) struct StreamIds {
    /// Of the response.
    pub(crate) from: FieldDescriptor,
    /// Of the request.
    pub(crate) to: FieldDescriptor,
}

/// Fills what is derived from the messages.
pub(super) fn add(methods: &mut [Method]) {
    let readable: Vec<(MessageDescriptor, Template)> = methods
        .iter()
        .filter(|method| !method.streams)
        .flat_map(|method| {
            method
                .routes
                .iter()
                .map(|route| (method.output.clone(), route))
        })
        .filter(|(_, route)| route.verb == HttpMethod::GET && route.template.verb().is_none())
        .filter(|(_, route)| matches!(route.template.segments().last(), Some(Segment::Field(_))))
        .map(|(output, route)| (output, route.template.clone()))
        .collect();
    for method in methods {
        method.creates = creates(method, &readable);
        method.stream_ids = stream_ids(method);
        method.keeps = Keeps::of(method);
    }
}

fn creates(method: &Method, readable: &[(MessageDescriptor, Template)]) -> Option<Creates> {
    let makes = method.name.starts_with("Create") || method.name.starts_with("Retry");
    if !makes || method.is_safe() {
        return None;
    }
    let within = method.output.fields().filter_map(|field| {
        let message = field.kind().as_message()?.clone();
        (!field.is_list() && !field.is_map()).then_some((message, Some(field)))
    });
    let candidates: Vec<_> = std::iter::once((method.output.clone(), None))
        .chain(within)
        .collect();
    let read = candidates.iter().find_map(|(message, within)| {
        let (_, template) = readable.iter().find(|(output, template)| {
            output == message
                && template.fields().enumerate().all(|(place, name)| {
                    let name = field_of_resource(name, place + 1 == template.fields().count());
                    message.get_field_by_name(name).is_some()
                })
        })?;
        Some(Creates {
            within: within.clone(),
            read_at: Some(template.clone()),
        })
    });
    read.or_else(|| {
        let (_, within) = candidates
            .iter()
            .find(|(message, _)| message.get_field_by_name("id").is_some())?;
        Some(Creates {
            within: within.clone(),
            read_at: None,
        })
    })
}

fn stream_ids(method: &Method) -> Option<StreamIds> {
    if !method.streams {
        return None;
    }
    [("version", "after_version"), ("cursor", "cursor")]
        .into_iter()
        .find_map(|(from, to)| {
            Some(StreamIds {
                from: method.output.get_field_by_name(from)?,
                to: method.input.get_field_by_name(to)?,
            })
        })
}
