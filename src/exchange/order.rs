//! What a request orders: which model, from which providers, with which edits to its body.
//!
//! `take` reads the request once, whole; `Order::outgoing` writes it down for one provider and one key, as often as
//! `attempts` asks. The caller's bytes are never re-written: the message is the caller's buffer with splices over it.

mod routes;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use super::Tenant;
use super::body::Request;
use super::settings::{Mode, Settings, Sources};
use crate::config::StreamUsage;
use crate::error::Fault;
use crate::http::Name;
use crate::http::encode::{self, CredentialLine, UpstreamHead};
use crate::http::token::carries_memory_key;
use crate::net;
use crate::plan::Base;
use crate::provider::body::{self, BodyError, RequestBody};
use crate::provider::operation::{Operation, Task};
use crate::provider::query::clean_query;
use crate::provider::routing::Choice;
use crate::provider::splice::{Piece, Splices};
use crate::provider::upstream_form::{self, Address};
use crate::provider::{Dialect, Kind, multipart, stream_usage};
use crate::secret::Secret;
use crate::traces::Context;
use crate::upstream::{Outgoing, Part};
use crate::worker::Worker;
pub(super) use routes::{Route, Routes};
use routes::{check_repeats, routes};

/// Up to here, head and body are put together and leave in one send; beyond, copying costs more than another send.
const ASSEMBLED_BYTES_MAX: usize = 16 * 1024;

/// No provider's model has a longer name; what is longer is noise in logs and answers.
const MODEL_BYTES_MAX: usize = 512;

const ANTHROPIC_VERSION: (Name, &str, &str) =
    (Name::AnthropicVersion, "anthropic-version", "2023-06-01");

/// A request understood.
pub(super) struct Order<'a> {
    /// The model as the caller wrote it; empty for a form that names none.
    pub(super) model: Arc<str>,
    /// Who can serve it, best first.
    pub(super) routes: Routes,
    pub(super) operation: &'a Operation<'a>,
    pub(super) body: RequestBody,
    /// What it wants of memory.
    pub(super) settings: Settings,
    /// What memory puts into the body, and where.
    pub(super) insertion: Option<(usize, Vec<u8>)>,
    query: Option<String>,
    /// What makes a stream end with counts, where its caller did not ask for them.
    usage_question: Option<(Range<usize>, Vec<u8>)>,
}

/// Reads the request.
pub(super) fn take<'a>(
    request: &Request<'_>,
    operation: &'a Operation<'a>,
    tenant: &Tenant,
    worker: &Worker,
) -> Result<Order<'a>, Fault> {
    let content_type = request
        .head
        .first(Name::ContentType, &request.bytes)
        .unwrap_or_default();
    // Forms are for files; everything else is JSON, whatever it is called.
    let is_form = operation.task.takes_form() && multipart::is_form(content_type);
    let sources = Sources {
        head: request.head,
        bytes: &request.bytes,
        suffix: tenant.mode,
        config: &worker.config.memory,
    };
    let mut conversation = operation.task.converses() && sources.mode(None) != Mode::Off;
    let mut body = scan(
        request,
        operation,
        is_form.then_some(content_type),
        conversation,
    )?;
    let settings = sources.with(Some(&body.settings))?;
    if operation.task.converses() && !conversation && settings.mode != Mode::Off {
        // The body alone switches memory on.
        conversation = true;
        body = scan(request, operation, None, conversation)?;
    }
    let optional = is_form || operation.task.has_default_model(body.has_prompt);
    let stated = body
        .model
        .as_ref()
        .is_some_and(|model| !model.range.is_empty());
    let unnamed = optional && operation.model.is_none() && !stated;
    let model = match (&operation.model, &body.model) {
        (Some(in_path), _) => Cow::Borrowed(in_path.name.as_bytes()),
        (None, Some(model)) => model.bytes(request.body()),
        (None, None) if unnamed => Cow::Borrowed(&b""[..]),
        (None, None) => return Err(Fault::MissingField("model")),
    };
    if model.len() > MODEL_BYTES_MAX {
        return Err(Fault::ModelTooLong);
    }
    if carries_memory_key(&model) {
        return Err(Fault::MisplacedMemoryKey("model"));
    }
    let model = worker.model(&model);
    let is_chat = matches!(operation.task, Task::ChatCompletions | Task::Messages);
    if is_chat && !(body.has_messages || body.has_input) {
        return Err(Fault::MissingField("messages"));
    }
    let routes = routes(&model, unnamed, operation.dialect, tenant, worker)?;
    check_repeats(&body, request.body(), &model, &routes.first, tenant, worker)?;
    let query = request
        .head
        .query(&request.bytes)
        .and_then(clean_query)
        .map(|query| query.into_owned());
    let in_query = query.as_deref().unwrap_or_default().as_bytes();
    if carries_memory_key(operation.path.as_bytes()) || carries_memory_key(in_query) {
        return Err(Fault::MisplacedMemoryKey("request target"));
    }
    let counted = matches!(operation.task, Task::ChatCompletions | Task::Completions);
    let usage_question = counted
        .then(|| stream_usage::question(&body, request.body()))
        .flatten();
    Ok(Order {
        model,
        routes,
        operation,
        body,
        usage_question,
        settings,
        insertion: None,
        query,
    })
}

