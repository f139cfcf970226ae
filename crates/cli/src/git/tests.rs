use std::fs;

use tempfile::TempDir;

use super::*;

fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = [
        "-c",
        "user.name=Ada Byron",
        "-c",
        "user.email=ada@example.org",
    ];
    let output = Command::new("git")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .arg("-C")
        .arg(folder)
        .args(identity)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A tree with two commits on `main` and the folder `site` in it.
fn tree() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    git(at, &["init", "--quiet", "--initial-branch=main"]);
    fs::create_dir(at.join("site")).unwrap();
    fs::write(at.join("site/index.html"), "one").unwrap();
    git(at, &["add", "."]);
    git(at, &["commit", "--quiet", "-m", "First page"]);
    fs::write(at.join("site/index.html"), "two").unwrap();
    git(
        at,
        &[
            "commit",
            "--quiet",
            "-a",
            "-m",
            "Fix install page\n\nAt length.",
        ],
    );
    folder
}

#[test]
fn the_commit_is_read_with_its_ancestors_and_branch() {
    let folder = tree();
    let commit = head(&folder.path().join("site")).unwrap().unwrap();
    assert_eq!(commit.id, git(folder.path(), &["rev-parse", "HEAD"]));
    let parent = git(folder.path(), &["rev-parse", "HEAD~1"]);
    assert_eq!(
        (&commit.parents, &commit.ancestors),
        (&vec![parent.clone()], &vec![parent])
    );
    let said = [
        &commit.branch,
        &commit.message,
        &commit.author,
        &commit.author_email,
    ];
    assert_eq!(
        said,
        ["main", "Fix install page", "Ada Byron", "ada@example.org"]
    );
    assert!(commit.committed_at.is_some() && !commit.dirty && !commit.shallow);
}

#[test]
fn what_does_not_print_is_left_out_of_what_a_commit_says() {
    let folder = tree();
    let message = "Show it in \u{1b}[31mred";
    git(
        folder.path(),
        &["commit", "--quiet", "--allow-empty", "-m", message],
    );
    let commit = head(folder.path()).unwrap().unwrap();
    assert_eq!(commit.message, "Show it in [31mred");
}

#[test]
fn a_change_that_no_commit_holds_makes_it_dirty() {
    for (path, dirty) in [
        ("site/index.html", true),
        ("site/new.html", true),
        ("notes.txt", true),
    ] {
        let folder = tree();
        fs::write(folder.path().join(path), "changed").unwrap();
        let commit = head(&folder.path().join("site")).unwrap().unwrap();
        assert_eq!(commit.dirty, dirty, "{path}");
    }
}

#[test]
fn the_output_of_a_build_is_no_change() {
    let folder = tree();
    let public = folder.path().join("public");
    fs::create_dir(&public).unwrap();
    fs::write(public.join("index.html"), "built").unwrap();
    assert!(!head(&public).unwrap().unwrap().dirty);
    fs::write(folder.path().join("site/index.html"), "changed").unwrap();
    assert!(head(&public).unwrap().unwrap().dirty);
}

#[test]
fn outside_a_tree_and_before_the_first_commit_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(head(folder.path()).unwrap(), None);
    git(folder.path(), &["init", "--quiet"]);
    assert_eq!(head(folder.path()).unwrap(), None);
}

#[test]
fn a_named_commit_is_read_here_or_taken_at_its_word() {
    let folder = tree();
    assert_eq!(
        named(folder.path(), "HEAD~1").unwrap().message,
        "First page"
    );
    let elsewhere = "0123456789ABCDEF0123456789abcdef01234567";
    let commit = named(folder.path(), elsewhere).unwrap();
    assert_eq!(
        (commit.id, commit.message),
        (elsewhere.to_lowercase(), String::new())
    );
    assert!(matches!(
        named(folder.path(), "v9"),
        Err(Error::Unknown { .. })
    ));
    assert!(matches!(
        named(folder.path(), "--all"),
        Err(Error::Unknown { .. })
    ));
}
