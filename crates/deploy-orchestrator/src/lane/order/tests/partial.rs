//! Turns among commits that do not all stand in one line: two branches from one root, and their merge.

use super::*;

/// The root, the tips of two branches from it, and the merge of these.
const COMMITS: [&str; 4] = ["r", "a", "b", "m"];

/// Each commit with an ancestor: all that there is to tell.
const WHOLE: [(&str, &str); 5] = [("a", "r"), ("b", "r"), ("m", "a"), ("m", "b"), ("m", "r")];

/// What is told of them.
struct Told(Vec<(&'static str, &'static str)>);

impl Ancestry for Told {
    fn descends(&self, commit: &str, ancestor: &str) -> bool {
        self.0.contains(&(commit, ancestor))
    }
}

/// All pictures of so many pending pushes of these commits, each pinned or not, in both orders.
fn pictures(count: u32) -> impl Iterator<Item = Picture> {
    let choices = COMMITS.len() * 2;
    let pending = move |mut number: usize| -> Vec<Contender> {
        let contenders = (2..).take(usize::try_from(count).unwrap());
        let contenders = contenders.map(|admission| {
            let choice = number % choices;
            number /= choices;
            Contender {
                pinned: choice % 2 == 1,
                ..push(admission, COMMITS[choice / 2])
            }
        });
        contenders.collect()
    };
    let orders = [Order::Latest, Order::Queue].into_iter();
    orders.flat_map(move |order| {
        (0..choices.pow(count)).map(move |number| picture(order, pending(number)))
    })
}

#[test]
fn two_branches_and_their_merge_are_granted_in_the_order_that_is_said() {
    let told = Told(WHOLE.to_vec());
    for mut before in pictures(4) {
        let said = plan(&before, &told).turns;
        assert_eq!(said, granted(before.clone(), &told), "{before:?}");
        // Something unrelated acts, and goes live.
        before.acting = Some(acting(push(1, "z"), true));
        let said = plan(&before, &told).turns;
        before.acting = None;
        before.live = Some(live(1, "z"));
        assert_eq!(said, granted(before.clone(), &told), "{before:?}");
    }
}

#[test]
fn where_ancestry_is_half_told_no_pinned_one_loses_the_turn_that_is_said() {
    // Each choice of what is told: of a merge its parents may be known, and not what these descend from.
    for told in 0..(1_usize << WHOLE.len()) {
        let pairs = WHOLE.iter().enumerate();
        let pairs = pairs.filter(|(at, _)| (told >> at) & 1 == 1);
        let told = Told(pairs.map(|(_, &pair)| pair).collect());
        for before in pictures(3) {
            let said = plan(&before, &told).turns;
            let granted = granted(before.clone(), &told);
            let (kept, lost): (Vec<DeploymentId>, Vec<DeploymentId>) =
                said.iter().copied().partition(|id| granted.contains(id));
            assert_eq!(kept, granted, "{before:?} {:?}", told.0);
            // Nobody said that a merge descends from what waits beside it: it takes its pinned parent along,
            // and what that descends from gives way once the parent is live.
            let one = |id: &DeploymentId| before.pending.iter().find(|one| one.id == *id).unwrap();
            let is_rightly_lost = |id: &DeploymentId| {
                let is_newer = |by: &DeploymentId| told.descends(&one(by).commit, &one(id).commit);
                !one(id).pinned && granted.iter().any(is_newer)
            };
            assert!(lost.iter().all(is_rightly_lost), "{before:?} {:?}", told.0);
        }
    }
}
