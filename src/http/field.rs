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
            /// Everything else.
            Other,
        }

        impl Name {
            /// Classifies a name, ASCII case aside.
            pub fn of(name: &[u8]) -> Self {
                const LONGEST: usize = 32;
                let mut lower = [0u8; LONGEST];
                let Some(lower) = lower.get_mut(..name.len()) else {
                    return Self::of_long(name);
                };
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                match &*lower {
                    $(text if text == $text.as_bytes() => Self::$variant,)*
                    other => Self::by_prefix(other),
                }
            }
        }
    };
}

names! {
    /// `Host`
    Host = "host",
    /// `Content-Length`
    ContentLength = "content-length",
    /// `Transfer-Encoding`
    TransferEncoding = "transfer-encoding",
    /// `Content-Type`
    ContentType = "content-type",
    /// `Content-Encoding`
    ContentEncoding = "content-encoding",
    /// `Accept-Encoding`
    AcceptEncoding = "accept-encoding",
    /// `Connection`
    Connection = "connection",
    /// `Keep-Alive`
    KeepAlive = "keep-alive",
    /// `Proxy-Connection`
    ProxyConnection = "proxy-connection",
    /// `Proxy-Authorization`
    ProxyAuthorization = "proxy-authorization",
    /// `Proxy-Authenticate`
    ProxyAuthenticate = "proxy-authenticate",
    /// `TE`
    Te = "te",
    /// `Trailer`
    Trailer = "trailer",
    /// `Upgrade`
    Upgrade = "upgrade",
    /// `Expect`
    Expect = "expect",
    /// `Authorization`
    Authorization = "authorization",
    /// `x-api-key`
    XApiKey = "x-api-key",
    /// `x-goog-api-key`
    XGoogApiKey = "x-goog-api-key",
    /// `api-key`, Azure's form: never taken from a caller, never passed on.
    ApiKey = "api-key",
    /// `X-Memory-Key`
    XMemoryKey = "x-memory-key",
    /// `X-Provider-Key`
    XProviderKey = "x-provider-key",
    /// `X-Memory-Mode`
    XMemoryMode = "x-memory-mode",
    /// `X-Memory-Store`
    XMemoryStore = "x-memory-store",
    /// `X-Memory-Store-Response`
    XMemoryStoreResponse = "x-memory-store-response",
    /// `X-Memory-Context-Limit`
    XMemoryContextLimit = "x-memory-context-limit",
    /// `X-Session-ID`
    XSessionId = "x-session-id",
    /// `x-claude-code-session-id`, which is the provider's too.
    XClaudeCodeSessionId = "x-claude-code-session-id",
    /// `X-Store-Input`
    XStoreInput = "x-store-input",
    /// `X-Store-Response`
    XStoreResponse = "x-store-response",
    /// `X-Context-Limit`
    XContextLimit = "x-context-limit",
    /// `X-Debug`
    XDebug = "x-debug",
    /// `anthropic-version`
    AnthropicVersion = "anthropic-version",
    /// `Forwarded`
    Forwarded = "forwarded",
    /// `X-Real-IP`
    XRealIp = "x-real-ip",
    /// `Via`
    Via = "via",
    /// `Origin`
    Origin = "origin",
    /// `traceparent` (W3C Trace Context)
    Traceparent = "traceparent",
    /// `request-id`, Anthropic's id of an answer.
    RequestId = "request-id",
    /// `x-request-id`, most others'.
    XRequestId = "x-request-id",
    /// `x-mr-request-id`, ours.
    XMrRequestId = "x-mr-request-id",
}

impl Name {
    fn by_prefix(lower: &[u8]) -> Self {
        if lower.starts_with(b"x-memory-") || lower.starts_with(b"x-store-") {
            Self::XMemorySetting
        } else if lower.starts_with(b"x-forwarded-") {
            Self::XForwarded
        } else {
            Self::Other
        }
    }

    fn of_long(name: &[u8]) -> Self {
        let mut lower = [0u8; 16];
        lower.copy_from_slice(&name[..16]);
        lower.make_ascii_lowercase();
        Self::by_prefix(&lower)
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
                | Self::Trailer
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
            ("x-memory", Name::Other),
            ("user-agent", Name::Other),
            ("a-name-that-is-longer-than-any-known-one", Name::Other),
            ("", Name::Other),
        ] {
            assert_eq!(Name::of(text.as_bytes()), name, "{text}");
        }
    }
}
