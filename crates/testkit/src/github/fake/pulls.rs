//! Pull requests as GitHub lists them.

use std::{cmp::Reverse, collections::HashMap};

use serde_json::{Value, json};

use super::{Example, Fake, Operation, State, moment};

impl Fake {
    /// A pull request is, from now on, as this delivery says, whether or not it was delivered; answers
    /// the delivery with the moment of now in it.
    pub fn shows(&self, told: &Example) -> Example {
        let mut told = told.clone();
        told.body["pull_request"]["updated_at"] = json!(moment());
        self.with(|state| {
            let repository = told.body["repository"]["full_name"].as_str().unwrap();
            let pulls = &mut state.repository(repository).pulls;
            let mut now = told.body["pull_request"].clone();
            let number = now["number"].as_u64().unwrap();
            let before = pulls.get(&number);
            now["created_at"] =
                before.map_or_else(|| json!(moment()), |one| one["created_at"].clone());
            let is_merged = now["merged"] == true;
            now["merged_at"] = if is_merged {
                json!(moment())
            } else {
                Value::Null
            };
            // The published examples are from before this was.
            now["auto_merge"] = Value::Null;
            pulls.insert(number, now);
        });
        told
    }
}

/// Status and body; none of what is no question of pull requests.
pub(super) fn answer(
    state: &mut State,
    operation: &Operation,
    query: &HashMap<String, String>,
) -> Option<(u16, Value)> {
    if operation.id != "pulls/list" {
        return None;
    }
    let said = |name: &str| operation.parameters[name].clone();
    let repository = state.repository(&format!("{}/{}", said("owner"), said("repo")));
    let asked = query.get("state").map_or("open", String::as_str);
    let pulls = repository.pulls.values();
    let mut found: Vec<&Value> = pulls
        .filter(|one| asked == "all" || one["state"] == asked)
        .collect();
    // Both moments are written so that their texts sort.
    let by = match query.get("sort").map(String::as_str) {
        Some("updated") => "updated_at",
        _ => "created_at",
    };
    found.sort_by_key(|one| Reverse(one[by].as_str()));
    if query.get("direction").is_some_and(|way| way == "asc") {
        found.reverse();
    }
    Some((200, found.into_iter().cloned().collect()))
}
