//! Watchers against a feed in memory.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use candlefish_proto::{
    access::Role,
    event::{
        Envelope, HeadResponse, ReplayRequest, ReplayResponse, WatchEventsRequest,
        WatchEventsResponse, event_service_server::EventService,
    },
};
use candlefish_runtime::{
    identity::{Caller, Kind},
    tasks::{Policy, Tasks},
};
use futures_util::{StreamExt, stream::BoxStream};
use std::sync::Arc;
use tokio::sync::Notify;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::{CURSOR, Feed, Listener, Place, QUIET, Rpc, Sites, Tail, cursor::Cursor, tail::Limits};

mod epochs;

const SOON: Duration = Duration::from_secs(20);
/// Little, so that a test can lag; nobody is ever absent for so long.
const LIMITS: Limits = Limits {
    buffer: 8,
    absence: Duration::from_hours(1),
};

type Watcher = BoxStream<'static, Result<WatchEventsResponse, Status>>;

/// Every site is there.
#[derive(Debug)]
struct Every;

#[tonic::async_trait]
impl Sites for Every {
    async fn has(&self, _site: &str) -> Result<bool, Status> {
        Ok(true)
    }
}

/// A source in memory that can misbehave.
#[derive(Debug, Default)]
struct Memory(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    epoch: i32,
    events: Vec<Envelope>,
    /// Those of the epochs before that are still given, in order.
    over: Vec<Envelope>,
    /// The oldest number that is kept.
    oldest: i64,
    down: bool,
    /// Answers hold every event twice, and one of a number before.
    repeats: bool,
    /// This number is not there yet.
    missing: Option<i64>,
    /// Answers with more events than this do not fit.
    fits: Option<usize>,
    asked: Vec<ReplayRequest>,
}

impl Memory {
    fn new() -> Arc<Self> {
        let memory = Self::default();
        memory.with(|state| {
            state.epoch = 1;
            state.oldest = 1;
        });
        Arc::new(memory)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Its database is another than before, with what was told until now.
    fn keep_and_begin_epoch(&self) {
        self.with(|state| state.over.extend(state.events.clone()));
        self.begin_epoch();
    }

    /// Its database is another than before.
    fn begin_epoch(&self) {
        self.with(|state| {
            state.epoch += 1;
            state.events.clear();
        });
    }

    /// Adds events of these sites.
    fn add(&self, sites: &[&str]) {
        self.with(|state| {
            for site in sites {
                let seq = i64::try_from(state.events.len()).unwrap() + 1;
                state.events.push(Envelope {
                    id: format!("evt_{}_{seq}", state.epoch),
                    source: "deploy".to_owned(),
                    epoch: state.epoch,
                    seq,
                    r#type: "deploy.deployment.created.v1".to_owned(),
                    site: (*site).to_owned(),
                    ..Envelope::default()
                });
            }
        });
    }
}

#[tonic::async_trait]
impl Feed for Memory {
    async fn head(&self) -> Result<HeadResponse, Status> {
        self.with(|state| {
            if state.down {
                return Err(Status::unavailable("down"));
            }
            Ok(HeadResponse {
                source: "deploy".to_owned(),
                epoch: state.epoch,
                seq: i64::try_from(state.events.len()).unwrap(),
            })
        })
    }

