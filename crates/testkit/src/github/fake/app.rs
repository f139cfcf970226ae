//! What is asked as the App: what its own webhook was sent, and where it is installed.

use serde_json::{Value, json};

use super::{
    Delivery, Fake, Operation, State,
    answers::{self, ANYWHERE, AT},
    moment,
    who::APP_ID,
};

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

/// Status and body; none of what is not the App's.
pub(super) fn answer(state: &mut State, operation: &Operation) -> Option<(u16, Value)> {
    let said = |name: &str| operation.parameters.get(name).cloned().unwrap_or_default();
    match operation.id.as_str() {
        "apps/get-repo-installation" => {
            let id = state.installed.at(&said("owner"));
            Some((200, installation(id)))
        }
        "apps/create-installation-access-token" => {
            let asked = said("installation_id").parse().unwrap_or_default();
            let id = state.next_id();
            let Some(token) = state.installed.token(asked, id) else {
                return Some((404, answers::not_found()));
            };
            let until = "2099-01-01T00:00:00Z";
            Some((
                201,
                json!({"token": token, "expires_at": until, "permissions": {}}),
            ))
        }
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
            let asked = said("delivery_id").parse::<u64>().ok();
            let found = state
                .app_deliveries
                .iter()
                .find(|one| Some(one.id) == asked);
            let Some(found) = found.cloned() else {
                let words = json!({"message": "no such delivery", "documentation_url": "x"});
                return Some((422, words));
            };
            let (id, status_code) = (state.next_id(), state.again);
            state.app_deliveries.push(Delivery {
                id,
                redelivery: true,
                status_code,
                at: moment(),
                ..found
            });
            Some((202, json!({})))
        }
        _ => None,
    }
}

fn installation(id: u64) -> Value {
    json!({
        "id": id, "app_id": APP_ID, "app_slug": "candlefish", "target_id": id,
        "target_type": "Organization", "account": null, "repository_selection": "all",
        "access_tokens_url": ANYWHERE, "html_url": ANYWHERE, "repositories_url": ANYWHERE,
        "events": [], "permissions": {}, "single_file_name": null, "created_at": AT,
        "updated_at": AT, "suspended_by": null, "suspended_at": null,
    })
}
