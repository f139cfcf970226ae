//! The commit that a folder was built from, and what the command line says about it.

use std::path::{Path, PathBuf};

use super::Args;
use crate::{
    app::App,
    error::Error,
    git::{self, Commit},
};

/// The checked-out commit, the named one, or none. What git cannot say is told, and is no reason
/// not to deploy.
pub(super) async fn of(app: &App, dir: &Path, args: &Args) -> Result<Commit, Error> {
    let (dir, named) = (dir.to_owned(), args.commit.clone());
    let found = tokio::task::spawn_blocking(move || read(&dir, named.as_deref()));
    let mut commit = match found.await.expect("reading a commit does not panic") {
        Ok(commit) => commit,
        Err(error @ git::Error::Unknown { .. }) => return Err(error.into()),
        Err(error) => {
            app.output.note(&format!(
                "  {error}: the release carries no commit (--commit names one)."
            ));
            Commit::default()
        }
    };
    if commit.shallow {
        app.output.note(&format!(
            "  This clone is shallow: {} ancestors are known. A full one (fetch-depth: 0) orders deployments better.",
            commit.ancestors.len()
        ));
    }
    if let Some(branch) = &args.branch {
        commit.branch.clone_from(branch);
    }
    if let Some(message) = &args.message {
        commit.message.clone_from(message);
    }
    Ok(commit)
}

fn read(dir: &Path, named: Option<&str>) -> Result<Commit, git::Error> {
    let head = git::head(dir)?;
    let Some(named) = named else {
        return Ok(head.unwrap_or_default());
    };
    // What was built elsewhere (in CI: outside the clone) may come from the tree that we are in.
    let tree = if head.is_some() {
        dir.to_owned()
    } else {
        PathBuf::from(".")
    };
    let commit = git::named(&tree, named)?;
    match head {
        Some(head) if head.id == commit.id => Ok(head),
        _ => Ok(commit),
    }
}
