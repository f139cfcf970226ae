//! The example site, made and deployed by `candlefish` itself: the path that everybody takes.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use candlefish_devstack::{Stack, http};
use serde_json::Value;

use super::{CONTEXT, binary, say};
use crate::workspace::Workspace;

const SITE: &str = "docs";
const ENVIRONMENTS: [&str; 2] = ["staging", "production"];
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes what does not exist yet: the context, the site, its environments, a first release live
/// in each.
pub(super) async fn ensure(stack: &Stack, workspace: &Workspace) -> Result<()> {
    let api = stack.gateway_url();
    candlefish(
        stack,
        workspace,
        &["login", "--api", &api, "--context", CONTEXT],
    )?;
    if get(stack, &format!("/v1/sites/{SITE}")).await?.is_none() {
        let name = ["--name", "Example documentation"];
        candlefish(
            stack,
            workspace,
            &[&["sites", "create", SITE], &name[..]].concat(),
        )?;
    }
    for environment in ENVIRONMENTS {
        let place = format!("{SITE}/{environment}");
        let path = format!("/v1/sites/{SITE}/environments/{environment}");
        let found = get(stack, &path).await?;
        if found.is_none() {
            candlefish(stack, workspace, &["env", "create", &place])?;
        }
        let live = found
            .as_ref()
            .and_then(|found| found.get("live_release_id")?.as_str());
        if live.is_none_or(str::is_empty) {
            say(&format!("deploying the example to {place}"));
            let folder = workspace.root.join("examples/docs-site/v1");
            let folder = folder.to_str().context("the clone's path is not UTF-8")?;
            let deploy = ["deploy", folder, "--site", SITE, "--env", environment];
            candlefish(stack, workspace, &deploy)?;
        }
    }
    Ok(())
}

/// Runs `candlefish` as the bootstrap admin; the error has what it said.
fn candlefish(stack: &Stack, workspace: &Workspace, args: &[&str]) -> Result<()> {
    let mut command = Command::new(binary(workspace, "candlefish")?);
    command
        .args(args)
        .stdin(Stdio::null())
        .current_dir(&workspace.root);
    command.env("CANDLEFISH_TOKEN", stack.admin_token());
    if args.first() != Some(&"login") {
        command.env("CANDLEFISH_API", stack.gateway_url());
    }
    let out = command.output().context("running candlefish")?;
    let words = String::from_utf8_lossy(&out.stderr);
    let args = args.join(" ");
    ensure!(
        out.status.success(),
        "candlefish {args}: {}\n{words}",
        out.status
    );
    Ok(())
}

/// What the API says; nothing for 404.
async fn get(stack: &Stack, path: &str) -> Result<Option<Value>> {
    let url = stack.gateway_url();
    let address = url.trim_start_matches("http://");
    let bearer = format!("Bearer {}", stack.admin_token());
    let headers = [("authorization", bearer.as_str())];
    let answer = http::get(address.parse()?, address, path, &headers, PATIENCE).await?;
    if answer.status == http::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let text = answer.text();
    ensure!(
        answer.status.is_success(),
        "GET {path}: {} {text}",
        answer.status
    );
    Ok(Some(serde_json::from_str(&text)?))
}

/// The deployments that are on their way.
pub(super) async fn acting(stack: &Stack) -> Result<Vec<String>> {
    all_acting(async |path: String| get(stack, &path).await).await
}

/// The same of whatever answers these paths, page after page.
async fn all_acting(get: impl AsyncFn(String) -> Result<Option<Value>>) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for state in ["STATE_RUNNING", "STATE_WAITING", "STATE_CANCELLING"] {
        let mut page = String::new();
        loop {
            let path = format!("/v1/deployments?state={state}&page_token={page}");
            let found = get(path).await?.unwrap_or_default();
            let list = found.get("deployments").and_then(Value::as_array);
            let own = list
                .into_iter()
                .flatten()
                .filter_map(|one| one.get("id")?.as_str());
            ids.extend(own.map(str::to_owned));
            // Left out at the end, as every field is that says nothing. A token is fit for a URL.
            match found.get("next_page_token").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => next.clone_into(&mut page),
                _ => break,
            }
        }
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use serde_json::json;

    use super::*;

    /// Links of a release of the example that lead to no file of it.
    fn broken(release: &str) -> BTreeSet<String> {
        let workspace = Workspace::find().unwrap();
        let folder = format!("examples/docs-site/{release}");
        let root = workspace.root.join(&folder);
        let mut broken = BTreeSet::new();
        for path in workspace.files(&folder).unwrap() {
            if path.extension().is_none_or(|extension| extension != "html") {
                continue;
            }
            let text = fs::read_to_string(workspace.root.join(path)).unwrap();
            let targets = text.split("href=\"").chain(text.split("src=\"")).skip(1);
            for target in targets.filter_map(|rest| rest.split('"').next()) {
                let Some(target) = target.strip_prefix('/') else {
                    continue;
                };
                let forms = ["", ".html", "index.html"].map(|end| format!("{target}{end}"));
                if !forms.iter().any(|form| root.join(form).is_file()) {
                    broken.insert(format!("/{target}"));
                }
            }
        }
        broken
    }

    #[tokio::test]
    async fn what_acts_is_read_to_the_last_page() {
        let ids = all_acting(async |path: String| {
            Ok(
                match path.trim_start_matches("/v1/deployments?state=STATE_") {
                    "RUNNING&page_token=" => Some(json!({
                        "deployments": [{ "id": "dep_a" }, { "id": "dep_b" }], "next_page_token": "2",
                    })),
                    "RUNNING&page_token=2" => Some(json!({ "deployments": [{ "id": "dep_c" }] })),
                    "CANCELLING&page_token=" => Some(json!({
                        "deployments": [{ "id": "dep_d" }], "next_page_token": "",
                    })),
                    _ => Some(json!({})),
                },
            )
        });
        assert_eq!(ids.await.unwrap(), ["dep_a", "dep_b", "dep_c", "dep_d"]);
    }

    #[test]
    fn only_the_third_release_of_the_example_is_broken() {
        assert_eq!(broken("v1"), BTreeSet::new());
        assert_eq!(broken("v2"), BTreeSet::new());
        let missing = ["/", "/guide/", "/guide/rollout"].map(str::to_owned);
        assert_eq!(broken("v3"), BTreeSet::from(missing));
    }
}
