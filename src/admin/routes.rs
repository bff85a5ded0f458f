//! What stands where on the admin port: who may ask is settled first, then path and method say what is asked.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::access::{self, Session};
use super::answer::{Answer, Denial, Reply};
use super::desk::Desk;
use super::request::Request;
use super::{
    accounts, assets, exposition, keys, memory, overview, playground, provider_test, requests,
    settings, usage,
};
use crate::audit::Who;
use crate::clock::rfc3339;
use crate::http::Method;
use crate::keys::Reload;
use crate::secret::Secret;

const ROOT: &str = "/admin/v1";
const SESSION: &str = "/admin/v1/session";
const LOG_IN: &str = "/admin/v1/login";
const LOG_OUT: &str = "/admin/v1/logout";
const PLAYGROUND: &str = "/admin/v1/playground";
const METRICS: &str = "/metrics";

/// Lets a request in by its head alone; tells as whom, where that takes a credential.
pub(super) fn admit(desk: &Desk, request: &Request) -> Result<Option<Who>, Denial> {
    access::check_host(request, &desk.config().admin)?;
    let path = request.path.as_str();
    let open = match path {
        SESSION | LOG_IN => true,
        METRICS => access::from_here(request),
        _ => !path.starts_with("/admin"),
    };
    if open {
        return Ok(None);
    }
    let judged = desk.access.judge(request).map(Some);
    match path {
        PLAYGROUND => judged.map_err(playground::refused),
        _ => judged,
    }
}

/// Does what a request asks for.
pub(super) async fn answer(
    desk: &Rc<Desk>,
    request: Request,
    who: Option<Who>,
) -> Result<Reply, Denial> {
    let reading = matches!(request.method, Method::Get | Method::Head);
    match (request.path.as_str(), request.method) {
        (SESSION, _) if reading => return Ok(session(desk.access.session(&request)).into()),
        (LOG_IN, Method::Post) => return log_in(desk, &request).map(Into::into),
        (LOG_OUT, Method::Post) => {
            let cookie = desk.access.log_out(&request);
            return Ok(Answer::of(204, "", Vec::new())
                .with("set-cookie", cookie)
                .into());
        }
        (SESSION, _) => return Err(not_allowed("GET, HEAD")),
        (LOG_IN | LOG_OUT, _) => return Err(not_allowed("POST")),
        (METRICS, _) if reading => return Ok(exposition::answer(desk).into()),
        _ => {}
    }
    let Some(segments) = request.segments(ROOT) else {
        if !reading {
            return Err(not_allowed("GET, HEAD"));
        }
        return assets::answer(&request).map(Into::into);
    };
    // Everything below the root has been let in as somebody.
    let who = who.ok_or_else(Denial::not_found)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    api(desk, &request, &segments, who).await
}

async fn api(
    desk: &Rc<Desk>,
    request: &Request,
    segments: &[&str],
    who: Who,
) -> Result<Reply, Denial> {
    let own = |text: &str| text.to_owned();
    let method = match request.method {
        Method::Head => Method::Get,
        method => method,
    };
    if method != Method::Get {
        let known = request.only(parameters(segments));
        known.map_err(|denial| match segments {
            ["playground"] => playground::refused(denial),
            _ => denial,
        })?;
    }
    let answer = match (segments, method) {
        (["overview"], Method::Get) => overview::answer(desk),
        (["requests"], Method::Get) => requests::answer(desk, request)?,
        (["config"], Method::Get) => settings::config(desk),
        (["log"], Method::Get) => settings::log(),
        (["log"], Method::Put) => settings::set_log(desk, request, who).await?,
        (["reload"], Method::Post) => reload(desk).await?,
        (["keys"], Method::Get) => keys::list(desk, request)?,
        (["keys"], Method::Post) => keys::create(desk, request, who).await?,
        (["keys", id], Method::Get) => keys::show(desk, id)?,
        (["keys", id], Method::Patch) => keys::change(desk, request, own(id), who).await?,
        (["keys", id], Method::Delete) => keys::delete(desk, request, own(id), who).await?,
        (["keys", id, "rotate"], Method::Post) => keys::rotate(desk, request, own(id), who).await?,
        (["vaults", id], Method::Delete) => keys::forget_vault(desk, own(id)).await?,
        (["usage"], Method::Get) => usage::answer(desk, request).await?,
        (["models"], Method::Get) => playground::models(desk, request)?,
        (["playground"], Method::Post) => return playground::run(desk, request, who).await,
        (["keys", id, "memories"], Method::Get) => memory::list(desk, request, id).await?,
        (["keys", id, "memories"], Method::Delete) => {
            memory::delete(desk, request, id, None, who).await?
        }
        (["keys", id, "memories", "export"], Method::Get) => {
            return memory::export(desk, request, id).await;
        }
        (["keys", id, "memories", "import"], Method::Post) => {
            return memory::import(desk, request, id, who).await;
        }
        (["keys", id, "memories", one], Method::Delete) => {
            memory::delete(desk, request, id, Some(one), who).await?
        }
        (["keys", id, "sessions"], Method::Get) => memory::sessions(desk, id).await?,
        (["accounts"], Method::Get) => accounts::list(desk),
        (["accounts", account, "providers"], Method::Get) => accounts::providers(desk, account),
        (["accounts", account, "providers", provider], Method::Post) => {
            accounts::store(desk, request, own(account), provider, who).await?
        }
        (["accounts", account, "providers", provider], Method::Delete) => {
            accounts::remove(desk, own(account), provider, None, who).await?
        }
        (["accounts", account, "providers", provider, id], Method::Delete) => {
            accounts::remove(desk, own(account), provider, Some(own(id)), who).await?
        }
        (["accounts", account, "providers", provider, "test"], Method::Post) => {
            provider_test::run(desk, account, provider, None).await?
        }
        (["accounts", account, "providers", provider, id, "test"], Method::Post) => {
            provider_test::run(desk, account, provider, Some(id)).await?
        }
        _ => {
            return Err(match methods(segments) {
                Some(allowed) => not_allowed(allowed),
                None => Denial::not_found(),
            });
        }
    };
    Ok(answer.into())
}

