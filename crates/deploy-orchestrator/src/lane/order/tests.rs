use super::*;

mod partial;

/// Commits named by letters; each letter descends from those before it, within a case.
struct Alphabet;

impl Ancestry for Alphabet {
    fn descends(&self, commit: &str, ancestor: &str) -> bool {
        let (Some(a), Some(b)) = (commit.chars().next(), ancestor.chars().next()) else {
            return false;
        };
        a.is_lowercase() == b.is_lowercase() && a > b
    }
}

fn id(admission: i64) -> DeploymentId {
    DeploymentId::from_uuid(uuid::Uuid::from_u128(u128::try_from(admission).unwrap()))
}

fn push(admission: i64, commit: &str) -> Contender {
    Contender {
        id: id(admission),
        kind: Kind::Standard,
        commit: commit.to_owned(),
        admission,
        sealed: true,
        content_until: None,
        fetch: None,
        pinned: false,
        rejected: None,
        banned: None,
        pushed: None,
    }
}

/// The same, pinned.
fn pinned(admission: i64, commit: &str) -> Contender {
    Contender {
        pinned: true,
        ..push(admission, commit)
    }
}

/// The same, which `main` was pushed to at this second.
fn pushed(admission: i64, commit: &str, at: i64) -> Contender {
    Contender {
        pushed: Some(Pushed {
            branch: "main".to_owned(),
            at,
            before: String::new(),
        }),
        ..push(admission, commit)
    }
}

fn live(admission: i64, commit: &str) -> Live {
    Live {
        deployment_id: id(admission),
        commit: commit.to_owned(),
        pushed: None,
    }
}

fn picture(order: Order, pending: Vec<Contender>) -> Picture {
    Picture {
        order,
        held: false,
        live: None,
        acting: None,
        pending,
    }
}

fn acting(contender: Contender, pivoted: bool) -> ActingNow {
    ActingNow {
        contender,
        since: None,
        pivoted,
        live: false,
        cancelling: false,
    }
}

fn ended(plan: &Plan) -> Vec<(DeploymentId, DeploymentId)> {
    plan.superseded.iter().map(|one| (one.id, one.by)).collect()
}

#[test]
fn a_newer_commit_supersedes_what_waits_under_latest() {
    let plan = plan(
        &picture(Order::Latest, vec![push(1, "a"), push(2, "b")]),
        &Alphabet,
    );
    assert_eq!(ended(&plan), [(id(1), id(2))]);
    assert_eq!(plan.grant, Some(id(2)));
}

#[test]
fn a_newer_commit_follows_what_waits_under_queue() {
    let plan = plan(
        &picture(Order::Queue, vec![push(1, "a"), push(2, "b")]),
        &Alphabet,
    );
    assert_eq!(ended(&plan), []);
    assert_eq!(plan.grant, Some(id(1)));
}

#[test]
fn an_older_commit_that_comes_late_has_no_turn_under_either_order() {
    for order in [Order::Latest, Order::Queue] {
        let plan = plan(&picture(order, vec![push(1, "b"), push(2, "a")]), &Alphabet);
        assert_eq!(ended(&plan), [(id(2), id(1))], "{order:?}");
        assert!(plan.superseded[0].backwards);
        assert_eq!(plan.grant, Some(id(1)));
    }
}

#[test]
fn an_ancestor_of_what_is_live_ends_at_once() {
    let mut before = picture(Order::Queue, vec![push(3, "a")]);
    before.live = Some(live(1, "b"));
    assert_eq!(ended(&plan(&before, &Alphabet)), [(id(3), id(1))]);
}

#[test]
fn unrelated_and_commitless_ones_rank_by_admission() {
    for (first, second) in [("a", "Z"), ("", ""), ("a", "")] {
        let plan = plan(
            &picture(Order::Latest, vec![push(1, first), push(2, second)]),
            &Alphabet,
        );
        assert_eq!(ended(&plan), [(id(1), id(2))], "{first:?} {second:?}");
    }
}

#[test]
fn what_acts_is_undone_for_a_newer_commit_only_before_its_pivot() {
    for (pivoted, undone) in [(false, Some(id(2))), (true, None)] {
        let mut before = picture(Order::Latest, vec![push(2, "b")]);
        before.acting = Some(acting(push(1, "a"), pivoted));
        let plan = plan(&before, &Alphabet);
        assert_eq!(plan.undo_acting_for, undone);
        assert_eq!(plan.grant, None);
    }
}

