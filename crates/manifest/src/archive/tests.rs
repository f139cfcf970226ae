use std::{collections::BTreeMap, io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;

use super::*;

mod build;
mod corpus;

use build::{Tar, gz};

const ALWAYS: fn() -> bool = || true;

fn reading<'a>(folder: &'a str, limits: &'a Limits) -> Reading<'a> {
    Reading {
        folder,
        limits,
        go_on: &ALWAYS,
    }
}

/// What is read of the folder: paths and contents.
fn files(packed: &[u8], folder: &str, limits: &Limits) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let named = manifest(packed, &reading(folder, limits))?;
    let mut found = BTreeMap::new();
    read(packed, &reading(folder, limits), |one, content| {
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        let entry = named.get(&one.path).unwrap();
        assert_eq!(entry.digest, crate::digest_of(&bytes), "{}", one.path);
        assert_eq!(usize::try_from(entry.size).unwrap(), bytes.len());
        found.insert(one.path.clone(), bytes);
        Ok(())
    })?;
    assert_eq!(found.len(), named.entries().len());
    Ok(found)
}

/// What the library's own reading, which goes by other rules, finds below a folder.
fn by_another_reader(packed: &[u8], folder: &str) -> BTreeMap<String, Vec<u8>> {
    let prefix = format!("{}/{folder}", build::TOP);
    let prefix = format!("{}/", prefix.trim_end_matches('/'));
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(packed));
    let mut found = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if let (true, Some(path)) = (
            entry.header().entry_type().is_file(),
            path.strip_prefix(&prefix),
        ) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            found.insert(path.to_owned(), bytes);
        }
    }
    found
}

#[test]
fn the_whole_corpus_is_read_or_refused_as_it_should_be() {
    let limits = corpus::limits();
    let mut count = 0;
    for case in corpus::cases() {
        count += 1;
        match (files(&case.packed, case.folder, &limits), case.expected) {
            (Ok(found), corpus::Expected::Files(expected)) => {
                let paths: Vec<&str> = found.keys().map(String::as_str).collect();
                assert_eq!(paths, expected, "{}", case.what);
                let other = by_another_reader(&case.packed, case.folder);
                assert_eq!(found, other, "{}: two readers disagree", case.what);
            }
            (Err(error), corpus::Expected::Refused(words)) => {
                let mut said = error.to_string();
                if let Error::Broken(source) = &error {
                    said = format!("{said}: {source}");
                }
                assert!(said.contains(words), "{}: {said}", case.what);
            }
            (Ok(found), corpus::Expected::Refused(words)) => {
                let paths: Vec<&String> = found.keys().collect();
                panic!("{}: {paths:?} instead of: {words}", case.what);
            }
            (Err(error), corpus::Expected::Files(expected)) => {
                panic!("{}: {error} instead of {expected:?}", case.what);
            }
        }
    }
    assert!(count >= 80, "{count}");
}

#[test]
fn what_is_left_unread_is_passed_over() {
    let packed = gz(&Tar::of_github()
        .file("a", &[b'a'; 5000])
        .file("b", b"b")
        .end());
    let mut seen = Vec::new();
    let limits = Limits::default();
    read(&*packed, &reading("", &limits), |one, content| {
        let mut first = [0; 1];
        content.read_exact(&mut first)?;
        seen.push((one.path.clone(), one.size, first[0]));
        Ok(())
    })
    .unwrap();
    assert_eq!(
        seen,
        [("a".to_owned(), 5000, b'a'), ("b".to_owned(), 1, b'b')]
    );
}

#[test]
fn an_error_of_the_taker_is_its_own_and_a_stop_is_heard_in_the_middle() {
    let packed = gz(&Tar::of_github().file("a", &vec![0; 100_000]).end());
    let limits = Limits::default();
    let full = read(&*packed, &reading("", &limits), |_, _| {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    });
    assert!(matches!(full, Err(Error::Io(_))), "{full:?}");
    let asked = Cell::new(0);
    let go_on = || {
        asked.set(asked.get() + 1);
        asked.get() < 4
    };
    let stopped = manifest(
        &*packed,
        &Reading {
            folder: "",
            limits: &limits,
            go_on: &go_on,
        },
    );
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
    assert!(asked.get() < 6, "{}", asked.get());
}

#[test]
fn a_disk_that_fails_is_no_fault_of_the_archive() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Err(io::Error::other("the disk"));
            }
            self.0.read(buffer)
        }
    }
    let packed = gz(&Tar::of_github().file("a", b"a").end());
    let limits = Limits::default();
    for cut in [0, 5, packed.len() / 2, packed.len()] {
        let read = manifest(Failing(&packed[..cut]), &reading("", &limits));
        let error = read.unwrap_err();
        assert!(matches!(error, Error::Io(_)), "{cut}: {error:?}");
        assert!(!error.is_final());
    }
}

