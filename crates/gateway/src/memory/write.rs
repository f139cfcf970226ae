//! A call that may change what is kept, from before it is made until its caller is answered.

use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::{Code, Status};

use super::Memory;
use crate::{call::unframe, contract::Method};

/// Forgets, once dropped, what the call may have changed: also when it broke off, or was given up.
#[derive(Debug)]
pub(crate) struct Write {
    memory: Memory,
    about: About,
}

/// What a call may have changed.
#[derive(Debug, PartialEq, Eq)]
enum About {
    Nothing,
    Site(String),
    Everything,
}

impl Memory {
    /// For a call that is about to be made.
    pub(crate) fn write(&self, method: &Method, request: &[u8]) -> Write {
        let about = site_of(&method.input, request).map_or(About::Everything, About::Site);
        Write {
            memory: self.clone(),
            about,
        }
    }
}

impl Write {
    /// The call was answered; `refused` with what, when it was.
    pub(crate) fn answered(&mut self, method: &Method, answer: &[u8], refused: Option<&Status>) {
        if self.about != About::Everything {
            return;
        }
        match refused {
            None => {
                if let Some(site) = site_of(&method.output, answer) {
                    self.about = About::Site(site);
                }
            }
            Some(status) if was_not_done(status.code()) => self.about = About::Nothing,
            Some(_) => {}
        }
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        match &self.about {
            About::Nothing => {}
            About::Site(site) => self.memory.forget_site(site),
            About::Everything => self.memory.forget_everything(),
        }
    }
}

/// The site that a framed message names.
fn site_of(kind: &MessageDescriptor, framed: &[u8]) -> Option<String> {
    let field = kind.get_field_by_name("site")?;
    let (message, _) = unframe(framed)?;
    let message = DynamicMessage::decode(kind.clone(), message).ok()?;
    let site = message.get_field(&field);
    let site = site.as_str().filter(|site| !site.is_empty());
    site.map(str::to_owned)
}

/// Refused by the service itself, which then leaves everything as it was.
fn was_not_done(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::Aborted
    )
}
