//! What a file is, by the end of its name.

/// What nothing is known about.
const UNKNOWN: &str = "application/octet-stream";

/// Guesses the content type of a path; texts carry `charset=utf-8`.
pub fn guess(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let extension = name.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase());
    let essence = match extension.as_deref() {
        // Scripts as RFC 9239 says, and those that the table lacks.
        Some("js" | "mjs") => "text/javascript",
        Some("map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("md") => "text/markdown",
        Some("xml") => "application/xml",
        Some("yaml" | "yml") => "application/yaml",
        Some(extension) => mime_guess::from_ext(extension)
            .first_raw()
            .unwrap_or(UNKNOWN),
        None if name == "_redirects" || name == "_headers" => "text/plain",
        None => UNKNOWN,
    };
    if essence.starts_with("text/") {
        format!("{essence}; charset=utf-8")
    } else {
        essence.to_owned()
    }
}

/// The type without its parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether content of this type is a page.
pub fn is_html(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.eq_ignore_ascii_case("text/html")
        || essence.eq_ignore_ascii_case("application/xhtml+xml")
}

/// Whether content of this type gets smaller when compressed.
pub fn is_compressible(content_type: &str) -> bool {
    let essence = essence(content_type).to_ascii_lowercase();
    essence.starts_with("text/")
        || essence.ends_with("+xml")
        || essence.ends_with("+json")
        || matches!(
            essence.as_str(),
            "application/json"
                | "application/javascript"
                | "application/xml"
                | "application/yaml"
                | "application/wasm"
                | "application/vnd.ms-fontobject"
                | "font/ttf"
                | "font/otf"
                | "image/bmp"
                | "image/x-icon"
        )
}

/// Whether a manifest may carry it: printable ASCII with a slash, short enough for a header.
pub(crate) fn is_valid(content_type: &str) -> bool {
    content_type.len() <= 128
        && content_type.contains('/')
        && content_type.bytes().all(|b| (b' '..=b'~').contains(&b))
        && content_type.trim() == content_type
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_guessed_by_extension() {
        for (path, expected) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a/b.css", "text/css; charset=utf-8"),
            ("a/b.JS", "text/javascript; charset=utf-8"),
            ("a.mjs", "text/javascript; charset=utf-8"),
            ("a.svg", "image/svg+xml"),
            ("a.png", "image/png"),
            ("a.json", "application/json"),
            ("a.js.map", "application/json"),
            ("a.woff2", "font/woff2"),
            ("sitemap.xml", "application/xml"),
            ("robots.txt", "text/plain; charset=utf-8"),
            ("_redirects", "text/plain; charset=utf-8"),
            ("a.b/LICENSE", "application/octet-stream"),
            ("x.unheard-of", "application/octet-stream"),
        ] {
            let guessed = guess(path);
            assert_eq!(guessed, expected, "{path}");
            assert!(is_valid(&guessed));
        }
    }

    #[test]
    fn pages_and_texts_are_told_apart() {
        assert!(is_html("text/html; charset=utf-8") && !is_html("text/css"));
        assert!(is_compressible("image/svg+xml") && is_compressible("text/css; charset=utf-8"));
        assert!(!is_compressible("image/png") && !is_compressible("font/woff2"));
        for bad in [
            "",
            "text",
            "text/html\r\nx: y",
            " text/html",
            "tëxt/html",
            "a/\tb",
        ] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }
}
