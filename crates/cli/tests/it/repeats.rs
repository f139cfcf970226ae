use std::thread;

use candlefish_proto::deploy::deployment::State;
use tonic::Status;

use crate::{
    cli::{Cli, done},
    server::{DEP, REL, Server, deployment, live},
};

const DEPLOY: &str = "deploy site --site docs --env production";
/// A call and all its repeats within one command.
const WHOLE: usize = 4;

#[test]
fn a_server_that_is_not_there_is_6() {
    // Nothing listens there: a port that was free a moment ago may be another test's by now.
    let done = Cli::new("http://127.0.0.1:1")
        .run("status docs/production")
        .code(6);
    done.says("error: cannot reach http://127.0.0.1:1: ")
        .says("safe to repeat");
}

#[test]
fn a_repeat_after_6_is_the_same_request() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().deployment = live(State::Succeeded, 9);
    server.world.lock().lost.insert("create_deployment", WHOLE);
    cli.run(DEPLOY)
        .code(6)
        .says("it goes on as the same request");
    cli.run(DEPLOY).code(0).says("no second one was made");
    let keys = server.world.keys("create_deployment");
    assert_eq!(keys.len(), WHOLE + 1);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[test]
fn where_no_key_can_be_kept_a_repeat_is_not_said_to_be_safe() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().lost.insert("create_deployment", WHOLE);
    let mut command = cli.command(DEPLOY);
    // There is no home either.
    command.env_remove("CANDLEFISH_CONFIG_DIR");
    let lost = done(command.output().unwrap())
        .code(6)
        .says("a repeat would be a second request")
        .says("Look before you repeat it: candlefish status");
    assert!(!lost.err.contains("safe to repeat"), "{lost:#?}");
}

#[test]
fn a_new_deployment_of_the_same_content_has_a_key_of_its_own() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().deployment = live(State::Succeeded, 9);
    cli.run(DEPLOY).code(0);
    cli.run(DEPLOY).code(0);
    let keys = server.world.keys("create_deployment");
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn a_refusal_is_an_answer_and_keeps_no_key() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().refusals.insert(
        "create_deployment",
        Status::failed_precondition("rejected there"),
    );
    cli.run(DEPLOY).code(1).says("error: rejected there");
    cli.run(DEPLOY).code(1);
    let keys = server.world.keys("create_deployment");
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn what_is_lost_for_a_moment_is_repeated_unseen() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    server.world.lock().lost.insert("create_deployment", 2);
    server.world.lock().lost.insert("seal_release", 1);
    Cli::new(&server.url()).run(DEPLOY).code(0);
    let keys = server.world.keys("create_deployment");
    assert!(
        keys.len() == 3 && keys.iter().all(|key| *key == keys[0]),
        "{keys:?}"
    );
}

#[test]
fn a_deployment_that_was_lost_from_sight_is_watched_by_the_repeat() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server
        .world
        .lock()
        .lost
        .insert("watch_deployment", usize::MAX);
    cli.run(&format!("{DEPLOY} --wait 1s"))
        .code(6)
        .says("it goes on as the same request");
    server.world.lock().lost.clear();
    server.world.lock().streams = [vec![live(State::Waiting, 3)]].into();
    cli.run(DEPLOY).code(0).says("no second one was made");
    let keys = server.world.keys("create_deployment");
    assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
}

/// Calls, lines that make them, and what shows how it is now; `DEP` and `REL` stand for ids.
const ACTS: [[&str; 3]; 11] = [
    [
        "set_hold",
        "hold set docs/production --reason r",
        "hold show docs/production",
    ],
    [
        "lift_hold",
        "hold lift docs/production --reason r",
        "hold show docs/production",
    ],
    [
        "set_stop",
        "stop docs --reason r --for 30m",
        "stop list docs",
    ],
    ["set_stop", "stop --reason r --for 30m --yes", "stop list"],
    [
        "ban_release",
        "releases ban REL --reason r --yes",
        "releases docs",
    ],
    ["pin_deployment", "pin DEP --reason r", "status DEP"],
    ["advance_deployment", "advance DEP 5", "status DEP"],
    ["retry_deployment", "retry DEP", "status DEP"],
    ["cancel_deployment", "cancel DEP --yes", "status DEP"],
    ["abort_deployment", "abort DEP --yes", "status DEP"],
    [
        "close_environment",
        "env close docs/staging --reason r --yes",
        "env show docs/staging",
    ],
];

#[test]
fn an_answer_that_was_kept_for_the_repeat_says_so_and_where_to_look() {
    // Each waits for its tries.
    thread::scope(|scope| {
        for [call, line, now] in ACTS {
            let [line, now] = [line, now].map(|text| text.replace("DEP", DEP).replace("REL", REL));
            scope.spawn(move || is_told_as_done_before(call, &line, &now));
        }
    });
}

/// Runs a line whose answer is lost; then again, when the server tells what it answered then.
fn is_told_as_done_before(call: &'static str, line: &str, now: &str) {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().deployment = match call {
        "cancel_deployment" | "abort_deployment" => deployment(State::Cancelled, 9),
        _ => live(State::Succeeded, 9),
    };
    server.world.lock().lost.insert(call, WHOLE);
    cli.run(line).code(6);
    server.world.lock().replays.insert(call);
    cli.run(line)
        .code(0)
        .says("This was done before")
        .says(&format!("What is now: candlefish {now}\n"));
    // It was answered: the next is a new one, whatever it is answered.
    let done = cli.run(line).code(0);
    assert!(!done.err.contains("done before"), "{done:#?}");
    let keys = server.world.keys(call);
    assert_eq!(keys.len(), WHOLE + 2, "{line}");
    let [first, .., again, new] = keys.as_slice() else {
        panic!("{line}: {keys:?}");
    };
    assert_eq!(first, again, "{line}");
    assert_ne!(first, new, "{line}");
}
