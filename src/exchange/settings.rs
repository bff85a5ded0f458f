//! What a request wants of memory: the settings of body, header, query and key suffix put together.
//!
//! Pure, and the same on every route. The body says more than a header, a header more than the query, the query more
//! than the key's suffix; what nobody says is the configuration's. A word that means nothing is passed over, so that
//! the next one counts; only a session id that is none is refused, because memories would land where nobody looks.

use crate::auth::ModeSuffix;
use crate::config;
use crate::error::Fault;
use crate::http::head::{Head, RequestLine};
use crate::http::{Name, NameSet};
use crate::provider::body::{self, RequestBody, RouterField, Setting};
use crate::provider::query;

/// The fields that say something.
const FIELDS: NameSet = NameSet::of(&[
    Name::XMemoryMode,
    Name::XMemoryStore,
    Name::XMemoryStoreResponse,
    Name::XMemoryContextLimit,
    Name::XStoreInput,
    Name::XStoreResponse,
    Name::XContextLimit,
    Name::XSessionId,
    Name::XClaudeCodeSessionId,
    Name::XDebug,
]);

/// Those of which two that differ are refused.
const ONCE: [(Name, &str); 3] = [
    (Name::XMemoryMode, "x-memory-mode"),
    (Name::XSessionId, "x-session-id"),
    (Name::XClaudeCodeSessionId, "x-claude-code-session-id"),
];

/// However many are asked for.
const LIMIT_MAX: usize = 1000;

const SESSION_BYTES_MAX: usize = 128;

/// What is done with the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Recall and remember.
    On,
    /// Recall only.
    Read,
    /// Remember only.
    Write,
    /// Neither.
    Off,
}

impl Mode {
    fn parse(word: &str) -> Option<Self> {
        const WORDS: [(&str, Mode); 11] = [
            ("on", Mode::On),
            ("default", Mode::On),
            ("auto", Mode::On),
            ("all", Mode::On),
            ("true", Mode::On),
            ("off", Mode::Off),
            ("none", Mode::Off),
            ("false", Mode::Off),
            ("read", Mode::Read),
            ("selective", Mode::Read),
            ("write", Mode::Write),
        ];
        let known = WORDS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(word))?;
        Some(known.1)
    }

    /// As the answer's header has it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Read => "read",
            Self::Write => "write",
            Self::Off => "off",
        }
    }
}

/// A request's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    /// Anything may be stored.
    pub(super) store: bool,
    /// The answer may be stored.
    pub(super) store_answer: bool,
    /// How many memories may be recalled.
    pub(super) limit: usize,
    pub(super) session: Option<String>,
    /// A summary is to stand in a header.
    pub(super) debug: bool,
}

impl Settings {
    /// Whether the vault is asked.
    pub(super) fn recalls(&self) -> bool {
        matches!(self.mode, Mode::On | Mode::Read) && self.limit > 0
    }

    /// Whether the vault is written to.
    pub(super) fn remembers(&self) -> bool {
        matches!(self.mode, Mode::On | Mode::Write) && self.store
    }
}

/// Where settings stand outside of the body.
pub(super) struct Sources<'a> {
    pub(super) head: &'a Head<RequestLine>,
    pub(super) bytes: &'a [u8],
    pub(super) suffix: Option<ModeSuffix>,
    /// What the configuration says.
    pub(super) config: &'a config::Memory,
}

