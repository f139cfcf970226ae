//! What acts at once, with `--dry-run`: the server is asked, and does nothing.

use candlefish_proto::deploy::deployment::State;
use tonic::Status;

use crate::{
    cli::Cli,
    server::{DEP, REL, Server, deployment},
};

#[test]
fn one_line_says_what_would_happen() {
    for (line, says, call) in [
        (
            "hold set docs/production --reason launch".to_owned(),
            "would hold docs/production: \"launch\"\n".to_owned(),
            "set_hold",
        ),
        (
            "hold lift docs/production --reason over".to_owned(),
            "would lift the hold of docs/production\n".to_owned(),
            "lift_hold",
        ),
        (
            format!("retry {DEP}"),
            format!("would deploy {REL} to docs/production once more\n"),
            "retry_deployment",
        ),
        (
            format!("advance {DEP} 5"),
            format!("would leave step 5 of {DEP}\n"),
            "advance_deployment",
        ),
        (
            "env pushes docs/production --branch main --path docs/".to_owned(),
            "would let pushes to main that change docs/ deploy to docs/production\n".to_owned(),
            "update_environment",
        ),
    ] {
        let server = Server::start();
        server.world.lock().deployment = deployment(State::Failed, 3);
        let cli = Cli::new(&server.url());
        let done = cli.run(&format!("{line} --dry-run")).code(0);
        assert_eq!(done.out, says, "{done:#?}");
        assert!(server.world.lock().rehearses, "{line}");
        assert_eq!(server.world.keys(call).len(), 1, "{line}");
        // The same without it is another request, and acts.
        cli.run(&format!("{line} --dry-run --json")).code(0);
        let keys = server.world.keys(call);
        assert_ne!(keys[0], keys[1], "{line}");
    }
}

#[test]
fn a_refusal_is_that_of_the_real_call() {
    let server = Server::start();
    let held = Status::failed_precondition("docs/production is held already by erin");
    server.world.lock().refusals.insert("set_hold", held);
    let cli = Cli::new(&server.url());
    let line = "hold set docs/production --reason launch";
    let [real, tried] = [line, &format!("{line} --dry-run")].map(|line| cli.run(line).code(1));
    assert_eq!(real.err, tried.err);
    assert_eq!(tried.out, "");
}

#[test]
fn what_was_carried_out_all_the_same_is_said_loudly() {
    let server = Server::start();
    server.world.lock().acts_anyway = true;
    let done = Cli::new(&server.url())
        .run("hold set docs/production --reason launch --dry-run")
        .code(1)
        .says("does not know dry runs: THE CALL WAS CARRIED OUT")
        .says("What is now: candlefish hold show docs/production");
    assert_eq!(done.out, "", "{done:#?}");
}

#[test]
fn a_request_whose_answer_did_not_arrive_is_tried_under_its_key() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let line = "hold set docs/production --reason launch";
    // All the tries of one command.
    server.world.lock().lost.insert("set_hold", 4);
    cli.run(line).code(6);
    server.world.lock().replays.insert("set_hold");
    cli.run(&format!("{line} --dry-run"))
        .code(0)
        .says("This was done before");
    let keys = server.world.keys("set_hold");
    assert_eq!(keys.len(), 5);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[test]
fn a_dry_run_whose_answer_did_not_arrive_leaves_its_key_for_the_real_request() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let line = "hold set docs/production --reason launch";
    // By a gateway that may have carried it out.
    server.world.lock().lost.insert("set_hold", 4);
    cli.run(&format!("{line} --dry-run"))
        .code(6)
        .says("it goes on as the same request, not as a second one");
    // One that is answered takes nothing away.
    cli.run(&format!("{line} --dry-run")).code(0);
    cli.run(line).code(0);
    let keys = server.world.keys("set_hold");
    assert_eq!(keys.len(), 6);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[test]
fn what_names_nothing_to_change_shows_what_is() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    for line in ["env pushes docs/production", "env policy docs/production"] {
        let [shown, tried] =
            [line, &format!("{line} --dry-run")].map(|line| cli.run(line).code(0).out);
        assert_eq!(shown, tried);
        assert!(!tried.contains("would"), "{tried}");
    }
    assert!(server.world.asked("update_environment").is_empty());
}
