//! Lists that go on, and lists that are empty for what was asked.

use candlefish_proto::deploy::{Release, deployment::State};

use crate::{
    cli::Cli,
    server::{Server, deployment},
};

#[test]
fn a_list_that_goes_on_says_how_to_see_more_of_it() {
    let server = Server::start();
    {
        let mut world = server.world.lock();
        world.releases = vec![Release::default(); 21];
        world.others = (2..8)
            .map(|version| deployment(State::Succeeded, version))
            .collect();
    }
    let cli = Cli::new(&server.url());
    for (line, more) in [
        ("releases docs", "There are more releases: --limit 200\n"),
        (
            "status docs/production",
            "There are more deployments: --limit 50\n",
        ),
    ] {
        let cut = cli.run(line).code(0);
        assert!(cut.out.ends_with(more), "{cut:#?}");
        for options in ["--limit 30", "--json"] {
            let all = cli.run(&format!("{line} {options}")).code(0);
            assert!(!all.out.contains("There are more"), "{all:#?}");
        }
    }
}

#[test]
fn releases_of_a_commit_that_has_none_are_not_said_to_be_none_at_all() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let commit = "4ac21e0b5d2f4f10c1a7f0de9b0c3c2f0f6f5a11";
    let none = cli.run(&format!("releases docs --commit {commit}")).code(0);
    assert_eq!(none.out, "There is no release of this commit.\n");
    let none = cli.run("releases docs").code(0);
    assert!(
        none.out.starts_with("There is no release yet."),
        "{none:#?}"
    );
}

#[test]
fn a_wrong_id_is_told_where_ids_are_and_not_that_all_are_there() {
    let server = Server::start();
    Cli::new(&server.url())
        .run("status dep_01")
        .code(2)
        .says("The newest deployments of an environment: candlefish status SITE/ENV --limit 20");
}
