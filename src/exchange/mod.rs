//! One request and its response: the story, told once, with every branch in sight.
//!
//! `connection` calls `run` for each head it has read; `run` answers the caller, whatever happens, and says what
//! becomes of the connection. The stages it calls are straight: each takes what the one before it gave, and returns it
//! or a `Stop`. All answers of the router's own go through `Exchange::answer`.

mod account;
mod answers;
mod attempts;
mod body;
mod local;
mod order;
mod recall;
mod refuse;
mod remember;
mod settings;
mod vault;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::auth::{self, ModeSuffix};
use crate::clock;
use crate::error::Fault;
use crate::http::head::{Head, RequestLine};
use crate::http::{Framing, Method, Name, Version, framing};
use crate::keys::{Held, KeyRecord};
use crate::memory::VaultRef;
use crate::metrics::Live;
use crate::net::{self, Deadline, Reader, Writer};
use crate::provider::operation::Task;
use crate::provider::{Dialect, expected};
use crate::record::{Ended, Record};
use crate::relay::{self, End, Tap, UsageCut};
use crate::route::{self, Endpoint, Miss};
use crate::secret::{Secret, is_memory_key};
use crate::upstream::Watch;
use crate::worker::Worker;

use answers::{dialect_of, fault_of, is_event_stream, settled};
use recall::Recall;

pub use local::models_of;
pub use refuse::{refuse_head, turn_away};
pub use settings::is_session_id;
pub use vault::{LINES_MAX, read_lines};

/// A caller's connection, as an exchange uses it.
pub struct Caller {
    /// What it sends.
    pub reader: Reader,
    /// What it gets.
    pub writer: Writer,
    /// Its deadline.
    pub deadline: Deadline,
    /// Where it comes from, if that is an address.
    pub peer: Option<IpAddr>,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It can carry another exchange.
    Exchange,
    /// It ends, in a way that lets the caller read what was sent.
    Linger,
    /// It ends at once: the caller must see that its answer is not whole, or is gone anyway.
    Close,
}

/// How an exchange left its connection.
pub struct Over {
    /// What becomes of it.
    pub next: Next,
    /// When the exchange was over.
    pub at: Instant,
}

/// Why an exchange does not go its whole way.
pub enum Stop {
    /// The router answers by itself.
    Fault(Fault),
    /// Nobody is there to answer.
    CallerLeft,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Who calls: what a memory key stands for.
struct Tenant {
    key: Arc<KeyRecord>,
    snapshot: Held,
    /// A key that came with the request, good for this request only.
    provider_key: Option<Secret>,
    /// The memory mode that the key's suffix asks for.
    mode: Option<ModeSuffix>,
}

impl Tenant {
    /// The only vault that this request can reach.
    fn vault(&self) -> VaultRef {
        VaultRef::new(&self.key.vault, self.key.vault_key)
    }
}

/// What every answer to this request depends on.
struct Exchange<'w> {
    worker: &'w Worker,
    record: Record,
    dialect: Option<Dialect>,
    /// What a provider is asked for; none where nobody is.
    task: Option<Task>,
    method: Method,
    version: Version,
    /// Whether the caller wants to keep the connection.
    keep_alive: bool,
    unread: Unread,
    allowed_origin: Option<String>,
}

/// What the caller's reader still holds of the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// A body that has not come to its end: where the next request begins cannot be told.
    Body,
    /// The head alone, of this many bytes: there is no body.
    Head(usize),
    /// Nothing: whatever is there belongs to the next request.
    Nothing,
}

/// Serves the request that `head` begins, and that was there at `arrived`.
pub async fn run(
    caller: &mut Caller,
    head: &Head<RequestLine>,
    arrived: Instant,
    worker: &Worker,
) -> Over {
    let bytes = caller.reader.bytes();
    let mut exchange = Exchange::new(worker, head, bytes, arrived);
    exchange.record.trace = worker.trace(head, bytes).map(Box::new);
    let next = match exchange.serve(caller, head).await {
        Ok(next) => next,
        Err(stop) => match exchange.last_word(stop, caller.deadline.cut()) {
            Some(answer) => exchange.answer(caller, answer).await,
            None => Next::Close,
        },
    };
    if caller.deadline.cut() {
        exchange.record.drained();
    }
    let at = exchange.record.ends();
    let at_ms = clock::unix_millis();
    exchange.record.finish();
    if let Some(tracer) = &worker.shared.tracer {
        for span in exchange.record.spans() {
            tracer.record(span);
        }
    }
    if let Some(event) = exchange.record.event() {
        worker.usage.record(&event, at_ms.div_euclid(1000));
    }
    let unread = exchange.unread;
    worker
        .metrics
        .finished(exchange.record, worker.config.metrics.keys, at_ms);
    if let (Next::Exchange, Unread::Head(head_bytes)) = (next, unread) {
        caller.reader.discard(head_bytes);
    }
    Over { next, at }
}