#[test]
fn a_push_supersedes_neither_a_rollback_nor_a_pinned_one() {
    let mut rollback = push(1, "a");
    rollback.kind = Kind::Rollback;
    let mut pinned = push(1, "a");
    pinned.pinned = true;
    for first in [rollback, pinned] {
        let mut before = picture(Order::Latest, vec![push(2, "b")]);
        before.acting = Some(acting(first.clone(), false));
        assert_eq!(plan(&before, &Alphabet).undo_acting_for, None);
        let pending = plan(
            &picture(Order::Latest, vec![first, push(2, "b")]),
            &Alphabet,
        );
        assert_eq!(ended(&pending), []);
        assert_eq!(pending.grant, Some(id(1)));
    }
}

#[test]
fn a_pinned_one_goes_before_a_newer_commit_that_was_admitted_first() {
    for order in [Order::Latest, Order::Queue] {
        let mut pinned = push(2, "a");
        pinned.pinned = true;
        let plan = plan(&picture(order, vec![push(1, "b"), pinned]), &Alphabet);
        assert_eq!(ended(&plan), [], "{order:?}");
        assert_eq!(plan.grant, Some(id(2)), "{order:?}");
    }
}

#[test]
fn of_pinned_ones_the_oldest_goes_first_whichever_was_admitted_first() {
    for order in [Order::Latest, Order::Queue] {
        let pending = vec![push(1, "c"), pinned(2, "b"), pinned(3, "a")];
        let plan = plan(&picture(order, pending), &Alphabet);
        assert_eq!(ended(&plan), [], "{order:?}");
        assert_eq!(plan.grant, Some(id(3)), "{order:?}");
        assert_eq!(plan.turns, [id(3), id(2), id(1)], "{order:?}");
    }
}

/// Each commit descends from each other one, as nobody should say.
struct Circle;

impl Ancestry for Circle {
    fn descends(&self, commit: &str, ancestor: &str) -> bool {
        commit != ancestor
    }
}

#[test]
fn pinned_ones_that_descend_from_each_other_have_one_turn_each() {
    let pending = [push(1, "c"), pinned(2, "b"), pinned(3, "a")];
    let turns = turns(&pending, &Circle);
    let turns: Vec<DeploymentId> = turns.iter().map(|one| one.id).collect();
    assert_eq!(turns, [id(3), id(2), id(1)]);
}

/// Whom the lane grants, one after the other, when each goes live.
fn granted(mut picture: Picture, ancestry: &dyn Ancestry) -> Vec<DeploymentId> {
    let mut granted = Vec::new();
    loop {
        let Plan {
            superseded, grant, ..
        } = plan(&picture, ancestry);
        let pending = &mut picture.pending;
        pending.retain(|one| superseded.iter().all(|ended| ended.id != one.id));
        let Some(at) = pending.iter().position(|one| Some(one.id) == grant) else {
            return granted;
        };
        let next = pending.remove(at);
        granted.push(next.id);
        picture.live = Some(Live {
            deployment_id: next.id,
            ..live(0, &next.commit)
        });
    }
}

#[test]
fn the_lane_grants_in_the_order_in_which_it_says_that_it_will() {
    // All pictures of four pending pushes, each pinned or not, while another acts and without that.
    let choices = ["a", "b", "c", "Z"]
        .into_iter()
        .flat_map(|commit| [(commit, false), (commit, true)]);
    let choices: Vec<(&str, bool)> = choices.collect();
    for number in 0..choices.len().pow(4) {
        let mut digits = number;
        let pending = (2..6).map(|admission| {
            let (commit, is_pinned) = choices[digits % choices.len()];
            digits /= choices.len();
            Contender {
                pinned: is_pinned,
                ..push(admission, commit)
            }
        });
        let pending: Vec<Contender> = pending.collect();
        for order in [Order::Latest, Order::Queue] {
            let mut before = picture(order, pending.clone());
            assert_eq!(
                plan(&before, &Alphabet).turns,
                granted(before.clone(), &Alphabet),
                "{before:?}"
            );
            before.acting = Some(acting(push(1, "Y"), true));
            let said = plan(&before, &Alphabet).turns;
            before.acting = None;
            before.live = Some(live(1, "Y"));
            let granted = granted(before.clone(), &Alphabet);
            assert_eq!(said, granted, "{before:?}");
        }
    }
}

