//! JSON, paths and query parameters to messages, and messages to JSON.
//!
//! Pure. `ProtoJSON` with proto field names, stricter than the standard asks: a field that is
//! unknown, given twice or of the wrong type is refused, and every bad field is named at once with
//! its path, because a person corrects a request once, not once per fault.

use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor};

mod body;
mod json;
mod query;
mod render;
mod scalar;
#[cfg(test)]
mod tests;

pub(crate) use render::render;

/// Faults that are named in one answer; more help nobody.
const MOST_FAULTS: usize = 50;

/// One bad field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `strategy.canary.weights[1]`; empty for the body as a whole.
    pub(crate) field: String,
    pub(crate) message: String,
}

/// What a REST request says, before it is a message.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    /// Fields from the path.
    pub(crate) path: &'a [(&'a str, String)],
    /// The query string; may be empty.
    pub(crate) query: &'a str,
    /// The JSON body, when the route takes one. Empty is as good as `{}`.
    pub(crate) body: Option<&'a [u8]>,
}

/// A request that could not be read whole. What it gave and nobody could read is there, with nothing in
/// it, so that whoever judges the rest does not miss it.
#[derive(Debug)]
pub(crate) struct Half {
    pub(crate) message: DynamicMessage,
    /// What could not be read: one fault at least.
    pub(crate) faults: Vec<Fault>,
}

impl Half {
    /// Anything of the body could be read.
    pub(crate) fn is_something(&self) -> bool {
        self.faults.iter().all(|fault| !fault.field.is_empty())
    }
}

/// Makes the request message, or names everything that could not be read of it.
pub(crate) fn read(message: &MessageDescriptor, input: &Input<'_>) -> Result<DynamicMessage, Half> {
    let mut faults = Faults::default();
    let mut request = match input.body {
        Some(bytes) if !bytes.trim_ascii().is_empty() => body::read(message, bytes, &mut faults),
        _ => DynamicMessage::new(message.clone()),
    };
    for (name, text) in input.path {
        if let Some(field) = message.get_field_by_name(name) {
            set_from_path(&mut request, &field, text, &mut faults);
        }
    }
    if input.body.is_some() {
        refuse_query(input.query, &mut faults);
    } else {
        query::read(&mut request, input, &mut faults);
    }
    let Faults(faults) = faults;
    if faults.is_empty() {
        return Ok(request);
    }
    Err(Half {
        message: request,
        faults,
    })
}

fn set_from_path(
    request: &mut DynamicMessage,
    field: &FieldDescriptor,
    text: &str,
    faults: &mut Faults,
) {
    let given = request.get_field(field);
    let differs = given
        .as_str()
        .is_some_and(|given| !given.is_empty() && given != text);
    if differs {
        faults.add(field.name(), "is named by the path and is another here");
        return;
    }
    match scalar::from_text(field, text) {
        Ok(value) => request.set_field(field, value),
        Err(message) => faults.add(field.name(), message),
    }
}

fn refuse_query(query: &str, faults: &mut Faults) {
    for (name, _) in url::form_urlencoded::parse(query.as_bytes()) {
        faults.add(
            &name,
            "belongs in the body: this call takes no query parameters",
        );
    }
}

/// Collects what is wrong.
#[derive(Debug, Default)]
struct Faults(Vec<Fault>);

impl Faults {
    /// Nothing more is noted.
    fn are_full(&self) -> bool {
        self.0.len() >= MOST_FAULTS
    }

    fn add(&mut self, field: &str, message: impl Into<String>) {
        if !self.are_full() {
            self.0.push(Fault {
                field: field.to_owned(),
                message: message.into(),
            });
        }
    }
}

/// The names that a field may have had in mind: for "is unknown, did you mean …".
fn unknown_field(message: &MessageDescriptor, name: &str) -> String {
    let snake = snake_case(name);
    let near = message.fields().find(|field| field.name() == snake);
    if let Some(field) = near {
        return format!("is unknown here; it is called {:?}", field.name());
    }
    let names: Vec<String> = message
        .fields()
        .map(|field| field.name().to_owned())
        .collect();
    if names.is_empty() {
        "is unknown here: this takes no fields".to_owned()
    } else {
        format!("is unknown here; there are {}", names.join(", "))
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(if letter == '-' {
            '_'
        } else {
            letter.to_ascii_lowercase()
        });
    }
    snake
}
