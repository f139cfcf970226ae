//! Where to look: on a pipe `open` is the address and nothing else.

use std::fs;

use candlefish_proto::deploy::Lane;

use crate::{
    cli::{Cli, done},
    server::{DEP, Server, URL},
};

#[test]
fn on_a_pipe_it_writes_the_address_alone() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let site = cli.run("open docs/production").code(0);
    assert_eq!((site.out, site.err.as_str()), (format!("{URL}\n"), ""));
    let preview = server.world.lock().deployment.preview_url.clone();
    let own = cli.run(&format!("open {DEP}")).code(0);
    assert_eq!((own.out, own.err.as_str()), (format!("{preview}\n"), ""));
    // One whose own address is over is looked for where it went.
    server.world.lock().deployment.preview_url.clear();
    let live = cli.run(&format!("open {DEP}")).code(0);
    assert_eq!(live.out, format!("{URL}\n"));
}

#[test]
fn where_nothing_is_named_the_tree_says_the_environment_and_that_is_told() {
    let server = Server::start();
    server.world.lock().lane = Some(Lane::default());
    let cli = Cli::new(&server.url());
    let lines = [
        ("open", 0),
        ("why", 0),
        ("watch", 2),
        ("hold show", 0),
        ("hold set --reason r", 0),
        ("hold lift --reason r", 0),
    ];
    for (line, _) in lines {
        cli.run(line).code(2).says("error: which environment?");
    }
    assert!(server.world.keys("set_hold").is_empty());
    let tree = "site = \"docs\"\nenvironment = \"production\"\n";
    fs::write(cli.path().join("candlefish.toml"), tree).unwrap();
    for (line, code) in lines {
        cli.run(line)
            .code(code)
            .says("  docs/production, as candlefish.toml says\n");
    }
    // The variable wins.
    let mut command = cli.command("open");
    command.env("CANDLEFISH_ENVIRONMENT", "staging");
    done(command.output().unwrap())
        .code(0)
        .says("docs/staging, as candlefish.toml and CANDLEFISH_ENVIRONMENT say");
}

#[test]
fn a_lift_does_not_read_like_a_refusal() {
    let server = Server::start();
    let done = Cli::new(&server.url())
        .run("hold lift docs/production --reason over")
        .code(0);
    assert_eq!(done.out, "The hold of docs/production is lifted.\n");
}