#[test]
fn a_pinned_one_outlasts_a_newer_commit_that_acts_but_goes_not_back_from_one_that_is_live() {
    let mut pinned = push(2, "a");
    pinned.pinned = true;
    let mut before = picture(Order::Latest, vec![pinned]);
    before.acting = Some(acting(push(1, "b"), true));
    assert_eq!(ended(&plan(&before, &Alphabet)), []);
    before.acting = None;
    before.live = Some(live(1, "b"));
    assert_eq!(ended(&plan(&before, &Alphabet)), [(id(2), id(1))]);
}

#[test]
fn a_hold_lets_only_a_rollback_pass() {
    let mut before = picture(Order::Latest, vec![push(1, "a")]);
    before.held = true;
    assert_eq!(plan(&before, &Alphabet).grant, None);
    let mut rollback = push(2, "");
    rollback.kind = Kind::Rollback;
    before.pending.push(rollback);
    assert_eq!(plan(&before, &Alphabet).grant, Some(id(2)));
}

#[test]
fn what_a_hold_keeps_back_does_not_stop_what_acts() {
    let mut before = picture(Order::Latest, vec![push(2, "b")]);
    before.acting = Some(acting(push(1, "a"), false));
    before.held = true;
    assert_eq!(plan(&before, &Alphabet).undo_acting_for, None);
}

#[test]
fn one_without_its_content_takes_no_part() {
    let mut draft = push(1, "b");
    draft.sealed = false;
    let plan = plan(
        &picture(Order::Latest, vec![draft, push(2, "a")]),
        &Alphabet,
    );
    assert_eq!(ended(&plan), []);
    assert_eq!(plan.grant, Some(id(2)));
    assert_eq!(plan.turns, [id(2), id(1)]);
}

#[test]
fn a_rollback_goes_first() {
    let mut rollback = push(2, "");
    rollback.kind = Kind::Rollback;
    let plan = plan(
        &picture(Order::Queue, vec![push(1, "a"), rollback]),
        &Alphabet,
    );
    assert_eq!(plan.grant, Some(id(2)));
    assert_eq!(plan.turns, [id(2), id(1)]);
}

#[test]
fn every_lane_with_work_that_can_go_has_somebody_acting_after_the_grant() {
    // All pictures of three pending pushes over three commits, both orders, with and without live.
    const COMMITS: [&str; 5] = ["", "a", "b", "c", "Z"];
    let each = || COMMITS.into_iter();
    let triples = each().flat_map(|a| each().flat_map(move |b| each().map(move |c| [a, b, c])));
    for [a, b, c] in triples {
        for order in [Order::Latest, Order::Queue] {
            for commit in ["", "a", "b", "c"] {
                let pushes = vec![push(2, a), push(3, b), push(4, c)];
                let mut before = picture(order, pushes);
                before.live = (!commit.is_empty()).then(|| live(1, commit));
                let plan = plan(&before, &Alphabet);
                let left = 3 - plan.superseded.len();
                assert_eq!(plan.grant.is_some(), left > 0, "{before:?} {plan:?}");
                // All end for what is live, or one of them stands.
                let for_live = plan.superseded.iter().all(|ended| ended.by == id(1));
                assert!(left > 0 || for_live, "{before:?} {plan:?}");
            }
        }
    }
}

#[test]
fn no_three_take_each_other_s_place() {
    // b gives way to what came later, that to a, and a to b, which descends from it: one must stand.
    let before = picture(
        Order::Latest,
        vec![push(1, "b"), push(2, "Z"), push(3, "a")],
    );
    let plan = plan(&before, &Alphabet);
    assert_eq!(ended(&plan), [(id(1), id(2)), (id(3), id(1))]);
    assert_eq!(plan.grant, Some(id(2)));
}

