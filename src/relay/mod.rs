//! The answer on its way to the caller: head rewritten, body bytes as they come.
//!
//! `exchange` calls `relay` once per answered request. A chunk is read, its framing tracked, looked at by the tap, and
//! written, before the next one is read: that await is the back-pressure, and nothing is ever held back. What ends
//! early upstream ends early downstream: no final chunk, no length is made up.

mod cut;
mod sse;
mod tap;

use std::pin::pin;
use std::time::{Duration, Instant};

use crate::http::encode::Relayed;
use crate::http::{Framing, Track, Version, chunk, framing};
use crate::net::{self, Deadline, Fill, Writer};
use crate::upstream::{Answer, Connection, Watch};

pub use cut::UsageCut;
pub use sse::{Event, SseScanner};
pub use tap::Tap;

/// The relay buffer: large enough for an SSE event or a short answer, doubled while reads fill it. Large bodies pass
/// with two to three times less CPU in large pieces.
const READ_BYTES: usize = 8 * 1024;
const READ_BYTES_MAX: usize = 256 * 1024;
/// An answer's counts stand within its last bytes, and those of a stream's event within the event's: what may stand
/// behind them is sixteen of a caller's own texts of 512 characters (`metadata`), of up to three bytes each.
const TAIL_BYTES: usize = 32 * 1024;
/// A byte order mark, which some servers put before their first event; it belongs to no field.
const MARK: &[u8] = b"\xEF\xBB\xBF";
/// What a chunk's framing and the body's end need.
const CHUNK_BYTES: usize = 32;

/// How a relayed body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Whole, and the caller has all of it; or all of a stream up to its last word, and left before the body's own end.
    Complete,
    /// The caller left, or took nothing for too long.
    CallerLeft,
    /// The provider's connection ended inside the body.
    Truncated,
    /// The provider paused for longer than allowed.
    StreamIdle,
    /// The provider's chunks are malformed.
    Malformed,
}

/// What is known once the last byte has passed.
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Whether the caller has been sent anything; if not, another answer can take this one's place.
    pub begun: bool,
    /// Whether the body's own end went to the caller; if not, its connection can carry nothing more.
    pub framed: bool,
    /// Body bytes that came from the provider, framing included.
    pub body_bytes: u64,
    /// The upstream connection, if it is clean.
    pub connection: Option<Connection>,
    /// The buffer that the request was sent from, where its tokens may have to be estimated. Its body is the end of it.
    pub request: Vec<u8>,
}

/// Where the answer goes.
pub struct Downstream<'a> {
    /// The caller's connection.
    pub writer: &'a mut Writer,
    /// Its deadline.
    pub deadline: &'a Deadline,
    /// The caller's version: HTTP/1.0 knows no chunks.
    pub version: Version,
    /// How long either side may pause; a caller that takes nothing is let go after one to two of these.
    pub stream_idle_timeout: Duration,
    /// What is not for the caller.
    pub cut: Option<UsageCut>,
    /// Called when a stream's last word is here, and when the whole answer is, before that is written: who has it may ask
    /// again at once. Not called for an answer that breaks off before.
    pub at_end: &'a mut dyn FnMut(&mut Tap),
}

/// How the body of an answer will be framed for a caller; `remade` if not all of it goes there.
pub fn framing_for(framing: Framing, version: Version, remade: bool) -> Relayed {
    match (framing, version) {
        (Framing::None, _) => Relayed::AsIs(framing),
        (_, Version::Http10) if remade => Relayed::UntilClose,
        (_, Version::Http11) if remade => Relayed::Chunked,
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Relayed::UntilClose,
        (Framing::UntilClose, Version::Http11) => Relayed::Chunked,
        (framing, _) => Relayed::AsIs(framing),
    }
}

