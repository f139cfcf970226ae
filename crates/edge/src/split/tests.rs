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
    let releases = weights.iter().zip(1..).map(|(w, n)| (id(n), *w)).collect();
    Split {
        generation,
        releases,
        rolling: false,
    }
}

#[test]
fn draws_are_shared_out_by_weight() {
    for weights in [[90, 10], [50, 50], [99, 1], [0, 100], [100, 0]] {
        let split = split(1, &weights);
        let mut seen = HashMap::new();
        for draw in 0..100 {
            *seen.entry(split.choose(None, draw).place).or_insert(0_u8) += 1;
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
        .find(|d| split(1, &[50, 50]).choose(None, *d).place == 1)
        .unwrap();
    let cookie = split(1, &[50, 50]).choose(None, newer).cookie;
    assert!(cookie.is_some());
    for draw in 0..100 {
        let choice = split(1, &[99, 1]).choose(cookie, draw);
        assert_eq!((choice.place, choice.cookie), (1, None));
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
        .filter(|d| split(2, &[99, 1]).choose(cookie, *d).place == 0)
        .count();
    assert_eq!(back, 99);
    let gone = split(1, &[100, 0]).choose(cookie, 0);
    assert_eq!(gone.place, 0, "a release without traffic is not kept");
}

#[test]
fn who_saw_the_newer_release_on_a_rolled_edge_keeps_it_on_the_others() {
    let edge = |weights: &[u8]| Split {
        rolling: true,
        ..split(4, weights)
    };
    let fresh = edge(&[100, 0]).choose(None, 7);
    assert_eq!((fresh.place, fresh.cookie), (0, None));
    let rolled = edge(&[0, 100]).choose(None, 7);
    assert_eq!(rolled.place, 1);
    assert_eq!(edge(&[100, 0]).choose(rolled.cookie, 8).place, 1);
    let returned = Split {
        generation: 5,
        ..edge(&[100, 0])
    };
    assert_eq!(returned.choose(rolled.cookie, 8).place, 0);
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
                let seen = leads.choose(None, draw);
                if seen.place == 0 {
                    continue;
                }
                let cookie = seen
                    .cookie
                    .expect("who gets the newer release is told to keep it");
                for other in 0..100 {
                    let next = lags.choose(Some(cookie), other);
                    assert_eq!((next.place, next.cookie), (1, None), "{lags:?}");
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
            let choice = announced.choose(cookie, draw);
            assert_eq!((choice.place, choice.cookie), (0, None), "{cookie:?}");
        }
    }
}

#[test]
fn other_visitors_try_the_next_release() {
    let first = |newest: u128| -> Vec<u64> {
        let split = Split {
            generation: 1,
            releases: vec![(id(1), 90), (id(newest), 10)],
            rolling: false,
        };
        (0..100)
            .filter(|d| split.choose(None, *d).place == 1)
            .collect()
    };
    assert_ne!(first(2), first(40));
}

proptest! {
    #[test]
    fn no_visitor_goes_back_while_the_share_grows(draw: u64, mut shares in prop::collection::vec(1_u8..=100, 1..8)) {
        shares.sort_unstable();
        let mut cookie = None;
        let mut place = 0;
        for share in shares {
            let choice = split(3, &[100 - share, share]).choose(cookie, draw);
            prop_assert!(choice.place >= place);
            place = choice.place;
            cookie = choice.cookie.or(cookie);
        }
    }

    #[test]
    fn no_header_makes_it_panic(header in ".{0,80}", draw: u64) {
        let choice = split(0, &[30, 30]).choose(Cookie::read(&header), draw);
        prop_assert!(choice.place < 2);
    }
}
