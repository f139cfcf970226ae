//! What people do beside deploying, by the doors they do it through: the command line and REST.
#![expect(clippy::indexing_slicing, reason = "an answer is JSON")]

use std::time::{Duration, SystemTime};

use candlefish_proto::deploy::{self as pb, blocker, deployment::State, step};
use candlefish_testkit::github::Push;
use e2e::{Api, Content, PATIENCE, Sandbox, api::Commit};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::doors::{Rest, candlefish, done, fill, said};

/// What the history of production tells after the journey, newest first.
const TOLD: [&str; 16] = [
    "KIND_LIVE by admin: Commit 0000003d00000000000000000000000000000004",
    "KIND_LIFT_HOLD by admin: launched",
    "KIND_UNPIN by admin: the newer one has it too",
    "KIND_PIN by admin: it fixes the login",
    "KIND_HOLD by admin: launch day",
    "KIND_UNBAN by admin: the draft was published",
    "KIND_BAN by admin: it shows a draft",
    // What was deployed from a folder says nothing of a commit.
    "KIND_LIVE by admin: ",
    "KIND_LIFT_HOLD by admin: search is mended",
    "KIND_LIFT_STOP by admin: it is back",
    "KIND_LIVE by admin: search is broken",
    "KIND_HOLD by admin: search is broken",
    "KIND_ROLLBACK by admin: search is broken",
    "KIND_STOP by admin: the registry is down",
    "KIND_LIVE by admin: Commit 0000003d00000000000000000000000000000002",
    "KIND_LIVE by admin: Commit 0000003d00000000000000000000000000000001",
];

/// A release of a commit that is live on production and done.
async fn live(api: &Api, mark: &str, commit: &Commit) -> String {
    let content = Content::site(mark);
    let release = api.release("docs", &content, commit).await.unwrap();
    let asked = api.deploy("docs", "production", &release, None).await;
    api.succeeds(&asked.unwrap().id).await.unwrap();
    release
}

/// Deploys pages of this mark from a folder; answers the exit code, the deployment, and what was
/// said.
fn deploy(
    sandbox: &Sandbox,
    folder: &TempDir,
    mark: &str,
    options: &[&str],
) -> (Option<i32>, Value, String) {
    fill(folder.path(), &Content::site(mark));
    let path = folder.path().to_str().unwrap();
    let line = ["deploy", path, "--site", "docs", "--json"];
    let line = [&line[..], options].concat();
    let (code, out, err) = said(&candlefish(sandbox, &line));
    (code, serde_json::from_str(&out).unwrap_or_default(), err)
}

