//! Archives by hand: what no honest program writes.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

/// As GitHub calls the folder that all lies in.
pub(super) const TOP: &str = "example-docs-4ac21e0";

/// A tar that grows.
#[derive(Debug, Clone, Default)]
pub(super) struct Tar(Vec<u8>);

/// One header, block by block as it is written.
pub(super) fn header(name: &[u8], kind: u8, size: &[u8]) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..124 + size.len()].copy_from_slice(size);
    block[136..148].copy_from_slice(b"15000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    sum(&mut block);
    block
}

/// Makes the sum of a header right.
pub(super) fn sum(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

pub(super) fn octal(size: u64) -> Vec<u8> {
    format!("{size:011o}\0").into_bytes()
}

/// One record of an extended header.
pub(super) fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    format!("{length} {key}={value}\n")
}

impl Tar {
    /// As GitHub begins: a comment with the commit, then the one folder.
    pub(super) fn of_github() -> Self {
        let comment = record("comment", &"4ac21e0".repeat(6)[..40]);
        Self::default()
            .entry("pax_global_header", b'g', comment.as_bytes())
            .entry(&format!("{TOP}/"), b'5', b"")
    }

    /// A file below the top.
    pub(super) fn file(self, path: &str, content: &[u8]) -> Self {
        self.below(path, b'0', content)
    }

    pub(super) fn folder(self, path: &str) -> Self {
        self.below(&format!("{path}/"), b'5', b"")
    }

    pub(super) fn below(self, path: &str, kind: u8, content: &[u8]) -> Self {
        let whole = format!("{TOP}/{path}");
        if whole.len() > 100 {
            return self
                .pax(&[("path", &whole)])
                .entry("4ac21e0.data", kind, content);
        }
        self.entry(&whole, kind, content)
    }

    /// Any entry, by its whole name.
    pub(super) fn entry(self, name: &str, kind: u8, content: &[u8]) -> Self {
        let size = u64::try_from(content.len()).unwrap();
        self.block(&header(name.as_bytes(), kind, &octal(size)))
            .content(content)
    }

    /// A header below the top that promises so many bytes.
    pub(super) fn header_of(self, path: &str, kind: u8, size: u64) -> Self {
        let name = format!("{TOP}/{path}");
        self.block(&header(name.as_bytes(), kind, &octal(size)))
    }

    pub(super) fn block(mut self, block: &[u8; 512]) -> Self {
        self.0.extend_from_slice(block);
        self
    }

    pub(super) fn content(mut self, content: &[u8]) -> Self {
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// An extended header.
    pub(super) fn pax(self, records: &[(&str, &str)]) -> Self {
        let text: String = records
            .iter()
            .map(|(key, value)| record(key, value))
            .collect();
        self.entry("4ac21e0.paxheader", b'x', text.as_bytes())
    }

    pub(super) fn long(self, kind: u8, name: &str) -> Self {
        self.entry("././@LongLink", kind, format!("{name}\0").as_bytes())
    }

    /// The two blocks of zeros, and up to the record that tar writes in.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0.resize(self.0.len().next_multiple_of(10_240), 0);
        self.0
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0
    }
}

pub(super) fn gz(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}
