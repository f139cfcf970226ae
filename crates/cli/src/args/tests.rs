use candlefish_proto::deploy::{Canary, strategy::Kind};
use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("candlefish").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command)
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_s_help_begins_with_examples() {
    let mut root = Cli::command();
    root.build();
    assert!(begins_with_examples(&mut root, "candlefish ") > 50);
}

/// How many commands there are from this one on, each of which shows how it is used itself.
fn begins_with_examples(command: &mut clap::Command, path: &str) -> usize {
    let help = command.render_long_help().to_string();
    let begins = format!("Examples:\n  {path}");
    assert!(help.starts_with(begins.trim_end()), "{path}: {help}");
    assert!(!help.contains("[default: ]"), "{path}: {help}");
    let below = command.get_subcommands_mut().map(|one| {
        let path = format!("{path}{} ", one.get_name());
        begins_with_examples(one, &path)
    });
    1 + below.sum::<usize>()
}

fn understood(lines: &[&str]) {
    for line in lines {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn what_is_only_tried_is_understood() {
    understood(&[
        "hold set docs/production --reason r --dry-run",
        "hold lift docs/production --reason r --dry-run",
        "retry dep_01k8qw4f9cfk2t0v1e6m7r8x9a --dry-run --json",
        "advance dep_01k8qw4f9cfk2t0v1e6m7r8x9a --dry-run",
        "pin dep_01k8qw4f9cfk2t0v1e6m7r8x9a --reason r --dry-run",
        "stop lift docs --reason r --dry-run",
        "releases unban rel_01k8qv2h8cfk2t0v1e6m7r8x9c --reason r --dry-run",
        "releases clear rel_01k8qv2h8cfk2t0v1e6m7r8x9c --env production --reason r --dry-run",
        "sites create docs --dry-run",
        "sites update docs --name Docs --dry-run",
        "env create docs/staging --dry-run",
        "env policy docs/production --order queue --dry-run",
        "env pushes docs/production --branch main --dry-run",
        "queues replay dl_01k8qw4f9cfk2t0v1e6m7r8x9a --reason r --dry-run",
        "principals create ada --dry-run",
        "tokens create --principal ci --name n --role deployer --dry-run",
    ]);
}

#[test]
fn what_is_asked_for_is_understood() {
    understood(&[
        "login --api http://127.0.0.1:8090 --context dev",
        "login --api http://127.0.0.1:8090 --yes",
        "whoami --json",
        "context live",
        "deploy",
        "deploy ./public --site docs --env production --strategy blue-green --bake 2m --yes",
        "deploy ./public --site docs --env production --lift-hold launched --dry-run --json",
        "deploy . --preview --detach",
        "status",
        "status docs/production",
        "status docs/production --limit 20",
        "status dep_01k8qw4f9cfk2t0v1e6m7r8x9a --timeline",
        "why docs/production",
        "watch dep_01k8qw4f9cfk2t0v1e6m7r8x9a --json --until done --wait 10m --superseded-ok",
        "logs dep_01k8qw4f9cfk2t0v1e6m7r8x9a --follow",
        "cancel dep_01k8qw4f9cfk2t0v1e6m7r8x9a --reason r --yes",
        "abort dep_01k8qw4f9cfk2t0v1e6m7r8x9a --yes",
        "retry dep_01k8qw4f9cfk2t0v1e6m7r8x9a",
        "advance dep_01k8qw4f9cfk2t0v1e6m7r8x9a 5",
        "pin dep_01k8qw4f9cfk2t0v1e6m7r8x9a --reason r",
        "pin dep_01k8qw4f9cfk2t0v1e6m7r8x9a --unpin --reason r",
        "rollback docs/production --to 9b1d0aa --yes",
        "hold set docs/production --reason r",
        "hold lift docs/production --reason r",
        "hold show docs/production",
        "hold show",
        "hold set --reason r",
        "why",
        "watch --until done",
        "open",
        "history",
        "history docs/production",
        "history docs/production --limit 5 --json",
        "releases ban rel_01k8qv2h8cfk2t0v1e6m7r8x9c --reason r --yes",
        "releases unban rel_01k8qv2h8cfk2t0v1e6m7r8x9c --reason r",
        "stop docs --reason r --for 2h",
        "stop --reason r --for 30m --pause --yes",
        "stop lift docs --reason r",
        "stop lift --reason r",
        "stop list",
        "stop list docs --all --limit 5",
        "releases docs --commit 4ac21e0 --limit 5",
        "releases clear rel_01k8qv2h8cfk2t0v1e6m7r8x9c --env production --reason r",
        "sites",
        "sites create docs --name Docs",
        "env list docs --previews",
        "env show docs/production",
        "env create docs/staging --strategy recreate --host docs.example.org",
        "env policy docs/production --order queue --min-requests 10",
        "edges",
        "queues",
        "queues discard dl_01k8qw4f9cfk2t0v1e6m7r8x9a --reason r --yes",
        "tokens create --principal ci --name github --role deployer --site docs --expires 90d",
        "tokens revoke tok_01k8qw4f9cfk2t0v1e6m7r8x9a --yes",
        "principals create ci-docs --machine",
        "events --site docs --env production --type deploy.deployment.",
        "open docs/production",
        "completions zsh",
    ]);
}

#[test]
fn previews_are_allowed_closed_and_asked_for() {
    for line in [
        "sites create docs --repository example/docs --previews forks --previews-age 12h",
        "sites show docs",
        "sites update docs --name Docs --previews repository --previews-age 30d",
        "env close docs/pr-12 --reason r --yes",
        "env pushes docs/production --branch main --all-paths",
        "push 4ac21e0 --site docs",
        "push --site docs",
        "push --site docs --limit 40 --json",
        "sites create docs --repository a/docs --source repository --folder public/",
        "why 4ac21e0",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
    for line in [
        "push",
        "env close docs/pr-12",
        "env pushes docs/production --branch main --all-paths --path docs/",
        "env pushes docs/production --none --all-paths",
        "sites update docs --previews all",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert!(parse("sites update docs --previews-age 30x").is_err());
}

#[test]
fn wrong_use_is_refused_with_code_2() {
    for (line, kind) in [
        ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("deplay", ErrorKind::InvalidSubcommand),
        ("deploy --strategy green", ErrorKind::InvalidValue),
        ("deploy --interval 30", ErrorKind::ValueValidation),
        ("deploy --wait -5s", ErrorKind::UnknownArgument),
        (
            "rollback docs/production --dry-run --yes",
            ErrorKind::ArgumentConflict,
        ),
        (
            "deploy --preview --env production",
            ErrorKind::ArgumentConflict,
        ),
        ("rollback production", ErrorKind::ValueValidation),
        ("why dep_01", ErrorKind::ValueValidation),
        ("why 4ac21", ErrorKind::ValueValidation),
        (
            "cancel rel_01k8qv2h8cfk2t0v1e6m7r8x9c",
            ErrorKind::ValueValidation,
        ),
        (
            "hold set docs/production",
            ErrorKind::MissingRequiredArgument,
        ),
        (
            "events --env production",
            ErrorKind::MissingRequiredArgument,
        ),
        ("releases", ErrorKind::MissingRequiredArgument),
        ("stop docs --reason r", ErrorKind::MissingRequiredArgument),
        ("stop docs --for 2h", ErrorKind::MissingRequiredArgument),
        ("stop lift docs", ErrorKind::MissingRequiredArgument),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(
            (error.kind(), error.exit_code()),
            (kind, 2),
            "{line}: {error}"
        );
    }
}

#[test]
fn options_are_asked_for_where_they_are_all_that_is_lacking() {
    let lines: [(&str, &[&str]); 10] = [
        ("hold set docs/production", &["--reason <REASON>"]),
        ("stop docs", &["--reason <REASON>", "--for <DURATION>"]),
        ("stop lift docs", &["--reason <REASON>"]),
        ("hold set", &["--reason <REASON>"]),
        ("queues replay", &[]),
        ("hold set production", &[]),
        ("hold set docs/production --json", &[]),
        ("env close docs/pr-12 --yes", &[]),
        ("deplay", &[]),
        ("deploy --interval 30", &[]),
    ];
    for (line, lacks) in lines {
        let words: Vec<OsString> = std::iter::once("candlefish")
            .chain(line.split_whitespace())
            .map(OsString::from)
            .collect();
        let error = Cli::try_parse_from(&words).unwrap_err();
        let mut found = lacking(&error, &words);
        found.sort();
        let mut lacks = lacks.to_vec();
        lacks.sort_unstable();
        assert_eq!(found, lacks, "{line}: {error}");
    }
}

#[test]
fn a_strategy_is_read_with_its_own_options_and_no_others() {
    let options = |line: &str| match parse(&format!("env policy docs/production {line}")).unwrap() {
        Command::Env(args) => args.strategy().unwrap(),
        other => panic!("{other:?}"),
    };
    let canary = options("--strategy canary --weights 10,50 --interval 30s --bake 2m")
        .strategy()
        .unwrap()
        .unwrap();
    let length = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let expected = Canary {
        weights: vec![10, 50],
        interval: length(30),
        bake: length(120),
    };
    assert_eq!(canary.kind, Some(Kind::Canary(expected)));
    assert_eq!(options("").strategy().unwrap(), None);
    for (line, fault) in [
        ("--weights 10", "--weights is of no use without --strategy"),
        (
            "--strategy rolling --weights 10",
            "--weights is not an option of rolling",
        ),
        (
            "--strategy canary --batch 2",
            "--batch is not an option of canary",
        ),
        (
            "--strategy recreate --bake 2m",
            "--bake is not an option of recreate",
        ),
    ] {
        assert_eq!(options(line).strategy().unwrap_err().to_string(), fault);
    }
}
