//! (method, path) → endpoint.
//!
//! `exchange` asks once per request, before it authenticates: a miss says whether its answer is for everyone or only
//! for holders of a memory key. Paths are taken with, without and with a doubled version segment and with a trailing
//! slash, because SDKs disagree about where a base URL ends. Nothing is decoded or resolved apart from a Gemini
//! model's name: a path that is not spelled like an endpoint is none.

use std::cmp::Reverse;

use crate::provider::Dialect;
use crate::provider::operation::{Operation, Task};

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// `GET /`
    Root,
    /// `GET /health`
    Health,
    /// `GET /ready`
    Ready,
    /// `GET /v1/models`, `GET /v1beta/models`
    Models,
    /// Below `/v1/memory`
    Vault(VaultTask<'a>),
    /// About the calling key: what it has used, and the keys of its account.
    Account(AccountTask<'a>),
    /// A provider's to answer.
    Proxy(Operation<'a>),
}

/// What a key can ask about itself and its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountTask<'a> {
    /// `GET /v1/account/usage`
    Usage,
    /// `GET /v1/me/stats`
    Stats,
    /// `GET /v1/keys`
    ListKeys,
    /// `POST /v1/keys`
    MintKey,
    /// `DELETE /v1/keys/{id}`
    RevokeKey(&'a str),
}

impl<'a> AccountTask<'a> {
    /// By the path behind `/v1`, with the methods that it takes.
    fn of(method: &str, rest: &'a str) -> Option<(Self, &'static str)> {
        Some(match rest {
            "/account/usage" => (Self::Usage, GET),
            "/me/stats" => (Self::Stats, GET),
            "/keys" if method == POST => (Self::MintKey, GET_OR_POST),
            "/keys" => (Self::ListKeys, GET_OR_POST),
            _ => {
                let id = rest.strip_prefix("/keys/")?;
                (!id.is_empty() && !id.contains('/')).then_some((Self::RevokeKey(id), DELETE))?
            }
        })
    }

    fn template(self) -> &'static str {
        match self {
            Self::Usage => "/v1/account/usage",
            Self::Stats => "/v1/me/stats",
            Self::ListKeys | Self::MintKey => "/v1/keys",
            Self::RevokeKey(_) => "/v1/keys/{id}",
        }
    }
}

/// What is asked of a key's own vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VaultTask<'a> {
    /// `GET /v1/memory/stats`
    Stats,
    /// `DELETE /v1/memory`
    Clear,
    /// `DELETE /v1/memory/{id}`
    Delete(&'a str),
    /// `POST /v1/memory/upload`
    Upload,
    /// `POST /v1/memory/warmup`
    Warmup,
    /// `POST /v1/memory/prepare`
    Prepare,
    /// `POST /v1/memory/ingest`
    Ingest,
    /// `POST /v1/memory/search`
    Search,
    /// `GET /v1/memory/export`
    Export,
}

impl<'a> VaultTask<'a> {
    /// By the path behind `/v1/memory`, with the methods that it takes.
    fn of(rest: &'a str) -> Option<(Self, &'static str)> {
        Some(match rest {
            "" => (Self::Clear, DELETE),
            "/stats" => (Self::Stats, GET),
            "/export" => (Self::Export, GET),
            "/upload" => (Self::Upload, POST),
            "/warmup" => (Self::Warmup, POST),
            "/prepare" => (Self::Prepare, POST),
            "/ingest" => (Self::Ingest, POST),
            "/search" => (Self::Search, POST),
            _ => {
                let id = rest.strip_prefix('/').filter(|id| id.starts_with("mem_"))?;
                (!id.contains('/')).then_some((Self::Delete(id), DELETE))?
            }
        })
    }

    fn template(self) -> &'static str {
        match self {
            Self::Stats => "/v1/memory/stats",
            Self::Clear => "/v1/memory",
            Self::Delete(_) => "/v1/memory/{id}",
            Self::Upload => "/v1/memory/upload",
            Self::Warmup => "/v1/memory/warmup",
            Self::Prepare => "/v1/memory/prepare",
            Self::Ingest => "/v1/memory/ingest",
            Self::Search => "/v1/memory/search",
            Self::Export => "/v1/memory/export",
        }
    }
}

impl Endpoint<'_> {
    /// What it is called in logs and metrics; never the caller's own path.
    pub fn template(&self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::Models => "/v1/models",
            Self::Vault(task) => task.template(),
            Self::Account(task) => task.template(),
            Self::Proxy(operation) => operation.task.template(),
        }
    }
}

/// Why a request is for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No such endpoint.
    NotFound {
        /// Only the holder of a memory key is told.
        authenticated: bool,
    },
    /// The endpoint takes other methods.
    MethodNotAllowed {
        /// The `Allow` header's value.
        allow: &'static str,
        /// Only the holder of a memory key is told.
        authenticated: bool,
    },
}

/// What endpoints are called when a caller missed them.
const NAMES: [&str; 31] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/moderations",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/account/usage",
    "/v1/me/stats",
    "/v1/keys",
    "/v1/keys/{id}",
    "/v1/memory",
    "/v1/memory/stats",
    "/v1/memory/upload",
    "/v1/memory/warmup",
    "/v1/memory/prepare",
    "/v1/memory/ingest",
    "/v1/memory/search",
    "/v1/memory/export",
    "/v1beta/models",
    "/v1beta/models/{model}:generateContent",
    "/v1beta/models/{model}:streamGenerateContent",
    "/v1beta/models/{model}:countTokens",
    "/health",
    "/ready",
];

const NEAREST_MAX: usize = 3;
/// Edit distance takes time in proportion to both lengths; no endpoint's name is longer.
const COMPARED_BYTES_MAX: usize = 64;

