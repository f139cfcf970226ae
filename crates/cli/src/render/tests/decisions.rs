use candlefish_proto::deploy::{
    ListStopsResponse, Recreate, Rolling, SetStopRequest, Stop,
    policy::Order,
    rollback::{Earlier, LastLive},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::{
    contexts,
    error::{Again, Error, Exit, Unreachable},
};

/// A lane in which a newer commit supersedes an older one.
fn shared(lane: Lane) -> Around {
    ordered(lane, Some(Ok(Order::Latest)))
}

fn ordered(lane: Lane, order: Option<Result<Order, String>>) -> Around {
    let lane = Box::new(Lane {
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        ..lane
    });
    Around::Shared {
        lane,
        first: None,
        order,
    }
}

#[test]
fn why_names_the_lane_and_who_is_before() {
    let mut deployment = canary();
    deployment.blockers = vec![blocked(
        blocker::Kind::Lane,
        "platform",
        &format!("{EARLIER} acts on docs/production: it bakes until 14:31."),
        &format!("candlefish cancel {EARLIER}"),
    )];
    let lane = Lane {
        acting_deployment_id: EARLIER.to_owned(),
        pending_deployment_ids: vec![DEP.to_owned()],
        ..Lane::default()
    };
    assert_snapshot!(blockers::why(&deployment, &shared(lane), &look(720)));
}

#[test]
fn why_says_until_when_a_timer_runs_and_how_to_pass_it() {
    let lane = Lane {
        acting_deployment_id: DEP.to_owned(),
        ..Lane::default()
    };
    assert_snapshot!(blockers::why(&analysing(), &shared(lane), &look(19)));
}

#[test]
fn why_says_who_may_lift_a_hold_and_lists_every_reason() {
    let mut deployment = canary();
    let lift = "candlefish hold lift docs/production --reason \"…\"";
    deployment.blockers = vec![
        blocked(
            blocker::Kind::Content,
            "deployer",
            "212 kB of the release are not there yet.",
            "",
        ),
        Blocker {
            until: at(7200),
            ..blocked(
                blocker::Kind::Stop,
                "approver",
                "docs is stopped by erin: the registry is down",
                "candlefish stop lift docs --reason …",
            )
        },
        blocked(
            blocker::Kind::Hold,
            "approver",
            "docs/production is held by grace: search is broken",
            lift,
        ),
        Blocker {
            cleared_at: at(1),
            ..blocked(blocker::Kind::Lane, "platform", "Cleared: not shown.", "")
        },
    ];
    // The lane says it too, and is not asked to repeat it.
    let lane = Lane {
        hold: Some(hold()),
        stops: vec![stopping("docs", "the registry is down")],
        ..Lane::default()
    };
    assert_snapshot!(blockers::why(&deployment, &shared(lane), &look(720)));
}

#[test]
fn why_says_that_github_is_asked_again_by_itself() {
    let deployment = Deployment {
        blockers: vec![blocked(
            blocker::Kind::Content,
            "github",
            "GitHub's archive of 4ac21e0 was not fetched: it failed; again at 14:05:20 UTC",
            "candlefish deploy DIR --site docs --env production",
        )],
        ..canary()
    };
    let text = blockers::why(&deployment, &shared(Lane::default()), &look(720));
    let words = "since 12 min (GitHub clears it; it is asked again by itself)\n";
    assert!(text.contains(words), "{text}");
}

/// The lane of a deployment that acts.
fn holding() -> Lane {
    Lane {
        acting_deployment_id: DEP.to_owned(),
        ..Lane::default()
    }
}

fn stopping(site: &str, reason: &str) -> Stop {
    Stop {
        id: "stop_01k8qw4f9cfk2t0v1e6m7r8x9a".to_owned(),
        site: site.to_owned(),
        reason: reason.to_owned(),
        since: at(-300),
        by: "erin".to_owned(),
        until: at(7200),
        ..Stop::default()
    }
}

#[test]
fn why_says_what_holds_and_stops_the_lane_of_what_acts_and_what_waits_there() {
    let waiting = Deployment {
        id: EARLIER.to_owned(),
        blockers: vec![blocked(
            blocker::Kind::Stop,
            "approver",
            "docs is stopped by erin: the registry is down",
            "candlefish stop lift docs --reason …",
        )],
        ..canary()
    };
    let lane = || Lane {
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        pending_deployment_ids: vec![EARLIER.to_owned(), "dep_2".to_owned(), "dep_3".to_owned()],
        hold: Some(hold()),
        stops: vec![stopping("docs", "the registry is down")],
        ..holding()
    };
    let moving = Deployment {
        blockers: Vec::new(),
        message: "staging on 2 edges".to_owned(),
        ..analysing()
    };
    let around = |first| Around::Shared {
        lane: Box::new(lane()),
        first,
        order: None,
    };
    let read = around(Some(Ok(Box::new(waiting))));
    let unread = around(Some(Err("the connection was lost".to_owned())));
    let texts = [
        blockers::why(&analysing(), &read, &look(19)),
        blockers::why(&moving, &unread, &look(19)),
    ];
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn a_deployment_in_full_says_what_holds_and_stops_its_environment() {
    let kept = Environment {
        hold: Some(hold()),
        stops: vec![stopping("docs", "the registry is down")],
        ..environment()
    };
    let kept = environment::kept(&analysing(), &Ok(kept), &look(19));
    assert_snapshot!(deployment::full(&analysing(), &kept, &look(19)));
}

#[test]
fn a_hold_is_told_whatever_a_deployment_does_and_so_is_that_nobody_knows() {
    use State::{Cancelled, Failed, RolledBack, Succeeded, Superseded};
    let look = look(80);
    let held = Environment {
        hold: Some(hold()),
        ..environment()
    };
    let (held, free) = (Ok(held), Ok(environment()));
    let unread = Err("the connection was lost".to_owned());
    let over = [Succeeded, Failed, Cancelled, Superseded, RolledBack];
    let over = over.map(|state| ended(state, "", ""));
    let ledger = ListBlockersResponse::default();
    for one in [canary(), analysing(), live()].iter().chain(&over) {
        let texts = |read: &Result<Environment, String>| {
            let kept = environment::kept(one, read, &look);
            [
                deployment::full(one, &kept, &look),
                timeline::text(one, &ledger, &kept.lines, &look),
            ]
        };
        for text in texts(&held) {
            let words =
                "Held         docs/production by grace (11 min ago): \"search is broken\"\n";
            assert!(text.contains(words), "{text}");
            let lift = "lift: candlefish hold lift docs/production --reason \"…\"\n";
            assert!(text.contains(lift), "{text}");
        }
        for text in texts(&free) {
            assert!(!text.contains("Held"), "{text}");
        }
        for text in texts(&unread) {
            let words = "could not be read, and may be held or stopped: the connection was lost";
            assert!(text.contains(words), "{text}");
        }
    }
}

#[test]
fn why_tells_what_the_deployment_s_own_reasons_do_not() {
    let (docs, everything) = (stopping("docs", "an attack"), stopping("", "a flood"));
    let everything = Stop {
        until: at(3600),
        ..everything
    };
    let kept = Blocker {
        until: at(7200),
        ..blocked(
            blocker::Kind::Stop,
            "approver",
            "docs is stopped by erin: an attack",
            "candlefish stop lift docs --reason …",
        )
    };
    let deployment = Deployment {
        blockers: vec![kept],
        ..canary()
    };
    let lane = Lane {
        pending_deployment_ids: vec![EARLIER.to_owned(), DEP.to_owned(), "dep_3".to_owned()],
        hold: Some(hold()),
        stops: vec![docs, everything],
        ..Lane::default()
    };
    let text = blockers::why(&deployment, &shared(lane.clone()), &look(120));
    assert_eq!(text.matches("an attack").count(), 1, "{text}");
    for told in [
        format!("  Before it: {EARLIER}; 1 deployment waits after it.\n"),
        "  docs/production is held by grace (12 min ago): \"search is broken\"\n".to_owned(),
        "  The line is stopped: everything by erin (7 min ago, until 15:04, in 58 min): \"a flood\"\n"
            .to_owned(),
    ] {
        assert!(text.contains(&told), "{told:?} is not in {text}");
    }
    let unlisted = Deployment {
        id: "dep_4".to_owned(),
        ..deployment
    };
    let text = blockers::why(&unlisted, &shared(lane.clone()), &look(120));
    let all = format!("  Before it: {EARLIER}, {DEP}, dep_3.\n");
    assert!(text.contains(&all), "{text}");
    let held = Deployment {
        blockers: vec![blocked(blocker::Kind::Hold, "approver", "it is held", "")],
        ..canary()
    };
    let text = blockers::why(&held, &shared(lane), &look(120));
    assert!(!text.contains("is held by grace"), "{text}");
    assert_eq!(text.matches("The line is stopped").count(), 2, "{text}");
}

#[test]
fn why_does_not_claim_to_know_a_lane_that_it_could_not_read() {
    let waiting = Deployment {
        blockers: vec![blocked(blocker::Kind::Lane, "platform", "it is next", "")],
        ..canary()
    };
    let around = Around::Unread("the connection was lost".to_owned());
    let text = blockers::why(&waiting, &around, &look(19));
    assert!(!text.contains("nothing"), "{text}");
    assert!(
        text.contains("could not be read: the connection was lost\n"),
        "{text}"
    );
}

#[test]
fn a_lift_says_what_stands_still() {
    let (docs, everything) = (stopping("docs", "an attack"), stopping("", "a flood"));
    let standing = |stops: &[&Stop]| {
        let stops = stops.iter().map(|one| (*one).clone()).collect();
        Ok(ListStopsResponse {
            stops,
            ..ListStopsResponse::default()
        })
    };
    let unread = Err("the connection was lost".to_owned());
    let texts = [
        stop::lifted(&docs, &standing(&[]), &look(120)),
        stop::lifted(&everything, &standing(&[]), &look(120)),
        stop::lifted(&docs, &standing(&[&everything]), &look(120)),
        stop::lifted(&docs, &standing(&[&docs]), &look(120)),
        stop::lifted(&everything, &standing(&[&docs]), &look(120)),
        stop::lifted(&everything, &unread, &look(120)),
    ];
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn what_destroys_says_what_ends() {
    let environment = Environment {
        acting_deployment_id: DEP.to_owned(),
        pending_count: 2,
        ..environment()
    };
    let asked = SetStopRequest {
        until: at(7200),
        ..SetStopRequest::default()
    };
    let texts = [
        environment::closes(&environment),
        environment::closes(&Environment {
            acting_deployment_id: String::new(),
            pending_count: 0,
            ..environment
        }),
        release::bans(&release()),
        stop::stops(&asked, &look(120)),
    ];
    assert_snapshot!(texts.join("\n"));
}

#[test]
fn why_says_who_pinned_it_or_that_a_newer_commit_may_take_its_place() {
    let waiting = Deployment {
        blockers: vec![blocked(blocker::Kind::Lane, "platform", "it is next", "")],
        ..canary()
    };
    let open = blockers::why(&waiting, &shared(Lane::default()), &look(720));
    assert!(open.contains("candlefish pin dep_"), "{open}");
    let pinned = Deployment {
        pin: Some(candlefish_proto::deploy::deployment::Pin {
            at: at(0),
            by: "grace".to_owned(),
            reason: "it fixes the login".to_owned(),
        }),
        ..waiting
    };
    let texts = [
        blockers::why(&pinned, &shared(Lane::default()), &look(720)),
        deployment::full(&pinned, &Kept::default(), &look(720)),
    ];
    for text in texts {
        let words = "by grace, 12 min ago: \"it fixes the login\"";
        assert!(text.contains(words), "{text}");
        assert!(!text.contains("candlefish pin"), "{text}");
    }
}

#[test]
fn why_says_by_the_order_of_the_environment_whether_a_newer_commit_takes_its_place() {
    let (waits, acts) = (canary(), unseen(State::Running));
    let pin = Some(candlefish_proto::deploy::deployment::Pin {
        at: at(0),
        by: "grace".to_owned(),
        reason: "it fixes the login".to_owned(),
    });
    let pinned = |one: &Deployment| Deployment {
        pin: pin.clone(),
        ..one.clone()
    };
    let unread = "the connection was lost".to_owned();
    let held = || Lane {
        hold: Some(hold()),
        ..Lane::default()
    };
    let stopped = || Lane {
        stops: vec![stopping("docs", "an attack")],
        ..Lane::default()
    };
    let by = |order| ordered(Lane::default(), Some(Ok(order)));
    let cases = [
        ("latest, waits", &waits, by(Order::Latest)),
        ("not said, acts", &acts, by(Order::Unspecified)),
        ("latest, waits, held", &waits, shared(held())),
        ("latest, acts, held", &acts, shared(held())),
        ("latest, acts, stopped", &acts, shared(stopped())),
        ("queue, waits", &waits, by(Order::Queue)),
        ("queue, acts", &acts, by(Order::Queue)),
        ("queue, waits, pinned", &pinned(&waits), by(Order::Queue)),
        ("queue, acts, pinned", &pinned(&acts), by(Order::Queue)),
        (
            "order unread",
            &waits,
            ordered(Lane::default(), Some(Err(unread.clone()))),
        ),
        ("lane unread", &waits, Around::Unread(unread)),
    ];
    let texts = cases.map(|(name, one, around)| {
        let text = blockers::why(one, &around, &look(720));
        format!("{name}\n{}", text.lines().next_back().unwrap())
    });
    assert_snapshot!(texts.join("\n"));
}

#[test]
fn why_asks_for_the_order_only_where_its_words_depend_on_it() {
    let rollback = Deployment {
        kind: Kind::Rollback.into(),
        ..canary()
    };
    let over = ended(State::Cancelled, "", "");
    let cases = [
        (canary(), true),
        (unseen(State::Running), true),
        (unseen(State::Waiting), true),
        (unseen(State::Cancelling), false),
        (analysing(), false),
        (rollback, false),
        (over, false),
    ];
    for (one, expected) in cases {
        let state = words::state(one.state());
        assert_eq!(blockers::asks_for_order(&one), expected, "{state}");
        let around = ordered(Lane::default(), Some(Ok(Order::Latest)));
        let text = blockers::why(&one, &around, &look(80));
        assert_eq!(
            text.contains("takes its place") || text.contains("take its place"),
            expected,
            "{text}"
        );
    }
}

/// In a state, with no visitors yet.
fn unseen(state: State) -> Deployment {
    Deployment {
        state: state.into(),
        ..canary()
    }
}

#[test]
fn why_says_when_nothing_blocks_and_when_it_is_over() {
    let moving = Deployment {
        blockers: Vec::new(),
        message: "staging on 2 edges".to_owned(),
        ..analysing()
    };
    let over = ended(State::RolledBack, "verdict", "traffic failed");
    let idle = Environment {
        hold: Some(hold()),
        ..environment()
    };
    let texts = [
        blockers::why(&moving, &shared(holding()), &look(19)),
        blockers::why(&over, &Around::Ended(Now::Free), &look(80)),
        blockers::idle(&idle, &look(80)),
    ];
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn where_nothing_is_live_nobody_claims_that_nothing_ever_was() {
    let aborted = Environment {
        live_release_id: String::new(),
        live_deployment_id: String::new(),
        live_since: None,
        ..environment()
    };
    assert_eq!(
        blockers::idle(&aborted, &look(80)),
        "  Nothing waits for docs/production: nothing is live there."
    );
}

#[test]
fn a_rollback_says_what_will_not_come_back_and_what_holds_afterwards() {
    let rollback = Rollback {
        from: Some(release()),
        to: Some(before()),
        lost_path_count: 14,
        lost_paths: (1..=14).map(|n| format!("/pricing/{n}.html")).collect(),
        last_live: Some(LastLive {
            since: at(-2 * 24 * 3600),
            until: at(0),
            replaced_by: REL.to_owned(),
        }),
        ..Rollback::default()
    };
    let environment = Environment {
        live_since: at(0),
        ..environment()
    };
    let nothing_lost = Rollback {
        lost_path_count: 0,
        lost_paths: Vec::new(),
        ..rollback.clone()
    };
    let already = Rollback {
        already: true,
        deployment: Some(canary()),
        ..rollback.clone()
    };
    let texts =
        [rollback, nothing_lost, already].map(|r| rollback::forecast(&r, &environment, &look(180)));
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn a_rollback_says_who_went_back_just_before_and_what_nobody_can_tell() {
    let unknown = Rollback {
        from: Some(release()),
        to: Some(before()),
        loss_unknown: true,
        earlier: Some(Earlier {
            by: "ops@example.org".to_owned(),
            ago: seconds(180),
            left: "rel_01k8qy4f9cfk2t0v1e6m7r8x9e".to_owned(),
            deployment_id: EARLIER.to_owned(),
            ..Earlier::default()
        }),
        ..Rollback::default()
    };
    let live = |until: Option<prost_types::Timestamp>| {
        let last_live = LastLive {
            since: at(-3 * 24 * 3600),
            until,
            replaced_by: "rel_01k8qw4f9cfk2t0v1e6m7r8x9f".to_owned(),
        };
        Rollback {
            last_live: Some(last_live),
            earlier: None,
            ..unknown.clone()
        }
    };
    let (long_ago, still) = (live(at(-24 * 3600)), live(None));
    let already = Rollback {
        already: true,
        ..unknown.clone()
    };
    let environment = Environment {
        live_since: at(0),
        ..environment()
    };
    let texts = [unknown, long_ago, still, already]
        .map(|r| rollback::forecast(&r, &environment, &look(180)));
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn errors_say_what_happened_why_and_what_to_do() {
    let errors: Vec<_> = names()
        .into_iter()
        .chain(refusals())
        .chain(machine())
        .collect();
    let texts = errors.iter().map(|error| failure::text(error, &look(0)));
    assert_snapshot!(texts.collect::<Vec<_>>().join("\n\n"));
    let exits: Vec<_> = errors.iter().map(Error::exit).collect();
    let names = [Exit::Usage; 4];
    let refusals = [Exit::Usage, Exit::Failed, Exit::Forbidden, Exit::Failed];
    let machine = [Exit::Unreachable, Exit::Forbidden, Exit::Usage];
    assert_eq!(exits, [&names[..], &refusals, &machine].concat());
}

fn names() -> Vec<Error> {
    let site = |site: &str, near: Option<&str>| Error::UnknownSite {
        site: site.to_owned(),
        near: near.map(str::to_owned),
    };
    let environment = Error::UnknownEnvironment {
        site: "docs".to_owned(),
        environment: "prod".to_owned(),
        near: Some("production".to_owned()),
        known: vec!["production".to_owned(), "staging".to_owned()],
    };
    let preview = Error::NoPreview {
        site: "docs".to_owned(),
        environment: "pr-12".to_owned(),
        commit: "4ac21e0".to_owned(),
    };
    vec![
        site("doc", Some("docs")),
        site("shop", None),
        environment,
        preview,
    ]
}

fn refusals() -> Vec<Error> {
    let refused = |code, words: &str, details: ErrorDetails| {
        Error::Refused(Box::new(Status::with_error_details(code, words, details)))
    };
    let none = ErrorDetails::new;
    let mut fields = none();
    fields.add_bad_request_violation("strategy.canary.weights[1]", "must rise: 50 comes after 60");
    let prod = "docs has production and staging, not \"prod\"";
    fields.add_bad_request_violation("environment", prod);
    let mut quoted = none();
    quoted.set_request_info("req_01k8qw4f9cfk2t0v1e6m7r8x9a", "");
    let ended = "dep_… has ended: it succeeded 3 min ago; rollback works now";
    let role = "lifting a hold needs the role approver; you are a deployer";
    vec![
        refused(Code::InvalidArgument, "the request has 2 faults", fields),
        refused(Code::FailedPrecondition, ended, none()),
        refused(Code::PermissionDenied, role, none()),
        refused(Code::Internal, "something failed inside Candlefish", quoted),
    ]
}

#[test]
fn a_limit_that_its_refusal_explains_gets_no_other_advice() {
    let text = |status: Status| failure::text(&Error::Refused(Box::new(status)), &look(0));
    let mut details = ErrorDetails::new();
    details.set_error_info("lane-full", "candlefish", std::collections::HashMap::new());
    let words = "as many deployments wait for docs/production as may (1000)";
    let explained = Status::with_error_details(Code::ResourceExhausted, words, details);
    assert_eq!(text(explained), format!("error: {words}"));
    let bare = text(Status::resource_exhausted("full"));
    assert_eq!(bare, "error: full\n  Try again in a moment.");
}

#[test]
fn every_refusal_for_what_is_so_says_what_to_do() {
    use Code::{AlreadyExists, FailedPrecondition};
    let text = |code, reason: &str, words: &str| {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason, "candlefish", std::collections::HashMap::new());
        let status = Status::with_error_details(code, words, details);
        failure::text(&Error::Refused(Box::new(status)), &look(0))
    };
    for (code, reason, next) in [
        (
            AlreadyExists,
            "principal-exists",
            "candlefish principals list",
        ),
        (
            AlreadyExists,
            "secret-shown-once",
            "candlefish tokens revoke tok_…",
        ),
        (FailedPrecondition, "not-held", "candlefish why SITE/ENV"),
        (
            FailedPrecondition,
            "live-already",
            "candlefish history SITE/ENV",
        ),
        (FailedPrecondition, "state-forbids", "candlefish status DEP"),
        (FailedPrecondition, "of a later server", "candlefish status"),
    ] {
        let told = text(code, reason, "it is so");
        assert!(told.ends_with(next), "{reason}: {told}");
        // What names a command itself says what helps.
        let words = "it is so: candlefish sites";
        assert_eq!(text(code, reason, words), format!("error: {words}"));
    }
}

#[test]
fn a_folder_that_is_no_release_says_what_to_do_with_it() {
    use candlefish_manifest::{Error as Large, PathError, WalkError};
    let path = "a".to_owned();
    let files = Large::Files { files: 3, limit: 2 };
    for (error, next) in [
        (WalkError::Special { path: path.clone() }, "Take it out"),
        (WalkError::LinkLoop { path }, "Put what the link leads to"),
        (WalkError::Path(PathError::Empty), "Rename it"),
        (
            WalkError::Large(files),
            "Leave out what the site does not need",
        ),
    ] {
        let told = failure::text(&Error::Walk(error), &look(0));
        let next = format!("\n  Nothing was sent.\n  {next}");
        assert!(told.contains(&next), "{told}");
    }
}

fn machine() -> Vec<Error> {
    let unreachable = Unreachable {
        address: "http://127.0.0.1:8090".to_owned(),
        why: "Connection refused (os error 111)".to_owned(),
        again: Again::Same,
    };
    let unknown = contexts::Error::Unknown {
        name: "prod".to_owned(),
        known: vec!["dev".to_owned()],
    };
    vec![
        Error::Unreachable(unreachable),
        Error::Context(contexts::Error::None),
        Error::Context(unknown),
    ]
}

#[test]
fn a_stop_is_shown_wherever_it_keeps_something() {
    let stop = Stop {
        id: "stop_01k8qw4f9cfk2t0v1e6m7r8x9a".to_owned(),
        site: "docs".to_owned(),
        pauses: true,
        reason: "the registry is down".to_owned(),
        since: at(-300),
        by: "erin".to_owned(),
        until: at(7200),
        ..Stop::default()
    };
    let everything = Stop {
        site: String::new(),
        pauses: false,
        ended_at: at(60),
        ended_by: "system".to_owned(),
        ..stop.clone()
    };
    let environment = Environment {
        stops: vec![stop.clone()],
        ..environment()
    };
    let list = ListStopsResponse {
        stops: vec![stop.clone(), everything.clone()],
        ..ListStopsResponse::default()
    };
    let kept = Blocker {
        kind: blocker::Kind::Stop.into(),
        since: at(0),
        until: at(7200),
        owner: "approver".to_owned(),
        message: "docs is stopped by erin: the registry is down".to_owned(),
        action: "candlefish stop lift docs --reason …".to_owned(),
        cleared_at: None,
    };
    let deployment = Deployment {
        blockers: vec![kept],
        ..canary()
    };
    let asked = SetStopRequest {
        pauses: true,
        until: at(7200),
        ..SetStopRequest::default()
    };
    let texts = [
        stop::set(&stop, &look(120)),
        stop::set(&everything, &look(120)),
        stop::stops(&asked, &look(120)),
        stop::list(&list, &look(120)),
        stop::list(&ListStopsResponse::default(), &look(120)),
        environment::full(&environment, &look(120)),
        blockers::idle(&environment, &look(120)),
        blockers::why(&deployment, &shared(Lane::default()), &look(120)),
    ];
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn every_strategy_has_its_name() {
    let kinds = [
        (strategy::Kind::Recreate(Recreate {}), "recreate"),
        (strategy::Kind::Rolling(Rolling::default()), "rolling"),
        (
            strategy::Kind::BlueGreen(BlueGreen::default()),
            "blue-green",
        ),
        (strategy::Kind::Canary(Canary::default()), "canary"),
    ];
    for (kind, expected) in kinds {
        assert_eq!(
            words::strategy(Some(&Strategy { kind: Some(kind) })),
            expected
        );
    }
}
