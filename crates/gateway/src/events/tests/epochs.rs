//! What watchers are told when the source's database is another than before.

use super::*;

/// The places of the next events.
async fn places(watcher: &mut Watcher, many: usize) -> Vec<(i32, i64)> {
    let mut places = Vec::new();
    for _ in 0..many {
        let event = next(watcher).await.unwrap().event.unwrap();
        places.push((event.epoch, event.seq));
    }
    places
}

#[tokio::test]
async fn a_new_epoch_is_told_from_its_first_event_on() {
    let memory = Memory::new();
    memory.add(&["docs"; 5]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let mut follower = watch(&tail, "").await.unwrap();
    assert!(is_silent(&mut follower).await);
    memory.begin_epoch();
    memory.add(&["docs"; 3]);
    tail.look().await.unwrap();
    let mut to_the_end = watch(&tail, &cursor_at(1, 5)).await.unwrap();
    // Another replica read more of the old epoch than this one.
    let mut further = watch(&tail, &cursor_at(1, 6)).await.unwrap();
    for watcher in [&mut follower, &mut to_the_end, &mut further] {
        let (numbers, cursor) = take(watcher, 3).await;
        assert_eq!((numbers, cursor), (vec![1, 2, 3], cursor_at(2, 3)));
        assert!(is_silent(watcher).await);
    }
}

#[tokio::test]
async fn a_cursor_of_an_old_epoch_that_was_not_told_whole_is_refused() {
    let memory = Memory::new();
    memory.add(&["docs"; 5]);
    let (seen, begun_later) = (tail(&memory), tail(&memory));
    seen.look().await.unwrap();
    memory.begin_epoch();
    memory.add(&["docs"]);
    for tail in [&seen, &begun_later] {
        tail.look().await.unwrap();
    }
    for (tail, seq) in [(&seen, 4), (&begun_later, 5)] {
        let refused = watch(tail, &cursor_at(1, seq)).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    }
    memory.begin_epoch();
    seen.look().await.unwrap();
    // Two epochs ago.
    let refused = watch(&seen, &cursor_at(1, 5)).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test]
async fn what_is_still_given_of_an_old_epoch_is_told_before_the_new_one() {
    let memory = Memory::new();
    memory.add(&["docs"; 3]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let mut follower = watch(&tail, "").await.unwrap();
    assert!(is_silent(&mut follower).await);
    memory.add(&["docs"; 2]);
    memory.keep_and_begin_epoch();
    memory.add(&["docs"]);
    tail.look().await.unwrap();
    assert_eq!(take(&mut follower, 3).await.0, [4, 5, 1]);
    let mut late = watch(&tail, &cursor_at(1, 2)).await.unwrap();
    assert_eq!(take(&mut late, 4).await.0, [3, 4, 5, 1]);
}

#[tokio::test]
async fn whoever_follows_is_ended_when_what_comes_next_is_not_to_be_had() {
    for turned in [false, true] {
        let memory = Memory::new();
        memory.add(&["docs"; 2]);
        let tail = tail(&memory);
        tail.look().await.unwrap();
        let mut follower = watch(&tail, "").await.unwrap();
        assert!(is_silent(&mut follower).await);
        if turned {
            memory.begin_epoch();
        }
        memory.add(&["docs"; 5]);
        memory.with(|state| state.oldest = 4);
        tail.look().await.unwrap();
        let ended = next(&mut follower).await.unwrap_err();
        assert_eq!(ended.code(), Code::Aborted, "{ended}");
        assert!(follower.next().await.is_none());
        let refused = watch(&tail, &cursor_at(1, 2)).await.err().unwrap();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    }
}

#[tokio::test]
async fn epochs_that_began_while_nobody_was_reached_are_told_one_after_the_other() {
    let memory = Memory::new();
    memory.add(&["docs"; 2]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let mut follower = watch(&tail, "").await.unwrap();
    assert!(is_silent(&mut follower).await);
    memory.with(|state| state.down = true);
    assert!(tail.look().await.is_err());
    for told in [1, 2] {
        memory.add(&vec!["docs"; told]);
        memory.keep_and_begin_epoch();
    }
    // An epoch of which nothing was told is none to miss.
    memory.begin_epoch();
    memory.add(&["docs"]);
    memory.with(|state| state.down = false);
    tail.look().await.unwrap();
    assert_eq!(
        places(&mut follower, 4).await,
        [(1, 3), (2, 1), (2, 2), (4, 1)]
    );
    assert!(is_silent(&mut follower).await);
    // Whoever comes back goes on from the last of them, and from nowhere before.
    let mut back = watch(&tail, &cursor_at(2, 2)).await.unwrap();
    assert_eq!(places(&mut back, 1).await, [(4, 1)]);
    let refused = watch(&tail, &cursor_at(1, 3)).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test]
async fn nobody_goes_on_past_an_epoch_of_which_the_beginning_is_lost() {
    let memory = Memory::new();
    memory.add(&["docs"; 2]);
    let tail = tail(&memory);
    tail.look().await.unwrap();
    let mut follower = watch(&tail, "").await.unwrap();
    assert!(is_silent(&mut follower).await);
    memory.keep_and_begin_epoch();
    memory.add(&["docs"; 2]);
    memory.keep_and_begin_epoch();
    memory.add(&["docs"]);
    // The first one of the epoch in between.
    memory.with(|state| {
        state
            .over
            .retain(|event| (event.epoch, event.seq) != (2, 1));
    });
    tail.look().await.unwrap();
    let ended = next(&mut follower).await.unwrap_err();
    assert_eq!(ended.code(), Code::Aborted, "{ended}");
    let refused = watch(&tail, &cursor_at(1, 2)).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test]
async fn nobody_goes_on_when_an_epoch_may_have_come_and_gone_during_a_long_absence() {
    let memory = Memory::new();
    memory.add(&["docs"; 2]);
    let feed: Arc<dyn Feed> = Arc::<Memory>::clone(&memory);
    let limits = Limits {
        absence: Duration::ZERO,
        ..LIMITS
    };
    let listener = Arc::new(Heard::default());
    let tail = Tail::with_limits("deploy", feed, listener, Duration::from_millis(5), limits);
    tail.look().await.unwrap();
    let mut follower = watch(&tail, "").await.unwrap();
    assert!(is_silent(&mut follower).await);
    // All of epoch 2 was dropped: what is left looks as if there had been none.
    memory.begin_epoch();
    memory.add(&["docs"; 2]);
    memory.begin_epoch();
    memory.add(&["docs"]);
    tail.look().await.unwrap();
    let ended = next(&mut follower).await.unwrap_err();
    assert_eq!(ended.code(), Code::Aborted, "{ended}");
    let refused = watch(&tail, &cursor_at(1, 2)).await.err().unwrap();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let mut anew = watch(&tail, "").await.unwrap();
    memory.add(&["docs"]);
    tail.look().await.unwrap();
    assert_eq!(places(&mut anew, 1).await, [(3, 2)]);
}
