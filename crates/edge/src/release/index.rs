//! What lies at which URL of a release.

use std::{collections::HashMap, sync::Arc};

use candlefish_ids::{Digest, ReleaseId};
use candlefish_manifest::{Entry, Manifest, is_compressible, is_html};
use http::HeaderValue;

use super::content::Content;
use crate::rule::{self, Headers, Redirects};

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
    by_url: HashMap<Box<str>, Place>,
    files: Vec<Arc<File>>,
}

/// What lies at an address.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) file: Arc<File>,
    /// The page has its address elsewhere: what leads there from here.
    pub(crate) moved: Option<Slash>,
}

/// The end of an address: relative links of a page lead elsewhere with a slash than without one, so
/// that the page is served at one of the two alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slash {
    /// `guide/index.html` is at `guide/`, and `guide` leads there.
    Add,
    /// `about.html` is at `about`, and `about/` leads there.
    Remove,
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
        let mut by_url: HashMap<Box<str>, Place> = HashMap::with_capacity(files.len() * 2);
        let named = || {
            manifest
                .entries()
                .iter()
                .map(|e| e.path.as_str())
                .zip(&files)
                .filter(|(path, _)| !rule::is_file(path))
        };
        for (path, file) in named() {
            by_url.insert(path.into(), Place::of(file, None));
        }
        // What a URL means when no file has exactly its name.
        for rule in [index_of_folder, page] {
            for (path, file) in named() {
                if let Some(url) = rule(path) {
                    let place = by_url.entry(url.into());
                    place.or_insert_with(|| Place::of(file, None));
                }
            }
        }
        // And when nothing is there: `about.html` comes before `about/index.html` at `about`.
        for slash in [Slash::Add, Slash::Remove] {
            for (path, file) in named() {
                let Some((from, to)) = slash.between(path) else {
                    continue;
                };
                // Never to another file (`plain` beside `plain.html`), never in circles.
                let own = by_url.get(to.as_str());
                if own.is_some_and(|own| own.moved.is_none() && Arc::ptr_eq(&own.file, file)) {
                    let place = by_url.entry(from.into());
                    place.or_insert_with(|| Place::of(file, Some(slash)));
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
            not_found: by_url.get("404.html").map(|own| Arc::clone(&own.file)),
            by_url,
            files,
        }
    }

    /// What lies at a URL path, decoded, without its first slash.
    pub(crate) fn place(&self, path: &str) -> Option<&Place> {
        self.by_url.get(path)
    }

    /// The file that such a path leads to, also where a visitor would be sent to its address first.
    pub(crate) fn file(&self, path: &str) -> Option<&Arc<File>> {
        self.place(path).map(|place| &place.file)
    }

    /// All files, by path, with those of the rules: as long as it is here, so is their content.
    pub(crate) fn files(&self) -> &[Arc<File>] {
        &self.files
    }
}

impl Place {
    fn of(file: &Arc<File>, moved: Option<Slash>) -> Self {
        let file = Arc::clone(file);
        Self { file, moved }
    }
}

impl Slash {
    /// From where this leads to the address of the page in the file `path`, and that address.
    fn between(self, path: &str) -> Option<(String, String)> {
        match self {
            Self::Add => {
                let from = path.strip_suffix("/index.html")?;
                Some((from.to_owned(), format!("{from}/")))
            }
            Self::Remove => {
                let to = page(path)?;
                Some((format!("{to}/"), to))
            }
        }
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
            compressible: is_compressible(&entry.content_type) && !rule::is_file(&entry.path),
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

    const FILES: [&str; 11] = [
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
    ];

    #[test]
    fn urls_find_their_files() {
        let release = release(&FILES);
        let found = |url: &str| {
            let place = release.place(url)?;
            let digest = place.file.content.digest;
            let mut files = FILES.into_iter();
            let file = files.find(|path| digest_of(path.as_bytes()) == digest)?;
            Some((file, place.moved))
        };
        let here = |file| Some((file, None));
        let moved = |file, slash| Some((file, Some(slash)));
        for (url, expected) in [
            ("", here("index.html")),
            ("index.html", here("index.html")),
            ("index", here("index.html")),
            ("index/", moved("index.html", Slash::Remove)),
            ("about", here("about.html")),
            ("about/", moved("about.html", Slash::Remove)),
            ("about.html", here("about.html")),
            ("about/team", here("about/team.html")),
            ("about/team/", moved("about/team.html", Slash::Remove)),
            ("guide", moved("guide/index.html", Slash::Add)),
            ("guide/", here("guide/index.html")),
            ("guide/index.html", here("guide/index.html")),
            ("guide/index", here("guide/index.html")),
            ("both", here("both.html")),
            ("both/", here("both/index.html")),
            ("plain", here("plain")),
            ("plain/", None),
            ("plain.html", here("plain.html")),
            ("style.css", here("style.css")),
            ("style.css/", None),
            ("about.html/", None),
            ("style", None),
            ("x/my", None),
            ("x", None),
            ("x/", None),
            ("nothing", None),
            ("/", None),
            ("/guide", None),
            ("guide//", None),
            ("About", None),
        ] {
            assert_eq!(found(url), expected, "{url:?}");
            let file = release.file(url).map(|file| file.content.digest);
            assert_eq!(file, expected.map(|(path, _)| digest_of(path.as_bytes())));
        }
        assert!(release.not_found.is_some());
    }

    #[test]
    fn rules_are_held_and_have_no_address() {
        let files = ["_headers", "_redirects", "docs/_headers", "index.html"];
        let release = release(&files);
        for path in ["_headers", "_redirects", "_headers/", "_redirects/"] {
            assert!(release.file(path).is_none(), "{path}");
        }
        assert!(release.file("docs/_headers").is_some());
        assert_eq!(release.files().len(), files.len());
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
