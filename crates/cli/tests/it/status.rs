use std::fs;

use crate::{
    cli::{Cli, done},
    server::Server,
};

/// What the last call of this name asked for.
fn asked(server: &Server, name: &str) -> String {
    server.world.asked(name).last().cloned().unwrap_or_default()
}

#[test]
fn without_a_subject_it_is_what_the_tree_names_and_that_is_said() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let file = cli.path().join("candlefish.toml");
    fs::write(&file, "site = \"docs\"\nenvironment = \"staging\"\n").unwrap();
    let shown = cli.run("status").code(0);
    assert!(shown.out.contains("docs/staging"), "{shown:?}");
    shown.says("  docs/staging, as candlefish.toml says\n");
    let of = "site: \"docs\", environment: \"staging\"";
    let read = asked(&server, "get_environment");
    assert!(read.contains(of), "{read}");

    // The variable wins, and both are named.
    let mut command = cli.command("status");
    command.env("CANDLEFISH_ENVIRONMENT", "production");
    done(command.output().unwrap())
        .code(0)
        .says("  docs/production, as candlefish.toml and CANDLEFISH_ENVIRONMENT say\n");
    let read = asked(&server, "get_environment");
    assert!(read.contains("environment: \"production\""), "{read}");

    // Whoever names one is told nothing of the tree.
    let named = cli.run("status docs/production").code(0);
    assert!(!named.err.contains("candlefish.toml"), "{named:?}");

    fs::write(&file, "site = \"docs\"\n").unwrap();
    cli.run("status")
        .code(0)
        .says("  docs, as candlefish.toml says\n");
    let listed = asked(&server, "list_environments");
    assert!(listed.contains("site: \"docs\""), "{listed}");
    assert!(server.world.asked("list_sites").is_empty());

    fs::remove_file(&file).unwrap();
    let all = cli.run("status").code(0);
    assert!(!all.err.contains("as candlefish.toml"), "{all:?}");
    assert!(!server.world.asked("list_sites").is_empty());
}
