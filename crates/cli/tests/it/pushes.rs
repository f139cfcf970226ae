use candlefish_proto::deploy::{
    Hold, PushRule, Trigger,
    trigger::{Outcome, Reason},
};
use tonic::Status;

use crate::{cli::Cli, server::Server};

const COMMIT: &str = "4ac21e05c5f6f4a7bb3b0f4bd1f0a2c3d4e5f607";

/// What became of the commit in an environment.
fn trigger(environment: &str, outcome: Outcome, reason: Reason) -> Trigger {
    Trigger {
        commit: COMMIT.to_owned(),
        site: "docs".to_owned(),
        environment: environment.to_owned(),
        outcome: outcome.into(),
        reason: reason.into(),
        ..Trigger::default()
    }
}

#[test]
fn a_new_branch_keeps_the_patterns_unless_others_or_none_are_named() {
    for (options, paths) in [
        ("", &["docs/", "!docs/drafts/"][..]),
        ("--path guide/", &["guide/"]),
        ("--all-paths", &[]),
    ] {
        let server = Server::start();
        server.world.lock().pushes = PushRule {
            branch: "main".to_owned(),
            paths: vec!["docs/".to_owned(), "!docs/drafts/".to_owned()],
        };
        Cli::new(&server.url())
            .run(&format!(
                "env pushes docs/production --branch next {options}"
            ))
            .code(0);
        let asked = server.world.asked("update_environment");
        let rule = format!("PushRule {{ branch: \"next\", paths: {paths:?} }}");
        assert!(
            asked.len() == 1 && asked[0].contains(&rule),
            "{options}: {asked:?}"
        );
    }
}

#[test]
fn no_push_deploys_any_more_whatever_the_patterns_were() {
    let server = Server::start();
    server.world.lock().pushes = PushRule {
        branch: "main".to_owned(),
        paths: vec!["docs/".to_owned()],
    };
    Cli::new(&server.url())
        .run("env pushes docs/production --none")
        .code(0);
    let asked = server.world.asked("update_environment");
    assert!(
        asked[0].contains("PushRule { branch: \"\", paths: [] }"),
        "{asked:?}"
    );
}

#[test]
fn pushes_of_a_site_that_does_not_exist_are_wrong_use() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    for line in ["push 4ac21e0 --site doc", "push --site doc"] {
        let done = cli.run(line).code(2);
        assert_eq!(done.out, "");
        done.says("there is no site \"doc\"")
            .says("Did you mean \"docs\"?");
    }
    let done = cli.run("push 4ac21e0 --site docs").code(1);
    assert!(done.out.contains("Nothing is known of a push"), "{done:#?}");
}

#[test]
fn a_delivery_is_asked_for_by_its_id_alone() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let id = "dlv_01k8qw4f9cfk2t0v1e6m7r8x9a";
    let done = cli.run(&format!("push --delivery {id}")).code(1);
    let words = format!("Nothing is known of {id}");
    assert!(done.out.contains(&words), "{done:#?}");
    let asked = server.world.asked("list_triggers");
    let named = format!("delivery_id: \"{id}\"");
    assert!(asked.len() == 1 && asked[0].contains(&named), "{asked:?}");

    for line in [
        "push".to_owned(),
        "push --delivery dep_01k8qw4f9cfk2t0v1e6m7r8x9a".to_owned(),
        format!("push 4ac21e0 --delivery {id}"),
        format!("push --site docs --delivery {id}"),
    ] {
        cli.run(&line).code(2);
    }
    assert_eq!(server.world.asked("list_triggers").len(), 1);
}

#[test]
fn a_push_that_made_way_says_that_its_environment_is_held() {
    let server = Server::start();
    {
        let mut world = server.world.lock();
        world.triggers = vec![
            trigger("production", Outcome::Superseded, Reason::Unspecified),
            trigger("production", Outcome::Superseded, Reason::Older),
            trigger("staging", Outcome::Ignored, Reason::Branch),
        ];
        world.hold = Some(Hold {
            by: "grace".to_owned(),
            reason: "search is broken".to_owned(),
            ..Hold::default()
        });
    }
    let cli = Cli::new(&server.url());
    let commands = ["push 4ac21e0", "push --site docs", "why 4ac21e0"];
    for command in commands {
        let done = cli.run(command).code(0);
        let held = "docs/production is held by grace (never): \"search is broken\"\n";
        assert_eq!(done.out.matches(held).count(), 1, "{done:#?}");
        let lift = "lift: candlefish hold lift docs/production";
        assert!(done.out.contains(lift), "{done:#?}");
    }
    // Each environment once, and none that takes another branch.
    let asked = server.world.asked("get_environment");
    assert_eq!(asked.len(), commands.len(), "{asked:?}");
    // JSON is the answer alone.
    let done = cli.run("push 4ac21e0 --json").code(0);
    let told: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(told["triggers"].as_array().unwrap().len(), 3, "{told}");
    let asked = server.world.asked("get_environment");
    assert_eq!(asked.len(), commands.len(), "{asked:?}");
}

#[test]
fn what_became_of_a_push_is_told_also_where_its_environments_cannot_all_be_read() {
    let server = Server::start();
    {
        let mut world = server.world.lock();
        let environments = (0..30).map(|number| format!("e{number}"));
        world.triggers = environments
            .map(|one| trigger(&one, Outcome::Created, Reason::Unspecified))
            .collect();
        let refusal = Status::internal("something failed");
        world.refusals.insert("get_environment", refusal);
    }
    let done = Cli::new(&server.url())
        .run("push 4ac21e0")
        .code(0)
        .says("asked of the first 24 environments alone");
    let words = "docs/e23 could not be read, and may be held or stopped: something failed";
    assert!(done.out.contains(words), "{done:#?}");
    assert!(done.out.contains("docs/e29 "), "{done:#?}");
    assert_eq!(server.world.asked("get_environment").len(), 24);
}
