//! What is different at a terminal: `script` gives the command one.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use candlefish_proto::deploy::{Deployment, Step, deployment::State, step};

use crate::{
    cli::{Cli, Done, done},
    server::{DEP, Server, deployment, live},
};

/// Runs a command line at a terminal whose keyboard types this.
fn at_terminal(cli: &Cli, line: &str, typed: &str) -> Done {
    at_terminal_with(cli, &[], line, typed)
}

/// The same, with these variables besides.
fn at_terminal_with(cli: &Cli, more: &[(&str, &str)], line: &str, typed: &str) -> Done {
    let plain = cli.command("");
    let mut script = Command::new("script");
    let line = format!("{} {line}", env!("CARGO_BIN_EXE_candlefish"));
    script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(cli.path());
    script.env_clear().envs(
        plain
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    script
        .env("TERM", "xterm")
        .envs(more.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = script.spawn().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    keyboard.write_all(typed.as_bytes()).unwrap();
    let output = done(child.wait_with_output().unwrap());
    drop(keyboard);
    output
}

fn running(version: i32, state: step::State) -> Deployment {
    let step = |ord, kind: step::Kind, state: step::State| Step {
        ord,
        kind: kind.into(),
        state: state.into(),
        started_at: Some(prost_types::Timestamp {
            seconds: 1_795_000_000,
            nanos: 0,
        }),
        ..Step::default()
    };
    let steps = vec![
        step(1, step::Kind::Prepare, step::State::Done),
        step(2, step::Kind::Stage, state),
    ];
    Deployment {
        steps,
        ..deployment(State::Running, version)
    }
}

#[test]
fn steps_are_drawn_in_place_and_the_result_is_in_words() {
    let server = Server::start();
    let steps = vec![
        running(2, step::State::Running),
        running(3, step::State::Done),
    ];
    let end = Deployment {
        steps: steps[1].steps.clone(),
        ..live(State::Waiting, 4)
    };
    server.world.lock().streams = [[steps, vec![end]].concat()].into();
    let cli = Cli::new(&server.url());
    let done = at_terminal(&cli, "deploy site --site docs --env production", "").code(0);
    // Up by what was drawn, then over it.
    assert!(done.out.contains("\u{1b}[2A"), "{done:#?}");
    let last = done.out.rsplit("\u{1b}[2A").next().unwrap();
    let last = last.replace("\u{1b}[0m", "");
    assert!(
        last.contains("stage") && last.contains("Live") && last.contains("Undo: "),
        "{last:?}"
    );
    assert!(done.out.contains("\u{1b}[32m"), "colours are on");
}

#[test]
fn with_no_color_a_terminal_gets_lines_as_a_pipe_does() {
    let server = Server::start();
    let end = Deployment {
        steps: running(3, step::State::Done).steps,
        ..live(State::Waiting, 4)
    };
    server.world.lock().streams = [vec![running(2, step::State::Running), end]].into();
    let cli = Cli::new(&server.url());
    let line = "deploy site --site docs --env production";
    let done = at_terminal_with(&cli, &[("NO_COLOR", "1")], line, "").code(0);
    assert!(!done.out.contains('\u{1b}'), "{done:#?}");
    assert!(
        done.out.contains("✓ stage") && done.out.contains("Live on"),
        "{done:#?}"
    );
}

#[test]
fn a_rollback_asks_and_does_what_was_answered() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    let cli = Cli::new(&server.url());
    let refused = at_terminal(&cli, "rollback docs/production", "n\n").code(1);
    assert!(
        refused.out.contains("Roll back? [y/N]") && refused.out.contains("Nothing was done."),
        "{refused:#?}"
    );
    assert!(server.world.keys("create_rollback").is_empty());
    at_terminal(&cli, "rollback docs/production", "y\n\n").code(0);
    assert_eq!(server.world.keys("create_rollback").len(), 1);
}

/// The reason that the last call of this name came with.
fn said_why(server: &Server, name: &str) -> String {
    let world = server.world.lock();
    let mut calls = world.calls.iter().rev();
    let (.., request) = calls.find(|(called, ..)| *called == name).unwrap();
    let (_, why) = request.split_once(" reason: \"").unwrap();
    why.split('"').next().unwrap().to_owned()
}

#[test]
fn what_ends_or_goes_back_asks_why_in_one_line_and_takes_none_for_an_answer() {
    let verbs = [
        (
            format!("cancel {DEP}"),
            "cancel_deployment",
            deployment(State::Cancelled, 9),
        ),
        (
            format!("abort {DEP}"),
            "abort_deployment",
            deployment(State::RolledBack, 9),
        ),
        (
            "rollback docs/production".to_owned(),
            "create_rollback",
            live(State::Succeeded, 9),
        ),
    ];
    for (line, call, end) in verbs {
        let server = Server::start();
        server.world.lock().deployment = end;
        let cli = Cli::new(&server.url());
        let asked = at_terminal(&cli, &line, "y\nit hurts\n").code(0);
        assert!(
            asked.out.contains("  Why? (Enter: no reason given)"),
            "{asked:#?}"
        );
        assert_eq!(said_why(&server, call), "it hurts", "{line}");
        at_terminal(&cli, &line, "y\n\n").code(0);
        assert_eq!(said_why(&server, call), "", "{line}");
        // Said before, or not to be asked.
        for (option, why) in [("--reason wrong", "wrong"), ("--yes", "")] {
            let typed = if option == "--yes" { "" } else { "y\n" };
            let done = at_terminal(&cli, &format!("{line} {option}"), typed).code(0);
            assert!(!done.out.contains("Why?"), "{done:#?}");
            assert_eq!(said_why(&server, call), why, "{line} {option}");
        }
        cli.run(&format!("{line} --yes")).code(0);
        assert_eq!(said_why(&server, call), "", "{line}");
        assert_eq!(server.world.keys(call).len(), 5, "{line}");
    }
}

#[test]
fn the_stop_of_everything_asks_and_does_what_was_answered() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let line = "stop --reason r --for 30m";
    let refused = at_terminal(&cli, line, "n\n").code(1);
    for said in ["Stop everything until ", "Nothing was done."] {
        assert!(refused.out.contains(said), "{refused:#?}");
    }
    assert!(server.world.keys("set_stop").is_empty());
    at_terminal(&cli, line, "y\n").code(0);
    assert_eq!(server.world.keys("set_stop").len(), 1);
}

#[test]
fn a_missing_option_is_asked_for_unless_nothing_is_to_be_asked() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let line = "hold set docs/production";
    let asked = at_terminal(&cli, line, "launch day\n").code(0);
    assert!(asked.out.contains("Why (--reason)?"), "{asked:#?}");
    assert_eq!(said_why(&server, "set_hold"), "launch day");
    // An answer for each of both.
    at_terminal(&cli, "stop docs", "30m\n30m\n").code(0);
    assert_eq!(said_why(&server, "set_stop"), "30m");
    // No answer, or not to be asked, or nobody to ask.
    at_terminal(&cli, line, "\n").code(2);
    let refused = at_terminal(&cli, &format!("{line} --json"), "").code(2);
    assert!(!refused.out.contains("Why ("), "{refused:#?}");
    cli.run(line).code(2).says("--reason <REASON>");
    assert_eq!(server.world.keys("set_hold").len(), 1);
}

#[test]
fn a_missing_site_is_asked_for() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    let cli = Cli::new(&server.url());
    let done = at_terminal(&cli, "deploy site", "docs\n").code(0);
    assert!(done.out.contains("Site (docs, partners)?"), "{done:#?}");
}
