use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn id(number: u128) -> ReleaseId {
    let text = format!("rel_{}", "0".repeat(26));
    let zero: ReleaseId = text.parse().unwrap();
    assert_eq!(zero.uuid().as_u128(), 0);
    // Crockford's base32 of a small number: its last two characters.
    let alphabet = b"0123456789abcdefghjkmnpqrstvwxyz";
    let high = char::from(alphabet[usize::try_from(number / 32).unwrap()]);
    let low = char::from(alphabet[usize::try_from(number % 32).unwrap()]);
    format!("rel_{}{high}{low}", "0".repeat(24))
        .parse()
        .unwrap()
}

fn split(generation: i32, weights: &[u8]) -> Split {
    let part = |(place, weight): (usize, &u8)| Part {
        release: id(u128::try_from(place).unwrap() + 1),
        weight: *weight,
        share: Some(place),
    };
    Split {
        generation,
        releases: weights.iter().enumerate().map(part).collect(),
        rolling: false,
    }
}

/// The same on an edge that has not got the content of the one at this place.
fn without(place: usize, mut split: Split) -> Split {
    split.releases[place].share = None;
    for part in &mut split.releases[place + 1..] {
        part.share = part.share.map(|share| share - 1);
    }
    split
}

#[test]
fn draws_are_shared_out_by_weight() {
    for weights in [[90, 10], [50, 50], [99, 1], [0, 100], [100, 0]] {
        let split = split(1, &weights);
        let mut seen = HashMap::new();
        for draw in 0..100 {
            *seen
                .entry(split.choose(None, draw).unwrap().share)
                .or_insert(0_u8) += 1;
        }
        for (place, weight) in weights.iter().enumerate() {
            assert_eq!(
                seen.get(&place).copied().unwrap_or_default(),
                *weight,
                "{weights:?}"
            );
        }
    }
}

#[test]
fn a_cookie_reads_back_among_others() {
    let cookie = Cookie {
        generation: 7,
        draw: 42,
        release: id(5),
    };
    let header = format!("a=b; {COOKIE}={cookie}; xcandlefish=1");
    assert_eq!(Cookie::read(&header), Some(cookie));
    let after_a_foreign_one = format!("{COOKIE}=x; {COOKIE}={cookie}");
    assert_eq!(Cookie::read(&after_a_foreign_one), Some(cookie));
    for bad in [
        "",
        "candlefish=",
        "candlefish=1.2",
        "candlefish=1.100.00000000000000000000000005",
        "candlefish=1.2.rel_00000000000000000000000005",
        "candlefish=x.2.00000000000000000000000005",
        "xcandlefish=7.42.00000000000000000000000005",
    ] {
        assert_eq!(Cookie::read(bad), None, "{bad}");
    }
}

#[test]
fn who_saw_the_newer_release_keeps_it_when_its_share_falls() {
    let newer = (0..100)
        .find(|d| split(1, &[50, 50]).choose(None, *d).unwrap().share == 1)
        .unwrap();
    let cookie = split(1, &[50, 50]).choose(None, newer).unwrap().cookie;
    assert!(cookie.is_some());
    for draw in 0..100 {
        let choice = split(1, &[99, 1]).choose(cookie, draw).unwrap();
        assert_eq!((choice.share, choice.cookie), (1, None));
        assert_eq!(choice.kept, cookie);
    }
}

#[test]
fn a_risen_generation_sends_visitors_back() {
    let cookie = Some(Cookie {
        generation: 1,
        draw: 0,
        release: id(2),
    });
    let back = (0..100)
        .filter(|d| split(2, &[99, 1]).choose(cookie, *d).unwrap().share == 0)
        .count();
    assert_eq!(back, 99);
    let gone = split(1, &[100, 0]).choose(cookie, 0).unwrap();
    assert_eq!(gone.share, 0, "a release without traffic is not kept");
}

#[test]
fn who_saw_the_newer_release_on_a_rolled_edge_keeps_it_on_the_others() {
    let edge = |weights: &[u8]| Split {
        rolling: true,
        ..split(4, weights)
    };
    let fresh = edge(&[100, 0]).choose(None, 7).unwrap();
    assert_eq!((fresh.share, fresh.cookie), (0, None));
    let rolled = edge(&[0, 100]).choose(None, 7).unwrap();
    assert_eq!(rolled.share, 1);
    assert_eq!(edge(&[100, 0]).choose(rolled.cookie, 8).unwrap().share, 1);
    let returned = Split {
        generation: 5,
        ..edge(&[100, 0])
    };
    assert_eq!(returned.choose(rolled.cookie, 8).unwrap().share, 0);
}

/// What edges serve one after another while a release goes live: announced, perhaps shared, switched.
fn going_live(shares: &[u8]) -> Vec<Split> {
    let announced = Split {
        rolling: true,
        ..split(4, &[100, 0])
    };
    let moved = shares.iter().chain(&[100]);
    let moved = moved.map(|&share| split(4, &[100 - share, share]));
    std::iter::once(announced).chain(moved).collect()
}