    async fn replay(&self, asked: ReplayRequest) -> Result<ReplayResponse, Status> {
        self.with(|state| {
            state.asked.push(asked);
            if state.down {
                return Err(Status::unavailable("down"));
            }
            let from = asked.from_seq - i64::from(state.repeats);
            let mut events: Vec<Envelope> = state
                .over
                .iter()
                .chain(&state.events)
                .filter(|event| event.epoch == asked.epoch && event.seq >= from.max(state.oldest))
                .filter(|event| Some(event.seq) != state.missing)
                .take(usize::try_from(asked.limit).unwrap())
                .cloned()
                .collect();
            if events.is_empty() && asked.epoch < state.epoch {
                let mut later = state.over.iter().chain(&state.events);
                let is_kept =
                    |event: &&Envelope| event.epoch > asked.epoch && event.seq >= state.oldest;
                events.extend(later.find(is_kept).cloned());
            }
            if state.repeats {
                events = events.iter().flat_map(|e| [e.clone(), e.clone()]).collect();
            }
            if state.fits.is_some_and(|most| events.len() > most) {
                return Err(Status::out_of_range("too large"));
            }
            Ok(ReplayResponse {
                epoch: state.epoch,
                events,
                oldest_seq: state.oldest,
            })
        })
    }
}

/// Keeps what a listener hears, in its words.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn note(&self, words: impl Into<String>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(words.into());
    }

    /// What it heard since it was asked last.
    fn so_far(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Listener for Heard {
    fn told(&self, event: &Envelope) {
        self.note(format!("{}.{}", event.epoch, event.seq));
    }

    fn follows(&self) {
        self.note("follows");
    }

    fn lost(&self) {
        self.note("lost");
    }
}

/// A tail that only looks when it is told to.
fn tail(memory: &Arc<Memory>) -> Tail {
    let feed: Arc<dyn Feed> = Arc::<Memory>::clone(memory);
    let listener = Arc::new(Heard::default());
    Tail::with_limits("deploy", feed, listener, Duration::from_millis(5), LIMITS)
}

fn caller(sites: &[&str]) -> Caller {
    Caller {
        principal: "ada".to_owned(),
        kind: Kind::Person,
        role: Role::Viewer,
        sites: sites.iter().map(|site| (*site).to_owned()).collect(),
        request_id: String::new(),
        issuer: "gateway".to_owned(),
    }
}

async fn watch_as(
    tail: &Tail,
    tasks: &Tasks,
    caller: Caller,
    asked: WatchEventsRequest,
) -> Result<Watcher, Status> {
    let rpc = Rpc::new(tail.clone(), Arc::new(Every), tasks.clone(), QUIET);
    asked_of(&rpc, caller, asked).await
}

async fn asked_of(rpc: &Rpc, caller: Caller, asked: WatchEventsRequest) -> Result<Watcher, Status> {
    let mut request = Request::new(asked);
    request.extensions_mut().insert(caller);
    rpc.watch_events(request)
        .await
        .map(tonic::Response::into_inner)
}

/// Watches `docs`, and is told how far it is after a moment of silence.
async fn watch_docs(tail: &Tail, cursor: &str) -> Result<Watcher, Status> {
    let rpc = Rpc::new(
        tail.clone(),
        Arc::new(Every),
        Tasks::new(),
        Duration::from_millis(2),
    );
    let asked = WatchEventsRequest {
        cursor: cursor.to_owned(),
        ..WatchEventsRequest::default()
    };
    asked_of(&rpc, caller(&["docs"]), asked).await
}

async fn watch(tail: &Tail, cursor: &str) -> Result<Watcher, Status> {
    let asked = WatchEventsRequest {
        cursor: cursor.to_owned(),
        ..WatchEventsRequest::default()
    };
    watch_as(tail, &Tasks::new(), caller(&[]), asked).await
}

async fn next(watcher: &mut Watcher) -> Result<WatchEventsResponse, Status> {
    tokio::time::timeout(SOON, watcher.next())
        .await
        .expect("something comes")
        .expect("the stream goes on")
}

/// The numbers of the next events, and the last cursor.
async fn take(watcher: &mut Watcher, many: usize) -> (Vec<i64>, String) {
    let (mut numbers, mut cursor) = (Vec::new(), String::new());
    for _ in 0..many {
        let response = next(watcher).await.unwrap();
        numbers.push(response.event.unwrap().seq);
        cursor = response.cursor;
    }
    (numbers, cursor)
}

/// The number of the next event, over messages that are a cursor alone.
async fn next_event(watcher: &mut Watcher) -> i64 {
    loop {
        if let Some(event) = next(watcher).await.unwrap().event {
            return event.seq;
        }
    }
}

async fn is_silent(watcher: &mut Watcher) -> bool {
    tokio::time::timeout(Duration::from_millis(30), watcher.next())
        .await
        .is_err()
}

fn cursor_at(epoch: i32, seq: i64) -> String {
    let mut cursor = Cursor::default();
    cursor.set("deploy", Place { epoch, seq });
    cursor.text()
}

#[tokio::test]
async fn a_watcher_without_a_cursor_gets_what_happens_from_now_on() {
    let memory = Memory::new();
    memory.add(&["docs", "docs"]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let mut watcher = watch(&tail, "").await.unwrap();
    assert!(is_silent(&mut watcher).await);
    memory.add(&["docs", "docs"]);
    tail.look().await.unwrap();
    assert_eq!(take(&mut watcher, 2).await.0, [3, 4]);
}

#[tokio::test]
async fn a_late_watcher_reads_what_it_missed_and_then_follows() {
    let memory = Memory::new();
    let tail = tail(&memory);
    tail.look().await.unwrap();
    memory.add(&["docs"; 3]);
    tail.look().await.unwrap();
    let mut watcher = watch(&tail, &cursor_at(1, 0)).await.unwrap();
    let (numbers, _) = take(&mut watcher, 3).await;
    memory.add(&["docs"; 2]);
    tail.look().await.unwrap();
    let (more, cursor) = take(&mut watcher, 2).await;
    assert_eq!([numbers, more].concat(), [1, 2, 3, 4, 5]);
    assert_eq!(cursor, cursor_at(1, 5));
}

#[tokio::test]
async fn every_cursor_goes_on_with_exactly_the_event_after_it() {
    let memory = Memory::new();
    memory.add(&["docs"; 6]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    for seen in 0..6 {
        let mut watcher = watch(&tail, &cursor_at(1, seen)).await.unwrap();
        assert_eq!(take(&mut watcher, 1).await.0, [seen + 1]);
    }
}

#[tokio::test]
async fn a_watcher_that_joins_while_events_come_misses_nothing_and_repeats_nothing() {
    const MANY: i64 = 2_000;
    let memory = Memory::new();
    let feed: Arc<dyn Feed> = Arc::<Memory>::clone(&memory);
    let listener = Arc::new(Heard::default());
    let tail = Tail::new("deploy", feed, listener, Duration::from_millis(1));
    let (tasks, wake) = (Tasks::new(), Arc::new(Notify::new()));
    let run = tail.clone().run(tasks.stopping(), Arc::clone(&wake));
    drop(tasks.spawn("tail", Policy::Ignore, run));
    let writer = async {
        for _ in 0..MANY / 4 {
            memory.add(&["docs"; 4]);
            wake.notify_one();
            tokio::task::yield_now().await;
        }
    };
    let reader = async {
        let mut cursor = cursor_at(1, 0);
        let mut numbers = Vec::new();
        // Comes and goes with its last cursor, like a connection that breaks often.
        while numbers.last() != Some(&MANY) {
            let mut watcher = watch(&tail, &cursor).await.unwrap();
            for _ in 0..37 {
                match next(&mut watcher).await {
                    Ok(response) => {
                        cursor = response.cursor;
                        numbers.push(response.event.unwrap().seq);
                    }
                    Err(status) if status.code() == Code::Aborted => break,
                    Err(status) => panic!("{status}"),
                }
                if numbers.last() == Some(&MANY) {
                    break;
                }
            }
        }
        numbers
    };
    let ((), numbers) = tokio::join!(writer, reader);
    assert_eq!(numbers, (1..=MANY).collect::<Vec<_>>());
    assert!(tasks.drain(SOON).await);
}

#[tokio::test]
async fn a_feed_that_repeats_itself_is_heard_once() {
    let memory = Memory::new();
    memory.add(&["docs"]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let mut follower = watch(&tail, "").await.unwrap();
    assert!(is_silent(&mut follower).await);
    memory.with(|state| state.repeats = true);
    memory.add(&["docs"; 3]);
    tail.look().await.unwrap();
    assert_eq!(take(&mut follower, 3).await.0, [2, 3, 4]);
    let mut late = watch(&tail, &cursor_at(1, 1)).await.unwrap();
    assert_eq!(take(&mut late, 3).await.0, [2, 3, 4]);
    assert!(is_silent(&mut late).await);
}

#[tokio::test]
async fn a_gap_holds_back_what_comes_after_it() {
    let memory = Memory::new();
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let mut watcher = watch(&tail, "").await.unwrap();
    assert!(is_silent(&mut watcher).await);
    memory.add(&["docs"; 4]);
    memory.with(|state| state.missing = Some(3));
    tail.look().await.unwrap();
    assert_eq!(take(&mut watcher, 2).await.0, [1, 2]);
    assert!(is_silent(&mut watcher).await);
    memory.with(|state| state.missing = None);
    tail.look().await.unwrap();
    assert_eq!(take(&mut watcher, 2).await.0, [3, 4]);
}

#[tokio::test]
async fn a_cursor_older_than_what_is_kept_is_refused() {
    let memory = Memory::new();
    memory.add(&["docs"; 9]);
    memory.with(|state| state.oldest = 5);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let refused = watch(&tail, &cursor_at(1, 3)).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let mut watcher = watch(&tail, &cursor_at(1, 4)).await.unwrap();
    assert_eq!(take(&mut watcher, 1).await.0, [5]);
}

#[tokio::test]
async fn a_watcher_that_lags_is_ended_and_can_resume() {
    let memory = Memory::new();
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let mut watcher = watch(&tail, "").await.unwrap();
    assert!(is_silent(&mut watcher).await);
    memory.add(&["docs"]);
    tail.look().await.unwrap();
    let (_, cursor) = take(&mut watcher, 1).await;
    memory.add(&["docs"; 20]);
    tail.look().await.unwrap();
    let ended = next(&mut watcher).await.unwrap_err();
    assert_eq!(ended.code(), Code::Aborted);
    assert!(
        ended.message().contains("resume with your last cursor"),
        "{ended}"
    );
    assert!(watcher.next().await.is_none());
    let mut back = watch(&tail, &cursor).await.unwrap();
    assert_eq!(take(&mut back, 20).await.0, (2..=21).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_watch_says_after_which_cursor_it_begins_before_it_tells_anything() {
    let memory = Memory::new();
    memory.add(&["docs"; 2]);
    let tail = tail(&memory);
    let begins_after = async |cursor: &str| {
        let asked = WatchEventsRequest {
            cursor: cursor.to_owned(),
            ..WatchEventsRequest::default()
        };
        let mut request = Request::new(asked);
        request.extensions_mut().insert(caller(&[]));
        let rpc = Rpc::new(tail.clone(), Arc::new(Every), Tasks::new(), QUIET);
        let begun = rpc.watch_events(request).await.unwrap();
        let header = begun.metadata().get(CURSOR)?;
        Some(header.to_str().unwrap().to_owned())
    };
    assert_eq!(begins_after("").await, None);
    tail.look().await.unwrap();
    assert_eq!(begins_after("").await, Some(cursor_at(1, 2)));
    assert_eq!(begins_after(&cursor_at(1, 1)).await, Some(cursor_at(1, 1)));
}

#[tokio::test]
async fn a_made_up_cursor_never_makes_the_owner_believe_it_is_behind() {
    let memory = Memory::new();
    memory.add(&["docs"; 2]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    memory.with(|state| state.asked.clear());
    for cursor in [
        cursor_at(1, i64::MAX),
        cursor_at(i32::MAX, 0),
        cursor_at(1, 3),
    ] {
        let mut watcher = watch(&tail, &cursor).await.unwrap();
        assert!(is_silent(&mut watcher).await);
    }
    let head = memory.with(|state| state.asked.clone());
    let ahead = |asked: &ReplayRequest| asked.epoch > 1 || asked.from_seq > 3;
    assert!(!head.iter().any(ahead), "{head:?}");
}

#[tokio::test]
async fn a_cursor_from_a_replica_that_is_further_waits_for_this_one() {
    let memory = Memory::new();
    memory.add(&["docs"; 2]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    memory.add(&["docs"; 2]);
    let cursor = cursor_at(1, 3);
    let watching = watch(&tail, &cursor);
    let looking = async {
        tokio::task::yield_now().await;
        tail.look().await.unwrap();
    };
    let (watcher, ()) = tokio::join!(watching, looking);
    assert_eq!(take(&mut watcher.unwrap(), 1).await.0, [4]);
}

#[tokio::test]
async fn a_cursor_moves_over_what_the_filter_leaves_out() {
    let memory = Memory::new();
    memory.add(&["shop", "docs", "shop", "docs", ""]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let asked = WatchEventsRequest {
        cursor: cursor_at(1, 0),
        ..WatchEventsRequest::default()
    };
    let tasks = Tasks::new();
    let mut watcher = watch_as(&tail, &tasks, caller(&["docs"]), asked)
        .await
        .unwrap();
    let (numbers, cursor) = take(&mut watcher, 2).await;
    assert_eq!((numbers, cursor), (vec![2, 4], cursor_at(1, 4)));
    assert!(is_silent(&mut watcher).await);
}

#[tokio::test]
async fn a_quiet_watcher_is_told_how_far_it_is_once_that_has_moved() {
    let memory = Memory::new();
    memory.add(&["docs", "shop"]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let mut watcher = watch_docs(&tail, "").await.unwrap();
    assert!(is_silent(&mut watcher).await, "it has not moved");
    memory.add(&["shop"; 3]);
    tail.look().await.unwrap();
    let mut moved = next(&mut watcher).await.unwrap();
    while moved.cursor != cursor_at(1, 5) {
        moved = next(&mut watcher).await.unwrap();
    }
    assert_eq!(moved.event, None);
    assert!(is_silent(&mut watcher).await, "once is enough");
    memory.add(&["shop", "docs"]);
    tail.look().await.unwrap();
    assert_eq!(next_event(&mut watcher).await, 7);
    // What it was told of is no longer kept, and it has missed nothing.
    memory.with(|state| state.oldest = 6);
    assert!(watch_docs(&tail, &cursor_at(1, 2)).await.is_err());
    let mut back = watch_docs(&tail, &moved.cursor).await.unwrap();
    assert_eq!(next_event(&mut back).await, 7);
}

#[tokio::test]
async fn a_watcher_of_a_source_that_was_unknown_at_first_is_told_its_place() {
    let memory = Memory::new();
    memory.add(&["shop"; 2]);
    let tail = tail(&memory);
    let mut watcher = watch_docs(&tail, "").await.unwrap();
    assert!(is_silent(&mut watcher).await);
    tail.look().await.unwrap();
    let moved = next(&mut watcher).await.unwrap();
    assert_eq!((moved.event, &*moved.cursor), (None, &*cursor_at(1, 2)));
}

#[tokio::test]
async fn whoever_goes_on_after_a_cursor_that_moved_alone_misses_nothing() {
    const MANY: i64 = 300;
    let memory = Memory::new();
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let (told, mut heard) = tokio::sync::watch::channel(0);
    let writer = async {
        for number in 0..MANY {
            let site = if number % 3 == 0 { "docs" } else { "shop" };
            heard.mark_unchanged();
            memory.add(&[site]);
            // Every other time the watcher is behind what it reads by itself.
            if number % 2 == 0 {
                tail.look().await.unwrap();
            }
            // Now and then nothing more comes until the cursor has moved alone.
            if site == "shop" && number % 14 == 2 {
                let moved = tokio::time::timeout(SOON, heard.changed()).await;
                moved.expect("a cursor that moves alone").unwrap();
            } else {
                tokio::task::yield_now().await;
            }
        }
        memory.add(&["docs"]);
        tail.look().await.unwrap();
    };
    let reader = async {
        let (mut cursor, mut numbers) = (cursor_at(1, 0), Vec::new());
        while numbers.last() != Some(&(MANY + 1)) {
            let mut watcher = watch_docs(&tail, &cursor).await.unwrap();
            for _ in 0..3 {
                let response = match next(&mut watcher).await {
                    Ok(response) => response,
                    Err(status) if status.code() == Code::Aborted => break,
                    Err(status) => panic!("{status}"),
                };
                cursor = response.cursor;
                match response.event {
                    Some(event) => numbers.push(event.seq),
                    None => told.send_modify(|moved| *moved += 1),
                }
                if numbers.last() == Some(&(MANY + 1)) {
                    break;
                }
            }
        }
        numbers
    };
    let ((), numbers) = tokio::join!(writer, reader);
    let docs = (0..MANY).step_by(3).map(|number| number + 1);
    assert_eq!(numbers, docs.chain([MANY + 1]).collect::<Vec<_>>());
    assert!(*told.borrow() > 0, "no cursor moved alone");
}

#[tokio::test]
async fn bad_fields_are_named_together() {
    let tail = tail(&Memory::new());
    let asked = WatchEventsRequest {
        environment: "staging".to_owned(),
        types: vec![String::new()],
        cursor: "not a cursor".to_owned(),
        ..WatchEventsRequest::default()
    };
    let refused = watch_as(&tail, &Tasks::new(), caller(&[]), asked)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let named = refused.get_details_bad_request().unwrap().field_violations;
    let named: Vec<_> = named.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(named, ["site", "types[0]", "cursor"]);
}

#[tokio::test]
async fn a_watcher_waits_for_a_source_that_is_down() {
    let memory = Memory::new();
    memory.with(|state| state.down = true);
    let tail = tail(&memory);
    assert!(tail.look().await.is_err());
    let mut watcher = watch(&tail, "").await.unwrap();
    assert!(is_silent(&mut watcher).await);
    memory.with(|state| state.down = false);
    tail.look().await.unwrap();
    assert!(is_silent(&mut watcher).await);
    memory.add(&["docs"]);
    tail.look().await.unwrap();
    assert_eq!(take(&mut watcher, 1).await.0, [1]);
}

#[tokio::test]
async fn events_that_do_not_fit_into_one_answer_come_in_pieces() {
    let memory = Memory::new();
    memory.add(&["docs"; 30]);
    memory.with(|state| state.fits = Some(3));
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let mut watcher = watch(&tail, &cursor_at(1, 0)).await.unwrap();
    assert_eq!(take(&mut watcher, 30).await.0, (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_look_reads_on_after_every_full_page_and_stops_at_one_that_is_not() {
    // So many events, of which so many fit, are asked for from these numbers on.
    let cases: [(usize, usize, &[i64]); 4] = [
        (499, 500, &[1]),
        (500, 500, &[1, 501]),
        (1_200, 500, &[1, 501, 1_001]),
        (30, 7, &[1, 8, 15, 22, 29]),
    ];
    for (count, fits, asked) in cases {
        let memory = Memory::new();
        let tail = tail(&memory);
        tail.look().await.unwrap();
        memory.add(&vec!["docs"; count]);
        memory.with(|state| state.fits = Some(fits));
        tail.look().await.unwrap();
        let seq = i64::try_from(count).unwrap();
        assert_eq!(tail.place(), Some(Place { epoch: 1, seq }));
        let replays = memory.with(|state| state.asked.clone());
        let mut from: Vec<i64> = replays.iter().map(|replay| replay.from_seq).collect();
        // What did not fit was asked for again.
        from.dedup();
        assert_eq!(from, asked);
    }
}

#[tokio::test]
async fn a_listener_hears_every_event_and_whenever_some_may_be_missing() {
    let memory = Memory::new();
    let heard = Arc::new(Heard::default());
    let feed: Arc<dyn Feed> = Arc::<Memory>::clone(&memory);
    let listener: Arc<dyn Listener> = Arc::<Heard>::clone(&heard);
    let tail = Tail::with_limits("deploy", feed, listener, Duration::from_millis(5), LIMITS);
    memory.add(&["docs"]);
    tail.look().await.unwrap();
    assert_eq!(heard.so_far(), ["follows"]);
    memory.add(&["docs"; 20]);
    tail.look().await.unwrap();
    let mut all: Vec<String> = (2..=21).map(|seq| format!("1.{seq}")).collect();
    all.push("follows".to_owned());
    assert_eq!(heard.so_far(), all);
    memory.with(|state| state.down = true);
    tail.look().await.unwrap_err();
    assert_eq!(heard.so_far(), ["lost"]);
    memory.add(&["docs"]);
    memory.with(|state| state.down = false);
    tail.look().await.unwrap();
    assert_eq!(heard.so_far(), ["1.22", "follows"]);
    // What came next is no longer kept.
    memory.add(&["docs"; 5]);
    memory.with(|state| state.oldest = 25);
    tail.look().await.unwrap();
    assert_eq!(heard.so_far(), ["lost", "follows"]);
    memory.begin_epoch();
    tail.look().await.unwrap();
    assert_eq!(heard.so_far(), ["lost", "follows"]);
    memory.begin_epoch();
    memory.with(|state| state.oldest = 1);
    memory.add(&["docs"; 2]);
    tail.look().await.unwrap();
    assert_eq!(heard.so_far(), ["lost", "3.1", "3.2", "follows"]);
}

#[tokio::test]
async fn stopping_ends_every_watcher() {
    let memory = Memory::new();
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let tasks = Tasks::new();
    let asked = WatchEventsRequest::default();
    let mut watcher = watch_as(&tail, &tasks, caller(&[]), asked).await.unwrap();
    assert!(is_silent(&mut watcher).await);
    tasks.stop();
    assert_eq!(
        next(&mut watcher).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert!(watcher.next().await.is_none());
}