/// Finds what matters in the body, as JSON or as a form of this type.
fn scan(
    request: &Request<'_>,
    operation: &Operation<'_>,
    form: Option<&[u8]>,
    conversation: bool,
) -> Result<RequestBody, Fault> {
    let scanned = match form {
        Some(content_type) => multipart::scan(request.body(), content_type),
        None if conversation => body::scan_conversation(request.body(), operation.dialect),
        None if operation.dialect == Dialect::OpenAi && !operation.task.converses() => {
            body::scan_without_messages(request.body())
        }
        None => body::scan(request.body(), operation.dialect),
    };
    scanned.map_err(|error| match error {
        BodyError::InvalidJson => Fault::InvalidJson,
        BodyError::InvalidForm => Fault::InvalidForm,
        BodyError::TooManyModels => Fault::TooManyModels(body::MODELS_MAX),
    })
}

impl Order<'_> {
    /// Whether this provider is asked for counts that the caller did not ask for.
    pub(super) fn asks_for_usage(&self, route: &Route, worker: &Worker) -> bool {
        self.usage_question.is_some()
            && worker.config.usage.stream == StreamUsage::Exact
            && worker.config.providers.get(route.provider).usage == StreamUsage::Exact
    }

    /// The request for one provider, over `request`'s buffer, which comes back with it.
    pub(super) fn outgoing(
        &self,
        route: &Route,
        key: Option<&Secret>,
        base: &Base,
        request: &mut Request<'_>,
        trace: Option<&Context>,
        worker: &Worker,
    ) -> Result<Outgoing, Fault> {
        let traceparent = trace.map(|trace| trace.to_field());
        let provider = worker.config.providers.get(route.provider);
        let (prefix, model_sent) = route.split(&self.model);
        // Edits of one pass over one body do not overlap; should they, the body is not what it seemed.
        let mut splices = self
            .body
            .edits(request.body(), prefix)
            .map_err(|_| Fault::InvalidJson)?;
        if let Some((range, question)) = &self.usage_question
            && self.asks_for_usage(route, worker)
        {
            splices
                .replace(range.clone(), question.as_slice())
                .map_err(|_| Fault::InvalidJson)?;
        }
        if let Some((at, bytes)) = &self.insertion {
            splices
                .insert(*at, bytes.as_slice())
                .map_err(|_| Fault::InvalidJson)?;
        }
        let address = Address {
            kind: provider.kind,
            base_path: &base.path,
            azure: worker.plan.azure(route.provider),
        };
        let choice = Choice {
            provider: route.provider.0,
            prefix,
            model_sent,
        };
        let target = address.target(self.operation, &choice, self.query.as_deref());
        let form = upstream_form::credential_form(provider.kind, self.operation.dialect, key);
        let credential = form
            .header()
            .zip(key)
            .map(|((name, scheme), key)| CredentialLine {
                name,
                scheme,
                key: key.expose(),
            });
        let needs_version =
            provider.kind == Kind::Anthropic && self.operation.dialect == Dialect::Anthropic;
        let with = UpstreamHead {
            target: [target.base, &target.rest],
            authority: &base.authority,
            credential,
            defaults: if needs_version {
                &[ANTHROPIC_VERSION]
            } else {
                &[]
            },
            traceparent: traceparent.as_deref(),
            new_trace: trace.is_some_and(|trace| trace.parent.is_none()),
            body_bytes: splices.len_after(request.body().len()),
            decoded: request.decoded,
        };
        let mut start =
            net::buffer(request.head.end + 512 + with.body_bytes.min(ASSEMBLED_BYTES_MAX));
        encode::upstream_request(&mut start, request.head, &request.bytes, &with);
        let (start, rest) = lay_out(start, &splices, request.body(), request.body_offset());
        Ok(Outgoing {
            start,
            rest,
            body: request.take_buffer(),
        })
    }
}

/// Lays the message out behind its head: what is worth copying together with it or with each other, since each send is
/// a packet of its own, and runs of the caller's bytes that are sent as they lie, `offset` behind the buffer's start.
fn lay_out(
    mut start: Vec<u8>,
    splices: &Splices,
    body: &[u8],
    offset: usize,
) -> (Vec<u8>, Vec<Part>) {
    let start_bytes_max = start.len() + 2 * ASSEMBLED_BYTES_MAX;
    let mut rest: Vec<Part> = Vec::new();
    for piece in splices.pieces(body.len()) {
        let small = match piece {
            Piece::New(bytes) => bytes,
            Piece::Kept(range) if range.len() <= ASSEMBLED_BYTES_MAX => &body[range],
            Piece::Kept(range) => {
                rest.push(Part::Body(offset + range.start..offset + range.end));
                continue;
            }
        };
        match rest.last_mut() {
            _ if small.is_empty() => {}
            None if start.len() + small.len() <= start_bytes_max => start.extend_from_slice(small),
            Some(Part::Own(own)) => own.extend_from_slice(small),
            None | Some(Part::Body(_)) => rest.push(Part::Own(small.to_vec())),
        }
    }
    (start, rest)
}

#[cfg(test)]
mod tests;
