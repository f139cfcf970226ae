use candlefish_blobs::{Options, body_of, open};
use candlefish_manifest::{Entry, digest_of, guess_content_type};

use super::*;

pub(crate) struct Fixture {
    dir: tempfile::TempDir,
    store: Arc<dyn Store>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let location = format!("dir:{}", dir.path().join("store").display());
        let store = open(&location, Options::default()).await.unwrap();
        Self { dir, store }
    }

    /// The same store as one without files of its own.
    pub(crate) fn distant(mut self) -> Self {
        self.store = Arc::new(Remote(Arc::clone(&self.store)));
        self
    }

    pub(crate) fn shelf(&self) -> Shelf {
        let disk = Disk::open(&self.dir.path().join("state")).unwrap();
        Shelf::new(Arc::clone(&self.store), disk, 1 << 20)
    }

    async fn put(&self, bytes: &[u8]) -> Digest {
        let digest = digest_of(bytes);
        let size = u64::try_from(bytes.len()).unwrap();
        self.store
            .put(&digest, size, body_of(bytes.to_vec()))
            .await
            .unwrap();
        digest
    }

    pub(crate) async fn release(&self, files: &[(&str, &str)]) -> ReleaseRef {
        let mut entries = Vec::new();
        for (path, text) in files {
            entries.push(Entry {
                path: (*path).to_owned(),
                digest: self.put(text.as_bytes()).await,
                size: u64::try_from(text.len()).unwrap(),
                content_type: guess_content_type(path),
            });
        }
        let manifest = Manifest::build(entries, &Limits::default()).unwrap();
        ReleaseRef {
            id: ReleaseId::new(),
            manifest: self.put(&manifest.encode()).await,
        }
    }

    fn damage(&self, text: &str, with: &str) {
        let path = self.store.local_path(&digest_of(text.as_bytes())).unwrap();
        std::fs::write(path, with).unwrap();
    }
}

#[tokio::test]
async fn a_release_is_staged_once_and_shares_its_content() {
    let f = Fixture::new().await;
    let shelf = f.shelf();
    let first = f
        .release(&[("index.html", "home"), ("a.css", "style")])
        .await;
    let second = f
        .release(&[("index.html", "new home"), ("a.css", "style")])
        .await;
    let one = shelf.stage(first).await.unwrap();
    assert!(Arc::ptr_eq(&one, &shelf.stage(first).await.unwrap()));
    let two = shelf.stage(second).await.unwrap();
    let content = |release: &Release| Arc::clone(&release.file("a.css").unwrap().content);
    assert!(Arc::ptr_eq(&content(&one), &content(&two)));
}

#[tokio::test]
async fn a_corrupt_blob_refuses_the_release_and_names_the_path() {
    let f = Fixture::new().await;
    let shelf = f.shelf();
    let release = f
        .release(&[("index.html", "home"), ("sub/page.html", "page")])
        .await;
    f.damage("page", "pagf");
    let error = shelf.stage(release).await.unwrap_err().to_string();
    assert!(
        error.starts_with("sub/page.html: content of blob"),
        "{error}"
    );
    f.damage("page", "pag");
    let error = shelf.stage(release).await.unwrap_err().to_string();
    assert!(error.starts_with("sub/page.html:"), "{error}");
    assert!(shelf.get(release.id).is_none());
    f.damage("page", "page");
    assert!(shelf.stage(release).await.is_ok());
}

#[tokio::test]
async fn a_missing_blob_and_a_corrupt_manifest_are_named() {
    let f = Fixture::new().await;
    let shelf = f.shelf();
    let release = f.release(&[("gone.html", "gone")]).await;
    std::fs::remove_file(f.store.local_path(&digest_of(b"gone")).unwrap()).unwrap();
    let error = shelf.stage(release).await.unwrap_err().to_string();
    assert!(error.starts_with("gone.html: there is no blob"), "{error}");
    let manifest = f.store.local_path(&release.manifest).unwrap();
    std::fs::write(manifest, "candlefish-manifest 1\n").unwrap();
    let error = shelf.stage(release).await.unwrap_err().to_string();
    assert!(
        error.contains(&format!("the manifest {}", release.manifest)),
        "{error}"
    );
}

#[tokio::test]
async fn a_shared_blob_that_was_damaged_since_is_verified_again() {
    let f = Fixture::new().await;
    let shelf = f.shelf();
    shelf
        .stage(f.release(&[("a.css", "style")]).await)
        .await
        .unwrap();
    let next = f.release(&[("a.css", "style"), ("b.css", "other")]).await;
    f.damage("style", "stylf");
    let error = shelf.stage(next).await.unwrap_err().to_string();
    assert!(error.starts_with("a.css:"), "{error}");
}

#[tokio::test]
async fn a_rule_that_is_not_understood_refuses_the_release() {
    let f = Fixture::new().await;
    let release = f.release(&[("_redirects", "/a /b\n/c /d 999\n")]).await;
    let error = f.shelf().stage(release).await.unwrap_err().to_string();
    assert!(
        error.starts_with("line 2 of _redirects: status 999"),
        "{error}"
    );
}

