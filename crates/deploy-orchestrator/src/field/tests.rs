use candlefish_ids::ReleaseId;
use proptest::prelude::*;

use super::*;

/// The faults as `field: message`.
fn faults(check: impl FnOnce(&mut Faults)) -> Vec<String> {
    let mut faults = Faults::default();
    check(&mut faults);
    faults
        .0
        .iter()
        .map(|fault| format!("{}: {}", fault.field, fault.description))
        .collect()
}

#[test]
fn a_slug_names_what_it_lacks() {
    for good in ["docs", "a", "9", "a-b-c", &"x".repeat(35)] {
        assert_eq!(slug(good, SITE_SLUG_MAX), Ok(()), "{good}");
    }
    for (bad, why) in [
        ("", "missing"),
        ("Docs", "a-z"),
        ("dócs", "a-z"),
        ("a.b", "a-z"),
        ("-a", "begin or end"),
        ("a-", "begin or end"),
        ("a--b", "in a row"),
        (&"x".repeat(36), "at most 35"),
    ] {
        let message = slug(bad, SITE_SLUG_MAX).unwrap_err();
        assert!(message.contains(why), "{bad:?}: {message}");
    }
}

#[test]
fn every_fault_is_reported_and_each_names_its_field() {
    let found = faults(|f| {
        f.site("site", "a--b");
        f.id::<ReleaseId>("release_id", "dep_01h455vb4pex5vsknk084sn02q");
        f.reason("reason", " ");
        f.commits("ancestors", &["0".repeat(40), "main".to_owned()], 1000);
    });
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].starts_with("site: "), "{found:?}");
    assert!(
        found[1].starts_with("release_id: must begin with rel_"),
        "{found:?}"
    );
    assert!(found[2].starts_with("reason: "), "{found:?}");
    assert!(found[3].starts_with("ancestors[1]: "), "{found:?}");
}

#[test]
fn a_whole_request_has_no_faults() {
    let found = faults(|f| {
        f.environment("environment", &"0".repeat(26));
        f.commit("commit", &"ab".repeat(20));
        f.commit("commit", &"ab".repeat(32));
        f.commit_prefix("to_commit", "4ac21e0");
        f.optional_commit("commit", "");
        assert_eq!(f.optional_reason("reason", " \t"), "");
        f.reason("reason", "because\nof this");
        assert_eq!(f.optional_id::<ReleaseId>("release_id", ""), None);
        assert_eq!(
            f.digest("manifest_digest", &"00".repeat(32)),
            Some(Digest::from_bytes([0; 32]))
        );
    });
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn texts_are_counted_in_characters_and_have_no_control_characters() {
    assert_eq!(
        faults(|f| drop(f.reason("reason", &"é".repeat(500)))),
        Vec::<String>::new()
    );
    assert_eq!(
        faults(|f| drop(f.reason("reason", &"é".repeat(501)))),
        ["reason: has 501 characters; at most 500 fit"]
    );
    assert_eq!(
        faults(|f| drop(f.text("name", "a\0b", 100))),
        ["name: has control characters"]
    );
}

#[test]
fn numbers_and_times_keep_their_limits() {
    let hours = |h| Duration::from_hours(h);
    let seconds = |seconds| prost_types::Duration { seconds, nanos: 0 };
    let found = faults(|f| {
        assert_eq!(f.count("min_edges", 0, 1, 1..=9), 1);
        assert_eq!(f.count("min_edges", 9, 1, 1..=9), 9);
        f.count("min_edges", -1, 1, 1..=9);
        f.count("min_edges", 10, 1, 1..=9);
        assert_eq!(
            f.duration("bake", None, hours(1), hours(0)..=hours(24)),
            hours(1)
        );
        assert_eq!(
            f.duration("bake", Some(&seconds(0)), hours(1), hours(0)..=hours(24)),
            hours(0)
        );
        f.duration(
            "bake",
            Some(&seconds(86_401)),
            hours(1),
            hours(0)..=hours(24),
        );
        f.duration(
            "bake",
            Some(&seconds(-1)),
            hours(1),
            Duration::from_secs(1)..=hours(24),
        );
    });
    assert_eq!(
        found,
        [
            "min_edges: must be 1 to 9, not -1",
            "min_edges: must be 1 to 9, not 10",
            "bake: must be 0 s to 24 h",
            "bake: must be 1 s to 24 h",
        ]
    );
}

#[test]
fn what_is_no_moment_is_refused() {
    let at = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
    let found = faults(|f| {
        assert_eq!(f.timestamp("committed_at", None), None);
        assert!(
            f.timestamp("committed_at", Some(&at(1_700_000_000, 5)))
                .is_some()
        );
        f.timestamp("committed_at", Some(&at(i64::MAX, 0)));
        f.timestamp("committed_at", Some(&at(-62_135_596_801, 0)));
        f.timestamp("committed_at", Some(&at(0, i32::MAX)));
    });
    assert_eq!(found.len(), 3, "{found:?}");
}

proptest! {
    #[test]
    fn a_good_slug_makes_a_good_host_label(text in "[a-z0-9-]{0,40}") {
        if slug(&text, SITE_SLUG_MAX).is_ok() {
            let label = format!("{}--{text}", "0".repeat(PREVIEW_SLUG_MAX));
            prop_assert!(label.len() <= 63);
            prop_assert_eq!(label.matches("--").count(), 1);
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,90}", number: i32, seconds: i64, nanos: i32) {
        let mut f = Faults::default();
        f.site("site", &text);
        f.reason("reason", &text);
        f.commit("commit", &text);
        f.commit_prefix("commit", &text);
        f.digest("digest", &text);
        f.id::<ReleaseId>("id", &text);
        f.count("count", number, 1, 1..=10);
        let given = prost_types::Duration { seconds, nanos };
        f.duration("bake", Some(&given), Duration::ZERO, Duration::ZERO..=Duration::from_hours(24));
        f.timestamp("at", Some(&prost_types::Timestamp { seconds, nanos }));
        prop_assert_eq!(f.0.is_empty(), f.finish().is_ok());
    }
}
