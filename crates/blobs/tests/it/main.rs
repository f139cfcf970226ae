//! The S3 back end against a server that others wrote.
//!
//! `cargo xtask test` starts one and names it in `CANDLEFISH_TEST_S3_ENDPOINT`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use candlefish_blobs::{Digest, Error, Options, Put, S3Keys, Store, body_of, open};
use futures_util::{StreamExt as _, stream};
use sha2::Digest as _;

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(sha2::Sha256::digest(bytes).into())
}

#[expect(clippy::disallowed_methods, reason = "a test's only configuration")]
fn endpoint() -> String {
    std::env::var("CANDLEFISH_TEST_S3_ENDPOINT")
        .expect("CANDLEFISH_TEST_S3_ENDPOINT names an S3 server: run `cargo xtask test`")
}

/// With the keys that ministack knows.
fn options(endpoint: String) -> Options {
    let key = "test".to_owned();
    Options {
        s3_endpoint: Some(endpoint),
        s3_keys: Some(S3Keys {
            access_key: key.clone(),
            secret_key: key,
        }),
        ..Options::default()
    }
}

/// A bucket of this test's own.
async fn bucket(name: &str) -> Arc<dyn Store> {
    let bucket = format!("blobs-{name}-{}", std::process::id());
    let endpoint = endpoint();
    let created = reqwest::Client::new()
        .put(format!("{endpoint}/{bucket}"))
        .send()
        .await
        .unwrap();
    assert!(created.status().is_success(), "{created:?}");
    open(&format!("s3://{bucket}/sites"), options(endpoint))
        .await
        .unwrap()
}

async fn upload(store: &dyn Store, name: &Digest, size: u64, content: &'static [u8]) -> u16 {
    let upload = store
        .upload_url(name, size, Duration::from_mins(15), 0)
        .await
        .unwrap();
    let mut request = reqwest::Client::new().put(&upload.url).body(content);
    for (key, value) in &upload.headers {
        request = request.header(key, value);
    }
    let answer = request.send().await.unwrap();
    answer.status().as_u16()
}

#[tokio::test]
async fn a_blob_is_put_and_read_back() {
    let store = bucket("put").await;
    let (name, other) = (digest(b"hello"), digest(b"other"));
    assert_eq!(store.exists(&[name]).await.unwrap(), [false]);
    assert_eq!(
        store.put(&name, 5, body_of("hello")).await.unwrap(),
        Put::Stored
    );
    assert_eq!(
        store.put(&name, 5, body_of("hello")).await.unwrap(),
        Put::Existed
    );
    assert_eq!(store.sizes(&[other, name]).await.unwrap(), [None, Some(5)]);
    assert_eq!(store.read(&name, 10).await.unwrap(), "hello");
    assert_eq!(store.verify(&name).await.unwrap(), 5);
    assert!(matches!(
        store.get(&other).await,
        Err(Error::NotFound { .. })
    ));
    let refused = store.put(&other, 5, body_of("hello")).await.unwrap_err();
    assert!(matches!(refused, Error::Corrupt { .. }), "{refused}");
    assert_eq!(store.exists(&[other]).await.unwrap(), [false]);
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        store.read_to(&name, &dir.path().join("a/b")).await.unwrap(),
        5
    );
    assert_eq!(std::fs::read(dir.path().join("a/b")).unwrap(), b"hello");
    assert_eq!(store.local_path(&name), None);
}

#[tokio::test]
async fn a_large_blob_is_put_in_parts_and_nothing_of_one_that_does_not_fit() {
    let store = bucket("parts").await;
    // More than is held in memory, and no whole number of parts.
    let large: Vec<u8> = (0_u32..70 * 256 * 1024)
        .flat_map(u32::to_le_bytes)
        .collect();
    let size = u64::try_from(large.len()).unwrap();
    let (name, other) = (digest(&large), digest(b"other"));
    let refused = store.put(&other, size, body_of(large.clone())).await;
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
    assert_eq!(store.exists(&[other]).await.unwrap(), [false]);
    for stored in [Put::Stored, Put::Existed] {
        let put = store.put(&name, size, body_of(large.clone())).await;
        assert_eq!(put.unwrap(), stored);
    }
    assert_eq!(store.sizes(&[name]).await.unwrap(), [Some(size)]);
    assert_eq!(store.verify(&name).await.unwrap(), size);
}

/// How many puts in parts the bucket of this name has begun and not ended.
async fn begun(name: &str) -> usize {
    let bucket = format!("blobs-{name}-{}", std::process::id());
    let list = reqwest::get(format!("{}/{bucket}?uploads", endpoint()));
    let answer = list.await.unwrap().error_for_status().unwrap();
    answer.text().await.unwrap().matches("<UploadId>").count()
}