impl Sources<'_> {
    /// Puts the settings together. A body that is not there yet, or is none, says nothing.
    pub(super) fn with(&self, body: Option<&body::Settings>) -> Result<Settings, Fault> {
        let unspoken = self.unspoken();
        if !self.head.has_any(FIELDS)
            && self.head.query(self.bytes).is_none()
            && body.is_none_or(body::Settings::is_empty)
        {
            return Ok(unspoken);
        }
        let in_body = |field| value(body, field);
        let in_head = |name| self.header(name);
        let in_query = |name| self.parameter(name);
        let store = (in_body(RouterField::MemoryStore).as_deref())
            .and_then(flag)
            .or_else(|| flag(&in_head(Name::XMemoryStore)?))
            .or_else(|| flag(&in_head(Name::XStoreInput)?))
            .or_else(|| flag(&in_query("store")?))
            .unwrap_or(unspoken.store);
        let store_answer = (in_body(RouterField::MemoryStoreResponse).as_deref())
            .and_then(flag)
            .or_else(|| flag(&in_head(Name::XMemoryStoreResponse)?))
            .or_else(|| flag(&in_head(Name::XStoreResponse)?))
            .or_else(|| flag(&in_query("store_response")?))
            .unwrap_or(unspoken.store_answer);
        let limit = (in_body(RouterField::MemoryLimit).as_deref())
            .and_then(number)
            .or_else(|| number(&in_head(Name::XMemoryContextLimit)?))
            .or_else(|| number(&in_head(Name::XContextLimit)?))
            .or_else(|| number(&in_query("limit")?))
            .unwrap_or(unspoken.limit);
        // Which of two counts, the next hop may see otherwise; and what is stored may land where nobody looks.
        for (name, shown) in ONCE {
            self.once(name, shown)?;
        }
        let debug = flag(&in_head(Name::XDebug).unwrap_or_default())
            .or_else(|| flag(&in_query("debug")?))
            .unwrap_or(unspoken.debug);
        Ok(Settings {
            mode: self.mode(body),
            store,
            store_answer,
            limit,
            session: self.session(body)?,
            debug,
        })
    }

    /// The same for an endpoint of the vault's, where the query can name the session as well: it goes to no provider.
    pub(super) fn of_vault_task(&self, body: &body::Settings) -> Result<Settings, Fault> {
        let settings = self.with(Some(body))?;
        let session = match (settings.session, self.parameter(query::SESSION)) {
            (None, Some(id)) if !is_session_id(&id) => return Err(Fault::InvalidSessionId),
            (named, in_query) => named.or(in_query),
        };
        Ok(Settings {
            session,
            ..settings
        })
    }

    /// The same where what is not named is deleted with the rest, so that a slip would empty the whole vault: query and
    /// body may name one session and nothing else.
    pub(super) fn of_clearing(&self, found: &RequestBody, body: &[u8]) -> Result<Settings, Fault> {
        let query = self.head.query(self.bytes).unwrap_or_default();
        let said = query.split('&').filter(|pair| !pair.is_empty());
        let session = self.parameter(query::SESSION);
        if said.count() > usize::from(session.is_some()) {
            return Err(Fault::InvalidParameter(
                "query",
                "session_id=ID, or nothing",
            ));
        }
        match found.besides_session(body) {
            Some(name) if name == query::SESSION => return Err(Fault::InvalidSessionId),
            Some(name) => return Err(Fault::UnknownField(name)),
            None => {}
        }
        self.of_vault_task(&found.settings)
    }

    /// What holds where neither body nor field nor query says anything, as in most requests.
    fn unspoken(&self) -> Settings {
        Settings {
            mode: self.mode(None),
            store: true,
            store_answer: true,
            limit: self.config.limit,
            session: None,
            debug: false,
        }
    }

    /// The mode alone, which cannot be wrong.
    pub(super) fn mode(&self, body: Option<&body::Settings>) -> Mode {
        if !self.config.enabled {
            return Mode::Off;
        }
        (value(body, RouterField::MemoryMode).as_deref())
            .and_then(Mode::parse)
            .or_else(|| Mode::parse(&value(body, RouterField::Memory)?))
            .or_else(|| Mode::parse(&self.header(Name::XMemoryMode)?))
            .or_else(|| Mode::parse(&self.parameter("mode")?))
            .or_else(|| Mode::parse(&self.parameter("memory")?))
            .or(self.suffix.map(|suffix| match suffix {
                ModeSuffix::Read => Mode::Read,
                ModeSuffix::Write => Mode::Write,
                ModeSuffix::Off => Mode::Off,
            }))
            .unwrap_or(Mode::On)
    }

    fn session(&self, body: Option<&body::Settings>) -> Result<Option<String>, Fault> {
        let in_body = body.and_then(|body| body.get(RouterField::SessionId));
        let id = match in_body {
            Some(Setting::Value(text)) => Some(text.clone()),
            Some(Setting::Unusable) => return Err(Fault::InvalidSessionId),
            None => self
                .header(Name::XSessionId)
                .or_else(|| self.header(Name::XClaudeCodeSessionId)),
        };
        match id {
            Some(id) if !is_session_id(&id) => Err(Fault::InvalidSessionId),
            id => Ok(id),
        }
    }

    /// Two equal ones are a proxy's harmless doubling.
    fn once(&self, name: Name, shown: &'static str) -> Result<(), Fault> {
        let mut values = self.head.all(name).map(|field| field.value(self.bytes));
        let first = values.next();
        match values.any(|other| Some(other) != first) {
            true => Err(Fault::ConflictingFields(shown)),
            false => Ok(()),
        }
    }

    fn header(&self, name: Name) -> Option<String> {
        let value = self.head.first(name, self.bytes)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let value = query::parameter(self.head.query(self.bytes)?, name)?;
        Some(String::from_utf8_lossy(&value).trim().to_owned())
    }
}

/// What a body says for a field, where that is of use.
fn value(body: Option<&body::Settings>, field: RouterField) -> Option<String> {
    match body?.get(field)? {
        Setting::Value(text) => Some(text.trim().to_owned()),
        Setting::Unusable => None,
    }
}

/// Whether a text can name a session.
pub fn is_session_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:@-".contains(&b);
    (1..=SESSION_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

fn flag(word: &str) -> Option<bool> {
    match () {
        () if word.eq_ignore_ascii_case("true") => Some(true),
        () if word.eq_ignore_ascii_case("false") => Some(false),
        () => None,
    }
}

/// A number of memories; more than there may be is as many as there may be.
pub(super) fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().map_or(LIMIT_MAX, |n: usize| n.min(LIMIT_MAX)))
}

#[cfg(test)]
mod tests;