/// Who did what and why, newest first.
fn told(history: &str) -> Vec<String> {
    let history: Value = serde_json::from_str(history).unwrap();
    let records = history["records"].as_array().unwrap().iter();
    // What is empty is left out.
    let text = |record: &Value, field: &str| record[field].as_str().unwrap_or_default().to_owned();
    records
        .map(|one| {
            let [kind, by, reason] = ["kind", "by", "reason"].map(|field| text(one, field));
            format!("{kind} by {by}: {reason}")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_stops_bans_pins_holds_and_closes_and_history_tells_it() {
    let sandbox = Sandbox::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let commits = Commit::chain(61, 4);
    for (mark, commit) in ["one", "two"].iter().zip(&commits) {
        live(&sandbox.api, mark, commit).await;
    }
    sandbox.send_visitors("docs.localhost", &["one", "two", "three", "newer"]);
    stop(&sandbox, &folder).await;
    ban(&sandbox, &folder);
    pin_under_a_hold(&sandbox, &commits[2], &commits[3]).await;
    let history = done(&sandbox, &["history", "docs/production", "--json"]);
    assert_eq!(told(&history), TOLD);
    close(&sandbox, &folder).await;
    sandbox.stop().await.unwrap();
}

/// The line is stopped: a deployment waits and says so, a rollback passes, and what waited goes on.
async fn stop(sandbox: &Sandbox, folder: &TempDir) {
    let rest = Rest::of(sandbox);
    let reason = "the registry is down";
    let line = ["stop", "docs", "--for", "2h", "--pause", "--reason", reason];
    done(sandbox, &line);
    let options = ["--env", "production", "--wait", "1s"];
    let (code, waits, err) = deploy(sandbox, folder, "three", &options);
    assert_eq!(code, Some(3), "{err}");
    let blocker = &waits["blockers"][0];
    assert_eq!(blocker["kind"], "KIND_STOP", "{waits}");
    assert_eq!(
        blocker["message"],
        "docs is stopped by admin: the registry is down"
    );
    let (status, listed) = rest.get("/v1/stops").await;
    assert_eq!(status, 200, "{listed}");
    let stop = &listed["stops"][0];
    let is_so = stop["site"] == "docs" && stop["by"] == "admin" && stop["pauses"] == true;
    assert!(is_so && listed["stops"][1].is_null(), "{listed}");

    let reason = "search is broken";
    let back = ["rollback", "docs/production", "--yes", "--reason", reason];
    done(sandbox, &back);
    let page = sandbox.visit(0, "docs.localhost", "/").await.unwrap();
    assert!(page.body.contains("mark:one<"), "{}", page.body);
    // The rollback holds it besides.
    let id = waits["id"].as_str().unwrap();
    let why = done(sandbox, &["why", id, "--json"]);
    let why: Value = serde_json::from_str(&why).unwrap();
    let kinds = [&why["blockers"][0]["kind"], &why["blockers"][1]["kind"]];
    assert_eq!(kinds, ["KIND_STOP", "KIND_HOLD"], "{why}");
    done(sandbox, &["stop", "lift", "docs", "--reason", "it is back"]);
    let (_, listed) = rest.get("/v1/stops").await;
    assert_eq!(listed["stops"], json!([]));
    lift_hold(sandbox, "search is mended");
    sandbox.api.succeeds(id).await.unwrap();
}

fn lift_hold(sandbox: &Sandbox, reason: &str) {
    let line = ["hold", "lift", "docs/production", "--reason", reason];
    done(sandbox, &line);
}

/// A banned release goes nowhere.
fn ban(sandbox: &Sandbox, folder: &TempDir) {
    let (code, staged, err) = deploy(sandbox, folder, "draft", &["--env", "staging"]);
    assert_eq!(code, Some(0), "{err}");
    let release = staged["release_id"].as_str().unwrap();
    let reason = "it shows a draft";
    let ban = ["releases", "ban", release, "--yes", "--reason", reason];
    done(sandbox, &ban);
    let (code, _, err) = deploy(sandbox, folder, "draft", &["--env", "production"]);
    assert_eq!(code, Some(1), "{err}");
    let refusal = format!("{release} is banned by admin");
    assert!(err.contains(&refusal), "{err}");
    let reason = "the draft was published";
    done(sandbox, &["releases", "unban", release, "--reason", reason]);
}

/// What is pinned keeps its place before a newer commit, until the pin is taken off.
async fn pin_under_a_hold(sandbox: &Sandbox, older: &Commit, newer: &Commit) {
    let api = &sandbox.api;
    let hold = ["hold", "set", "docs/production", "--reason", "launch day"];
    // Only tried, it holds nothing: it can still be set.
    let tried = done(sandbox, &[&hold[..], &["--dry-run"]].concat());
    let expected = "would hold docs/production: \"launch day\"";
    assert_eq!(tried.trim_end(), expected);
    done(sandbox, &hold);
    let asked = async |mark: &str, commit: &Commit| {
        let content = Content::site(mark);
        let release = api.release("docs", &content, commit).await.unwrap();
        let asked = api.deploy("docs", "production", &release, None).await;
        asked.unwrap().id
    };
    let older = asked("older", older).await;
    let reason = "it fixes the login";
    done(sandbox, &["pin", &older, "--reason", reason]);
    let newer = asked("newer", newer).await;
    let kept = api.deployment(&older).await.unwrap();
    assert_eq!(kept.state(), State::Pending, "{}", kept.message);
    let kinds: Vec<_> = kept.blockers.iter().map(pb::Blocker::kind).collect();
    assert_eq!(kinds, [blocker::Kind::Hold]);
    assert_eq!(kept.pin.map(|pin| pin.reason).as_deref(), Some(reason));

    let reason = "the newer one has it too";
    done(sandbox, &["pin", &older, "--unpin", "--reason", reason]);
    let overtaken = api.ended(&older).await.unwrap();
    assert_eq!(overtaken.state(), State::Superseded);
    assert_eq!(overtaken.superseded_by, newer);
    lift_hold(sandbox, "launched");
    api.succeeds(&newer).await.unwrap();
}

/// A preview that is closed serves nothing, and nothing deploys there.
async fn close(sandbox: &Sandbox, folder: &TempDir) {
    let (code, preview, err) = deploy(sandbox, folder, "preview", &["--preview"]);
    assert_eq!(code, Some(0), "{err}");
    let slug = preview["environment"].as_str().unwrap();
    let (place, host) = (format!("docs/{slug}"), format!("{slug}--docs.localhost"));
    let page = sandbox.visit(0, &host, "/").await.unwrap();
    assert!(page.body.contains("mark:preview<"), "{}", page.body);
    let reason = "nobody needs it";
    done(
        sandbox,
        &["env", "close", &place, "--yes", "--reason", reason],
    );
    for edge in 0..2 {
        candlefish_devstack::wait_until(PATIENCE, "the edge serves nothing", || async {
            let page = sandbox.visit(edge, &host, "/").await;
            let page = page.map_err(|error| format!("{error:#}"))?;
            if page.status == 404 {
                Ok(())
            } else {
                Err(page.body)
            }
        })
        .await
        .unwrap();
    }
    let history = done(sandbox, &["history", &place, "--limit", "1", "--json"]);
    assert_eq!(told(&history), ["KIND_CLOSE by admin: nobody needs it"]);
    let (code, _, err) = deploy(sandbox, folder, "preview", &["--env", slug]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(&format!("{place} is closed")), "{err}");
}

/// A caller of REST that acts on one deployment after the other.
struct Acts {
    rest: Rest,
}

impl Acts {
    /// Acts, and compares the status; answers the body.
    async fn on(&self, verb: Method, path: &str, body: Value, status: u16) -> Value {
        let (answered, body) = self.rest.act(verb, path, body).await;
        assert_eq!(answered, status, "{path}: {body}");
        body
    }

    /// Acts on a deployment; answers the body.
    async fn verb(&self, id: &str, verb: &str, mut body: Value, status: u16) -> Value {
        body["reason"] = "by REST".into();
        let path = format!("/v1/deployments/{id}:{verb}");
        self.on(Method::POST, &path, body, status).await
    }

    /// Acts, and is refused for the state with this reason.
    async fn refused(&self, path: &str, body: Value, reason: &str) {
        let problem = self.on(Method::POST, path, body, 409).await;
        assert_eq!(problem["reason"], reason, "{path}: {problem}");
    }

    /// Acts, and is refused for this field alone.
    async fn wrong(&self, path: &str, body: Value, field: &str) {
        let problem = self.on(Method::POST, path, body, 400).await;
        names(&problem, field);
    }

    /// Reads; answers the body.
    async fn read(&self, path: &str) -> Value {
        let (status, body) = self.rest.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Reads, and is refused for this field alone.
    async fn unread(&self, path: &str, field: &str) {
        let (status, problem) = self.rest.get(path).await;
        assert_eq!(status, 400, "{path}: {problem}");
        names(&problem, field);
    }
}

/// A problem is about this field and no other.
#[track_caller]
fn names(problem: &Value, field: &str) {
    let errors = problem["errors"].as_array().unwrap();
    let fields: Vec<_> = errors.iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, [field], "{problem}");
}

/// What a command answers as JSON.
#[track_caller]
fn shown(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let line = [arguments, &["--json"]].concat();
    serde_json::from_str(&done(sandbox, &line)).unwrap()
}

/// Waits until a deployment waits in a step of this kind; answers the step's place.
pub(crate) async fn waits_in(api: &Api, id: &str, kind: step::Kind) -> i32 {
    let waits = |now: &pb::Deployment| {
        let step = now.steps.iter().find(|step| step.kind() == kind)?;
        let is_in = step.started_at.is_some() && step.finished_at.is_none();
        (is_in && now.state() == State::Waiting).then_some(step.ord)
    };
    let what = format!("waits in {kind:?}");
    let now = api.until(id, &what, |now| waits(now).is_some()).await;
    waits(&now.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_by_rest_have_their_status_and_move_what_they_name() {
    let sandbox = Sandbox::start().await.unwrap();
    let api = &sandbox.api;
    let acts = Acts {
        rest: Rest::of(&sandbox),
    };
    let commits = Commit::chain(62, 3);
    let zero = live(api, "zero", &commits[0]).await;
    let one = live(api, "one", &commits[1]).await;
    sandbox.send_visitors("docs.localhost", &["zero", "one", "two"]);
    let content = Content::site("two");
    let two = api.release("docs", &content, &commits[2]).await.unwrap();
    let id = advance_and_abort(&acts, api, &two).await;
    clear_and_retry(&acts, &id, &two).await;
    go_back(&acts, &sandbox, &one, &zero).await;
    sandbox.stop().await.unwrap();
}

/// Created, advanced past its analysis, aborted in its bake: traffic goes back, and the release is
/// rejected.
async fn advance_and_abort(acts: &Acts, api: &Api, release: &str) -> String {
    let wish = json!({
        "site": "docs", "environment": "production", "release_id": release,
        "strategy": {"canary": {"weights": [50], "interval": "600s", "bake": "600s"}},
    });
    let path = "/v1/deployments";
    let made = acts.on(Method::POST, path, wish.clone(), 201).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let analysis = waits_in(api, &id, step::Kind::Analyse).await;
    let advance = format!("/v1/deployments/{id}:advance");
    let stale = json!({"step_ord": analysis - 1});
    acts.refused(&advance, stale, "step-passed").await;
    let body = json!({"step_ord": analysis});
    let goes_on = acts.verb(&id, "advance", body.clone(), 200).await;
    assert_eq!(goes_on["state"], "STATE_RUNNING", "{goes_on}");

    waits_in(api, &id, step::Kind::Bake).await;
    let aborted = acts.verb(&id, "abort", json!({}), 200).await;
    assert_eq!(aborted["state"], "STATE_CANCELLING", "{aborted}");
    api.ended(&id).await.unwrap();
    let (status, ended) = acts.rest.get(&format!("/v1/deployments/{id}")).await;
    assert_eq!(status, 200, "{ended}");
    assert_eq!(ended["state"], "STATE_ROLLED_BACK", "{ended}");
    assert_eq!(ended["cause"], "aborted", "{ended}");
    acts.refused(&advance, body, "terminal").await;
    acts.refused(path, wish, "release-rejected").await;
    id
}

/// Cleared, it may go there again; held, that waits; cancelled, it never began.
async fn clear_and_retry(acts: &Acts, id: &str, release: &str) {
    let retry = format!("/v1/deployments/{id}:retry");
    acts.refused(&retry, json!({}), "release-rejected").await;
    let clear = format!("/v1/releases/{release}:clear");
    let body = json!({"environment": "production", "reason": "it was the network"});
    let cleared = acts.on(Method::POST, &clear, body.clone(), 200).await;
    assert_eq!(cleared["rejections"], json!([]), "{cleared}");
    acts.refused(&clear, body, "not-rejected").await;

    let hold = "/v1/sites/docs/environments/production/hold";
    let why = json!({"reason": "launch day"});
    let held = acts.on(Method::PUT, hold, why.clone(), 200).await;
    assert_eq!(held["hold"]["reason"], "launch day", "{held}");
    acts.on(Method::PUT, hold, why.clone(), 409).await;
    let again = acts.verb(id, "retry", json!({}), 201).await;
    assert_eq!(again["state"], "STATE_PENDING", "{again}");
    assert_eq!(again["retry_of"], id, "{again}");
    assert_eq!(again["blockers"][0]["kind"], "KIND_HOLD", "{again}");
    let again = again["id"].as_str().unwrap();
    let cancelled = acts.verb(again, "cancel", json!({}), 200).await;
    assert_eq!(cancelled["state"], "STATE_CANCELLED", "{cancelled}");
    let cancel = format!("/v1/deployments/{again}:cancel");
    acts.refused(&cancel, json!({}), "terminal").await;
    let lift = format!("{hold}:lift");
    let lifted = acts.on(Method::POST, &lift, why.clone(), 200).await;
    assert!(lifted["hold"].is_null(), "{lifted}");
    acts.refused(&lift, why, "not-held").await;
}

/// Back to the release before, once, however many ask.
async fn go_back(acts: &Acts, sandbox: &Sandbox, from: &str, to: &str) {
    let path = "/v1/rollbacks";
    let mut wish = json!({"site": "docs", "environment": "production"});
    wish["reason"] = "search is broken".into();
    let made = acts.on(Method::POST, path, wish.clone(), 201).await;
    let rollback = &made["deployment"];
    assert_eq!(rollback["kind"], "KIND_ROLLBACK", "{made}");
    let ends = [&made["from"]["id"], &made["to"]["id"]];
    assert_eq!(ends, [from, to], "{made}");
    let id = rollback["id"].as_str().unwrap();
    sandbox.api.succeeds(id).await.unwrap();
    for edge in 0..2 {
        let page = sandbox.visit(edge, "docs.localhost", "/").await.unwrap();
        assert!(page.body.contains("mark:zero<"), "{}", page.body);
    }
    wish["leaves_release_id"] = from.into();
    let already = acts.on(Method::POST, path, wish, 200).await;
    assert_eq!(already["already"], true, "{already}");
    assert_eq!(already["deployment"]["id"], id, "{already}");
    let path = "/v1/sites/docs/environments/production";
    let (_, held) = acts.rest.get(path).await;
    assert_eq!(held["hold"]["deployment_id"], id, "{held}");
    assert_eq!(held["live_release_id"], to, "{held}");
}

/// What the history of production tells after decisions by REST, newest first.
const TOLD_BY_REST: [&str; 10] = [
    "KIND_LIFT_HOLD by admin: launched",
    "KIND_CANCEL by admin: no reason given",
    "KIND_UNPIN by admin: by REST",
    "KIND_PIN by admin: by REST",
    "KIND_HOLD by admin: launch day",
    "KIND_UNBAN by admin: it was published",
    "KIND_BAN by admin: it shows a draft",
    "KIND_LIFT_STOP by admin: it is back",
    "KIND_STOP by admin: an attack",
    "KIND_LIVE by admin: Commit 0000003f00000000000000000000000000000001",
];

#[tokio::test(flavor = "multi_thread")]
async fn decisions_by_rest_are_what_the_command_line_shows() {
    let sandbox = Sandbox::start().await.unwrap();
    let acts = Acts {
        rest: Rest::of(&sandbox),
    };
    let commits = Commit::chain(63, 3);
    live(&sandbox.api, "one", &commits[0]).await;
    sandbox.send_visitors("docs.localhost", &["one"]);
    let content = Content::site("two");
    let two = sandbox.api.release("docs", &content, &commits[1]).await;
    let two = two.unwrap();
    stop_by_rest(&acts, &sandbox).await;
    ban_by_rest(&acts, &sandbox, &two).await;
    pin_by_rest(&acts, &sandbox, &two).await;
    history_by_rest(&acts, &sandbox).await;
    close_by_rest(&acts, &sandbox, &two).await;
    triggers_by_rest(&acts, &sandbox, &commits[2]).await;
    sandbox.stop().await.unwrap();
}

/// Stopped until a moment, and lifted before it.
async fn stop_by_rest(acts: &Acts, sandbox: &Sandbox) {
    let path = "/v1/stops";
    let until = SystemTime::now() + Duration::from_hours(1);
    let until = prost_types::Timestamp {
        nanos: 0,
        ..until.into()
    };
    let until = until.to_string();
    let wish = json!({"site": "docs", "pauses": true, "reason": "an attack", "until": until});
    acts.wrong(
        path,
        json!({"site": "docs", "reason": "an attack"}),
        "until",
    )
    .await;
    let stop = acts.on(Method::POST, path, wish, 200).await;
    let is_so = stop["site"] == "docs" && stop["by"] == "admin" && stop["pauses"] == true;
    assert!(is_so && stop["reason"] == "an attack", "{stop}");
    let id = stop["id"].as_str().unwrap();
    let listed = shown(sandbox, &["stop", "list", "docs"]);
    assert_eq!(listed["stops"][0]["id"], id, "{listed}");

    let lift = format!("{path}/{id}:lift");
    acts.wrong(&lift, json!({"reason": " "}), "reason").await;
    let why = json!({"reason": "it is back"});
    let lifted = acts.on(Method::POST, &lift, why, 200).await;
    let end = [&lifted["ended_by"], &lifted["end_reason"]];
    assert_eq!(end, ["admin", "it is back"], "{lifted}");
    assert!(lifted["ended_at"].is_string(), "{lifted}");
    let ended = acts.read("/v1/stops?site=docs&include_ended=true").await;
    assert_eq!(ended["stops"][0]["id"], id, "{ended}");
    let listed = acts.read("/v1/stops?site=docs").await;
    assert_eq!(listed["stops"], json!([]));
    acts.unread("/v1/stops?site=No+site", "site").await;
}

/// Banned, a release goes nowhere, until the ban is lifted.
async fn ban_by_rest(acts: &Acts, sandbox: &Sandbox, release: &str) {
    let ban = format!("/v1/releases/{release}:ban");
    acts.wrong(&ban, json!({}), "reason").await;
    let why = json!({"reason": "it shows a draft"});
    let banned = acts.on(Method::POST, &ban, why, 200).await;
    let told = [&banned["ban"]["by"], &banned["ban"]["reason"]];
    assert_eq!(told, ["admin", "it shows a draft"], "{banned}");
    let listed = || {
        let listed = shown(sandbox, &["releases", "docs"]);
        let mut releases = listed["releases"].as_array().unwrap().iter();
        let found = releases.find(|one| one["id"] == release);
        found.unwrap().clone()
    };
    let found = listed();
    assert_eq!(found["ban"]["reason"], "it shows a draft", "{found}");
    let wish = json!({"site": "docs", "environment": "production", "release_id": release});
    acts.refused("/v1/deployments", wish, "release-banned")
        .await;

    let clear = format!("/v1/releases/{release}:clear");
    acts.wrong(&clear, json!({}), "reason").await;
    let why = json!({"reason": "it was published"});
    let cleared = acts.on(Method::POST, &clear, why, 200).await;
    assert!(cleared["ban"].is_null(), "{cleared}");
    let found = listed();
    assert!(found["ban"].is_null(), "{found}");
}

/// What waits is pinned once, the pin taken off, and it is cancelled without a word.
async fn pin_by_rest(acts: &Acts, sandbox: &Sandbox, release: &str) {
    let hold = "/v1/sites/docs/environments/production/hold";
    let why = json!({"reason": "launch day"});
    acts.on(Method::PUT, hold, why, 200).await;
    let wish = json!({"site": "docs", "environment": "production", "release_id": release});
    let made = acts.on(Method::POST, "/v1/deployments", wish, 201).await;
    let id = made["id"].as_str().unwrap();
    let pin = format!("/v1/deployments/{id}:pin");
    acts.wrong(&pin, json!({}), "reason").await;
    let pinned = acts.verb(id, "pin", json!({}), 200).await;
    assert_eq!(pinned["pin"]["by"], "admin", "{pinned}");
    let now = sandbox.api.deployment(id).await.unwrap();
    assert_eq!(now.pin.map(|pin| pin.reason).as_deref(), Some("by REST"));
    let again = json!({"reason": "by REST"});
    acts.refused(&pin, again, "pinned").await;

    let unpin = json!({"unpin": true});
    acts.wrong(&pin, unpin.clone(), "reason").await;
    let unpinned = acts.verb(id, "pin", unpin, 200).await;
    assert!(unpinned["pin"].is_null(), "{unpinned}");
    assert!(sandbox.api.deployment(id).await.unwrap().pin.is_none());
    let cancel = format!("/v1/deployments/{id}:cancel");
    let cancelled = acts.on(Method::POST, &cancel, json!({}), 200).await;
    assert_eq!(cancelled["message"], "cancelled by admin", "{cancelled}");
    let why = json!({"reason": "launched"});
    acts.on(Method::POST, &format!("{hold}:lift"), why, 200)
        .await;
}

/// Page by page, and as the command line tells it.
async fn history_by_rest(acts: &Acts, sandbox: &Sandbox) {
    let path = "/v1/sites/docs/environments/production/history";
    let whole = acts.read(path).await;
    assert_eq!(told(&whole.to_string()), TOLD_BY_REST);
    let line = ["history", "docs/production", "--json"];
    assert_eq!(told(&done(sandbox, &line)), TOLD_BY_REST);
    let first = acts.read(&format!("{path}?page_size=4")).await;
    assert_eq!(told(&first.to_string()), TOLD_BY_REST[..4]);
    let token = first["next_page_token"].as_str().unwrap();
    let rest = format!("{path}?page_size=200&page_token={token}");
    acts.unread(&format!("{path}?page_token=nonsense"), "page_token")
        .await;
    let rest = acts.read(&rest).await;
    assert_eq!(told(&rest.to_string()), TOLD_BY_REST[4..]);
}

/// A preview that is closed, once, serves nothing.
async fn close_by_rest(acts: &Acts, sandbox: &Sandbox, release: &str) {
    let wish = json!({"site": "docs", "preview": true, "release_id": release});
    let made = acts.on(Method::POST, "/v1/deployments", wish, 201).await;
    let id = made["id"].as_str().unwrap();
    sandbox.api.succeeds(id).await.unwrap();
    let slug = made["environment"].as_str().unwrap();
    let close = format!("/v1/sites/docs/environments/{slug}:close");
    acts.wrong(&close, json!({}), "reason").await;
    let why = json!({"reason": "nobody needs it"});
    let closed = acts.on(Method::POST, &close, why.clone(), 200).await;
    let told = [&closed["closed"]["by"], &closed["closed"]["reason"]];
    assert_eq!(told, ["admin", "nobody needs it"], "{closed}");
    let place = format!("docs/{slug}");
    let seen = shown(sandbox, &["env", "show", &place]);
    assert_eq!(seen["closed"]["reason"], "nobody needs it", "{seen}");
    acts.on(Method::POST, &close, why, 409).await;
}

/// What was told of a site, also where it came to nothing.
async fn triggers_by_rest(acts: &Acts, sandbox: &Sandbox, commit: &Commit) {
    let repository = "example/docs";
    let body = json!({"repository": repository});
    acts.on(Method::PATCH, "/v1/sites/docs", body, 200).await;
    let path = "/v1/triggers?site=docs";
    let none = acts.read(path).await;
    assert_eq!(none["triggers"], json!([]));
    let push = Push {
        repository,
        branch: "main",
        before: &"0".repeat(40),
        commits: &[&commit.id],
        changes: &["docs/a.md"],
        pushed_at: 1_790_000_000,
    };
    sandbox.delivers("pushed", &push.example()).await.unwrap();
    candlefish_devstack::wait_until(PATIENCE, "the push is decided", || async {
        let found = acts.read(path).await;
        let one = &found["triggers"][0];
        let is_so = one["commit"] == commit.id.as_str() && one["reason"] == "REASON_NO_RULE";
        if is_so && one["outcome"] == "OUTCOME_IGNORED" {
            Ok(())
        } else {
            Err(found.to_string())
        }
    })
    .await
    .unwrap();
    let found = shown(sandbox, &["push", "--site", "docs"]);
    let one = &found["triggers"][0];
    assert_eq!(one["commit"], commit.id.as_str(), "{found}");
    assert_eq!(one["reason"], "REASON_NO_RULE", "{found}");
    acts.unread("/v1/triggers?site=No+site", "site").await;
    let (_status, problem) = acts.rest.get("/v1/triggers").await;
    let fields = ["commit", "site", "delivery_id"];
    for (error, field) in problem["errors"].as_array().unwrap().iter().zip(fields) {
        assert_eq!(error["field"], field, "{problem}");
    }
    assert_eq!(problem["errors"].as_array().unwrap().len(), fields.len());
}
