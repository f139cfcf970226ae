//! Checked queries: what is stored in `.sqlx` is what the migrations and the code say today.
//!
//! A private Postgres gets the migrations, the crates are compiled against it, and what that
//! stores is compared with what the tree holds. Nothing of the tree is written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use candlefish_devstack::Stack;

use crate::cargo;
use crate::check::Outcome;
use crate::workspace::Workspace;

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
    let stack = migrated(workspace).await?;
    let fresh = tempfile::tempdir()?;
    let mut faults = Vec::new();
    for owner in OWNERS {
        let folder = fresh.path().join(owner.package);
        compile(workspace, &stack, &owner, &folder)?;
        let stored = workspace.root.join(owner.folder).join(".sqlx");
        let (stored, fresh) = (names(&stored)?, names(&folder)?);
        for name in stored.symmetric_difference(&fresh) {
            let word = if fresh.contains(name) {
                "is missing"
            } else {
                "is of no use"
            };
            faults.push(format!("{}/.sqlx/{name} {word}", owner.folder));
        }
        for name in stored.intersection(&fresh) {
            let path = workspace.root.join(owner.folder).join(".sqlx").join(name);
            if !same(&path, &folder.join(name))? {
                faults.push(format!("{}/.sqlx/{name} is out of date", owner.folder));
            }
        }
    }
    stack.stop().await?;
    ensure!(
        faults.is_empty(),
        "{}\nrenew them with `cargo xtask prepare`",
        faults.join("\n")
    );
    Ok(())
}

/// Replaces what is stored.
pub(crate) async fn renew(workspace: &Workspace) -> Result<()> {
    let stack = migrated(workspace).await?;
    for owner in OWNERS {
        let fresh = tempfile::tempdir()?;
        compile(workspace, &stack, &owner, fresh.path())?;
        let stored = workspace.root.join(owner.folder).join(".sqlx");
        let (old, new) = (names(&stored)?, names(fresh.path())?);
        for name in old.difference(&new) {
            fs::remove_file(stored.join(name))?;
        }
        for name in &new {
            fs::create_dir_all(&stored)?;
            fs::copy(fresh.path().join(name), stored.join(name))?;
        }
        println!("{}: {} queries", owner.package, new.len());
    }
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

/// Compiles the crate alone and anew, with its tests, against the database.
fn compile(workspace: &Workspace, stack: &Stack, owner: &Owner, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let url = stack.database_url(owner.role).context("an unknown role")?;
    for profile in ["check", "test"] {
        let mut command: Command = cargo::command(workspace);
        command.args(["rustc", "--quiet", "--locked", "--lib"]);
        command.args(["--package", owner.package, "--profile", profile]);
        // A flag that was never used before makes cargo compile it although no file has changed.
        let unique = format!("--cfg=queries_{}_{}", std::process::id(), profile);
        command.args(["--", &unique]);
        command.env("SQLX_OFFLINE", "false");
        command.env("SQLX_OFFLINE_DIR", folder);
        command.env("DATABASE_URL", &url);
        cargo::run(command)?;
    }
    Ok(())
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
