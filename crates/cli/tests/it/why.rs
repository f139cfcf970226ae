use candlefish_proto::deploy::{
    Blocker, Deployment, Hold, Lane, Release, Waited, blocker, deployment::State,
};
use tonic::Status;

use crate::{
    cli::Cli,
    server::{DEP, Server, deployment, live},
};

const WAITS: &str = "dep_01k8qy4f9cfk2t0v1e6m7r8x9b";
const COMMIT: &str = "4ac21e05c5f6f4a7bb3b0f4bd1f0a2c3d4e5f607";

fn of_commit(id: &str, state: State, commit: &str) -> Deployment {
    Deployment {
        id: id.to_owned(),
        release: Some(Release {
            commit: commit.to_owned(),
            ..Release::default()
        }),
        ..deployment(state, 1)
    }
}

fn lane(pending: &[&str]) -> Lane {
    Lane {
        site: "docs".to_owned(),
        environment: "production".to_owned(),
        acting_deployment_id: DEP.to_owned(),
        pending_deployment_ids: pending.iter().map(|id| (*id).to_owned()).collect(),
        ..Lane::default()
    }
}

#[test]
fn why_of_an_environment_says_what_holds_it_and_what_waits_while_another_acts() {
    let server = Server::start();
    let kept = Blocker {
        kind: blocker::Kind::Hold.into(),
        message: "docs/production is held by grace: search is broken".to_owned(),
        ..Blocker::default()
    };
    {
        let mut world = server.world.lock();
        world.deployment = deployment(State::Running, 2);
        world.others = vec![Deployment {
            blockers: vec![kept],
            ..of_commit(WAITS, State::Pending, COMMIT)
        }];
        world.lane = Some(Lane {
            hold: Some(Hold {
                by: "grace".to_owned(),
                reason: "search is broken".to_owned(),
                ..Hold::default()
            }),
            ..lane(&[WAITS, "dep_2", "dep_3"])
        });
    }
    let done = Cli::new(&server.url()).run("why docs/production").code(0);
    for told in [
        "Nothing blocks it.",
        "It has the lane; 3 deployments wait after it.",
        "docs/production is held by grace (never): \"search is broken\"",
        "lift: candlefish hold lift docs/production",
        "The first that waits:",
        WAITS,
        "1. hold ",
    ] {
        assert!(done.out.contains(told), "{told:?} is not in {done:#?}");
    }
}

#[test]
fn whoever_looks_at_a_deployment_is_told_that_its_environment_is_held() {
    let server = Server::start();
    server.world.lock().hold = Some(Hold {
        by: "grace".to_owned(),
        reason: "search is broken".to_owned(),
        ..Hold::default()
    });
    let cli = Cli::new(&server.url());
    for state in [State::Running, State::Waiting, State::Succeeded] {
        server.world.lock().deployment = live(state, 2);
        let look = |command: &str| {
            let done = cli.run(command).code(0);
            done.out + &done.err
        };
        for told in [
            look(&format!("status {DEP}")),
            look(&format!("status {DEP} --timeline")),
            look(&format!("watch {DEP}")),
        ] {
            let words = "docs/production by grace (never): \"search is broken\"";
            assert!(told.contains(words), "{told}");
            assert!(told.contains("lift: candlefish hold lift docs/production"));
        }
    }
    // JSON is the deployment alone.
    let asked = server.world.asked("get_environment").len();
    cli.run(&format!("status {DEP} --json")).code(0);
    assert_eq!(server.world.asked("get_environment").len(), asked);
}

#[test]
fn what_is_known_of_a_deployment_is_told_also_where_its_environment_cannot_be_read() {
    let server = Server::start();
    server
        .world
        .lock()
        .refusals
        .insert("get_environment", Status::internal("something failed"));
    let done = Cli::new(&server.url())
        .run(&format!("status {DEP}"))
        .code(0);
    assert!(done.out.contains(DEP), "{done:#?}");
    let words = "could not be read, and may be held or stopped: something failed";
    assert!(done.out.contains(words), "{done:#?}");
}

#[test]
fn why_as_json_has_every_reason() {
    let server = Server::start();
    let kept = |kind: blocker::Kind| Blocker {
        kind: kind.into(),
        message: "it is kept".to_owned(),
        ..Blocker::default()
    };
    {
        let mut world = server.world.lock();
        let kinds = [
            blocker::Kind::Content,
            blocker::Kind::Stop,
            blocker::Kind::Hold,
        ];
        world.deployment = Deployment {
            blockers: kinds.map(kept).to_vec(),
            ..deployment(State::Pending, 1)
        };
        world.lane = Some(Lane {
            acting_deployment_id: String::new(),
            ..lane(&[DEP])
        });
    }
    let done = Cli::new(&server.url())
        .run(&format!("why {DEP} --json"))
        .code(0);
    let object: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let told = object["blockers"].as_array().unwrap().iter();
    let kinds: Vec<_> = told.map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["KIND_CONTENT", "KIND_STOP", "KIND_HOLD"]);
}