impl<'w> Exchange<'w> {
    /// The story of a request.
    async fn serve(&mut self, caller: &mut Caller, head: &Head<RequestLine>) -> Result<Next, Stop> {
        let bytes = caller.reader.bytes();
        let framing =
            Framing::of_request(head, bytes).map_err(|error| Fault::Malformed(error.0))?;
        if matches!(framing, Framing::None | Framing::Length(0)) {
            self.unread = Unread::Head(head.end);
        }
        let path = match route::usual(head.line.method.as_str(), head.path_bytes(bytes)) {
            Some(_) => String::new(),
            None => head.path(bytes).to_owned(),
        };
        if head.line.method == Method::Options {
            let answer = local::options(&path, &self.context());
            return Ok(self.answer(caller, answer).await);
        }
        let (endpoint, tenant) = self.enter(head, bytes, &path, caller.peer)?;
        // What is rare is boxed: its futures would weigh on every exchange.
        let (operation, tenant) = match (&endpoint, &tenant) {
            (Endpoint::Proxy(operation), Some(tenant)) => (operation, tenant),
            (Endpoint::Vault(task), Some(tenant)) => {
                return Box::pin(vault::serve(*task, caller, head, framing, tenant, self)).await;
            }
            (Endpoint::Account(task), Some(tenant)) => {
                return Box::pin(account::serve(*task, caller, head, framing, tenant, self)).await;
            }
            (endpoint, tenant) => {
                let answer = local::answer(endpoint, tenant.as_ref(), self)?;
                return Ok(self.answer(caller, answer).await);
            }
        };
        self.task = Some(operation.task);
        self.record.billed = operation.task.is_billed();
        let worker = self.worker;
        let _in_flight = worker.begin().ok_or(Fault::TooManyInFlight)?;
        let mut permit = match worker.shared.key_limits.admit(&tenant.key) {
            Ok(permit) => permit,
            Err(fault) => {
                Box::pin(body::pass_over(caller, head, framing, self)).await?;
                return Err(fault.into());
            }
        };
        let limited = permit.is_some();

        let mut request = body::receive(caller, head, framing, self).await?;
        self.record.request_bytes = request.body().len() as u64;
        self.record.received = request.waited;
        let mut order = order::take(&request, operation, tenant, self.worker)?;
        self.record.model = Some(order.model.clone());
        if let Some(permit) = &mut permit {
            let tokens = || expected::tokens(operation.task, request.body());
            permit.reserve(&tenant.key.grant.limits, tokens)?;
        }
        let mut recall = Recall::new(&order, self);
        recall.recall(&mut order, &request, tenant, self).await;
        self.record.memory_recalled = u64::from(recall.tokens());
        self.record.memory = recall.took;

        let embedded = operation.task.embeds();
        let presumed = embedded.then(|| expected::tokens(operation.task, request.body()));
        let mut watch = Watch::new(&mut caller.reader);
        let answered = attempts::answer(&order, &mut request, tenant, &mut watch, self).await;
        let attempt = match answered {
            Ok(attempt) => attempt,
            Err(stop) => {
                if self.record.provider.is_some() {
                    self.uses(permit, tenant, Instant::now());
                }
                return Err(stop);
            }
        };
        let head = self.response_head(&attempt, &recall);
        // What the head says of the connection holds, whatever is ordered before the body is over.
        let next = self.next();
        let live = is_event_stream(&attempt.answer).then(|| Live::new(&worker.metrics.streams));
        let mut tap = self.tap(&attempt.answer, operation.dialect, recall.keeps_answer());
        if let Some(input) = presumed.filter(|_| attempt.answer.head.line.status < 400) {
            tap.presume(input);
        }
        let ends_with_connection = attempt.framing == Framing::UntilClose;
        let mut settle = |tap: &mut Tap| {
            permit = permit.take().and_then(|permit| settled(permit, tap));
        };
        let downstream = relay::Downstream {
            writer: &mut caller.writer,
            deadline: &caller.deadline,
            version: self.version,
            stream_idle_timeout: self.worker.config.timeouts.stream_idle,
            cut: attempt.cut.then(UsageCut::default),
            at_end: &mut settle,
        };
        let outcome = relay::relay(
            attempt.answer,
            attempt.framing,
            attempt.at,
            head,
            downstream,
            &mut watch,
            &mut tap,
        )
        .await;
        if !outcome.begun {
            self.uses(permit, tenant, Instant::now());
            let provider = self.record.provider.as_deref().unwrap_or_default();
            return Err(Fault::Unreachable(provider.to_owned()).into());
        }
        self.record.response_bytes = outcome.body_bytes;
        self.record.ended = Ended::Relayed(outcome.end);
        let now = self.record.ends();
        let seen = tap.finish();
        self.observed(seen, &outcome.request);
        net::recycle(outcome.request);
        if permit.is_some() || !limited {
            self.uses(permit, tenant, now);
        }
        if let Some(connection) = outcome.connection {
            self.worker.upstreams.give_back(connection, now);
        }
        let whole = remember::is_whole(seen, live.is_some(), operation.task, ends_with_connection);
        recall.called(&seen.call_id);
        let text = std::mem::take(&mut seen.text);
        remember::remember(recall, text, whole && !seen.calls, self);
        Ok(match outcome.end {
            End::Complete if outcome.framed => next,
            _ => Next::Close,
        })
    }

