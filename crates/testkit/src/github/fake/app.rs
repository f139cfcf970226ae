//! What the App's own webhook was sent.

use serde_json::{Value, json};

use super::{Delivery, Fake, Operation, State, answers, moment};

impl Fake {
    /// GitHub tried to bring a delivery to the App's own webhook, and got this status; answers its
    /// number.
    pub fn app_delivered(&self, guid: &str, status_code: u16) -> u64 {
        self.with(|state| {
            let id = state.next_id();
            state
                .app_deliveries
                .push(Delivery::now(id, guid, status_code));
            id
        })
    }

    /// The guids of the App's deliveries that were asked for once more.
    pub fn app_redelivered(&self) -> Vec<String> {
        self.with(|state| {
            let again = state.app_deliveries.iter().filter(|one| one.redelivery);
            again.map(|one| one.guid.clone()).collect()
        })
    }
}

/// Status and body; none of what is asked of a repository.
pub(super) fn answer(state: &mut State, operation: &Operation) -> Option<(u16, Value)> {
    match operation.id.as_str() {
        "apps/get-webhook-config-for-app" => {
            let url = state.hook.clone().unwrap_or_default();
            Some((
                200,
                json!({"url": url, "content_type": "json", "insecure_ssl": "0"}),
            ))
        }
        "apps/list-webhook-deliveries" => {
            let newest = state.app_deliveries.iter().rev();
            Some((200, newest.map(answers::delivery).collect()))
        }
        "apps/redeliver-webhook-delivery" => {
            let asked = operation.parameters.get("delivery_id");
            let asked = asked.and_then(|one| one.parse::<u64>().ok());
            let found = state
                .app_deliveries
                .iter()
                .find(|one| Some(one.id) == asked);
            let Some(found) = found.cloned() else {
                let words = json!({"message": "no such delivery", "documentation_url": "x"});
                return Some((422, words));
            };
            let id = state.next_id();
            state.app_deliveries.push(Delivery {
                id,
                redelivery: true,
                status_code: 202,
                at: moment(),
                ..found
            });
            Some((202, json!({})))
        }
        _ => None,
    }
}
