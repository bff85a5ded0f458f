//! What is known of one exchange, and the line that is logged of it when it is over.
//!
//! `exchange` fills a `Record` in as the request walks through its stages and finishes it after the last byte. The
//! line carries both ids, the key's id and never the key, sizes, times and the reason of the end; no bodies, no
//! targets, no credentials.

mod id;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Fault, FaultSide};
use crate::provider::answer::Usage;
use crate::relay::End;
use crate::traces::{Context, Span, Value};
use crate::usage::{Event, Side};

pub use id::{ForeignId, RequestId};

/// The log target of access lines, for filters.
pub const TARGET: &str = "access";

/// In a route's place, where a request leads nowhere.
const NO_ROUTE: &str = "-";

/// Of exchanges that went well, one in so many has its line.
static SAMPLE: AtomicUsize = AtomicUsize::new(1);

thread_local! {
    /// Exchanges of this core that went well since the last one with a line.
    static UNLOGGED: Cell<usize> = const { Cell::new(0) };
}

/// Sets how many exchanges that went well share one line; those that failed always have theirs.
pub fn set_sample(sample: usize) {
    SAMPLE.store(sample.max(1), Ordering::Relaxed);
}

/// Whether it is the turn of an exchange that went well.
fn sampled() -> bool {
    let sample = SAMPLE.load(Ordering::Relaxed);
    let unlogged = UNLOGGED.get() + 1;
    let turn = unlogged >= sample;
    UNLOGGED.set(if turn { 0 } else { unlogged });
    turn
}

/// One exchange.
#[derive(Clone, Debug)]
pub struct Record {
    /// Our id, also in the answer.
    pub request_id: RequestId,
    /// The method, `?` for one that the router does not know.
    pub method: &'static str,
    /// The endpoint's template, or what stands for it; never the caller's own path.
    pub route: &'static str,
    /// The memory key's id.
    pub key_id: Option<Arc<str>>,
    /// The provider that answered, or was to.
    pub provider: Option<Arc<str>>,
    /// The model as it went upstream.
    pub model: Option<Arc<str>>,
    /// The status that the caller got.
    pub status: Option<u16>,
    /// The provider's id of its answer.
    pub provider_request_id: ForeignId,
    /// Body bytes received from the caller, after decoding.
    pub request_bytes: u64,
    /// Body bytes relayed to the caller.
    pub response_bytes: u64,
    /// Tokens by the provider's count.
    pub usage: Usage,
    /// Tokens of the memories that went into the request.
    pub memory_recalled: u64,
    /// Tokens of those that came out of the exchange.
    pub memory_stored: u64,
    /// Tokens are paid for it, or what it made is.
    pub billed: bool,
    /// Requests sent upstream.
    pub attempts: u32,
    /// Whether the last of them went over a connection that was open already.
    pub reused: bool,
    /// How long the caller took to send its body behind the head.
    pub received: Duration,
    /// Of the router's own time, what memory took.
    pub memory: Duration,
    /// The router's own time before the request left, dialling included.
    pub overhead: Option<Duration>,
    /// From the request's departure to the head of the answer that the caller got.
    pub first_byte: Option<Duration>,
    /// Its place in a trace, where exchanges are traced: apart, since most are not and the last ones are kept.
    pub trace: Option<Box<Context>>,
    /// How the exchange ended.
    pub ended: Ended,
    started: Instant,
    total: Option<Duration>,
}

/// Why an exchange is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Still running.
    Running,
    /// The router answered by itself.
    Answered,
    /// The router refused, and whose fault that was.
    Refused(FaultSide),
    /// A provider's answer passed.
    Relayed(End),
    /// A provider's answer passed whole, and was or held an error.
    ProviderError,
    /// The caller left before there was an answer.
    CallerLeft,
    /// The router went down, and had waited for it as long as it waits.
    Drained,
}

impl Ended {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Answered => "answered",
            Self::Refused(FaultSide::Caller) => "refused",
            Self::Refused(FaultSide::Router) => "router_error",
            Self::Refused(FaultSide::Provider) => "provider_unreachable",
            Self::Relayed(End::Complete) => "complete",
            Self::Relayed(End::CallerLeft) | Self::CallerLeft => "caller_left",
            Self::Relayed(End::Truncated) => "provider_truncated",
            Self::Relayed(End::StreamIdle) => "provider_idle",
            Self::Relayed(End::Malformed) => "provider_malformed",
            Self::ProviderError => "provider_error",
            Self::Drained => "drained",
        }
    }
}

