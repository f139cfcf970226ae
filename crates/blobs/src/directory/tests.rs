use bytes::Bytes;
use futures_util::{future::join_all, stream};
use sha2::Digest as _;

use super::*;
use crate::{Options, body_of, open};

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(sha2::Sha256::digest(bytes).into())
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let key = UploadKey::from_hex(&"ab".repeat(32)).unwrap();
    let options = Options {
        upload_key: Some(key),
        ..Options::default()
    };
    let store = open(&format!("dir:{}", dir.path().display()), options)
        .await
        .unwrap();
    Fixture { dir, store }
}

impl Fixture {
    fn files(&self) -> Vec<PathBuf> {
        fn below(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    below(&path, found);
                } else {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        below(self.dir.path(), &mut found);
        found
    }
}

#[tokio::test]
async fn a_blob_comes_back_as_it_was_put() {
    let f = fixture().await;
    let content = Bytes::from(vec![7; 700_000]);
    let name = digest(&content);
    let other = digest(b"other");
    let size = 700_000;
    assert_eq!(
        f.store
            .put(&name, size, body_of(content.clone()))
            .await
            .unwrap(),
        Put::Stored
    );
    assert_eq!(
        f.store.put(&name, size, body_of("unread")).await.unwrap(),
        Put::Existed
    );
    assert_eq!(f.store.exists(&[other, name]).await.unwrap(), [false, true]);
    assert_eq!(f.store.sizes(&[name]).await.unwrap(), [Some(size)]);
    assert_eq!(f.store.read(&name, size).await.unwrap(), content);
    assert_eq!(f.store.verify(&name).await.unwrap(), size);
    assert!(matches!(
        f.store.read(&name, 10).await,
        Err(Error::Large { .. })
    ));
    assert!(matches!(
        f.store.get(&other).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        f.store.verify(&other).await,
        Err(Error::NotFound { .. })
    ));
    let text = name.to_string();
    assert_eq!(f.files(), [f.dir.path().join(&text[..2]).join(&text[2..])]);
}

#[tokio::test]
async fn content_that_is_not_its_name_is_refused_and_leaves_nothing() {
    let f = fixture().await;
    let name = digest(b"hello");
    let corrupt = f.store.put(&name, 5, body_of("jello")).await.unwrap_err();
    assert!(matches!(corrupt, Error::Corrupt { .. }), "{corrupt}");
    let long = f.store.put(&name, 5, body_of("hello!")).await.unwrap_err();
    assert!(
        matches!(
            long,
            Error::Size {
                expected: 5,
                found: 6,
                ..
            }
        ),
        "{long}"
    );
    let short = f.store.put(&name, 5, body_of("hell")).await.unwrap_err();
    assert!(
        matches!(
            short,
            Error::Size {
                expected: 5,
                found: 4,
                ..
            }
        ),
        "{short}"
    );
    let pieces = [Ok(Bytes::from("hel")), Err(Error::Body("gone".into()))];
    let broken = f
        .store
        .put(&name, 5, Box::pin(stream::iter(pieces)))
        .await
        .unwrap_err();
    assert!(matches!(broken, Error::Body(_)), "{broken}");
    assert_eq!(f.files(), Vec::<PathBuf>::new());
    assert_eq!(f.store.exists(&[name]).await.unwrap(), [false]);
}

#[tokio::test]
async fn a_put_that_is_dropped_leaves_nothing() {
    let f = fixture().await;
    let name = digest(b"hello");
    let begun = stream::iter([Ok(Bytes::from("hel"))]).chain(stream::pending());
    let put = f.store.put(&name, 5, Box::pin(begun));
    let cut = tokio::time::timeout(Duration::from_millis(50), put).await;
    assert!(cut.is_err());
    assert_eq!(f.files(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_file_that_rotted_is_never_read_as_the_blob() {
    let f = fixture().await;
    let name = digest(b"hello");
    f.store.put(&name, 5, body_of("hello")).await.unwrap();
    std::fs::write(f.store.local_path(&name).unwrap(), "jello").unwrap();
    assert!(matches!(
        f.store.read(&name, 10).await,
        Err(Error::Corrupt { .. })
    ));
    assert!(matches!(
        f.store.verify(&name).await,
        Err(Error::Corrupt { .. })
    ));
    let copy = f.dir.path().join("copies/x");
    assert!(matches!(
        f.store.read_to(&name, &copy).await,
        Err(Error::Corrupt { .. })
    ));
    assert_eq!(f.files().len(), 1, "no copy, no temporary file");
    std::fs::write(f.store.local_path(&name).unwrap(), "hell").unwrap();
    assert_eq!(
        f.store.put(&name, 5, body_of("hello")).await.unwrap(),
        Put::Stored
    );
    assert_eq!(f.store.read_to(&name, &copy).await.unwrap(), 5);
    assert_eq!(std::fs::read(&copy).unwrap(), b"hello");
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_may_be_put_again() {
    let f = fixture().await;
    let name = digest(b"hello");
    f.store.delete(&name).await.unwrap();
    f.store.put(&name, 5, body_of("hello")).await.unwrap();
    f.store.delete(&name).await.unwrap();
    assert_eq!(f.files(), Vec::<PathBuf>::new());
    assert_eq!(f.store.exists(&[name]).await.unwrap(), [false]);
    let again = f.store.put(&name, 5, body_of("hello")).await.unwrap();
    assert_eq!(again, Put::Stored);
    assert_eq!(f.store.read(&name, 10).await.unwrap(), "hello");
}

#[tokio::test]
async fn what_a_crash_left_in_the_middle_of_an_upload_goes_a_day_later() {
    let f = fixture().await;
    let scratch = f.dir.path().join("tmp");
    std::fs::create_dir(&scratch).unwrap();
    for (name, hours) in [("old", 25), ("recent", 23)] {
        let file = std::fs::File::create(scratch.join(name)).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - Duration::from_hours(hours))
            .unwrap();
    }
    f.store
        .put(&digest(b"hello"), 5, body_of("hello"))
        .await
        .unwrap();
    assert!(!scratch.join("old").exists() && scratch.join("recent").exists());
    assert_eq!(f.files().len(), 2, "the blob, and who may still write");
}

#[tokio::test]
async fn many_writers_of_one_blob_all_succeed() {
    let f = fixture().await;
    let name = digest(b"hello");
    let puts = (0..20).map(|_| f.store.put(&name, 5, body_of("hello")));
    let done = join_all(puts).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(f.files().len(), 1);
}

#[tokio::test]
async fn few_puts_of_a_blob_write_and_who_comes_later_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Directory::new(dir.path().to_owned(), None);
    let name = digest(b"hello");
    let (go, may_go) = tokio::sync::watch::channel(false);
    let slow = || {
        let mut may_go = may_go.clone();
        stream::once(async move {
            may_go.wait_for(|may| *may).await.unwrap();
            Ok(Bytes::from("hello"))
        })
    };
    let first = join_all((0..WRITERS).map(|_| store.put(&name, 5, Box::pin(slow()))));
    let later = store.put(&name, 5, body_of("hello"));
    let all_came = async {
        // Those that write, the one that waits, and this look.
        while Arc::strong_count(&store.turns(&name)) < WRITERS + 2 {
            tokio::task::yield_now().await;
        }
        go.send(true).unwrap();
    };
    let all_came = tokio::time::timeout(Duration::from_secs(20), all_came);
    let (first, later, all_came) = tokio::join!(first, later, all_came);
    assert!(all_came.is_ok(), "all write, or none");
    assert!(first.into_iter().all(|put| put.is_ok()));
    assert_eq!(later.unwrap(), Put::Existed);
    // Nobody's turn is kept once it is over.
    drop(store.turns(&digest(b"other")));
    assert_eq!(store.turns.lock().unwrap().len(), 1);
}

fn on_a_lost_disk(folder: &Path) -> Result<(), Error> {
    Err(failed("flush", folder, io::Error::other("it is lost")))
}

/// Takes what a folder of blobs holds, not what the root does.
fn but_for_the_root(folder: &Path) -> Result<(), Error> {
    let name = folder.file_name().unwrap_or_default();
    if name.len() == 2 {
        flush_folder(folder)
    } else {
        on_a_lost_disk(folder)
    }
}

#[tokio::test]
async fn no_put_is_acknowledged_before_its_name_is_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Directory::new(dir.path().to_owned(), None);
    let name = digest(b"hello");
    let refused = |put: Result<Put, Error>| matches!(put, Err(Error::Io { act: "flush", .. }));
    // Another put made the folder just now, and has not flushed the root.
    let folder = store.path(&name);
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    store.flush = but_for_the_root;
    assert!(refused(store.put(&name, 5, body_of("hello")).await));
    // It has its name now, which is not enough to say that it is there for good.
    for lost in [on_a_lost_disk, but_for_the_root] {
        store.flush = lost;
        assert!(refused(store.put(&name, 5, body_of("hello")).await));
    }
    store.flush = flush_folder;
    let existed = store.put(&name, 5, body_of("hello")).await.unwrap();
    assert_eq!(existed, Put::Existed);
}

#[tokio::test]
async fn an_upload_url_is_signed_for_its_time() {
    let f = fixture().await;
    let name = digest(b"hello");
    let upload = f
        .store
        .upload_url(&name, 5, Duration::from_mins(15), 1_000)
        .await
        .unwrap();
    let (path, query) = upload.url.split_once('?').unwrap();
    assert_eq!(path, format!("/blobs/{name}"));
    let key = UploadKey::from_hex(&"ab".repeat(32)).unwrap();
    let signed = key.read(&name.to_string(), query).unwrap();
    assert_eq!(signed.at(1_900), Ok((name, 5)));
    assert!(signed.at(1_901).is_err());
    let mute = open(
        &format!("dir:{}", f.dir.path().display()),
        Options::default(),
    )
    .await
    .unwrap();
    let refused = mute.upload_url(&name, 5, Duration::from_secs(1), 0).await;
    assert!(matches!(refused, Err(Error::NoUploadKey)));
}

#[tokio::test]
async fn a_location_that_is_none_says_why() {
    for location in [
        "/var/blobs",
        "dir:relative/path",
        "dir:",
        "s3://",
        "s3://Bucket_",
        "ftp://x",
    ] {
        let error = open(location, Options::default()).await.unwrap_err();
        assert!(
            error.to_string().contains(&format!("{location:?}")),
            "{error}"
        );
    }
}