#[test]
fn a_script_tells_the_answers_of_why_apart_by_their_keys() {
    let server = Server::start();
    let cli = Cli::new(&server.url());
    let told = |subject: &str, code: i32| {
        let done = cli.run(&format!("why {subject} --json")).code(code);
        let told: serde_json::Value = serde_json::from_str(&done.out).unwrap();
        let lists = ["deployments", "triggers"];
        let lists = lists.map(|list| told[list].as_array().map(Vec::len));
        let kind = told["id"].as_str().and_then(|id| id.split('_').next());
        let kind = kind.map(str::to_owned);
        (lists, kind)
    };
    server.world.lock().deployment = deployment(State::Running, 2);
    server.world.lock().lane = Some(lane(&[]));
    let acts = ([None, None], Some("dep".to_owned()));
    assert_eq!(told(DEP, 0), acts);
    assert_eq!(told("docs/production", 0), acts);
    server.world.lock().lane = Some(Lane {
        acting_deployment_id: String::new(),
        ..lane(&[])
    });
    let idle = ([None, None], Some("env".to_owned()));
    assert_eq!(told("docs/production", 0), idle);
    assert_eq!(told("4ac21e0", 1), ([None, Some(0)], None));
    server.world.lock().others = vec![of_commit(WAITS, State::Pending, COMMIT)];
    assert_eq!(told("4ac21e0", 0), ([Some(1), None], None));
}

#[test]
fn the_timeline_tells_what_kept_it_before_and_what_its_time_is_charged_to_now() {
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let server = Server::start();
    {
        let mut world = server.world.lock();
        world.deployment = Deployment {
            created_at: at(1_700_000_000),
            ..deployment(State::Pending, 3)
        };
        world.blockers = vec![
            Blocker {
                kind: blocker::Kind::Content.into(),
                since: at(1_700_000_000),
                cleared_at: at(1_700_000_090),
                ..Blocker::default()
            },
            Blocker {
                kind: blocker::Kind::Hold.into(),
                since: at(1_700_000_090),
                ..Blocker::default()
            },
            Blocker {
                kind: blocker::Kind::Stop.into(),
                since: at(1_700_000_030),
                ..Blocker::default()
            },
        ];
    }
    let cli = Cli::new(&server.url());
    let done = cli.run(&format!("status {DEP} --timeline")).code(0);
    let line = |kind: &str| done.out.lines().find(|line| line.contains(kind)).unwrap();
    assert!(line("‖ content").ends_with("1 min 30 s"), "{done:#?}");
    assert!(line("‖ hold").ends_with(" so far"), "{done:#?}");
    assert!(!done.out.contains("‖ stop"), "{done:#?}");
    // A server that does not tell sums: none are made up.
    assert!(done.out.trim_end().ends_with(" in all"), "{done:#?}");
    cli.run(&format!("status {DEP}")).code(0);
    assert_eq!(server.world.asked("list_blockers").len(), 1);
}

/// Went live after 4000 s, and waited so often: a second, every other one.
fn waited_often(count: i64) -> Server {
    const BEGUN: i64 = 1_700_000_000;
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let lasted = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let wait = |number: i64| Blocker {
        kind: blocker::Kind::Provider.into(),
        since: at(BEGUN + 2 * number),
        cleared_at: at(BEGUN + 2 * number + 1),
        ..Blocker::default()
    };
    let server = Server::start();
    {
        let mut world = server.world.lock();
        world.deployment = Deployment {
            created_at: at(BEGUN),
            live_at: at(BEGUN + 4000),
            finished_at: at(BEGUN + 4000),
            ..deployment(State::Succeeded, 9)
        };
        world.blockers = (0..count).map(wait).collect();
        world.sums.waited = vec![Waited {
            kind: blocker::Kind::Provider.into(),
            total: lasted(count),
            of_lead_time: lasted(count),
            ..Waited::default()
        }];
        world.sums.lead_time = lasted(4000);
        world.sums.unblocked = lasted(4000 - count);
    }
    server
}

/// When each of the waits that a timeline draws began.
fn begun(timeline: &str) -> Vec<&str> {
    let bars = timeline.lines().filter_map(|line| line.rsplit_once('│'));
    let waits = bars.filter(|(bar, _)| bar.contains("‖ provider"));
    // The columns of both times have a width.
    waits.map(|(_, times)| times[..12].trim()).collect()
}