impl Record {
    /// An exchange that begins now.
    pub fn new(request_id: RequestId, method: &'static str, started: Instant) -> Self {
        Self {
            request_id,
            method,
            route: NO_ROUTE,
            key_id: None,
            provider: None,
            model: None,
            status: None,
            provider_request_id: ForeignId::default(),
            request_bytes: 0,
            response_bytes: 0,
            usage: Usage::default(),
            memory_recalled: 0,
            memory_stored: 0,
            billed: false,
            attempts: 0,
            reused: false,
            received: Duration::ZERO,
            memory: Duration::ZERO,
            overhead: None,
            first_byte: None,
            trace: None,
            ended: Ended::Running,
            started,
            total: None,
        }
    }

    /// The router refuses.
    pub fn refused(&mut self, fault: &Fault) {
        self.status = Some(fault.status());
        self.ended = Ended::Refused(fault.side());
    }

    /// It was not the caller who closed the connection, if anybody did.
    pub fn drained(&mut self) {
        if let Ended::Relayed(End::CallerLeft) | Ended::CallerLeft = self.ended {
            self.ended = Ended::Drained;
        }
    }

    /// Whose fault it was that the exchange failed; none if it did not.
    pub fn side(&self) -> Option<FaultSide> {
        match self.ended {
            Ended::Running | Ended::Answered | Ended::Relayed(End::Complete) => None,
            Ended::Refused(side) => Some(side),
            Ended::Relayed(End::CallerLeft) | Ended::CallerLeft => Some(FaultSide::Caller),
            Ended::Drained => Some(FaultSide::Router),
            // What is wrong with a request is its sender's fault; a provider key's trouble is not.
            Ended::ProviderError => match self.status {
                Some(400 | 404 | 405 | 413 | 415 | 422) => Some(FaultSide::Caller),
                _ => Some(FaultSide::Provider),
            },
            Ended::Relayed(_) => Some(FaultSide::Provider),
        }
    }

    /// The exchange as spans: the router's own, and one for its wait for the provider. None for a caller who does not
    /// want them.
    pub fn spans(&self) -> Vec<Span> {
        let Some(trace) = self.trace.as_ref().filter(|trace| trace.sampled) else {
            return Vec::new();
        };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let end_ns = nanos(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        );
        let start_ns = end_ns.saturating_sub(nanos(self.total()));
        let number = |key, number: Option<u64>| {
            let number = number.and_then(|number| i64::try_from(number).ok());
            number.map(|number| (key, Value::Number(number)))
        };
        let text = |key, text: Option<&str>| text.map(|text| (key, Value::Text(text.to_owned())));
        let status = number("http.response.status_code", self.status.map(u64::from));
        let provider = text("gen_ai.provider.name", self.provider.as_deref());
        let model = text("gen_ai.request.model", self.model.as_deref());
        let tokens = [
            number("gen_ai.usage.input_tokens", self.usage.input),
            number("gen_ai.usage.output_tokens", self.usage.output),
            (self.usage.estimated).then_some(("memoryrouter.estimated", Value::Flag(true))),
        ];
        // Where a request leads nowhere, its path is the caller's word and stands nowhere.
        let known_route = (self.route != NO_ROUTE).then_some(self.route);
        let own = [
            Some(("http.request.method", Value::Text(self.method.into()))),
            known_route.map(|route| ("http.route", Value::Text(route.into()))),
            Some((
                "memoryrouter.request_id",
                Value::Text(self.request_id.to_string()),
            )),
            Some(("memoryrouter.end", Value::Text(self.ended.as_str().into()))),
            text("memoryrouter.key_id", self.key_id.as_deref()),
        ];
        let failed = matches!(self.side(), Some(FaultSide::Router | FaultSide::Provider));
        let all = [status.clone(), provider.clone(), model.clone()];
        let mut spans = vec![Span {
            trace: trace.trace,
            id: trace.exchange,
            parent: trace.parent,
            name: match known_route {
                Some(route) => format!("{} {route}", self.method),
                None => self.method.to_owned(),
            },
            client: false,
            start_ns,
            end_ns,
            failed,
            attributes: own
                .into_iter()
                .chain(all)
                .chain(tokens.clone())
                .flatten()
                .collect(),
        }];
        if let Some(overhead) = self.overhead {
            // Without an answer of the provider's, the status is the router's own.
            let status = status.filter(|_| self.first_byte.is_some());
            let refused = self.first_byte.is_some() && self.status.is_some_and(|it| it >= 400);
            let about = [
                status,
                provider,
                model,
                text(
                    "memoryrouter.provider_request_id",
                    self.provider_request_id.text().as_deref(),
                ),
                number("memoryrouter.attempts", Some(u64::from(self.attempts))),
                Some(("memoryrouter.reused", Value::Flag(self.reused))),
            ];
            spans.push(Span {
                trace: trace.trace,
                id: trace.upstream,
                parent: Some(trace.exchange),
                name: self.provider.as_deref().unwrap_or_default().to_owned(),
                client: true,
                start_ns: start_ns
                    .saturating_add(nanos(self.received + overhead))
                    .min(end_ns),
                end_ns,
                failed: refused || self.side() == Some(FaultSide::Provider),
                attributes: about.into_iter().chain(tokens).flatten().collect(),
            });
        }
        spans
    }

