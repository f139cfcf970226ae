//! The distribution's programs: found always in the same places, installed when missing.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Oldest Postgres whose SQL we use.
const OLDEST_POSTGRES: u32 = 15;

/// Asked by package scripts before they start a service; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Keeps the Postgres packages from making a cluster of their own.
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/candlefish.conf";

/// Packages that would start a service of their own name at boot.
const SERVICES: [&str; 2] = ["nats-server", "prometheus"];

/// What Prometheus recommends are services that look at the machine.
const INSTALL: [&str; 4] = ["install", "-y", "-qq", "--no-install-recommends"];

/// What a stack runs besides our own binaries. Never looked up on `PATH`, where another version
/// may happen to be first.
#[derive(Debug, Clone)]
pub struct Programs {
    /// Folder of `postgres`, `initdb`, `psql`, `pg_isready`.
    pub postgres: PathBuf,
    pub nats_server: PathBuf,
    pub openssl: PathBuf,
}

impl Programs {
    /// What is there; otherwise the packages that are missing.
    pub fn find() -> Result<Self, Vec<&'static str>> {
        let postgres = newest_postgres(Path::new("/usr/lib/postgresql"));
        let nats_server = first(&["/usr/sbin/nats-server", "/usr/bin/nats-server"]);
        let openssl = first(&["/usr/bin/openssl"]);
        // What the documents tell people to type, and their tests do.
        let curl = first(&["/usr/bin/curl"]);
        match (postgres, nats_server, openssl, &curl) {
            (Some(postgres), Some(nats_server), Some(openssl), Some(_)) => Ok(Self {
                postgres,
                nats_server,
                openssl,
            }),
            (postgres, nats_server, openssl, curl) => {
                let packages = [
                    (postgres.is_none(), "postgresql"),
                    (nats_server.is_none(), "nats-server"),
                    (openssl.is_none(), "openssl"),
                    (curl.is_none(), "curl"),
                ];
                let missing = packages.iter().filter(|(missing, _)| *missing);
                Err(missing.map(|(_, package)| *package).collect())
            }
        }
    }

    /// What is there, after installing what is not.
    pub fn install(progress: &dyn Fn(&str)) -> Result<Self> {
        if let Err(missing) = Self::find() {
            packages(&missing, progress)?;
        }
        Self::find().map_err(|missing| {
            anyhow::anyhow!(
                "installed, but still not found: {}; Postgres must be {OLDEST_POSTGRES} or newer",
                missing.join(", ")
            )
        })
    }
}

/// Prometheus's own checker of metrics, installed when it is missing. Its service stays off.
pub fn promtool(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let find = || first(&["/usr/bin/promtool"]);
    if find().is_none() {
        packages(&["prometheus"], progress)?;
    }
    find().context("installed, but still not found: promtool")
}

fn first(paths: &[&str]) -> Option<PathBuf> {
    paths.iter().map(PathBuf::from).find(|path| path.is_file())
}

fn newest_postgres(root: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(root).ok()?.flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let bin = entry.path().join("bin");
        let whole = ["postgres", "initdb", "psql", "pg_isready"]
            .iter()
            .all(|program| bin.join(program).is_file());
        (version >= OLDEST_POSTGRES && whole).then_some((version, bin))
    });
    versions.max().map(|(_, bin)| bin)
}

/// Installs Debian packages without starting what they bring. Root, or sudo; otherwise the error
/// says what to run.
pub fn packages(names: &[&str], progress: &dyn Fn(&str)) -> Result<()> {
    let list = names.join(" ");
    ensure!(
        Path::new("/usr/bin/apt-get").is_file(),
        "missing: {list}. This is no Debian or Ubuntu, so install them by hand."
    );
    let root = is_root();
    let by_hand = format!("missing: {list}. Run this once:  sudo apt-get install -y {list}");
    ensure!(root || may_sudo(), "{by_hand}");
    progress(&format!("installing {list} by apt (services stay off)"));
    let _quiet = Quiet::start(root)?;
    // A list of packages that is fresh enough needs no update.
    if !apt(root, &[&INSTALL[..], names].concat())? {
        apt(root, &["update", "-qq"])?;
        ensure!(apt(root, &[&INSTALL[..], names].concat())?, "{by_hand}");
    }
    keep_off(root, names);
    Ok(())
}

/// Whether this process may become other users.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn may_sudo() -> bool {
    let quietly = Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match quietly {
        Ok(status) if status.success() => true,
        // sudo exists; at a terminal it can ask for the password.
        Ok(_) => std::io::stdin().is_terminal(),
        Err(_) => false,
    }
}

fn as_root(root: bool, program: &str) -> Command {
    if root {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

fn apt(root: bool, args: &[&str]) -> Result<bool> {
    let mut command = if root {
        Command::new("apt-get")
    } else {
        let mut command = Command::new("sudo");
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    };
    let status = command
        .args(["-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("running apt-get")?;
    Ok(status.success())
}

/// While this lives, package scripts start no service and make no Postgres cluster.
struct Quiet {
    root: bool,
    ours: Vec<&'static str>,
}

impl Quiet {
    fn start(root: bool) -> Result<Self> {
        let mut quiet = Self {
            root,
            ours: Vec::new(),
        };
        quiet.put(POLICY, "#!/bin/sh\nexit 101\n", 0o755)?;
        quiet.put(NO_CLUSTER, "create_main_cluster = false\n", 0o644)?;
        Ok(quiet)
    }

    fn put(&mut self, path: &'static str, text: &str, mode: u32) -> Result<()> {
        if Path::new(path).exists() {
            return Ok(());
        }
        let copy = std::env::temp_dir().join(format!("candlefish-{}", std::process::id()));
        fs::File::create(&copy)?.write_all(text.as_bytes())?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode))?;
        let status = as_root(self.root, "install")
            .args(["-D", "-m", &format!("{mode:o}")])
            .args([copy.as_os_str(), path.as_ref()])
            .status()?;
        fs::remove_file(&copy)?;
        if !status.success() {
            bail!("could not write {path}");
        }
        self.ours.push(path);
        Ok(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        for path in &self.ours {
            // What stays behind is an empty wish to start nothing; the installation has succeeded.
            drop(as_root(self.root, "rm").args(["-f", path]).status());
        }
    }
}

/// Otherwise the next boot would start what we only wanted on disk.
fn keep_off(root: bool, names: &[&str]) {
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    for service in SERVICES.iter().filter(|service| names.contains(service)) {
        let mut command = as_root(root, "systemctl");
        drop(command.args(["disable", "--quiet", service]).status());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_postgres_is_taken_and_an_old_one_never() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(newest_postgres(root.path()), None);
        for (version, whole) in [("13", true), ("15", true), ("16", true), ("17", false)] {
            let bin = root.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join("postgres"), "").unwrap();
            if whole {
                for program in ["initdb", "psql", "pg_isready"] {
                    fs::write(bin.join(program), "").unwrap();
                }
            }
        }
        assert_eq!(
            newest_postgres(root.path()),
            Some(root.path().join("16/bin"))
        );
        fs::remove_dir_all(root.path().join("16")).unwrap();
        fs::remove_dir_all(root.path().join("15")).unwrap();
        assert_eq!(newest_postgres(root.path()), None);
    }
}
