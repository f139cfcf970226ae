//! The commit that a folder was built from, and what the command line says about it.

use std::path::{Path, PathBuf};

use super::Args;
use crate::{
    app::App,
    error::Error,
    git::{self, Commit},
    render::words,
};

/// The named commit, the checked-out one, or none. That git cannot say which is checked out is told,
/// and is no reason not to deploy; one that was named is never left out.
pub(super) async fn of(app: &App, dir: &Path, args: &Args) -> Result<Commit, Error> {
    let (dir, named) = (dir.to_owned(), args.commit.clone());
    let found = tokio::task::spawn_blocking(move || read(&dir, named.as_deref()));
    let mut commit = match found.await.expect("reading a commit does not panic") {
        Ok(commit) => commit,
        Err(error) => unread(app, error, args.commit.as_deref())?,
    };
    if commit.shallow {
        app.output.note(&shallow(commit.ancestors.len()));
    }
    if let Some(branch) = &args.branch {
        commit.branch.clone_from(branch);
    }
    if let Some(message) = &args.message {
        commit.message.clone_from(message);
    }
    Ok(commit)
}

fn shallow(known: usize) -> String {
    let ancestors = words::counted(i64::try_from(known).unwrap_or(i64::MAX), "ancestor");
    let are = if known == 1 { "is" } else { "are" };
    format!(
        "  This clone is shallow: {ancestors} {are} known. A full one (fetch-depth: 0) orders deployments better."
    )
}

/// What the release carries when git does not say it, as in a container whose user does not own the
/// clone ("dubious ownership"): the named commit, if that is a whole hash.
fn unread(app: &App, error: git::Error, named: Option<&str>) -> Result<Commit, git::Error> {
    let (commit, carries) = match named {
        None => (Commit::default(), "no commit (--commit names one)"),
        Some(named) => {
            let Some(commit) = Commit::of_hash(named) else {
                return Err(error);
            };
            (commit, "the named commit, without its ancestors")
        }
    };
    app.output
        .note(&format!("  {error}: the release carries {carries}."));
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
        // Whoever names a commit answers for it: what a build leaves in the tree is no part of it.
        Some(head) if head.id == commit.id => Ok(Commit {
            dirty: false,
            ..head
        }),
        _ => Ok(commit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shallow_clone_says_how_many_ancestors_are_known() {
        for (known, words) in [
            (0, "0 ancestors are known"),
            (1, "1 ancestor is known"),
            (49, "49 ancestors are known"),
        ] {
            assert!(shallow(known).contains(words), "{}", shallow(known));
        }
    }
}
