use candlefish_proto::{
    deploy::{DeploymentChanged, deployment::State},
    event::{Envelope, WatchEventsResponse},
};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    cli::{Cli, done},
    server::{DEP, Server, deployment},
};

/// An event about the deployment, with its body as it travels.
fn event(cursor: &str, kind: &str) -> WatchEventsResponse {
    let changed = DeploymentChanged {
        deployment: Some(deployment(State::Succeeded, 9)),
    };
    let body = prost_types::Any {
        type_url: "type.googleapis.com/candlefish.deploy.v1.DeploymentChanged".to_owned(),
        value: changed.encode_to_vec(),
    };
    let event = Envelope {
        r#type: format!("deploy.deployment.{kind}.v1"),
        entity: DEP.to_owned(),
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        actor: "ada".to_owned(),
        body: Some(body),
        ..Envelope::default()
    };
    WatchEventsResponse {
        cursor: cursor.to_owned(),
        event: Some(event),
    }
}

/// Runs until the stream was made a third time.
fn events(options: &str) -> (Vec<String>, String) {
    let server = Server::start();
    server.world.lock().events = [
        vec![event("c1", "accepted"), event("c2", "succeeded")],
        vec![event("c3", "accepted")],
    ]
    .into();
    let cli = Cli::new(&server.url());
    let mut child = cli.start(&format!("events --site docs --type deploy. {options}"));
    server
        .world
        .wait_until("a third stream", |world| world.cursors.len() == 3);
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let cursors = server.world.lock().cursors.clone();
    (cursors, String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_stream_that_ends_goes_on_after_the_last_event() {
    let (cursors, out) = events("");
    assert_eq!(cursors, ["", "c2", "c3"]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), 3, "{out}");
    assert!(
        lines[1].contains("deploy.deployment.succeeded.v1") && lines[1].contains("docs/production")
    );
}

#[test]
fn a_cursor_that_moved_alone_is_gone_on_after_and_is_a_line_for_programs_alone() {
    for (options, lines) in [("", 1), ("--json", 2)] {
        let server = Server::start();
        let moved = WatchEventsResponse {
            cursor: "c9".to_owned(),
            event: None,
        };
        server.world.lock().events = [vec![event("c1", "accepted"), moved]].into();
        let cli = Cli::new(&server.url());
        let mut child = cli.start(&format!("events {options}"));
        server
            .world
            .wait_until("a second stream", |world| world.cursors.len() == 2);
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(server.world.lock().cursors, ["", "c9"]);
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(out.lines().count(), lines, "{out}");
        if options == "--json" {
            assert_eq!(out.lines().last(), Some(r#"{"cursor":"c9"}"#));
        }
    }
}

/// Runs until so many streams were made; answers the cursors that they were asked after, and what was
/// said besides.
fn watched(server: &Server, streams: usize) -> (Vec<String>, String) {
    let cli = Cli::new(&server.url());
    let mut child = cli.start("events");
    server
        .world
        .wait_until("the last stream", |world| world.cursors.len() == streams);
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    let cursors = server.world.lock().cursors.clone();
    (cursors, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_stream_that_is_lost_before_its_first_event_goes_on_where_it_began() {
    let server = Server::start();
    server.world.lock().events = [vec![]].into();
    server.world.lock().breaks = [Status::unavailable("the gateway stops")].into();
    let (cursors, _) = watched(&server, 2);
    assert_eq!(cursors, ["", "c0"]);
}

#[test]
fn who_does_not_keep_up_goes_on_after_the_last_cursor() {
    let server = Server::start();
    let mut details = ErrorDetails::new();
    details.set_error_info(
        "watcher-lagged",
        "candlefish",
        std::collections::HashMap::new(),
    );
    let lagged = Status::with_error_details(Code::Aborted, "you are too far behind", details);
    server.world.lock().events = [vec![event("c1", "accepted")]].into();
    server.world.lock().breaks = [lagged].into();
    let (cursors, said) = watched(&server, 2);
    assert_eq!(cursors, ["", "c1"]);
    assert_eq!(said, "");
}

#[test]
fn an_outage_is_told_once() {
    let server = Server::start();
    let lost = || Status::unavailable("the gateway is away");
    server.world.lock().events = [
        vec![event("c1", "accepted")],
        vec![],
        vec![],
        vec![event("c2", "succeeded")],
    ]
    .into();
    server.world.lock().breaks = [lost(), lost(), lost()].into();
    let (cursors, said) = watched(&server, 5);
    assert_eq!(cursors, ["", "c1", "c1", "c1", "c2"]);
    assert_eq!(said.matches("Lost the connection").count(), 1, "{said}");
}

#[test]
fn as_json_an_event_holds_what_it_is_about() {
    let (_, out) = events("--json");
    let event: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&event["cursor"], &event["event"]["entity"]),
        (&"c1".into(), &DEP.into())
    );
    assert_eq!(
        event["event"]["body"]["deployment"]["state"],
        "STATE_SUCCEEDED"
    );
}

#[test]
fn nobody_to_stream_to_is_told_at_once() {
    let cli = Cli::new("http://127.0.0.1:1");
    done(cli.command("events").output().unwrap()).code(6);
}
