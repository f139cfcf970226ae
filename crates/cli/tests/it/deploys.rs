use std::fs;

use candlefish_proto::deploy::{ReleaseLimits, deployment::State};

use crate::{
    cli::Cli,
    server::{DEP, Server, URL, deployment, live},
};

const DEPLOY: &str = "deploy site --site docs --env production";

#[test]
fn a_pipe_gets_the_address_and_nothing_else() {
    let server = Server::start();
    server.world.lock().streams =
        [vec![deployment(State::Running, 2), live(State::Waiting, 3)]].into();
    let done = Cli::new(&server.url()).run(DEPLOY).code(0);
    assert_eq!(done.out, format!("{URL}\n"));
    let done = done
        .says("  hashing\n")
        .says("Hashing      3 files")
        .says("  uploading\n")
        .says("  sealing\n")
        .says("3 new files")
        .says("Undo: candlefish rollback docs/production");
    // No animation on a pipe: every line of a change carries its time.
    assert!(
        done.err.lines().any(|line| line.ends_with("  running")) && !done.err.contains('\u{1b}')
    );
    let world = server.world.lock();
    // The manifest first, then the files of both pages.
    assert_eq!(
        (world.puts.len(), world.puts.first()),
        (4, Some(&world.manifest))
    );
    assert!(world.sealed);
}

#[test]
fn what_is_stored_is_not_sent_again() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().deployment = live(State::Succeeded, 9);
    cli.run(DEPLOY).code(0);
    fs::write(
        cli.path().join("site/index.html"),
        "<h1>Docs, second edition</h1>",
    )
    .unwrap();
    server.world.lock().puts.clear();
    cli.run(DEPLOY)
        .code(0)
        .says("1 new file, 29 B (2 already stored)");
    assert_eq!(
        server.world.lock().puts.len(),
        2,
        "the manifest and one page"
    );
    cli.run(DEPLOY)
        .code(0)
        .says("nothing: all 3 files are already stored");
    assert_eq!(server.world.lock().puts.len(), 2);
    fs::remove_dir_all(cli.path().join("site/guide")).unwrap();
    fs::remove_file(cli.path().join("site/style.css")).unwrap();
    cli.run(DEPLOY).code(0);
    cli.run(DEPLOY)
        .code(0)
        .says("nothing: the one file is already stored");
}

#[test]
fn an_upload_that_was_cut_off_goes_on_where_it_was() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().deployment = live(State::Succeeded, 9);
    server.world.lock().puts_left = Some(2);
    cli.run(DEPLOY)
        .code(1)
        .says("the store refuses")
        .says("what was stored is not sent again");
    assert!(server.world.keys("create_deployment").is_empty());
    server.world.lock().puts_left = None;
    cli.run(DEPLOY).code(0);
    let mut puts = server.world.lock().puts.clone();
    assert_eq!(puts.len(), 4);
    puts.sort();
    puts.dedup();
    assert_eq!(puts.len(), 4, "nothing was sent twice");
}

#[test]
fn addresses_that_grew_too_old_are_asked_for_again() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    // The page of two files is not sent before its addresses are too old.
    server.world.lock().puts_each = Some(1);
    Cli::new(&server.url())
        .run(DEPLOY)
        .code(0)
        .says("3 new files");
    assert_eq!(server.world.lock().puts.len(), 4, "nothing was sent twice");
}

#[test]
fn a_file_that_the_server_would_not_take_is_named_before_anything_is_sent() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    server.world.lock().limits = Some(ReleaseLimits {
        file_bytes: Some(99),
        ..ReleaseLimits::default()
    });
    fs::write(cli.path().join("site/large.bin"), [7; 100]).unwrap();
    cli.run(DEPLOY).code(2).says("large.bin").says("99");
    assert!(server.world.keys("create_release").is_empty());
}

#[test]
fn what_the_server_takes_is_never_refused_here() {
    let deep = ["d"; 40].join("/");
    for limits in [
        // An older server tells none and judges by itself.
        None,
        Some(ReleaseLimits {
            depth: Some(50),
            ..ReleaseLimits::default()
        }),
    ] {
        let server = Server::start();
        server.world.lock().limits = limits;
        server.world.lock().deployment = live(State::Succeeded, 9);
        let cli = Cli::new(&server.url());
        let folder = cli.path().join("site").join(&deep);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("page.html"), "deep").unwrap();
        cli.run(DEPLOY).code(0).says("4 files");
    }
}

