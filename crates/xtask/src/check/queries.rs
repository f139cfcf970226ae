//! Checked queries: what is stored in `.sqlx` is what the migrations and the code say today.
//!
//! A private Postgres gets the migrations, the workspace is checked against it, and what that
//! stores is compared with what the tree holds. Nothing of the tree is written.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candlefish_devstack::Stack;

use crate::cargo;
use crate::check::Outcome;
use crate::workspace::Workspace;

mod leftovers;

/// A crate with checked queries, and the role whose schema they run in.
struct Owner {
    package: &'static str,
    folder: &'static str,
    role: &'static str,
}

/// messaging's tables are the same in every schema.
const OWNERS: [Owner; 3] = [
    Owner {
        package: "candlefish-messaging",
        folder: "crates/messaging",
        role: "deploy",
    },
    Owner {
        package: "deploy-orchestrator",
        folder: "crates/deploy-orchestrator",
        role: "deploy",
    },
    Owner {
        package: "gateway",
        folder: "crates/gateway",
        role: "gateway",
    },
];

pub(super) async fn check(workspace: &Workspace) -> Outcome {
    let fresh = tempfile::tempdir()?;
    store(workspace, fresh.path()).await?;
    let mut faults = Vec::new();
    for owner in OWNERS {
        let stored = workspace.root.join(owner.folder).join(".sqlx");
        let folder = fresh.path().join(owner.package);
        let (old, new) = (names(&stored)?, names(&folder)?);
        for name in old.symmetric_difference(&new) {
            let word = if new.contains(name) {
                "is missing"
            } else {
                "is of no use"
            };
            faults.push(format!("{}/.sqlx/{name} {word}", owner.folder));
        }
        for name in old.intersection(&new) {
            if !same(&stored.join(name), &folder.join(name))? {
                faults.push(format!("{}/.sqlx/{name} is out of date", owner.folder));
            }
        }
    }
    ensure!(
        faults.is_empty(),
        "{}\nrenew them with `cargo xtask prepare`",
        faults.join("\n")
    );
    Ok(())
}

/// Replaces what is stored.
pub(crate) async fn renew(workspace: &Workspace) -> Result<()> {
    let fresh = tempfile::tempdir()?;
    store(workspace, fresh.path()).await?;
    for owner in OWNERS {
        let stored = workspace.root.join(owner.folder).join(".sqlx");
        let folder = fresh.path().join(owner.package);
        let (old, new) = (names(&stored)?, names(&folder)?);
        for name in old.difference(&new) {
            fs::remove_file(stored.join(name))?;
        }
        for name in &new {
            fs::create_dir_all(&stored)?;
            fs::copy(folder.join(name), stored.join(name))?;
        }
        println!("{}: {} queries", owner.package, new.len());
    }
    Ok(())
}

/// Stores every crate's queries, as of today, in a folder of its own below `fresh`.
async fn store(workspace: &Workspace, fresh: &Path) -> Result<()> {
    let stack = migrated(workspace).await?;
    let wrapper = wrapper(&stack, fresh)?;
    let mut command = cargo::command(workspace);
    command.args([
        "check",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
    ]);
    command.args(["--message-format", "json-render-diagnostics"]);
    command.env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
    command.env("CARGO_INCREMENTAL", "0");
    let told = cargo::output(command)?;
    leftovers::remove(&told)?;
    stack.stop().await
}

/// A private Postgres with every service's migrations applied, each by its own role.
async fn migrated(workspace: &Workspace) -> Result<Stack> {
    let stack = Stack::builder().replicas(0, 0, 0).start().await?;
    for owner in OWNERS {
        let role = owner.role;
        for path in workspace.files(&format!("{}/migrations", owner.folder))? {
            let sql = workspace.read(&path)?;
            let login = format!("SET SESSION AUTHORIZATION {role}; SET search_path = {role};\n");
            let applied = stack.postgres().sql("candlefish", &(login + &sql)).await;
            applied.with_context(|| path.display().to_string())?;
        }
    }
    Ok(stack)
}

/// What cargo runs instead of rustc, for crates of the workspace alone: it tells each crate its own
/// database and folder. Its path has never been used before, so cargo compiles them all anew, while
/// everything else is shared with the other checks.
fn wrapper(stack: &Stack, fresh: &Path) -> Result<PathBuf> {
    let mut script = "#!/bin/sh\ncase $CARGO_PKG_NAME in\n".to_owned();
    for Owner { package, role, .. } in OWNERS {
        let folder = fresh.join(package);
        fs::create_dir_all(&folder)?;
        let url = stack.database_url(role).context("an unknown role")?;
        let folder = folder.display();
        let line = format!("{package}) DATABASE_URL='{url}' SQLX_OFFLINE_DIR='{folder}' ;;\n");
        script.push_str(&line);
    }
    script += "*) exec \"$@\" ;;\nesac\n";
    script += "export DATABASE_URL SQLX_OFFLINE_DIR SQLX_OFFLINE=false\nexec \"$@\"\n";
    let path = fresh.join("rustc");
    fs::write(&path, script)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    if !folder.exists() {
        return Ok(BTreeSet::new());
    }
    let entries = fs::read_dir(folder)?.map(|entry| {
        let name = entry?.file_name();
        Ok(name.to_string_lossy().into_owned())
    });
    let names: Result<BTreeSet<String>> = entries.collect();
    let only = |name: &String| name.starts_with("query-");
    Ok(names?.into_iter().filter(only).collect())
}

fn same(one: &Path, other: &Path) -> Result<bool> {
    let read = |path: &Path| -> Result<serde_json::Value> {
        let text = fs::read_to_string(path)?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    };
    Ok(read(one)? == read(other)?)
}