#[test]
fn who_saw_the_newer_release_keeps_it_on_an_edge_that_lags_at_a_move() {
    for moves in [going_live(&[]), going_live(&[10, 50])] {
        for pair in moves.windows(2) {
            let [lags, leads] = pair else {
                panic!("a window of two");
            };
            for draw in 0..100 {
                let seen = leads.choose(None, draw).unwrap();
                if seen.share == 0 {
                    continue;
                }
                let cookie = seen
                    .cookie
                    .expect("who gets the newer release is told to keep it");
                for other in 0..100 {
                    let next = lags.choose(Some(cookie), other).unwrap();
                    assert_eq!((next.share, next.cookie), (1, None), "{lags:?}");
                }
            }
        }
    }
}

#[test]
fn an_announced_release_is_given_to_nobody_who_did_not_see_it() {
    let moves = going_live(&[]);
    let announced = moves.first().unwrap();
    let another = |generation, release| Cookie {
        generation,
        draw: 0,
        release: id(release),
    };
    // Of the release before, of another one, and of this one before it was taken away.
    for cookie in [
        None,
        Some(another(4, 1)),
        Some(another(4, 9)),
        Some(another(3, 2)),
    ] {
        for draw in 0..100 {
            let choice = announced.choose(cookie, draw).unwrap();
            assert_eq!((choice.share, choice.cookie), (0, None), "{cookie:?}");
        }
    }
}

#[test]
fn other_visitors_try_the_next_release() {
    let first = |newest: u128| -> Vec<u64> {
        let mut split = split(1, &[90, 10]);
        split.releases[1].release = id(newest);
        (0..100)
            .filter(|d| split.choose(None, *d).unwrap().share == 1)
            .collect()
    };
    assert_ne!(first(2), first(40));
}

#[test]
fn who_is_to_get_a_newer_release_that_is_not_here_gets_the_older_one_until_it_is() {
    let (whole, here) = (split(4, &[30, 70]), without(1, split(4, &[30, 70])));
    for draw in 0..100 {
        let chosen = whole.choose(None, draw).unwrap();
        let now = here.choose(None, draw).unwrap();
        let cookie = now.cookie.unwrap();
        assert_eq!((now.share, cookie.release), (0, id(1)));
        // It is kept meanwhile, and moves on here or at an edge that has the other one.
        let again = here.choose(Some(cookie), 0).unwrap();
        assert_eq!((again.share, again.cookie), (0, None));
        assert_eq!(whole.choose(Some(cookie), 0).unwrap().share, chosen.share);
    }
}

#[test]
fn nobody_gets_an_older_release_than_was_seen_nor_a_newer_one_than_was_chosen() {
    let cookie = |generation, draw, release| Cookie {
        generation,
        draw,
        release: id(release),
    };
    let whole = split(4, &[50, 50]);
    let (old, new) = (without(1, whole.clone()), without(0, whole.clone()));
    for draw in 0..100_u8 {
        // It saw the newer one, which is not here.
        assert_eq!(old.choose(Some(cookie(4, draw, 2)), 0), None);
        // Before traffic was sent back.
        let back = old.choose(Some(cookie(3, draw, 2)), draw.into()).unwrap();
        assert_eq!(back.share, 0);
        let chosen = whole.choose(None, draw.into()).unwrap().share;
        let found = new.choose(None, draw.into());
        assert_eq!(found.map(|found| found.share), (chosen == 1).then_some(0));
    }
    // Of three the one before the middle one, and nothing older than that for who saw it.
    let three = without(2, split(4, &[20, 40, 40]));
    for draw in 0..100 {
        let first = three.choose(Some(cookie(4, draw, 1)), 0).unwrap().share;
        let middle = three.choose(Some(cookie(4, draw, 2)), 0).unwrap().share;
        assert!(first <= 1 && middle == 1, "{draw}");
        assert_eq!(three.choose(Some(cookie(4, draw, 3)), 0), None);
    }
    // One without traffic is given to nobody in place of another.
    let last = without(1, split(4, &[0, 100]));
    assert_eq!(last.choose(None, 0), None);
    let announced = Split {
        rolling: true,
        ..without(1, split(4, &[100, 0]))
    };
    assert_eq!(announced.choose(None, 0).unwrap().share, 0);
    assert_eq!(announced.choose(Some(cookie(4, 0, 2)), 0), None);
}

proptest! {
    #[test]
    fn no_visitor_goes_back_while_the_share_grows(draw: u64, mut shares in prop::collection::vec(1_u8..=100, 1..8)) {
        shares.sort_unstable();
        let mut cookie = None;
        let mut place = 0;
        for share in shares {
            let choice = split(3, &[100 - share, share]).choose(cookie, draw).unwrap();
            prop_assert!(choice.share >= place);
            place = choice.share;
            cookie = choice.cookie.or(cookie);
        }
    }

    #[test]
    fn no_header_makes_it_panic(header in ".{0,80}", draw: u64) {
        let choice = split(0, &[30, 30]).choose(Cookie::read(&header), draw).unwrap();
        prop_assert!(choice.share < 2);
    }
}
