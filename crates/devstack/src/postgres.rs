//! A private Postgres, and the databases, roles and schemas in it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;

use crate::install::{is_root, postgres_of};
use crate::output::Output;
use crate::ports::Port;
use crate::process::{Launch, Process};
use crate::wait::wait_until;
use crate::warden::Warden;

/// Long enough for a recovery after `kill -9` on a slow disk.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// Lines that a killed server may still write: one or two for each of its connections.
const LAST_WORDS: usize = 600;

/// The user that runs Postgres when we are root: Postgres refuses to run as root.
const USER: &str = "postgres";

/// Superuser of the private server.
const SUPERUSER: &str = "postgres";

/// A role that owns the one schema of its name, and has rights on nothing else.
#[derive(Debug, Clone)]
pub struct Account {
    pub role: String,
    pub password: String,
}

/// A private Postgres server: `fsync` on, loopback only, passwords asked.
#[derive(Debug)]
pub struct Postgres {
    process: Arc<Process>,
    programs: PathBuf,
    port: Port,
    password: String,
}

impl Postgres {
    /// Starts the server on the data in `folder`, which is made by `programs` when it is empty; what is
    /// there is served by the major version that made it, installed beside them. As root the server
    /// runs as `postgres`, who must be able to enter every folder above.
    pub async fn start(
        programs: &Path,
        folder: &Path,
        port: Port,
        password: &str,
        output: Output,
        warden: Arc<Warden>,
    ) -> Result<Self> {
        let data = folder.join("data");
        own_folder(folder)?;
        let programs = ensure_data(programs, folder, &data, password)?;
        let mut launch = Launch::new(programs.join("postgres"));
        let settings = [
            format!("port={}", port.number()),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "max_connections=300".to_owned(),
            "fsync=on".to_owned(),
            "log_min_messages=warning".to_owned(),
            // A service that dies must not keep its lane locked for hours.
            "tcp_keepalives_idle=10".to_owned(),
        ];
        launch.args = vec!["-D".to_owned(), data.display().to_string()];
        for setting in settings {
            launch.args.extend(["-c".to_owned(), setting]);
        }
        launch.env = vec![("LC_ALL".to_owned(), "C.UTF-8".to_owned())];
        launch.user = is_root().then(|| USER.to_owned());
        launch.stop = Signal::INT;
        // At once, but with its own children ended by itself.
        launch.abandon = "QUIT";
        launch.quiet = true;
        let postgres = Self {
            process: Arc::new(Process::new("postgres", launch, output, warden)),
            programs,
            port,
            password: password.to_owned(),
        };
        postgres.restart().await?;
        Ok(postgres)
    }

    /// Starts it again, after a stop or a kill, and waits until it takes connections.
    pub async fn restart(&self) -> Result<()> {
        self.process.start()?;
        wait_until(READY_WITHIN, "Postgres", || async {
            if let Some(status) = self.process.lost() {
                // After a kill its last backends may hold the shared memory for a moment more, and
                // each has a last word of its own.
                if self
                    .process
                    .tail(LAST_WORDS)
                    .contains("shared memory block")
                {
                    self.process.start().map_err(|error| format!("{error:#}"))?;
                }
                return Err(format!("{status}: {}", self.process.last_words(5)));
            }
            self.answers().await
        })
        .await
    }

    async fn answers(&self) -> Result<(), String> {
        let mut command = tokio::process::Command::new(self.programs.join("pg_isready"));
        command.args(["-q", "-t", "2", "-h", "127.0.0.1", "-p"]);
        command.arg(self.port.number().to_string());
        let status = command.status().await.map_err(|error| error.to_string())?;
        match status.code() {
            Some(0) => Ok(()),
            Some(1) => Err("it starts, and takes no connections yet".to_owned()),
            _ => Err("no answer".to_owned()),
        }
    }

    /// Makes `database` with a schema for each account, each owned by the account's role; nobody
    /// else has rights on anything. Repeats change nothing.
    pub async fn provision(&self, database: &str, accounts: &[Account]) -> Result<()> {
        self.sql("postgres", &server_script(database, accounts))
            .await?;
        self.sql(database, &database_script(database, accounts))
            .await
    }

