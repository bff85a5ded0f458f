//! The words of memory: who said it, when, what is asked for, what comes back.

use std::fmt;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Who said it. A turn has two sides; an upload may name others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The caller's side.
    #[default]
    User,
    /// The model's side.
    Assistant,
    /// Named so by an upload.
    Other(Box<str>),
}

impl Role {
    /// Longer names are none.
    pub const BYTES_MAX: usize = 32;

    /// None for an empty name, one that is too long, and one with control characters.
    pub fn parse(name: &str) -> Option<Role> {
        let fits = !name.is_empty() && name.len() <= Role::BYTES_MAX;
        match name {
            "user" => Some(Role::User),
            "assistant" | "model" => Some(Role::Assistant),
            _ if fits && !name.chars().any(char::is_control) => Some(Role::Other(name.into())),
            _ => None,
        }
    }

    /// As `parse` reads it.
    pub fn as_str(&self) -> &str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Other(name) => name,
        }
    }
}

/// A memory's place in its vault; shown as `mem_` and 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryId(pub u64);

impl MemoryId {
    /// Reads just what `Display` shows.
    pub fn parse(shown: &str) -> Option<MemoryId> {
        let digits = shown.strip_prefix("mem_")?;
        let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() != 16 || !digits.bytes().all(lower) {
            return None;
        }
        u64::from_str_radix(digits, 16).ok().map(MemoryId)
    }
}

/// Texts that are handed out at once, about: what has more is cut behind the memory that passes it. A worker copies and
/// writes so much in a millisecond or two.
pub const PAGE_BYTES: usize = 1 << 20;

impl fmt::Display for MemoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mem_{:016x}", self.0)
    }
}

/// Where a memory stands among the others of its vault by its time, and so where a list of them goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When it was said, in milliseconds since 1970.
    pub at_ms: i64,
    /// Of two at one time, the later one was stored later.
    pub id: MemoryId,
}

impl Cursor {
    /// Reads just what `Display` shows.
    pub fn parse(shown: &str) -> Option<Cursor> {
        let (at_ms, id) = shown.rsplit_once('-')?;
        Some(Cursor {
            at_ms: at_ms.parse().ok()?,
            id: MemoryId::parse(id)?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at_ms, self.id)
    }
}

/// What is to be remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMemory {
    /// Verbatim.
    pub text: String,
    /// Who said it.
    pub role: Role,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// None: of the core vault.
    pub session: Option<String>,
}

/// How old a memory is, in words. Labels and filters only: no memory is out of reach for its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// Up to four hours.
    Hot,
    /// Up to three days.
    Working,
    /// Up to ninety days.
    LongTerm,
    /// Older than that.
    Archive,
}

impl Window {
    /// A time that is yet to come is hot.
    pub fn of(at_ms: i64, now_ms: i64) -> Window {
        match now_ms.saturating_sub(at_ms) {
            age if age <= 4 * HOUR_MS => Window::Hot,
            age if age <= 3 * DAY_MS => Window::Working,
            age if age <= 90 * DAY_MS => Window::LongTerm,
            _ => Window::Archive,
        }
    }

    /// The window's name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Window::Hot => "hot",
            Window::Working => "working",
            Window::LongTerm => "long_term",
            Window::Archive => "archive",
        }
    }
}

/// What memories are asked for with.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// Usually the newest user message.
    pub text: &'a str,
    /// With one, its memories come first and then those of no session; without, only those of no session.
    pub session: Option<&'a str>,
    /// How many at most.
    pub limit: usize,
    /// Of the whole block; a memory that does not fit is passed over for the next one that does.
    pub tokens_max: usize,
    /// The time that windows are counted from.
    pub now_ms: i64,
    /// Whether a text already stands in the request: then it needs no recalling.
    pub present: &'a dyn Fn(&str) -> bool,
}

