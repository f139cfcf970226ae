use candlefish_proto::deploy::PushRule;

use crate::{cli::Cli, server::Server};

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
