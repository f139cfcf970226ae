//! Files that keep packages from starting what they bring, for the time of an installation.
//!
//! An installation can be cut short, and no signal handler is set up by then. So each file names the
//! process that wrote it: what a dead one left is ours to remove, and what anybody else wrote is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{as_root, is_root, may_sudo};

/// Asked by package scripts before they start a service; 101 means no.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const REFUSE: &str = "#!/bin/sh\nexit 101\n";

/// Keeps the Postgres packages from making a cluster of their own.
const NO_CLUSTER: &str = "/etc/postgresql-common/createcluster.d/candlefish.conf";
const MAKE_NONE: &str = "create_main_cluster = false\n";

/// The last line of a file of ours, before the number of the process that wrote it.
const MARK: &str = "# Here while candlefish installs packages: process ";

/// Packages with services, by how their names begin.
const WITH_SERVICES: [&str; 4] = ["postgresql", "nats-server", "prometheus", "nginx"];

/// A file that is removed with this.
#[derive(Debug)]
pub(super) struct Guard {
    path: PathBuf,
    text: String,
    root: bool,
}

/// While these live, package scripts start no service and make no Postgres cluster.
pub(super) fn start(root: bool) -> Result<Vec<Guard>> {
    let policy = Guard::put(Path::new(POLICY), REFUSE, 0o755, root)?;
    let no_cluster = Guard::put(Path::new(NO_CLUSTER), MAKE_NONE, 0o644, root)?;
    Ok(policy.into_iter().chain(no_cluster).collect())
}

/// Removes what an installation left that was cut short: with it no package could start a service.
/// Says so, and what to type where this is not possible.
pub(super) fn sweep(progress: &dyn Fn(&str)) {
    let left: Vec<&str> = [POLICY, NO_CLUSTER]
        .into_iter()
        .filter(|path| is_left(Path::new(path)))
        .collect();
    if left.is_empty() {
        return;
    }
    let root = is_root();
    let list = left.join(" ");
    let mut command = as_root(root, "rm");
    command.arg("-f").args(&left);
    let may = root || may_sudo();
    if may && command.status().is_ok_and(|status| status.success()) {
        progress(&format!(
            "removed what an interrupted installation left: {list}"
        ));
    } else {
        progress(&format!(
            "an interrupted installation left what keeps packages from starting services; remove \
             it:  sudo rm -f {list}"
        ));
    }
}

/// Lines to be typed that install these packages and start no service of theirs.
pub(super) fn by_hand(packages: &[&str]) -> String {
    let (before, after) = if packages.iter().any(|package| has_service(package)) {
        // One of ours is gone by then.
        let absent = |path: &&str| is_free(Path::new(path));
        around([POLICY, NO_CLUSTER].into_iter().filter(absent))
    } else {
        (String::new(), String::new())
    };
    let list = packages.join(" ");
    format!("{before}  sudo apt-get install -y --no-install-recommends {list}{after}")
}

fn has_service(package: &str) -> bool {
    let mut names = WITH_SERVICES.iter();
    names.any(|name| package.starts_with(name))
}

/// What is typed before and after an installation, to have these files in between.
fn around<'a>(files: impl Iterator<Item = &'a str>) -> (String, String) {
    let mut before = String::new();
    let mut paths = String::new();
    for path in files {
        before.push_str(if path == POLICY {
            "  printf '#!/bin/sh\\nexit 101\\n' | sudo tee /usr/sbin/policy-rc.d\n  \
             sudo chmod 755 /usr/sbin/policy-rc.d\n"
        } else {
            "  sudo mkdir -p /etc/postgresql-common/createcluster.d\n  \
             echo create_main_cluster = false | \
             sudo tee /etc/postgresql-common/createcluster.d/candlefish.conf\n"
        });
        paths.push(' ');
        paths.push_str(path);
    }
    let after = if paths.is_empty() {
        paths
    } else {
        format!("\n  sudo rm{paths}")
    };
    (before, after)
}

