//! The answer on its way to the caller: head rewritten, body bytes as they come.
//!
//! `exchange` calls `relay` once per answered request. A chunk is read, its framing tracked, looked at by the tap, and
//! written, before the next one is read: that await is the back-pressure, and nothing is ever held back. What ends
//! early upstream ends early downstream: no final chunk, no length is made up.

mod sse;
mod tap;

use std::pin::pin;
use std::time::{Duration, Instant};

use crate::http::encode::Relayed;
use crate::http::{ChunkError, Framing, Track, Version, framing};
use crate::net::{Deadline, Fill, Writer};
use crate::upstream::{Answer, Connection, Watch};

pub use sse::{Event, SseScanner};
pub use tap::Tap;

/// The relay buffer: large enough for an SSE event or a short answer, doubled while reads fill it. Large bodies pass
/// with two to three times less CPU in large pieces.
const READ_BYTES: usize = 8 * 1024;
const READ_BYTES_MAX: usize = 256 * 1024;

/// How a relayed body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Whole, and the caller has all of it.
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
    /// Body bytes that came from the provider, framing included.
    pub body_bytes: u64,
    /// The upstream connection, if it is clean.
    pub connection: Option<Connection>,
}

/// Where the answer goes.
pub struct Downstream<'a> {
    /// The caller's connection.
    pub writer: &'a mut Writer,
    /// Its deadline.
    pub deadline: &'a Deadline,
    /// The caller's version: HTTP/1.0 knows no chunks.
    pub version: Version,
    /// How long either side may pause.
    pub stream_idle_timeout: Duration,
}

/// How the body of an answer will be framed for a caller.
pub fn framing_for(framing: Framing, version: Version) -> Relayed {
    match (framing, version) {
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Relayed::UntilClose,
        (Framing::UntilClose, Version::Http11) => Relayed::Chunked,
        (framing, _) => Relayed::AsIs(framing),
    }
}

/// Relays an answer. `head` holds the rewritten head, up to and with its empty line; `tap` sees the body's content.
pub async fn relay(
    mut answer: Box<Answer>,
    framing: Framing,
    head: Vec<u8>,
    downstream: Downstream<'_>,
    watch: &mut Watch<'_>,
    tap: &mut Tap,
) -> Outcome {
    let mut body = Body::new(framing, downstream.version);
    let mut end = End::Complete;
    let keeps_alive = framing::keeps_alive(&answer.head, &answer.bytes, answer.head.line.version);
    let mut received = std::mem::take(&mut answer.bytes);
    received.drain(..answer.head.end);
    // The head leaves with the first of the body, or alone and at once.
    let mut outgoing = match body.pass(received, |content| tap.content(content)) {
        Ok(first) => [head, first].concat(),
        Err(_) => {
            let outcome = Outcome::broken(End::Malformed, &body, answer).await;
            return Outcome {
                begun: false,
                ..outcome
            };
        }
    };
    loop {
        if !outgoing.is_empty() {
            downstream
                .deadline
                .arm(Instant::now(), downstream.stream_idle_timeout);
            let write = pin!(downstream.writer.write_all(outgoing));
            // Once the provider has said everything its connection is clean, whatever the caller does.
            let (result, written) = if body.done {
                watch.beside(write).await
            } else {
                watch.during(&answer.deadline, write).await
            };
            downstream.deadline.disarm();
            if result.is_err() && body.done {
                end = End::CallerLeft;
                break;
            }
            if result.is_err() {
                return Outcome::broken(End::CallerLeft, &body, answer).await;
            }
            outgoing = written;
        }
        if body.done {
            break;
        }
        let spare = body.next_read_bytes(outgoing.len());
        outgoing.clear();
        answer
            .deadline
            .arm(Instant::now(), downstream.stream_idle_timeout);
        let (fill, received) = answer.receive(outgoing, spare, watch).await;
        let passed = match fill {
            Fill::Bytes(_) => body.pass(received, |content| tap.content(content)),
            Fill::End if body.track.ends_with_connection() && !watch.left() => Ok(body.finish()),
            _ => {
                let end = if watch.left() {
                    End::CallerLeft
                } else if answer.deadline.fired() {
                    End::StreamIdle
                } else {
                    End::Truncated
                };
                return Outcome::broken(end, &body, answer).await;
            }
        };
        outgoing = match passed {
            Ok(bytes) => bytes,
            Err(_) => return Outcome::broken(End::Malformed, &body, answer).await,
        };
    }
    answer.deadline.disarm();
    let connection = if keeps_alive && !body.surplus {
        answer.into_connection()
    } else {
        answer.discard().await;
        None
    };
    Outcome {
        end,
        begun: true,
        body_bytes: body.bytes,
        connection,
    }
}

