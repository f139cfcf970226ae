//! What destroys asks, and on a pipe needs to be told that it is meant.

use crate::{
    cli::Cli,
    server::{REL, Server},
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
fn the_stop_of_one_site_does_not_ask() {
    let server = Server::start();
    Cli::new(&server.url())
        .run("stop docs --reason r --for 30m")
        .code(0);
    assert_eq!(server.world.keys("set_stop").len(), 1);
}