#[test]
fn an_archive_that_is_cut_anywhere_is_broken() {
    let packed = gz(&Tar::of_github().file("a", b"a").file("b/c", b"c").end());
    let limits = Limits::default();
    for cut in 0..packed.len() {
        let error = manifest(&packed[..cut], &reading("", &limits)).unwrap_err();
        assert!(matches!(error, Error::Broken(_)), "{cut}: {error:?}");
    }
}

#[test]
fn a_bomb_costs_as_much_as_it_may_and_no_more() {
    // It promises 4 GiB of zeros, in a file that is elsewhere.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let unpacked = 4_u64 << 30;
    encoder
        .write_all(
            &Tar::of_github()
                .header_of("elsewhere/zeros", b'0', unpacked)
                .bytes(),
        )
        .unwrap();
    let zeros = vec![0; 1 << 20];
    for _piece in 0..64 {
        encoder.write_all(&zeros).unwrap();
    }
    let packed = encoder.finish().unwrap();
    let begun = std::time::Instant::now();
    let limits = Limits::default();
    let error = manifest(&*packed, &reading("site", &limits)).unwrap_err();
    assert!(matches!(error, Error::Bomb { ratio: 100 }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

/// A million times one entry without content, made as they are read.
struct Million {
    /// The same block, again and again.
    blocks: Vec<u8>,
    given: usize,
}

impl Read for Million {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from = self.given % self.blocks.len();
        let left = 512 * 1_000_000 - self.given;
        let end = self.blocks.len().min(from + left);
        let count = (&self.blocks[from..end]).read(buffer)?;
        self.given += count;
        Ok(count)
    }
}

/// Why an archive of a million such entries is refused, and how many of them were made until then.
fn refused_of_a_million(path: &str, kind: u8, limits: &Limits) -> (Error, usize) {
    let block = Tar::default().header_of(path, kind, 0).bytes();
    let mut entries = Million {
        blocks: block.repeat(64),
        given: 0,
    };
    let begins = Tar::of_github().folder("site").bytes();
    let plain = begins.as_slice().chain(&mut entries);
    // Not packed at all, or the ratio would end it first.
    let packed = flate2::read::GzEncoder::new(plain, Compression::none());
    let error = manifest(packed, &reading("site", limits)).unwrap_err();
    (error, entries.given / 512)
}

#[test]
fn of_a_million_entries_no_more_are_read_than_a_release_may_have() {
    // What is packed and unpacked is read ahead by some buffers.
    let ahead = 2_000;
    let limits = Limits::default();
    let (error, read) = refused_of_a_million("site/a", b'0', &limits);
    let files = matches!(
        error,
        Error::Release(encoding::Error::Files {
            files: 50_001,
            limit: 50_000,
        })
    );
    assert!(files, "{error:?}");
    assert!((50_001..50_001 + ahead).contains(&read), "{read}");

    // Elsewhere than in the site, and of a smaller limit, so that the test is quick.
    let limits = Limits {
        files: 10_000,
        ..Limits::default()
    };
    let (error, read) = refused_of_a_million("other/a/", b'5', &limits);
    assert!(
        matches!(error, Error::Entries { limit: 30_016 }),
        "{error:?}"
    );
    assert!((30_000..30_000 + ahead).contains(&read), "{read}");
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-d]{1,3}",
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => Just(".git".to_owned()),
        1 => "[a-z]{90,130}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_is_read_another_reader_reads_the_same(
        names in prop::collection::vec(prop::collection::vec(segment(), 1..5), 1..6),
    ) {
        let limits = Limits::default();
        let mut tar = Tar::of_github();
        for (place, name) in names.iter().enumerate() {
            tar = tar.file(&name.join("/"), format!("{place}").as_bytes());
        }
        let packed = gz(&tar.end());
        if let Ok(found) = files(&packed, "", &limits) {
            let mut other = by_another_reader(&packed, "");
            other.retain(|path, _| path.split('/').all(|segment| segment != ".git"));
            prop_assert_eq!(found, other);
        }
    }

    #[test]
    fn bytes_that_anybody_turned_over_never_do_harm(
        at in 0_usize..4096, byte in any::<u8>(), also in 0_usize..4096, other in any::<u8>(),
    ) {
        let limits = Limits { files: 10, total_bytes: 1 << 20, ..Limits::default() };
        let mut plain = Tar::of_github()
            .pax(&[("path", &format!("{}/{}", build::TOP, "long/".repeat(30) + "name"))])
            .file("short", b"content")
            .file("b", &[b'b'; 700])
            .end();
        for (at, byte) in [(at, byte), (also, other)] {
            let place = at % plain.len();
            plain[place] = byte;
        }
        let packed = gz(&plain);
        if let Ok(found) = files(&packed, "", &limits) {
            for path in found.keys() {
                check(path, &limits).unwrap();
            }
        }
    }
}