#[tokio::test]
async fn a_staged_release_is_taken_up_again_without_reading_its_content() {
    let f = Fixture::new().await;
    let release = f.release(&[("index.html", "home")]).await;
    f.shelf().stage(release).await.unwrap();
    std::fs::remove_file(f.store.local_path(&release.manifest).unwrap()).unwrap();
    let again = f.shelf();
    assert!(again.stage(release).await.is_ok());
    assert_eq!(again.keep_only(&HashSet::new()), [release.id]);
    assert!(f.shelf().stage(release).await.is_err(), "no longer noted");
}

#[tokio::test]
async fn what_the_last_run_noted_and_no_route_names_is_forgotten() {
    let f = Fixture::new().await.distant();
    let named = f.release(&[("a.html", "named")]).await;
    let left = f.release(&[("b.html", "left")]).await;
    let before = f.shelf();
    before.stage(named).await.unwrap();
    before.stage(left).await.unwrap();
    let shelf = f.shelf();
    shelf.take_up_notes();
    // Its content could not be taken up yet, and is not to be fetched again.
    assert_eq!(shelf.sweep().await, Some(0));
    assert_eq!(shelf.keep_only(&HashSet::from([named.id])), [left.id]);
    assert_eq!(shelf.disk.noted().unwrap(), [named.id]);
    assert_eq!(shelf.sweep().await, Some(1));
    let there = |text: &str| shelf.disk.blob(&digest_of(text.as_bytes())).exists();
    assert!(there("named") && !there("left"));
}

#[tokio::test]
async fn a_sweep_that_the_disk_did_not_do_was_none() {
    let f = Fixture::new().await;
    let shelf = f.shelf();
    std::fs::remove_dir(f.dir.path().join("state/blobs")).unwrap();
    assert_eq!(shelf.sweep().await, None);
}

/// A store without files of its own, as S3 is.
#[derive(Debug)]
struct Remote(Arc<dyn Store>);

#[async_trait::async_trait]
impl Store for Remote {
    async fn sizes(&self, digests: &[Digest]) -> Result<Vec<Option<u64>>, candlefish_blobs::Error> {
        self.0.sizes(digests).await
    }

    async fn get(
        &self,
        digest: &Digest,
    ) -> Result<candlefish_blobs::Blob, candlefish_blobs::Error> {
        self.0.get(digest).await
    }

    async fn put(
        &self,
        digest: &Digest,
        size: u64,
        body: candlefish_blobs::Body,
    ) -> Result<candlefish_blobs::Put, candlefish_blobs::Error> {
        self.0.put(digest, size, body).await
    }

    async fn delete(&self, digest: &Digest) -> Result<(), candlefish_blobs::Error> {
        self.0.delete(digest).await
    }

    async fn upload_url(
        &self,
        digest: &Digest,
        size: u64,
        ttl: std::time::Duration,
        now: u64,
    ) -> Result<candlefish_blobs::Upload, candlefish_blobs::Error> {
        self.0.upload_url(digest, size, ttl, now).await
    }
}

#[tokio::test]
async fn content_of_a_distant_store_is_copied_and_then_independent_of_it() {
    let mut f = Fixture::new().await;
    let release = f
        .release(&[("index.html", "home"), ("_redirects", "/a /b")])
        .await;
    let bad = f.release(&[("bad.html", "bad")]).await;
    f.damage("bad", "bat");
    f.store = Arc::new(Remote(Arc::clone(&f.store)));
    let shelf = f.shelf();
    let error = shelf.stage(bad).await.unwrap_err().to_string();
    assert!(error.starts_with("bad.html: content of blob"), "{error}");
    shelf.stage(release).await.unwrap();
    std::fs::remove_dir_all(f.dir.path().join("store")).unwrap();
    let again = f.shelf();
    let staged = again.stage(release).await.unwrap();
    let home = Arc::clone(&staged.file("").unwrap().content);
    let body = crate::release::content::body(&home, Encoding::Identity, &again.memory).await;
    assert_eq!(body.unwrap(), "home");
    assert!(!staged.redirects.is_empty());
}

async fn body(shelf: &Shelf, content: &Arc<Content>) -> Option<bytes::Bytes> {
    let body = crate::release::content::body(content, Encoding::Identity, &shelf.memory);
    body.await.ok()
}

#[tokio::test]
async fn a_copy_that_nobody_noted_is_read_before_it_is_served() {
    let f = Fixture::new().await.distant();
    let release = f.release(&[("index.html", "home")]).await;
    let shelf = f.shelf();
    // The power went while it was fetched.
    let copy = shelf.disk.blob(&digest_of(b"home"));
    std::fs::create_dir(copy.parent().unwrap()).unwrap();
    std::fs::write(&copy, "\0\0\0\0").unwrap();
    let staged = shelf.stage(release).await.unwrap();
    let home = &staged.file("").unwrap().content;
    assert_eq!(body(&shelf, home).await.unwrap(), "home");
}

