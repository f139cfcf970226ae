//! Routes as they come, from the orchestrator or the disk.

use std::collections::HashMap;

use candlefish_proto::deploy as pb;

use crate::route::Route;

/// The newest route of each host.
pub(super) fn newest(routes: Vec<Route>) -> Vec<Route> {
    let mut newest: HashMap<String, Route> = HashMap::new();
    for route in routes {
        let known = newest.get(&route.host);
        if known.is_none_or(|known| known.known() < route.known()) {
            newest.insert(route.host.clone(), route);
        }
    }
    newest.into_values().collect()
}

/// Those that can be read; of the others only the log tells.
pub(super) fn read_all(routes: impl IntoIterator<Item = pb::Route>) -> Vec<Route> {
    routes
        .into_iter()
        .filter_map(|route| match Route::read(route) {
            Ok(route) => Some(route),
            Err(error) => {
                tracing::error!(%error, "a route of the orchestrator is left out");
                None
            }
        })
        .collect()
}
