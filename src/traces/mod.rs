//! Traces: the caller's context taken on and passed on, and spans sent to a collector over OTLP/HTTP in JSON.
//!
//! Off unless an endpoint is configured; then `record` makes two spans of an exchange, one for the router and one for
//! its wait for the provider, and a thread of its own sends them in batches. No worker ever waits for it: what does
//! not fit into its queue is dropped and counted.

mod context;
mod encode;
mod export;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::upstream::Origin;

pub use context::{Context, Ids};

/// Spans that wait to be sent: some megabytes at most.
const WAITING_MAX: usize = 8192;
/// How long the router's end waits for the last spans: one round to a collector that is well, and no burden if it is not.
const LAST_TIME: Duration = Duration::from_secs(2);
/// How long to wait before looking for room in the queue again.
const ROOM_WAIT: Duration = Duration::from_millis(10);

/// One piece of work with its beginning and end.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace that it belongs to.
    pub trace: u128,
    /// Its own id.
    pub id: u64,
    /// What it is a part of; none for a trace that begins here.
    pub parent: Option<u64>,
    /// What was done.
    pub name: String,
    /// Whether it is the router's wait for somebody else, and not its own work.
    pub client: bool,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// The same.
    pub end_ns: u64,
    /// Whether it failed.
    pub failed: bool,
    /// What else is known; never a word of what was said.
    pub attributes: Vec<(&'static str, Value)>,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// Where spans go.
pub struct Collector {
    /// Its address.
    pub origin: Origin,
    /// For the Host field.
    pub authority: String,
    /// What stands before `/v1/traces`.
    pub path: String,
}

/// Takes spans; a handle for every core.
#[derive(Clone)]
pub struct Tracer {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

/// What the thread that sends gets.
enum Message {
    Span(Span),
    /// What came before is to be sent now; then the answer is due.
    Flush(SyncSender<()>),
}

#[derive(Default)]
struct Counts {
    dropped: AtomicU64,
    sent: AtomicU64,
    failed: AtomicU64,
}

/// How the sending is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Spans for which there was no room.
    pub dropped: u64,
    /// Spans that the collector took.
    pub sent: u64,
    /// Spans that it did not.
    pub failed: u64,
}

impl Tracer {
    /// Starts the thread that sends; it ends with the last handle.
    pub fn start(collector: Collector) -> io::Result<Self> {
        let (queue, spans) = sync_channel(WAITING_MAX);
        let counts = Arc::<Counts>::default();
        let counted = counts.clone();
        thread::Builder::new()
            .name("traces".into())
            .spawn(move || export::run(collector, &spans, &counted))?;
        Ok(Self { queue, counts })
    }

    /// Hands a span over, without waiting.
    pub fn record(&self, span: Span) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(Message::Span(span))
        {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has everything sent that was handed over, and waits for that a short time.
    pub fn flush(&self) {
        let until = Instant::now() + LAST_TIME;
        let (done, sent) = sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = back;
            thread::sleep(ROOM_WAIT);
        }
        // Sent, too late, or nobody is there to send it: the end comes either way.
        let _ = sent.recv_timeout(until.saturating_duration_since(Instant::now()));
    }

    /// How the sending is doing.
    pub fn status(&self) -> Status {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Status {
            dropped: get(&self.counts.dropped),
            sent: get(&self.counts.sent),
            failed: get(&self.counts.failed),
        }
    }
}