/// Relays an answer from `now` on. `outgoing` holds the rewritten head, up to and with its empty line; `tap` sees the body's
/// content.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice"
)]
pub fn relay(
    mut answer: Box<Answer>,
    framing: Framing,
    mut now: Instant,
    mut outgoing: Vec<u8>,
    downstream: Downstream<'_>,
    watch: &mut Watch<'_>,
    tap: &mut Tap,
) -> impl Future<Output = Outcome> {
    async move {
        let mut body = Body::new(framing, downstream.version, downstream.cut);
        let mut end = End::Complete;
        // Whether a stream's last word has been written.
        let mut heard_out = false;
        let left = |heard_out| match heard_out {
            true => End::Complete,
            false => End::CallerLeft,
        };
        let keeps_alive =
            framing::keeps_alive(&answer.head, &answer.bytes, answer.head.line.version);
        let received = std::mem::take(&mut answer.bytes);
        // The head leaves with the first of the body, or alone and at once.
        let begin = &received[answer.head.end..];
        let whole = matches!(framing, Framing::Length(length) if length == begin.len() as u64);
        let seen = whole && tap.whole(begin);
        body.append(begin, &mut outgoing, |content| {
            if !seen {
                tap.content(content);
            }
        });
        net::recycle(received);
        if body.malformed {
            let outcome = Box::pin(Outcome::broken(End::Malformed, &body, answer)).await;
            return Outcome {
                begun: false,
                ..outcome
            };
        }
        loop {
            if body.done {
                tap.content_ends();
            }
            if body.done || tap.has_last_word() {
                (downstream.at_end)(tap);
            }
            if !outgoing.is_empty() {
                let pause = downstream.stream_idle_timeout;
                downstream.deadline.arm_writing(now, pause);
                let write = pin!(downstream.writer.write_all(outgoing));
                // Once the provider has said everything its connection is clean, whatever the caller does.
                let (result, written) = if body.done {
                    write.await
                } else {
                    let upstream = answer.deadline();
                    watch
                        .while_writing(upstream, downstream.deadline, write)
                        .await
                };
                downstream.deadline.disarm();
                outgoing = written;
                if result.is_err() && body.done {
                    end = left(heard_out);
                    break;
                }
                if result.is_err() {
                    return Box::pin(Outcome::broken(left(heard_out), &body, answer)).await;
                }
                heard_out = tap.has_last_word();
            }
            if body.done {
                break;
            }
            if body.malformed {
                return Box::pin(Outcome::broken(End::Malformed, &body, answer)).await;
            }
            let spare = body.next_read_bytes(outgoing.len());
            outgoing.clear();
            answer
                .deadline()
                .arm(Instant::now(), downstream.stream_idle_timeout);
            let (fill, received) = answer.receive(outgoing, spare, watch).await;
            // How long the caller takes for it is no pause of the provider's.
            answer.deadline().disarm();
            now = Instant::now();
            outgoing = match fill {
                // What a provider had sent before its connection was shut down is there to be read; nobody is to get it.
                _ if watch.left() => {
                    // SDKs close as soon as they have a stream's last word, which is often sent before the body's end.
                    let end = match tap.has_last_word() {
                        true => End::Complete,
                        false => End::CallerLeft,
                    };
                    return Box::pin(Outcome::broken(end, &body, answer)).await;
                }
                Fill::Bytes(_) => body.pass(received, |content| tap.content(content)),
                // The end that our own shutdown makes is none of the provider's.
                Fill::End if body.track.ends_with_connection() && !answer.deadline().ended_it() => {
                    body.finish()
                }
                _ => {
                    let end = match answer.deadline().fired() {
                        true => End::StreamIdle,
                        false => End::Truncated,
                    };
                    // What was held for its end is the caller's too.
                    let rest = body.release();
                    if !rest.is_empty() {
                        let pause = downstream.stream_idle_timeout;
                        downstream.deadline.arm_writing(now, pause);
                        // The connection ends here either way.
                        let _ = downstream.writer.write_all(rest).await;
                        downstream.deadline.disarm();
                    }
                    return Box::pin(Outcome::broken(end, &body, answer)).await;
                }
            };
        }
        net::recycle(outgoing);
        let request = match tap.input_uncounted() {
            true => answer.reclaim_outgoing().unwrap_or_default().body,
            false => Vec::new(),
        };
        let connection = if keeps_alive && !body.surplus {
            answer.into_connection()
        } else {
            Box::pin(answer.discard()).await;
            None
        };
        Outcome {
            end,
            begun: true,
            framed: true,
            body_bytes: body.bytes,
            connection,
            request,
        }
    }
}

impl Outcome {
    async fn broken(end: End, body: &Body, answer: Box<Answer>) -> Self {
        let outgoing = Box::pin(answer.discard()).await;
        Self {
            end,
            begun: true,
            framed: false,
            body_bytes: body.bytes,
            connection: None,
            request: outgoing.body,
        }
    }
}

