//! A request's body, read whole: limits first, then `100 Continue`, then the bytes, then their coding off.
//!
//! `exchange` calls `receive` once the caller is known. The body must be here before anything goes upstream, because
//! the model that decides the provider may stand last in it, and because another attempt needs it again.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{Caller, Exchange, Stop, Unread};
use crate::error::Fault;
use crate::http::head::{Head, RequestLine};
use crate::http::{ChunkScanner, Framing, Name, Version};
use crate::net::{self, Fill};
use crate::provider::coding::{CodingError, Codings};
use crate::worker::Worker;

/// The least and the most to ask of one read at first. Memory follows what has arrived, not what a length promises.
const READ_BYTES: usize = 8 * 1024;
const READ_BYTES_MAX: usize = 1024 * 1024;

/// So much of a refused request is read, so that its connection can go on: it comes in one piece with the head, or in the
/// next one.
const PASSED_OVER_BYTES_MAX: u64 = 64 * 1024;

/// Others wait no longer than this for their turn; to take turns takes a millisecond.
const DECODING_TIME_MAX: Duration = Duration::from_millis(5);

/// A request that is here whole.
pub(super) struct Request<'h> {
    /// Its head.
    pub(super) head: &'h Head<RequestLine>,
    /// What `head` is over; behind it the body, if it came as it is.
    pub(super) bytes: Vec<u8>,
    body: Body,
    /// Whether a content coding was taken off.
    pub(super) decoded: bool,
    /// How long the caller was waited for.
    pub(super) waited: Duration,
}

enum Body {
    Behind(Range<usize>),
    Apart(Vec<u8>),
}

impl Request<'_> {
    /// The body's bytes.
    pub(super) fn body(&self) -> &[u8] {
        match &self.body {
            Body::Behind(range) => &self.bytes[range.clone()],
            Body::Apart(body) => body,
        }
    }

    /// Where the body starts in the buffer that `take_buffer` hands over.
    pub(super) fn body_offset(&self) -> usize {
        match &self.body {
            Body::Behind(range) => range.start,
            Body::Apart(_) => 0,
        }
    }

    /// Hands over the buffer that holds the body, to be sent from; `restore_body` gives it back.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        match &mut self.body {
            Body::Behind(_) => std::mem::take(&mut self.bytes),
            Body::Apart(body) => std::mem::take(body),
        }
    }

    /// The buffer comes back for another attempt.
    pub(super) fn restore_body(&mut self, buffer: Vec<u8>) {
        match &mut self.body {
            Body::Behind(_) => self.bytes = buffer,
            Body::Apart(body) => *body = buffer,
        }
    }
}

/// Reads the body. `head` was parsed from what `caller.reader` holds; `exchange` learns that it no longer stands there
/// before anything can be wrong with what was read.
pub(super) async fn receive<'h>(
    caller: &mut Caller,
    head: &'h Head<RequestLine>,
    framing: Framing,
    exchange: &mut Exchange<'_>,
) -> Result<Request<'h>, Stop> {
    let worker = exchange.worker;
    let limit = worker.config.limits.body_bytes_max;
    if matches!(framing, Framing::Length(length) if length > limit as u64) {
        return Err(Fault::BodyTooLarge(limit).into());
    }
    let codings = codings(head, caller.reader.bytes())?;
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    if expects_continue(head, caller.reader.bytes())?
        && has_body
        && caller.reader.bytes().len() == head.end
    {
        caller
            .deadline
            .arm(Instant::now(), worker.config.timeouts.body_idle);
        let (result, _) = caller
            .writer
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec())
            .await;
        result.map_err(|_| Stop::CallerLeft)?;
    }
    let mut request = match framing {
        Framing::Chunked => receive_chunked(caller, head, limit, worker).await?,
        Framing::Length(length) => receive_length(caller, head, length as usize, worker).await?,
        Framing::None | Framing::UntilClose => receive_length(caller, head, 0, worker).await?,
    };
    exchange.unread = Unread::Nothing;
    caller.deadline.disarm();
    if !codings.is_identity() {
        // Apart: decoders weigh more than all else here, and most bodies need none.
        let plain = Box::pin(decode(&codings, request.body(), limit)).await?;
        request.body = Body::Apart(plain);
        request.decoded = true;
    }
    Ok(request)
}

/// Reads the body of a request that is refused, if there is little of it and it comes unasked: whoever is to come again in a
/// moment need not connect anew.
pub(super) async fn pass_over(
    caller: &mut Caller,
    head: &Head<RequestLine>,
    framing: Framing,
    exchange: &mut Exchange<'_>,
) -> Result<(), Stop> {
    if let Framing::Length(length @ 1..=PASSED_OVER_BYTES_MAX) = framing
        && !head.has(Name::Expect)
    {
        receive_length(caller, head, length as usize, exchange.worker).await?;
        exchange.unread = Unread::Nothing;
        caller.deadline.disarm();
    }
    Ok(())
}

