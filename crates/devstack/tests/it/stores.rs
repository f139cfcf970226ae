//! What is committed survives the death of the store.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use candlefish_devstack::{
    Event, Launch, Output, Process, Signal, Stack, Warden, supervise, wait_until,
};

#[tokio::test]
async fn postgres_keeps_what_was_committed_before_it_was_killed() {
    let stack = Stack::builder().replicas(0, 0, 0).start().await.unwrap();
    let postgres = stack.postgres();
    let make = "CREATE TABLE kept (id int); INSERT INTO kept VALUES (7);";
    postgres.sql("candlefish", make).await.unwrap();
    postgres.process().kill().unwrap();
    assert!(postgres.sql("candlefish", "SELECT 1").await.is_err());
    postgres.restart().await.unwrap();
    let check = "DO $$ BEGIN ASSERT (SELECT id FROM kept) = 7; END $$;";
    postgres.sql("candlefish", check).await.unwrap();
}

#[tokio::test]
async fn a_frozen_store_answers_again_after_the_thaw() {
    let stack = Stack::builder().replicas(0, 0, 0).start().await.unwrap();
    let nats = stack.nats();
    nats.process().freeze().unwrap();
    let frozen = tokio::time::timeout(Duration::from_millis(300), nats.ready()).await;
    assert!(frozen.is_err());
    nats.process().thaw().unwrap();
    nats.ready().await.unwrap();
    nats.wipe().unwrap();
    assert!(!nats.process().is_running());
    nats.restart().await.unwrap();
}

#[tokio::test]
async fn a_kept_folder_is_continued_by_the_next_stack_and_wiped_on_demand() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("dev");
    let begin = async || {
        let stack = Stack::builder().replicas(0, 0, 0).keep_in(&folder);
        stack.start().await.unwrap()
    };
    let first = begin().await;
    let token = first.admin_token().to_owned();
    let make = "CREATE TABLE kept (id int)";
    first.postgres().sql("candlefish", make).await.unwrap();
    first.stop().await.unwrap();

    let second = begin().await;
    assert_eq!(second.admin_token(), token);
    let check = "SELECT * FROM kept";
    second.postgres().sql("candlefish", check).await.unwrap();
    drop(second);

    let elsewhere = std::fs::canonicalize(folder.join("postgres")).unwrap();
    assert!(Stack::wipe(&folder).unwrap());
    assert!(!folder.exists());
    assert!(!elsewhere.exists());
    assert!(!Stack::wipe(&folder).unwrap());
}

#[tokio::test]
async fn waiting_in_vain_names_what_and_the_last_status() {
    let error = wait_until(Duration::from_millis(50), "the moon", async || {
        Err::<(), _>("still half".to_owned())
    });
    let error = error.await.unwrap_err().to_string();
    assert!(
        error.contains("the moon") && error.contains("still half"),
        "{error}"
    );
}

#[tokio::test]
async fn what_a_stranger_kills_is_told_and_brought_back() {
    let stack = Stack::builder().replicas(0, 0, 0).start().await.unwrap();
    let process = stack.nats().process();
    let first = process.pid().unwrap();
    process.signal(Signal::KILL).unwrap();

    let (back, seen) = tokio::sync::oneshot::channel();
    let mut back = Some(back);
    let mut told = Vec::new();
    let until_back = async {
        drop(seen.await);
    };
    let supervised = supervise(&stack, until_back, |event| {
        if matches!(event, Event::Back { .. }) {
            back.take().unwrap().send(()).unwrap();
        }
        told.push(event);
    });
    let in_time = tokio::time::timeout(Duration::from_secs(20), supervised).await;
    in_time.unwrap().unwrap();
    assert!(matches!(&told[0], Event::Lost { name, pid, .. } if name == "nats" && *pid == first));
    assert!(matches!(&told[1], Event::Back { name, pid, .. } if name == "nats" && *pid != first));
    stack.nats().ready().await.unwrap();
}

#[tokio::test]
async fn what_the_stack_itself_stopped_stays_stopped() {
    let stack = Stack::builder().replicas(0, 0, 0).start().await.unwrap();
    stack.nats().process().kill().unwrap();
    let a_while = async {
        let in_vain = async || Err::<(), _>("never".to_owned());
        drop(wait_until(Duration::from_millis(300), "nothing", in_vain).await);
    };
    let mut told = 0;
    supervise(&stack, a_while, |_| told += 1).await.unwrap();
    assert_eq!(told, 0);
    assert!(!stack.nats().process().is_running());
}

#[tokio::test]
async fn who_asks_to_stop_does_not_wait_for_a_store_that_does_not_come_back() {
    let stack = Stack::builder().replicas(0, 0, 0).start().await.unwrap();
    let data = stack.folder().join("postgres/data");
    std::fs::rename(&data, data.with_extension("away")).unwrap();
    stack.postgres().process().signal(Signal::KILL).unwrap();
    let (lost, seen) = tokio::sync::oneshot::channel();
    let mut lost = Some(lost);
    let until_lost = async {
        drop(seen.await);
    };
    let supervised = supervise(&stack, until_lost, |event| {
        if let Event::Lost { name, .. } = event {
            assert_eq!(name, "postgres");
            lost.take().unwrap().send(()).unwrap();
        }
    });
    // It would be waited for six times as long.
    let in_time = tokio::time::timeout(Duration::from_secs(10), supervised).await;
    in_time.unwrap().unwrap();
}

#[tokio::test]
async fn a_companion_that_is_killed_is_told_and_brought_back_too() {
    let mut stack = Stack::builder().replicas(0, 0, 0).start().await.unwrap();
    let logs = tempfile::tempdir().unwrap();
    let mut launch = Launch::new("/bin/sleep".into());
    launch.args = vec!["600".to_owned()];
    let output = Output::Folder(logs.path().to_owned());
    let warden = Arc::new(Warden::start().unwrap());
    let companion = Arc::new(Process::new("companion", launch, output, warden));
    companion.start().unwrap();
    let takes = TcpListener::bind("127.0.0.1:0").unwrap();
    stack.accompany(Arc::clone(&companion), takes.local_addr().unwrap());
    companion.signal(Signal::KILL).unwrap();

    let (back, seen) = tokio::sync::oneshot::channel();
    let mut back = Some(back);
    let until_back = async {
        drop(seen.await);
    };
    let supervised = supervise(&stack, until_back, |event| {
        if let Event::Back { name, .. } = event {
            assert_eq!(name, "companion");
            back.take().unwrap().send(()).unwrap();
        }
    });
    let in_time = tokio::time::timeout(Duration::from_secs(20), supervised).await;
    in_time.unwrap().unwrap();
    assert!(companion.is_running());
    assert_eq!(companion.starts(), 2);
    companion.kill().unwrap();
}
