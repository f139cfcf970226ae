//! Runs the binary in a home of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

/// A home, a site to deploy, and an API to call.
pub(crate) struct Cli {
    folder: TempDir,
    api: String,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Cli {
    pub(crate) fn new(api: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = folder.path().join("site");
        fs::create_dir_all(site.join("guide")).unwrap();
        fs::write(site.join("index.html"), "<h1>Docs</h1>").unwrap();
        fs::write(site.join("guide/install.html"), "<h1>Install</h1>").unwrap();
        fs::write(site.join("style.css"), "h1 { color: teal }").unwrap();
        Self {
            folder,
            api: api.to_owned(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Commits all that is there; answers the commit.
    pub(crate) fn commit(&self) -> String {
        let identity = [
            "-c",
            "user.name=Ada Byron",
            "-c",
            "user.email=ada@example.org",
        ];
        let git = |arguments: &[&str]| {
            let mut command = Command::new("git");
            command
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .current_dir(self.path())
                .args(identity)
                .args(arguments);
            let output = done(command.output().unwrap()).code(0).out;
            output.trim().to_owned()
        };
        git(&["init", "--quiet", "--initial-branch=main"]);
        git(&["add", "."]);
        git(&["commit", "--quiet", "-m", "First page"]);
        git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path().join("config")
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_candlefish"));
        command
            .args(line.split_whitespace())
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CANDLEFISH_CONFIG_DIR", self.config())
            .env("CANDLEFISH_API", &self.api)
            .env("CANDLEFISH_TOKEN", "cft_test")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Done {
        done(self.command(line).output().unwrap())
    }

    pub(crate) fn start(&self, line: &str) -> Child {
        self.command(line).spawn().unwrap()
    }
}

pub(crate) fn done(output: Output) -> Done {
    Done {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Done {
    /// Fails with everything that was said unless the code is this one.
    #[track_caller]
    pub(crate) fn code(self, expected: i32) -> Self {
        assert_eq!(self.code, expected, "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.err.contains(words), "{words:?} is not in {self:#?}");
        self
    }
}
