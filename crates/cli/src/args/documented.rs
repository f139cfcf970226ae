//! What documents and services tell people to type exists: the command, and every flag.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;

use super::{AFTER, Cli};

const WORKFLOW: &str = include_str!("../../../../examples/github-actions/deploy.yml");
/// What `cargo xtask up` says last.
const CLOSING: &str = include_str!("../../../../crates/xtask/src/up/closing.rs");
const COMMIT: &str = "4ac21e0b5d2f4f10c1a7f0de9b0c3c2f0f6f5a11";
/// What the shell puts in place of what stands in a workflow.
const FILLED_IN: [(&str, &str); 4] = [
    ("$NUMBER", "12"),
    ("$HEAD", COMMIT),
    ("$GITHUB_SHA", COMMIT),
    ("\"", ""),
];

/// All files of these kinds below a folder.
fn files(folder: &Path, kind: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, kind, into);
        } else if path.extension().is_some_and(|found| found == kind) {
            into.push(path);
        }
    }
}

/// What stands behind `candlefish ` in a line, up to the end of the code that it is in.
fn commands(line: &str, quotes: &[char]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("candlefish ") {
        let begins = before.trim_end_matches("target/debug/");
        let opened = begins.chars().next_back();
        let is_code = opened.is_none_or(|last| quotes.contains(&last) || last == ' ');
        let is_line = begins.trim().is_empty() || begins.trim() == "$";
        if is_line || (is_code && opened != Some(' ')) {
            let end = after.find(|c| quotes.contains(&c) || "|&;)".contains(c));
            found.push(after[..end.unwrap_or(after.len())].to_owned());
        }
        rest = after;
    }
    found
}

/// The command lines in a workflow's steps, filled in.
fn steps(workflow: &str) -> Vec<String> {
    let lines = workflow
        .lines()
        .map(|line| line.trim_start_matches([' ', '-']));
    let runs = lines.map(|line| line.strip_prefix("run: ").unwrap_or(line));
    let told = runs.filter(|line| line.starts_with("candlefish "));
    let fill_in = |line: String, (of, by): &(&str, &str)| line.replace(of, by);
    told.map(|line| FILLED_IN.iter().fold(line.to_owned(), fill_in))
        .collect()
}

/// What is wrong with it.
fn fault(words: &str) -> Option<String> {
    let mut command = &Cli::command();
    let global: Vec<_> = command
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .collect();
    let mut words = words.split_whitespace().peekable();
    while let Some(next) = words.peek().and_then(|word| command.find_subcommand(word)) {
        command = next;
        words.next();
    }
    if command.get_name() == "candlefish" {
        let word = words.next().unwrap_or_default();
        // A word in place of all of them, or the program's own flags.
        let is_named = word.starts_with(|c: char| c.is_ascii_lowercase());
        return is_named.then(|| format!("there is no command {word}"));
    }
    let known = |flag: &str| {
        let own = command.get_arguments().filter_map(clap::Arg::get_long);
        own.chain(global.iter().copied()).any(|long| long == flag)
    };
    let flags = words.filter_map(|word| word.strip_prefix("--"));
    let mut names = flags.map(|flag| flag.split('=').next().unwrap_or(flag));
    names
        .find(|flag| !known(flag))
        .map(|flag| format!("{} has no --{flag}", command.get_name()))
}

#[test]
fn every_command_that_people_are_told_to_type_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    files(&root.join("docs"), "md", &mut pages);
    pages.retain(|page| !page.components().any(|part| part.as_os_str() == "adr"));
    let mut sources = Vec::new();
    for service in ["deploy-orchestrator", "gateway", "cli"] {
        files(
            &root.join("crates").join(service).join("src"),
            "rs",
            &mut sources,
        );
    }
    // The examples below are meant to be wrong.
    sources.retain(|source| !source.ends_with("args/documented.rs"));
    let (mut told, mut faults) = (0, Vec::new());
    for (paths, quotes) in [(pages, &['`'][..]), (sources, &['`', '"'][..])] {
        for path in paths {
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in (1..).zip(text.lines()) {
                for words in commands(line, quotes) {
                    told += 1;
                    let fault = fault(&words);
                    faults
                        .extend(fault.map(|fault| format!("{}:{number}: {fault}", path.display())));
                }
            }
        }
    }
    assert!(told > 150, "only {told} commands were found");
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The commands in the text of one `action:`, with something in each place.
fn whole(action: &str) -> Vec<String> {
    const DEP: &str = "dep_01k8qw4f9cfk2t0v1e6m7r8x9a";
    let texts = action.split('"').skip(1).step_by(2);
    let told: Vec<&str> = texts.flat_map(|text| text.split(" or ")).collect();
    let filled = told.into_iter().map(|one| {
        let one = one.split(" (").next().unwrap_or(one);
        let one = one.replace("{place}", "docs/production");
        let one = one.replace("{live}", "1");
        // The first that is named is a deployment or what has one; a second is the place of a step.
        let first = ["{}", "{id}", "{acting}"]
            .iter()
            .fold(one, |one, blank| one.replacen(blank, DEP, 1));
        first.replace("{}", "5")
    });
    filled.collect()
}

