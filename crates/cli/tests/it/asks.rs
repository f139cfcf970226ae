//! What destroys asks, and on a pipe needs to be told that it is meant.

use tonic::Status;

use crate::{
    cli::Cli,
    server::{DEP, REL, Server, TOK},
};

#[test]
fn what_destroys_is_wrong_use_on_a_pipe_unless_it_is_meant() {
    for (line, call) in [
        (
            "env close docs/staging --reason r".to_owned(),
            "close_environment",
        ),
        (format!("releases ban {REL} --reason r"), "ban_release"),
        ("stop --reason r --for 30m".to_owned(), "set_stop"),
    ] {
        let server = Server::start();
        let cli = Cli::new(&server.url());
        cli.run(&line)
            .code(2)
            .says("nobody is there to answer")
            .says("--yes");
        assert!(server.world.keys(call).is_empty(), "{line}");
        cli.run(&format!("{line} --yes")).code(0);
        assert_eq!(server.world.keys(call).len(), 1, "{line}");
    }
}

#[test]
fn a_dry_run_says_what_would_end_as_the_server_does_and_ends_nothing() {
    for (line, says, call) in [
        (
            format!("cancel {DEP}"),
            "End the deployment to docs/production?",
            "cancel_deployment",
        ),
        (
            format!("abort {DEP}"),
            "Nothing has moved yet, and nothing is rejected.",
            "abort_deployment",
        ),
        (
            "env close docs/staging --reason r".to_owned(),
            "serves nothing from then on",
            "close_environment",
        ),
        (
            format!("releases ban {REL} --reason r"),
            "goes nowhere from then on",
            "ban_release",
        ),
        (
            "stop --reason r --for 30m".to_owned(),
            "Stop everything until",
            "set_stop",
        ),
        (
            "stop docs --reason r --for 30m".to_owned(),
            "Stop docs until",
            "set_stop",
        ),
        (
            format!("tokens revoke {TOK}"),
            "(\"github\" of ci-docs)? Whoever uses it is refused from then on",
            "revoke_token",
        ),
    ] {
        let server = Server::start();
        let cli = Cli::new(&server.url());
        let tried = cli.run(&format!("{line} --dry-run")).code(0).says(says);
        assert!(tried.out.starts_with("would "), "{tried:#?}");
        tried.says("Nothing was done.");
        assert!(server.world.lock().rehearses, "{line}");
        assert_eq!(server.world.keys(call).len(), 1, "{line}");
        let json = cli.run(&format!("{line} --dry-run --json")).code(0).out;
        let object: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(object.is_object(), "{json}");
        cli.run(&format!("{line} --dry-run --yes")).code(2);
        // A refusal is that of the real call.
        let refused = Status::failed_precondition("it has ended already");
        server.world.lock().refusals.insert(call, refused);
        cli.run(&format!("{line} --dry-run"))
            .code(1)
            .says("error: it has ended already");
    }
}

#[test]
fn the_stop_of_one_site_does_not_ask() {
    let server = Server::start();
    Cli::new(&server.url())
        .run("stop docs --reason r --for 30m")
        .code(0);
    assert_eq!(server.world.keys("set_stop").len(), 1);
}

#[test]
fn an_abort_says_that_it_rejects_where_the_release_had_traffic() {
    let server = Server::start();
    let moment = prost_types::Timestamp::default();
    server.world.lock().deployment.pivoted_at = Some(moment);
    Cli::new(&server.url())
        .run(&format!("abort {DEP} --dry-run"))
        .code(0)
        .says(&format!("Traffic goes back, and {REL} is rejected there."));
}