#[tokio::test]
async fn what_a_dropped_put_left_in_parts_goes_with_the_next_put() {
    let store = bucket("dropped").await;
    let (told, has_sent) = tokio::sync::oneshot::channel();
    // Asked for a third piece, it has sent the first two as parts.
    let pieces =
        stream::iter([(); 2]).map(|()| Ok::<_, Error>(Bytes::from(vec![7_u8; 16 * 1024 * 1024])));
    let stalls = stream::once(async move {
        told.send(()).unwrap();
        std::future::pending::<Result<Bytes, Error>>().await
    });
    let (name, size) = (digest(b"stalls"), 65 * 1024 * 1024_u64);
    tokio::select! {
        put = store.put(&name, size, Box::pin(pieces.chain(stalls))) => panic!("{put:?}"),
        told = has_sent => told.unwrap(),
    }
    assert_eq!(begun("dropped").await, 1);
    let other = digest(b"hello");
    store.put(&other, 5, body_of("hello")).await.unwrap();
    assert_eq!(begun("dropped").await, 0);
    assert_eq!(store.exists(&[name]).await.unwrap(), [false]);
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_may_be_uploaded_again() {
    let store = bucket("delete").await;
    let name = digest(b"hello");
    store.delete(&name).await.unwrap();
    store.put(&name, 5, body_of("hello")).await.unwrap();
    store.delete(&name).await.unwrap();
    assert_eq!(store.sizes(&[name]).await.unwrap(), [None]);
    assert_eq!(upload(&*store, &name, 5, b"hello").await, 200);
    assert_eq!(store.read(&name, 10).await.unwrap(), "hello");
}

#[tokio::test]
async fn a_signed_url_takes_the_named_content_alone_and_once() {
    let store = bucket("signed").await;
    let name = digest(b"hello");
    assert_eq!(
        upload(&*store, &name, 5, b"jello").await,
        400,
        "another content"
    );
    assert_eq!(store.exists(&[name]).await.unwrap(), [false]);
    assert_eq!(upload(&*store, &name, 5, b"hello").await, 200);
    assert_eq!(
        upload(&*store, &name, 5, b"hello").await,
        412,
        "it is there"
    );
    assert_eq!(store.read(&name, 10).await.unwrap(), "hello");
}

#[tokio::test]
async fn what_must_be_sent_is_signed() {
    let store = bucket("headers").await;
    let name = digest(b"hello");
    let upload = store
        .upload_url(&name, 5, Duration::from_mins(15), 0)
        .await
        .unwrap();
    let signed = upload.url.split("X-Amz-SignedHeaders=").nth(1).unwrap();
    let signed = signed.split('&').next().unwrap();
    for header in ["content-length", "if-none-match", "x-amz-checksum-sha256"] {
        assert!(signed.contains(header), "{header} in {signed}");
        assert!(
            upload.headers.iter().any(|(key, _)| key == header),
            "{header}"
        );
    }
}

/// An S3 server that finds something else being done with every name; afterwards a blob of 5 bytes is
/// there, or nothing.
fn busy(there: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let answer = match (request(&mut stream).starts_with("HEAD"), there) {
                (true, true) => "200 OK\r\ncontent-length: 5",
                (true, false) => "404 Not Found\r\ncontent-length: 0",
                (false, _) => "409 Conflict\r\ncontent-length: 0",
            };
            write!(stream, "HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n").unwrap();
        }
    });
    endpoint
}

/// A request with all of its body, as text.
fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).unwrap();
        bytes.extend_from_slice(piece.get(..count).unwrap());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let is_whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let head = head.to_lowercase();
            let mut lengths = head
                .lines()
                .filter_map(|l| l.strip_prefix("content-length: "));
            let length: usize = lengths.next().map_or(0, |length| length.parse().unwrap());
            body.len() >= length
        });
        if count == 0 || is_whole {
            return text;
        }
    }
}

#[tokio::test]
async fn a_conflict_does_not_say_that_a_blob_is_there() {
    let name = digest(b"hello");
    let store = open("s3://busy", options(busy(true))).await.unwrap();
    let put = store.put(&name, 5, body_of("hello")).await.unwrap();
    assert_eq!(put, Put::Existed);
    let store = open("s3://busy", options(busy(false))).await.unwrap();
    let error = store.put(&name, 5, body_of("hello")).await.unwrap_err();
    assert!(
        matches!(error, Error::S3 { .. }) && error.is_transient(),
        "{error}"
    );
}

#[tokio::test]
async fn a_bucket_that_is_missing_is_a_fault_that_names_it_and_not_an_absent_blob() {
    let store = open("s3://nobody-made-it", options(endpoint()))
        .await
        .unwrap();
    let name = digest(b"hello");
    // More than is held in memory: it goes in parts.
    let large = 65 * 1024 * 1024;
    let faults = [
        store.sizes(&[name]).await.unwrap_err(),
        store.exists(&[name]).await.unwrap_err(),
        store.get(&name).await.unwrap_err(),
        store.read(&name, 10).await.unwrap_err(),
        store.put(&name, 5, body_of("hello")).await.unwrap_err(),
        store.put(&name, large, body_of("hello")).await.unwrap_err(),
        store.delete(&name).await.unwrap_err(),
    ];
    for (place, fault) in faults.iter().enumerate() {
        assert!(matches!(fault, Error::NoBucket { .. }), "{place}: {fault}");
        assert!(fault.to_string().contains("\"nobody-made-it\""), "{fault}");
        // What is in it is not lost.
        assert!(fault.is_transient(), "{place}");
    }
}

#[tokio::test]
async fn a_server_that_is_down_is_a_fault_that_may_pass() {
    let nobody = "http://127.0.0.1:9".to_owned();
    let store = open("s3://nowhere", options(nobody)).await.unwrap();
    let error = store.exists(&[digest(b"x")]).await.unwrap_err();
    assert!(
        matches!(error, Error::S3 { .. }) && error.is_transient(),
        "{error}"
    );
}
