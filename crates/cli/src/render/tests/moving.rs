use super::*;

#[test]
fn a_canary_shows_what_was_done_what_goes_on_and_what_is_to_come() {
    let deployment = analysing();
    let look = look(19);
    let mut lines = vec![
        deployment::labelled("Hashing", "1,124 files, 38.2 MB", "0.3 s", &look),
        deployment::labelled(
            "Uploading",
            "10 new files, 212 kB (1,114 already stored)",
            "0.1 s",
            &look,
        ),
        deployment::labelled(
            "Release",
            &format!("{}  {}", words::short(REL), release::origin(&release())),
            "",
            &look,
        ),
        deployment::head(&deployment, &look),
        String::new(),
    ];
    lines.extend(deployment::live(&deployment, &look));
    assert_snapshot!(lines.join("\n"));
}

/// What a line is about, without ids, numbers and times of its own: `✓ verify candidate`, `Release`.
fn about(line: &str) -> String {
    let line = line.trim().replace(['◓', '◑', '◒'], "◐");
    let words = line.split("  ").next().unwrap_or_default();
    let words = words.split(" after ").next().unwrap_or_default();
    words.to_owned()
}

#[test]
fn the_picture_in_the_readme_is_what_a_canary_shows_when_it_is_live() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let picture = readme.split("```").nth(1).unwrap();
    let (typed, printed) = picture.trim_start().split_once('\n').unwrap();
    assert!(
        typed.starts_with("$ candlefish deploy ") && typed.contains("--strategy canary"),
        "{typed}"
    );
    let (deployment, look) = (live(), look(63));
    let mut lines: Vec<String> = ["Hashing", "Uploading", "Release"]
        .map(|label| deployment::labelled(label, "…", "", &look))
        .into();
    lines.push(deployment::head(&deployment, &look));
    lines.extend(deployment::live(&deployment, &look));
    let ending = ending::text(&deployment, Outcome::Live, &Now::Free, &look);
    lines.extend(ending.lines().map(str::to_owned));
    let of = |lines: Vec<&str>| -> Vec<String> {
        let said = lines.into_iter().filter(|line| !line.trim().is_empty());
        said.map(about).collect()
    };
    assert_eq!(
        of(printed.lines().collect()),
        of(lines.iter().map(String::as_str).collect())
    );
}

