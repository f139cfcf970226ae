//! `docs/tour.md`, carried out: its commands in a shell, one after the other, and every line that it
//! says they show.
//!
//! A block of `sh` is run; a block of `text` after it has lines that its output must have, in this
//! order, each with `…` for anything. A block that only asks is asked again until it is so.

use std::{collections::HashSet, process::Stdio, time::Duration};

use candlefish_devstack::Service;
use candlefish_testkit::github::StandIn;
use e2e::{PATIENCE, Sandbox};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

/// Ends the output of a block, before its exit code.
const END: &str = "\u{1e}";
/// Commands that change nothing.
const ASKING: [&str; 8] = [
    "candlefish push ",
    "candlefish why ",
    "candlefish status",
    "candlefish env show ",
    "candlefish history ",
    "curl -sS http",
    "curl -sS $GITHUB/_/comments",
    "curl -sS $GITHUB/_/deployments",
];

/// A block of commands, and what they show.
#[derive(Debug, Default)]
struct Block {
    /// Where it begins in the document.
    line: usize,
    commands: String,
    shown: Vec<String>,
}

impl Block {
    fn only_asks(&self) -> bool {
        let mut lines = self.commands.lines();
        lines.all(|line| {
            ASKING
                .iter()
                .any(|asking| line.replace('"', "").starts_with(asking))
        })
    }

    /// The first line that the output has not.
    fn missing(&self, output: &str) -> Option<&str> {
        let mut lines = output.lines();
        let shown = self.shown.iter().map(String::as_str);
        let mut missing = shown.filter(|shown| !lines.any(|line| fits(shown, line)));
        missing.next()
    }
}

/// Whether a line is as the document has it, where `…` stands for anything. Columns may be wider.
fn fits(shown: &str, line: &str) -> bool {
    let folded = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (shown, line) = (folded(shown), folded(line));
    let shown = shown.replace(" …", "…").replace("… ", "…");
    let mut rest = line.as_str();
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(after) = rest.strip_prefix(first) else {
        return false;
    };
    rest = after;
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = "";
    for (place, line) in document.lines().enumerate() {
        match (open, line) {
            ("", "```sh") => blocks.push(Block {
                line: place + 1,
                ..Block::default()
            }),
            (_, "```") | ("", _) => {}
            ("sh", _) => {
                let commands = &mut blocks.last_mut().unwrap().commands;
                commands.push_str(line);
                commands.push('\n');
            }
            ("text", _) => {
                let before = blocks.last_mut().expect("a text follows what shows it");
                before.shown.push(line.to_owned());
            }
            _ => {}
        }
        if let Some(language) = line.strip_prefix("```") {
            open = language;
        }
    }
    blocks
}

/// One shell for the whole tour.
struct Shell {
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Shell {
    fn start(sandbox: &Sandbox, github: &StandIn) -> Self {
        let programs = std::env::current_exe().unwrap();
        let programs = programs.ancestors().nth(2).unwrap().to_owned();
        let path = std::env::var("PATH").unwrap();
        let edges = sandbox.stack.edges();
        let port = edges.first().unwrap().address.port().to_string();
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc"])
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("CANDLEFISH_API", sandbox.stack.gateway_url())
            .env("CANDLEFISH_TOKEN", sandbox.stack.admin_token())
            .env("CANDLEFISH_CONFIG_DIR", sandbox.stack.folder().join("cli"))
            .env("NO_COLOR", "1")
            .env("GITHUB", github.url())
            .env("PORT", port)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            _child: child,
        }
    }