/// All Content-Encoding fields together, which mean one list (RFC 9110 section 5.3).
fn codings(head: &Head<RequestLine>, bytes: &[u8]) -> Result<Codings, Fault> {
    if !head.has(Name::ContentEncoding) {
        return Ok(Codings::default());
    }
    let fields: Vec<&[u8]> = head
        .all(Name::ContentEncoding)
        .map(|field| field.value(bytes))
        .collect();
    Codings::parse(&fields.join(&b","[..])).map_err(|_| Fault::UnsupportedCoding)
}

/// Takes codings off, and lets others have their turn meanwhile.
async fn decode(codings: &Codings, body: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    let mut since = Instant::now();
    let turn = async || {
        if since.elapsed() >= DECODING_TIME_MAX {
            net::sleep(Duration::ZERO).await;
            since = Instant::now();
        }
    };
    let decoded = codings.decode(body, limit, turn).await;
    decoded.map_err(|error| coding_fault(error, limit))
}

fn coding_fault(error: CodingError, limit: usize) -> Fault {
    match error {
        CodingError::Unsupported => Fault::UnsupportedCoding,
        CodingError::Broken => Fault::BrokenCoding,
        CodingError::TooLarge => Fault::BodyTooLarge(limit),
    }
}

fn expects_continue(head: &Head<RequestLine>, bytes: &[u8]) -> Result<bool, Fault> {
    match head.first(Name::Expect, bytes) {
        // RFC 9110 section 10.1.1: a 1.0 sender's expectation is ignored.
        None => Ok(false),
        Some(_) if head.line.version == Version::Http10 => Ok(false),
        Some(value) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(Fault::Expectation),
    }
}

async fn receive_length<'h>(
    caller: &mut Caller,
    head: &'h Head<RequestLine>,
    length: usize,
    worker: &Worker,
) -> Result<Request<'h>, Stop> {
    let end = head.end + length;
    if length > READ_BYTES {
        caller.reader.make_room(end);
    }
    let mut waited = Duration::ZERO;
    while caller.reader.bytes().len() < end {
        let received = caller.reader.bytes().len();
        let missing = end - received;
        // Room follows what has come. Once a quarter has, the rest is believed in: doubling to the end would copy it
        // all once more, and leave up to twice the room.
        let spare = match received >= end / 4 {
            true => missing,
            false => missing.min(received.clamp(READ_BYTES, READ_BYTES_MAX)),
        };
        waited += fill(caller, spare, worker).await?;
    }
    let mut bytes = caller.reader.take();
    // What came behind the body is the next request.
    let next = bytes.split_off(end);
    caller.reader.put_back(next);
    Ok(Request {
        body: Body::Behind(head.end..end),
        head,
        bytes,
        decoded: false,
        waited,
    })
}

async fn receive_chunked<'h>(
    caller: &mut Caller,
    head: &'h Head<RequestLine>,
    limit: usize,
    worker: &Worker,
) -> Result<Request<'h>, Stop> {
    let mut bytes = caller.reader.take();
    let mut received = bytes.split_off(head.end);
    let mut scanner = ChunkScanner::default();
    let mut body = Vec::new();
    let mut waited = Duration::ZERO;
    loop {
        let used = scanner
            .scan(&received, |range| body.extend_from_slice(&received[range]))
            .map_err(|_| Fault::Malformed("chunked body"))?;
        if body.len() > limit {
            return Err(Fault::BodyTooLarge(limit).into());
        }
        if scanner.done() {
            caller.reader.put_back(received.split_off(used));
            return Ok(Request {
                head,
                bytes,
                body: Body::Apart(body),
                decoded: false,
                waited,
            });
        }
        waited += fill(
            caller,
            received.len().clamp(READ_BYTES, READ_BYTES_MAX),
            worker,
        )
        .await?;
        received = caller.reader.take();
    }
}

/// Reads more, and tells how long that took; a caller that sends nothing for too long is shut down by its deadline.
async fn fill(caller: &mut Caller, spare: usize, worker: &Worker) -> Result<Duration, Stop> {
    let since = Instant::now();
    caller.deadline.arm(since, worker.config.timeouts.body_idle);
    match caller.reader.fill(spare).await {
        Fill::Bytes(_) => Ok(since.elapsed()),
        // Half a request: the connection is of no use, and nothing of it went upstream.
        Fill::End | Fill::Failed(_) => Err(Stop::CallerLeft),
    }
}