impl Outcome {
    async fn broken(end: End, body: &Body, answer: Box<Answer>) -> Self {
        answer.discard().await;
        Self {
            end,
            begun: true,
            body_bytes: body.bytes,
            connection: None,
        }
    }
}

/// A body that passes: its framing upstream, and its framing downstream where that differs.
struct Body {
    track: Track,
    relayed: Relayed,
    bytes: u64,
    read_bytes: usize,
    done: bool,
    /// Bytes came behind the body's end: they belong to nothing, and the connection cannot be trusted.
    surplus: bool,
}

impl Body {
    fn new(framing: Framing, version: Version) -> Self {
        Self {
            track: Track::new(framing),
            relayed: framing_for(framing, version),
            bytes: 0,
            read_bytes: READ_BYTES,
            done: false,
            surplus: false,
        }
    }

    /// Takes received bytes and returns what goes to the caller, in the same allocation where nothing changes.
    fn pass(
        &mut self,
        mut received: Vec<u8>,
        mut tap: impl FnMut(&[u8]),
    ) -> Result<Vec<u8>, ChunkError> {
        let mut content = Vec::new();
        let keep_content = self.relayed == Relayed::UntilClose;
        let used = self.track.advance(&received, |range| {
            tap(&received[range.clone()]);
            if keep_content {
                content.extend_from_slice(&received[range]);
            }
        })?;
        self.bytes += used as u64;
        self.done = self.track.done();
        self.surplus |= used < received.len();
        received.truncate(used);
        Ok(match self.relayed {
            Relayed::AsIs(_) => received,
            Relayed::UntilClose => content,
            Relayed::Chunked if received.is_empty() => received,
            Relayed::Chunked => [format!("{used:x}\r\n").as_bytes(), &received, b"\r\n"].concat(),
        })
    }

    /// The provider ended the body by ending its connection.
    fn finish(&mut self) -> Vec<u8> {
        self.done = true;
        if self.relayed == Relayed::Chunked {
            b"0\r\n\r\n".to_vec()
        } else {
            Vec::new()
        }
    }

    /// How much to read next, after a read that brought `last` bytes.
    fn next_read_bytes(&mut self, last: usize) -> usize {
        if last >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        }
        self.read_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes `input` in pieces of `step` bytes: what goes downstream, what the tap saw, done, surplus.
    fn pass(
        framing: Framing,
        version: Version,
        input: &[u8],
        step: usize,
    ) -> (Vec<u8>, Vec<u8>, bool, bool) {
        let mut body = Body::new(framing, version);
        let (mut out, mut seen) = (Vec::new(), Vec::new());
        for piece in input.chunks(step) {
            out.extend(
                body.pass(piece.to_vec(), |content| seen.extend_from_slice(content))
                    .unwrap(),
            );
        }
        (out, seen, body.done, body.surplus)
    }

    #[test]
    fn bodies_pass_as_they_are_at_every_split() {
        let chunked = b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n";
        for step in 1..=chunked.len() {
            let passed = pass(Framing::Chunked, Version::Http11, chunked, step);
            assert_eq!(passed, (chunked.to_vec(), b"abcde".to_vec(), true, false));
            let dechunked = pass(Framing::Chunked, Version::Http10, chunked, step);
            assert_eq!(
                dechunked,
                (b"abcde".to_vec(), b"abcde".to_vec(), true, false)
            );
            let long = pass(Framing::Length(5), Version::Http11, b"abcdeX", step);
            assert_eq!(long, (b"abcde".to_vec(), b"abcde".to_vec(), true, true));
        }
    }

    #[test]
    fn a_body_that_ends_with_the_connection_gets_chunks() {
        let mut body = Body::new(Framing::UntilClose, Version::Http11);
        assert_eq!(
            body.pass(b"hello".to_vec(), |_| {}).unwrap(),
            b"5\r\nhello\r\n"
        );
        assert_eq!(body.pass(Vec::new(), |_| {}).unwrap(), b"");
        assert_eq!(body.finish(), b"0\r\n\r\n");
        assert!(body.done);
    }

    #[test]
    fn the_buffer_grows_only_while_reads_fill_it() {
        let mut body = Body::new(Framing::UntilClose, Version::Http11);
        assert_eq!(body.next_read_bytes(100), READ_BYTES);
        assert_eq!(body.next_read_bytes(READ_BYTES), 2 * READ_BYTES);
        for _ in 0..20 {
            body.next_read_bytes(READ_BYTES_MAX);
        }
        assert_eq!(body.next_read_bytes(1), READ_BYTES_MAX);
    }
}
