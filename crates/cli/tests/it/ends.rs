use std::{
    io::{BufRead as _, BufReader},
    process::Command,
    time::{Duration, Instant},
};

use candlefish_proto::deploy::{
    Blocker, Deployment, Hold, blocker,
    deployment::{Kind, State},
};
use tonic::Status;

use crate::{
    cli::{Cli, Done, done},
    server::{BEFORE, DEP, REL, Server, World, deployment, live},
};

const DEPLOY: &str = "deploy site --site docs --env production";

#[test]
fn every_ending_has_its_exit_code() {
    let ends = [
        (live(State::Waiting, 2), "", 0),
        (live(State::Succeeded, 2), "--until done", 0),
        (deployment(State::Failed, 2), "", 1),
        (deployment(State::RolledBack, 2), "", 1),
        (live(State::RolledBack, 2), "", 1),
        (deployment(State::Cancelled, 2), "", 4),
        (deployment(State::Superseded, 2), "", 4),
        (deployment(State::Superseded, 2), "--superseded-ok", 0),
        (deployment(State::Cancelled, 2), "--superseded-ok", 4),
    ];
    for (end, options, code) in ends {
        let server = Server::start();
        server.world.lock().streams = [vec![end.clone()]].into();
        let done = Cli::new(&server.url()).run(&format!("{DEPLOY} {options}"));
        assert_eq!(done.code, code, "{:?} {options}: {done:#?}", end.state());
        let is_live = code == 0 && end.state() != State::Superseded;
        assert_eq!(
            !done.out.is_empty(),
            is_live,
            "only what is live is a result: {done:#?}"
        );
    }
}

#[test]
fn live_is_not_enough_when_baking_was_asked_for() {
    let server = Server::start();
    server.world.lock().streams = [vec![live(State::Waiting, 2)]].into();
    Cli::new(&server.url())
        .run(&format!("{DEPLOY} --until done --wait 300ms"))
        .code(3);
}

#[test]
fn patience_ends_with_3_and_says_for_what_and_how_to_go_on() {
    let server = Server::start();
    let hold = Blocker {
        kind: blocker::Kind::Hold.into(),
        since: Some(prost_types::Timestamp {
            seconds: 1_795_000_000,
            nanos: 0,
        }),
        owner: "approver".to_owned(),
        message: "docs/production is held by grace: search is broken".to_owned(),
        action: "candlefish hold lift docs/production --reason \"…\"".to_owned(),
        ..Blocker::default()
    };
    let held = Deployment {
        blockers: vec![hold],
        ..deployment(State::Pending, 2)
    };
    server.world.lock().streams = [vec![held]].into();
    let done = Cli::new(&server.url())
        .run(&format!("{DEPLOY} --wait 300ms"))
        .code(3);
    assert_eq!(done.out, "");
    done.says("Still pending after 300 ms")
        .says("1. hold        docs/production is held by grace")
        .says("an approver can clear it")
        .says("→ candlefish hold lift docs/production")
        .says(&format!("candlefish watch {DEP}"));
}

#[test]
fn what_is_not_allowed_is_5() {
    let server = Server::start();
    server.world.lock().refusals.insert(
        "lift_hold",
        Status::permission_denied("this needs the role approver"),
    );
    let cli = Cli::new(&server.url());
    cli.run("hold lift docs/production --reason r")
        .code(5)
        .says("error: this needs the role approver");
    let mut other = cli.command("status docs/production");
    other.env("CANDLEFISH_TOKEN", "cft_other");
    done(other.output().unwrap())
        .code(5)
        .says("CANDLEFISH_API and CANDLEFISH_TOKEN of this shell are used.");
}

#[test]
fn unknown_names_are_2_and_the_nearest_is_offered() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    cli.run("deploy site --site doc --env production")
        .code(2)
        .says("error: there is no site \"doc\"\n  Did you mean \"docs\"?  All sites: candlefish sites");
    cli.run("deploy site --site partner")
        .code(2)
        .says("Did you mean \"partners\"?");
    cli.run("sites show doc")
        .code(2)
        .says("there is no site \"doc\"\n  Did you mean \"docs\"?");
    cli.run("deploy site --site docs --env prod")
        .code(2)
        .says("docs has no environment \"prod\"\n  Did you mean \"production\"?");
}

#[test]
fn a_missing_site_is_2_on_a_pipe() {
    let server = Server::start();
    Cli::new(&server.url())
        .run("deploy site")
        .code(2)
        .says("which site?");
}

