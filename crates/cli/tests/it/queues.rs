//! What was taken out of work: listed, shown, put back, given up.

use candlefish_proto::deploy::{QueueItem, queue_item::Kind};

use crate::{
    cli::Cli,
    server::{DEP, Server},
};

const STEP: &str = "step_01k8qw4f9cfk2t0v1e6m7r8x9a";
const LETTER: &str = "dl_01k8qw4f9cfk2t0v1e6m7r8x9b";

/// A server where a step and a dead letter wait.
fn waiting() -> Server {
    let since = Some(prost_types::Timestamp {
        seconds: 1_795_000_000,
        nanos: 0,
    });
    let server = Server::start();
    server.world.lock().items = vec![
        QueueItem {
            id: STEP.to_owned(),
            kind: Kind::Step.into(),
            since,
            error: "five workers were lost while they had it".to_owned(),
            deployment_id: DEP.to_owned(),
            summary: "stage of docs/production".to_owned(),
            consumer: String::new(),
        },
        QueueItem {
            id: LETTER.to_owned(),
            kind: Kind::DeadLetter.into(),
            since,
            error: "no such environment".to_owned(),
            deployment_id: String::new(),
            summary: "gateway.delivery.received.v1".to_owned(),
            consumer: "deploy-orchestrator-deliveries-v1".to_owned(),
        },
    ];
    server
}

#[test]
fn what_waits_is_listed_and_shown_one_by_one() {
    let server = waiting();
    let cli = Cli::new(&server.url());
    for line in ["queues list", "queues"] {
        let listed = cli.run(line).code(0);
        assert_eq!(listed.out.lines().count(), 3, "{listed:#?}");
        assert!(
            listed.out.contains(STEP) && listed.out.contains(LETTER),
            "{listed:#?}"
        );
    }
    for (line, is, is_not) in [
        (
            "queues list --consumer deploy-orchestrator-deliveries-v1",
            LETTER,
            STEP,
        ),
        ("queues list --error lost", STEP, LETTER),
    ] {
        let listed = cli.run(line).code(0).out;
        assert!(listed.contains(is) && !listed.contains(is_not), "{listed}");
    }
    // Something waits, which is not to be denied.
    let none = cli.run("queues list --error nowhere").code(0);
    assert_eq!(none.out, "Nothing that waits for a person fits.\n");
    let shown = cli.run(&format!("queues show {LETTER}")).code(0).out;
    assert!(
        shown.contains("not applied by deploy-orchestrator-deliveries-v1"),
        "{shown}"
    );
    assert!(
        shown.contains("no such environment") && !shown.contains(STEP),
        "{shown}"
    );
    let json = cli.run(&format!("queues show {STEP} --json")).code(0).out;
    assert!(json.contains("\"kind\": \"KIND_STEP\""), "{json}");
    cli.run("queues show dl_of_nothing")
        .code(2)
        .says("does not wait");
    server.world.lock().items.clear();
    let none = cli.run("queues list").code(0);
    assert_eq!(none.out, "Nothing waits for a person.\n");
}

#[test]
fn an_item_is_put_back_to_work_for_a_reason() {
    let server = waiting();
    let cli = Cli::new(&server.url());
    cli.run(&format!("queues replay {STEP}"))
        .code(2)
        .says("--reason");
    assert!(server.world.keys("replay_queue_item").is_empty());
    let back = cli
        .run(&format!("queues replay {STEP} --reason larger"))
        .code(0);
    assert_eq!(back.out, format!("{STEP} is back at work.\n"));
    let asked = server.world.asked("replay_queue_item");
    assert!(
        asked.len() == 1 && asked[0].contains(STEP) && asked[0].contains("larger"),
        "{asked:?}"
    );
    assert_eq!(server.world.keys("replay_queue_item").len(), 1);
}

#[test]
fn an_item_is_given_up_only_by_who_means_it() {
    let server = waiting();
    let cli = Cli::new(&server.url());
    let line = format!("queues discard {LETTER} --reason gone");
    cli.run(&line)
        .code(2)
        .says("no such environment")
        .says("--yes");
    let tried = cli.run(&format!("{line} --dry-run")).code(0);
    assert_eq!(tried.out, format!("would give {LETTER} up\n"));
    tried.says("Nothing was done.");
    assert_eq!(server.world.lock().items.len(), 2);
    let gone = cli.run(&format!("{line} --yes")).code(0);
    assert_eq!(gone.out, format!("{LETTER} is given up.\n"));
    assert_eq!(server.world.keys("discard_queue_item").len(), 2);
    let left: Vec<String> = server
        .world
        .lock()
        .items
        .iter()
        .map(|one| one.id.clone())
        .collect();
    assert_eq!(left, [STEP]);
}