/// A body that passes: its framing upstream, and its framing downstream where that differs.
struct Body {
    track: Track,
    relayed: Relayed,
    cut: Option<UsageCut>,
    /// Content on its way into another framing.
    content: Vec<u8>,
    bytes: u64,
    read_bytes: usize,
    done: bool,
    /// Bytes came behind the body's end: they belong to nothing, and the connection cannot be trusted.
    surplus: bool,
    /// Its chunks are malformed behind what has passed.
    malformed: bool,
}

impl Body {
    fn new(framing: Framing, version: Version, cut: Option<UsageCut>) -> Self {
        Self {
            track: Track::new(framing),
            relayed: framing_for(framing, version, cut.is_some()),
            cut,
            content: Vec::new(),
            bytes: 0,
            read_bytes: READ_BYTES,
            done: false,
            surplus: false,
            malformed: false,
        }
    }

    /// Takes received bytes and returns what goes to the caller, in the same allocation where nothing changes.
    fn pass(&mut self, mut received: Vec<u8>, tap: impl FnMut(&[u8])) -> Vec<u8> {
        if let Relayed::AsIs(_) = self.relayed {
            let advanced = advance(&mut self.track, &received, tap);
            received.truncate(self.passed(advanced, received.len()));
            return received;
        }
        let mut out = net::buffer(received.len() + CHUNK_BYTES);
        self.append(&received, &mut out, tap);
        net::recycle(received);
        out
    }

    /// Takes received bytes and appends what goes to the caller to `out`.
    fn append(&mut self, received: &[u8], out: &mut Vec<u8>, mut tap: impl FnMut(&[u8])) {
        let as_is = matches!(self.relayed, Relayed::AsIs(_));
        let Self {
            track,
            cut,
            content,
            ..
        } = self;
        let advanced = advance(track, received, |piece| {
            tap(piece);
            match cut {
                Some(cut) => cut.push(piece, content),
                None if as_is => {}
                None => content.extend_from_slice(piece),
            }
        });
        let used = self.passed(advanced, received.len());
        if as_is {
            out.extend_from_slice(&received[..used]);
        } else {
            match &mut self.cut {
                Some(cut) if self.done => cut.finish(&mut self.content),
                Some(cut) if self.malformed => cut.give_up(&mut self.content),
                _ => {}
            }
            self.frame(out);
        }
    }

    /// Takes note of how far the received bytes belong to the body.
    fn passed(&mut self, advanced: Result<usize, usize>, received: usize) -> usize {
        let (Ok(used) | Err(used)) = advanced;
        self.malformed = advanced.is_err();
        self.bytes += used as u64;
        self.done = self.track.done();
        self.surplus |= used < received;
        used
    }

    /// Appends the content as the caller gets it: as one chunk, and behind the last of it the end.
    fn frame(&mut self, out: &mut Vec<u8>) {
        let chunked = self.relayed == Relayed::Chunked;
        match chunked {
            true => chunk::put(out, &self.content),
            false => out.extend_from_slice(&self.content),
        }
        if chunked && self.done {
            out.extend_from_slice(b"0\r\n");
            out.extend_from_slice(self.track.trailer());
            out.extend_from_slice(b"\r\n");
        }
        self.content.clear();
    }

    /// What is held of an event that will not end.
    fn release(&mut self) -> Vec<u8> {
        if let Some(cut) = &mut self.cut {
            cut.give_up(&mut self.content);
        }
        let mut out = Vec::new();
        self.frame(&mut out);
        out
    }

    /// The provider ended the body by ending its connection.
    fn finish(&mut self) -> Vec<u8> {
        self.done = true;
        if let Some(cut) = &mut self.cut {
            cut.finish(&mut self.content);
        }
        let mut out = Vec::new();
        self.frame(&mut out);
        out
    }

    /// How much to read next, after a read that brought `last` bytes.
    fn next_read_bytes(&mut self, last: usize) -> usize {
        if last >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
        self.read_bytes
    }
}

/// Hands on the content among received bytes. How many of them belong to the body; an error if what follows so many,
/// the last of them content, is malformed.
fn advance(
    track: &mut Track,
    received: &[u8],
    mut content: impl FnMut(&[u8]),
) -> Result<usize, usize> {
    let mut content_end = 0;
    let advanced = track.advance(received, |range| {
        content_end = range.end;
        content(&received[range]);
    });
    advanced.map_err(|_| content_end)
}

#[cfg(test)]
mod tests;
