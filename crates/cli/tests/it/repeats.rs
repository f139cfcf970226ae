use candlefish_proto::deploy::deployment::State;
use tonic::Status;

use crate::{
    cli::Cli,
    server::{Server, live},
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