#[test]
fn what_a_blocker_says_to_do_is_a_whole_command() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Vec::new();
    files(
        &root.join("crates/deploy-orchestrator/src"),
        "rs",
        &mut sources,
    );
    let mut told = 0;
    for path in sources {
        let text = fs::read_to_string(&path).unwrap();
        for (_, rest) in text
            .match_indices(" action: ")
            .map(|(at, _)| text.split_at(at))
        {
            // The value ends where the next field or the blocker does.
            let value = rest.split(",\n").next().unwrap_or(rest);
            let Some(value) = value
                .contains("candlefish ")
                .then(|| value.replace('\n', " "))
            else {
                continue;
            };
            for command in whole(&value) {
                told += 1;
                let read = Cli::command().try_get_matches_from(command.split_whitespace());
                if let Err(error) = read {
                    panic!("{}: {command}: {error}", path.display());
                }
            }
        }
    }
    assert!(told >= 8, "only {told} commands were found");
}

#[test]
fn what_xtask_up_tells_to_try_is_understood_and_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let told = CLOSING
        .lines()
        .filter_map(|line| line.trim().strip_prefix("{candlefish} "));
    let mut count = 0;
    for line in told {
        count += 1;
        let words = std::iter::once("candlefish").chain(line.split_whitespace());
        let matches = Cli::command().try_get_matches_from(words);
        let matches = matches.unwrap_or_else(|error| panic!("{line}: {error}"));
        if let Some(deploy) = matches.subcommand_matches("deploy") {
            let folder = deploy.get_one::<PathBuf>("dir").unwrap();
            assert!(root.join(folder).is_dir(), "{line}");
        }
    }
    // What lifts the hold that the third leaves is the fourth.
    assert_eq!(count, 4, "{CLOSING}");
}

#[test]
fn the_workflow_deploys_pushes_and_pull_requests_by_commit() {
    let mut places = Vec::new();
    for step in steps(WORKFLOW) {
        assert!(!step.contains('$'), "not filled in: {step}");
        let matches = Cli::command().try_get_matches_from(step.split_whitespace());
        let matches = matches.unwrap_or_else(|error| panic!("{step}: {error}"));
        let deploy = matches.subcommand_matches("deploy").unwrap();
        let said = |option: &str| deploy.get_one::<String>(option).unwrap().clone();
        assert_eq!(said("commit"), COMMIT, "{step}");
        places.push(format!("{}/{}", said("site"), said("environment")));
    }
    assert_eq!(places, ["docs/staging", "docs/pr-12"]);
    // The names that it gives itself are of what GitHub says.
    for set in [
        "NUMBER: ${{ github.event.number }}\n",
        "HEAD: ${{ github.event.pull_request.head.sha }}\n",
    ] {
        assert!(WORKFLOW.contains(set), "{set}");
    }
}

#[test]
fn the_workflow_sets_variables_that_are_read() {
    let words = WORKFLOW.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    let set: BTreeSet<_> = words
        .filter(|word| word.starts_with("CANDLEFISH_"))
        .collect();
    assert_eq!(set, BTreeSet::from(["CANDLEFISH_API", "CANDLEFISH_TOKEN"]));
    assert!(set.iter().all(|name| AFTER.contains(name)), "{AFTER}");
}

#[test]
fn what_does_not_exist_is_named() {
    let told = commands(
        "`candlefish hold drop docs` and `candlefish why --loud x`",
        &['`'],
    );
    assert_eq!(told, ["hold drop docs", "why --loud x"]);
    assert_eq!(
        fault("frobnicate x").unwrap(),
        "there is no command frobnicate"
    );
    assert_eq!(fault("why --loud x").unwrap(), "why has no --loud");
    assert_eq!(fault("hold lift docs/production --reason x"), None);
}
