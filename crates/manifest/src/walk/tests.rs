use std::os::unix::{ffi::OsStrExt as _, fs::symlink};

use super::*;
use crate::{Manifest, digest_of};

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let at = dir.path().join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text).unwrap();
    }
    dir
}

fn paths(dir: &Path) -> Vec<String> {
    let files = walk(dir, &Limits::default()).unwrap();
    files.into_iter().map(|f| f.path).collect()
}

#[test]
fn a_folder_becomes_entries_and_git_is_left_out() {
    let dir = tree(&[
        ("index.html", "home"),
        ("b/c.css", "css"),
        (".git/config", "secret"),
        ("b/.git", "gitdir: elsewhere"),
        (".gitignore", "x"),
    ]);
    let files = walk(dir.path(), &Limits::default()).unwrap();
    let mut seen = Vec::new();
    let entries = hash(&files, &Limits::default(), |p| seen.push(p)).unwrap();
    assert_eq!(paths(dir.path()), [".gitignore", "b/c.css", "index.html"]);
    assert_eq!(entries[2].digest, digest_of(b"home"));
    assert_eq!(entries[2].content_type, "text/html; charset=utf-8");
    assert_eq!(seen.last(), Some(&Progress { files: 3, bytes: 8 }));
    Manifest::build(entries, &Limits::default()).unwrap();
}

#[test]
fn links_inside_the_tree_are_followed() {
    let dir = tree(&[("a/page.html", "x")]);
    symlink("a/page.html", dir.path().join("page.html")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    assert_eq!(
        paths(dir.path()),
        ["a/page.html", "b/page.html", "page.html"]
    );
}

#[test]
fn links_that_leave_the_tree_or_loop_are_refused_by_name() {
    let outside = tree(&[("secret", "x")]);
    let refused = |target: &Path| {
        let dir = tree(&[("a/page.html", "x"), (".git/config", "x")]);
        symlink(target, dir.path().join("a/link")).unwrap();
        walk(dir.path(), &Limits::default()).unwrap_err()
    };
    for target in [
        outside.path().join("secret"),
        outside.path().to_owned(),
        PathBuf::from("../.git/config"),
        PathBuf::from("../../"),
    ] {
        let error = refused(&target);
        assert!(
            matches!(&error, Error::LinkOut { path, .. } if path == "a/link"),
            "{error}"
        );
    }
    let looped = refused(Path::new(".."));
    assert!(
        matches!(&looped, Error::LinkLoop { path } if path == "a/link"),
        "{looped}"
    );
    let broken = refused(Path::new("nowhere"));
    assert!(
        matches!(&broken, Error::Read { path, .. } if path == "a/link"),
        "{broken}"
    );
}

#[test]
fn names_that_a_release_cannot_hold_are_refused() {
    let dir = tree(&[("A.html", "x"), ("a.html", "y")]);
    let error = walk(dir.path(), &Limits::default()).unwrap_err();
    assert!(
        matches!(error, Error::Path(PathError::Case { .. })),
        "{error}"
    );
    let dir = tree(&[("a\\b", "x")]);
    let error = walk(dir.path(), &Limits::default()).unwrap_err();
    assert!(
        matches!(error, Error::Path(PathError::Backslash { .. })),
        "{error}"
    );
    let dir = tree(&[]);
    let name = std::ffi::OsStr::from_bytes(b"bad\xff");
    fs::write(dir.path().join(name), "x").unwrap();
    let error = walk(dir.path(), &Limits::default()).unwrap_err();
    assert!(
        matches!(error, Error::Path(PathError::NotUtf8 { .. })),
        "{error}"
    );
}

#[test]
fn limits_stop_the_walk() {
    let dir = tree(&[("a", "12345"), ("b", "12345")]);
    let with = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        walk(dir.path(), &limits).unwrap_err().to_string()
    };
    assert!(with(|l| l.files = 1).contains("2 files, more than 1"));
    assert!(with(|l| l.file_bytes = 4).contains("5 bytes, more than 4"));
    assert!(with(|l| l.total_bytes = 9).contains("more than 9 bytes in all"));
    let gone = walk(&dir.path().join("none"), &Limits::default()).unwrap_err();
    assert!(matches!(gone, Error::Folder { .. }));
}
