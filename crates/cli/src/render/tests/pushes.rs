use candlefish_proto::deploy::{
    Closing, Delivery, ListTriggersResponse, Stop, Trigger, Undecided,
    trigger::{Outcome, Reason},
};

use super::{push::There, *};

const COMMIT: &str = "4ac21e05c5f6f4a7bb3b0f4bd1f0a2c3d4e5f607";

fn trigger(environment: &str, outcome: Outcome) -> Trigger {
    Trigger {
        delivery_id: "dlv_01k8qw4f9cfk2t0v1e6m7r8x9a".to_owned(),
        repository: "example/docs".to_owned(),
        branch: "main".to_owned(),
        commit: COMMIT.to_owned(),
        sender: "ada".to_owned(),
        site: "docs".to_owned(),
        environment: environment.to_owned(),
        outcome: outcome.into(),
        received_at: at(0),
        ..Trigger::default()
    }
}

/// A push that waits for its content, in an environment that is held.
fn waiting() -> Trigger {
    let content = "nobody uploaded the content of 4ac21e0 yet; whoever builds it, such as CI, does";
    let held = "docs/production is held by grace: search is broken";
    let mut waits = trigger("production", Outcome::Created);
    waits.deployment_id = DEP.to_owned();
    waits.set_deployment_state(State::Pending);
    waits.message = format!("waits: {content}; and {held}");
    waits.action = format!("candlefish deploy DIR --site docs --env production --commit {COMMIT}");
    let lift = "candlefish hold lift docs/production --reason …";
    waits.blockers = vec![
        Blocker {
            until: at(3600),
            ..blocked(blocker::Kind::Content, "deployer", content, &waits.action)
        },
        blocked(blocker::Kind::Hold, "approver", held, lift),
    ];
    waits
}

/// An environment of the site, and what holds and stops it.
fn kept(slug: &str, hold: Option<Hold>, stops: &[Stop]) -> There {
    There {
        place: format!("docs/{slug}"),
        read: Ok(Environment {
            slug: slug.to_owned(),
            hold,
            stops: stops.to_vec(),
            ..environment()
        }),
    }
}

/// A stop of the site.
fn stop() -> Stop {
    Stop {
        site: "docs".to_owned(),
        by: "erin".to_owned(),
        reason: "the registry is down".to_owned(),
        since: at(-300),
        until: at(7200),
        ..Stop::default()
    }
}

#[test]
fn a_push_tells_its_story_everywhere() {
    let waits = waiting();
    let mut live = trigger("staging", Outcome::Created);
    live.deployment_id = EARLIER.to_owned();
    live.set_deployment_state(State::Succeeded);
    live.message = "is live on docs/staging".to_owned();
    let mut other = trigger("next", Outcome::Ignored);
    other.set_reason(Reason::Branch);
    other.message = "docs/next takes pushes to next, not to main".to_owned();
    let mut older = trigger("demo", Outcome::Superseded);
    older.set_reason(Reason::Older);
    older.deployment_id = DEP.to_owned();
    older.set_deployment_state(State::Succeeded);
    older.message = format!("{DEP} has a newer commit; to go back, roll back");
    let mut elsewhere = trigger("", Outcome::Ignored);
    elsewhere.delivery_id = "dlv_01k8qw4f9cfk2t0v1e6m7r8x9b".to_owned();
    elsewhere.site = String::new();
    elsewhere.repository = "example/fork".to_owned();
    elsewhere.set_reason(Reason::UnknownRepository);
    elsewhere.message = "no site has the repository example/fork".to_owned();
    let answer = ListTriggersResponse {
        triggers: vec![waits, live, other, older, elsewhere],
        ..ListTriggersResponse::default()
    };
    let there = [kept("staging", None, &[]), kept("demo", Some(hold()), &[])];
    assert_snapshot!(push::text("4ac21e0", &answer, &there, &look(180)));
}

