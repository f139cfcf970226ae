use candlefish_proto::deploy::Stop;

use crate::{cli::Cli, server::Server};

/// A call and all its repeats within one command.
const WHOLE: usize = 4;

#[test]
fn a_stop_of_another_length_is_another_stop() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().lost.insert("set_stop", WHOLE);
    cli.run("stop docs --reason r --for 30m").code(6);
    cli.run("stop docs --reason r --for 2h").code(0);
    cli.run("stop docs --reason r --for 30m").code(0);
    let (keys, asked) = (
        server.world.keys("set_stop"),
        server.world.asked("set_stop"),
    );
    assert_eq!(keys.len(), WHOLE + 2);
    // The longer one is its own; the other is the first, once more, with the end of then.
    assert_ne!(keys[0], keys[WHOLE]);
    assert_ne!(asked[0], asked[WHOLE]);
    assert_eq!(keys[0], keys[WHOLE + 1]);
    assert_eq!(asked[0], asked[WHOLE + 1]);
}

#[test]
fn a_lift_says_that_another_stop_still_stands() {
    let stop = |id: &str, site: &str, by: &str| Stop {
        id: id.to_owned(),
        site: site.to_owned(),
        by: by.to_owned(),
        ..Stop::default()
    };
    let server = Server::start();
    server.world.lock().stops = vec![
        stop("stop_01k8qw4f9cfk2t0v1e6m7r8x9a", "docs", "ada"),
        stop("stop_01k8qw4f9cfk2t0v1e6m7r8x9b", "", "erin"),
        stop("stop_01k8qw4f9cfk2t0v1e6m7r8x9c", "partners", "grace"),
    ];
    let cli = Cli::new(&server.url());
    let done = cli.run("stop lift docs --reason r").code(0);
    assert!(!done.out.contains("goes on"), "{done:#?}");
    assert!(done.out.contains("everything by erin"), "{done:#?}");
    assert!(!done.out.contains("grace"), "{done:#?}");
    server.world.lock().stops.truncate(1);
    let done = cli.run("stop lift --reason r").code(0);
    assert_eq!(
        done.out,
        "everything goes on: what the stop kept has its turn.\n"
    );
}
