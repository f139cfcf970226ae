//! Which answers change no more by themselves: those of a read by id alone, about something of a site
//! that says when it finished. Derived from the messages, as what a call creates is.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage};

use super::{Method, Owner};

/// How such an answer is read.
#[derive(Debug, Clone)]
pub(crate) struct Keeps {
    /// The one field of the request.
    asked: FieldDescriptor,
    id: FieldDescriptor,
    site: FieldDescriptor,
    finished_at: FieldDescriptor,
    /// Other things that the answer shows, and that have ids of their own.
    parts: Vec<FieldDescriptor>,
}

/// What an answer that changes no more by itself is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) site: String,
    /// The ids of all that it shows, its own first.
    pub(crate) ids: Vec<String>,
}

impl Keeps {
    pub(super) fn of(method: &Method) -> Option<Self> {
        if method.streams || !method.is_safe() || method.owner == Owner::Gateway {
            return None;
        }
        let mut fields = method.input.fields();
        let asked = fields.next().filter(|field| is_text(field, "id"))?;
        if fields.next().is_some() {
            return None;
        }
        let text = |name| {
            let field = method.output.get_field_by_name(name)?;
            is_text(&field, name).then_some(field)
        };
        Some(Self {
            asked,
            id: text("id")?,
            site: text("site")?,
            finished_at: method.output.get_field_by_name("finished_at")?,
            parts: parts(&method.output),
        })
    }

    /// The id that a request asks for; none when it says anything else.
    pub(crate) fn asked(&self, message: &[u8]) -> Option<String> {
        let message = DynamicMessage::decode(self.asked.parent_message().clone(), message).ok()?;
        if message.unknown_fields().next().is_some() {
            return None;
        }
        Some(message.get_field(&self.asked).as_str()?.to_owned())
    }

    /// What the answer is about, when it is about something that has finished.
    pub(crate) fn ended(&self, answer: &DynamicMessage) -> Option<Ended> {
        if answer.descriptor() != *self.id.parent_message() || !answer.has_field(&self.finished_at)
        {
            return None;
        }
        let text = |message: &DynamicMessage, field: &FieldDescriptor| {
            let value = message.get_field(field);
            let text = value.as_str().filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let mut ids = vec![text(answer, &self.id)?];
        for part in &self.parts {
            let part = answer.get_field(part);
            let id = part.as_message()?.get_field_by_name("id")?;
            ids.push(id.as_str()?.to_owned());
        }
        Some(Ended {
            site: text(answer, &self.site)?,
            ids,
        })
    }
}

fn is_text(field: &FieldDescriptor, name: &str) -> bool {
    field.name() == name && field.kind() == Kind::String && !field.is_list()
}

fn parts(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let whole = message.fields().filter(|field| {
        let kind = field.kind();
        let id = kind.as_message().and_then(|m| m.get_field_by_name("id"));
        !field.is_list() && !field.is_map() && id.is_some_and(|id| is_text(&id, "id"))
    });
    whole.collect()
}
