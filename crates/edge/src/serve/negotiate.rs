//! Which form of a file a visitor takes.

use http::{HeaderMap, header};

use crate::release::content::{Content, Encoding};

/// Quality in thousandths; absent encodings are not taken, `*` stands for the rest.
#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    brotli: Option<u16>,
    gzip: Option<u16>,
    rest: Option<u16>,
}

/// The best form that there is and that the visitor takes; identity when in doubt.
pub(super) fn negotiate(headers: &HeaderMap, content: &Content) -> Encoding {
    let mut taken = Taken::default();
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        if let Ok(value) = value.to_str() {
            read(value, &mut taken);
        }
    }
    let quality = |encoding, named: Option<u16>| {
        content.form(encoding)?;
        named.or(taken.rest).filter(|quality| *quality > 0)
    };
    let brotli = quality(Encoding::Brotli, taken.brotli);
    let gzip = quality(Encoding::Gzip, taken.gzip);
    match (brotli, gzip) {
        (Some(brotli), Some(gzip)) if gzip > brotli => Encoding::Gzip,
        (Some(_), _) => Encoding::Brotli,
        (None, Some(_)) => Encoding::Gzip,
        (None, None) => Encoding::Identity,
    }
}

fn read(value: &str, taken: &mut Taken) {
    for part in value.split(',') {
        let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
        let slot = match name.trim() {
            n if n.eq_ignore_ascii_case("br") => &mut taken.brotli,
            n if n.eq_ignore_ascii_case("gzip") || n.eq_ignore_ascii_case("x-gzip") => {
                &mut taken.gzip
            }
            "*" => &mut taken.rest,
            _ => continue,
        };
        *slot = Some(quality(parameters));
    }
}

/// `q=0.5` in thousandths; what cannot be read takes nothing.
fn quality(parameters: &str) -> u16 {
    let Some((name, value)) = parameters.split_once('=') else {
        return 1000;
    };
    if !name.trim().eq_ignore_ascii_case("q") {
        return 1000;
    }
    let value = value.trim();
    let (whole, part) = value.split_once('.').unwrap_or((value, ""));
    let digits = part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    match (whole, digits) {
        ("1", true) => 1000,
        ("0", true) => {
            let digits = part.bytes().chain(std::iter::repeat(b'0')).take(3);
            digits.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use candlefish_manifest::digest_of;
    use http::HeaderValue;

    use super::*;

    fn chosen(accept: &[&'static str], brotli: bool, gzip: bool) -> Encoding {
        let content = Content::new(digest_of(b""), 9, "x".into());
        content.prepare(Encoding::Brotli, brotli.then(|| (1, "x.br".into())));
        content.prepare(Encoding::Gzip, gzip.then(|| (1, "x.gz".into())));
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        negotiate(&headers, &content)
    }

    #[test]
    fn the_visitor_gets_what_it_takes() {
        use Encoding::{Brotli, Gzip, Identity};
        for (accept, expected) in [
            (&[][..], Identity),
            (&[""], Identity),
            (&["gzip, deflate, br, zstd"], Brotli),
            (&["gzip"], Gzip),
            (&["GZIP;q=1.0, br;q=0.5"], Gzip),
            (&["br;q=0, gzip"], Gzip),
            (&["br;q=0.001"], Brotli),
            (&["br;q=0.000"], Identity),
            (&["br;q=0.5, gzip;q=0.45"], Brotli),
            (&["br;q=0.05, gzip;q=0.1"], Gzip),
            (&["*"], Brotli),
            (&["*;q=0.5, br;q=0"], Gzip),
            (&["identity"], Identity),
            (&["gzip", "br"], Brotli),
            (&["br;q=nonsense, gzip;q=2"], Identity),
        ] {
            assert_eq!(chosen(accept, true, true), expected, "{accept:?}");
        }
    }

    #[test]
    fn only_forms_that_exist_are_chosen() {
        assert_eq!(chosen(&["br, gzip"], false, true), Encoding::Gzip);
        assert_eq!(chosen(&["br"], false, true), Encoding::Identity);
        assert_eq!(chosen(&["br, gzip"], false, false), Encoding::Identity);
    }
}
