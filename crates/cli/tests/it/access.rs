use std::{collections::HashMap, fs, io::Write as _, process::Stdio};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    cli::{Cli, done},
    server::{Server, TOK},
};

#[test]
fn a_login_is_kept_for_its_owner_and_used_afterwards() {
    let server = Server::start();
    let cli = Cli::new("http://127.0.0.1:1");
    let mut login = cli.command(&format!("login --api {} --context dev", server.url()));
    login.env_remove("CANDLEFISH_TOKEN").stdin(Stdio::piped());
    let mut child = login.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"cft_test\n")
        .unwrap();
    let login = done(child.wait_with_output().unwrap()).code(0);
    assert!(
        login.out.contains("ada at") && login.out.contains("context dev"),
        "{login:?}"
    );
    let file = cli.config().join("contexts.toml");
    assert!(!login.out.contains("cft_test") && !login.err.contains("cft_test"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert!(
        fs::read_to_string(&file)
            .unwrap()
            .contains("[contexts.dev]")
    );

    let mut whoami = cli.command("whoami");
    whoami
        .env_remove("CANDLEFISH_API")
        .env_remove("CANDLEFISH_TOKEN");
    let whoami = done(whoami.output().unwrap()).code(0);
    assert!(whoami.out.contains("admin of all sites"), "{whoami:?}");
    let listed = cli.run("context --json").code(0);
    assert!(
        listed.out.contains("\"dev\"") && !listed.out.contains("cft_"),
        "{listed:?}"
    );
}

#[test]
fn the_context_of_the_environment_is_the_one_that_login_makes_and_is_told() {
    let server = Server::start();
    let cli = Cli::new("http://127.0.0.1:1");
    let run = |line: &str| {
        let mut command = cli.command(line);
        command
            .env_remove("CANDLEFISH_API")
            .env("CANDLEFISH_CONTEXT", "live");
        done(command.output().unwrap())
    };
    run(&format!("login --api {}", server.url())).code(0);
    run("whoami").code(0);
    run("context")
        .code(0)
        .says("CANDLEFISH_CONTEXT says live, which is used instead");
}

#[test]
fn a_token_that_the_api_does_not_know_is_not_kept() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let mut login = cli.command("login");
    login.env("CANDLEFISH_TOKEN", "cft_wrong");
    done(login.output().unwrap()).code(5);
    assert!(!cli.config().join("contexts.toml").exists());
}

#[test]
fn who_is_not_known_is_told_which_variable_is_used_whatever_a_login_keeps() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let run = |line: &str, token: &str| {
        let mut command = cli.command(line);
        command.env("CANDLEFISH_TOKEN", token);
        done(command.output().unwrap())
    };
    // An empty one is none.
    run("whoami", "")
        .code(5)
        .says("CANDLEFISH_API of this shell is used, and CANDLEFISH_TOKEN is not set.");
    run("whoami", "cft_old")
        .code(5)
        .says("Set CANDLEFISH_TOKEN to a token that works; or unset both");
    run("login", "cft_old")
        .code(5)
        .says("CANDLEFISH_TOKEN of this shell is used.");
    run("login", "cft_test")
        .code(0)
        .says("CANDLEFISH_API and CANDLEFISH_TOKEN are set and are used instead");
}

#[test]
fn a_context_whose_token_works_no_more_is_the_one_to_log_in_to() {
    let server = Server::start();
    let cli = Cli::new("http://127.0.0.1:1");
    fs::create_dir_all(cli.config()).unwrap();
    let file = cli.config().join("contexts.toml");
    let url = server.url();
    let contexts =
        format!("current = \"dev\"\n[contexts.dev]\napi = \"{url}\"\ntoken = \"cft_old\"\n");
    fs::write(&file, contexts).unwrap();
    let mut current = cli.command("whoami");
    current
        .env_remove("CANDLEFISH_API")
        .env_remove("CANDLEFISH_TOKEN");
    let advice = "Log in: candlefish login --context dev\n";
    done(current.output().unwrap()).code(5).says(advice);
    cli.run("whoami --context dev").code(5).says(advice);
    // Its API is the context's own, whatever the shell says.
    cli.run("login --context dev").code(0);
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.contains(&url) && !kept.contains("default"), "{kept}");
    cli.run("whoami --context dev").code(0);
}

#[test]
fn a_context_that_nobody_named_does_not_go_to_another_api_unless_that_is_meant() {
    let (one, other) = (Server::start(), Server::start());
    let cli = Cli::new("");
    cli.run(&format!("login --api {}", one.url())).code(0);
    // The same API once more is no loss.
    cli.run(&format!("login --api {}/", one.url())).code(0);
    let line = format!("login --api {}", other.url());
    cli.run(&line)
        .code(2)
        .says(&format!(
            "the context \"default\" is of another API, {}",
            one.url()
        ))
        .says("--context NAME")
        .says("--yes");
    let kept = || fs::read_to_string(cli.config().join("contexts.toml")).unwrap();
    assert!(!kept().contains(&other.url()));
    cli.run(&format!("{line} --context live")).code(0);
    assert!(kept().contains(&one.url()) && kept().contains(&other.url()));
    cli.run(&format!("{line} --yes")).code(0);
    assert!(!kept().contains(&one.url()));
}

#[test]
fn a_token_whose_secret_was_lost_is_to_be_ended_and_made_again() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let line = "tokens create --principal ci-docs --name github --role deployer";
    // All the tries of one command.
    server.world.lock().lost.insert("create_token", 4);
    cli.run(line).code(6);
    let mut details = ErrorDetails::new();
    let made = HashMap::from([("id".to_owned(), TOK.to_owned())]);
    details.set_error_info("secret-shown-once", "candlefish", made);
    let words = format!("this call was made before and made {TOK}; its secret is shown once");
    let refused = Status::with_error_details(Code::AlreadyExists, words, details);
    server.world.lock().refusals.insert("create_token", refused);
    cli.run(line)
        .code(1)
        .says("its secret is shown once")
        .says(&format!("candlefish tokens revoke {TOK}\n"));
    server.world.lock().refusals.clear();
    assert_eq!(cli.run(line).code(0).out, "cft_made\n");
    let keys = server.world.keys("create_token");
    assert_eq!(keys.len(), 6);
    assert_eq!(keys[0], keys[4]);
    assert_ne!(keys[0], keys[5]);
}

#[test]
fn without_a_context_it_says_how_to_log_in() {
    let cli = Cli::new("");
    cli.run("status")
        .code(5)
        .says("this machine is not logged in")
        .says("candlefish login --api URL");
}

#[test]
fn completions_are_written_for_every_shell() {
    let cli = Cli::new("");
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            cli.run(&format!("completions {shell}"))
                .code(0)
                .out
                .contains("rollback")
        );
    }
}

#[test]
fn help_begins_with_examples_and_nothing_at_all_is_wrong_use() {
    let cli = Cli::new("");
    assert!(cli.run("--help").code(0).out.starts_with("Examples:"));
    assert!(
        cli.run("deploy --help")
            .code(0)
            .out
            .starts_with("Examples:")
    );
    cli.run("").code(2);
    cli.run("deplay").code(2).says("deploy");
}
