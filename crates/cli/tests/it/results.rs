//! Where results go: to programs, to readers that leave, and to disks that are full.

use std::{
    fs, io,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use candlefish_proto::{
    deploy::deployment::State,
    event::{Envelope, WatchEventsResponse},
};

use crate::{
    cli::{Cli, done},
    server::{DEP, Server, URL, deployment},
};

/// The code with which it ends by itself.
#[track_caller]
fn ended(mut child: Child) -> i32 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap();
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            panic!("it goes on without a reader");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs it for a reader that has left already.
fn unread(cli: &Cli, line: &str) -> Child {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    cli.command(line).stdout(writer).spawn().unwrap()
}

#[test]
fn a_stream_ends_when_its_reader_has_left() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let event = WatchEventsResponse {
        cursor: "c1".to_owned(),
        event: Some(Envelope::default()),
    };
    server.world.lock().events = [vec![event]].into();
    assert_eq!(ended(unread(&cli, "events")), 0);
    server.world.lock().streams = [vec![deployment(State::Running, 2)]].into();
    // It is neither live nor failed.
    let watch = unread(&cli, &format!("watch {DEP} --json"));
    assert_eq!(ended(watch), 130);
}

#[test]
fn a_reader_that_left_is_no_fault() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    assert_eq!(ended(unread(&cli, "sites")), 0);
}

#[test]
fn a_result_that_cannot_be_written_is_1() {
    let server = Server::start();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let cli = Cli::new(&server.url());
    let mut command = cli.command("sites --json");
    done(command.stdout(full).output().unwrap())
        .code(1)
        .says("error: cannot write the result: ")
        .says("What was asked of the server holds");
}

#[test]
fn as_json_every_result_is_an_object() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    fs::create_dir_all(cli.config()).unwrap();
    let contexts = "[contexts.dev]\napi = \"http://dev.localhost:8090\"\ntoken = \"cft_dev\"\n";
    fs::write(cli.config().join("contexts.toml"), contexts).unwrap();
    for (line, expected) in [
        (
            "open docs/production --json",
            serde_json::json!({ "url": URL }),
        ),
        (
            "context dev --json",
            serde_json::json!({ "name": "dev", "api": "http://dev.localhost:8090", "current": true }),
        ),
    ] {
        let out = cli.run(line).code(0).out;
        let shown: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(shown, expected, "{line}");
    }
}

#[test]
fn where_nothing_acts_the_place_that_was_named_is_looked_at() {
    let server = Server::start();
    server.world.lock().lane = Some(candlefish_proto::deploy::Lane::default());
    Cli::new(&server.url())
        .run("watch docs/production")
        .code(2)
        .says("error: nothing acts or waits in docs/production")
        .says("candlefish status docs/production");
}
