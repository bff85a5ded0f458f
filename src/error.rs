//! What can go wrong with one exchange, as the router itself sees it.
//!
//! A `Fault` says whose fault it is, what the caller is told and whether a retry can help. Stages return it, `respond`
//! alone turns it into an answer, `record` logs it. It never holds a secret, an upstream address or a system error's
//! text: what is not in it cannot leak.

mod json;

use std::time::Duration;

pub use json::json_reason;

/// Whose fault a failed exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultSide {
    /// The caller sent something that cannot be served.
    Caller,
    /// The router cannot serve now.
    Router,
    /// The provider could not be reached, or answered no HTTP.
    Provider,
}

/// Which wait on a provider came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Connecting, TLS included.
    Connect,
    /// From the request's last byte to the answer's first.
    FirstByte,
}

/// What a limit of a key is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Requests a minute.
    Requests,
    /// Tokens a minute.
    Tokens,
    /// Requests at once.
    Concurrent,
    /// Tokens of its budget, which is for a UTC day.
    DayBudget,
    /// The same, for a month.
    MonthBudget,
}

/// Why the router answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The message is not HTTP as we accept it; the connection cannot go on.
    Malformed(&'static str),
    /// The head's bytes are over `limits.head_bytes`.
    HeadTooLarge(usize),
    /// The head's field lines are over `limits.headers`.
    TooManyFields(usize),
    /// The target is over `limits.target_bytes`.
    TargetTooLong(usize),
    /// An `Expect` that is not `100-continue`.
    Expectation,
    /// The same credential field or parameter twice, with different values.
    ConflictingCredentials(&'static str),
    /// A memory key where it would leave the router, or be kept in it as something else.
    MisplacedMemoryKey(&'static str),
    /// A provider key that cannot stand in a header.
    UnusableProviderKey,
    /// No memory key in any carrier.
    NoMemoryKey,
    /// A memory key that is unknown, revoked or expired.
    UnknownMemoryKey,
    /// Nothing to pay this provider with.
    NoProviderKey(String),
    /// The provider stands in the table without an address (Azure before it is configured).
    ProviderNotConfigured(String),
    /// The named provider does not speak the endpoint's dialect.
    WrongDialect(String),
    /// The body is not a JSON object.
    InvalidJson,
    /// The body is no form.
    InvalidForm,
    /// More places of a body than this state a model.
    TooManyModels(usize),
    /// A required member is absent.
    MissingField(&'static str),
    /// A model name that no provider has.
    ModelTooLong,
    /// A session id that is none.
    InvalidSessionId,
    /// A field of the router's own that stands twice, with different values.
    ConflictingFields(&'static str),
    /// A member whose value cannot be used.
    InvalidField(&'static str),
    /// A member that means nothing where all that is not asked for would be deleted.
    UnknownField(String),
    /// A line of an upload, counted from 1, and what is wrong with it.
    InvalidLine(usize, &'static str),
    /// An upload of more lines than this.
    TooManyLines(usize),
    /// An upload of more bytes of text than this.
    UploadTooLarge(usize),
    /// No memory of this id in the vault.
    NoSuchMemory,
    /// `memory.enabled` is false.
    MemoryDisabled,
    /// The vault cannot be read or written now.
    MemoryUnavailable,
    /// A query parameter that cannot be read, and what it is to be.
    InvalidParameter(&'static str, &'static str),
    /// A key that is not made as it is asked for; the text says why.
    InvalidKey(String),
    /// No key of this id in the account.
    NoSuchKey,
    /// The key may not do this.
    NoCapability(&'static str),
    /// Keys cannot be read or changed now.
    KeysUnavailable,
    /// There is no room for more keys that callers make.
    KeysFull,
    /// What was used cannot be read now.
    UsageUnavailable,
    /// Too many wrong keys came from one address; the wait until there is room for one more.
    TooManyFailures(Duration),
    /// The key's patterns do not allow this model.
    ModelNotAllowed {
        /// As the caller wrote it.
        model: String,
        /// What the key allows.
        allowed: Vec<String>,
    },
    /// The key has used what it may.
    LimitReached {
        /// Which limit.
        quota: Quota,
        /// What it is.
        limit: u64,
        /// When there is room again.
        resets_in: Duration,
    },
    /// No such endpoint.
    NotFound {
        /// The path asked for.
        path: String,
        /// Endpoints that are spelled alike.
        nearest: Vec<&'static str>,
    },
    /// The endpoint exists, for other methods.
    MethodNotAllowed(&'static str),
    /// The body is over `limits.body_bytes`, as sent or decoded.
    BodyTooLarge(usize),
    /// A request coding that is none of gzip, zstd, br.
    UnsupportedCoding,
    /// A body that does not decode.
    BrokenCoding,
    /// More connections than `limits.connections`, or than there are descriptors for.
    TooManyConnections,
    /// More requests at once than `limits.in_flight`.
    TooManyInFlight,
    /// The router is going down.
    Draining,
    /// The provider could not be reached, or sent no valid HTTP answer.
    Unreachable(String),
    /// The provider let a timeout pass.
    TimedOut(String, Wait),
}

impl Fault {
    /// The status it is answered with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_)
            | Self::ConflictingCredentials(_)
            | Self::MisplacedMemoryKey(_)
            | Self::UnusableProviderKey
            | Self::NoProviderKey(_)
            | Self::ProviderNotConfigured(_)
            | Self::WrongDialect(_)
            | Self::InvalidJson
            | Self::InvalidForm
            | Self::TooManyModels(_)
            | Self::ModelTooLong
            | Self::InvalidSessionId
            | Self::ConflictingFields(_)
            | Self::InvalidField(_)
            | Self::UnknownField(_)
            | Self::InvalidLine(..)
            | Self::InvalidParameter(..)
            | Self::InvalidKey(_)
            | Self::MissingField(_)
            | Self::BrokenCoding => 400,
            Self::NoMemoryKey | Self::UnknownMemoryKey => 401,
            Self::ModelNotAllowed { .. } | Self::NoCapability(_) => 403,
            Self::NotFound { .. } | Self::NoSuchKey | Self::NoSuchMemory | Self::MemoryDisabled => {
                404
            }
            Self::MethodNotAllowed(_) => 405,
            Self::BodyTooLarge(_) | Self::TooManyLines(_) | Self::UploadTooLarge(_) => 413,
            Self::TargetTooLong(_) => 414,
            Self::UnsupportedCoding => 415,
            Self::Expectation => 417,
            Self::LimitReached { .. } | Self::TooManyFailures(_) => 429,
            Self::HeadTooLarge(_) | Self::TooManyFields(_) => 431,
            Self::Unreachable(_) => 502,
            Self::TooManyConnections
            | Self::TooManyInFlight
            | Self::Draining
            | Self::MemoryUnavailable
            | Self::KeysUnavailable
            | Self::UsageUnavailable => 503,
            Self::TimedOut(..) => 504,
            Self::KeysFull => 507,
        }
    }

    /// Whose fault it is.
    pub fn side(&self) -> FaultSide {
        match self {
            Self::Unreachable(_) | Self::TimedOut(..) => FaultSide::Provider,
            Self::TooManyConnections
            | Self::TooManyInFlight
            | Self::Draining
            | Self::MemoryUnavailable
            | Self::KeysUnavailable
            | Self::KeysFull
            | Self::UsageUnavailable => FaultSide::Router,
            _ => FaultSide::Caller,
        }
    }

    /// What went wrong: the `error` member.
    pub fn error(&self) -> String {
        match self {
            Self::Malformed(what) => format!("Malformed HTTP message: {what}"),
            Self::HeadTooLarge(_) => "Request head is too large".into(),
            Self::TooManyFields(_) => "Request has too many header fields".into(),
            Self::TargetTooLong(_) => "Request target is too long".into(),
            Self::Expectation => "Unsupported expectation".into(),
            Self::ConflictingCredentials(name) => {
                format!("Credential {name} stands twice with different values")
            }
            Self::MisplacedMemoryKey(place) => format!("A memory key stands in the {place}"),
            Self::UnusableProviderKey => "Provider key contains characters that no key has".into(),
            Self::NoMemoryKey => "Missing or invalid authentication".into(),
            Self::UnknownMemoryKey => "Invalid or inactive memory key".into(),
            Self::NoProviderKey(provider) => {
                format!("No API key configured for provider: {provider}")
            }
            Self::ProviderNotConfigured(provider) => {
                format!("Provider is not configured: {provider}")
            }
            Self::WrongDialect(provider) => {
                format!("Provider does not serve this endpoint: {provider}")
            }
            Self::InvalidJson => "Invalid JSON body".into(),
            Self::InvalidForm => "Invalid form body".into(),
            Self::TooManyModels(_) => "Too many models".into(),
            Self::MissingField(name) => format!("Missing required field: {name}"),
            Self::ModelTooLong => "Model name is too long".into(),
            Self::InvalidSessionId => "Invalid session id".into(),
            Self::ConflictingFields(name) => {
                format!("Header {name} stands twice with different values")
            }
            Self::InvalidField(name) => format!("Invalid field: {name}"),
            Self::UnknownField(name) => format!("Unknown field: {name}"),
            Self::InvalidLine(line, what) => format!("Invalid line {line}: {what}"),
            Self::TooManyLines(_) => "Too many lines".into(),
            Self::UploadTooLarge(_) => "Upload is too large".into(),
            Self::NoSuchMemory => "Memory not found".into(),
            Self::MemoryDisabled => "Memory is switched off".into(),
            Self::MemoryUnavailable => "Memory is unavailable".into(),
            Self::InvalidParameter(name, _) => format!("Invalid parameter: {name}"),
            Self::InvalidKey(_) => "Invalid key".into(),
            Self::NoSuchKey => "Key not found".into(),
            Self::NoCapability(what) => format!("This memory key may not do this: {what}"),
            Self::KeysUnavailable => "Keys cannot be read or changed now".into(),
            Self::KeysFull => "No room for more keys".into(),
            Self::UsageUnavailable => "Usage is unavailable".into(),
            Self::TooManyFailures(_) => "Too many invalid memory keys".into(),
            Self::ModelNotAllowed { model, .. } => {
                format!("Model not allowed for this memory key: {model}")
            }
            Self::LimitReached {
                quota: Quota::DayBudget | Quota::MonthBudget,
                ..
            } => "Budget exhausted".into(),
            Self::LimitReached { .. } => "Rate limit exceeded".into(),
            Self::NotFound { .. } => "Not Found".into(),
            Self::MethodNotAllowed(_) => "Method Not Allowed".into(),
            Self::BodyTooLarge(_) => "Request body is too large".into(),
            Self::UnsupportedCoding => "Unsupported content encoding".into(),
            Self::BrokenCoding => "Request body does not match its content encoding".into(),
            Self::TooManyConnections | Self::TooManyInFlight => "Overloaded".into(),
            Self::Draining => "Draining".into(),
            Self::Unreachable(provider) => format!("Failed to reach provider: {provider}"),
            Self::TimedOut(provider, _) => format!("Provider timed out: {provider}"),
        }
    }

    /// What the caller can do: the `hint` member.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoMemoryKey | Self::MisplacedMemoryKey(_) => {
                "Use: Authorization: Bearer mk_xxx".into()
            }
            Self::UnknownMemoryKey => "Memory keys start with mk_".into(),
            Self::NoProviderKey(provider) => {
                format!("Add your {provider} API key in settings, or pass X-Provider-Key header")
            }
            Self::ProviderNotConfigured(provider) => {
                format!("Set base_url under [providers.{provider}]")
            }
            Self::InvalidParameter(_, wanted) => (*wanted).into(),
            Self::InvalidKey(why) => why.clone(),
            Self::NoCapability(what) => format!("Only keys made with the capability {what}"),
            Self::KeysFull => {
                "Whoever runs the router can delete some (memoryrouter keys delete) or make this one".into()
            }
            Self::TooManyFailures(_) => {
                "Too many wrong keys came from this address (limits.auth_failures)".into()
            }
            Self::ModelNotAllowed { allowed, .. } => format!("Allowed: {}", allowed.join(", ")),
            Self::LimitReached {
                quota,
                limit,
                resets_in,
            } => {
                let (what, seconds) = (quota.describe(*limit), whole_seconds(*resets_in));
                format!("This key has {what}; there is room again in {seconds} s")
            }
            Self::UnknownField(_) => {
                "session_id, or nothing for all; one memory by its path".into()
            }
            Self::InvalidLine(..) => "Nothing of the upload was stored".into(),
            Self::TooManyModels(limit) => format!("At most {limit} in one request body"),
            Self::TooManyLines(limit) => format!("At most {limit} lines in one upload"),
            Self::UploadTooLarge(limit) => format!("At most {limit} bytes of text in one upload"),
            Self::MemoryDisabled => {
                "The operator's configuration has memory.enabled = false".into()
            }
            Self::InvalidSessionId => "A session id has 1 to 128 of A-Z a-z 0-9 . _ : @ -".into(),
            Self::NotFound { nearest, .. } if !nearest.is_empty() => {
                format!("Did you mean: {}", nearest.join(", "))
            }
            Self::HeadTooLarge(limit) => format!("At most {limit} bytes (limits.head_bytes)"),
            Self::TooManyFields(limit) => format!("At most {limit} fields (limits.headers)"),
            Self::TargetTooLong(limit) => format!("At most {limit} bytes (limits.target_bytes)"),
            Self::BodyTooLarge(limit) => format!("At most {limit} bytes (limits.body_bytes)"),
            Self::UnsupportedCoding => "Use gzip, zstd, br or no content encoding".into(),
            Self::TooManyConnections => "Too many connections (limits.connections)".into(),
            Self::TooManyInFlight => "Too many requests at once (limits.in_flight)".into(),
            Self::TimedOut(_, Wait::Connect) => {
                "Connecting took too long (timeouts.connect)".into()
            }
            Self::TimedOut(_, Wait::FirstByte) => {
                "No answer began in time (timeouts.first_byte)".into()
            }
            _ => return None,
        })
    }

    /// When a retry may help, where time heals it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::LimitReached { resets_in, .. } | Self::TooManyFailures(resets_in) => {
                Some(Duration::from_secs(whole_seconds(*resets_in)))
            }
            // Somebody has to do something first.
            Self::KeysFull => None,
            _ => (self.side() == FaultSide::Router).then_some(Duration::from_secs(1)),
        }
    }
}

impl Quota {
    fn describe(self, limit: u64) -> String {
        let (unit, span) = match self {
            Self::Requests => ("request", "a minute"),
            Self::Tokens => ("token", "a minute"),
            Self::Concurrent => ("request", "at once"),
            Self::DayBudget => ("token", "a day (UTC)"),
            Self::MonthBudget => ("token", "a month (UTC)"),
        };
        let plural = if limit == 1 { "" } else { "s" };
        format!("{limit} {unit}{plural} {span}")
    }

    /// The last word of the `x-ratelimit-*` fields that tell of it.
    pub fn field_word(self) -> &'static str {
        match self {
            Self::Requests | Self::Concurrent => "requests",
            Self::Tokens | Self::DayBudget | Self::MonthBudget => "tokens",
        }
    }
}

/// Rounded up: whoever comes back then finds room.
fn whole_seconds(time: Duration) -> u64 {
    time.as_millis().div_ceil(1000).max(1) as u64
}
