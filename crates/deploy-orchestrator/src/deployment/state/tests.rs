use candlefish_clock::ManualClock;
use proptest::prelude::*;

use super::*;

const PLAIN: Facts = Facts {
    can_return: true,
    stays: false,
    is_rollback: false,
};
const CAUSES: [Cause; 11] = [
    Cause::Cancelled,
    Cause::Aborted,
    Cause::Superseded,
    Cause::Verification,
    Cause::Verdict,
    Cause::Deadline,
    Cause::Preempted,
    Cause::Edges,
    Cause::Discarded,
    Cause::Content,
    Cause::Evidence,
];

fn now() -> Moment {
    ManualClock::at_second(1000).now()
}

fn running(pivoted: bool) -> State {
    let pivoted_at = pivoted.then(now);
    State::Running(Acting {
        started_at: now(),
        pivoted_at,
        live_at: None,
    })
}

fn ends_in(state: State, cause: Cause, facts: Facts) -> &'static str {
    match state.decide(now(), Event::Stops(cause), facts).unwrap() {
        (State::Cancelling { ends, .. }, consequences) => {
            assert!(consequences.contains(&Consequence::Undo));
            ends.word()
        }
        (State::Ended { outcome, .. }, consequences) => {
            assert!(consequences.contains(&Consequence::End));
            outcome.word()
        }
        other => panic!("{cause:?} led to {other:?}"),
    }
}

#[test]
fn before_the_pivot_the_cause_says_how_it_ends() {
    for (cause, ends) in [
        (Cause::Cancelled, "cancelled"),
        (Cause::Aborted, "cancelled"),
        (Cause::Superseded, "superseded"),
        (Cause::Verification, "failed"),
        (Cause::Deadline, "failed"),
        (Cause::Edges, "failed"),
        (Cause::Discarded, "failed"),
        (Cause::Content, "failed"),
        (Cause::Evidence, "failed"),
        (Cause::Preempted, "cancelled"),
    ] {
        assert_eq!(ends_in(running(false), cause, PLAIN), ends, "{cause:?}");
    }
}

#[test]
fn after_the_pivot_every_cause_sends_traffic_back() {
    for cause in CAUSES {
        assert_eq!(
            ends_in(running(true), cause, PLAIN),
            "rolled_back",
            "{cause:?}"
        );
    }
}

#[test]
fn with_no_release_to_go_back_to_it_ends_failed() {
    let facts = Facts {
        can_return: false,
        ..PLAIN
    };
    assert_eq!(ends_in(running(true), Cause::Cancelled, facts), "failed");
}

#[test]
fn a_release_that_stays_live_is_not_rejected_and_the_history_says_that_it_failed() {
    for (cause, stays, follows) in [
        (Cause::Aborted, false, Consequence::Reject),
        (Cause::Verdict, false, Consequence::Reject),
        (Cause::Verdict, true, Consequence::RecordReturn),
        (Cause::Verification, true, Consequence::RecordReturn),
    ] {
        let facts = Facts { stays, ..PLAIN };
        let stopped = Event::Stops(cause);
        let (_, consequences) = running(true).decide(now(), stopped, facts).unwrap();
        assert!(
            consequences.contains(&follows),
            "{cause:?} {consequences:?}"
        );
        let rejects = consequences.contains(&Consequence::Reject);
        assert_eq!(rejects, !stays, "{cause:?}");
    }
    let facts = Facts {
        stays: true,
        ..PLAIN
    };
    let stopped = Event::Stops(Cause::Aborted);
    let (_, consequences) = running(true).decide(now(), stopped, facts).unwrap();
    assert_eq!(consequences, [Consequence::Undo]);
}

#[test]
fn what_has_nothing_to_go_back_to_any_more_fails_and_nothing_else_changes() {
    for (pivoted, ends) in [(true, "failed"), (false, "cancelled")] {
        let stopped = Event::Stops(Cause::Cancelled);
        let (mut state, _) = running(pivoted).decide(now(), stopped, PLAIN).unwrap();
        state.strand();
        let (ended, _) = state.decide(now(), Event::Undone, PLAIN).unwrap();
        assert_eq!(ended.word(), ends);
    }
    let mut state = running(true);
    state.strand();
    assert_eq!(state, running(true));
}

#[test]
fn a_rollback_is_not_rolled_back_by_itself_but_by_a_person() {
    let facts = Facts {
        is_rollback: true,
        ..PLAIN
    };
    assert_eq!(ends_in(running(true), Cause::Verification, facts), "failed");
    assert_eq!(
        ends_in(running(true), Cause::Cancelled, facts),
        "rolled_back"
    );
}