    /// Runs a script as the superuser; stops at the first error.
    pub async fn sql(&self, database: &str, script: &str) -> Result<()> {
        let mut child = tokio::process::Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"])
            .arg(format!(
                "postgres://{SUPERUSER}@127.0.0.1:{}/{database}",
                self.port.number()
            ))
            // Everybody may read what a process was started with.
            .env("PGPASSWORD", &self.password)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("running psql")?;
        let mut input = child.stdin.take().context("psql has no input")?;
        input.write_all(script.as_bytes()).await?;
        drop(input);
        let out = child.wait_with_output().await?;
        let words = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "psql: {words}");
        Ok(())
    }

    pub fn superuser_url(&self, database: &str) -> String {
        self.url_of(SUPERUSER, &self.password, database)
    }

    pub fn url(&self, account: &Account, database: &str) -> String {
        self.url_of(&account.role, &account.password, database)
    }

    fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        let port = self.port.number();
        format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}")
    }

    pub const fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Holds back the process that writes the log by and by. What commits wait for they write
    /// themselves; what they do not wait for stays where [`Self::cut_power`] loses it.
    pub fn hold_back(&self) -> Result<()> {
        for part in self.parts()? {
            let title = format!("/proc/{}/cmdline", part.as_raw_nonzero());
            if fs::read_to_string(title).is_ok_and(|title| title.contains("walwriter")) {
                kill_process(part, Signal::STOP).context("freezing Postgres's log writer")?;
            }
        }
        Ok(())
    }

    /// Kills all of it at once, as a power cut does: nobody writes a last word. [`Self::restart`]
    /// finds what was on the disk.
    pub fn cut_power(&self) -> Result<()> {
        // It makes no more of them.
        self.process.freeze()?;
        let parts = self.parts()?;
        self.process.kill()?;
        for part in parts {
            // Gone by itself is as good.
            let _gone = kill_process(part, Signal::KILL);
        }
        Ok(())
    }

    /// The processes that it has made.
    fn parts(&self) -> Result<Vec<Pid>> {
        let first = self.process.pid().context("it was never started")?;
        let listed = fs::read_to_string(format!("/proc/{first}/task/{first}/children"))
            .context("listing Postgres's processes")?;
        let numbers = listed.split_whitespace().map(str::parse::<i32>);
        let numbers: Result<Vec<i32>, _> = numbers.collect();
        Ok(numbers?.into_iter().filter_map(Pid::from_raw).collect())
    }

    /// Ends it at once, together with its backends, which a `kill -9` of the first process would
    /// leave for a moment.
    pub(crate) fn end(&self) -> Result<()> {
        if self.process.is_running() {
            self.process.thaw()?;
            self.process.signal(Signal::QUIT)?;
            self.process.wait()?;
        }
        self.process.kill()
    }
}

fn server_script(database: &str, accounts: &[Account]) -> String {
    let roles = accounts.iter().map(|Account { role, password }| {
        format!(
            "SELECT 'CREATE ROLE {role} LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') \\gexec\n\
             ALTER ROLE {role} PASSWORD '{password}';\n"
        )
    });
    let database = format!(
        "SELECT 'CREATE DATABASE {database}' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{database}') \\gexec\n\
         REVOKE ALL ON DATABASE {database} FROM PUBLIC;\n"
    );
    roles.chain([database]).collect()
}

fn database_script(database: &str, accounts: &[Account]) -> String {
    let schemas = accounts.iter().map(|Account { role, .. }| {
        format!(
            "GRANT CONNECT ON DATABASE {database} TO {role};\n\
             SELECT 'CREATE SCHEMA {role} AUTHORIZATION {role}' WHERE to_regnamespace('{role}') IS NULL \\gexec\n\
             ALTER ROLE {role} IN DATABASE {database} SET search_path = {role};\n"
        )
    });
    let closed = "REVOKE ALL ON SCHEMA public FROM PUBLIC;\n".to_owned();
    [closed].into_iter().chain(schemas).collect()
}

/// Makes the folder, with the owner that the server runs as. A folder that somebody else made in
/// a place where everybody may write is refused.
fn own_folder(folder: &Path) -> Result<()> {
    let owner = if is_root() {
        user_id(USER)?
    } else {
        rustix::process::geteuid().as_raw()
    };
    if !folder.exists() {
        fs::create_dir_all(folder)?;
        chown(folder, Some(owner), None)?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    let found = fs::metadata(folder)?.uid();
    ensure!(
        found == owner,
        "{} belongs to user {found}, not to {owner}, who runs Postgres",
        folder.display()
    );
    Ok(())
}

fn user_id(name: &str) -> Result<u32> {
    let users = fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1))?
    });
    let id = line.with_context(|| format!("there is no user {name}"))?;
    Ok(id.parse()?)
}

