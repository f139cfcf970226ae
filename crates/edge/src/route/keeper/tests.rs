use std::{
    pin::pin,
    sync::Mutex,
    task::{Context, Wake, Waker},
    time::Duration,
};

use candlefish_blobs::{Options, open};
use candlefish_testkit::wait_until;
use prost::Message as _;

use super::{read::newest, *};

const SOON: Duration = Duration::from_secs(20);

fn route(host: &str, epoch: i32, version: i64) -> Route {
    let sent = pb::Route {
        host: host.to_owned(),
        epoch,
        version,
        ..pb::Route::default()
    };
    Route::read(sent).unwrap()
}

#[test]
fn what_is_served_after_it_waited_is_named_all_the_time() {
    let release = |byte: u8| ReleaseRef {
        id: ReleaseId::new(),
        manifest: candlefish_manifest::Digest::from_bytes([byte; 32]),
    };
    let (old, new) = (release(1), release(2));
    let named = |state: &State| state.named.all().collect::<Vec<_>>();
    let mut state = State::default();
    assert!(state.named.take_let_go());
    state.wait(crate::route::tests::route_of("docs.localhost", old));
    assert!(state.serve("docs.localhost").is_some());
    assert!(!state.named.take_let_go());
    assert_eq!(named(&state), [old]);
    // One that waits in vain is replaced.
    state.wait(crate::route::tests::route_of("docs.localhost", release(3)));
    state.wait(crate::route::tests::route_of("docs.localhost", new));
    assert!(state.named.take_let_go());
    assert!(state.serve("docs.localhost").is_some());
    assert!(state.named.take_let_go());
    assert_eq!(named(&state), [new]);
    assert!(state.serve("docs.localhost").is_none());
}

#[test]
fn the_newest_route_of_each_host_is_found_wherever_it_stands() {
    let mut found = newest(vec![
        route("docs.localhost", 1, 2),
        route("shop.localhost", 1, 9),
        route("docs.localhost", 1, 3),
        route("shop.localhost", 2, 1),
        route("docs.localhost", 1, 1),
        route("shop.localhost", 1, 10),
    ]);
    found.sort_unstable_by_key(|route| route.version);
    let docs = route("docs.localhost", 1, 3);
    // A later epoch is newer, whatever the version.
    let shop = route("shop.localhost", 2, 1);
    assert_eq!(found, [docs, shop]);
}

async fn keeper(dir: &tempfile::TempDir) -> Keeper {
    let disk = Disk::open(&dir.path().join("state")).unwrap();
    let blobs = format!("dir:{}", dir.path().join("blobs").display());
    let store = open(&blobs, Options::default()).await.unwrap();
    Keeper::new(
        "edge-1".to_owned(),
        Arc::new(Shelf::new(store, disk.clone(), 1 << 20)),
        Arc::default(),
        Arc::default(),
        disk,
        Arc::new(Report::new()),
    )
}

/// A route without releases, and who hears when it is served.
fn told() -> (Told, oneshot::Receiver<()>) {
    let (applied, is_applied) = oneshot::channel();
    let told = Told {
        routes: vec![route("docs.localhost", 1, 1).write()],
        applied: Some(applied),
        settled: None,
    };
    (told, is_applied)
}

/// Lets it work for as long as this takes.
async fn work(keeper: Keeper, incoming: mpsc::Receiver<Told>, meanwhile: impl Future<Output = ()>) {
    let stopping = CancellationToken::new();
    let meanwhile = async {
        meanwhile.await;
        stopping.cancel();
    };
    tokio::join!(keeper.run(incoming, stopping.clone()), meanwhile);
}

#[tokio::test]
async fn routes_that_could_not_be_written_are_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(&dir).await;
    let report = Arc::clone(&keeper.report);
    let routes = dir.path().join("state/routes");
    std::fs::create_dir(&routes).unwrap();
    let (sender, incoming) = mpsc::channel(1);
    work(keeper, incoming, async {
        let (told, is_applied) = told();
        sender.send(told).await.unwrap();
        is_applied.await.unwrap();
        assert_eq!((report.route_count(), routes.is_dir()), (1, true));
        std::fs::remove_dir(&routes).unwrap();
        wait_until(SOON, "the routes on disk", async || routes.is_file()).await;
    })
    .await;
    let bytes = std::fs::read(&routes).unwrap();
    let kept = pb::WatchRoutesResponse::decode(bytes.as_slice()).unwrap();
    assert_eq!(kept.routes[0].host, "docs.localhost");
}

