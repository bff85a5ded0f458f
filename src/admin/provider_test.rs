//! Does a stored provider key work? One cheap request says so: the list of models, which costs nothing.
//!
//! It goes to the provider's configured address only, over the product's own way upstream, and nothing of the answer
//! but its status is told: neither where the provider is nor what it said.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::accounts::canonical;
use super::answer::{Answer, Denial};
use super::desk::Desk;
use crate::config::ProviderId;
use crate::error::{Fault, Wait};
use crate::provider::upstream_form::credential_form;
use crate::provider::{Dialect, Kind};
use crate::secret::Secret;
use crate::upstream::{self, DialError, Failure};
use crate::worker::Worker;

/// A list of models takes no longer, and a person waits.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Serialize)]
struct Verdict<'a> {
    provider: &'a str,
    id: &'a str,
    /// None where it cannot be told.
    works: Option<bool>,
    status: Option<u16>,
    reason: Option<String>,
    latency_ms: f64,
}

/// `POST /accounts/{a}/providers/{p}[/{n}]/test`.
pub(super) async fn run(
    desk: &Desk,
    account: &str,
    provider: &str,
    id: Option<&str>,
) -> Result<Answer, Denial> {
    let missing = || Denial::new(404, "no such provider key");
    let provider = canonical(desk, provider).ok_or_else(missing)?;
    let snapshot = desk.keys.current();
    let mut stored = snapshot
        .provider_keys(account, &provider)
        .into_iter()
        .flat_map(|keys| keys.iter());
    let key = stored
        .find(|key| id.is_none_or(|id| key.id == id))
        .ok_or_else(missing)?;
    let worker = desk.worker();
    let place = worker
        .config
        .providers
        .find(&provider)
        .ok_or_else(missing)?;
    let started = Instant::now();
    let asked = ask(&worker, place, &key.secret).await;
    let latency_ms = (started.elapsed().as_secs_f64() * 1e4).round() / 10.0;
    let kind = worker.config.providers.get(place).kind;
    let (works, status, reason) = match asked {
        Ok(status) => {
            let (works, reason) = judge(kind, status);
            (works, Some(status), reason)
        }
        Err(fault) => (None, None, Some(fault.error())),
    };
    Ok(Answer::json(&Verdict {
        provider: &provider,
        id: &key.id,
        works,
        status,
        reason,
        latency_ms,
    }))
}

fn judge(kind: Kind, status: u16) -> (Option<bool>, Option<String>) {
    let refused = || (Some(false), Some("The provider refused the key".to_owned()));
    match status {
        200..=299 => (Some(true), None),
        401 | 403 => refused(),
        // Google's word for a key that is none.
        400 if kind == Kind::Google => refused(),
        429 => (
            None,
            Some("The provider limits this key's requests now".to_owned()),
        ),
        _ => (None, Some(format!("The provider answered {status}"))),
    }
}

/// The status of one request's answer.
async fn ask(worker: &Worker, place: ProviderId, key: &Secret) -> Result<u16, Fault> {
    let provider = worker.config.providers.get(place);
    let name = || provider.name.clone();
    let upstreams = &worker.upstreams;
    let is_down = |origin| upstreams.is_down(origin, Instant::now());
    let mut bases = worker.plan.bases_in_turn(place, is_down);
    let base = bases
        .next()
        .ok_or_else(|| Fault::ProviderNotConfigured(name()))?;
    let api_version = worker.plan.azure(place).map(|azure| azure.api_version);
    let target = target(provider.kind, &provider.name, &base.path, api_version);
    let message = message(provider.kind, &target, &base.authority, key);
    let connection = worker.upstreams.fresh(base.origin).await;
    let connection = connection.map_err(|error| match error {
        DialError::Unreachable => Fault::Unreachable(name()),
        DialError::NoDescriptor => Fault::TooManyConnections,
        DialError::TimedOut => Fault::TimedOut(name(), Wait::Connect),
    })?;
    let asked = upstream::status_of(connection, message, ANSWER_TIMEOUT).await;
    asked.map_err(|failure| match failure {
        Failure::TimedOut => Fault::TimedOut(name(), Wait::FirstByte),
        Failure::Closed | Failure::Truncated | Failure::Malformed | Failure::Unacknowledged => {
            Fault::Unreachable(name())
        }
    })
}

/// Where a provider lists its models; OpenRouter's list is open to all, so there it is what the key is for.
fn target(kind: Kind, name: &str, base: &str, api_version: Option<&str>) -> String {
    let base = base.trim_end_matches('/');
    let bare = || {
        let base = base.strip_suffix("/openai").unwrap_or(base);
        let version = ["/v1beta", "/v1"];
        let stripped = version
            .iter()
            .find_map(|version| base.strip_suffix(version));
        stripped.unwrap_or(base)
    };
    match kind {
        Kind::Anthropic => format!("{}/v1/models?limit=1", bare()),
        Kind::Google => format!("{}/v1beta/models?pageSize=1", bare()),
        Kind::Azure => {
            let base = base.strip_suffix("/openai").unwrap_or(base);
            match api_version.filter(|version| !version.is_empty()) {
                Some(version) => format!("{base}/openai/models?api-version={version}"),
                None => format!("{base}/openai/models"),
            }
        }
        Kind::OpenAi | Kind::Keyless if name == "openrouter" => format!("{base}/key"),
        Kind::OpenAi | Kind::Keyless => format!("{base}/models"),
    }
}

fn message(kind: Kind, target: &str, authority: &str, key: &Secret) -> Vec<u8> {
    let dialect = match kind {
        Kind::Anthropic => Dialect::Anthropic,
        Kind::Google => Dialect::Gemini,
        _ => Dialect::OpenAi,
    };
    let mut out = format!(
        "GET {target} HTTP/1.1\r\nhost: {authority}\r\naccept: application/json\r\nconnection: close\r\n"
    )
    .into_bytes();
    if kind == Kind::Anthropic {
        out.extend_from_slice(b"anthropic-version: 2023-06-01\r\n");
    }
    if let Some((name, scheme)) = credential_form(kind, dialect, Some(key)).header() {
        out.extend_from_slice(format!("{name}: {scheme}").as_bytes());
        out.extend_from_slice(key.expose());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_models_are_listed() {
        for (kind, name, base, expected) in [
            (Kind::OpenAi, "openai", "/v1", "/v1/models"),
            (Kind::OpenAi, "openrouter", "/api/v1", "/api/v1/key"),
            (Kind::Anthropic, "anthropic", "", "/v1/models?limit=1"),
            (
                Kind::Anthropic,
                "anthropic",
                "/x/v1/",
                "/x/v1/models?limit=1",
            ),
            (
                Kind::Google,
                "google",
                "/v1beta",
                "/v1beta/models?pageSize=1",
            ),
            (
                Kind::Google,
                "google",
                "/v1beta/openai",
                "/v1beta/models?pageSize=1",
            ),
            (
                Kind::Azure,
                "azure",
                "/openai",
                "/openai/models?api-version=1",
            ),
        ] {
            assert_eq!(target(kind, name, base, Some("1")), expected);
        }
    }
}
