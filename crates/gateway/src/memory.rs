//! Answers kept in memory: of reads that are asked often and change no more by themselves.
//!
//! ```text
//! read ──▶ find ──hit──▶ the same bytes as the service gave
//!           └─miss──▶ now() ─▶ the service ─▶ keep(since) ─▶ found from here on, unless marked since
//! events of the feed, calls that change something ──▶ marks
//! ```
//!
//! An answer is kept only when it says that what it is about has finished: that changes no more, on
//! any replica, with the bus down. What it shows besides (a deployment's release gains branches and
//! rejections) is told by an event that names it, and by the calls of this gateway, before they are
//! answered. While the feed of events cannot be followed, nothing is answered from here.
//!
//! Invariants: an answer that was on its way while something in it was forgotten is never found; a
//! caller finds only what it may see; nothing is kept beyond its time, its number or its bytes. Not
//! here: who the caller is and which role the call needs, which every call passes before.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use candlefish_proto::event::Envelope;
use candlefish_runtime::{
    identity::Caller,
    metrics::{MEMORY_READS, MEMORY_READS_FOUND, MEMORY_READS_MISSED},
};
use http::uri::PathAndQuery;
use metrics::Counter;
use moka::future::Cache;

use crate::{
    call::Whole,
    contract::{Ended, Method},
    events,
};

mod marks;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use marks::Since;
use marks::{Marks, Slot};

/// The least that an entry counts for, which bounds their number: what the key, the entry and the
/// cache's own books take beside the answer.
const LEAST_BYTES: u32 = 1024;

/// How much is kept, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Of all answers; 0 keeps none.
    pub(crate) bytes: u64,
    /// From the moment it was kept.
    pub(crate) time: Duration,
}

/// The answers; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// By the id that is asked for; none when nothing is to be kept.
    answers: Option<Cache<String, Arc<Kept>>>,
    marks: Marks,
    found: Counter,
    missed: Counter,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Kept {
    method: PathAndQuery,
    site: String,
    shows: Vec<Slot>,
    since: Since,
    /// As the service gave it: one gRPC frame.
    frame: Bytes,
    /// The same as REST answers it.
    pub(crate) json: Bytes,
}

impl Kept {
    /// The answer to a gRPC call.
    pub(crate) fn whole(&self) -> Whole {
        Whole::again(self.frame.clone(), self.since)
    }
}

/// An answer to keep.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) about: Ended,
    pub(crate) frame: Bytes,
    pub(crate) json: Bytes,
}

impl Memory {
    pub(crate) fn new(limits: Limits) -> Self {
        let answers = (limits.bytes > 0).then(|| {
            Cache::builder()
                .max_capacity(limits.bytes)
                .weigher(|id: &String, kept: &Arc<Kept>| {
                    let bytes = id.len() + kept.site.len() + kept.frame.len() + kept.json.len();
                    u32::try_from(bytes)
                        .unwrap_or(u32::MAX)
                        .saturating_add(LEAST_BYTES)
                })
                .time_to_live(limits.time)
                .build()
        });
        let count = |outcome| metrics::counter!(MEMORY_READS, "outcome" => outcome);
        Self {
            inner: Arc::new(Inner {
                answers,
                marks: Marks::new(),
                found: count(MEMORY_READS_FOUND),
                missed: count(MEMORY_READS_MISSED),
            }),
        }
    }

    /// The answer to a read by id, for a caller who was let in.
    pub(crate) async fn find(
        &self,
        method: &Method,
        id: &str,
        caller: &Caller,
    ) -> Option<Arc<Kept>> {
        let answers = self.inner.answers.as_ref()?;
        // Who may not see the site asks the service, which has the words for that.
        let kept = answers.get(id).await.filter(|kept| {
            kept.method == method.path
                && caller.sees(&kept.site)
                && self.inner.marks.are_before(&kept.shows, kept.since)
        });
        if kept.is_some() {
            self.inner.found.increment(1);
        } else {
            self.inner.missed.increment(1);
        }
        kept
    }

    /// Now: to be asked before the service is.
    pub(crate) fn now(&self) -> Since {
        self.inner.marks.now()
    }

    /// Keeps what the service was asked for since then.
    pub(crate) async fn keep(&self, method: &Method, since: Since, answer: Answer) {
        let (Some(answers), Some(id)) = (&self.inner.answers, answer.about.ids.first().cloned())
        else {
            return;
        };
        let ids = answer.about.ids.iter().map(String::as_str);
        let names = ids.chain([answer.about.site.as_str()]);
        let kept = Kept {
            method: method.path.clone(),
            shows: names.map(|name| self.inner.marks.slot(name)).collect(),
            site: answer.about.site,
            since,
            frame: answer.frame,
            json: answer.json,
        };
        answers.insert(id, Arc::new(kept)).await;
    }

    /// Forgets all answers of a site.
    fn forget_site(&self, site: &str) {
        self.inner.marks.forget(site);
    }

    fn forget_everything(&self) {
        self.inner.marks.forget_everything();
        self.free();
    }

    fn free(&self) {
        if let Some(answers) = &self.inner.answers {
            answers.invalidate_all();
        }
    }
}

impl events::Listener for Memory {
    fn told(&self, event: &Envelope) {
        self.inner.marks.forget(&event.entity);
    }

    fn follows(&self) {
        self.inner.marks.follow();
    }

    fn lost(&self) {
        self.inner.marks.lose();
        self.free();
    }
}
