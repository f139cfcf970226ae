//! What lies at which URL of a release.

use std::{collections::HashMap, sync::Arc};

use candlefish_ids::{Digest, ReleaseId};
use candlefish_manifest::{Entry, Manifest, is_compressible, is_html};
use http::HeaderValue;

use super::content::Content;
use crate::rule::{Headers, Redirects};

/// A staged release.
#[derive(Debug)]
pub(crate) struct Release {
    pub(crate) id: ReleaseId,
    pub(crate) manifest: Digest,
    /// The value of `candlefish-release`.
    pub(crate) header: HeaderValue,
    pub(crate) redirects: Redirects,
    pub(crate) headers: Headers,
    pub(crate) not_found: Option<Arc<File>>,
    /// By URL path, decoded, without its first slash.
    by_url: HashMap<Box<str>, Arc<File>>,
    files: Vec<Arc<File>>,
}

/// A file of a release.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) content: Arc<Content>,
    pub(crate) content_type: HeaderValue,
    /// Its name holds a hash of its content: it may be kept for ever.
    pub(crate) immutable: bool,
    pub(crate) compressible: bool,
    pub(crate) html: bool,
}

impl Release {
    /// Lays out the files. `contents` are those of the manifest's entries, in their order.
    pub(crate) fn new(
        id: ReleaseId,
        digest: Digest,
        manifest: &Manifest,
        contents: Vec<Arc<Content>>,
        rules: (Redirects, Headers),
    ) -> Self {
        let files: Vec<Arc<File>> = manifest
            .entries()
            .iter()
            .zip(contents)
            .map(|(entry, content)| Arc::new(File::new(entry, content)))
            .collect();
        let mut by_url = HashMap::with_capacity(files.len() * 2);
        let named = || {
            manifest
                .entries()
                .iter()
                .map(|e| e.path.as_str())
                .zip(&files)
        };
        for (path, file) in named() {
            by_url.insert(path.into(), Arc::clone(file));
        }
        // What a URL means when no file has exactly its name: `about.html` comes before
        // `about/index.html`, and the nearest index before a page of the name.
        for rule in [index_of_folder, page, index_without_slash, page_with_slash] {
            for (path, file) in named() {
                if let Some(url) = rule(path) {
                    by_url.entry(url.into()).or_insert_with(|| Arc::clone(file));
                }
            }
        }
        let (redirects, headers) = rules;
        Self {
            id,
            manifest: digest,
            header: HeaderValue::try_from(id.to_string()).expect("an id is ASCII"),
            redirects,
            headers,
            not_found: by_url.get("404.html").cloned(),
            by_url,
            files,
        }
    }

    /// The file at a URL path, decoded, without its first slash.
    pub(crate) fn file(&self, path: &str) -> Option<&Arc<File>> {
        self.by_url.get(path)
    }

    /// All files, by path.
    pub(crate) fn files(&self) -> &[Arc<File>] {
        &self.files
    }
}

impl File {
    fn new(entry: &Entry, content: Arc<Content>) -> Self {
        let html = is_html(&entry.content_type);
        let content_type = HeaderValue::from_str(&entry.content_type);
        Self {
            content,
            content_type: content_type
                .unwrap_or(const { HeaderValue::from_static("application/octet-stream") }),
            immutable: !html && has_hash(&entry.path),
            compressible: is_compressible(&entry.content_type),
            html,
        }
    }
}

/// `guide/index.html` at `guide/`.
fn index_of_folder(path: &str) -> Option<String> {
    let folder = path.strip_suffix("index.html")?;
    (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_owned())
}

/// `about.html` at `about`.
fn page(path: &str) -> Option<String> {
    path.strip_suffix(".html")
        .filter(|name| !name.is_empty() && !name.ends_with('/'))
        .map(ToOwned::to_owned)
}

/// `guide/index.html` at `guide`.
fn index_without_slash(path: &str) -> Option<String> {
    path.strip_suffix("/index.html").map(ToOwned::to_owned)
}

/// `about.html` at `about/`.
fn page_with_slash(path: &str) -> Option<String> {
    page(path).map(|name| format!("{name}/"))
}

/// Folders in which build tools put nothing but hashed names.
const HASHED_FOLDERS: [&str; 5] = [
    "assets/",
    "_astro/",
    "_app/immutable/",
    "_next/static/",
    "_nuxt/",
];

