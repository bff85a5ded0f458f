//! What every answer of an exchange has in common: the context it is made in, the fields that are ours, its writing.

use std::net::IpAddr;
use std::time::Instant;

use super::recall::Recall;
use super::{Caller, Exchange, Next, Stop, Tenant, Unread, needs_key};
use crate::config::ErrorFormat;
use crate::error::Fault;
use crate::http::token::carries_memory_key;
use crate::http::{Method, Name, encode};
use crate::limits::Permit;
use crate::net;
use crate::provider::answer::{Observed, Usage};
use crate::provider::operation::Task;
use crate::provider::{Dialect, expected};
use crate::record::{Ended, ForeignId};
use crate::relay::{self, End, Tap};
use crate::respond::{self, Context};
use crate::route::{self, Endpoint, Miss};
use crate::secret::Secret;
use crate::upstream::Answer;

use super::attempts::Attempt;
use super::order::Route;

impl Exchange<'_> {
    /// What an answer of the router's own is made in.
    pub(super) fn context(&self) -> Context<'_> {
        Context {
            request_id: self.record.request_id.as_bytes(),
            dialect: self.dialect,
            dialect_errors: self.worker.config.errors.format == ErrorFormat::Dialect,
            close: self.next() != Next::Exchange,
            head_only: self.method == Method::Head,
            allowed_origin: self.allowed_origin.as_deref(),
        }
    }

    /// What becomes of the connection if all goes well from here.
    pub(super) fn next(&self) -> Next {
        if self.unread != Unread::Body && self.keep_alive && !self.worker.closes_connections() {
            Next::Exchange
        } else {
            Next::Linger
        }
    }

    /// A provider's head as the caller gets it, its own fields untouched.
    pub(super) fn response_head(&mut self, attempt: &Attempt, recall: &Recall) -> Vec<u8> {
        let Answer { head, bytes, .. } = &*attempt.answer;
        self.record.status = Some(head.line.status);
        let id = id_of(&attempt.answer).filter(|_| !attempt.id_is_secret);
        self.record.provider_request_id = id.map(ForeignId::new).unwrap_or_default();
        // The start of the body comes behind it.
        let mut out = net::buffer(bytes.len() + 512);
        encode::downstream_response(
            &mut out,
            head,
            bytes,
            relay::framing_for(attempt.framing, self.version, attempt.cut),
            encode::OwnFields {
                cors: self.allowed_origin.is_some(),
                session: recall.settings.session.is_some(),
            },
        );
        respond::common(&mut out, &self.context());
        recall.fields(&mut out, &self.record);
        out.extend_from_slice(b"\r\n");
        out
    }

    pub(super) fn tap(&self, answer: &Answer, dialect: Dialect, with_text: bool) -> Tap {
        let content_type = answer.head.first(Name::ContentType, &answer.bytes);
        let content_type = content_type.filter(|_| is_uncoded(answer));
        let mut tap = Tap::new(dialect, content_type.unwrap_or_default(), with_text);
        if matches!(answer.head.line.status, 200..300) && self.task.is_some_and(Task::generates) {
            tap.bills();
        }
        tap
    }

    /// What the request that ends `buffer` may have cost.
    fn asked(&self, buffer: &[u8]) -> u64 {
        let body_bytes = self.record.request_bytes as usize;
        let body = &buffer[buffer.len().saturating_sub(body_bytes)..];
        self.task.map_or(0, |task| expected::tokens(task, body))
    }

    /// The caller has left before an answer came to the request that ends `buffer`; its provider has it, and bills for
    /// it.
    pub(super) fn sent_in_vain(&mut self, buffer: &[u8]) {
        let mut nothing = Observed::default();
        nothing.estimate(|| self.asked(buffer), true);
        self.record.usage = nothing.usage;
    }

    /// Counts toward the key's limits what the exchange has used up to `now`.
    pub(super) fn uses(&self, permit: Option<Permit>, tenant: &Tenant, now: Instant) {
        let tokens = tokens_used(&self.record.usage);
        match permit {
            Some(permit) => permit.settle(tokens),
            None => self
                .worker
                .shared
                .key_limits
                .used(&tenant.key.id, tokens, now),
        }
    }

    /// Takes what was seen of an answer to the request that ends `buffer`.
    pub(super) fn observed(&mut self, seen: &mut Observed, buffer: &[u8]) {
        let failed = seen.error || self.record.status.is_some_and(|status| status >= 400);
        let caller_left = self.record.ended == Ended::Relayed(End::CallerLeft) && !failed;
        seen.estimate(|| self.asked(buffer), caller_left);
        self.record.usage = seen.usage;
        if failed && self.record.ended == Ended::Relayed(End::Complete) {
            self.record.ended = Ended::ProviderError;
        }
    }

    /// Which provider is asked now; `model`, the caller's, is counted under the name that it has there.
    pub(super) fn goes_to(&mut self, route: &Route, model: &str) {
        self.record.provider = Some(self.worker.plan.name(route.provider));
        let (_, known) = route.split(model);
        if self.record.model.as_deref() != Some(known) {
            self.record.model = Some(known.into());
        }
    }

    /// What becomes of a caller whose key opens nothing: for too many of them it costs its connection.
    pub(super) fn wrong_key(&mut self, peer: Option<IpAddr>) -> Fault {
        let (brake, config) = (&self.worker.shared.auth_brake, &self.worker.config);
        let per_minute = config.limits.auth_failures_max;
        let wait = peer.and_then(|peer| brake.wrong_key(peer, per_minute, Instant::now()));
        match wait {
            Some(wait) => {
                self.keep_alive = false;
                Fault::TooManyFailures(wait)
            }
            None => Fault::UnknownMemoryKey,
        }
    }

    /// What a caller is told whose exchange stops; nothing if it has left, and not because the router cut it off.
    pub(super) fn last_word(&mut self, stop: Stop, cut: bool) -> Option<Vec<u8>> {
        let fault = match stop {
            Stop::Fault(fault) => {
                self.record.refused(&fault);
                fault
            }
            Stop::CallerLeft => {
                self.record.ended = Ended::CallerLeft;
                let fault = cut.then_some(Fault::Draining)?;
                self.record.status = Some(fault.status());
                fault
            }
        };
        Some(respond::fault(&fault, &self.context()))
    }

    /// Writes an answer of the router's own.
    pub(super) async fn answer(&mut self, caller: &mut Caller, answer: Vec<u8>) -> Next {
        if self.record.ended == Ended::Running {
            self.record.ended = Ended::Answered;
            self.record.status = respond::status_of(&answer);
        }
        self.record.response_bytes = respond::body_bytes(&answer);
        // As the answer says it.
        let next = self.next();
        caller
            .deadline
            .arm_writing(Instant::now(), self.worker.config.timeouts.body_idle);
        let (result, _) = caller.writer.write_all(answer).await;
        caller.deadline.disarm();
        if result.is_ok() { next } else { Next::Close }
    }
}