    /// Runs commands; answers what they wrote to either stream, and the last one's exit code.
    async fn run(&mut self, commands: &str) -> (String, String) {
        let script = format!("{{ {commands}\n}} </dev/null 2>&1\nprintf '\\n{END}%s\\n' $?\n");
        self.stdin.write_all(script.as_bytes()).await.unwrap();
        let mut output = String::new();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            if let Some(code) = line.strip_prefix(END) {
                return (output, code.to_owned());
            }
            output.push_str(&line);
            output.push('\n');
        }
        panic!("the shell ended:\n{output}");
    }

    /// What the stand-in for GitHub shows there.
    async fn github_shows(&mut self, what: &str) -> String {
        let ask = format!("curl -sS \"$GITHUB/_/{what}\"");
        let (output, code) = timeout(PATIENCE, self.run(&ask)).await.unwrap();
        assert_eq!(code, "0", "{ask}:\n{output}");
        output
    }

    async fn check(&mut self, block: &Block) {
        let place = format!("docs/tour.md:{}:\n{}", block.line, block.commands);
        let begun = Instant::now();
        loop {
            let ran = timeout(PATIENCE, self.run(&block.commands)).await;
            let (output, code) = ran.unwrap_or_else(|_late| panic!("{place}takes too long"));
            let missing = block.missing(&output);
            let done = missing.is_none() && (code == "0" || !block.shown.is_empty());
            if done {
                return;
            }
            let again = block.only_asks() && begun.elapsed() < PATIENCE;
            assert!(
                again,
                "{place}lacks {missing:?}, exit code {code}:\n{output}"
            );
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// GitHub was told each thing once: of a commit in an environment, of each state of that, and in one comment
/// of each pull request. The document only says what is there.
async fn assert_told_once(shell: &mut Shell) {
    let shown = shell
        .github_shows("deployments?repository=acme/handbook")
        .await;
    let mut deployments = HashSet::new();
    for line in shown.lines().filter(|line| !line.is_empty()) {
        let (deployment, states) = line.split_once(": ").unwrap();
        assert!(deployments.insert(deployment), "{line} again:\n{shown}");
        let mut told = HashSet::new();
        let once = states.split(", ").all(|state| told.insert(state));
        assert!(once, "a state of {line} again:\n{shown}");
    }
    for number in [7, 8] {
        let comments = format!("comments?repository=acme/handbook&number={number}");
        let shown = shell.github_shows(&comments).await;
        let made = shown.matches("**The preview of handbook**").count();
        assert_eq!(made, 1, "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tour_is_as_it_is_written() {
    let github = StandIn::start("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let sandbox = Sandbox::with(|builder| {
        let setting = |builder: candlefish_devstack::Builder, key, value: &str| {
            builder.env(Service::Orchestrator, key, value)
        };
        let builder = builder.replicas(1, 1, 2);
        let builder = setting(builder, "CANDLEFISH_GITHUB_API", &github.url());
        let builder = setting(builder, "CANDLEFISH_GITHUB_TOKEN", "stand-in");
        let builder = setting(builder, "CANDLEFISH_GITHUB_SWEEP_MS", "1000");
        let builder = setting(builder, "CANDLEFISH_GITHUB_WRITE_PAUSE_MS", "1");
        setting(builder, "CANDLEFISH_GITHUB_REST_MS", "1000")
    });
    let sandbox = sandbox.await.unwrap();
    let hook = format!("{}/v1/webhooks/github", sandbox.stack.gateway_url());
    github.delivers_to(&hook, sandbox.stack.github_webhook_secret());
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tour.md");
    let blocks = blocks(&std::fs::read_to_string(document).unwrap());
    assert!(blocks.len() > 10, "{blocks:?}");
    let mut shell = Shell::start(&sandbox, &github);
    for block in &blocks {
        shell.check(block).await;
    }
    assert_told_once(&mut shell).await;
    sandbox.stop().await.unwrap();
}

#[test]
fn a_line_is_as_the_document_has_it_where_dots_stand_for_anything() {
    for (shown, line, is_so) in [
        ("live", "  live ", true),
        ("live", "alive", false),
        ("dep_… is live", "dep_01 is live", true),
        ("dep_… is live", "dep_01 is live again", false),
        ("… waits: …", "docs/production waits: a hold", true),
        ("a  b", "a    b", true),
        ("a … b", "a b", true),
        ("a…b…c", "axbxc", true),
        ("a…b…c", "axc", false),
    ] {
        assert_eq!(fits(shown, line), is_so, "{shown:?}, {line:?}");
    }
}
