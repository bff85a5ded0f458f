//! The endpoints on a key's own vault: look into it, fill it, empty it, without any provider.
//!
//! `exchange` calls `serve` once the key is known; no field of a request names a vault. Writes are answered when they
//! are durable. Here an error of the store is an error of the request, since there is nothing else to answer with.

mod export;
mod ingest;
mod lines;
mod shown;

pub use lines::{LINES_MAX, read as read_lines};

use super::settings::{self, Mode, Settings, Sources};
use super::{Caller, Exchange, Next, Stop, Tenant, body};
use crate::clock;
use crate::error::Fault;
use crate::http::Framing;
use crate::http::head::{Head, RequestLine};
use crate::memory::{Added, Browse, Delete, MemoryError, MemoryId, Query, VaultRef, block};
use crate::provider::body::{RequestBody, scan_conversation};
use crate::provider::operation::{Operation, Task};
use crate::provider::{Dialect, lossy};
use crate::respond;
use crate::route::VaultTask;

use body::Request;

/// What a JSON endpoint finds beside the members that it knows by name.
struct Asked<'h> {
    request: Request<'h>,
    body: RequestBody,
    settings: Settings,
}

/// `prepare` and `ingest` take the messages of any dialect: what tools gave back is told apart by Anthropic's form,
/// which no other has.
const CONVERSATION: Operation<'static> = Operation {
    dialect: Dialect::Anthropic,
    task: Task::Messages,
    version: "/v1",
    path: "/messages",
    model: None,
};

/// Answers a request on the vault.
pub(super) async fn serve(
    task: VaultTask<'_>,
    caller: &mut Caller,
    head: &Head<RequestLine>,
    framing: Framing,
    tenant: &Tenant,
    exchange: &mut Exchange<'_>,
) -> Result<Next, Stop> {
    if !exchange.worker.config.memory.enabled {
        return Err(Fault::MemoryDisabled.into());
    }
    let _in_flight = exchange.worker.begin().ok_or(Fault::TooManyInFlight)?;
    let vault = tenant.vault();
    let memory = exchange.worker.memory.clone();
    let asked = match task {
        VaultTask::Stats => {
            let stats = memory.stats(&vault).await.map_err(fault_of)?;
            let body = shown::stats(&tenant.key.id, &stats);
            return Ok(answer(body, caller, exchange).await);
        }
        VaultTask::Export => return export::serve(&vault, caller, exchange).await,
        _ => receive(task, caller, head, framing, tenant, exchange).await?,
    };
    let body = match task {
        VaultTask::Clear | VaultTask::Delete(_) => delete(task, &asked, &vault, exchange).await?,
        VaultTask::Upload => upload(&asked, &vault, exchange).await?,
        VaultTask::Prepare => prepare(&asked, &vault, exchange).await?,
        VaultTask::Ingest => ingest::serve(&asked, &vault, exchange).await?,
        VaultTask::Search => search(&asked, &vault, exchange).await?,
        VaultTask::Warmup | VaultTask::Stats | VaultTask::Export => {
            let stats = memory.warmup(&vault).await.map_err(fault_of)?;
            shown::warm(&stats)
        }
    };
    Ok(answer(body, caller, exchange).await)
}

async fn answer(body: String, caller: &mut Caller, exchange: &mut Exchange<'_>) -> Next {
    let answer = respond::json(200, body.as_bytes(), &[], &exchange.context());
    exchange.answer(caller, answer).await
}

/// Reads the body and the settings. An empty body says nothing; that of an upload is lines and no object.
async fn receive<'h>(
    task: VaultTask<'_>,
    caller: &mut Caller,
    head: &'h Head<RequestLine>,
    framing: Framing,
    tenant: &Tenant,
    exchange: &mut Exchange<'_>,
) -> Result<Asked<'h>, Stop> {
    let request = body::receive(caller, head, framing, exchange).await?;
    exchange.record.request_bytes = request.body().len() as u64;
    let is_object = task != VaultTask::Upload && !request.body().trim_ascii().is_empty();
    let body = match is_object {
        true => {
            scan_conversation(request.body(), Dialect::Anthropic).map_err(|_| Fault::InvalidJson)?
        }
        false => RequestBody::default(),
    };
    let sources = Sources {
        head: request.head,
        bytes: &request.bytes,
        suffix: tenant.mode,
        config: &exchange.worker.config.memory,
    };
    if matches!(task, VaultTask::Clear | VaultTask::Delete(_)) && tenant.mode.is_some() {
        let without = "A key deletes without :read, :write or :off behind it";
        return Err(Fault::InvalidParameter("key", without).into());
    }
    let settings = match task {
        VaultTask::Clear => sources.of_clearing(&body, request.body())?,
        _ => sources.of_vault_task(&body.settings)?,
    };
    Ok(Asked {
        request,
        body,
        settings,
    })
}

