//! Query parameters to fields: `page_size=50`, `strategy.canary.interval=30s`, `types=a&types=b`.

use std::collections::HashSet;

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};

use super::{Faults, Input, scalar, unknown_field};

/// Sets what the query names; what is wrong is noted and left out.
pub(super) fn read(request: &mut DynamicMessage, input: &Input<'_>, faults: &mut Faults) {
    let mut seen = HashSet::new();
    for (name, text) in url::form_urlencoded::parse(input.query.as_bytes()) {
        if input.path.iter().any(|(field, _)| *field == name) {
            faults.add(&name, "is named by the path already");
            continue;
        }
        let path = match find(&request.descriptor(), &name) {
            Ok(path) => path,
            Err(message) => {
                faults.add(&name, message);
                continue;
            }
        };
        let Some((last, parents)) = path.split_last() else {
            continue;
        };
        if !last.is_list() && !seen.insert(name.to_string()) {
            faults.add(&name, "is given twice");
            continue;
        }
        match scalar::from_text(last, &text) {
            Ok(value) => set(request, parents, last, value),
            Err(message) => faults.add(&name, message),
        }
    }
}

/// The fields on the way to the named one.
fn find(message: &MessageDescriptor, name: &str) -> Result<Vec<FieldDescriptor>, String> {
    let mut path = Vec::new();
    let mut message = message.clone();
    let mut words = name.split('.').peekable();
    while let Some(word) = words.next() {
        let field = message
            .get_field_by_name(word)
            .ok_or_else(|| unknown_field(&message, word))?;
        if field.is_map() {
            return Err("cannot be given in a query".to_owned());
        }
        if words.peek().is_some() {
            let kind = field.kind();
            match kind.as_message() {
                Some(inner) if !field.is_list() => message = inner.clone(),
                _ => return Err(format!("{} has no fields within", scalar::quoted(word))),
            }
        } else if let Kind::Message(inner) = field.kind()
            && !matches!(inner.full_name(), scalar::TIMESTAMP | scalar::DURATION)
        {
            return Err("has fields within: name one of them, with a dot".to_owned());
        }
        path.push(field);
    }
    Ok(path)
}

fn set(
    request: &mut DynamicMessage,
    parents: &[FieldDescriptor],
    last: &FieldDescriptor,
    value: Value,
) {
    if let Some((parent, rest)) = parents.split_first() {
        // Every parent was found to be a single message, and reading it makes it.
        if let Some(inner) = request.get_field_mut(parent).as_message_mut() {
            set(inner, rest, last, value);
        }
    } else if last.is_list() {
        if let Some(items) = request.get_field_mut(last).as_list_mut() {
            items.push(value);
        }
    } else {
        request.set_field(last, value);
    }
}
