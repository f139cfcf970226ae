//! Numbers as people write them, and nouns: one behind a number, several one after the other.

use std::fmt::Display;

/// `1 file`, `3 files`, `1,124 files`.
pub(crate) fn counted<N>(number: N, noun: &str) -> String
where
    N: Copy + Display + PartialEq + From<u8>,
{
    let ending = if number == N::from(1) { "" } else { "s" };
    format!("{} {noun}{ending}", grouped(number))
}

/// `1,124`; of `1000.5` what stands before the point: `1,000.5`.
pub(crate) fn grouped<N: Copy + Display>(number: N) -> String {
    let text = number.to_string();
    let whole = text.find('.').unwrap_or(text.len());
    let mut out = String::with_capacity(text.len() + whole / 3);
    for (place, digit) in text.chars().enumerate() {
        let begins = place > 0 && place < whole && (whole - place).is_multiple_of(3);
        if begins && out != "-" {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `this, that`.
pub(crate) fn listed<T: Display>(all: &[T]) -> String {
    let all: Vec<String> = all.iter().map(T::to_string).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!(counted(0_usize, "file"), "0 files");
        assert_eq!(counted(1_u64, "file"), "1 file");
        assert_eq!(counted(2_i32, "live edge"), "2 live edges");
        assert_eq!(counted(1_124_usize, "file"), "1,124 files");
    }

    #[test]
    fn thousands_are_parted() {
        for (number, words) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (1_234_567, "1,234,567"),
            (-999, "-999"),
            (-123_456, "-123,456"),
        ] {
            assert_eq!(grouped(number), words);
        }
        assert_eq!(grouped("1000.5"), "1,000.5");
        assert_eq!(grouped("0.12345"), "0.12345");
    }
}