/// Whether a name holds a hash of the content. A wrong yes keeps an old file in browsers for a year,
/// a wrong no costs a question: so only what can hardly be a word counts.
fn has_hash(path: &str) -> bool {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(f, n)| (f, n));
    let stem = name.split_once('.').map_or(name, |(_, _)| {
        // All but the extension: `main.3f2a9c1b.js`.
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    });
    if stem == name {
        return false;
    }
    let folder = format!("{folder}/");
    let hashed = HASHED_FOLDERS
        .iter()
        .any(|known| folder.starts_with(known) || folder.contains(&format!("/{known}")));
    stem.split(['.', '-', '_', '~'])
        .skip(usize::from(!hashed))
        .any(|part| is_hex_hash(part) || (hashed && is_mixed_hash(part)))
        || (hashed
            && stem.len() > 9
            && stem
                .as_bytes()
                .iter()
                .rev()
                .nth(8)
                .is_some_and(|b| b"-.".contains(b))
            && stem.get(stem.len() - 8..).is_some_and(is_mixed_hash))
        || is_hex_hash(stem)
}

/// Eight or more hex digits, with letters and digits among them.
fn is_hex_hash(part: &str) -> bool {
    part.len() >= 8
        && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && part.bytes().any(|b| b.is_ascii_digit())
        && part.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Eight characters of base64 with upper case, lower case and digits.
fn is_mixed_hash(part: &str) -> bool {
    part.len() == 8
        && part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        && part.bytes().any(|b| b.is_ascii_digit())
        && part.bytes().any(|b| b.is_ascii_uppercase())
        && part.bytes().any(|b| b.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use candlefish_manifest::{Limits, digest_of, guess_content_type};

    use super::*;

    fn release(paths: &[&str]) -> Release {
        let entries = paths.iter().map(|path| Entry {
            path: (*path).to_owned(),
            digest: digest_of(path.as_bytes()),
            size: 1,
            content_type: guess_content_type(path),
        });
        let manifest = Manifest::build(entries.collect(), &Limits::default()).unwrap();
        let contents = manifest
            .entries()
            .iter()
            .map(|e| Arc::new(Content::new(e.digest, e.size, "nowhere".into())));
        let contents = contents.collect();
        Release::new(
            ReleaseId::new(),
            manifest.digest(),
            &manifest,
            contents,
            Default::default(),
        )
    }

    #[test]
    fn urls_find_their_files() {
        let release = release(&[
            "404.html",
            "about.html",
            "about/team.html",
            "both.html",
            "both/index.html",
            "guide/index.html",
            "index.html",
            "plain",
            "plain.html",
            "style.css",
            "x/myindex.html",
        ]);
        let found = |url: &str| {
            let digest = release.file(url)?.content.digest;
            [
                "404.html",
                "about.html",
                "about/team.html",
                "both.html",
                "both/index.html",
                "guide/index.html",
                "index.html",
                "plain",
                "plain.html",
                "style.css",
                "x/myindex.html",
            ]
            .into_iter()
            .find(|path| digest_of(path.as_bytes()) == digest)
        };
        for (url, path) in [
            ("", Some("index.html")),
            ("index.html", Some("index.html")),
            ("index", Some("index.html")),
            ("about", Some("about.html")),
            ("about/", Some("about.html")),
            ("about.html", Some("about.html")),
            ("about/team", Some("about/team.html")),
            ("guide", Some("guide/index.html")),
            ("guide/", Some("guide/index.html")),
            ("guide/index.html", Some("guide/index.html")),
            ("both", Some("both.html")),
            ("both/", Some("both/index.html")),
            ("plain", Some("plain")),
            ("plain.html", Some("plain.html")),
            ("style.css", Some("style.css")),
            ("style", None),
            ("x/my", None),
            ("x/", None),
            ("nothing", None),
            ("/", None),
            ("About", None),
        ] {
            assert_eq!(found(url), path, "{url:?}");
        }
        assert!(release.not_found.is_some());
    }

    #[test]
    fn only_hashes_count_as_hashes() {
        for path in [
            "main.3f2a9c1b.js",
            "css/app-0a1b2c3d4e5f.css",
            "assets/index-BkX2a9aZ.js",
            "assets/index-Bk_2a9aZ.js",
            "assets/index-B-X2a9aZ.js",
            "_astro/page.D1gR4s5T.css",
            "_next/static/chunks/4bd1b696-182b6b13bdad92e3.js",
            "static/media/logo.5d5d9eef.svg",
            "x/3f2a9c1b3f2a9c1b.png",
        ] {
            assert!(has_hash(path), "{path}");
        }
        for path in [
            "main.js",
            "report-20240101.pdf",
            "deadbeef",
            "img/decade.png",
            "js/jquery-3.7.1.min.js",
            "assets/index-DkdLwfHs.js",
            "assets/logo.png",
            "intro-Version2.png",
            "a-Windows1.png",
            "assets/favicon-32x32.png",
            "fonts/inter-latin-400-normal.woff2",
        ] {
            assert!(!has_hash(path), "{path}");
        }
    }
}
