//! Pull requests as GitHub lists them, and the files that they change.

use std::{cmp::Reverse, collections::HashMap};

use serde_json::{Value, json};

use super::{Example, Fake, Operation, Repository, State, answers, moment};

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

    /// A pull request changes these files and no others from now on, whatever its commits do.
    pub fn changes(
        &self,
        repository: &str,
        number: u64,
        files: impl IntoIterator<Item = impl AsRef<str>>,
    ) {
        let files = files.into_iter().map(|name| answers::file(name.as_ref()));
        let files: Vec<Value> = files.collect();
        self.with(|state| state.repository(repository).changes.insert(number, files));
    }

    /// A pull request renames this file besides.
    pub fn renames(&self, repository: &str, number: u64, from: &str, to: &str) {
        let mut file = answers::file(to);
        file["status"] = json!("renamed");
        file["previous_filename"] = json!(from);
        self.with(|state| {
            let changes = &mut state.repository(repository).changes;
            changes.entry(number).or_default().push(file);
        });
    }
}

/// Status and body; none of what is no question of pull requests.
pub(super) fn answer(
    state: &mut State,
    operation: &Operation,
    query: &HashMap<String, String>,
) -> Option<(u16, Value)> {
    if !matches!(operation.id.as_str(), "pulls/list" | "pulls/list-files") {
        return None;
    }
    let said = |name: &str| operation.parameters[name].clone();
    let repository = state.repository(&format!("{}/{}", said("owner"), said("repo")));
    if operation.id == "pulls/list-files" {
        return Some(files(repository, said("pull_number").parse().unwrap()));
    }
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

/// What a pull request changes: what its commits do that are not in its base.
fn files(repository: &Repository, number: u64) -> (u16, Value) {
    if let Some(said) = repository.changes.get(&number) {
        return (200, said.iter().cloned().collect());
    }
    let Some(pull) = repository.pulls.get(&number) else {
        return (404, answers::not_found());
    };
    let text = |side: &str, field: &str| pull[side][field].as_str().unwrap_or_default();
    let base = repository.branches.get(text("base", "ref"));
    let in_base = base.map_or_else(Vec::new, |at| answers::history(repository, at));
    let own = answers::history(repository, text("head", "sha"));
    let mut names: Vec<&String> = own
        .iter()
        .filter(|one| !in_base.contains(one))
        .filter_map(|one| repository.files.get(one))
        .flatten()
        .collect();
    names.sort_unstable();
    names.dedup();
    (
        200,
        names.into_iter().map(|name| answers::file(name)).collect(),
    )
}