fn fault_of(error: MemoryError) -> Fault {
    match error {
        MemoryError::TooLarge(limit) => Fault::UploadTooLarge(limit),
        _ => Fault::MemoryUnavailable,
    }
}

async fn delete(
    task: VaultTask<'_>,
    asked: &Asked<'_>,
    vault: &VaultRef,
    exchange: &Exchange<'_>,
) -> Result<String, Fault> {
    let which = match (task, &asked.settings.session) {
        (VaultTask::Delete(id), _) => Delete::One(MemoryId::parse(id).ok_or(Fault::NoSuchMemory)?),
        (_, Some(session)) => Delete::Session(session.clone()),
        (_, None) => Delete::All,
    };
    let deleted = exchange.worker.memory.delete(vault, which).await;
    let deleted = deleted.map_err(fault_of)?;
    if deleted == 0 && matches!(task, VaultTask::Delete(_)) {
        return Err(Fault::NoSuchMemory);
    }
    Ok(format!("{{\"deleted\":{deleted}}}"))
}

async fn upload(
    asked: &Asked<'_>,
    vault: &VaultRef,
    exchange: &Exchange<'_>,
) -> Result<String, Fault> {
    let session = asked.settings.session.as_deref();
    let memories = lines::read(asked.request.body(), session, clock::unix_millis()).await?;
    let total = memories.len();
    // As with any other exchange: what is not to be remembered is read and left.
    let added = match asked.settings.remembers() {
        true => exchange.worker.memory.add(vault, memories).await,
        false => Ok(Added::default()),
    };
    let added = added.map_err(fault_of)?;
    Ok(shown::uploaded(session.is_some(), total, &added))
}

async fn prepare(
    asked: &Asked<'_>,
    vault: &VaultRef,
    exchange: &Exchange<'_>,
) -> Result<String, Fault> {
    let body = asked.request.body();
    if !asked.body.has_messages {
        return Err(Fault::MissingField("messages"));
    }
    let limit = limit(asked)?;
    // A request of a mode that recalls nothing would get nothing.
    let reads = matches!(asked.settings.mode, Mode::On | Mode::Read);
    let turn = asked.body.turn(body, &CONVERSATION);
    let Some(turn) = turn.filter(|_| reads) else {
        return Ok(shown::prepared(None, &[]));
    };
    let said = asked.body.said(body, &CONVERSATION);
    let text = block::cut(&turn.text);
    let query = Query {
        text: &text,
        session: asked.settings.session.as_deref(),
        limit,
        tokens_max: exchange.worker.config.memory.tokens_max,
        now_ms: clock::unix_millis(),
        present: &|text| said.holds(text),
    };
    let memories = exchange.worker.memory.recall(vault, &query).await;
    let memories = memories.map_err(fault_of)?;
    Ok(shown::prepared(block::render(&memories), &memories))
}

async fn search(
    asked: &Asked<'_>,
    vault: &VaultRef,
    exchange: &Exchange<'_>,
) -> Result<String, Fault> {
    let text = member(asked, "query").ok_or(Fault::MissingField("query"))?;
    let text = lossy::text(&text).ok_or(Fault::InvalidField("query"))?;
    let browse = Browse {
        text: text.trim(),
        session: asked.settings.session.as_deref(),
        limit: limit(asked)?,
        before: None,
        now_ms: clock::unix_millis(),
    };
    let memories = exchange.worker.memory.search(vault, &browse).await;
    Ok(shown::found(&memories.map_err(fault_of)?))
}

/// `limit` in the body, else what header and query say.
fn limit(asked: &Asked<'_>) -> Result<usize, Fault> {
    match member(asked, "limit") {
        Some(raw) if raw != "null" => settings::number(&raw).ok_or(Fault::InvalidField("limit")),
        _ => Ok(asked.settings.limit),
    }
}

/// The JSON of a top-level member. The body has been checked whole before.
fn member(asked: &Asked<'_>, name: &str) -> Option<String> {
    let value = sonic_rs::get(asked.request.body(), [name]).ok()?;
    Some(value.as_raw_str().to_owned())
}
