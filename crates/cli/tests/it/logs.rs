use candlefish_proto::deploy::{LogLine, deployment::State};

use crate::{
    cli::{Cli, done},
    server::{DEP, Server, deployment},
};

fn line(words: &str) -> LogLine {
    LogLine {
        message: words.to_owned(),
        ..LogLine::default()
    }
}

#[test]
fn a_server_that_is_lost_is_waited_for_and_no_line_is_written_twice() {
    let server = Server::start();
    {
        let mut world = server.world.lock();
        world.deployment = deployment(State::Running, 2);
        world.log = ["one", "two"].map(line).into();
    }
    let cli = Cli::new(&server.url());
    let child = cli.start(&format!("logs {DEP} --follow"));
    server.world.wait_until("both lines are read", |world| {
        let names = world.calls.iter().map(|(name, ..)| *name);
        names.filter(|name| *name == "list_logs").count() >= 2
    });
    {
        let mut world = server.world.lock();
        // All the tries of one call, and one of the next.
        world.lost.insert("get_deployment", 5);
        world.deployment = deployment(State::Failed, 3);
        world.log.push(line("three"));
    }
    let done = done(child.wait_with_output().unwrap()).code(0);
    let words = done
        .out
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap());
    assert_eq!(words.collect::<Vec<_>>(), ["one", "two", "three"]);
    let told = done.err.matches("Lost the connection").count();
    assert_eq!(told, 1, "{done:#?}");
}

#[test]
fn without_follow_a_server_that_is_away_is_6_at_once() {
    let cli = Cli::new("http://127.0.0.1:1");
    for options in ["", "--follow"] {
        let done = cli.run(&format!("logs {DEP} {options}")).code(6);
        assert!(!done.err.contains("trying again"), "{done:#?}");
    }
}
