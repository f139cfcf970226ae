//! What was taken out of work and waits for a person: quarantined steps, and dead letters.
//!
//! One list, oldest first, and two verbs. Each id says by its prefix which of the two it is. A dead
//! letter belongs to no site, so only who sees all sites sees it.

mod decide;
pub(crate) mod rpc;
mod store;

#[cfg(test)]
pub(crate) use decide::{Decide, decide};

use candlefish_ids::{DeadLetterId, StepId};
use candlefish_messaging::dead_letter::DeadLetter;
use candlefish_proto::deploy as pb;
use uuid::Uuid;

use self::store::Quarantined;
use crate::ctx::shown;

/// Names something that waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemId {
    Step(StepId),
    DeadLetter(DeadLetterId),
}

impl std::fmt::Display for ItemId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Step(id) => id.fmt(f),
            Self::DeadLetter(id) => id.fmt(f),
        }
    }
}

impl std::str::FromStr for ItemId {
    type Err = candlefish_ids::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(letter) => Ok(Self::DeadLetter(letter)),
            Err(_) => text.parse().map(Self::Step),
        }
    }
}

/// An item, and its place in the list.
type Listed = (Uuid, pb::QueueItem);

fn step_item(step: Quarantined) -> Listed {
    let item = pb::QueueItem {
        id: step.id.to_string(),
        kind: pb::queue_item::Kind::Step.into(),
        since: step.since.map(shown),
        error: step.error,
        deployment_id: step.deployment_id.to_string(),
        summary: format!("{} of {}/{}", step.kind, step.site, step.environment),
        consumer: String::new(),
    };
    (step.id.uuid(), item)
}

fn letter_item(letter: DeadLetter) -> Listed {
    let item = pb::QueueItem {
        id: letter.id.to_string(),
        kind: pb::queue_item::Kind::DeadLetter.into(),
        since: Some(shown(letter.since)),
        error: letter.error,
        deployment_id: String::new(),
        summary: letter.event_type,
        consumer: letter.consumer,
    };
    (letter.id.uuid(), item)
}