#[tokio::test]
async fn a_panic_fails_the_release_that_was_staged_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&dir).await;
    let release = |byte: u8| ReleaseRef {
        id: ReleaseId::new(),
        manifest: candlefish_manifest::Digest::from_bytes([byte; 32]),
    };
    let (broken, other) = (release(1), release(2));
    let state = &mut keeper.state;
    let panics = async { std::iter::empty::<Staged>().next().expect("a release") };
    let task = state.staging.spawn(panics).id();
    state.in_hand.insert(task, broken);
    let task = state.staging.spawn(std::future::pending::<Staged>()).id();
    state.in_hand.insert(task, other);
    let done = state.staging.join_next_with_id().await.unwrap();
    keeper.ended(done);
    let state = &keeper.state;
    let in_hand: Vec<_> = state.in_hand.values().copied().collect();
    assert_eq!(in_hand, [other]);
    let failed: Vec<_> = state.failed.keys().copied().collect();
    assert_eq!(failed, [broken.id]);
    assert!(!state.failed[&broken.id].is_over(), "not at once again");
    let (_, told) = keeper
        .report
        .difference(&mut crate::report::Sent::default());
    assert!(told[0].error.contains("panicked"), "{told:?}");
}

#[tokio::test]
async fn what_a_crash_left_is_let_go_of_and_swept() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&dir).await;
    let disk = keeper.disk.clone();
    let left = ReleaseId::new();
    disk.write_staged(left, b"manifest").unwrap();
    disk.write_routes(&[]).unwrap();
    let copy = disk.blob(&candlefish_manifest::Digest::from_bytes([7; 32]));
    std::fs::create_dir(copy.parent().unwrap()).unwrap();
    std::fs::write(&copy, "left").unwrap();
    assert_eq!(keeper.restore().await.unwrap(), 0);
    // Nothing is told, and nothing is let go of later.
    keeper.state.sweeping = Sweeping::due_from(Instant::now() + Duration::from_millis(50));
    let (_sender, incoming) = mpsc::channel(1);
    work(keeper, incoming, async {
        let is_gone = async || !copy.exists() && disk.noted().unwrap().is_empty();
        wait_until(SOON, "what was left to go", is_gone).await;
    })
    .await;
}

#[tokio::test]
async fn routes_that_cannot_be_read_let_go_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&dir).await;
    let disk = keeper.disk.clone();
    let left = ReleaseId::new();
    disk.write_staged(left, b"manifest").unwrap();
    disk.write_routes(b"no routes").unwrap();
    assert_eq!(keeper.restore().await.unwrap(), 0);
    let (sender, incoming) = mpsc::channel::<Told>(1);
    drop(sender);
    keeper.run(incoming, CancellationToken::new()).await;
    assert_eq!(disk.noted().unwrap(), [left]);
}

#[tokio::test]
async fn a_route_does_not_wait_for_a_sweep() {
    let dir = tempfile::tempdir().unwrap();
    let mut keeper = keeper(&dir).await;
    keeper.state.sweeping.begin(std::future::pending());
    let (sender, incoming) = mpsc::channel(1);
    work(keeper, incoming, async {
        let (told, is_applied) = told();
        sender.send(told).await.unwrap();
        let heard = tokio::time::timeout(SOON, is_applied).await;
        assert_eq!(heard, Ok(Ok(())));
    })
    .await;
}

/// Notes what the table says of a host at the moment when it is woken.
struct Look {
    table: Arc<Table>,
    found: Mutex<Option<Arc<Host>>>,
}

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        *self.found.lock().unwrap() = self.table.get("docs.localhost");
    }
}

#[tokio::test]
async fn who_waits_for_what_was_told_hears_when_the_table_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(&dir).await;
    let look = Arc::new(Look {
        table: Arc::clone(&keeper.table),
        found: Mutex::default(),
    });
    let (applied, is_applied) = oneshot::channel();
    let mut is_applied = pin!(is_applied);
    let waker = Waker::from(Arc::clone(&look));
    let waits = is_applied.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(waits.is_pending());
    let (sender, incoming) = mpsc::channel(1);
    let told = Told {
        routes: vec![route("docs.localhost", 1, 1).write()],
        applied: Some(applied),
        settled: None,
    };
    sender.send(told).await.unwrap();
    drop(sender);
    keeper.run(incoming, CancellationToken::new()).await;
    let found = look.found.lock().unwrap().clone();
    let is_nothing = matches!(found.as_deref(), Some(Host::Nothing { .. }));
    assert!(is_nothing, "{found:?}");
}
