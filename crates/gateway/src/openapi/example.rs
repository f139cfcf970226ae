//! Example requests, one for each method that needs more than its path. They are data, kept true by
//! a test that reads each as the gateway would; a method without one is described without.

use serde_json::{Value, json};

/// The end of an id, as it could be.
const SUFFIX: &str = "01k8qw3v7hf6b9t2m4n5p6q7r8";

/// Stands for a time to come, which who shows the example puts there: JSON can only name a date.
pub(crate) const UNTIL: &str = "2000-01-01T18:00:00Z";

/// The JSON body of a call, by the method's name.
pub(crate) fn body(method: &str) -> Option<Value> {
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    Some(match method {
        "CreateSite" => json!({ "slug": "blog", "name": "Our blog" }),
        "UpdateSite" => json!({ "previews": { "from": "FROM_REPOSITORY", "max_age": "1209600s" } }),
        "CreateEnvironment" => {
            json!({ "slug": "review", "policy": { "order": "ORDER_QUEUE" }, "pushes": { "branch": "main" } })
        }
        "UpdateEnvironment" => json!({ "policy": { "strategy": {
            "canary": { "weights": [10, 50], "interval": "30s" },
        } } }),
        "CloseEnvironment" => json!({ "reason": "The pull request is given up." }),
        "SetHold" => json!({ "reason": "A sale runs until tonight." }),
        "LiftHold" => json!({ "reason": "The sale is over." }),
        "SetStop" => json!({
            "site": "docs", "reason": "The registry is down.", "until": UNTIL,
        }),
        "LiftStop" => json!({ "reason": "It is back." }),
        "CreateRelease" => json!({
            "site": "docs", "manifest_digest": digest, "manifest_size": 4096,
        }),
        "BanRelease" => json!({ "reason": "It shows a draft." }),
        "ClearRelease" => json!({
            "environment": "production", "reason": "The missing page was a fault of the check.",
        }),
        "CreateDeployment" => json!({
            "site": "docs", "environment": "production", "release_id": format!("rel_{SUFFIX}"),
        }),
        "CancelDeployment" => json!({ "reason": "A better one follows." }),
        "AbortDeployment" => json!({ "reason": "Visitors see errors." }),
        "RetryDeployment" => json!({ "reason": "The edge is back." }),
        "AdvanceDeployment" => json!({ "step_ord": 5, "reason": "Looks good." }),
        "PinDeployment" => json!({ "reason": "It fixes the login." }),
        "CreateRollback" => json!({
            "site": "docs", "environment": "production", "validate_only": true,
        }),
        "ReplayQueueItem" => json!({ "reason": "The cause is mended." }),
        "DiscardQueueItem" => json!({ "reason": "Nobody needs it any more." }),
        "CreatePrincipal" => json!({ "name": "ci-docs", "kind": "KIND_MACHINE" }),
        "CreateToken" => json!({
            "principal": "ci-docs", "name": "pipeline", "role": "ROLE_DEPLOYER", "sites": ["docs"],
        }),
        "SealRelease" | "RevokeToken" => json!({}),
        _ => return None,
    })
}

/// The query of a call, by the method's name.
pub(crate) fn query(method: &str) -> &'static str {
    match method {
        "ListReleases" => "?site=docs&page_size=5",
        "ListDeployments" => "?page_size=5",
        "ListTriggers" => "?site=docs",
        "WatchEvents" => "?site=docs&types=deploy.deployment.",
        _ => "",
    }
}

/// What could be in a path of a method, by the field's name; ids are looked up or left to the reader.
pub(crate) fn path_field(method: &str, field: &str) -> Option<&'static str> {
    match (method, field) {
        (_, "site") => Some("docs"),
        // Only a preview is closed.
        ("CloseEnvironment", "environment") => Some("pr-7"),
        (_, "environment") => Some("production"),
        _ => None,
    }
}