/// The parameters that what changes something may have: one that is misspelt must not widen what is asked for.
fn parameters(segments: &[&str]) -> &'static [&'static str] {
    match segments {
        ["keys", _] => &["forever"],
        ["keys", _, "memories", ..] => &["session"],
        _ => &[],
    }
}

/// The methods of a path that exists.
fn methods(segments: &[&str]) -> Option<&'static str> {
    Some(match segments {
        ["overview" | "requests" | "config" | "accounts" | "usage" | "models"] => "GET, HEAD",
        ["log"] => "GET, HEAD, PUT",
        ["reload" | "playground"] => "POST",
        ["keys"] => "GET, HEAD, POST",
        ["keys", _] => "GET, HEAD, PATCH, DELETE",
        ["keys", _, "rotate"] => "POST",
        ["keys", _, "memories"] => "GET, HEAD, DELETE",
        ["keys", _, "memories", "export"] => "GET, HEAD",
        ["keys", _, "memories", "import"] => "POST",
        ["keys", _, "memories", _] | ["vaults", _] => "DELETE",
        ["keys", _, "sessions"] => "GET, HEAD",
        ["accounts", _, "providers"] => "GET, HEAD",
        ["accounts", _, "providers", _] => "POST, DELETE",
        ["accounts", _, "providers", _, "test"] => "POST",
        ["accounts", _, "providers", _, _] => "DELETE",
        ["accounts", _, "providers", _, _, "test"] => "POST",
        _ => return None,
    })
}

fn not_allowed(allowed: &str) -> Denial {
    Denial::new(405, "Method Not Allowed").with("allow", allowed)
}

#[derive(Serialize)]
struct ShownSession {
    authenticated: bool,
    csrf: Option<String>,
    expires_at: Option<String>,
    version: &'static str,
}

fn session(session: Option<Session>) -> Answer {
    Answer::json(&ShownSession {
        authenticated: session.is_some(),
        expires_at: session.as_ref().map(|session| rfc3339(session.expires_at)),
        csrf: session.map(|session| session.csrf),
        version: env!("CARGO_PKG_VERSION"),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogIn {
    token: String,
}

fn log_in(desk: &Desk, request: &Request) -> Result<Answer, Denial> {
    // A form of another page cannot send this type without asking first.
    let media_type = request.field("content-type").unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Denial::new(415, "Not a JSON body").hint("Content-Type: application/json"));
    }
    let LogIn { token } = request.json()?;
    let token = Secret::new(token.into_bytes());
    match desk.access.log_in(request, &token) {
        Ok((started, cookie)) => Ok(session(Some(started)).with("set-cookie", cookie)),
        Err(denial) => {
            let peer = request.peer.map(|peer| peer.ip().to_string());
            tracing::warn!(
                peer,
                status = denial.status,
                "log-in to the admin port refused"
            );
            Err(denial)
        }
    }
}

#[derive(Serialize)]
struct Looked {
    result: &'static str,
    generation: u64,
    keys: usize,
    reason: Option<String>,
}

async fn reload(desk: &Desk) -> Result<Answer, Denial> {
    let looked = desk.reload().await?;
    let status = desk.keys.status();
    Ok(Answer::json(&Looked {
        result: match &looked {
            Ok(Reload::Taken { .. }) => "taken",
            Ok(_) => "unchanged",
            Err(_) => "refused",
        },
        generation: status.generation,
        keys: status.keys,
        reason: looked.err().map(|refusal| refusal.to_string()),
    }))
}