#[test]
fn watching_as_json_writes_one_object_per_line() {
    let server = Server::start();
    server.world.lock().streams =
        [vec![deployment(State::Running, 2), live(State::Waiting, 3)]].into();
    // What is watched is the same after a lost connection, and is no object of its own.
    server.world.lock().lost.insert("watch_deployment", 2);
    let done = Cli::new(&server.url())
        .run(&format!("watch {DEP} --json"))
        .code(0);
    let states: Vec<String> = done
        .out
        .lines()
        .map(|line| {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            object["state"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(states, ["STATE_PENDING", "STATE_RUNNING", "STATE_WAITING"]);
}

#[test]
fn a_stream_that_ends_early_is_made_again_after_what_was_seen() {
    let server = Server::start();
    server.world.lock().streams = [
        vec![deployment(State::Running, 5)],
        vec![],
        vec![live(State::Waiting, 8)],
    ]
    .into();
    Cli::new(&server.url()).run(&format!("watch {DEP}")).code(0);
    assert_eq!(server.world.lock().watched, [1, 5, 5]);
}

#[test]
fn a_lost_stream_is_told_once_and_made_again() {
    let server = Server::start();
    server.world.lock().streams = [vec![live(State::Waiting, 8)]].into();
    server.world.lock().lost.insert("watch_deployment", 3);
    let done = Cli::new(&server.url()).run(&format!("watch {DEP}")).code(0);
    assert_eq!(
        done.err.matches("Lost the connection").count(),
        1,
        "{done:#?}"
    );
}

#[test]
fn a_hold_that_comes_and_goes_while_a_deployment_acts_is_told_once_each() {
    let server = Server::start();
    {
        let mut world = server.world.lock();
        world.deployment = deployment(State::Running, 2);
        // Each stream ends at once, and the environment is read whenever one was made.
        world.events.resize(60, Vec::new());
    }
    let cli = Cli::new(&server.url());
    // Patience is the deadline of what is looked for.
    let mut child = cli.start(&format!("watch {DEP} --wait 30s"));
    let errors = BufReader::new(child.stderr.take().unwrap());
    let mut lines = errors.lines().map(Result::unwrap);
    server
        .world
        .wait_until("the hold is watched", |world| !world.cursors.is_empty());
    server.world.lock().hold = Some(Hold {
        by: "grace".to_owned(),
        reason: "search is broken".to_owned(),
        ..Hold::default()
    });
    let is_held = "docs/production is held by grace: \"search is broken\"; what is under way";
    assert!(lines.any(|line| line.contains(is_held)));
    let reads = server.world.asked("get_environment").len();
    server.world.wait_until("it is read again", |world| {
        let names = world.calls.iter().map(|(name, ..)| *name);
        names.filter(|name| *name == "get_environment").count() > reads
    });
    server.world.lock().hold = None;
    let is_free = "docs/production is no longer held";
    let between: Vec<String> = lines
        .by_ref()
        .take_while(|line| !line.ends_with(is_free))
        .collect();
    assert!(between.is_empty(), "{between:#?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_hold_that_is_set_before_the_stream_of_events_begins_is_told() {
    let server = Server::start();
    {
        let mut world = server.world.lock();
        world.deployment = deployment(State::Running, 2);
        // Every stream stays open and tells nothing: its beginning is still to come.
        world.unbegun = true;
    }
    let cli = Cli::new(&server.url());
    // Patience is the deadline of what is looked for.
    let mut child = cli.start(&format!("watch {DEP} --wait 30s"));
    server
        .world
        .wait_until("it is read once a stream was made", |world| {
            let mut names = world.calls.iter().map(|(name, ..)| *name);
            names.any(|name| name == "watch_events") && names.any(|name| name == "get_environment")
        });
    server.world.lock().hold = Some(Hold {
        by: "grace".to_owned(),
        reason: "search is broken".to_owned(),
        ..Hold::default()
    });
    let errors = BufReader::new(child.stderr.take().unwrap());
    let mut lines = errors.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("docs/production is held by grace")));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn cancelling_is_done_when_it_has_ended_and_asks_first() {
    let server = Server::start();
    server.world.lock().streams = [vec![
        deployment(State::Cancelling, 2),
        deployment(State::Cancelled, 3),
    ]]
    .into();
    let cli = Cli::new(&server.url());
    cli.run(&format!("cancel {DEP}")).code(2).says("--yes");
    assert!(server.world.keys("cancel_deployment").is_empty());
    cli.run(&format!("cancel {DEP} --yes --reason wrong"))
        .code(0)
        .says("Cancelled.");
}

/// What a command says that is told to stop once it watches.
#[cfg(unix)]
fn interrupted(server: &Server, line: &str) -> Done {
    stopped(server, line, |world| !world.watched.is_empty()).code(130)
}

/// What a command says that is told to stop once this is so.
#[cfg(unix)]
fn stopped(server: &Server, line: &str, once: impl Fn(&World) -> bool) -> Done {
    let cli = Cli::new(&server.url());
    let child = cli.start(line);
    server
        .world
        .wait_until("the command is where it is stopped", once);
    // The shell's own: a bare system has no program of that name.
    let sent = Command::new("sh")
        .args(["-c", "kill -INT \"$0\"", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    done(child.wait_with_output().unwrap())
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_watching_and_not_the_deployment() {
    // JSON does not say it, and a person does not read that.
    let watch = format!("watch {DEP} --json");
    for line in [DEPLOY, &format!("{DEPLOY} --json"), &watch] {
        let server = Server::start();
        server.world.lock().streams = [vec![deployment(State::Running, 2)]].into();
        interrupted(&server, line)
            .says("Stopped watching. The deployment goes on.")
            .says(&format!("candlefish watch {DEP}"))
            .says(&format!("candlefish cancel {DEP}"));
        assert!(server.world.keys("cancel_deployment").is_empty());
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_wait_for_what_is_live_by_now() {
    let server = Server::start();
    {
        let mut world = server.world.lock();
        world.streams = [vec![
            deployment(State::Running, 2),
            live(State::Succeeded, 9),
        ]]
        .into();
        world.silent = true;
    }
    let line = format!("watch {DEP} --json");
    let asks = |world: &World| {
        let mut calls = world.calls.iter();
        calls.any(|(name, ..)| *name == "get_environment")
    };
    let begun = Instant::now();
    // It went live, whatever is since.
    let done = stopped(&server, &line, asks).code(0);
    assert!(done.out.contains("STATE_SUCCEEDED"), "{done:#?}");
    // That long it waits by itself.
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(server.world.asked("get_environment").len(), 1);
}

#[test]
fn what_was_seen_to_go_live_is_a_success_whatever_went_live_since() {
    for options in ["", "--json"] {
        let server = Server::start();
        {
            let mut world = server.world.lock();
            let states = [deployment(State::Running, 2), live(State::Succeeded, 9)];
            world.deployment = deployment(State::Running, 2);
            world.streams = [states.into()].into();
            world.live = Some("dep_01k8qx00000000000000000000".to_owned());
        }
        let line = format!("watch {DEP} {options}");
        let done = Cli::new(&server.url()).run(&line).code(0);
        assert!(done.err.contains("It was live;"), "{done:#?}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_in_a_cancel_does_not_say_that_the_deployment_goes_on() {
    for options in ["--yes", "--yes --json"] {
        let server = Server::start();
        server.world.lock().deployment = deployment(State::Cancelling, 2);
        let done = interrupted(&server, &format!("cancel {DEP} {options}"));
        let done = done.says("It is being undone all the same.");
        assert!(!done.err.contains("candlefish cancel"), "{done:#?}");
    }
}

#[test]
fn what_succeeded_and_is_live_no_more_is_neither_told_as_live_nor_a_success() {
    const SINCE: &str = "dep_01k8qx00000000000000000000";
    let by = |kind: Kind, release: &str| Deployment {
        id: SINCE.to_owned(),
        kind: kind.into(),
        release_id: release.to_owned(),
        ..deployment(State::Succeeded, 9)
    };
    let watch = format!("watch {DEP}");
    for (live_now, options, code) in [
        (Some(by(Kind::Standard, BEFORE)), "", 4),
        (Some(by(Kind::Standard, BEFORE)), "--json", 4),
        (Some(by(Kind::Standard, BEFORE)), "--superseded-ok", 0),
        (Some(by(Kind::Rollback, BEFORE)), "--superseded-ok", 1),
        (Some(by(Kind::Standard, REL)), "", 0),
        (None, "", 1),
    ] {
        let server = Server::start();
        {
            let mut world = server.world.lock();
            world.deployment = live(State::Succeeded, 9);
            let id = live_now.as_ref().map(|one| one.id.clone());
            world.live = Some(id.unwrap_or_default());
            world.others = live_now.clone().into_iter().collect();
        }
        let is = live_now.as_ref().map_or("nothing", |_| SINCE);
        for line in [DEPLOY, &watch] {
            let done = Cli::new(&server.url()).run(&format!("{line} {options}"));
            assert_eq!(done.code, code, "{line} {options}: {done:#?}");
            let done = done.says(&format!("It was live; {is} is now."));
            assert!(!done.err.contains("Live on") && !done.err.contains("Undo"));
        }
        let shown = Cli::new(&server.url())
            .run(&format!("status {DEP}"))
            .code(0);
        assert!(!shown.out.contains("Undo"), "{shown:#?}");
    }
}
