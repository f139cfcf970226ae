use super::*;

fn environment(folder: &Path) -> Environment {
    Environment {
        folder: Some(folder.to_owned()),
        ..Environment::default()
    }
}

fn two() -> Contexts {
    let context = |name: &str| {
        (
            name.to_owned(),
            Context {
                api: format!("http://{name}.localhost:8090"),
                token: format!("cft_{name}"),
            },
        )
    };
    Contexts {
        current: Some("dev".to_owned()),
        contexts: [context("dev"), context("live")].into(),
    }
}

#[test]
fn a_saved_file_reads_back_and_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let environment = environment(&folder.path().join("below/candlefish"));
    let path = two().save(&environment).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let read = Contexts::load(&environment).unwrap();
    assert_eq!(read.current.as_deref(), Some("dev"));
    assert_eq!(read.get("live").unwrap().token, "cft_live");
}

#[test]
fn the_flag_wins_over_the_environment_and_that_over_the_current_context() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = environment(folder.path());
    two().save(&environment).unwrap();
    let secret = |chosen: &Chosen| chosen.token.as_ref().map(|secret| secret.0.clone());

    let current = choose(&environment, None).unwrap();
    assert_eq!(
        (current.api.as_str(), secret(&current)),
        ("http://dev.localhost:8090", Some("cft_dev".to_owned()))
    );

    environment.token = Some(Secret("cft_mine".to_owned()));
    assert_eq!(
        secret(&choose(&environment, None).unwrap()),
        Some("cft_mine".to_owned())
    );

    environment.api = Some("http://other:1".to_owned());
    let own = choose(&environment, None).unwrap();
    assert_eq!((own.api.as_str(), own.context), ("http://other:1", None));

    let named = choose(&environment, Some("live")).unwrap();
    assert_eq!(
        (named.api.as_str(), secret(&named)),
        ("http://live.localhost:8090", Some("cft_live".to_owned()))
    );
}

#[test]
fn an_unknown_context_names_those_that_exist() {
    let folder = tempfile::tempdir().unwrap();
    let environment = environment(folder.path());
    two().save(&environment).unwrap();
    let error = choose(&environment, Some("prod")).unwrap_err();
    let Error::Unknown { name, known } = error else {
        panic!("{error}")
    };
    assert_eq!(
        (name.as_str(), known),
        ("prod", vec!["dev".to_owned(), "live".to_owned()])
    );
}

#[test]
fn without_a_context_the_machine_is_not_logged_in() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        choose(&environment(folder.path()), None),
        Err(Error::None)
    ));
}

#[test]
fn whose_the_token_is_is_known_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = environment(folder.path());
    two().save(&environment).unwrap();
    let of = |environment: &Environment, flag: Option<&str>| {
        let chosen = choose(environment, flag).unwrap();
        chosen.token_of
    };
    let context = |name: &str| TokenOf::Context(name.to_owned());
    assert_eq!(of(&environment, None), context("dev"));
    assert_eq!(of(&environment, Some("live")), context("live"));
    environment.context = Some("live".to_owned());
    assert_eq!(of(&environment, None), context("live"));
    environment.token = Some(Secret("cft_mine".to_owned()));
    assert_eq!(of(&environment, None), TokenOf::Variable);
    assert_eq!(of(&environment, Some("dev")), context("dev"));
    environment.api = Some("http://other:1".to_owned());
    assert_eq!(of(&environment, None), TokenOf::Shell);
    environment.token = None;
    assert_eq!(of(&environment, None), TokenOf::Nobody);
}

#[test]
fn a_file_that_cannot_be_read_is_told_by_its_line_and_never_with_what_stands_there() {
    let folder = tempfile::tempdir().unwrap();
    let environment = environment(folder.path());
    for (text, line) in [
        (
            "[contexts.dev]\napi = \"http://dev\"\ntoken = \"cft_secret\n",
            3,
        ),
        (
            "[contexts.dev]\napi = \"http://dev\"\ntoken = cft_secret\n",
            3,
        ),
        ("[contexts]\ndev = \"cft_secret\"\n", 2),
        ("current = \"dev\"\ntokens = \"cft_secret\"\n", 2),
    ] {
        fs::write(folder.path().join(FILE), text).unwrap();
        let error = Contexts::load(&environment).err().unwrap();
        let said = format!("{error} {error:?}");
        let place = format!("is not a file of contexts: line {line}: ");
        assert!(said.contains(&place), "{said}");
        assert!(!said.contains("cft_"), "{said}");
    }
}