    fn new(worker: &'w Worker, head: &Head<RequestLine>, bytes: &[u8], arrived: Instant) -> Self {
        let origin = head
            .first(Name::Origin, bytes)
            .and_then(|value| std::str::from_utf8(value).ok());
        let allowed = |origin: &&str| {
            worker
                .config
                .cors
                .origins
                .iter()
                .any(|allowed| allowed == "*" || allowed == origin)
        };
        Self {
            worker,
            record: Record::new(worker.next_request_id(), head.line.method.as_str(), arrived),
            dialect: None,
            task: None,
            method: head.line.method,
            version: head.line.version,
            // What comes behind a CONNECT is meant for a tunnel.
            keep_alive: head.line.version == Version::Http11
                && head.line.method != Method::Connect
                && framing::keeps_alive(head, bytes, head.line.version),
            unread: Unread::Body,
            allowed_origin: origin.filter(allowed).map(str::to_owned),
        }
    }

    /// Where the request goes, and whose it is where that matters. Of the usual endpoints `path` may be empty.
    fn enter<'p>(
        &mut self,
        head: &Head<RequestLine>,
        bytes: &[u8],
        path: &'p str,
        peer: Option<IpAddr>,
    ) -> Result<(Endpoint<'p>, Option<Tenant>), Fault> {
        let method = head.line.method.as_str();
        let endpoint = match route::usual(method, head.path_bytes(bytes)) {
            Some(usual) => Ok(usual),
            None => route::endpoint(method, path),
        };
        self.dialect = dialect_of(&endpoint, path);
        let tenant = match needs_key(&endpoint) {
            true => Some(self.authenticate(head, bytes, peer)?),
            false => None,
        };
        let endpoint = endpoint.map_err(|miss| fault_of(miss, path))?;
        self.record.route = endpoint.template();
        Ok((endpoint, tenant))
    }

    /// Who calls. Unknown, revoked and expired keys get one answer.
    fn authenticate(
        &mut self,
        head: &Head<RequestLine>,
        bytes: &[u8],
        peer: Option<IpAddr>,
    ) -> Result<Tenant, Fault> {
        // A memory key stands in the query on Gemini's paths alone; another's goes for all.
        let in_query = self.dialect == Some(Dialect::Gemini);
        let counts = |key: &Cow<'_, [u8]>| in_query || !is_memory_key(key);
        let query_key = head.query(bytes).map_or(Ok(None), auth::query_key);
        let query_key = query_key.map(|key| key.filter(counts));
        let credentials = query_key
            .and_then(|query_key| auth::gather(head, bytes, query_key))
            .inspect_err(|fault| {
                // Something in front of the router may have taken the other one: what comes behind is not to be served.
                self.keep_alive &= !matches!(fault, Fault::ConflictingCredentials(_));
            })?;
        let token = credentials.memory_key.ok_or(Fault::NoMemoryKey)?;
        let snapshot = self.worker.snapshot();
        let known = snapshot.authenticate(&token, clock::unix_seconds());
        let key = known
            .cloned()
            .or_else(|| self.worker.take_pass(&token))
            .ok_or_else(|| self.wrong_key(peer))?;
        self.record.key_id = Some(key.id.clone());
        let provider_key = credentials
            .provider_key
            .map(|key| Secret::new(key.into_owned()));
        Ok(Tenant {
            key,
            snapshot,
            provider_key,
            mode: credentials.mode,
        })
    }
}

fn needs_key(endpoint: &Result<Endpoint<'_>, Miss>) -> bool {
    match endpoint {
        Ok(Endpoint::Root | Endpoint::Health | Endpoint::Ready) => false,
        Ok(Endpoint::Models | Endpoint::Vault(_) | Endpoint::Account(_) | Endpoint::Proxy(_)) => {
            true
        }
        Err(
            Miss::NotFound { authenticated, .. } | Miss::MethodNotAllowed { authenticated, .. },
        ) => *authenticated,
    }
}
