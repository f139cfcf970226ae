use candlefish_clock::ManualClock;

use super::*;

fn follower(id: &str, live: bool, applied: bool, error: &str) -> Follower {
    Follower {
        id: id.to_owned(),
        address: String::new(),
        live,
        lately: true,
        applied,
        staged: applied,
        error: error.to_owned(),
        passes: false,
        moved_at: None,
    }
}

#[test]
fn who_follows_others_is_given_its_time_anew_for_a_while() {
    let patience = Patience::of(Duration::from_secs(30), None);
    let second = |number: i64| ManualClock::at_second(number).now();
    let moved = |at: i64| Follower {
        moved_at: Some(second(at)),
        ..follower("moves", true, false, "")
    };
    let stalled_at = |one: Follower, at: i64| {
        let behind = [one, follower("rests", true, false, "")];
        stalled(&behind, Some(second(1000)), patience, second(at))
    };
    assert!(stalled_at(moved(1020), 1029).is_empty());
    assert_eq!(stalled_at(moved(1020), 1030), ["rests"]);
    assert_eq!(stalled_at(moved(1020), 1049), ["rests"]);
    assert_eq!(stalled_at(moved(1020), 1050), ["moves", "rests"]);
    // What it did before is not about this.
    assert_eq!(stalled_at(moved(900), 1030), ["moves", "rests"]);
    // It does everything but this.
    assert_eq!(stalled_at(moved(1299), 1299), ["rests"]);
    assert_eq!(stalled_at(moved(1300), 1300), ["moves", "rests"]);
    let cannot = Follower {
        error: "/a.css is corrupt".to_owned(),
        ..moved(1020)
    };
    assert_eq!(stalled_at(cannot, 1030), ["moves", "rests"]);
    // Nothing was written yet.
    let nothing_written = stalled(&[moved(900)], None, patience, second(2000));
    assert!(nothing_written.is_empty());
}

#[test]
fn the_last_live_edges_are_not_given_up() {
    let patience = Patience::of(Duration::from_secs(30), None);
    let second = |number: i64| ManualClock::at_second(number).now();
    let given_up_of = |live: usize| {
        let not = NotYet {
            live,
            needed: 1,
            behind: ["one", "two"]
                .map(|id| follower(id, true, false, ""))
                .to_vec(),
            refused: None,
        };
        given_up(&not, Some(second(1000)), patience, second(1030))
    };
    assert_eq!(given_up_of(3), ["one", "two"]);
    assert!(given_up_of(2).is_empty());
}

#[test]
fn a_rollback_waits_no_longer_than_for_one_that_rests_once_enough_edges_followed() {
    let seconds = Duration::from_secs;
    let not = |live: usize, behind: usize| NotYet {
        live,
        needed: 1,
        behind: vec![follower("behind", true, false, ""); behind],
        refused: None,
    };
    assert!(suffices(Kind::Rollback, &not(2, 1)));
    assert!(!suffices(Kind::Rollback, &not(2, 2)));
    assert!(!suffices(Kind::Rollback, &not(0, 0)));
    assert!(!suffices(Kind::Standard, &not(2, 1)));
    let most = |idle: u64, bound: u64| Patience::of(seconds(idle), Some(seconds(bound))).most;
    assert_eq!(most(30, 30), seconds(30));
    assert_eq!(most(3, 30), seconds(30));
    assert_eq!(most(3, 20), seconds(20));
    assert_eq!(most(3, 1), seconds(3));
    let second = |number: i64| ManualClock::at_second(number).now();
    let moves = Follower {
        moved_at: Some(second(1029)),
        ..follower("moves", true, false, "")
    };
    let bounded = Patience::of(seconds(30), Some(seconds(30)));
    let stalled_at = |at| {
        stalled(
            std::slice::from_ref(&moves),
            Some(second(1000)),
            bounded,
            second(at),
        )
    };
    assert!(stalled_at(1029).is_empty());
    assert_eq!(stalled_at(1030), ["moves"]);
}

#[test]
fn every_live_edge_must_follow_and_absent_ones_are_named() {
    let followers = [
        follower("edge-1", true, true, ""),
        follower("edge-2", true, true, ""),
        follower("edge-3", false, false, ""),
        Follower {
            lately: false,
            ..follower("edge-4", false, false, "")
        },
    ];
    let standing = judge(&followers, 1);
    assert_eq!(
        standing,
        Standing::Followed {
            live: 2,
            absent: vec!["edge-3".to_owned()],
            gone: vec!["edge-4".to_owned()]
        }
    );
    assert_eq!(gone_words(&[]), "");
    assert_eq!(
        gone_words(&["edge-4".to_owned()]),
        "; edge-4 not heard for a day"
    );
}

#[test]
fn too_few_live_edges_are_not_enough_even_when_all_followed() {
    let Standing::Not(not) = judge(&[follower("edge-1", true, true, "")], 2) else {
        panic!("one edge is not two");
    };
    assert_eq!((not.live, not.needed, not.behind.len()), (1, 2, 0));
    assert_eq!(few_words(not.live, not.needed), "1 live edge, 2 needed");
    assert!(matches!(judge(&[], 1), Standing::Not(_)));
}

#[test]
fn a_refusal_counts_when_no_live_edge_could() {
    let refused = |followers: &[Follower]| match judge(followers, 1) {
        Standing::Not(not) => not.refused,
        Standing::Followed { .. } => panic!("not followed"),
    };
    let bad = follower("edge-1", true, false, "/a.css is corrupt");
    assert_eq!(
        refused(std::slice::from_ref(&bad)).as_deref(),
        Some("/a.css is corrupt")
    );
    assert_eq!(
        refused(&[bad.clone(), follower("edge-2", true, true, "")]),
        None
    );
    assert_eq!(refused(&[bad, follower("edge-2", true, false, "")]), None);
    let away = Follower {
        passes: true,
        ..follower("edge-1", true, false, "the store is away")
    };
    assert_eq!(named(&away), "edge-1 (the store is away)");
    assert_eq!(refused(&[away]), None, "it may pass");
}

#[test]
fn an_undo_that_ends_by_its_deadline_says_who_confirmed_and_who_did_not() {
    let told = |followers: &[Follower]| {
        let (count, absent) = confirmed(followers);
        unconfirmed_words(None, count, &absent)
    };
    let all = [
        follower("edge-1", true, true, ""),
        follower("edge-2", true, false, ""),
        follower("edge-3", false, true, ""),
    ];
    assert_eq!(
        told(&all),
        "1 of 3 edges confirmed in time; edge-2, edge-3 did not"
    );
    assert_eq!(told(&all[..1]), "1 of 1 edge confirmed in time");
    let none = "no edge confirmed in time: none was heard of for a day";
    assert_eq!(told(&[]), none);
    let release = ReleaseId::new();
    let absent = ["edge-2".to_owned()];
    assert_eq!(
        unconfirmed_words(Some(release), 0, &absent),
        format!("0 of 1 edge confirmed in time; edge-2 did not, may still serve {release}")
    );
}
