//! The folder as content: hashed, and what of it the server lacks.

use std::{
    collections::HashSet,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use candlefish_manifest::{
    Entry, File, Limits, Manifest, Progress, WalkError, digest_of, hash as hash_files, walk,
};
use indicatif::ProgressBar;

use super::{
    passed,
    progress::{bar, told},
};
use crate::{
    api::Api,
    app::App,
    error::Error,
    project,
    render::{deployment::labelled, words},
    upload::{self, Content, Watch},
};

/// A folder's content.
#[derive(Debug)]
pub(super) struct Hashed {
    files: Vec<File>,
    /// In the order of the files.
    pub(super) entries: Vec<Entry>,
    /// The manifest's text.
    pub(super) manifest: Vec<u8>,
    /// The manifest's digest.
    pub(super) digest: String,
    /// Bytes of all files.
    pub(super) bytes: u64,
}

/// There is nothing to list.
pub(super) fn no_folder(dir: &Path) -> Error {
    let next = "Name the folder that holds the built site.";
    Error::wrong(format!("there is no folder {}", dir.display()), next)
}

/// Lists and reads the folder, as far as the server would take it.
pub(super) async fn hash(app: &App, dir: &Path, limits: &Limits) -> Result<Hashed, Error> {
    let begun = Instant::now();
    let bar = bar(app, "Hashing");
    let (dir, limits, progress) = (dir.to_owned(), limits.clone(), bar.clone());
    let hashed = tokio::task::spawn_blocking(move || read(&dir, &limits, &progress));
    let hashed = told(app, "hashing", &bar, hashed).await;
    let hashed = hashed.expect("hashing does not panic")?;
    bar.finish_and_clear();
    let content = format!(
        "{}, {}",
        files(hashed.entries.len()),
        words::bytes(hashed.bytes)
    );
    say(app, "Hashing", &content, begun);
    Ok(hashed)
}

fn read(dir: &Path, limits: &Limits, bar: &ProgressBar) -> Result<Hashed, Error> {
    let mut files = walk(dir, limits)?;
    files.retain(|file| file.path != project::FILE);
    if files.is_empty() {
        return Err(Error::wrong(
            format!("{} has no files", dir.display()),
            "Name the folder that holds the built site.",
        ));
    }
    bar.set_length(files.iter().map(|file| file.size).sum());
    let entries = hash_in_parallel(&files, limits, bar)?;
    let manifest = Manifest::build(entries.clone(), limits)?;
    let (bytes, manifest) = (manifest.byte_count(), manifest.encode());
    let digest = digest_of(&manifest).to_string();
    Ok(Hashed {
        files,
        entries,
        manifest,
        digest,
        bytes,
    })
}

/// One part of the files on every core; the parts keep their order.
fn hash_in_parallel(
    files: &[File],
    limits: &Limits,
    bar: &ProgressBar,
) -> Result<Vec<Entry>, WalkError> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let part = files.len().div_ceil(cores).max(1);
    let done = AtomicU64::new(0);
    let hash_part = |files: &[File]| {
        let mut before = 0;
        hash_files(files, limits, |Progress { bytes, .. }| {
            let more = bytes.saturating_sub(before);
            before = bytes;
            bar.set_position(done.fetch_add(more, Ordering::Relaxed) + more);
        })
    };
    thread::scope(|scope| {
        let parts: Vec<_> = files
            .chunks(part)
            .map(|files| scope.spawn(|| hash_part(files)))
            .collect();
        let mut entries = Vec::with_capacity(files.len());
        for part in parts {
            entries.extend(part.join().expect("hashing does not panic")?);
        }
        Ok(entries)
    })
}

/// Sends what is missing; answers the digests of the files that were sent.
pub(super) async fn upload(
    app: &App,
    api: &Api,
    release: &str,
    hashed: &Hashed,
) -> Result<HashSet<String>, Error> {
    let content = Content::new(
        hashed.manifest.clone(),
        hashed.digest.clone(),
        &hashed.files,
        &hashed.entries,
    );
    let bar = Bar(bar(app, "Uploading"));
    let sending = upload::upload(api, release, &content, &bar);
    let sent = told(app, "uploading", &bar.0, sending).await;
    bar.0.finish_and_clear();
    sent
}

struct Bar(ProgressBar);

impl Watch for Bar {
    fn found(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    fn sent(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

/// Says what was sent.
pub(super) fn say_sent(app: &App, hashed: &Hashed, sent: &HashSet<String>, begun: Instant) {
    if sent.is_empty() {
        return say_stored(app, hashed);
    }
    let new = hashed
        .entries
        .iter()
        .filter(|entry| sent.contains(&entry.digest.to_string()));
    let (count, bytes) = new.fold((0, 0), |(count, bytes), entry| {
        (count + 1, bytes + entry.size)
    });
    let stored = hashed.entries.len().saturating_sub(count);
    let noun = if count == 1 { "new file" } else { "new files" };
    let stored = words::count(i64::try_from(stored).unwrap_or(i64::MAX));
    let count = words::count(i64::try_from(count).unwrap_or(i64::MAX));
    say(
        app,
        "Uploading",
        &format!(
            "{count} {noun}, {} ({stored} already stored)",
            words::bytes(bytes)
        ),
        begun,
    );
}

/// Says that nothing had to be sent.
pub(super) fn say_stored(app: &App, hashed: &Hashed) {
    let stored = match hashed.entries.len() {
        1 => "nothing: the one file is already stored".to_owned(),
        count => format!("nothing: all {} are already stored", files(count)),
    };
    app.output
        .note(&labelled("Uploading", &stored, "", &app.output.look_err()));
}

fn files(count: usize) -> String {
    words::counted(i64::try_from(count).unwrap_or(i64::MAX), "file")
}

fn say(app: &App, label: &str, value: &str, begun: Instant) {
    app.output.note(&labelled(
        label,
        value,
        &words::took(passed(begun)),
        &app.output.look_err(),
    ));
}
