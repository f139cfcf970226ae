use std::time::{Duration, Instant};

use candlefish_proto::deploy::deployment::State;

use crate::{
    cli::Cli,
    server::{Server, live},
};

const WAITING: &str = "for GitHub's delivery of pull request 12, which makes docs/pr-12";
const OPENING: &str = "for GitHub's delivery of pull request 12, which opens docs/pr-12 again";

#[test]
fn the_preview_of_a_pull_request_is_waited_for() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    server.world.lock().unmade.insert("pr-12", 2);
    let done = Cli::new(&server.url())
        .run("deploy site --site docs --env pr-12")
        .code(0)
        .says("  Waiting      until ");
    assert_eq!(done.err.matches(WAITING).count(), 1, "{done:#?}");
    let looks = server.world.asked("get_environment");
    let looks = looks.iter().filter(|one| one.contains("\"pr-12\""));
    assert_eq!(looks.count(), 3);
    let asked = server.world.asked("create_deployment");
    assert!(
        asked.len() == 1 && asked[0].contains("environment: \"pr-12\""),
        "{asked:?}"
    );
}

#[test]
fn a_preview_that_is_there_is_not_waited_for() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    server.world.lock().unmade.insert("pr-12", 0);
    let done = Cli::new(&server.url())
        .run("deploy site --site docs --env pr-12")
        .code(0);
    assert!(!done.err.contains(WAITING), "{done:#?}");
}

#[test]
fn a_preview_that_does_not_come_in_time_is_2_and_says_where_to_look() {
    let server = Server::start();
    server.world.lock().unmade.insert("pr-12", usize::MAX);
    let cli = Cli::new(&server.url());
    let line = "deploy site --site docs --env pr-12 --wait 300ms";
    cli.run(&format!("{line} --commit 4ac21e0"))
        .code(2)
        .says(WAITING)
        .says("error: docs still has no environment \"pr-12\"")
        .says("Does the webhook send pull requests?")
        .says("candlefish sites show docs")
        .says("candlefish push 4ac21e0");
    cli.run(line).code(2).says("candlefish push COMMIT");
    assert!(server.world.asked("create_release").is_empty());
}

#[test]
fn what_the_preview_took_is_taken_off_the_wait_for_the_deployment() {
    let server = Server::start();
    server.world.lock().unmade.insert("pr-12", 3);
    let begun = Instant::now();
    Cli::new(&server.url())
        .run("deploy site --site docs --env pr-12 --wait 4s")
        .code(3)
        .says(WAITING)
        .says("Still pending after 4 s");
    let took = begun.elapsed();
    // Three looks, a second each, and what is left. Counted apart it were seven seconds at least.
    assert!(took < Duration::from_secs(7), "{took:?}");
}

#[test]
fn a_closed_preview_is_waited_for_until_it_is_opened_again() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    server.world.lock().closed.insert("pr-12", 2);
    let done = Cli::new(&server.url())
        .run("deploy site --site docs --env pr-12")
        .code(0);
    assert_eq!(done.err.matches(OPENING).count(), 1, "{done:#?}");
    // Three until it is open, and one about what is live at the end.
    assert_eq!(server.world.asked("get_environment").len(), 4);
    assert_eq!(server.world.asked("create_deployment").len(), 1);
}

#[test]
fn a_preview_that_stays_closed_is_2_and_says_who_closed_it() {
    let server = Server::start();
    server.world.lock().closed.insert("pr-12", usize::MAX);
    Cli::new(&server.url())
        .run("deploy site --site docs --env pr-12 --wait 300ms --commit 4ac21e0")
        .code(2)
        .says(OPENING)
        .says("error: docs/pr-12 is still closed")
        .says("candlefish history docs/pr-12")
        .says("candlefish push 4ac21e0");
    assert!(server.world.asked("create_release").is_empty());
}

#[test]
fn no_other_environment_is_waited_for() {
    for slug in ["staging", "pr-next", "pr-", "pr-12a"] {
        let server = Server::start();
        server.world.lock().unmade.insert(slug, 2);
        let done = Cli::new(&server.url())
            .run(&format!("deploy site --site docs --env {slug}"))
            .code(2);
        assert!(!done.err.contains("Waiting"), "{done:#?}");
        assert_eq!(server.world.asked("get_environment").len(), 1, "{slug}");
    }
}
