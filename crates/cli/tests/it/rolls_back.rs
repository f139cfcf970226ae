use candlefish_proto::deploy::{
    Deployment, Hold,
    deployment::{Kind, State},
    rollback::Earlier,
};

use crate::{
    cli::Cli,
    server::{BEFORE, DEP, REL, Server, URL, live},
};

const WHOLE: usize = 4;

fn back() -> Deployment {
    Deployment {
        kind: Kind::Rollback.into(),
        release_id: BEFORE.to_owned(),
        ..live(State::Succeeded, 9)
    }
}

#[test]
fn a_pipe_must_say_that_it_means_it() {
    let server = Server::start();
    let done = Cli::new(&server.url())
        .run("rollback docs/production")
        .code(2);
    done.says("docs/production goes back from").says("--yes");
    assert!(server.world.keys("create_rollback").is_empty());
}

#[test]
fn it_names_the_release_that_was_seen_live() {
    let server = Server::start();
    server.world.lock().deployment = back();
    let done = Cli::new(&server.url())
        .run("rollback docs/production --yes --reason broken")
        .code(0);
    assert_eq!(done.out, format!("{URL}\n"));
    done.says("Live again on")
        .says("candlefish hold lift docs/production");
    let world = server.world.lock();
    let (_, _, request) = world
        .calls
        .iter()
        .find(|(name, ..)| *name == "create_rollback")
        .unwrap();
    assert!(
        request.contains(&format!("leaves_release_id: \"{REL}\"")),
        "{request}"
    );
}

#[test]
fn it_goes_to_a_release_or_a_commit_in_any_letters_and_to_nothing_else() {
    let server = Server::start();
    server.world.lock().deployment = back();
    let cli = Cli::new(&server.url());
    for (to, asked) in [
        (
            BEFORE,
            format!("to_release_id: \"{BEFORE}\", to_commit: \"\""),
        ),
        (
            "9B1D0AA",
            "to_release_id: \"\", to_commit: \"9b1d0aa\"".to_owned(),
        ),
    ] {
        cli.run(&format!("rollback docs/production --to {to} --yes"))
            .code(0);
        let last = server.world.asked("create_rollback").pop().unwrap();
        assert!(last.contains(&asked), "{last}");
    }
    cli.run("rollback docs/production --to rel_01k8 --yes")
        .code(2)
        .says("is not a release's id");
    cli.run("rollback docs/production --to yesterday --yes")
        .code(2)
        .says("or a commit of 7 to 64 hex digits");
}

#[test]
fn a_repeat_after_6_goes_back_no_further() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().deployment = back();
    server.world.lock().lost.insert("create_rollback", WHOLE);
    cli.run("rollback docs/production --yes").code(6);
    cli.run("rollback docs/production --yes")
        .code(0)
        .says("no second one is made");
    let world = server.world.lock();
    let asked = |name: &str| {
        world
            .calls
            .iter()
            .filter(|(called, ..)| *called == name)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        asked("forecast").len(),
        1,
        "by now something else is live: it is not asked again"
    );
    let rollbacks = asked("create_rollback");
    assert!(
        rollbacks.iter().all(|call| *call == rollbacks[0]),
        "{rollbacks:#?}"
    );
}

#[test]
fn the_hold_is_told_at_the_end_as_long_as_it_stands() {
    let server = Server::start();
    server.world.lock().deployment = back();
    let cli = Cli::new(&server.url());
    let lines = [
        "rollback docs/production --yes".to_owned(),
        format!("watch {DEP}"),
        format!("status {DEP}"),
        format!("why {DEP}"),
    ];
    let told = |line: &String| {
        let done = cli.run(line).code(0);
        (done.out + &done.err).contains("production is held. Lift it: candlefish hold lift")
    };
    assert!(!lines.iter().any(told), "nothing is held");
    server.world.lock().hold = Some(Hold::default());
    assert!(lines.iter().all(told), "production is held");
}

#[test]
fn a_dry_run_only_says_what_would_happen() {
    let server = Server::start();
    let done = Cli::new(&server.url())
        .run("rollback docs/production --dry-run")
        .code(0);
    assert!(
        done.out.contains("Afterwards production is held"),
        "{done:?}"
    );
    assert!(server.world.keys("create_rollback").is_empty());
}

/// Production came back from another release by somebody's rollback, so many seconds ago.
fn earlier(seconds: i64) -> Earlier {
    Earlier {
        by: "ops@example.org".to_owned(),
        ago: Some(prost_types::Duration { seconds, nanos: 0 }),
        left: "rel_01k8qy4f9cfk2t0v1e6m7r8x9e".to_owned(),
        ..Earlier::default()
    }
}

#[test]
fn whoever_is_second_and_does_not_look_goes_no_further() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().deployment = back();
    server.world.lock().told.earlier = Some(earlier(12));
    let words = "ops@example.org rolled back 12 s ago, from rel_01k8qy4f9c… to rel_01k8qv2h8c…";
    cli.run("rollback docs/production --yes")
        .code(2)
        .says(&format!("error: {words}"))
        .says(&format!(
            "To go further back: --leaves {REL} (or --to RELEASE)"
        ));
    assert!(server.world.keys("create_rollback").is_empty());
    cli.run("rollback docs/production --dry-run").code(0);
    // Who says where from, or where to, knows what is live.
    for named in [format!("--leaves {REL}"), format!("--to {BEFORE}")] {
        cli.run(&format!("rollback docs/production {named} --yes"))
            .code(0);
    }
    server.world.lock().told.earlier = Some(earlier(601));
    cli.run("rollback docs/production --yes").code(0);
    assert_eq!(server.world.keys("create_rollback").len(), 3);
}

#[test]
fn the_release_to_leave_is_named_from_the_first_look_on() {
    let server = Server::start();
    server.world.lock().deployment = back();
    Cli::new(&server.url())
        .run(&format!("rollback docs/production --leaves {REL} --yes"))
        .code(0);
    let leaves = format!("leaves_release_id: \"{REL}\"");
    for call in ["forecast", "create_rollback"] {
        let asked = server.world.asked(call);
        assert!(
            asked.iter().all(|asked| asked.contains(&leaves)),
            "{asked:?}"
        );
        assert_eq!(asked.len(), 1);
    }
}