const GET: &str = "GET, HEAD";
const POST: &str = "POST";
const GET_OR_POST: &str = "GET, HEAD, POST";
const DELETE: &str = "DELETE";

/// The endpoint of nearly all requests, which keeps nothing of its path.
pub fn usual(method: &str, path: &[u8]) -> Option<Endpoint<'static>> {
    let rest = path.strip_prefix(b"/v1").filter(|_| method == POST)?;
    let (path, dialect, task) = fixed(rest)?;
    Some(Endpoint::Proxy(Operation {
        dialect,
        task,
        version: "/v1",
        path,
        model: None,
    }))
}

/// Finds the endpoint of a request. `path` is without query.
pub fn endpoint<'a>(method: &str, path: &'a str) -> Result<Endpoint<'a>, Miss> {
    let open = match path.strip_suffix('/').unwrap_or(path) {
        "" if path == "/" => Some(Endpoint::Root),
        "/health" => Some(Endpoint::Health),
        "/ready" => Some(Endpoint::Ready),
        _ => None,
    };
    if let Some(endpoint) = open {
        return allow(method, GET, false, endpoint);
    }
    let (version, rest) = split_version(path);
    if rest == "/models" {
        return allow(method, GET, true, Endpoint::Models);
    }
    let task = rest.strip_prefix("/memory").and_then(VaultTask::of);
    // What is written so is an id that was left empty: it must not empty the vault.
    let no_id = path.ends_with('/') && method == DELETE;
    if let Some((task, methods)) = task.filter(|(task, _)| *task != VaultTask::Clear || !no_id) {
        return allow(method, methods, true, Endpoint::Vault(task));
    }
    if let Some((task, methods)) = AccountTask::of(method, rest) {
        return allow(method, methods, true, Endpoint::Account(task));
    }
    let operation = Operation::gemini(version.unwrap_or("/v1beta"), rest)
        .or_else(|| by_name(version.unwrap_or("/v1"), rest));
    match operation {
        Some(operation) => allow(method, POST, true, Endpoint::Proxy(operation)),
        None => Err(Miss::NotFound {
            authenticated: path.starts_with("/v1"),
        }),
    }
}

fn allow<'a>(
    method: &str,
    allow: &'static str,
    authenticated: bool,
    endpoint: Endpoint<'a>,
) -> Result<Endpoint<'a>, Miss> {
    // Mostly there is one, and it is that.
    if allow == method || allow.split(", ").any(|allowed| allowed == method) {
        Ok(endpoint)
    } else {
        Err(Miss::MethodNotAllowed {
            allow,
            authenticated,
        })
    }
}

/// Takes up to two version segments and one trailing slash off; the version nearest to the rest counts.
fn split_version(path: &str) -> (Option<&'static str>, &str) {
    let mut rest = path.strip_suffix('/').unwrap_or(path);
    let mut version = None;
    for _ in 0..2 {
        let split = ["/v1beta", "/v1"].into_iter().find_map(|segment| {
            let behind = rest.strip_prefix(segment)?;
            behind.starts_with('/').then_some((segment, behind))
        });
        let Some((segment, behind)) = split else {
            break;
        };
        version = Some(segment);
        rest = behind;
    }
    (version, rest)
}

fn by_name<'a>(version: &'static str, path: &'a str) -> Option<Operation<'a>> {
    let (dialect, task) = match fixed(path.as_bytes()) {
        Some((_, dialect, task)) => (dialect, task),
        _ if below(path, "/audio/") => (Dialect::OpenAi, Task::Audio),
        _ if below(path, "/images/") => (Dialect::OpenAi, Task::Images),
        _ => return None,
    };
    Some(Operation {
        dialect,
        task,
        version,
        path,
        model: None,
    })
}

/// A task by the whole path behind the version.
fn fixed(path: &[u8]) -> Option<(&'static str, Dialect, Task)> {
    const FIXED: [(&str, Dialect, Task); 7] = [
        ("/chat/completions", Dialect::OpenAi, Task::ChatCompletions),
        ("/completions", Dialect::OpenAi, Task::Completions),
        ("/embeddings", Dialect::OpenAi, Task::Embeddings),
        ("/responses", Dialect::OpenAi, Task::Responses),
        ("/moderations", Dialect::OpenAi, Task::Moderations),
        ("/messages", Dialect::Anthropic, Task::Messages),
        (
            "/messages/count_tokens",
            Dialect::Anthropic,
            Task::CountTokens,
        ),
    ];
    FIXED
        .into_iter()
        .find(|(fixed, ..)| fixed.as_bytes() == path)
}

/// `path` goes on below `root` in plain segments, so that it cannot climb out again at the provider.
fn below(path: &str, root: &str) -> bool {
    let plain = |segment: &str| {
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        !matches!(segment, "" | "." | "..") && segment.bytes().all(safe)
    };
    path.strip_prefix(root)
        .is_some_and(|rest| rest.split('/').all(plain))
}

/// Endpoints that are spelled like a path that is none, the likest first, at most 3. Takes many times what an answer
/// takes: for those who are told.
pub fn nearest(path: &str) -> Vec<&'static str> {
    let asked: String = path.chars().take(COMPARED_BYTES_MAX).collect();
    let alike = |name: &&'static str| {
        // In steps of a thousandth: a float cannot be sorted by.
        Reverse((strsim::normalized_damerau_levenshtein(name, &asked) * 1000.0) as u32)
    };
    let mut names = NAMES.to_vec();
    names.sort_by_cached_key(alike);
    names.truncate(NEAREST_MAX);
    names
}

#[cfg(test)]
mod tests;