#[test]
fn the_head_of_a_pull_request_comes_after_all_but_what_was_built_on_it() {
    let owned = |commits: &[&str]| -> Vec<String> {
        commits.iter().map(|&commit| commit.to_owned()).collect()
    };
    // The head was put back to b, which c descends from; d is a trial merge of b, x is unrelated.
    let mut known = Descents::default();
    for (commit, ancestor) in [("c", "b"), ("d", "b"), ("c", "a")] {
        known.insert(commit, ancestor);
    }
    let names = ["a", "b", "c", "d", "x"];
    let commits = owned(&names);
    let expected = [("b", "a"), ("b", "c"), ("b", "x"), ("c", "a"), ("d", "b")];
    // Said once more, it changes nothing.
    for _ in 0..2 {
        lead(&mut known, "b", &owned(&["a", "b", "c"]), &commits);
        let all = names
            .iter()
            .flat_map(|one| names.map(|other| (*one, other)));
        let pairs: Vec<_> = all
            .filter(|(one, other)| known.descends(one, other))
            .collect();
        assert_eq!(pairs, expected);
    }
}

#[test]
fn what_a_branch_was_pushed_to_before_history_was_rewritten_has_no_turn() {
    for (order, waits) in [
        (Order::Latest, vec![(id(1), id(2))]),
        (Order::Queue, vec![]),
    ] {
        // Its content came after that of what the branch was pushed to after it.
        let mut before = picture(order, vec![pushed(1, "A", 100)]);
        let newer = pushed(2, "b", 200);
        before.acting = Some(acting(newer.clone(), false));
        assert_eq!(ended(&plan(&before, &Alphabet)), waits, "{order:?}");
        before.acting = None;
        before.live = Some(Live {
            pushed: newer.pushed,
            ..live(2, "b")
        });
        assert_eq!(
            ended(&plan(&before, &Alphabet)),
            [(id(1), id(2))],
            "{order:?}"
        );
        // What a person pinned goes, and what descends from it all the same.
        before.pending[0].pinned = true;
        assert_eq!(plan(&before, &Alphabet).grant, Some(id(1)), "{order:?}");
        before.pending = vec![pushed(1, "c", 100)];
        assert_eq!(plan(&before, &Alphabet).grant, Some(id(1)), "{order:?}");
    }
}

#[test]
fn of_unrelated_pushes_of_a_branch_the_later_one_stands_whichever_was_told_of_first() {
    let mut before = picture(
        Order::Latest,
        vec![pushed(1, "b", 200), pushed(2, "A", 100)],
    );
    assert_eq!(ended(&plan(&before, &Alphabet)), [(id(2), id(1))]);
    // What acts is not undone for one that was pushed before it.
    before.acting = Some(acting(before.pending.remove(0), false));
    let plan = plan(&before, &Alphabet);
    assert_eq!(plan.undo_acting_for, None);
    assert_eq!(ended(&plan), [(id(2), id(1))]);
}

#[test]
fn pushes_and_calls_do_not_take_each_other_s_place_in_a_circle() {
    // The first was pushed after the third, the third came after the second, that after the first.
    let pending = vec![pushed(1, "b", 200), push(2, ""), pushed(3, "A", 100)];
    let plan = plan(&picture(Order::Latest, pending), &Alphabet);
    assert_eq!(ended(&plan), [(id(1), id(2)), (id(3), id(1))]);
    assert_eq!(plan.grant, Some(id(2)));
}

#[test]
fn within_a_second_a_push_comes_after_what_it_replaced() {
    let of = |at, before: &str| Pushed {
        branch: "main".to_owned(),
        at,
        before: before.to_owned(),
    };
    let after = |one: &Pushed, other: &Pushed| one.came_after_of("a", other, "b");
    assert_eq!(after(&of(1, "b"), &of(1, "x")), Some(true));
    assert_eq!(after(&of(1, "x"), &of(1, "a")), Some(false));
    assert_eq!(after(&of(1, "x"), &of(1, "y")), None);
    // Back and forth.
    assert_eq!(after(&of(1, "b"), &of(1, "a")), None);
    assert_eq!(after(&of(2, "x"), &of(1, "a")), Some(true));
    let other = Pushed {
        branch: "release".to_owned(),
        ..of(1, "a")
    };
    assert_eq!(after(&of(2, "b"), &other), None);
}
