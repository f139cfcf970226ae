//! Content for releases.

use candlefish_manifest::{Entry, Limits, Manifest, digest_of};

/// The files of a release, built in a test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    files: Vec<(String, Vec<u8>)>,
}

impl Content {
    /// A small site whose every file carries `mark` (letters, digits and `-`), so that a torn or a
    /// foreign one is seen.
    pub fn site(mark: &str) -> Self {
        Self::default()
            .file("index.html", &format!("<h1>Home</h1><p>mark:{mark}</p>"))
            .file(
                "guide/index.html",
                &format!("<h1>Guide</h1><p>mark:{mark}</p>"),
            )
            .file("about.html", &format!("<h1>About</h1><p>mark:{mark}</p>"))
            .file("404.html", &format!("<h1>Not here</h1><p>mark:{mark}</p>"))
            .file(
                "style.css",
                &format!("body {{ color: black }} /* mark:{mark} */"),
            )
    }

    /// Adds or replaces a file.
    #[must_use]
    pub fn file(mut self, path: &str, body: &str) -> Self {
        self.files.retain(|(name, _)| name != path);
        self.files.push((path.to_owned(), body.as_bytes().to_vec()));
        self
    }

    /// Takes a file away.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.files.retain(|(name, _)| name != path);
        self
    }

    /// What visitors get at an address: `/guide/` is `guide/index.html`, `/about` is `about.html`.
    pub fn page(&self, address: &str) -> Option<&[u8]> {
        let path = address.strip_prefix('/')?;
        let name = if path.is_empty() || path.ends_with('/') {
            format!("{path}index.html")
        } else if path.contains('.') {
            path.to_owned()
        } else {
            format!("{path}.html")
        };
        let found = self.files.iter().find(|(path, _)| *path == name);
        found.map(|(_, body)| body.as_slice())
    }

    /// Its files, below a folder, as an archive takes them.
    pub fn below(&self, folder: &str) -> Vec<(String, &[u8])> {
        let files = self.files.iter();
        files
            .map(|(path, body)| (format!("{folder}/{path}"), body.as_slice()))
            .collect()
    }

    pub fn manifest(&self) -> Manifest {
        let entries = self
            .files
            .iter()
            .map(|(path, body)| Entry {
                path: path.clone(),
                digest: digest_of(body),
                size: u64::try_from(body.len()).unwrap(),
                content_type: candlefish_manifest::guess_content_type(path),
            })
            .collect();
        Manifest::build(entries, &Limits::default()).unwrap()
    }

    /// The body of a blob of this content.
    pub fn blob(&self, digest: &str) -> Option<Vec<u8>> {
        let manifest = self.manifest().encode();
        if digest_of(&manifest).to_string() == digest {
            return Some(manifest);
        }
        let body = self
            .files
            .iter()
            .find(|(_, body)| digest_of(body).to_string() == digest);
        body.map(|(_, body)| body.clone())
    }
}
