//! The numbers and texts that `contents` is written in: little-endian, length-prefixed, strictly bounded.
//!
//! A `Writer` wipes what it held; a `Source` checks every bound before it reads. Pure.

use zeroize::Zeroizing;

use super::UnixSeconds;
use super::contents::ContentsError;

/// A name, an id, a pattern.
const TEXT_BYTES_MAX: usize = 1024;

/// What is written.
pub(super) struct Writer(pub(super) Zeroizing<Vec<u8>>);

impl Writer {
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    pub(super) fn optional(&mut self, number: Option<u64>) {
        self.bytes(&[u8::from(number.is_some())]);
        self.number(number.unwrap_or(0));
    }

    /// Texts were bounded where they came in; a longer one would make a file that nobody can read.
    pub(super) fn text(&mut self, text: &str) {
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.bytes(&(end as u16).to_le_bytes());
        self.bytes(&text.as_bytes()[..end]);
    }
}

/// What is still to be read.
pub(super) struct Source<'a>(pub(super) &'a [u8]);

impl<'a> Source<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], ContentsError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(ContentsError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ContentsError> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(ContentsError::Length)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn number(&mut self) -> Result<u64, ContentsError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn count(&mut self, max: usize) -> Result<usize, ContentsError> {
        usize::try_from(self.number()?)
            .ok()
            .filter(|count| *count <= max)
            .ok_or(ContentsError::Value)
    }

    pub(super) fn flag(&mut self) -> Result<bool, ContentsError> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(ContentsError::Value),
        }
    }

    pub(super) fn optional(&mut self) -> Result<Option<u64>, ContentsError> {
        let present = self.flag()?;
        let number = self.number()?;
        if !present && number != 0 {
            return Err(ContentsError::Value);
        }
        Ok(present.then_some(number))
    }

    pub(super) fn seconds(&mut self) -> Result<UnixSeconds, ContentsError> {
        i64::try_from(self.number()?).map_err(|_| ContentsError::Value)
    }

    pub(super) fn optional_seconds(&mut self) -> Result<Option<UnixSeconds>, ContentsError> {
        self.optional()?
            .map(i64::try_from)
            .transpose()
            .map_err(|_| ContentsError::Value)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, ContentsError> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        if length > TEXT_BYTES_MAX {
            return Err(ContentsError::Value);
        }
        std::str::from_utf8(self.bytes(length)?).map_err(|_| ContentsError::Value)
    }
}