/// Makes the data when there is none. Answers the programs that serve it: a server reads only what its
/// own major version wrote, so a newer one that came beside it is of no use here.
fn ensure_data(programs: &Path, folder: &Path, data: &Path, password: &str) -> Result<PathBuf> {
    let version = data.join("PG_VERSION");
    if !version.exists() {
        initialise(programs, folder, data, password)?;
        return Ok(programs.to_owned());
    }
    let version = fs::read_to_string(version).context("reading the version of Postgres's data")?;
    let version = version.trim();
    postgres_of(version, programs).with_context(|| {
        format!(
            "the data in {} is of Postgres {version}, which is not installed: install \
             postgresql-{version}, or begin anew with `cargo xtask down --wipe`",
            data.display()
        )
    })
}

/// Makes the data beside its place, and puts it there when it is whole: what an interruption leaves is
/// not taken for data.
fn initialise(programs: &Path, folder: &Path, data: &Path, password: &str) -> Result<()> {
    let begun = folder.join("data.new");
    if begun.exists() {
        fs::remove_dir_all(&begun).context("removing data that was never finished")?;
    }
    let secret = folder.join("superuser");
    fs::write(&secret, password)?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))?;
    let mut launch = Launch::new(programs.join("initdb"));
    launch.args = [
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        // Proving a password by SCRAM gives way eight hundred times, which takes a process of a debug
        // build that is busy longer than a call waits; on loopback nobody listens in between.
        "--auth=password",
        "--username=postgres",
        "--no-instructions",
        // Written through by the server's first checkpoint; an interrupted one is made again.
        "--no-sync",
    ]
    .map(str::to_owned)
    .to_vec();
    launch.args.push(format!("--pwfile={}", secret.display()));
    launch
        .args
        .extend(["-D".to_owned(), begun.display().to_string()]);
    if is_root() {
        launch.user = Some(USER.to_owned());
        chown(&secret, Some(user_id(USER)?), None)?;
    }
    let out = launch.command().output().context("running initdb")?;
    fs::remove_file(&secret)?;
    if !out.status.success() {
        drop(fs::remove_dir_all(&begun));
        bail!("initdb: {}", String::from_utf8_lossy(&out.stderr));
    }
    fs::rename(&begun, data).with_context(|| format!("putting new data at {}", data.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs of a major version, of which `initdb` alone does anything.
    fn programs(root: &Path, version: &str, initdb: &str) -> PathBuf {
        let bin = root.join(version).join("bin");
        fs::create_dir_all(&bin).unwrap();
        for program in ["postgres", "psql", "pg_isready", "initdb"] {
            let path = bin.join(program);
            fs::write(&path, format!("#!/bin/sh\n{initdb}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        bin
    }

    /// A folder that whoever runs Postgres may enter, and one in it that is theirs.
    fn folders() -> (tempfile::TempDir, PathBuf) {
        let above = tempfile::tempdir().unwrap();
        fs::set_permissions(above.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let folder = above.path().join("postgres");
        own_folder(&folder).unwrap();
        (above, folder)
    }

    #[test]
    fn data_is_in_its_place_only_when_it_is_whole() {
        let (above, folder) = folders();
        let data = folder.join("data");
        let cut = folder.join("data.new");
        fs::create_dir(&cut).unwrap();
        fs::write(cut.join("PG_VERSION"), "15\n").unwrap();
        // As initdb it names the version early; what would a start find that came now?
        let initdb = format!(
            "for last; do :; done\n\
             mkdir \"$last\" && echo 15 >\"$last/PG_VERSION\" && test ! -e {}",
            data.display()
        );
        let bin = programs(above.path(), "15", &initdb);
        assert_eq!(ensure_data(&bin, &folder, &data, "secret").unwrap(), bin);
        assert!(data.join("PG_VERSION").exists());
        assert!(!cut.exists());
        assert!(!folder.join("superuser").exists());
    }

    #[test]
    fn data_is_served_by_the_version_that_made_it_or_the_error_says_what_to_do() {
        let (above, folder) = folders();
        let data = folder.join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("PG_VERSION"), "15\n").unwrap();
        let newer = programs(above.path(), "16", "exit 1");
        let refused = ensure_data(&newer, &folder, &data, "secret").unwrap_err();
        let refused = refused.to_string();
        let told = "is of Postgres 15, which is not installed: install postgresql-15, or begin anew with \
                    `cargo xtask down --wipe`";
        assert!(refused.ends_with(told), "{refused}");
        let own = programs(above.path(), "15", "exit 1");
        assert_eq!(ensure_data(&newer, &folder, &data, "secret").unwrap(), own);
    }
}