#[test]
fn what_waits_is_told_in_the_words_of_an_older_server_that_names_no_blockers() {
    let waits = Trigger {
        blockers: Vec::new(),
        ..waiting()
    };
    let (message, action) = (waits.message.clone(), waits.action.clone());
    let answer = ListTriggersResponse {
        triggers: vec![waits],
        ..ListTriggersResponse::default()
    };
    let text = push::text("4ac21e0", &answer, &[], &look(180));
    let expected = format!("waiting    {DEP} {message}\n{:39}{action}", "");
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn it_is_asked_of_environments_whether_they_are_held_where_that_may_be_why() {
    let of = |environment: &str, outcome: Outcome, reason: Reason| {
        let mut one = trigger(environment, outcome);
        one.set_reason(reason);
        one
    };
    let usual = Reason::Unspecified;
    let mut acts = of("acts", Outcome::Created, usual);
    acts.set_deployment_state(State::Waiting);
    acts.blockers = waiting().blockers;
    let answer = ListTriggersResponse {
        triggers: vec![
            waiting(),
            acts,
            of("overtaken", Outcome::Superseded, usual),
            of("older", Outcome::Superseded, Reason::Older),
            of("live", Outcome::Created, usual),
            of("rejected", Outcome::Ignored, Reason::RejectedRelease),
            of("banned", Outcome::Ignored, Reason::BannedRelease),
            of("next", Outcome::Ignored, Reason::Branch),
            of("paths", Outcome::Ignored, Reason::Paths),
            of("twice", Outcome::Ignored, Reason::Duplicate),
            of("pr-12", Outcome::Closed, usual),
            of("", Outcome::Ignored, Reason::NoRule),
            of("live", Outcome::Superseded, usual),
            // That which waits there tells it.
            of("production", Outcome::Superseded, usual),
        ],
        ..ListTriggersResponse::default()
    };
    let asked = push::concerned(&answer);
    let asked: Vec<&str> = asked.iter().map(|one| one.environment.as_str()).collect();
    let expected = ["acts", "overtaken", "older", "live", "rejected", "banned"];
    assert_eq!(asked, expected);
}

#[test]
fn what_keeps_the_environments_is_told_once_and_that_nobody_knows_as_well() {
    let answer = |blockers: Vec<Blocker>| ListTriggersResponse {
        triggers: vec![Trigger {
            blockers,
            ..trigger("production", Outcome::Created)
        }],
        ..ListTriggersResponse::default()
    };
    let unread = There {
        place: "docs/next".to_owned(),
        read: Err("the connection was lost".to_owned()),
    };
    let mut closed = kept("pr-12", Some(hold()), &[]);
    closed.read.as_mut().unwrap().closed = Some(Closing::default());
    let there = [
        kept("production", Some(hold()), &[stop()]),
        kept("staging", None, &[stop()]),
        unread,
        closed,
    ];
    let held = "  docs/production is held by grace (13 min ago): \"search is broken\"
  lift: candlefish hold lift docs/production --reason \"…\"   (approver)";
    let stopped =
        "  The line is stopped: docs by erin (8 min ago, until 16:04, in 1 h 57 min): \"the registry is down\"
  lift: candlefish stop lift docs --reason \"…\"   (approver)";
    let unread =
        "  docs/next could not be read, and may be held or stopped: the connection was lost";
    let ends = |text: String, words: &str| assert!(text.ends_with(words), "{text}");
    let all = format!("\n\n{held}\n{stopped}\n{unread}");
    let look = look(180);
    ends(push::text(COMMIT, &answer(vec![]), &there, &look), &all);
    let id = "dlv_01k8qw4f9cfk2t0v1e6m7r8x9a";
    ends(push::delivery(id, &answer(vec![]), &there, &look), &all);
    // The stop that pauses a deployment is told with that.
    let paused = Blocker {
        until: at(7200),
        ..blocked(blocker::Kind::Stop, "approver", "docs is stopped", "")
    };
    let rest = format!("\n\n{held}\n{unread}");
    ends(
        push::text(COMMIT, &answer(vec![paused]), &there, &look),
        &rest,
    );
}

#[test]
fn a_stop_of_everything_is_told_once_also_where_several_sites_have_the_repository() {
    let message = "everything is stopped by erin: the registry is down";
    let lift = "candlefish stop lift --reason …";
    let mut waits = trigger("production", Outcome::Created);
    waits.deployment_id = DEP.to_owned();
    waits.set_deployment_state(State::Pending);
    waits.blockers = vec![Blocker {
        until: at(7200),
        ..blocked(blocker::Kind::Stop, "approver", message, lift)
    }];
    let mut overtaken = trigger("production", Outcome::Superseded);
    overtaken.site = "handbook".to_owned();
    overtaken.deployment_id = EARLIER.to_owned();
    overtaken.set_deployment_state(State::Superseded);
    overtaken.message = "a newer commit took its place".to_owned();
    let answer = ListTriggersResponse {
        triggers: vec![waits, overtaken],
        ..ListTriggersResponse::default()
    };
    let of = |site: &str| Stop {
        site: site.to_owned(),
        ..stop()
    };
    // A stop of its own, which ends at the same time, is another one.
    let handbook = There {
        place: "handbook/production".to_owned(),
        read: Ok(Environment {
            site: "handbook".to_owned(),
            stops: vec![of(""), of("handbook")],
            ..environment()
        }),
    };
    assert_snapshot!(push::text("4ac21e0", &answer, &[handbook], &look(180)));
}

#[test]
fn a_push_whose_deployment_failed_names_the_one_that_made_its_commit_live() {
    let ended = [
        State::Failed,
        State::Cancelled,
        State::RolledBack,
        State::Superseded,
    ];
    for state in ended {
        let mut live = trigger("staging", Outcome::Created);
        live.deployment_id = DEP.to_owned();
        live.set_deployment_state(state);
        live.went_live_deployment_id = EARLIER.to_owned();
        live.message = "is live on docs/staging".to_owned();
        let answer = ListTriggersResponse {
            triggers: vec![live],
            ..ListTriggersResponse::default()
        };
        let text = push::text("4ac21e0", &answer, &[], &look(180));
        let words = format!("✓ docs/staging             deployed   {EARLIER} is live on");
        assert!(text.contains(&words), "{text}");
        assert!(!text.contains(DEP), "{text}");
    }
    // What waits is told as that, though its commit is live already.
    let mut waits = trigger("staging", Outcome::Created);
    waits.deployment_id = DEP.to_owned();
    waits.went_live_deployment_id = EARLIER.to_owned();
    waits.set_deployment_state(State::Pending);
    let answer = ListTriggersResponse {
        triggers: vec![waits],
        ..ListTriggersResponse::default()
    };
    let text = push::text("4ac21e0", &answer, &[], &look(180));
    assert!(text.contains(&format!("waiting    {DEP}")), "{text}");
}

#[test]
fn a_push_that_nobody_told_of_says_where_to_look() {
    let nothing = ListTriggersResponse::default();
    let texts = [
        push::text(COMMIT, &nothing, &[], &look(0)),
        push::nothing(COMMIT, &nothing, &look(0)),
    ];
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn what_is_not_decided_yet_is_said_after_what_is() {
    let told = |count: i32, error: &str| ListTriggersResponse {
        undecided: Some(Undecided {
            count,
            since: at(0),
            error: error.to_owned(),
        }),
        ..ListTriggersResponse::default()
    };
    let two = told(2, "ask the gateway: it is away");
    let words =
        "\n\n2 deliveries are not decided yet, the oldest for 40 s: ask the gateway: it is away";
    let ends = |text: String, words: &str| assert!(text.ends_with(words), "{text}");
    ends(push::text(COMMIT, &two, &[], &look(40)), words);
    ends(push::nothing(COMMIT, &two, &look(40)), words);
    let mut known = two;
    known.triggers = vec![trigger("production", Outcome::Created)];
    ends(push::text(COMMIT, &known, &[], &look(40)), words);
    let one = push::text("", &told(1, ""), &[], &look(180));
    ends(
        one,
        "\n\n1 delivery is not decided yet, the oldest for 3 min",
    );
}

#[test]
fn that_more_may_have_come_is_said() {
    let mut answer = ListTriggersResponse {
        gateway_error: "ask the gateway".to_owned(),
        ..ListTriggersResponse::default()
    };
    let alone = push::text(COMMIT, &answer, &[], &look(40));
    let words = "whether more came is not known: ask the gateway";
    assert!(alone.ends_with(&format!("\n\n{words}")), "{alone}");
    answer.undecided = Some(Undecided {
        count: 1,
        since: at(0),
        error: String::new(),
    });
    let both = push::nothing(COMMIT, &answer, &look(40));
    let words = format!("\n\n1 delivery is not decided yet, the oldest for 40 s\n{words}");
    assert!(both.ends_with(&words), "{both}");
}

#[test]
fn what_happened_at_the_sender_is_said_in_its_words() {
    let head = |event: &str, pull_request: i32| {
        let mut told = trigger("production", Outcome::Ignored);
        told.event = event.to_owned();
        told.pull_request = pull_request;
        let triggers = vec![told];
        let answer = ListTriggersResponse {
            triggers,
            ..ListTriggersResponse::default()
        };
        let text = push::text("4ac21e0", &answer, &[], &look(180));
        text.lines().next().unwrap().to_owned()
    };
    for (event, pull_request, expected) in [
        ("", 0, "4ac21e0 pushed to main of example/docs by ada, "),
        ("push", 0, "4ac21e0 pushed to main of example/docs by ada, "),
        ("head", 0, "4ac21e0 found at main of example/docs by ada, "),
        (
            "pull_request",
            12,
            "4ac21e0 in pull request 12 of example/docs by ada, ",
        ),
        (
            "workflow_run",
            0,
            "4ac21e0 in workflow run of example/docs by ada, ",
        ),
    ] {
        let line = head(event, pull_request);
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn a_pull_request_that_was_closed_closed_its_preview() {
    let mut closed = trigger("pr-12", Outcome::Closed);
    closed.message = "pull request 12 was merged".to_owned();
    let answer = ListTriggersResponse {
        triggers: vec![closed],
        ..ListTriggersResponse::default()
    };
    let text = push::text("4ac21e0", &answer, &[], &look(180));
    assert!(text.contains("docs/pr-12"), "{text}");
    assert!(
        text.contains("closed     pull request 12 was merged"),
        "{text}"
    );
}

#[test]
fn what_names_neither_branch_nor_repository_is_told_without() {
    let mut unreadable = trigger("", Outcome::Ignored);
    for field in [
        &mut unreadable.site,
        &mut unreadable.repository,
        &mut unreadable.branch,
        &mut unreadable.commit,
        &mut unreadable.sender,
    ] {
        field.clear();
    }
    "push".clone_into(&mut unreadable.event);
    "it is not JSON: EOF".clone_into(&mut unreadable.message);
    let answer = ListTriggersResponse {
        triggers: vec![unreadable],
        ..ListTriggersResponse::default()
    };
    let nowhere = "  · nowhere                  ignored    it is not JSON: EOF";
    assert_eq!(
        push::text("4ac21e0", &answer, &[], &look(180)),
        format!("something pushed, 3 min ago\n{nowhere}")
    );
}

#[test]
fn a_delivery_says_what_became_of_it_whatever_it_was() {
    let id = "dlv_01k8qw4f9cfk2t0v1e6m7r8x9a";
    let told = |event: &str, decided: bool, note: &str| {
        let delivery = Delivery {
            id: id.to_owned(),
            event: event.to_owned(),
            received_at: at(0),
            decided_at: at(1).filter(|_| decided),
            note: note.to_owned(),
        };
        ListTriggersResponse {
            delivery: Some(delivery),
            ..ListTriggersResponse::default()
        }
    };
    let text = |answer: &ListTriggersResponse| push::delivery(id, answer, &[], &look(180));
    let note = "installation names no repository";
    for (answer, became) in [
        (
            told("installation", true, note),
            ", installation, 3 min ago: installation names no repository",
        ),
        (told("push", true, ""), ", push, 3 min ago: nothing follows"),
        (told("", false, ""), ", 3 min ago: not decided yet"),
        (
            told("push", false, "ask the gateway"),
            ", push, 3 min ago: not decided yet: ask the gateway",
        ),
    ] {
        assert_eq!(text(&answer), format!("{id}{became}"));
    }
    let with_trigger = |mut answer: ListTriggersResponse| {
        answer.triggers = vec![trigger("production", Outcome::Ignored)];
        text(&answer)
    };
    // Its triggers say all of it.
    let alone = with_trigger(ListTriggersResponse::default());
    assert!(alone.contains("docs/production"), "{alone}");
    assert_eq!(with_trigger(told("push", true, "words")), alone);
    let open = with_trigger(told("push", false, "ask the gateway"));
    let words = format!("{id}, push, 3 min ago: not decided everywhere yet: ask the gateway");
    assert_eq!(open, format!("{alone}\n\n{words}"));
}

#[test]
fn a_delivery_of_which_nothing_is_known_says_who_may_see_more_and_what_is_open() {
    let id = "dlv_01k8qw4f9cfk2t0v1e6m7r8x9a";
    let mut answer = ListTriggersResponse::default();
    let words = "\
Nothing is known of dlv_01k8qw4f9cfk2t0v1e6m7r8x9a, or nothing that this token may see.
What left no trigger is shown only to tokens of all sites, for 31 days after it was decided.";
    assert_eq!(push::delivery(id, &answer, &[], &look(40)), words);
    answer.undecided = Some(Undecided {
        count: 1,
        since: at(0),
        error: String::new(),
    });
    let open = "1 delivery is not decided yet, the oldest for 40 s";
    assert_eq!(
        push::delivery(id, &answer, &[], &look(40)),
        format!("{words}\n\n{open}")
    );
}
