//! A memory as it is written: the bytes inside a sealed row.
//!
//! Beside time, role, session and text it carries the analysed terms, so that a cold vault needs no analysis; a row of
//! another version of the analysis is analysed anew. What was said more than once has two times: that of the memory is
//! the last. Reading is strict: what does not fit is no row. Pure.

use super::analyse::{self, Analysed, analyse};
use super::words::{NewMemory, Role};

/// Versions of this encoding: of what was said once, and of what was said again.
const ONCE: u8 = 1;
const AGAIN: u8 = 2;
const DAY_MS: i64 = 86_400_000;

/// A memory and what the index needs of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) memory: NewMemory,
    pub(super) analysed: Analysed,
    /// When it was said first: its neighbours are those of then.
    pub(super) first_ms: i64,
}

impl Row {
    pub(super) fn new(memory: NewMemory) -> Self {
        Self {
            analysed: analyse(&memory.text),
            first_ms: memory.at_ms,
            memory,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let NewMemory {
            text,
            role,
            at_ms,
            session,
        } = &self.memory;
        let role = match role {
            Role::User => "",
            role => role.as_str(),
        };
        let session = session.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(
            48 + role.len() + session.len() + text.len() + self.analysed.terms.len() * 10,
        );
        let again = self.first_ms != *at_ms;
        out.push(if again { AGAIN } else { ONCE });
        out.extend_from_slice(&at_ms.to_le_bytes());
        if again {
            out.extend_from_slice(&self.first_ms.to_le_bytes());
        }
        for short in [role, session] {
            let short = &short.as_bytes()[..short.len().min(usize::from(u8::MAX))];
            out.push(short.len() as u8);
            out.extend_from_slice(short);
        }
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(&analyse::VERSION.to_le_bytes());
        out.extend_from_slice(&self.analysed.len.to_le_bytes());
        for (term, count) in &self.analysed.terms {
            out.extend_from_slice(&term.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Source(bytes);
        let [encoding] = from.array()?;
        let at_ms = i64::from_le_bytes(from.array()?);
        let first_ms = match encoding {
            ONCE => at_ms,
            AGAIN => i64::from_le_bytes(from.array()?),
            _ => return None,
        };
        let role = match from.short()? {
            "" => Role::User,
            name => Role::parse(name)?,
        };
        let session = Some(from.short()?).filter(|session| !session.is_empty());
        let length = u32::from_le_bytes(from.array()?) as usize;
        let text = std::str::from_utf8(from.bytes(length)?).ok()?.to_owned();
        let memory = NewMemory {
            text,
            role,
            at_ms,
            session: session.map(str::to_owned),
        };
        let version = u16::from_le_bytes(from.array()?);
        let len = u32::from_le_bytes(from.array()?);
        let (terms, []) = from.0.as_chunks::<10>() else {
            return None;
        };
        if version != analyse::VERSION {
            return Some(Self {
                first_ms,
                ..Self::new(memory)
            });
        }
        let term = |[a, b, c, d, e, f, g, h, low, high]: &[u8; 10]| {
            let hash = u64::from_le_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (hash, u16::from_le_bytes([*low, *high]))
        };
        let terms = terms.iter().map(term).collect();
        Some(Self {
            memory,
            analysed: Analysed { terms, len },
            first_ms,
        })
    }
}

/// The day of a time, counted from 1970: what a retention rule goes by without opening a row.
pub(super) fn day(at_ms: i64) -> u32 {
    u32::try_from(at_ms.div_euclid(DAY_MS).max(0)).unwrap_or(u32::MAX)
}

struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn short(&mut self) -> Option<&'a str> {
        let [length] = self.array()?;
        std::str::from_utf8(self.bytes(usize::from(length))?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (role, session) in [
            (Role::User, None),
            (Role::Assistant, Some("s:1".to_owned())),
            (Role::Other("narrator".into()), Some("x".repeat(128))),
        ] {
            let row = Row::new(NewMemory {
                text: "Zürich, 東京 and the harbour".into(),
                role,
                at_ms: 1_700_000_000_123,
                session,
            });
            let again = Row {
                first_ms: 1_600_000_000_000,
                ..row.clone()
            };
            assert_eq!(Row::decode(&again.encode()), Some(again));
            let bytes = row.encode();
            assert_eq!(Row::decode(&bytes), Some(row));
            for cut in 0..bytes.len() {
                // Cut between two terms it is a shorter list; the seal is what tells.
                let _ = Row::decode(&bytes[..cut]);
            }
            assert_eq!(Row::decode(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(Row::decode(&[]), None);
        assert_eq!(Row::decode(&[9; 40]), None);
    }

    #[test]
    fn another_version_of_the_analysis_is_done_anew() {
        let row = Row::new(NewMemory {
            text: "the harbour".into(),
            role: Role::User,
            at_ms: 5,
            session: None,
        });
        let mut bytes = row.encode();
        let place = 1 + 8 + 2 + 4 + "the harbour".len();
        bytes[place] ^= 0xff;
        bytes.truncate(place + 6);
        assert_eq!(Row::decode(&bytes), Some(row));
    }

    #[test]
    fn days() {
        assert_eq!(day(-5), 0);
        assert_eq!(day(86_399_999), 0);
        assert_eq!(day(86_400_000), 1);
        assert_eq!(day(i64::MAX), u32::MAX);
    }
}