#[test]
fn the_timeline_joins_the_pages_of_what_waited_often_and_sums_it_up_once() {
    let server = waited_often(450);
    let done = Cli::new(&server.url()).run(&format!("status {DEP} --timeline"));
    let done = done.code(0);
    assert_eq!(server.world.asked("list_blockers").len(), 3);
    let begun = begun(&done.out);
    assert_eq!(begun.len(), 450, "{done:#?}");
    assert_eq!(begun[..3], ["0 ms", "2 s", "4 s"], "{done:#?}");
    assert!(!done.out.contains("Earlier waits"), "{done:#?}");
    let told: Vec<_> = done.out.trim_end().lines().rev().take(3).collect();
    assert_eq!(
        told,
        [
            "    nothing in its way   59 min 10 s    89 %",
            "  ‖ provider              7 min 30 s    11 %",
            "  Until it was live: 1 h 6 min",
        ]
    );
}

#[test]
fn the_timeline_draws_the_last_thousand_waits_and_says_where_the_others_are() {
    let server = waited_often(1200);
    let done = Cli::new(&server.url()).run(&format!("status {DEP} --timeline"));
    let done = done.code(0);
    let begun = begun(&done.out);
    assert_eq!(begun.len(), 1000, "{done:#?}");
    assert_eq!(begun[0], "6 min 40 s", "{done:#?}");
    let earlier = format!("Earlier waits: GET /v1/deployments/{DEP}/blockers?page_token=200");
    assert!(done.out.contains(&earlier), "{done:#?}");
    assert!(
        done.out
            .contains("‖ provider                  20 min    30 %"),
        "{done:#?}"
    );
}

#[test]
fn a_lane_that_cannot_be_read_is_told_as_that() {
    let server = Server::start();
    server.world.lock().deployment = deployment(State::Pending, 1);
    let done = Cli::new(&server.url()).run(&format!("why {DEP}")).code(0);
    assert!(
        done.out
            .contains("could not be read: something failed inside Candlefish"),
        "{done:#?}"
    );
    assert!(!done.out.contains("Before it: nothing"), "{done:#?}");
}

#[test]
fn the_first_digits_of_a_commit_find_what_was_deployed_without_a_push() {
    let server = Server::start();
    {
        let mut world = server.world.lock();
        // More than a page lies between.
        let newer = (0..300).map(|_| of_commit("dep_newer", State::Succeeded, &"b".repeat(40)));
        world.others = newer.collect();
        world.others.extend([
            of_commit(WAITS, State::Pending, COMMIT),
            of_commit("dep_ended", State::Superseded, COMMIT),
        ]);
        world.lane = Some(lane(&[WAITS]));
    }
    let cli = Cli::new(&server.url());
    for commit in ["4ac21e0", "4AC21E05", COMMIT] {
        let done = cli.run(&format!("why {commit}")).code(0);
        assert!(done.out.starts_with("docs/production\n"), "{done:#?}");
        assert!(done.out.contains(WAITS), "{done:#?}");
        assert!(!done.out.contains("dep_ended"), "{done:#?}");
    }
    // All sites are asked at once.
    assert!(server.world.asked("list_sites").is_empty());
}

#[test]
fn a_commit_of_sha_256_is_found_by_its_first_digits_and_whole() {
    let commit = "4ac21e05".repeat(8);
    let server = Server::start();
    {
        let mut world = server.world.lock();
        world.others = vec![of_commit(WAITS, State::Pending, &commit)];
        world.lane = Some(lane(&[WAITS]));
    }
    let cli = Cli::new(&server.url());
    for asked in [&commit[..7], &commit[..41], commit.as_str()] {
        let done = cli.run(&format!("why {asked}")).code(0);
        assert!(done.out.contains(WAITS), "{done:#?}");
        cli.run(&format!("push {asked}")).code(1);
    }
    let too_long = "a".repeat(65);
    for asked in ["4ac21e", too_long.as_str()] {
        for command in ["why", "push"] {
            cli.run(&format!("{command} {asked}"))
                .code(2)
                .says("a commit of 7 to 64 hex digits");
        }
    }
}

#[test]
fn a_commit_of_which_all_has_ended_says_how_and_another_one_is_not_known() {
    let server = Server::start();
    server.world.lock().others = vec![
        of_commit("dep_newest", State::Cancelled, COMMIT),
        of_commit("dep_older", State::Failed, COMMIT),
    ];
    let cli = Cli::new(&server.url());
    let done = cli.run("why 4ac21e0").code(0);
    assert!(done.out.contains("dep_newest"), "{done:#?}");
    assert!(done.out.contains("is over: cancelled"), "{done:#?}");
    assert!(!done.out.contains("dep_older"), "{done:#?}");
    let done = cli.run("why 5ac21e0").code(1);
    assert!(
        done.out
            .contains("Neither a push nor a deployment of 5ac21e0 is known"),
        "{done:#?}"
    );
}
