use proptest::prelude::*;

use super::*;

fn refusal(path: &str) -> String {
    check(path, &Limits::default())
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn ordinary_paths_pass() {
    for path in [
        "index.html",
        "a/b/c.css",
        ".well-known/security.txt",
        "übersicht/größe.html",
        "a b/c+d.html",
        "..a/b..",
        "日本語/ページ.html",
    ] {
        assert_eq!(check(path, &Limits::default()), Ok(()), "{path}");
    }
}

#[test]
fn hostile_paths_are_refused_by_name() {
    for (path, part) in [
        ("../x", "points elsewhere (..)"),
        ("a/../x", "points elsewhere (..)"),
        ("a/..", "points elsewhere (..)"),
        ("./x", "points elsewhere (.)"),
        ("/etc/passwd", "must not begin with a slash"),
        ("a//b", "empty segment"),
        ("a/", "empty segment"),
        ("a\0b", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\u{7f}", "U+007F"),
        ("a\u{85}", "U+0085"),
        ("a\u{202e}txt.exe", "U+202E"),
        ("a\\b", "backslash"),
        ("cafe\u{301}", "normal form C"),
    ] {
        let text = refusal(path);
        assert!(text.contains(part), "{path:?}: {text}");
        assert!(text.contains(&format!("{path:?}")), "{path:?}: {text}");
    }
    assert_eq!(check("", &Limits::default()), Err(PathError::Empty));
}

#[test]
fn long_and_deep_paths_are_refused() {
    let limits = Limits::default();
    assert_eq!(check(&"a".repeat(512), &limits), Ok(()));
    assert!(refusal(&"a".repeat(513)).contains("513 bytes, more than 512"));
    assert_eq!(check(&vec!["a"; 32].join("/"), &limits), Ok(()));
    assert!(refusal(&vec!["a"; 33].join("/")).contains("33 segments, more than 32"));
}

#[test]
fn paths_that_cannot_share_a_tree_are_refused() {
    let together = |paths: &[&str]| check_together(paths.iter().copied());
    assert_eq!(together(&["a", "b/c", "b/d"]), Ok(()));
    assert!(matches!(
        together(&["a", "a"]),
        Err(PathError::Twice { .. })
    ));
    for pair in [
        ["a/B.html", "a/b.html"],
        ["STRASSE", "straße"],
        ["Ä", "ä"],
        ["Σ", "ς"],
    ] {
        assert!(
            matches!(together(&pair), Err(PathError::Case { .. })),
            "{pair:?}"
        );
    }
    for pair in [["a", "a/b"], ["A/x", "a"], ["a/b/c", "a/b"]] {
        let refused = together(&pair);
        assert!(
            matches!(refused, Err(PathError::FileAndFolder { .. })),
            "{pair:?}: {refused:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_what_passes_stays_in_the_tree(path in "\\PC{0,40}|[./a\\\\]{0,12}|.{0,20}") {
        if check(&path, &Limits::default()).is_ok() {
            prop_assert!(!path.starts_with('/'));
            prop_assert!(path.split('/').all(|s| !s.is_empty() && s != "." && s != ".."));
            let joined = std::path::Path::new("/tree").join(&path);
            prop_assert!(joined.components().all(|c| c != std::path::Component::ParentDir));
            prop_assert!(joined.starts_with("/tree"));
        }
    }
}
