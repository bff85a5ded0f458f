//! The tokens of a memory key, small: a million keys have a million of them.
//!
//! Nearly every key has one token, which lies in its record; several lie behind a pointer. Pure.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::UnixSeconds;

/// One token that opens a record: the current one, and former ones while their grace lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenEntry {
    /// HMAC-SHA-256 of the token under the pepper.
    pub digest: [u8; 32],
    /// For people.
    pub last4: Last4,
    /// When it stops working; none for the current token.
    pub valid_until: Option<UnixSeconds>,
}

/// The end of a token, at most four characters of visible ASCII.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Last4 {
    bytes: [u8; 4],
    length: u8,
}

impl Last4 {
    /// The last four of a text's characters; tokens are ASCII, and what is not stands there as `?`.
    pub fn of(text: &str) -> Self {
        let mut last = Self::default();
        let start = text.chars().count().saturating_sub(last.bytes.len());
        for (byte, c) in last.bytes.iter_mut().zip(text.chars().skip(start)) {
            *byte = if c.is_ascii_graphic() { c as u8 } else { b'?' };
            last.length += 1;
        }
        last
    }
}

impl Deref for Last4 {
    type Target = str;

    fn deref(&self) -> &str {
        let bytes = self.bytes.get(..self.length.into()).unwrap_or_default();
        // ASCII, as `of` makes it.
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

impl fmt::Debug for Last4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The tokens that open a record, the current one first: a slice, whose first does not lie apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens(Kept);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    One(TokenEntry),
    Other(Box<[TokenEntry]>),
}

impl FromIterator<TokenEntry> for Tokens {
    fn from_iter<T: IntoIterator<Item = TokenEntry>>(entries: T) -> Self {
        let mut entries = entries.into_iter();
        Self(match (entries.next(), entries.next()) {
            (Some(one), None) => Kept::One(one),
            (first, second) => {
                Kept::Other(first.into_iter().chain(second).chain(entries).collect())
            }
        })
    }
}

impl Deref for Tokens {
    type Target = [TokenEntry];

    fn deref(&self) -> &[TokenEntry] {
        match &self.0 {
            Kept::One(one) => std::slice::from_ref(one),
            Kept::Other(entries) => entries,
        }
    }
}

impl DerefMut for Tokens {
    fn deref_mut(&mut self) -> &mut [TokenEntry] {
        match &mut self.0 {
            Kept::One(one) => std::slice::from_mut(one),
            Kept::Other(entries) => entries,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token() {
        for (text, last4) in [
            ("", ""),
            ("ab", "ab"),
            ("wxyz", "wxyz"),
            ("mk_…6789", "6789"),
            ("ab\u{e9} ", "ab??"),
        ] {
            assert_eq!(&*Last4::of(text), last4);
        }
    }

    #[test]
    fn any_number_of_tokens_is_a_slice() {
        let entry = |number| TokenEntry {
            digest: [number; 32],
            last4: Last4::of("wxyz"),
            valid_until: None,
        };
        for count in 0..4 {
            let entries: Vec<_> = (0..count).map(entry).collect();
            assert_eq!(*entries.iter().cloned().collect::<Tokens>(), *entries);
        }
    }
}
