//! Percent-encoding, as URLs have it.

/// The text that `path` stands for; the reason in words when it stands for none.
pub(crate) fn decode(path: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = rest.next().and_then(hex);
        let low = rest.next().and_then(hex);
        match high.zip(low) {
            Some((high, low)) => bytes.push((high << 4) | low),
            None => return Err("The path has a percent sign without two hex digits."),
        }
    }
    // Overlong forms are not UTF-8 either.
    match String::from_utf8(bytes) {
        Ok(path) => Ok(path),
        Err(_) => Err("The path is not UTF-8."),
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