#[test]
fn files_of_every_size_arrive_whole() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    let cli = Cli::new(&server.url());
    // Around one piece, and around what is read at once.
    for size in [0, 16 * 1024, 16 * 1024 + 1, 1024 * 1024, 1024 * 1024 + 1] {
        fs::write(
            cli.path().join(format!("site/{size}.bin")),
            vec![7_u8; size],
        )
        .unwrap();
    }
    cli.run(DEPLOY).code(0).says("8 new files");
    // The server refuses what its name does not fit.
    assert_eq!(server.world.lock().puts.len(), 9);
}

#[test]
fn a_busy_store_is_tried_again() {
    let server = Server::start();
    server.world.lock().busy_puts = 2;
    server.world.lock().deployment = live(State::Succeeded, 9);
    Cli::new(&server.url()).run(DEPLOY).code(0);
    assert_eq!(server.world.lock().puts.len(), 4);
}

#[test]
fn names_below_localhost_are_this_machine() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    Cli::new(&format!("http://api.localhost:{}", server.port))
        .run(DEPLOY)
        .code(0);
    assert_eq!(server.world.lock().puts.len(), 4);
}

#[test]
fn without_an_environment_it_is_a_preview() {
    let server = Server::start();
    server.world.lock().deployment = candlefish_proto::deploy::Deployment {
        kind: candlefish_proto::deploy::deployment::Kind::Preview.into(),
        ..deployment(State::Succeeded, 4)
    };
    let done = Cli::new(&server.url())
        .run("deploy site --site docs")
        .code(0);
    assert_eq!(
        done.out,
        "http://01k8qw4f9cfk2t0v1e6m7r8x9a--docs.localhost:8080\n"
    );
    let world = server.world.lock();
    let (_, _, request) = world
        .calls
        .iter()
        .find(|(name, ..)| *name == "create_deployment")
        .unwrap();
    assert!(
        request.contains("preview: true") && request.contains("environment: \"\""),
        "{request}"
    );
}

#[test]
fn the_tree_names_the_target_and_it_is_said() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    let cli = Cli::new(&server.url());
    fs::write(
        cli.path().join("candlefish.toml"),
        "site = \"docs\"\nenvironment = \"staging\"\ndir = \"site\"\n",
    )
    .unwrap();
    cli.run("deploy")
        .code(0)
        .says("docs (candlefish.toml) / staging (candlefish.toml)");
    let mut command = cli.command("deploy");
    command.env("CANDLEFISH_ENVIRONMENT", "production");
    let done = crate::cli::done(command.output().unwrap()).code(0);
    done.says("docs (candlefish.toml) / production (CANDLEFISH_ENVIRONMENT)");
}

#[test]
fn content_that_was_built_elsewhere_goes_where_the_clone_says() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    let cli = Cli::new(&server.url());
    let here = "site = \"docs\"\nenvironment = \"staging\"\n";
    fs::write(cli.path().join("candlefish.toml"), here).unwrap();
    let built = tempfile::tempdir().unwrap();
    fs::write(built.path().join("index.html"), "<h1>Docs</h1>").unwrap();
    let line = format!("deploy {}", built.path().display());
    cli.run(&line)
        .code(0)
        .says("docs (candlefish.toml) / staging (candlefish.toml)");
    // A tree of its own is another project.
    fs::create_dir(built.path().join(".git")).unwrap();
    cli.run(&line).code(2).says("which site?");
}

#[test]
fn whoever_names_the_commit_answers_for_what_the_build_left_in_the_tree() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    let cli = Cli::new(&server.url());
    let commit = cli.commit();
    fs::write(cli.path().join("package-lock.json"), "{}").unwrap();
    cli.run(DEPLOY).code(0);
    for name in [commit.as_str(), "HEAD"] {
        cli.run(&format!("{DEPLOY} --commit {name}")).code(0);
    }
    let asked = server.world.asked("create_release");
    let is_dirty: Vec<_> = asked
        .iter()
        .map(|request| request.contains("dirty: true"))
        .collect();
    assert_eq!(is_dirty, [true, false, false], "{asked:?}");
    let of = format!("commit: \"{commit}\"");
    assert!(
        asked.iter().all(|request| request.contains(&of)),
        "{asked:?}"
    );
}

