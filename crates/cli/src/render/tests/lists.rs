use candlefish_proto::{
    access::{ListTokensResponse, Principal, Role, Token, WhoAmIResponse},
    deploy::{
        Edge, ListDeploymentsResponse, ListEdgesResponse, ListEnvironmentsResponse,
        ListHistoryResponse, ListQueueItemsResponse, ListReleasesResponse, LogLine, Policy,
        PreviewRule, QueueItem, Record, Site, edge, preview_rule, queue_item, record,
        release::Rejection, site::Source,
    },
    event::Envelope,
};

use super::*;

#[test]
fn an_environment_shows_what_is_live_held_acting_and_pending() {
    let environment = Environment {
        hold: Some(hold()),
        acting_deployment_id: DEP.to_owned(),
        pending_count: 2,
        hosts: vec!["docs.example.org".to_owned()],
        not_restorable: format!("{BEFORE} lacks 3 blobs"),
        ..environment()
    };
    let latest = ListDeploymentsResponse {
        deployments: vec![live(), ended(State::Superseded, "superseded", "")],
        ..Default::default()
    };
    let texts = [
        environment::full(&environment, &look(120)),
        deployment::list(&latest, &look(120)),
        environment::hold(&environment, &look(120)),
    ];
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn the_lifting_of_a_hold_says_what_it_leaves() {
    for (acting, pending_count, leaves) in [
        ("", 0, String::new()),
        ("", 1, " 1 deployment waits.".to_owned()),
        ("", 2, " 2 deployments wait.".to_owned()),
        (DEP, 1, format!(" {DEP} acts.")),
    ] {
        let free = Environment {
            acting_deployment_id: acting.to_owned(),
            pending_count,
            ..environment()
        };
        let text = environment::lifted(&free, &look(120));
        let lifted = "The hold of docs/production is lifted.";
        assert_eq!(text, format!("{lifted}{leaves}"));
    }
}

#[test]
fn environments_and_edges_are_columns() {
    let empty = Environment {
        slug: "staging".to_owned(),
        ..Environment {
            site: "docs".to_owned(),
            ..Default::default()
        }
    };
    let environments = ListEnvironmentsResponse {
        environments: vec![environment(), empty],
        ..Default::default()
    };
    let edge = |id: &str, state: edge::State, message: &str| Edge {
        id: id.to_owned(),
        state: state.into(),
        address: "127.0.0.1:8080".to_owned(),
        heard_at: at(119),
        message: message.to_owned(),
        staged_count: 3,
        route_count: 4,
        ..Edge::default()
    };
    let silent = format!("unreachable, may still serve {REL}");
    let edges = vec![
        edge("edge-1", edge::State::Live, ""),
        edge("edge-2", edge::State::Silent, &silent),
    ];
    let texts = [
        environment::list(&environments, &look(120)),
        environment::edges(
            &ListEdgesResponse {
                edges,
                ..Default::default()
            },
            &look(120),
        ),
        environment::edges(&ListEdgesResponse::default(), &look(120)),
    ];
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn a_list_says_which_environments_are_held_whatever_else_goes_on_there() {
    let held = Environment {
        hold: Some(hold()),
        acting_deployment_id: DEP.to_owned(),
        pending_count: 2,
        ..environment()
    };
    let environments = ListEnvironmentsResponse {
        environments: vec![environment(), held],
        ..Default::default()
    };
    let text = environment::list(&environments, &look(120));
    let held: Vec<_> = text
        .lines()
        .filter(|line| line.contains("held by grace"))
        .collect();
    let words = "held by grace, dep_01k8qw4f9c… acts, 2 pending";
    assert!(held.len() == 1 && held[0].ends_with(words), "{text}");
}

#[test]
fn releases_say_what_they_are_and_where_they_were_rejected() {
    let rejected = Release {
        rejections: vec![Rejection {
            environment: "production".to_owned(),
            ..Default::default()
        }],
        dirty: true,
        ..before()
    };
    let releases = vec![
        Release {
            state: 2,
            ..release()
        },
        Release {
            state: 2,
            ..rejected
        },
    ];
    let list = ListReleasesResponse {
        releases,
        ..Default::default()
    };
    assert_snapshot!(release::list(&list, true, &look(120)));
}

#[test]
fn a_policy_says_how_deployments_go() {
    let kind = strategy::Kind::BlueGreen(BlueGreen { bake: seconds(600) });
    let policy = Policy {
        strategy: Some(Strategy { kind: Some(kind) }),
        settle: seconds(1),
        deadline: seconds(1800),
        min_requests: 50,
        min_edges: 1,
        keep_releases: 10,
        ..Policy::default()
    };
    let canary = strategy::Kind::Canary(Canary {
        weights: vec![10, 50],
        interval: seconds(30),
        bake: seconds(600),
    });
    let canary = Policy {
        strategy: Some(Strategy { kind: Some(canary) }),
        ..Policy::default()
    };
    let one = Policy {
        min_requests: 1,
        min_edges: 2,
        keep_releases: 1,
        ..canary.clone()
    };
    let texts = [&policy, &canary, &one].map(|policy| environment::policy(policy, &look(0)));
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn what_waits_for_a_person_says_how_to_decide() {
    let item = QueueItem {
        id: "step_01k8qw4f9cfk2t0v1e6m7r8x9a".to_owned(),
        kind: queue_item::Kind::Step.into(),
        since: at(0),
        error: "five workers were lost while they had it".to_owned(),
        deployment_id: DEP.to_owned(),
        summary: "stage of docs/production".to_owned(),
        consumer: String::new(),
    };
    let list = ListQueueItemsResponse {
        items: vec![item.clone()],
        ..Default::default()
    };
    assert_snapshot!(
        [
            events::queue(&list, true, &look(120)),
            events::queue_item(&item, &look(120))
        ]
        .join("\n\n")
    );
}

#[test]
fn log_lines_and_events_begin_with_their_time() {
    let line = LogLine {
        at: at_ms(1_250),
        message: "staged on edge-1".to_owned(),
        step_ord: 2,
    };
    let event = Envelope {
        r#type: "deploy.deployment.succeeded.v1".to_owned(),
        entity: DEP.to_owned(),
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        time: at(63),
        actor: "ada".to_owned(),
        ..Envelope::default()
    };
    assert_snapshot!(
        [
            events::log_line(&line, &look(2)),
            events::event(&event, &look(63))
        ]
        .join("\n")
    );
}

#[test]
fn who_calls_is_named_with_what_the_token_may_do() {
    let token = Token {
        id: "tok_01k8qw4f9cfk2t0v1e6m7r8x9a".to_owned(),
        principal: "ci-docs".to_owned(),
        name: "github".to_owned(),
        role: Role::Deployer.into(),
        sites: vec!["docs".to_owned()],
        created_at: at(-60),
        expires_at: at(90 * 24 * 3600),
        revoked_at: None,
    };
    let revoked = Token {
        revoked_at: at(0),
        sites: Vec::new(),
        ..token.clone()
    };
    let expired = Token {
        expires_at: at(-2 * 24 * 3600),
        ..token.clone()
    };
    let principal = Principal {
        name: "ci-docs".to_owned(),
        ..Principal::default()
    };
    let who = WhoAmIResponse {
        principal: Some(principal),
        token: Some(token.clone()),
    };
    let tokens = ListTokensResponse {
        tokens: vec![token, revoked, expired],
        ..Default::default()
    };
    let texts = [
        access::whoami(&who, "http://127.0.0.1:8090", Some("dev"), &look(0)),
        access::tokens(&tokens, true, &look(0)),
    ];
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn numbers_and_times_are_as_people_read_them() {
    let ms = SignedDuration::from_millis;
    for (duration, expected) in [
        (ms(-5), "0 ms"),
        (ms(12), "12 ms"),
        (ms(1_590), "1.5 s"),
        (ms(18_400), "18 s"),
        (ms(63_000), "1 min 3 s"),
        (ms(120_000), "2 min"),
        (ms(7_500_000), "2 h 5 min"),
        (ms((2 * 24 + 17) * 3_600_000), "2 d 17 h"),
    ] {
        assert_eq!(words::duration(duration), expected);
    }
    assert_eq!(words::took(ms(312)), "0.3 s");
    for (count, expected) in [
        (0, "0"),
        (999, "999"),
        (1_124, "1,124"),
        (-1_234_567, "-1,234,567"),
    ] {
        assert_eq!(words::count(count), expected);
    }
    for (bytes, expected) in [
        (12, "12 B"),
        (4_249, "4.2 kB"),
        (212_400, "212 kB"),
        (38_213_004, "38.2 MB"),
    ] {
        assert_eq!(words::bytes(bytes), expected);
    }
    let now = start();
    for (seconds, expected) in [
        (180, "14:07"),
        (66 * 3600, "Monday 08:04"),
        (-86_400, "2026-11-19 14:04"),
    ] {
        assert_eq!(
            words::clock(words::moment(at(seconds).as_ref()).unwrap(), &now),
            expected
        );
    }
}

/// What there is to tell of an environment, newest first.
fn told() -> ListHistoryResponse {
    let record = |kind: record::Kind, seconds: i64, by: &str, reason: &str| Record {
        kind: kind.into(),
        at: at(seconds),
        by: by.to_owned(),
        reason: reason.to_owned(),
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        release_id: REL.to_owned(),
        deployment_id: DEP.to_owned(),
        ..Record::default()
    };
    let everything = Record {
        site: String::new(),
        ..record(record::Kind::LiftStop, 110, "system", "its time has passed")
    };
    let by_hand = Record {
        deployment_id: String::new(),
        ..record(record::Kind::Hold, 50, "ada", "launch day")
    };
    let records = vec![
        everything,
        record(record::Kind::Stop, 100, "erin", "an attack"),
        record(record::Kind::Unban, 90, "erin", "it was published"),
        record(record::Kind::Ban, 80, "erin", "it shows a draft"),
        record(record::Kind::Clear, 70, "ada", "it was the network"),
        record(record::Kind::LiftHold, 60, "ada", "launched"),
        by_hand,
        record(record::Kind::Live, 45, "ada", "the menu is gone"),
        record(record::Kind::Rollback, 40, "ada", "the menu is gone"),
        record(record::Kind::Hold, 40, "ada", "the menu is gone"),
        record(record::Kind::Reject, 30, "ada", "aborted by ada: it hurts"),
        record(record::Kind::Abort, 30, "ada", "it hurts"),
        record(record::Kind::Unpin, 20, "ada", "the newer one has it too"),
        record(record::Kind::Pin, 10, "ada", "it fixes the login"),
        record(record::Kind::Live, 5, "ci-docs", "Fix install page"),
        record(record::Kind::Fail, 2, "system", "its deadline passed"),
        record(record::Kind::Cancel, -90_000, "ci-docs", ""),
    ];
    ListHistoryResponse {
        records,
        ..Default::default()
    }
}

#[test]
fn a_history_says_who_did_what_when_and_why() {
    let ban = candlefish_proto::deploy::release::Ban {
        at: at(0),
        by: "erin".to_owned(),
        reason: "it shows a draft".to_owned(),
    };
    let banned = Release {
        ban: Some(ban),
        ..release()
    };
    let releases = ListReleasesResponse {
        releases: vec![banned.clone()],
        ..Default::default()
    };
    let texts = [
        history::list(&told(), &look(120)),
        history::list(&ListHistoryResponse::default(), &look(120)),
        release::list(&releases, true, &look(120)),
        release::banned(&banned),
        release::unbanned(&release()),
    ];
    assert_snapshot!(texts.join("\n\n"));
}

#[test]
fn a_site_says_which_pull_requests_get_a_preview() {
    let rule = |from: preview_rule::From, age: i64| {
        let site = Site {
            slug: "docs".to_owned(),
            name: "Documentation".to_owned(),
            repository: "example/docs".to_owned(),
            created_by: "erin".to_owned(),
            created_at: at(0),
            previews: Some(PreviewRule {
                from: from.into(),
                max_age: seconds(age),
            }),
            ..Site::default()
        };
        site::full(&site, &look(120))
    };
    let own = rule(preview_rule::From::Repository, 30 * 86_400);
    assert!(own.trim_start().starts_with("Site"), "{own}");
    for part in ["docs  Documentation", "example/docs", "by erin"] {
        assert!(own.contains(part), "{own}");
    }
    let words = "of the repository's own pull requests; one is closed 30 d after its last push";
    assert!(own.contains(words), "{own}");
    assert!(rule(preview_rule::From::Forks, 7_200).contains("forks' too; one is closed 2 h after"));
    assert!(rule(preview_rule::From::Off, 7_200).contains("of no pull request"));
}

#[test]
fn a_site_says_where_its_content_comes_from() {
    let shown = |source: Source, folder: &str| {
        let site = Site {
            source: source.into(),
            folder: folder.to_owned(),
            ..Site::default()
        };
        site::full(&site, &look(120))
    };
    let folder = shown(Source::Repository, "docs/public");
    assert!(folder.contains("the folder docs/public of the"), "{folder}");
    assert!(shown(Source::Repository, "").contains("all of the repository"));
    assert!(shown(Source::Upload, "").contains("uploaded by whoever builds"));
}