#[test]
fn only_what_blames_the_release_after_the_pivot_rejects_it() {
    let rejects = |pivoted, cause| {
        let (_, consequences) = running(pivoted)
            .decide(now(), Event::Stops(cause), PLAIN)
            .unwrap();
        consequences.contains(&Consequence::Reject)
    };
    assert!(rejects(true, Cause::Verdict));
    assert!(rejects(true, Cause::Verification));
    assert!(rejects(true, Cause::Aborted));
    assert!(!rejects(true, Cause::Cancelled));
    assert!(!rejects(true, Cause::Edges));
    assert!(!rejects(true, Cause::Evidence));
    assert!(!rejects(false, Cause::Verification));
}

/// The lines of the history that follow from the end of one that acts.
fn recorded(pivoted: bool, cause: Cause, facts: Facts) -> Vec<Consequence> {
    let moved = running(pivoted).decide(now(), Event::Stops(cause), facts);
    let (_, mut consequences) = moved.unwrap();
    let lines = [
        Consequence::RecordFailure,
        Consequence::RecordReturn,
        Consequence::Reject,
    ];
    consequences.retain(|one| lines.contains(one));
    consequences
}

#[test]
fn why_one_ends_that_acted_is_recorded_once_unless_its_command_does() {
    let (fails, returns) = (Consequence::RecordFailure, Consequence::RecordReturn);
    let rejects = Consequence::Reject;
    for (cause, before, after) in [
        (Cause::Cancelled, None, None),
        (Cause::Aborted, None, Some(rejects)),
        (Cause::Superseded, None, None),
        (Cause::Verification, Some(fails), Some(rejects)),
        (Cause::Verdict, Some(fails), Some(rejects)),
        (Cause::Deadline, Some(fails), Some(returns)),
        (Cause::Preempted, None, None),
        (Cause::Edges, Some(fails), Some(returns)),
        (Cause::Discarded, Some(fails), Some(returns)),
        (Cause::Content, Some(fails), Some(returns)),
        (Cause::Evidence, Some(fails), Some(returns)),
    ] {
        let lines = [false, true].map(|pivoted| recorded(pivoted, cause, PLAIN));
        let expected = [before, after].map(|line| line.into_iter().collect::<Vec<_>>());
        assert_eq!(lines, expected, "{cause:?}");
    }
    let facts = Facts {
        is_rollback: true,
        ..PLAIN
    };
    assert_eq!(recorded(true, Cause::Verification, facts), [fails]);
    assert_eq!(recorded(true, Cause::Deadline, facts), [fails]);
    assert_eq!(recorded(true, Cause::Preempted, facts), []);
}

#[test]
fn it_goes_live_once() {
    let goes = |state: State| state.decide(now(), Event::GoesLive, PLAIN).unwrap();
    assert!(!running(true).went_live());
    let (state, first) = goes(running(true));
    assert!(state.went_live());
    assert_eq!(first, [Consequence::GoLive]);
    assert_eq!(goes(state.clone()), (state, vec![]));
}

#[test]
fn what_is_being_undone_yields_only_to_a_rollback() {
    let (state, _) = running(true)
        .decide(now(), Event::Stops(Cause::Verdict), PLAIN)
        .unwrap();
    for cause in CAUSES {
        let moved = state.clone().decide(now(), Event::Stops(cause), PLAIN);
        assert_eq!(moved.is_ok(), cause == Cause::Preempted, "{cause:?}");
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Granted),
        Just(Event::Waits),
        Just(Event::Resumes),
        Just(Event::Pivots),
        Just(Event::GoesLive),
        Just(Event::Finishes),
        Just(Event::Undone),
        (0..CAUSES.len()).prop_map(|index| Event::Stops(CAUSES[index])),
    ]
}

proptest! {
    #[test]
    fn terminal_stays_terminal_and_ends_exactly_once(
        events in prop::collection::vec(any_event(), 0..40),
        can_return: bool,
        stays: bool,
        is_rollback: bool,
    ) {
        let facts = Facts { can_return, stays, is_rollback };
        let mut state = State::Pending;
        let mut ended = 0;
        let mut pivoted = false;
        for event in events {
            let before = state.clone();
            let Ok((next, consequences)) = state.decide(now(), event, facts) else {
                state = before;
                continue;
            };
            prop_assert!(!before.is_terminal(), "{before:?} moved by {event:?}");
            ended += consequences.iter().filter(|&&c| c == Consequence::End).count();
            prop_assert_eq!(next.is_terminal(), ended == 1);
            // Once pivoted, always pivoted: nothing forgets that traffic moved.
            prop_assert!(!pivoted || next.pivoted());
            pivoted |= next.pivoted();
            state = next;
        }
        prop_assert!(ended <= 1);
    }
}
