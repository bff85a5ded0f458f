//! The endpoints that the router answers by itself: root, health, readiness, models, and OPTIONS on anything.
//!
//! `exchange` calls in after it has authenticated where that is needed. Every answer is made from what the worker
//! already holds; nothing here waits.

use super::{Exchange, Tenant};
use crate::error::Fault;
use crate::keys::{KeyRecord, Snapshot, model_allowed};
use crate::provider::{Dialect, Kind};
use crate::respond::{self, Context, quoted};
use crate::route::{self, Endpoint, Miss};
use crate::worker::Worker;

/// How long a browser may remember what a preflight allowed, in seconds.
const PREFLIGHT_AGE: &str = "600";

/// The answer to a local endpoint.
pub(super) fn answer(
    endpoint: &Endpoint<'_>,
    tenant: Option<&Tenant>,
    exchange: &Exchange<'_>,
) -> Result<Vec<u8>, Fault> {
    let context = exchange.context();
    let body = match (endpoint, tenant) {
        (Endpoint::Health, _) => "{\"status\": \"ok\"}".to_owned(),
        (Endpoint::Ready, _) => ready(exchange)?,
        (Endpoint::Models, Some(tenant)) => {
            let dialect = exchange.dialect.unwrap_or(Dialect::OpenAi);
            models_of(exchange.worker, &tenant.snapshot, &tenant.key, dialect)
        }
        (Endpoint::Models | Endpoint::Vault(_) | Endpoint::Account(_) | Endpoint::Proxy(_), _) => {
            return Err(Fault::NoMemoryKey);
        }
        (Endpoint::Root, _) => format!(
            "{{\"name\": \"MemoryRouter\", \"version\": \"{}\", \"docs\": \"README.md\", \"endpoints\": \
             [\"/v1/chat/completions\", \"/v1/responses\", \"/v1/messages\", \
             \"/v1beta/models/{{model}}:generateContent\", \"/v1/models\", \"/health\", \"/ready\"]}}",
            env!("CARGO_PKG_VERSION")
        ),
    };
    Ok(respond::json(200, body.as_bytes(), &[], &context))
}

/// Ready means: keys are loaded (a worker does not run without) and the router is not going down.
fn ready(exchange: &Exchange<'_>) -> Result<String, Fault> {
    // Whoever asks an old process for the one that serves on the same sockets now hears of that one.
    let handed_over = exchange.worker.shared.successor.serves();
    if exchange.worker.draining() && !handed_over {
        return Err(Fault::Draining);
    }
    let status = exchange.worker.keys.status();
    let refused = match &status.last_refusal {
        Some(reason) => quoted(reason),
        None => "null".to_owned(),
    };
    Ok(format!(
        "{{\"status\": \"ready\", \"snapshot\": {{\"generation\": {}, \"keys\": {}, \"refusals\": {}, \
         \"last_refusal\": {refused}}}}}",
        status.generation, status.keys, status.refusals
    ))
}

/// The models of the providers that a key's account can pay, as far as the key allows them; for Google's SDKs those of
/// the providers that speak with them once more, in the form that they read.
pub fn models_of(
    worker: &Worker,
    snapshot: &Snapshot,
    key: &KeyRecord,
    dialect: Dialect,
) -> String {
    let config = &worker.config;
    let providers: Vec<&str> = config
        .providers
        .iter()
        .map(|(_, provider)| provider)
        .filter(|provider| !provider.base_urls.is_empty())
        .filter(|provider| {
            provider.kind == Kind::Keyless
                || snapshot
                    .provider_keys(&key.grant.account, &provider.name)
                    .is_some()
        })
        .map(|provider| provider.name.as_str())
        .collect();
    let names = &worker.plan.table.prefixes;
    let allowed = |provider: &str, model: &str| {
        let provider = config.providers.find(provider);
        provider.is_some_and(|it| model_allowed(key, names, it.0, model))
    };
    let once_more = |provider: &str| {
        let provider = config.providers.find(provider);
        let speaks = |it| config.providers.get(it).speaks(Dialect::Gemini);
        dialect == Dialect::Gemini && provider.is_some_and(speaks)
    };
    config.catalogue.list(&providers, allowed, once_more)
}

/// OPTIONS: what may be asked here, and for a browser whether its page may ask it.
pub(super) fn options(path: &str, context: &Context<'_>) -> Vec<u8> {
    let allow = allowed_methods(path);
    let mut fields = vec![("allow", allow.to_owned())];
    if context.allowed_origin.is_some() {
        fields.push(("access-control-allow-methods", allow.to_owned()));
        // `*` does not cover Authorization (Fetch standard, "CORS non-wildcard request-header name").
        fields.push((
            "access-control-allow-headers",
            "authorization, *".to_owned(),
        ));
        fields.push(("access-control-max-age", PREFLIGHT_AGE.to_owned()));
    }
    respond::empty(&fields, context)
}

/// The methods of a path; of all endpoints together where there is none.
fn allowed_methods(path: &str) -> &'static str {
    match route::endpoint("OPTIONS", path) {
        Err(Miss::MethodNotAllowed { allow: "POST", .. }) => "POST, OPTIONS",
        Err(Miss::MethodNotAllowed {
            allow: "DELETE", ..
        }) => "DELETE, OPTIONS",
        Err(Miss::MethodNotAllowed {
            allow: "GET, HEAD, POST",
            ..
        }) => "GET, HEAD, POST, OPTIONS",
        Err(Miss::MethodNotAllowed { .. }) => "GET, HEAD, OPTIONS",
        _ => "GET, HEAD, POST, DELETE, OPTIONS",
    }
}
