use candlefish_testkit::github::{self, Example};

use super::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "cccccccccccccccccccccccccccccccccccccccc";
const NONE: &str = "0000000000000000000000000000000000000000";

fn read(example: &Example) -> Result<Push, Error> {
    Push::read(example.body.to_string().as_bytes())
}

fn pushed(before: &str, commits: &[&str]) -> Example {
    github::Push {
        repository: "example/docs",
        branch: "main",
        before,
        commits,
        changes: &["docs/a.md"],
        pushed_at: 1_790_000_000,
    }
    .example()
}

#[test]
fn the_published_pushes_are_read() {
    let push = read(&github::push()).unwrap();
    assert_eq!(push.repository, "Codertocat/Hello-World");
    assert_eq!(push.target, Target::Branch("master".to_owned()));
    assert_eq!(push.after, "6113728f27ae82c7b1a177c8d03f9e96e0adf246");
    assert_eq!((push.before.as_str(), push.forced), ("", false));
    assert_eq!(push.pushed_at, Some(1_557_933_657));
    assert_eq!(push.sender, "Codertocat");
    assert_eq!(push.head.message, "Initial commit");
    assert_eq!(push.head.author, "Codertocat");
    assert_eq!(
        push.head.committed_at.unwrap().to_string(),
        "2019-05-15T15:19:25Z"
    );
    // A new branch: what it changed against another one is not told.
    assert_eq!(push.changed(), None);

    let tag = read(&github::push_tag()).unwrap();
    assert_eq!(tag.target, Target::Other("simple-tag".to_owned()));
    let gone = read(&github::push_tag_deleted()).unwrap();
    assert_eq!(gone.after, "");
    assert_eq!(gone.head, Head::default());
}

#[test]
fn what_is_no_push_says_why() {
    for example in [
        github::ping(),
        github::ping_organization(),
        github::create(),
    ] {
        assert!(read(&example).is_err(), "{}", example.event);
    }
    let mut odd = github::push();
    odd.body["after"] = "HEAD".into();
    assert_eq!(read(&odd).unwrap_err().to_string(), "after is no commit");
    assert!(matches!(Push::read(b"{\"ref\""), Err(Error::Json(_))));
}

#[test]
fn what_no_row_can_hold_is_no_name() {
    for place in ["/ref", "/repository/full_name", "/sender/login"] {
        let field = place.trim_start_matches('/').replace('/', ".");
        for name in ["refs/heads/a\0b".to_owned(), "a".repeat(NAME_MAX + 1)] {
            let mut odd = github::push();
            *odd.body.pointer_mut(place).unwrap() = name.into();
            let words = read(&odd).unwrap_err().to_string();
            assert_eq!(words, format!("{field} is no name"));
        }
    }
}

#[test]
fn ancestors_are_what_it_brings_and_what_was_before() {
    let push = read(&pushed(A, &[B, C])).unwrap();
    assert_eq!(push.ancestors(), [B, A]);
    assert_eq!(push.changed().unwrap(), ["docs/a.md", "docs/a.md"]);

    let mut forced = pushed(A, &[B, C]);
    forced.body["forced"] = true.into();
    let forced = read(&forced).unwrap();
    assert_eq!(forced.ancestors(), [B]);
    assert_eq!(forced.changed(), None);

    assert_eq!(read(&pushed(NONE, &[B])).unwrap().ancestors(), [""; 0]);
}

#[test]
fn a_push_of_more_than_github_lists_does_not_claim_to_know_its_files() {
    let mut example = pushed(A, &[B]);
    let one = example.body["commits"][0].clone();
    example.body["commits"] = vec![one; MOST_COMMITS].into();
    let push = read(&example).unwrap();
    assert_eq!(push.changed(), None);
    assert_eq!(push.ancestors(), [A]);
}

#[test]
fn a_commit_of_as_many_files_as_github_lists_may_have_changed_others_too() {
    let files = |count: usize| -> Vec<String> {
        (0..count)
            .map(|number| format!("vendor/{number}"))
            .collect()
    };
    let changed = |added: usize| {
        let mut example = pushed(A, &[B, C]);
        let commit = &mut example.body["commits"][0];
        commit["added"] = files(added).into();
        commit["modified"] = files(500).into();
        commit["removed"] = files(500).into();
        read(&example).unwrap().changed()
    };
    // One is of the other commit.
    let most = changed(MOST_FILES - 1001).map(|files| files.len());
    assert_eq!(most, Some(MOST_FILES));
    assert_eq!(changed(MOST_FILES - 1000), None);
}

#[test]
fn words_of_strangers_are_one_printable_line() {
    let mut example = pushed(A, &[B]);
    let message = format!("Fix \u{1b}[31mit\nmore{}", "x".repeat(500));
    example.body["head_commit"]["message"] = message.into();
    example.body["head_commit"]["author"]["name"] = "y".repeat(500).into();
    example.body["head_commit"]["author"]["email"] = serde_json::Value::Null;
    let head = read(&example).unwrap().head;
    assert_eq!(head.message, "Fix [31mit");
    assert_eq!(head.author.len(), LINE_MAX);
    assert_eq!(head.author_email, "");
}
