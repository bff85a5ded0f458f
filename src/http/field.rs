//! Header fields as offsets into the head's bytes, each name classified once.
//!
//! `head` fills these in; every later stage branches on the `Name` instead of comparing strings again.

use std::ops::Range;

/// One field line. Offsets are into the buffer that the head was parsed from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What the name is to the router.
    pub name: Name,
    /// Where the name stands, in the sender's own spelling.
    pub name_at: Range<u32>,
    /// Where the value stands, without the white space around it.
    pub value_at: Range<u32>,
}

impl Field {
    /// The value's bytes.
    pub fn value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.value_at.start as usize..self.value_at.end as usize]
    }

    /// The name's bytes as the sender spelled them.
    pub fn spelled<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.name_at.start as usize..self.name_at.end as usize]
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The field names that the router acts on; all others are `Other` and pass.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Name {
            $($(#[$doc])* $variant,)*
            /// Any other name that starts with `x-memory-` or `x-store-`: a setting of the router that it does not know.
            XMemorySetting,
            /// Any name that starts with `x-forwarded-`.
            XForwarded,
            /// Any other name that starts with `x-mr-`: a router's word about its answer.
            XMr,
            /// Everything else.
            Other,
        }

        const KNOWN: &[(&[u8], Name)] = &[$(($text, Name::$variant),)*];
    };
}

names! {
    /// `Host`
    Host = b"host",
    /// `Content-Length`
    ContentLength = b"content-length",
    /// `Transfer-Encoding`
    TransferEncoding = b"transfer-encoding",
    /// `Content-Type`
    ContentType = b"content-type",
    /// `Content-Encoding`
    ContentEncoding = b"content-encoding",
    /// `Accept-Encoding`
    AcceptEncoding = b"accept-encoding",
    /// `Connection`
    Connection = b"connection",
    /// `Keep-Alive`
    KeepAlive = b"keep-alive",
    /// `Proxy-Connection`
    ProxyConnection = b"proxy-connection",
    /// `Proxy-Authorization`
    ProxyAuthorization = b"proxy-authorization",
    /// `Proxy-Authenticate`
    ProxyAuthenticate = b"proxy-authenticate",
    /// `TE`
    Te = b"te",
    /// `Trailer`
    Trailer = b"trailer",
    /// `Upgrade`
    Upgrade = b"upgrade",
    /// `Expect`
    Expect = b"expect",
    /// `Authorization`
    Authorization = b"authorization",
    /// `x-api-key`
    XApiKey = b"x-api-key",
    /// `x-goog-api-key`
    XGoogApiKey = b"x-goog-api-key",
    /// `api-key`, Azure's form: never taken from a caller, never passed on.
    ApiKey = b"api-key",
    /// `X-Memory-Key`
    XMemoryKey = b"x-memory-key",
    /// `X-Provider-Key`
    XProviderKey = b"x-provider-key",
    /// `X-Memory-Mode`
    XMemoryMode = b"x-memory-mode",
    /// `X-Memory-Store`
    XMemoryStore = b"x-memory-store",
    /// `X-Memory-Store-Response`
    XMemoryStoreResponse = b"x-memory-store-response",
    /// `X-Memory-Context-Limit`
    XMemoryContextLimit = b"x-memory-context-limit",
    /// `X-Session-ID`
    XSessionId = b"x-session-id",
    /// `x-claude-code-session-id`, which is the provider's too.
    XClaudeCodeSessionId = b"x-claude-code-session-id",
    /// `X-Store-Input`
    XStoreInput = b"x-store-input",
    /// `X-Store-Response`
    XStoreResponse = b"x-store-response",
    /// `X-Context-Limit`
    XContextLimit = b"x-context-limit",
    /// `X-Debug`
    XDebug = b"x-debug",
    /// `anthropic-version`
    AnthropicVersion = b"anthropic-version",
    /// `Forwarded`
    Forwarded = b"forwarded",
    /// `X-Real-IP`
    XRealIp = b"x-real-ip",
    /// `Via`
    Via = b"via",
    /// `Origin`
    Origin = b"origin",
    /// `traceparent` (W3C Trace Context)
    Traceparent = b"traceparent",
    /// `tracestate`, which goes with it
    Tracestate = b"tracestate",
    /// `request-id`, Anthropic's id of an answer.
    RequestId = b"request-id",
    /// `x-request-id`, most others'.
    XRequestId = b"x-request-id",
    /// `x-mr-request-id`, ours.
    XMrRequestId = b"x-mr-request-id",
}

/// Names as bits.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameSet(u64);

// The last name of all needs a bit too.
const _: () = assert!((Name::Other as u32) < u64::BITS);

impl NameSet {
    /// These names.
    pub const fn of(names: &[Name]) -> Self {
        let mut set = Self(0);
        let mut at = 0;
        while at < names.len() {
            set.insert(names[at]);
            at += 1;
        }
        set
    }

    pub(super) const fn insert(&mut self, name: Name) {
        self.0 |= 1 << name as u32;
    }

    pub(super) const fn contains(self, name: Name) -> bool {
        self.meets(Self(1 << name as u32))
    }

