//! The thread that sends: gathers spans for a moment, posts them, and counts what became of them.
//!
//! It runs the product's own way upstream on a loop of its own, which stands still while it gathers: nothing is under
//! way then. A collector that is away costs its spans and nothing else; it is tried again with the next batch.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::{Collector, Counts, Message, Span, encode};
use crate::net::{self, Deadlines};
use crate::upstream::{self, Keeping, OriginId, Resolver, Upstreams};

/// Sent together at most, and waited for at most.
const BATCH_MAX: usize = 512;
const BATCH_TIME: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A collector that is away is told of once in a while.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

pub(super) fn run(collector: Collector, spans: &Receiver<Message>, counts: &Counts) {
    if let Err(error) = net::run(export(collector, spans, counts)) {
        tracing::error!(%error, "no traces are sent: their thread has no event loop");
    }
}

async fn export(collector: Collector, spans: &Receiver<Message>, counts: &Counts) {
    let mut told: Option<Instant> = None;
    let Collector {
        origin,
        authority,
        path,
    } = collector;
    let deadlines = Deadlines::new(Instant::now());
    net::spawn(deadlines.clone().keep());
    let keeping = Keeping {
        connect_timeout: CONNECT_TIMEOUT,
        idle_timeout: Duration::ZERO,
        idle_per_origin_max: 0,
        unacknowledged_timeout: ANSWER_TIMEOUT,
    };
    // For good: they tell once that the collector cannot be reached.
    let upstreams = Upstreams::new(Rc::new([origin]), Resolver::default(), deadlines, keeping);
    loop {
        let (batch, why) = gather(spans);
        if !batch.is_empty() {
            let request = request(&authority, &path, &encode::body(&batch));
            let status = post(&upstreams, request).await;
            let count = batch.len() as u64;
            if status.is_some_and(|status| (200..300).contains(&status)) {
                counts.sent.fetch_add(count, Ordering::Relaxed);
            } else {
                counts.failed.fetch_add(count, Ordering::Relaxed);
                if told.is_none_or(|told| told.elapsed() > TELL_INTERVAL) {
                    tracing::warn!(status, "the trace collector took nothing");
                    told = Some(Instant::now());
                }
            }
        }
        match why {
            Because::Due => {}
            // Who asked may wait no longer.
            Because::Asked(done) => drop(done.try_send(())),
            Because::Over => return,
        }
    }
}

/// Why a batch is one.
enum Because {
    /// It is full, or has waited long enough.
    Due,
    Asked(SyncSender<()>),
    /// Nobody makes any more spans.
    Over,
}

/// Waits for a first span, then a moment for more.
fn gather(spans: &Receiver<Message>) -> (Vec<Span>, Because) {
    let mut batch = match spans.recv() {
        Ok(Message::Span(first)) => vec![first],
        Ok(Message::Flush(done)) => return (Vec::new(), Because::Asked(done)),
        Err(_) => return (Vec::new(), Because::Over),
    };
    let until = Instant::now() + BATCH_TIME;
    while batch.len() < BATCH_MAX {
        match spans.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Message::Span(span)) => batch.push(span),
            Ok(Message::Flush(done)) => return (batch, Because::Asked(done)),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return (batch, Because::Over),
        }
    }
    (batch, Because::Due)
}

fn request(authority: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix("/v1/traces").unwrap_or(path);
    let mut request = format!(
        "POST {path}/v1/traces HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// The status of the collector's answer; none if none came.
async fn post(upstreams: &Upstreams, request: Vec<u8>) -> Option<u16> {
    let connection = upstreams.fresh(OriginId(0)).await.ok()?;
    let status = upstream::status_of(connection, request, ANSWER_TIMEOUT).await;
    status.ok()
}