#[tokio::test]
async fn a_copy_that_rotted_is_fetched_again() {
    let f = Fixture::new().await.distant();
    let shelf = f.shelf();
    let staged = shelf
        .stage(f.release(&[("index.html", "home")]).await)
        .await
        .unwrap();
    let home = &staged.file("").unwrap().content;
    let store = f.dir.path().join("store");
    let away = f.dir.path().join("away");
    std::fs::write(&home.identity().path, "hole").unwrap();
    assert!(shelf.found_unreadable(home));
    std::fs::rename(&store, &away).unwrap();
    assert_eq!(shelf.mend_round().await, Some(mend::LONG_PAUSE));
    assert!(home.identity().path.exists(), "one bad file is one page");
    assert_eq!(body(&shelf, home).await, None);
    std::fs::rename(&away, &store).unwrap();
    assert_eq!(shelf.mend_round().await, Some(mend::PAUSE));
    assert_eq!(body(&shelf, home).await.unwrap(), "home");
    assert_eq!(shelf.mend_round().await, None);
    // It comes while nothing is to be mended, as mostly.
    std::fs::remove_file(&home.identity().path).unwrap();
    assert!(shelf.found_unreadable(home));
    let mended = async {
        while !home.identity().path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = shelf.mend_copies() => panic!("it never returns"),
        mended = tokio::time::timeout(std::time::Duration::from_secs(20), mended) => {
            assert!(mended.is_ok());
        }
    }
}

#[tokio::test]
async fn what_rots_in_the_store_itself_is_left_to_it() {
    let f = Fixture::new().await;
    let shelf = f.shelf();
    let staged = shelf
        .stage(f.release(&[("index.html", "home")]).await)
        .await
        .unwrap();
    f.damage("home", "hole");
    assert!(!shelf.found_unreadable(&staged.file("").unwrap().content));
    assert_eq!(shelf.mend_round().await, None);
}

#[tokio::test]
async fn files_that_no_release_holds_are_swept() {
    let mut f = Fixture::new().await;
    let kept = f.release(&[("a.html", "shared"), ("b.html", "kept")]).await;
    let gone = f.release(&[("a.html", "shared"), ("c.html", "gone")]).await;
    f.store = Arc::new(Remote(Arc::clone(&f.store)));
    let shelf = f.shelf();
    shelf.stage(kept).await.unwrap();
    shelf.stage(gone).await.unwrap();
    assert_eq!(shelf.sweep().await, Some(0));
    shelf.keep_only(&HashSet::from([kept.id]));
    let staging = shelf.staging.read().await;
    assert_eq!(shelf.sweep().await, None, "something is being staged");
    drop(staging);
    assert_eq!(shelf.sweep().await, Some(1));
    let there = |text: &str| shelf.disk.blob(&digest_of(text.as_bytes())).exists();
    assert!(there("shared") && there("kept") && !there("gone"));
    shelf.stage(gone).await.unwrap();
    assert!(there("gone"));
}

#[tokio::test]
async fn what_two_releases_staged_together_stays_until_both_are_gone() {
    let mut f = Fixture::new().await;
    let first = f.release(&[("a.html", "shared"), ("b.html", "one")]).await;
    let second = f.release(&[("a.html", "shared"), ("c.html", "two")]).await;
    f.store = Arc::new(Remote(Arc::clone(&f.store)));
    // Whichever looked last: both orders of being forgotten.
    for (kept, gone) in [(first, second), (second, first)] {
        let shelf = f.shelf();
        let (one, two) = tokio::join!(shelf.stage(kept), shelf.stage(gone));
        let content = |release: &Release| Arc::clone(&release.file("a.html").unwrap().content);
        assert!(Arc::ptr_eq(
            &content(&one.unwrap()),
            &content(&two.unwrap())
        ));
        shelf.keep_only(&HashSet::from([kept.id]));
        shelf.sweep().await;
        assert!(shelf.disk.blob(&digest_of(b"shared")).exists());
        shelf.keep_only(&HashSet::new());
        shelf.sweep().await;
        assert!(!shelf.disk.blob(&digest_of(b"shared")).exists());
    }
}

#[tokio::test]
async fn rules_that_are_too_long_are_refused_wherever_they_lie() {
    let mut f = Fixture::new().await;
    let long = "# a long story\n".repeat(20_000);
    let release = f.release(&[("_headers", &long)]).await;
    let refused = async |f: &Fixture| f.shelf().stage(release).await.unwrap_err().to_string();
    let local = refused(&f).await;
    f.store = Arc::new(Remote(Arc::clone(&f.store)));
    for error in [local, refused(&f).await] {
        assert!(error.starts_with("_headers: blob"), "{error}");
        assert!(error.ends_with("more than 262144"), "{error}");
    }
}

#[tokio::test]
async fn compressed_forms_come_after_the_release() {
    let f = Fixture::new().await;
    let shelf = f.shelf();
    let text = "candlefish ".repeat(500);
    let release = shelf
        .stage(f.release(&[("index.html", &text)]).await)
        .await
        .unwrap();
    let content = &release.file("").unwrap().content;
    assert!(!content.is_prepared());
    let preparing = shelf.prepare_variants();
    let prepared = async {
        while !content.is_prepared() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = preparing => panic!("it never returns"),
        () = prepared => {}
    }
    assert!(content.form(Encoding::Gzip).is_some());
}
