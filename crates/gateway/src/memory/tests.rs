use proptest::prelude::*;

use super::marks::Marks;

fn following() -> Marks {
    let marks = Marks::new();
    marks.follow();
    marks
}

#[test]
fn what_was_read_before_it_was_forgotten_is_not_good_whenever_it_is_kept() {
    let marks = following();
    let shows = [marks.slot("dep_1"), marks.slot("docs")];
    let before = marks.now();
    assert!(marks.are_before(&shows, before));
    // The service reads the row; it is changed and told; only then the answer arrives.
    marks.forget("docs");
    assert!(!marks.are_before(&shows, before));
    let after = marks.now();
    assert!(marks.are_before(&shows, after));
    marks.forget("dep_1");
    assert!(!marks.are_before(&shows, after));
}

#[test]
fn one_site_is_forgotten_and_not_another() {
    let marks = following();
    let since = marks.now();
    let [docs, shop] = ["docs", "shop"].map(|name| [marks.slot(name)]);
    // They share a mark once in thousands of runs: then there is nothing to tell apart.
    if docs != shop {
        marks.forget("docs");
        assert!(!marks.are_before(&docs, since));
        assert!(marks.are_before(&shop, since));
    }
    marks.forget_everything();
    assert!(!marks.are_before(&shop, since));
    assert!(marks.are_before(&shop, marks.now()));
}

#[test]
fn nothing_is_good_while_the_feed_is_not_followed() {
    let marks = Marks::new();
    let slots = [marks.slot("docs")];
    let early = marks.now();
    assert!(!marks.are_before(&slots, early));
    // Forgetting everything does not begin to follow.
    marks.forget_everything();
    assert!(!marks.are_before(&slots, marks.now()));
    marks.follow();
    // Whoever read before may have missed an event.
    assert!(!marks.are_before(&slots, early));
    let since = marks.now();
    assert!(marks.are_before(&slots, since));
    marks.follow();
    assert!(marks.are_before(&slots, since), "it followed all the while");
    marks.lose();
    assert!(!marks.are_before(&slots, since));
    let meanwhile = marks.now();
    marks.follow();
    assert!(!marks.are_before(&slots, meanwhile));
    assert!(marks.are_before(&slots, marks.now()));
}

/// What may happen to one answer and its world.
#[derive(Debug, Clone, Copy)]
enum Act {
    Read,
    ForgetIt,
    ForgetAnother,
    ForgetEverything,
    Lose,
    Follow,
}

proptest! {
    /// Against a model that remembers the last act of each kind.
    #[test]
    fn an_answer_is_good_just_when_nothing_concerned_it_since(
        acts in prop::collection::vec(prop::sample::select(vec![
            Act::Read, Act::ForgetIt, Act::ForgetAnother, Act::ForgetEverything, Act::Lose, Act::Follow,
        ]), 0..40)
    ) {
        let marks = Marks::new();
        let it = [marks.slot("it")];
        prop_assume!(it != [marks.slot("another")]);
        let (mut read, mut good, mut follows) = (None, false, false);
        for act in acts {
            match act {
                Act::Read => {
                    read = Some(marks.now());
                    good = follows;
                }
                Act::ForgetIt => {
                    marks.forget("it");
                    good = false;
                }
                Act::ForgetAnother => marks.forget("another"),
                Act::ForgetEverything => {
                    marks.forget_everything();
                    good = false;
                }
                Act::Lose => {
                    marks.lose();
                    (good, follows) = (false, false);
                }
                Act::Follow => {
                    marks.follow();
                    follows = true;
                }
            }
            if let Some(read) = read {
                prop_assert_eq!(marks.are_before(&it, read), good, "after {:?}", act);
            }
        }
    }
}