    /// The request leaves at `now`; what it took until it left for the first time counts.
    pub fn departs(&mut self, now: Instant) {
        let own = now
            .duration_since(self.started)
            .saturating_sub(self.received);
        self.overhead.get_or_insert(own);
    }

    /// The last byte has passed, now or when this was first said. Returns when that was.
    pub fn ends(&mut self) -> Instant {
        match self.total {
            Some(total) => self.started + total,
            None => {
                let now = Instant::now();
                self.total = Some(now - self.started);
                now
            }
        }
    }

    /// When its head was there.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// From its head to the last byte of its answer; nothing while that has not passed.
    pub fn total(&self) -> Duration {
        self.total.unwrap_or_default()
    }

    /// What is counted of it; nothing where nobody is known to have called.
    pub fn event(&self) -> Option<Event<'_>> {
        let aborted = matches!(
            self.ended,
            Ended::Relayed(End::CallerLeft) | Ended::CallerLeft
        );
        let truncated = matches!(
            self.ended,
            Ended::Relayed(End::Truncated | End::StreamIdle | End::Malformed) | Ended::Drained
        );
        let error = self.side().filter(|_| !aborted).map(|side| match side {
            FaultSide::Caller => Side::Caller,
            FaultSide::Router => Side::Router,
            FaultSide::Provider => Side::Provider,
        });
        let usage = &self.usage;
        let tokens = usage.input.unwrap_or(0).max(usage.output.unwrap_or(0));
        Some(Event {
            key: self.key_id.as_deref()?,
            provider: self.provider.as_deref().unwrap_or_default(),
            route: self.route,
            model: self.model.as_deref().unwrap_or_default(),
            error,
            aborted,
            truncated,
            estimated: usage.estimated,
            costs: self.billed && self.attempts > 0 && (error.is_none() || tokens > 0),
            input: usage.input.unwrap_or(0),
            output: usage.output.unwrap_or(0),
            cached: usage.cached.unwrap_or(0),
            cache_written: usage.cache_written.unwrap_or(0),
            cache_written_1h: usage.cache_written_1h.unwrap_or(0),
            reasoning: usage.reasoning.unwrap_or(0),
            recalled: self.memory_recalled,
            stored: self.memory_stored,
            provider_time: self.first_byte,
            router_time: self.overhead,
        })
    }

    /// Logs the line.
    pub fn finish(&self) {
        if !tracing::enabled!(target: TARGET, tracing::Level::INFO)
            || (self.side().is_none() && !sampled())
        {
            return;
        }
        let millis = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        tracing::info!(
            target: TARGET,
            id = self.request_id.as_str(),
            method = self.method,
            route = self.route,
            key = self.key_id.as_deref(),
            provider = self.provider.as_deref(),
            model = self.model.as_deref(),
            status = self.status,
            provider_id = self.provider_request_id.text().as_deref(),
            request_bytes = self.request_bytes,
            response_bytes = self.response_bytes,
            input_tokens = self.usage.input,
            output_tokens = self.usage.output,
            cached_tokens = self.usage.cached,
            cache_written_tokens = self.usage.cache_written,
            reasoning_tokens = self.usage.reasoning,
            estimated = self.usage.estimated.then_some(true),
            attempts = self.attempts,
            reused = self.reused,
            receive_ms = millis(self.received),
            memory_ms = millis(self.memory),
            overhead_ms = self.overhead.map(millis),
            first_byte_ms = self.first_byte.map(millis),
            total_ms = millis(self.total()),
            end = self.ended.as_str(),
        );
    }
}
