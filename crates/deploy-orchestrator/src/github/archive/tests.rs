use super::*;

#[test]
fn an_archive_that_is_slower_than_its_limit_is_an_outage() {
    let slow = Unfinished::Slow(Duration::from_mins(10));
    assert!(slow.is_outage() && !slow.is_refusal());
    assert_eq!(chain(&slow), "it took longer than 600s");
    for (refusals, minutes) in [(0, 10), (1, 20), (4, 160), (9, 160)] {
        assert_eq!(slow.pause(9, refusals), Duration::from_mins(minutes));
    }
}

#[test]
fn three_refusals_are_final_or_six_tries_that_are_slow() {
    let slow = || Unfinished::Slow(Duration::from_mins(10));
    let refused = || {
        let broken = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle");
        Unfinished::Archive(archive::Error::Broken(broken))
    };
    let is_final_after = |errors: &[Unfinished]| {
        let mut refusals = 0;
        errors.iter().position(|error| {
            let is_final = error.is_final(refusals);
            refusals += error.weight();
            is_final
        })
    };
    assert_eq!(
        is_final_after(&[slow(), slow(), slow(), slow(), slow(), slow()]),
        Some(5)
    );
    assert_eq!(is_final_after(&[refused(), refused(), refused()]), Some(2));
    // On a way so slow one may come broken.
    assert_eq!(is_final_after(&[slow(), slow(), slow(), refused()]), None);
}

#[test]
fn a_full_disk_is_an_outage_and_no_word_on_the_commit() {
    /// `ENOSPC`.
    const FULL: i32 = 28;
    let full = || io::Error::from_raw_os_error(FULL);
    for error in [
        Unfinished::File(full()),
        Unfinished::GitHub(Error::Disk(full())),
        Unfinished::Archive(archive::Error::Io(full())),
    ] {
        assert!(error.is_outage(), "{error:?}");
        assert!(!error.is_refusal() && !error.is_final(ENOUGH), "{error:?}");
        // As the blocker says it.
        let words = chain(&error);
        assert!(words.contains("No space left on device"), "{words}");
    }
    let broken = io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle");
    assert!(!Unfinished::Archive(archive::Error::Broken(broken)).is_outage());
}
