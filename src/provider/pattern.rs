//! Patterns over model names: `gpt-*`, `o[0-9]*`, `openai/*`.
//!
//! Routing rules and a key's allowed models are written in them. A pattern covers the whole name (`gpt-4` is not
//! `gpt-*`), letters match in either case, and matching takes time linear in name × pattern whatever is written.

use std::fmt;

/// A parsed pattern; shows itself as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    source: Box<str>,
    atoms: Box<[Atom]>,
    /// It is plain bytes and then one `*`, as most are.
    is_prefix: bool,
    /// Its first plain byte: most names that do not fit have none.
    byte: Option<u8>,
}

#[derive(Clone, PartialEq, Eq)]
enum Atom {
    /// `*`: any bytes, none too.
    Run,
    /// `?`: any one byte.
    Any,
    /// `[a-z0-9]`: one byte of these ranges.
    Class(Box<[(u8, u8)]>),
    Byte(u8),
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternError {
    /// Nothing at all would match nothing.
    Empty,
    /// `[` without `]`, or nothing between them.
    Class,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a pattern cannot be empty",
            Self::Class => "a `[` needs characters and a `]`, as in [0-9]",
        })
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Reads `*` (any run), `?` (any one), `[a-z0-9]` (one of these); everything else means itself.
    pub fn parse(source: &str) -> Result<Self, PatternError> {
        if source.is_empty() {
            return Err(PatternError::Empty);
        }
        let mut atoms = Vec::new();
        let mut rest = source.as_bytes();
        while let Some((&first, behind)) = rest.split_first() {
            rest = behind;
            atoms.push(match first {
                b'*' => Atom::Run,
                b'?' => Atom::Any,
                b'[' => {
                    let end = memchr::memchr(b']', rest).filter(|end| *end > 0);
                    let (class, behind) = rest.split_at(end.ok_or(PatternError::Class)?);
                    rest = &behind[1..];
                    Atom::Class(class_ranges(class))
                }
                byte => Atom::Byte(byte.to_ascii_lowercase()),
            });
        }
        let plain = |atom: &Atom| matches!(atom, Atom::Byte(_));
        let is_prefix = matches!(&atoms[..], [start @ .., Atom::Run] if start.iter().all(plain));
        let byte = atoms.iter().find_map(|atom| match atom {
            Atom::Byte(byte) => Some(*byte),
            _ => None,
        });
        Ok(Self {
            source: source.into(),
            atoms: atoms.into(),
            is_prefix,
            byte,
        })
    }

    /// Whether the whole of `name` fits.
    pub fn matches(&self, name: &str) -> bool {
        let name = name.as_bytes();
        if self.is_prefix {
            let prefix = &self.source.as_bytes()[..self.source.len() - 1];
            let start = name.get(..prefix.len());
            return start.is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        }
        let is_there = |byte: u8| memchr::memchr2(byte, byte.to_ascii_uppercase(), name).is_some();
        if !self.byte.is_none_or(is_there) {
            return false;
        }
        let (mut atom, mut at) = (0, 0);
        // Where to go on when what follows the last `*` does not fit: the `*` takes one byte more.
        let mut retry: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.atoms.get(atom) {
                Some(Atom::Run) => {
                    retry = Some((atom + 1, at));
                    atom += 1;
                }
                Some(one) if one.takes(name[at].to_ascii_lowercase()) => {
                    atom += 1;
                    at += 1;
                }
                _ => match &mut retry {
                    Some((behind_run, run_end)) => {
                        *run_end += 1;
                        (atom, at) = (*behind_run, *run_end);
                    }
                    None => return false,
                },
            }
        }
        self.atoms[atom..].iter().all(|rest| *rest == Atom::Run)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

fn class_ranges(class: &[u8]) -> Box<[(u8, u8)]> {
    let mut ranges = Vec::new();
    let mut rest = class;
    loop {
        rest = match rest {
            [low, b'-', high, behind @ ..] => {
                ranges.push((low.to_ascii_lowercase(), high.to_ascii_lowercase()));
                behind
            }
            [one, behind @ ..] => {
                ranges.push((one.to_ascii_lowercase(), one.to_ascii_lowercase()));
                behind
            }
            [] => return ranges.into(),
        };
    }
}

impl Atom {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Run => false,
            Self::Any => true,
            Self::Class(ranges) => ranges
                .iter()
                .any(|(low, high)| (*low..=*high).contains(&byte)),
            Self::Byte(own) => *own == byte,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn covers_the_whole_name_in_either_case() {
        for (pattern, name, expected) in [
            ("gpt-*", "gpt-4o", true),
            ("gpt-*", "GPT-4o", true),
            ("GPT-*", "gpt-4o", true),
            ("gpt-*", "gpt-", true),
            ("gpt-*", "gpt", false),
            ("gpt-*", "chatgpt-4o", false),
            ("gpt-4o", "gpt-4o", true),
            ("gpt-4o", "gpt-4o-mini", false),
            ("o[0-9]*", "o3-mini", true),
            ("o[0-9]*", "o", false),
            ("o[0-9]*", "openai/o3", false),
            ("[A-C]?", "b1", true),
            ("[a-]x", "-x", true),
            ("openai/*", "openai/gpt-4o", true),
            ("*/gpt-*", "azure/eu/gpt-4o", true),
            ("*", "", true),
            ("**", "x", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("gpt?4", "gpt-4", true),
            ("]", "]", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        assert_eq!(Pattern::parse(""), Err(PatternError::Empty));
        assert_eq!(Pattern::parse("o[0-9"), Err(PatternError::Class));
        assert_eq!(Pattern::parse("o[]x"), Err(PatternError::Class));
    }

    #[test]
    fn many_runs_over_a_long_name_end_soon() {
        let name = "a".repeat(20_000);
        for pattern in ["a*".repeat(200) + "b", "*a".repeat(200) + "c"] {
            assert!(!Pattern::parse(&pattern).unwrap().matches(&name));
        }
    }
}