/// A memory that came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Recalled {
    /// Its place in the vault.
    pub id: MemoryId,
    /// Verbatim.
    pub text: String,
    /// Who said it.
    pub role: Role,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// None: of the core vault.
    pub session: Option<String>,
    /// How relevant, within one answer: the best has about 1, higher is better.
    pub score: f32,
    /// How long ago.
    pub window: Window,
    /// Of the text, estimated.
    pub tokens: u32,
}

impl Recalled {
    /// Where a list goes on behind it.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            at_ms: self.at_ms,
            id: self.id,
        }
    }
}

/// A look through a vault.
#[derive(Clone, Debug, Default)]
pub struct Browse<'a> {
    /// What to look for; empty lists all, newest first.
    pub text: &'a str,
    /// Of this session only.
    pub session: Option<&'a str>,
    /// How many; fewer where they are large: see `PAGE_BYTES`.
    pub limit: usize,
    /// Only such as are older than this one.
    pub before: Option<Cursor>,
    /// What time it is.
    pub now_ms: i64,
}

/// What a vault holds, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaultStats {
    /// How many memories.
    pub memories: u64,
    /// Their tokens, about.
    pub total_tokens: u64,
    /// The earliest and the latest time.
    pub oldest_ms: Option<i64>,
    /// The latest.
    pub newest_ms: Option<i64>,
    /// Sessions that hold a memory.
    pub sessions: u64,
    /// Bytes of their texts.
    pub bytes: u64,
}

/// A memory as it leaves for a file or a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Its id.
    pub id: MemoryId,
    /// What was said.
    pub text: String,
    /// By whom.
    pub role: Role,
    /// When.
    pub at_ms: i64,
    /// In which session.
    pub session: Option<String>,
}

/// Which memories go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delete {
    /// This one.
    One(MemoryId),
    /// Those of a session.
    Session(String),
    /// All of the vault.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_and_shown() {
        let other = |name: &str| Some(Role::Other(name.into()));
        for (name, expected) in [
            ("user", Some(Role::User)),
            ("assistant", Some(Role::Assistant)),
            ("model", Some(Role::Assistant)),
            ("narrator", other("narrator")),
            ("", None),
            ("a\nb", None),
            (&"r".repeat(32), other(&"r".repeat(32))),
            (&"r".repeat(33), None),
        ] {
            assert_eq!(Role::parse(name), expected, "{name:?}");
        }
        assert_eq!(Role::Other("tool".into()).as_str(), "tool");
    }

    #[test]
    fn ids_are_read_as_they_are_shown() {
        for id in [0, 1, 0xabc, u64::MAX] {
            let shown = MemoryId(id).to_string();
            assert_eq!(MemoryId::parse(&shown), Some(MemoryId(id)));
        }
        assert_eq!(MemoryId(0xabc).to_string(), "mem_0000000000000abc");
        for bad in [
            "",
            "mem_",
            "mem_1",
            "mem_000000000000000G",
            "mem_0000000000000ABC",
            "mem_+00000000000000a",
        ] {
            assert_eq!(MemoryId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn cursors_are_read_as_they_are_shown() {
        for at_ms in [0, 1_700_000_000_000, -5, i64::MIN] {
            let cursor = Cursor {
                at_ms,
                id: MemoryId(0xabc),
            };
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        for bad in ["", "mem_0000000000000abc", "x-mem_0000000000000abc", "5-6"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn windows_end_where_they_say() {
        let now = 1_700_000_000_000;
        for (age, window) in [
            (-5, Window::Hot),
            (0, Window::Hot),
            (4 * HOUR_MS, Window::Hot),
            (4 * HOUR_MS + 1, Window::Working),
            (3 * DAY_MS, Window::Working),
            (3 * DAY_MS + 1, Window::LongTerm),
            (90 * DAY_MS, Window::LongTerm),
            (90 * DAY_MS + 1, Window::Archive),
        ] {
            assert_eq!(Window::of(now - age, now), window, "{age}");
        }
        assert_eq!(Window::of(i64::MIN, i64::MAX), Window::Archive);
    }
}
