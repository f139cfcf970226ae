use candlefish_proto::deploy::{
    Delivery, ListTriggersResponse, Trigger, Undecided,
    trigger::{Outcome, Reason},
};

use super::*;

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

#[test]
fn a_push_tells_its_story_everywhere() {
    let mut waits = trigger("production", Outcome::Created);
    waits.deployment_id = DEP.to_owned();
    waits.set_deployment_state(State::Pending);
    waits.message =
        "waits: nobody uploaded the content of 4ac21e0 yet; whoever builds it, such as CI, \
                     does"
            .to_owned();
    waits.action = format!("candlefish deploy DIR --site docs --env production --commit {COMMIT}");
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
    assert_snapshot!(push::text("4ac21e0", &answer, &look(180)));
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
        let text = push::text("4ac21e0", &answer, &look(180));
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
    let text = push::text("4ac21e0", &answer, &look(180));
    assert!(text.contains(&format!("waiting    {DEP}")), "{text}");
}

#[test]
fn a_push_that_nobody_told_of_says_where_to_look() {
    let nothing = ListTriggersResponse::default();
    let texts = [
        push::text(COMMIT, &nothing, &look(0)),
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
    ends(push::text(COMMIT, &two, &look(40)), words);
    ends(push::nothing(COMMIT, &two, &look(40)), words);
    let mut known = two;
    known.triggers = vec![trigger("production", Outcome::Created)];
    ends(push::text(COMMIT, &known, &look(40)), words);
    let one = push::text("", &told(1, ""), &look(180));
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
    let alone = push::text(COMMIT, &answer, &look(40));
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
        let text = push::text("4ac21e0", &answer, &look(180));
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
    let text = push::text("4ac21e0", &answer, &look(180));
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
        push::text("4ac21e0", &answer, &look(180)),
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
    let text = |answer: &ListTriggersResponse| push::delivery(id, answer, &look(180));
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
    assert_eq!(push::delivery(id, &answer, &look(40)), words);
    answer.undecided = Some(Undecided {
        count: 1,
        since: at(0),
        error: String::new(),
    });
    let open = "1 delivery is not decided yet, the oldest for 40 s";
    assert_eq!(
        push::delivery(id, &answer, &look(40)),
        format!("{words}\n\n{open}")
    );
}