impl Guard {
    /// None where somebody else's file is in the place: it is left as it is, and so is what it wishes.
    fn put(path: &Path, wish: &str, mode: u32, root: bool) -> Result<Option<Self>> {
        if !is_free(path) {
            return Ok(None);
        }
        let text = format!("{wish}{MARK}{}\n", std::process::id());
        let copy = std::env::temp_dir().join(format!("candlefish-{}", std::process::id()));
        fs::write(&copy, &text).with_context(|| format!("writing {}", copy.display()))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(mode))?;
        let status = as_root(root, "install")
            .args(["-D", "-m", &format!("{mode:o}")])
            .args([copy.as_path(), path])
            .status()?;
        fs::remove_file(&copy)?;
        ensure!(status.success(), "could not write {}", path.display());
        Ok(Some(Self {
            path: path.to_owned(),
            text,
            root,
        }))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Another run that installs at the same time has put its own in the place, and needs it.
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            // What stays behind is the next run's to remove; the installation has succeeded.
            drop(as_root(self.root, "rm").arg("-f").arg(&self.path).status());
        }
    }
}

/// The process that wrote a file of ours; none when it is somebody else's, or not there.
fn writer(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    let (_, process) = text.rsplit_once(MARK)?;
    process.trim().parse().ok()
}

/// Whether nothing of somebody else's is there.
fn is_free(path: &Path) -> bool {
    !path.exists() || writer(path).is_some()
}

fn is_left(path: &Path) -> bool {
    writer(path).is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than any process has.
    const DEAD: u32 = 99_999_999;

    /// As root does it, which needs no right in a folder of ours.
    fn put(path: &Path) -> Option<Guard> {
        Guard::put(path, REFUSE, 0o755, true).unwrap()
    }

    #[test]
    fn what_a_killed_run_left_is_ours_and_goes_with_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sbin/policy-rc.d");
        let guard = put(&path).unwrap();
        assert!(
            fs::read_to_string(&path)
                .unwrap()
                .starts_with("#!/bin/sh\nexit 101\n")
        );
        assert!(!is_left(&path), "its writer lives");
        drop(guard);
        assert!(!path.exists());

        fs::write(&path, format!("{REFUSE}{MARK}{DEAD}\n")).unwrap();
        assert!(is_left(&path));
        drop(put(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_somebody_else_stays_also_one_that_came_in_between() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy-rc.d");
        fs::write(&path, REFUSE).unwrap();
        assert!(put(&path).is_none());
        assert!(!is_left(&path));
        fs::remove_file(&path).unwrap();

        let guard = put(&path).unwrap();
        let others = format!("{REFUSE}{MARK}{DEAD}\n");
        fs::write(&path, &others).unwrap();
        drop(guard);
        assert_eq!(fs::read_to_string(&path).unwrap(), others);
    }

    #[test]
    fn what_is_typed_by_hand_starts_no_service_either() {
        let (before, after) = around([POLICY, NO_CLUSTER].into_iter());
        assert_eq!(
            before,
            "  printf '#!/bin/sh\\nexit 101\\n' | sudo tee /usr/sbin/policy-rc.d\n  \
             sudo chmod 755 /usr/sbin/policy-rc.d\n  \
             sudo mkdir -p /etc/postgresql-common/createcluster.d\n  \
             echo create_main_cluster = false | sudo tee /etc/postgresql-common/createcluster.d/candlefish.conf\n"
        );
        assert_eq!(after, format!("\n  sudo rm {POLICY} {NO_CLUSTER}"));
        assert_eq!(
            by_hand(&["python3-venv", "curl"]),
            "  sudo apt-get install -y --no-install-recommends python3-venv curl"
        );
        for package in ["postgresql", "postgresql-15", "nats-server", "nginx-light"] {
            assert!(has_service(package), "{package}");
        }
    }
}
