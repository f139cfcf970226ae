use std::{
    pin::pin,
    sync::Mutex,
    task::{Context, Wake, Waker},
};

use candlefish_blobs::{Options, open};

use super::*;

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

#[test]
fn routes_are_added_until_they_take_as_much_as_all_that_were_written() {
    let takes_more = |whole, later| Kept { whole, later }.takes_more();
    // Nobody knows what is there.
    assert!(!takes_more(None, 0));
    // Few routes are not written again with every one that comes.
    assert!(takes_more(Some(0), LATER_BYTES - 1));
    assert!(!takes_more(Some(0), LATER_BYTES));
    let many = 3 * LATER_BYTES;
    assert!(takes_more(Some(many), many - 1));
    assert!(!takes_more(Some(many), many));
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
    let disk = Disk::open(&dir.path().join("state")).unwrap();
    let blobs = format!("dir:{}", dir.path().join("blobs").display());
    let store = open(&blobs, Options::default()).await.unwrap();
    let table = Arc::<Table>::default();
    let keeper = Keeper::new(
        "edge-1".to_owned(),
        Arc::new(Shelf::new(store, disk.clone(), 1 << 20)),
        Arc::clone(&table),
        Arc::default(),
        disk,
        Arc::new(Report::new()),
    );
    let look = Arc::new(Look {
        table,
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