#[test]
fn uncommitted_changes_are_said_with_the_release() {
    const WORDS: &str = "with uncommitted changes";
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    let cli = Cli::new(&server.url());
    // What the command line keeps for itself lies in this tree too.
    fs::write(cli.path().join(".gitignore"), "/config/\n").unwrap();
    cli.commit();
    let clean = cli.run(DEPLOY).code(0);
    assert!(!clean.err.contains(WORDS), "{clean:?}");
    fs::write(cli.path().join("site/index.html"), "<h1>Not yet</h1>").unwrap();
    let would = cli.run(&format!("{DEPLOY} --dry-run")).code(0);
    assert!(would.out.contains(WORDS), "{would:?}");
    let dirty = cli.run(DEPLOY).code(0);
    let line = dirty
        .err
        .lines()
        .find(|line| line.starts_with("  Release "))
        .unwrap_or_default();
    assert!(line.ends_with(WORDS), "{dirty:?}");
}

#[test]
fn a_named_commit_is_not_left_out_where_git_refuses_the_tree() {
    let server = Server::start();
    server.world.lock().deployment = live(State::Succeeded, 9);
    let cli = Cli::new(&server.url());
    let commit = cli.commit();
    // As in a container, whose user does not own the clone.
    let refused = |line: &str| {
        let mut command = cli.command(line);
        command
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");
        crate::cli::done(command.output().unwrap())
    };
    refused(&format!("{DEPLOY} --commit {commit}"))
        .code(0)
        .says("dubious ownership")
        .says("the release carries the named commit, without its ancestors");
    let asked = server.world.asked("create_release");
    let carries = format!("commit: \"{commit}\", parents: [], ancestors: []");
    assert!(
        asked[0].contains(&carries) && asked[0].contains("dirty: false"),
        "{asked:?}"
    );
    refused(&format!("{DEPLOY} --commit HEAD"))
        .code(2)
        .says("dubious ownership")
        .says("with its whole hash: --commit SHA");
    assert_eq!(server.world.asked("create_release").len(), 1);
    refused(DEPLOY)
        .code(0)
        .says("the release carries no commit (--commit names one)");
}

#[test]
fn a_named_commit_that_is_wrong_is_told_before_the_folder_is_read() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    cli.commit();
    let done = cli
        .run(&format!("{DEPLOY} --commit 4ac21e0"))
        .code(2)
        .says("\"4ac21e0\" is neither a commit of this tree nor a whole hash");
    assert!(!done.err.contains("hashing"), "{done:#?}");
    let done = cli
        .run(&format!("{DEPLOY} --commit HEAD --dry-run"))
        .code(0);
    assert!(done.err.contains("hashing"), "{done:#?}");
}

#[test]
fn a_dry_run_sends_nothing() {
    let server = Server::start();
    let done = Cli::new(&server.url())
        .run(&format!("{DEPLOY} --dry-run"))
        .code(0);
    assert!(
        done.out.contains("Would go to  docs/production") && done.out.contains("Nothing was sent"),
        "{done:?}"
    );
    let world = server.world.lock();
    assert!(
        world
            .calls
            .iter()
            .all(|(name, ..)| name.starts_with("get_")),
        "{:?}",
        world.calls
    );
}

#[test]
fn detached_it_ends_once_accepted_with_the_id() {
    let server = Server::start();
    let done = Cli::new(&server.url())
        .run(&format!("{DEPLOY} --detach"))
        .code(0);
    assert_eq!(done.out, format!("{DEP}\n"));
    assert!(server.world.lock().watched.is_empty());
}

#[test]
fn json_is_one_object_with_the_fields_of_rest() {
    let server = Server::start();
    server.world.lock().streams = [vec![live(State::Waiting, 3)]].into();
    let done = Cli::new(&server.url())
        .run(&format!("{DEPLOY} --json"))
        .code(0);
    let object: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(
        (&object["id"], &object["state"]),
        (&DEP.into(), &"STATE_WAITING".into())
    );
    assert_eq!(object["release_id"], crate::server::REL);
}

#[test]
fn an_empty_folder_and_a_link_out_of_it_are_refused_before_anything_is_sent() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    fs::create_dir(cli.path().join("empty")).unwrap();
    cli.run("deploy empty --site docs")
        .code(2)
        .says("has no files");
    cli.run("deploy nowhere --site docs")
        .code(2)
        .says("there is no folder nowhere");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/etc/hostname", cli.path().join("site/host")).unwrap();
        cli.run("deploy site --site docs")
            .code(2)
            .says("\"host\" is a link out of the folder")
            .says("Nothing was sent.");
    }
    let world = server.world.lock();
    assert!(
        world.calls.iter().all(|(name, ..)| *name == "get_site"),
        "{:?}",
        world.calls
    );
}
