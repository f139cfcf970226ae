use candlefish_proto::{
    access::{ListTokensResponse, Token},
    deploy::{ListReleasesResponse, ListStopsResponse, Stop},
};

use super::*;

#[test]
fn a_token_that_has_expired_is_shown_as_that_in_red() {
    let coloured = Look {
        colour: true,
        ..look(0)
    };
    let token = |expires_at: Option<prost_types::Timestamp>| ListTokensResponse {
        tokens: vec![Token {
            expires_at,
            ..Token::default()
        }],
        ..Default::default()
    };
    let text = access::tokens(&token(at(-3600)), true, &coloured);
    assert!(
        text.ends_with("\u{1b}[31mexpired 13:04\u{1b}[0m"),
        "{text:?}"
    );
    let text = access::tokens(&token(at(0)), true, &look(0));
    assert!(text.ends_with("expired 14:04:00"), "{text}");
    let text = access::tokens(&token(at(1)), true, &look(0));
    assert!(text.ends_with("works, until 14:04:01"), "{text}");
}

#[test]
fn a_list_that_is_empty_for_what_was_asked_does_not_say_that_there_is_nothing() {
    let (releases, tokens) = (
        ListReleasesResponse::default(),
        ListTokensResponse::default(),
    );
    for (all, release, token) in [
        (
            true,
            "There is no release yet. Make one: candlefish deploy DIR --site SITE",
            "There is no token.",
        ),
        (
            false,
            "There is no release of this commit.",
            "There is no token of this principal.",
        ),
    ] {
        assert_eq!(release::list(&releases, all, &look(0)), release);
        assert_eq!(access::tokens(&tokens, all, &look(0)), token);
    }
}

#[test]
fn a_list_that_was_cut_at_its_limit_says_how_to_see_more() {
    let list = || "ONE\n1".to_owned();
    assert_eq!(limited(list(), "releases", "", 20), list());
    for (limit, more) in [(20, 200), (5, 50), (0, 10)] {
        let text = limited(list(), "releases", "next", limit);
        let expected = format!("ONE\n1\nThere are more releases: --limit {more}");
        assert_eq!(text, expected);
    }
    assert!(limited(list(), "stops", "next", usize::MAX).contains("more stops"));
}

#[test]
fn the_columns_of_a_list_are_under_their_heads_in_colour_too() {
    let stop = |ended_at: Option<prost_types::Timestamp>, reason: &str| Stop {
        id: "stop_01k8qw4f9cfk2t0v1e6m7r8x9a".to_owned(),
        since: at(-300),
        by: "erin".to_owned(),
        until: at(7200),
        ended_by: "system".to_owned(),
        ended_at,
        reason: reason.to_owned(),
        ..Stop::default()
    };
    let list = ListStopsResponse {
        stops: vec![
            stop(None, "the registry\nis down"),
            stop(at(60), "an attack"),
        ],
        ..ListStopsResponse::default()
    };
    let coloured = Look {
        colour: true,
        ..look(120)
    };
    let text = stop::list(&list, &coloured);
    assert_snapshot!(text.replace('\u{1b}', "^"));
    let plain = stop::list(&list, &look(120));
    assert_eq!(console::strip_ansi_codes(&text), plain);
}