    pub(super) const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A place for each known name, so that a name is held against one of them and not against forty.
const TABLE: [Option<(&[u8], Name)>; PLACES] = {
    let mut table = [None; PLACES];
    let mut at = 0;
    while at < KNOWN.len() {
        let place = place(KNOWN[at].0);
        assert!(
            table[place].is_none(),
            "two names share a place: other factors are needed"
        );
        assert!(KNOWN[at].0.len() <= LONGEST);
        let mut letter = 0;
        while letter < KNOWN[at].0.len() {
            assert!(matches!(KNOWN[at].0[letter], b'a'..=b'z' | b'-'));
            letter += 1;
        }
        table[place] = Some(KNOWN[at]);
        at += 1;
    }
    table
};
const PLACES: usize = 128;

/// No known name is longer.
const LONGEST: usize = 32;

const fn place(name: &[u8]) -> usize {
    const fn factor(name: &[u8], at: usize, by: usize) -> usize {
        // Letters in lower case; what else a name is spelled with stays apart from them well enough.
        (name[at] | 0x20) as usize * by
    }
    let len = name.len();
    if len == 0 {
        return 0;
    }
    let letters = factor(name, 0, 2) + factor(name, len / 2, 8) + factor(name, len - 1, 12);
    (len + letters) % PLACES
}

/// Whether a name is a known one, which is in lower case; word by word, the last two over each other.
fn same(known: &[u8], name: &[u8]) -> bool {
    if known.len() != name.len() {
        return false;
    }
    let ((known_words, _), (words, _)) = (known.as_chunks(), name.as_chunks());
    match (known.last_chunk(), name.last_chunk()) {
        (Some(known_last), Some(last)) => {
            let all = known_words.iter().zip(words);
            all.chain([(known_last, last)]).all(|(known, word)| {
                same_word(u64::from_le_bytes(*known), u64::from_le_bytes(*word))
            })
        }
        _ => known.eq_ignore_ascii_case(name),
    }
}

/// Whether eight bytes are those of a known name, in either case. What differs may be the bit that tells cases apart,
/// in letters: of all that known names are spelled with, these alone have 0x40.
fn same_word(known: u64, word: u64) -> bool {
    const LETTERS: u64 = u64::from_ne_bytes([0x40; 8]);
    (known ^ word) & !((known & LETTERS) >> 1) == 0
}

impl Name {
    /// Classifies a name, ASCII case aside.
    pub fn of(name: &[u8]) -> Self {
        match TABLE[place(name)] {
            Some((known, found)) if same(known, name) => found,
            _ => Self::by_prefix(name),
        }
    }

    fn by_prefix(name: &[u8]) -> Self {
        let starts = |prefix: &[u8]| {
            let start = name.get(..prefix.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        match () {
            () if !starts(b"x-") => Self::Other,
            () if starts(b"x-memory-") || starts(b"x-store-") => Self::XMemorySetting,
            () if starts(b"x-forwarded-") => Self::XForwarded,
            () if starts(b"x-mr-") => Self::XMr,
            () => Self::Other,
        }
    }

    /// Fields that speak of one connection only and never cross the router (RFC 9110 section 7.6.1).
    pub fn hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthorization
                | Self::ProxyAuthenticate
                | Self::Te
                | Self::Upgrade
                | Self::TransferEncoding
        )
    }

    /// Fields in which a caller hands over a key.
    pub fn credential(self) -> bool {
        matches!(
            self,
            Self::Authorization
                | Self::XApiKey
                | Self::XGoogApiKey
                | Self::ApiKey
                | Self::XMemoryKey
                | Self::XProviderKey
        )
    }

    /// Fields that are settings of the router itself.
    pub fn router_only(self) -> bool {
        matches!(
            self,
            Self::XMemorySetting
                | Self::XMemoryMode
                | Self::XMemoryStore
                | Self::XMemoryStoreResponse
                | Self::XMemoryContextLimit
                | Self::XSessionId
                | Self::XStoreInput
                | Self::XStoreResponse
                | Self::XContextLimit
                | Self::XDebug
        )
    }

    /// Fields that say who stood before the router: a caller's word, not to be passed on as ours.
    pub fn forwarded(self) -> bool {
        matches!(
            self,
            Self::Forwarded | Self::XForwarded | Self::XRealIp | Self::Via
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_and_its_neighbours_are_not() {
        for (text, name) in KNOWN {
            assert_eq!(Name::of(text), *name);
            assert_eq!(Name::of(&text.to_ascii_uppercase()), *name);
            for at in 0..text.len() {
                for flipped in [0x40, 0x20, 0x10, 0x80, 0x01] {
                    let mut other = text.to_vec();
                    other[at] ^= flipped;
                    let alike = other.eq_ignore_ascii_case(text);
                    assert_eq!(Name::of(&other) == *name, alike);
                }
                assert_ne!(Name::of(&text[..at]), *name);
            }
        }
    }

    #[test]
    fn names_in_any_case() {
        for (text, name) in [
            ("Content-Length", Name::ContentLength),
            ("hOsT", Name::Host),
            ("X-Memory-Key", Name::XMemoryKey),
            ("X-Memory-Mode", Name::XMemoryMode),
            ("X-Memory-Other", Name::XMemorySetting),
            (
                "x-memory-a-name-that-is-longer-than-any-known-one",
                Name::XMemorySetting,
            ),
            ("X-Forwarded-For", Name::XForwarded),
            ("X-Store-Anything", Name::XMemorySetting),
            ("X-MR-Debug", Name::XMr),
            ("X-MR-Request-ID", Name::XMrRequestId),
            ("x-memory", Name::Other),
            ("user-agent", Name::Other),
            ("a-name-that-is-longer-than-any-known-one", Name::Other),
            ("", Name::Other),
            ("x-", Name::Other),
            ("x-stor", Name::Other),
        ] {
            assert_eq!(Name::of(text.as_bytes()), name, "{text}");
        }
    }
}
