//! The distribution's programs: found always in the same places, installed when missing.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};

mod guard;

/// Oldest Postgres whose SQL we use.
const OLDEST_POSTGRES: u32 = 15;

/// Has a folder for each major version of Postgres.
const POSTGRES: &str = "/usr/lib/postgresql";

const NATS_SERVER: [&str; 2] = ["/usr/sbin/nats-server", "/usr/bin/nats-server"];

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
        let postgres = newest_postgres(Path::new(POSTGRES));
        let nats_server = first(&NATS_SERVER);
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
        guard::sweep(progress);
        if let Err(missing) = Self::find() {
            packages(&missing, progress)?;
        }
        Self::find().map_err(|missing| anyhow!(still_missing(&missing)))
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
        (version >= OLDEST_POSTGRES && is_whole(&bin)).then_some((version, bin))
    });
    versions.max().map(|(_, bin)| bin)
}

/// The programs of the major version `version`, where they are installed beside those of another.
pub(crate) fn postgres_of(version: &str, other: &Path) -> Option<PathBuf> {
    let bin = other.ancestors().nth(2)?.join(version).join("bin");
    is_whole(&bin).then_some(bin)
}

fn is_whole(bin: &Path) -> bool {
    ["postgres", "initdb", "psql", "pg_isready"]
        .iter()
        .all(|program| bin.join(program).is_file())
}

/// What a system says whose packages are there, and are not what is needed.
fn still_missing(missing: &[&str]) -> String {
    let text = format!(
        "installed, but still not found: {}",
        places(missing).join(", ")
    );
    if !missing.contains(&"postgresql") {
        return text;
    }
    let package = format!("postgresql-{OLDEST_POSTGRES}");
    let by_hand = guard::by_hand(&[&package]);
    format!(
        "{text}. This system's packages have an older Postgres; {OLDEST_POSTGRES} or newer is at \
         apt.postgresql.org. Run this once:\n  \
         sudo apt-get install -y postgresql-common\n  \
         sudo /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y\n{by_hand}"
    )
}

/// The packages, each with the places where its program is looked for.
fn places(packages: &[&str]) -> Vec<String> {
    let packages = packages.iter().map(|&package| match package {
        "postgresql" => format!("{package} (in {POSTGRES}/<{OLDEST_POSTGRES} or newer>/bin)"),
        "nats-server" => format!("{package} (as {})", NATS_SERVER.join(" or ")),
        "openssl" | "curl" => format!("{package} (as /usr/bin/{package})"),
        _ => package.to_owned(),
    });
    packages.collect()
}

/// Installs Debian packages without starting what they bring. Root, or sudo; otherwise the error
/// says what to run.
pub fn packages(names: &[&str], progress: &dyn Fn(&str)) -> Result<()> {
    let list = names.join(" ");
    ensure!(
        Path::new("/usr/bin/apt-get").is_file(),
        "missing: {}. There is no apt-get here, so install them by hand.",
        places(names).join(", ")
    );
    let root = is_root();
    let by_hand = || format!("missing: {list}. Run this once:\n{}", guard::by_hand(names));
    ensure!(root || may_sudo(), by_hand());
    progress(&format!("installing {list} by apt (services stay off)"));
    let _guards = guard::start(root)?;
    // A list of packages that is fresh enough needs no update.
    if !apt(root, &[&INSTALL[..], names].concat())? {
        apt(root, &["update", "-qq"])?;
        ensure!(apt(root, &[&INSTALL[..], names].concat())?, by_hand());
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

    #[test]
    fn who_has_no_apt_or_too_old_a_distribution_is_told_what_to_install_and_where_it_is_looked_for()
    {
        assert_eq!(
            places(&["postgresql", "nats-server", "curl", "wrk"]),
            [
                "postgresql (in /usr/lib/postgresql/<15 or newer>/bin)",
                "nats-server (as /usr/sbin/nats-server or /usr/bin/nats-server)",
                "curl (as /usr/bin/curl)",
                "wrk",
            ]
        );
        let told = still_missing(&["postgresql"]);
        for part in [
            "15 or newer is at apt.postgresql.org",
            "apt.postgresql.org.sh -y\n",
            "sudo apt-get install -y --no-install-recommends postgresql-15",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!still_missing(&["curl"]).contains("Postgres"));
    }
}