/// What an exchange counts toward its key's limits: what the usage store counts of it, so that a restart changes nothing.
fn tokens_used(usage: &Usage) -> u64 {
    let (input, output) = (usage.input.unwrap_or(0), usage.output.unwrap_or(0));
    input.saturating_add(output)
}

/// Settles a request whose answer is here, if its tokens were counted. If they are to be estimated, which can wait until
/// the caller has it, its place is free at least.
pub(super) fn settled(mut permit: Permit, tap: &mut Tap) -> Option<Permit> {
    let seen = tap.counted();
    if seen.is_counted() {
        permit.settle(tokens_used(&seen.usage));
        return None;
    }
    permit.leave();
    Some(permit)
}

/// What a provider calls its answer.
pub(super) fn id_of(answer: &Answer) -> Option<&[u8]> {
    let Answer { head, bytes, .. } = answer;
    let id = head.first(Name::XRequestId, bytes);
    id.or_else(|| head.first(Name::RequestId, bytes))
}

/// Whether a provider's text, which is to be logged, holds the key that it was sent, or a memory key.
pub(super) fn carries_credential(text: &[u8], key: Option<&Secret>) -> bool {
    let holds = |key: &Secret| memchr::memmem::find(text, key.expose()).is_some();
    key.is_some_and(holds) || carries_memory_key(text)
}

/// Whether an answer is a stream of events.
pub(super) fn is_event_stream(answer: &Answer) -> bool {
    let media_type = answer.head.first(Name::ContentType, &answer.bytes);
    media_type
        .is_some_and(|it| it.len() >= 17 && it[..17].eq_ignore_ascii_case(b"text/event-stream"))
}

/// Whether an answer's content is to be read as it is: it has no coding, or one that changes nothing.
pub(super) fn is_uncoded(answer: &Answer) -> bool {
    let mut codings = answer.head.all(Name::ContentEncoding);
    codings.all(|field| {
        let coding = field.value(&answer.bytes);
        coding.is_empty() || coding.eq_ignore_ascii_case(b"identity")
    })
}

/// The dialect in which errors of this path are best told.
pub(super) fn dialect_of(endpoint: &Result<Endpoint<'_>, Miss>, path: &str) -> Option<Dialect> {
    match endpoint {
        Ok(Endpoint::Proxy(operation)) => Some(operation.dialect),
        _ if is_gemini(path) => Some(Dialect::Gemini),
        _ if path.contains("/messages") => Some(Dialect::Anthropic),
        _ if needs_key(endpoint) => Some(Dialect::OpenAi),
        _ => None,
    }
}

/// Only Google's paths have a colon behind the model; but OpenAI's fine-tuned models have some in their names.
fn is_gemini(path: &str) -> bool {
    let model = path.split_once("/models/").map(|(_, model)| model);
    path.contains("/v1beta")
        || model.is_some_and(|model| model.contains(':') && !model.starts_with("ft:"))
}

/// A miss as the caller is told of it.
pub(super) fn fault_of(miss: Miss, path: &str) -> Fault {
    match miss {
        Miss::NotFound { .. } => Fault::NotFound {
            path: path.to_owned(),
            nearest: route::nearest(path),
        },
        Miss::MethodNotAllowed { allow, .. } => Fault::MethodNotAllowed(allow),
    }
}
