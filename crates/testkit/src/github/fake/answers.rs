//! What the fake answers, operation by operation.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::{
    Delivery, Operation, Repository, State, moment,
    users::{self, Writer},
};

/// When everything happens here.
pub(super) const AT: &str = "2026-11-25T12:00:00Z";
pub(super) const ANYWHERE: &str = "https://github.example/x";

/// One page of a list, and where the next one is; by a cursor where GitHub has cursors.
pub(super) fn page(
    body: Value,
    query: &HashMap<String, String>,
    uri: &axum::http::Uri,
) -> (Value, Option<String>) {
    let Value::Array(all) = body else {
        return (body, None);
    };
    let by_cursor = uri.path().ends_with("/deliveries");
    let (name, begins) = if by_cursor {
        ("cursor", "v1_")
    } else {
        ("page", "")
    };
    let number = |name: &str, usual: usize| {
        let said = query.get(name).map(|text| text.trim_start_matches("v1_"));
        said.and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let (size, place) = (number("per_page", 30), number(name, 1).max(1));
    let before = size * (place - 1);
    let count = all.len();
    let some: Vec<Value> = all.into_iter().skip(before).take(size).collect();
    let link = (count > before + size).then(|| {
        let rest = query.iter().filter(|(other, _)| *other != name);
        let mut next = format!("{name}={begins}{}", place + 1);
        for (name, value) in rest {
            next = format!("{next}&{name}={value}");
        }
        format!("<{}?{next}>; rel=\"next\"", uri.path())
    });
    (Value::Array(some), link)
}

/// Status and body.
pub(super) fn answer(
    state: &mut State,
    operation: &Operation,
    query: &HashMap<String, String>,
    body: &Value,
) -> (u16, Value) {
    let said = |name: &str| {
        let value = operation.parameters.get(name);
        value.map(|one| decoded(one)).unwrap_or_default()
    };
    let number = |name: &str| said(name).parse::<u64>().unwrap_or_default();
    let id = state.next_id();
    let (hook, again) = (state.hook.clone(), state.again);
    let name = format!("{}/{}", said("owner"), said("repo"));
    let repository = state.repository(&name);
    match operation.id.as_str() {
        "repos/compare-commits" => compare(repository, &said("base"), &said("head")),
        "repos/get-branch" => branch(repository, &said("branch")),
        "repos/list-webhooks" => (200, hook.map_or(json!([]), |url| json!([webhook(&url)]))),
        "repos/list-webhook-deliveries" => {
            let newest = repository.deliveries.iter().rev();
            (200, newest.map(delivery).collect())
        }
        "repos/redeliver-webhook-delivery" => {
            let asked = number("delivery_id");
            let found = repository.deliveries.iter().find(|one| one.id == asked);
            let Some(found) = found.cloned() else {
                return (
                    422,
                    json!({"message": "no such delivery", "documentation_url": "x"}),
                );
            };
            repository.deliveries.push(Delivery {
                id,
                redelivery: true,
                status_code: again,
                at: moment(),
                ..found
            });
            (202, json!({}))
        }
        "users/get-authenticated" => (200, users::person(Writer::Token)),
        _ => of_writes(repository, operation, id, query, body),
    }
}

/// Deployments.
fn of_writes(
    repository: &mut Repository,
    operation: &Operation,
    id: u64,
    query: &HashMap<String, String>,
    body: &Value,
) -> (u16, Value) {
    let number = |name: &str| {
        let value = operation.parameters.get(name);
        value
            .and_then(|one| one.parse::<u64>().ok())
            .unwrap_or_default()
    };
    match operation.id.as_str() {
        "repos/list-deployments" => {
            let is_asked = |one: &&Value| {
                let equal = |field: &str| query.get(field).is_none_or(|all| one[field] == **all);
                equal("sha") && equal("environment")
            };
            let newest = repository.deployments.iter().rev().filter(is_asked);
            (200, newest.cloned().collect())
        }
        "repos/create-deployment" => {
            let made = deployment(id, body);
            repository.deployments.push(made.clone());
            (201, made)
        }
        "repos/list-deployment-statuses" => {
            let known = repository.statuses.get(&number("deployment_id"));
            (200, known.into_iter().flatten().rev().cloned().collect())
        }
        "repos/create-deployment-status" => {
            let made = status(id, body);
            let known = repository.statuses.entry(number("deployment_id"));
            known.or_default().push(made.clone());
            (201, made)
        }
        _ => of_comments(repository, operation, id, body),
    }
}

fn of_comments(
    repository: &mut Repository,
    operation: &Operation,
    id: u64,
    body: &Value,
) -> (u16, Value) {
    let number = |name: &str| {
        let value = operation.parameters.get(name);
        value
            .and_then(|one| one.parse::<u64>().ok())
            .unwrap_or_default()
    };
    match operation.id.as_str() {
        "issues/list-comments" => {
            let asked = number("issue_number");
            let of_it = repository.comments.iter().filter(|(of, _)| *of == asked);
            (200, of_it.map(|(_, one)| one.clone()).collect())
        }
        "issues/create-comment" => {
            let writer = if operation.is_by_app {
                Writer::App
            } else {
                Writer::Token
            };
            let made = comment(id, body, writer);
            let comments = &mut repository.comments;
            comments.push((number("issue_number"), made.clone()));
            (201, made)
        }
        "issues/update-comment" => {
            let asked = number("comment_id");
            let found = repository
                .comments
                .iter_mut()
                .find(|(_, one)| one["id"] == asked);
            let Some((_, one)) = found else {
                return (404, not_found());
            };
            one["body"] = body["body"].clone();
            (200, one.clone())
        }
        other => panic!("{other} is described, and not answered"),
    }
}

fn compare(repository: &Repository, base: &str, head: &str) -> (u16, Value) {
    if !(repository.parents.contains_key(base) && repository.parents.contains_key(head)) {
        return (404, not_found());
    }
    let (of_base, of_head) = (history(repository, base), history(repository, head));
    let ahead: Vec<&String> = of_head
        .iter()
        .filter(|one| !of_base.contains(one))
        .collect();
    let behind = of_base.iter().filter(|one| !of_head.contains(one)).count();
    let status = match (ahead.is_empty(), behind) {
        (true, 0) => "identical",
        (false, 0) => "ahead",
        (true, _) => "behind",
        (false, _) => "diverged",
    };
    let shared = of_head.iter().find(|one| of_base.contains(one));
    let oldest_first: Vec<Value> = ahead
        .iter()
        .rev()
        .map(|one| commit(repository, one))
        .collect();
    let mut files: Vec<&String> = ahead
        .iter()
        .filter_map(|one| repository.files.get(*one))
        .flatten()
        .collect();
    files.sort_unstable();
    files.dedup();
    let files: Vec<Value> = files.into_iter().map(|name| file(name)).collect();
    let comparison = json!({
        "url": ANYWHERE, "html_url": ANYWHERE, "permalink_url": ANYWHERE, "diff_url": ANYWHERE,
        "patch_url": ANYWHERE,
        "base_commit": commit(repository, base),
        "merge_base_commit": commit(repository, shared.map_or(base, String::as_str)),
        "status": status,
        "ahead_by": ahead.len(), "behind_by": behind, "total_commits": ahead.len(),
        "commits": oldest_first,
        "files": files,
    });
    (200, comparison)
}

/// A commit and all its ancestors, nearest first.
pub(super) fn history(repository: &Repository, from: &str) -> Vec<String> {
    let mut found = vec![from.to_owned()];
    let mut seen: HashSet<String> = found.iter().cloned().collect();
    let mut at = 0;
    while let Some(one) = found.get(at).cloned() {
        at += 1;
        for parent in repository.parents.get(&one).into_iter().flatten() {
            if seen.insert(parent.clone()) {
                found.push(parent.clone());
            }
        }
    }
    found
}

fn branch(repository: &Repository, name: &str) -> (u16, Value) {
    let Some(at) = repository.branches.get(name) else {
        return (404, not_found());
    };
    let branch = json!({
        "name": name,
        "commit": commit(repository, at),
        "_links": {"html": ANYWHERE, "self": ANYWHERE},
        "protected": false,
        "protection": {"enabled": false},
        "protection_url": ANYWHERE,
    });
    (200, branch)
}

fn commit(repository: &Repository, sha: &str) -> Value {
    let by = json!({"name": "Ada", "email": "ada@example.org", "date": AT});
    let parents = repository.parents.get(sha).into_iter().flatten();
    let parents: Vec<Value> = parents
        .map(|one| json!({"sha": one, "url": ANYWHERE}))
        .collect();
    json!({
        "url": ANYWHERE, "sha": sha, "node_id": "C", "html_url": ANYWHERE, "comments_url": ANYWHERE,
        "commit": {
            "url": ANYWHERE, "author": by, "committer": by,
            "message": format!("Change {}", sha.get(..7).unwrap_or(sha)),
            "comment_count": 0, "tree": {"sha": sha, "url": ANYWHERE},
        },
        "author": null, "committer": null, "parents": parents,
    })
}

pub(super) fn file(name: &str) -> Value {
    json!({
        "sha": "0", "filename": name, "status": "modified", "additions": 1, "deletions": 0,
        "changes": 1, "blob_url": ANYWHERE, "raw_url": ANYWHERE, "contents_url": ANYWHERE,
    })
}

fn webhook(url: &str) -> Value {
    json!({
        "type": "Repository", "id": 1, "name": "web", "active": true, "events": ["push"],
        "config": {"url": url, "content_type": "json"}, "updated_at": AT, "created_at": AT,
        "url": ANYWHERE, "test_url": ANYWHERE, "ping_url": ANYWHERE,
        "last_response": {"code": null, "status": "unused", "message": null},
    })
}

pub(super) fn delivery(one: &Delivery) -> Value {
    json!({
        "id": one.id, "guid": one.guid, "delivered_at": one.at, "redelivery": one.redelivery,
        "duration": 0.1, "status": if one.status_code < 300 { "OK" } else { "failed" },
        "status_code": one.status_code, "event": one.event, "action": null,
        "installation_id": null, "repository_id": 1,
    })
}

pub(super) fn deployment(id: u64, body: &Value) -> Value {
    json!({
        "url": ANYWHERE, "id": id, "node_id": "D", "sha": body["ref"], "ref": body["ref"],
        "task": "deploy", "payload": body["payload"], "environment": body["environment"],
        "description": body["description"], "creator": null, "created_at": AT, "updated_at": AT,
        "statuses_url": ANYWHERE, "repository_url": ANYWHERE,
        "production_environment": body["production_environment"],
        "transient_environment": body["transient_environment"],
    })
}

fn status(id: u64, body: &Value) -> Value {
    let text = |name: &str| body[name].as_str().unwrap_or_default();
    json!({
        "url": ANYWHERE, "id": id, "node_id": "S", "state": body["state"], "creator": null,
        "description": text("description"), "environment": "", "target_url": text("log_url"),
        "log_url": text("log_url"), "environment_url": text("environment_url"),
        "created_at": AT, "updated_at": AT, "deployment_url": ANYWHERE, "repository_url": ANYWHERE,
    })
}

pub(super) fn comment(id: u64, body: &Value, writer: Writer) -> Value {
    json!({
        "id": id, "node_id": "I", "url": ANYWHERE, "html_url": ANYWHERE, "body": body["body"],
        "user": users::user(writer), "created_at": AT, "updated_at": AT, "issue_url": ANYWHERE,
        "author_association": "NONE", "performed_via_github_app": users::app(writer),
    })
}

pub(super) fn not_found() -> Value {
    json!({"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"})
}

/// Percent-encoding undone.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        if let (b'%', Some(byte)) = (*first, byte) {
            bytes.push(byte);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}