#[test]
fn a_narrow_screen_cuts_what_was_found_and_keeps_how_long_it_took() {
    let narrow = Look {
        width: 60,
        height: Some(24),
        cuts: true,
        ..look(19)
    };
    let lines = deployment::live(&analysing(), &narrow);
    assert!(
        lines.iter().all(|line| measure_text_width(line) <= 60),
        "{lines:#?}"
    );
    assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_result_at_a_terminal_is_whole_however_narrow_it_is() {
    let narrow = Look {
        width: 80,
        height: Some(24),
        ..look(19)
    };
    let mut deployment = live();
    deployment.reason =
        "the fix for the search that is broken since the last release, see #12".to_owned();
    let text = deployment::full(&deployment, &Kept::default(), &narrow);
    assert!(text.contains(&deployment.reason), "{text}");
    assert!(text.contains(&deployment.preview_url), "{text}");
    // What has room is put to the right end all the same.
    let line = narrow.line("  Hashing      1,124 files", "0.3 s");
    assert_eq!(measure_text_width(&line), 80, "{line}");
    let long = "x".repeat(90);
    assert_eq!(narrow.line(&long, ""), long);
    assert_eq!(narrow.line(&long, "0.3 s"), format!("{long}  0.3 s"));
    let cut = Look {
        cuts: true,
        ..narrow
    };
    assert_eq!(measure_text_width(&cut.line(&long, "0.3 s")), 80);
}

#[test]
fn colours_say_nothing_that_the_words_do_not() {
    let coloured = Look {
        colour: true,
        ..look(19)
    };
    let lines = deployment::live(&analysing(), &coloured).join("\n");
    assert!(lines.contains("\u{1b}["));
    let plain = deployment::live(&analysing(), &look(19)).join("\n");
    // The glyph of what goes on turns; nothing else differs.
    let stripped = console::strip_ansi_codes(&lines).replace(['◓', '◑', '◒'], "◐");
    assert_eq!(stripped, plain);
}

#[test]
fn live_says_where_after_how_long_until_when_it_bakes_and_how_to_undo() {
    assert_snapshot!(ending::text(&live(), Outcome::Live, &Now::Free, &look(63)));
}

#[test]
fn a_preview_says_that_nothing_else_was_touched() {
    let mut deployment = live();
    deployment.set_kind(Kind::Preview);
    deployment.set_state(State::Succeeded);
    deployment.environment = "01k8qw4f9cfk2t0v1e6m7r8x9a".to_owned();
    (deployment.live_at, deployment.finished_at) = (None, at(2));
    assert_snapshot!(ending::text(
        &deployment,
        Outcome::Live,
        &Now::Free,
        &look(3)
    ));
}

#[test]
fn every_ending_says_what_happened_and_what_to_do() {
    use State::{Cancelled, Failed, RolledBack, Superseded};
    let mut superseded = ended(
        Superseded,
        "superseded",
        "dep_01k8qtzz9cfk2t0v1e6m7r8x9b has a newer commit",
    );
    superseded.superseded_by = EARLIER.to_owned();
    let mut cancelled = ended(Cancelled, "cancelled", "cancelled by grace: wrong branch");
    cancelled.target_confirmed = Some(false);
    let mut failed = ended(
        Failed,
        "verification",
        "/install.html differs: expected 4ac2…, found 9b1d….",
    );
    failed.pivoted_at = None;
    let endings = [
        (failed, Outcome::Failed),
        (
            ended(
                RolledBack,
                "verdict",
                "traffic failed: 4.1 % of 688 requests, stable 0.1 %.",
            ),
            Outcome::Failed,
        ),
        (cancelled, Outcome::Cancelled),
        (superseded, Outcome::Superseded),
        (held(), Outcome::Waiting(SignedDuration::from_mins(5))),
        (analysing(), Outcome::Interrupted),
    ];
    let texts = endings
        .iter()
        .map(|(deployment, outcome)| ending::text(deployment, *outcome, &Now::Free, &look(64)));
    assert_snapshot!(texts.collect::<Vec<_>>().join("\n\n"));
}

#[test]
fn what_gave_way_to_a_rollback_does_not_say_what_visitors_get() {
    let words = "dep_01k8qtzz9cfk2t0v1e6m7r8x9b of erin goes back";
    let preempted = ended(State::RolledBack, "preempted", words);
    let text = ending::text(&preempted, Outcome::Failed, &Now::Free, &look(64));
    assert!(!text.contains("serves"), "{text}");
}

#[test]
fn what_failed_with_traffic_says_what_visitors_get_now() {
    let mut failed = ended(State::Failed, "aborted", "aborted by grace: it hurts");
    let nothing = "There was no release to go back to: docs/production serves nothing now.";
    let stays = "docs/production stays on the release that it went back to.";
    for (kind, target_confirmed, words) in [
        (Kind::Standard, Some(true), nothing),
        (Kind::Rollback, Some(true), nothing),
        (Kind::Rollback, None, stays),
    ] {
        failed.set_kind(kind);
        failed.target_confirmed = target_confirmed;
        let text = ending::text(&failed, Outcome::Failed, &Now::Free, &look(64));
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_rollback_that_undid_what_it_preempted_says_what_visitors_get_now() {
    let mut rollback = ended(State::Failed, "edges", "no edge could stage it");
    rollback.set_kind(Kind::Rollback);
    rollback.pivoted_at = None;
    let told = |one: &Deployment, outcome| ending::text(one, outcome, &Now::Free, &look(64));
    let before = told(&rollback, Outcome::Failed);
    assert!(
        before.contains("Nothing is live that was not before."),
        "{before}"
    );
    let mut back = step(20, step::Kind::Return, 0, 0);
    back.set_state(step::State::Done);
    rollback.steps.push(back);
    for (state, outcome) in [
        (State::Failed, Outcome::Failed),
        (State::Cancelled, Outcome::Cancelled),
    ] {
        rollback.set_state(state);
        rollback.previous_release_id = REL.to_owned();
        let said = told(&rollback, outcome);
        assert!(
            said.contains(&format!("docs/production serves {REL} now.")),
            "{said}"
        );
        rollback.previous_release_id.clear();
        let said = told(&rollback, outcome);
        assert!(
            said.contains("docs/production serves nothing now."),
            "{said}"
        );
    }
}

#[test]
fn what_is_not_repeated_is_made_anew() {
    let mut deployment = ended(State::Cancelled, "cancelled", "");
    for (kind, command) in [
        (
            Kind::Standard,
            "candlefish retry dep_01k8qw4f9cfk2t0v1e6m7r8x9a",
        ),
        (Kind::Rollback, "candlefish rollback docs/production"),
        (Kind::Preview, "candlefish deploy DIR --site docs --preview"),
    ] {
        deployment.set_kind(kind);
        let text = ending::text(&deployment, Outcome::Cancelled, &Now::Free, &look(64));
        assert!(text.ends_with(command), "{text}");
    }
}

#[test]
fn a_rollback_says_that_its_environment_is_held_only_while_it_is() {
    let lift = "production is held. Lift it: candlefish hold lift docs/production --reason \"…\"";
    let mut back = live();
    back.set_kind(Kind::Rollback);
    for state in [State::Running, State::Waiting, State::Succeeded] {
        back.set_state(state);
        let texts = |now: Now| {
            let kept = Kept {
                now,
                ..Kept::default()
            };
            [
                ending::text(&back, Outcome::Live, &kept.now, &look(90)),
                deployment::full(&back, &kept, &look(90)),
            ]
        };
        for text in texts(Now::Held) {
            assert!(text.ends_with(&format!("\n  {lift}")), "{text}");
        }
        for text in texts(Now::Free) {
            assert!(!text.contains("held") && !text.ends_with('\n'), "{text}");
        }
        for text in texts(Now::Unread) {
            let words = "Whether production is still held could not be read: candlefish status \
                         docs/production";
            assert!(text.ends_with(words), "{text}");
        }
    }
    // The last of them has succeeded.
    for (now, told) in [(Now::Held, true), (Now::Free, false)] {
        let text = blockers::why(&back, &Around::Ended(now), &look(90));
        assert_eq!(text.contains(lift), told, "{text}");
    }
    // Whatever else is live says how to undo it, held or not.
    let text = ending::text(&live(), Outcome::Live, &Now::Held, &look(90));
    let undo = "Undo: candlefish rollback docs/production";
    assert!(text.ends_with(undo), "{text}");
}

#[test]
fn what_succeeded_and_is_live_no_more_is_not_told_as_live_nor_undone() {
    let mut old = live();
    old.set_state(State::Succeeded);
    let by = |id: &str| Environment {
        live_deployment_id: id.to_owned(),
        hold: Some(hold()),
        ..environment()
    };
    let texts = |deployment: &Deployment, read: Result<Environment, String>| {
        let kept = environment::kept(deployment, &read, &look(90));
        [
            ending::text(deployment, Outcome::Live, &kept.now, &look(90)),
            ending::text(deployment, Outcome::Superseded, &kept.now, &look(90)),
            deployment::full(deployment, &kept, &look(90)),
            blockers::why(deployment, &Around::Ended(kept.now), &look(90)),
        ]
    };
    for kind in [Kind::Standard, Kind::Rollback] {
        old.set_kind(kind);
        for (id, is) in [(EARLIER, EARLIER), ("", "nothing")] {
            for text in texts(&old, Ok(by(id))) {
                let words = format!(
                    "  It was live; {is} is now.\n  What is live:   candlefish status docs/production"
                );
                assert!(text.ends_with(&words), "{text}");
                assert!(
                    !text.contains("Live on") && !text.contains("Undo"),
                    "{text}"
                );
            }
        }
        for text in texts(&old, Err("the connection was lost".to_owned())) {
            assert!(
                !text.contains("Live on") && !text.contains("Undo"),
                "{text}"
            );
            assert!(text.ends_with("could not be read: candlefish status docs/production"));
        }
    }
    // What it was and still is; what acts is what visitors get, whatever was live before.
    old.set_kind(Kind::Standard);
    for (deployment, id) in [(old, DEP), (live(), EARLIER)] {
        let [text, ..] = texts(&deployment, Ok(by(id)));
        assert!(text.contains("Live on") && text.contains("Undo"), "{text}");
    }
}

#[test]
fn who_stops_watching_what_is_being_undone_is_not_told_to_cancel_it() {
    let undone = ended(State::Cancelling, "cancelled", "");
    let text = ending::text(&undone, Outcome::Interrupted, &Now::Free, &look(64));
    assert!(
        text.starts_with("  Stopped watching. It is being undone all the same.\n"),
        "{text}"
    );
    assert!(!text.contains("candlefish cancel"), "{text}");
}

#[test]
fn a_hold_that_comes_or_goes_is_a_line_unless_the_deployment_waits_for_it() {
    let held = Environment {
        hold: Some(hold()),
        ..environment()
    };
    let is_held = "14:04:19  docs/production is held by grace: \"search is broken\"; what is under \
                   way goes on. Lift it: candlefish hold lift docs/production --reason \"…\"";
    let is_free = "14:04:19  docs/production is no longer held";
    let mut back = canary();
    back.set_kind(Kind::Rollback);
    let undone = ended(State::Cancelling, "aborted", "");
    for acts in [analysing(), live(), undone, back] {
        let told = changes::hold(&acts, &held, &look(19));
        assert_eq!(told.as_deref(), Some(is_held), "{:?}", acts.state());
    }
    // Its blocker tells of the hold; nothing but this tells of its end.
    assert_eq!(changes::hold(&canary(), &held, &look(19)), None);
    let before = canary();
    let lines = changes::lines(Some(&before), &self::held(), &look(19));
    let waits = "14:04:19  waits for hold: docs/production is held by grace: search is broken (an \
                 approver can clear it) → candlefish hold lift docs/production --reason \"…\"";
    assert_eq!(lines, [waits]);
    for one in [canary(), analysing(), live()] {
        let told = changes::hold(&one, &environment(), &look(19));
        assert_eq!(told.as_deref(), Some(is_free), "{:?}", one.state());
    }
}

#[test]
fn a_pipe_gets_one_line_per_change_with_a_time() {
    let mut quarantined = analysing();
    quarantined.steps[4].set_state(step::State::Quarantined);
    quarantined.blockers.push(Blocker {
        kind: blocker::Kind::Quarantine.into(),
        owner: "deployer".to_owned(),
        message: "stage lost 5 workers".to_owned(),
        ..Blocker::default()
    });
    let mut undone = ended(State::Cancelling, "aborted", "");
    let mut undo = step(12, step::Kind::Return, 0, 0);
    undo.undo = true;
    undone.steps.push(undo);
    done(&mut undone, 12, 63_000, 63_240, "2 of 2 edges");
    let seen = [
        canary(),
        analysing(),
        analysing(),
        quarantined,
        undone,
        ended(State::RolledBack, "aborted", ""),
    ];
    let mut before = None;
    let mut lines = Vec::new();
    for (second, now) in (0..).zip(&seen) {
        lines.extend(changes::lines(before, now, &look(second)));
        before = Some(now);
    }
    assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_deployment_in_full_says_who_asked_and_how_it_stands() {
    let mut deployment = live();
    deployment.reason = "the fix for #12".to_owned();
    assert_snapshot!(deployment::full(&deployment, &Kept::default(), &look(90)));
}

#[test]
fn the_timeline_is_a_waterfall_of_the_stored_times() {
    let mut deployment = live();
    deployment.started_at = at_ms(9);
    let ledger = ledger(vec![
        waited(blocker::Kind::Lane, at(0), at_ms(9)),
        waited(blocker::Kind::Timer, at(1), at(31)),
    ]);
    assert_snapshot!(timeline::text(&deployment, &ledger, &[], &look(73)));
}

#[test]
fn the_timeline_says_what_kept_a_deployment_and_for_how_long() {
    const DAYS: i64 = 3 * 24 * 3600;
    let mut deployment = live();
    deployment.created_at = at(-DAYS);
    deployment.started_at = at_ms(9);
    let mut kept = ledger(vec![
        waited(blocker::Kind::Lane, at(-DAYS), at(-DAYS + 7200)),
        waited(blocker::Kind::Hold, at(-DAYS + 7200), at(-3600)),
        waited(blocker::Kind::Stop, at(-3600), at_ms(9)),
        waited(blocker::Kind::Edge, at_ms(40), at_ms(60)),
    ]);
    let went_on = timeline::text(&deployment, &kept, &[], &look(73));

    let mut deployment = canary();
    deployment.created_at = at(-DAYS);
    kept.blockers.truncate(1);
    kept.blockers
        .push(waited(blocker::Kind::Hold, at(-DAYS + 7200), None));
    let waits = timeline::text(&deployment, &kept, &[], &look(0));
    assert_snapshot!([went_on, waits].join("\n\n"));
}

#[test]
fn the_timeline_sums_up_by_cause_what_the_lead_time_went_into() {
    const DAYS: i64 = 3 * 24 * 3600;
    let baking = ListBlockersResponse {
        waited: vec![
            summed(blocker::Kind::Timer, 70_000, 60_000),
            summed(blocker::Kind::Edge, 20, 20),
            summed(blocker::Kind::Lane, 900, 900),
            summed(blocker::Kind::Provider, 2000, 0),
        ],
        lead_time: seconds(63),
        unblocked: millis(2080),
        ..ledger(vec![waited(blocker::Kind::Lane, at(0), at_ms(900))])
    };
    let baking = timeline::text(&live(), &baking, &[], &look(73));

    let mut deployment = canary();
    deployment.created_at = at(-DAYS);
    let pending = ListBlockersResponse {
        waited: vec![
            summed(blocker::Kind::Lane, 7_200_000, 7_200_000),
            summed(blocker::Kind::Hold, 252_000_000, 252_000_000),
        ],
        lead_time: seconds(DAYS),
        unblocked: seconds(0),
        ..ledger(vec![waited(blocker::Kind::Hold, at(-DAYS + 7200), None)])
    };
    let waits = timeline::text(&deployment, &pending, &[], &look(0));

    let mut ended = ended(State::Cancelled, "cancelled", "");
    ended.steps.clear();
    let untouched = ListBlockersResponse {
        lead_time: seconds(64),
        unblocked: seconds(64),
        ..ListBlockersResponse::default()
    };
    let ended = timeline::text(&ended, &untouched, &[], &look(90));
    assert_snapshot!([baking, waits, ended].join("\n\n"));
}

/// A ledger of which no sums are told.
fn ledger(blockers: Vec<Blocker>) -> ListBlockersResponse {
    ListBlockersResponse {
        blockers,
        ..ListBlockersResponse::default()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as fields of messages are")]
fn millis(ms: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration {
        seconds: ms / 1000,
        nanos: i32::try_from(ms % 1000).unwrap() * 1_000_000,
    })
}

/// So many milliseconds for one cause, and those before it was live.
fn summed(kind: blocker::Kind, total: i64, of_lead: i64) -> Waited {
    Waited {
        kind: kind.into(),
        total: millis(total),
        of_lead_time: millis(of_lead),
        count: 1,
    }
}

/// What kept a deployment from one moment to another.
fn waited(
    kind: blocker::Kind,
    since: Option<prost_types::Timestamp>,
    cleared_at: Option<prost_types::Timestamp>,
) -> Blocker {
    Blocker {
        kind: kind.into(),
        since,
        cleared_at,
        ..Blocker::default()
    }
}

/// Waits for a hold.
fn held() -> Deployment {
    let mut deployment = canary();
    deployment.blockers = vec![Blocker {
        kind: blocker::Kind::Hold.into(),
        since: at(-600),
        owner: "approver".to_owned(),
        message: "docs/production is held by grace: search is broken".to_owned(),
        action: "candlefish hold lift docs/production --reason \"…\"".to_owned(),
        ..Blocker::default()
    }];
    deployment
}
