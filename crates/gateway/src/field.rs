//! Faults in the fields of a request, collected so that all are named at once.

use candlefish_runtime::refusal::{Code, FieldViolation, Refusal};

/// What is wrong so far.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<FieldViolation>);

impl Faults {
    pub(crate) fn add(&mut self, field: &str, description: impl Into<String>) {
        self.0.push(FieldViolation {
            field: field.to_owned(),
            description: description.into(),
        });
    }

    /// A text of a length in characters.
    pub(crate) fn length(&mut self, field: &str, text: &str, least: usize, most: usize) {
        if !(least..=most).contains(&text.chars().count()) {
            self.add(field, format!("must have {least} to {most} characters"));
        } else if text.contains('\0') {
            self.add(field, "must not contain the character U+0000");
        }
    }

    /// Ends the reading of a request.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        if self.is_empty() {
            return Ok(());
        }
        Err(self.refusal())
    }

    /// The refusal that names them.
    pub(crate) fn refusal(self) -> Refusal {
        let words = match self.0.as_slice() {
            [only] => format!("{}: {}", only.field, only.description),
            many => format!("the request has {} faults", many.len()),
        };
        Refusal::new(Code::InvalidArgument, "bad-fields", words).fields(self.0)
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something is wrong with a field.
    pub(crate) fn has(&self, field: &str) -> bool {
        self.0.iter().any(|fault| fault.field == field)
    }

    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.iter().map(|fault| fault.field.clone()).collect()
    }
}

/// Whether a text may name a site: 1 to 35 of a-z, 0-9 and `-`, no `--`, no `-` at either end.
pub(crate) fn is_site_slug(text: &str) -> bool {
    (1..=35).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.contains("--")
        && !text.starts_with('-')
        && !text.ends_with('-')
}
