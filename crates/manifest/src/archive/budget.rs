//! How many bytes go in and come out, and when it is enough.

use std::{cell::RefCell, io::Read};

use super::{Cell, Error, Reading, io, most_entries};

/// So far bytes may unpack; what is packed better was packed to unpack.
const RATIO: u64 = 100;
/// Below this the ratio says nothing: an empty page repeats itself.
const FREE: u64 = 16 * 1024 * 1024;
/// Headers, padding and the end, for each entry.
const OVERHEAD: u64 = 3 * 512;
/// An archive's end, and its first header.
const ENDS: u64 = 1024 * 1024;

/// What was read so far, shared by the two ends of the unpacking.
#[derive(Debug, Default)]
pub(super) struct Spent {
    packed: Cell<u64>,
    unpacked: Cell<u64>,
    ended: Cell<bool>,
    /// Why reading was ended, by either side.
    why: RefCell<Option<Error>>,
}

impl Spent {
    /// Whether all that was packed came out.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// What an error of a reader means: ours, or the archive's own.
    pub(super) fn explain(&self, error: io::Error) -> Error {
        self.why.take().unwrap_or(Error::Broken(error))
    }

    /// The same while a file is taken: what no reader reported is the taker's.
    pub(super) fn explain_taking(&self, error: io::Error) -> Error {
        self.why.take().unwrap_or_else(|| match error.kind() {
            // Of the unpacking, which knows no other kinds.
            io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof => Error::Broken(error),
            _ => Error::Io(error),
        })
    }

    fn ends(&self, why: Error) -> io::Error {
        let words = why.to_string();
        self.why.replace(Some(why));
        io::Error::other(words)
    }
}

/// The packed bytes, counted.
pub(super) struct Packed<'a, R> {
    inner: R,
    spent: &'a Spent,
}

impl<'a, R> Packed<'a, R> {
    pub(super) const fn new(inner: R, spent: &'a Spent) -> Self {
        Self { inner, spent }
    }
}

impl<R: Read> Read for Packed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.inner.read(buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => return Err(self.spent.ends(Error::Io(error))),
        };
        let packed = &self.spent.packed;
        packed.set(packed.get() + u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

/// The unpacked bytes, within what they may be.
pub(super) struct Budget<'a, R> {
    inner: R,
    reading: &'a Reading<'a>,
    most: u64,
    spent: &'a Spent,
}

impl<'a, R> Budget<'a, R> {
    pub(super) fn new(inner: R, reading: &'a Reading<'a>, spent: &'a Spent) -> Self {
        let limits = reading.limits;
        let entries = u64::try_from(most_entries(limits)).unwrap_or(u64::MAX);
        let overhead = entries.saturating_mul(OVERHEAD).saturating_add(ENDS);
        Self {
            inner,
            reading,
            most: limits.total_bytes.saturating_add(overhead),
            spent,
        }
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Budget<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !(self.reading.go_on)() {
            return Err(self.spent.ends(Error::Stopped));
        }
        let count = self.inner.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.spent.ended.set(true);
        }
        let unpacked = self.spent.unpacked.get() + u64::try_from(count).unwrap_or(u64::MAX);
        self.spent.unpacked.set(unpacked);
        if unpacked > self.most {
            let limit = self.reading.limits.total_bytes;
            return Err(self.spent.ends(Error::Large { limit }));
        }
        if unpacked > FREE && unpacked / RATIO > self.spent.packed.get() {
            return Err(self.spent.ends(Error::Bomb { ratio: RATIO }));
        }
        Ok(count)
    }
}
