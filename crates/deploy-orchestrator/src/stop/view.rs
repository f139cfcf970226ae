//! Stops as the API shows them.

use candlefish_proto::deploy as pb;

use super::Stop;
use crate::ctx::shown;

pub(crate) fn stop(stop: &Stop) -> pb::Stop {
    let end = stop.end.as_ref();
    pb::Stop {
        id: stop.id.to_string(),
        site: stop.site.clone(),
        pauses: stop.pauses,
        reason: stop.reason.clone(),
        since: Some(shown(stop.since)),
        by: stop.by.clone(),
        until: Some(shown(stop.until)),
        ended_at: end.map(|end| shown(end.at)),
        ended_by: end.map(|end| end.by.clone()).unwrap_or_default(),
        end_reason: end.map(|end| end.reason.clone()).unwrap_or_default(),
    }
}
