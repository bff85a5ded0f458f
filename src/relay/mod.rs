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
use crate::http::{ChunkError, Framing, Track, Version, framing};
use crate::net::{Deadline, Fill, Writer};
use crate::upstream::{Answer, Connection, Watch};

pub use cut::UsageCut;
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
    /// What is not for the caller.
    pub cut: Option<UsageCut>,
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

/// Relays an answer. `head` holds the rewritten head, up to and with its empty line; `tap` sees the body's content.
pub async fn relay(
    mut answer: Box<Answer>,
    framing: Framing,
    head: Vec<u8>,
    downstream: Downstream<'_>,
    watch: &mut Watch<'_>,
    tap: &mut Tap,
) -> Outcome {
    let mut body = Body::new(framing, downstream.version, downstream.cut);
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
                // What was held for its end is the caller's too.
                let rest = body.release();
                if !rest.is_empty() && end != End::CallerLeft {
                    downstream
                        .deadline
                        .arm(Instant::now(), downstream.stream_idle_timeout);
                    // The connection ends here either way.
                    let _ = downstream.writer.write_all(rest).await;
                    downstream.deadline.disarm();
                }
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
    cut: Option<UsageCut>,
    bytes: u64,
    read_bytes: usize,
    done: bool,
    /// Bytes came behind the body's end: they belong to nothing, and the connection cannot be trusted.
    surplus: bool,
}

impl Body {
    fn new(framing: Framing, version: Version, cut: Option<UsageCut>) -> Self {
        Self {
            track: Track::new(framing),
            relayed: framing_for(framing, version, cut.is_some()),
            cut,
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
        let cut = &mut self.cut;
        let used = self.track.advance(&received, |range| {
            tap(&received[range.clone()]);
            match cut {
                Some(cut) => cut.push(&received[range], &mut content),
                None if keep_content => content.extend_from_slice(&received[range]),
                None => {}
            }
        })?;
        self.bytes += used as u64;
        self.done = self.track.done();
        self.surplus |= used < received.len();
        received.truncate(used);
        if let Some(cut) = &mut self.cut {
            if self.done {
                cut.finish(&mut content);
            }
            received = content;
        } else if keep_content {
            received = content;
        }
        Ok(match self.relayed {
            Relayed::AsIs(_) | Relayed::UntilClose => received,
            Relayed::Chunked => self.chunk(received),
        })
    }

    /// One chunk, and behind the last of the content the end.
    fn chunk(&self, content: Vec<u8>) -> Vec<u8> {
        let end: &[u8] = if self.done { b"0\r\n\r\n" } else { b"" };
        if content.is_empty() {
            return end.to_vec();
        }
        let size = format!("{:x}\r\n", content.len());
        [size.as_bytes(), &content, b"\r\n", end].concat()
    }

    /// What is held of an event that will not end.
    fn release(&mut self) -> Vec<u8> {
        let mut content = Vec::new();
        if let Some(cut) = &mut self.cut {
            cut.finish(&mut content);
        }
        match self.relayed {
            Relayed::Chunked => self.chunk(content),
            Relayed::AsIs(_) | Relayed::UntilClose => content,
        }
    }

    /// The provider ended the body by ending its connection.
    fn finish(&mut self) -> Vec<u8> {
        self.done = true;
        self.release()
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
        let mut body = Body::new(framing, version, None);
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
        let mut body = Body::new(Framing::UntilClose, Version::Http11, None);
        assert_eq!(
            body.pass(b"hello".to_vec(), |_| {}).unwrap(),
            b"5\r\nhello\r\n"
        );
        assert_eq!(body.pass(Vec::new(), |_| {}).unwrap(), b"");
        assert_eq!(body.finish(), b"0\r\n\r\n");
        assert!(body.done);
    }

    #[test]
    fn what_is_cut_out_changes_the_framing_and_nothing_else() {
        let content =
            "data: {\"a\":1,\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{}}\n\ndata: x\n\n";
        let expected = b"data: {\"a\":1}\n\ndata: x\n\n";
        let chunked = format!("{:x}\r\n{content}\r\n0\r\n\r\n", content.len());
        for (framing, bytes) in [
            (Framing::Chunked, chunked.as_bytes()),
            (Framing::Length(content.len() as u64), content.as_bytes()),
            (Framing::UntilClose, content.as_bytes()),
        ] {
            for (version, step) in [Version::Http10, Version::Http11]
                .into_iter()
                .flat_map(|version| (1..=bytes.len()).map(move |step| (version, step)))
            {
                let mut body = Body::new(framing, version, Some(UsageCut::default()));
                let mut out = Vec::new();
                for piece in bytes.chunks(step) {
                    out.extend(body.pass(piece.to_vec(), |_| {}).unwrap());
                }
                if framing == Framing::UntilClose {
                    out.extend(body.finish());
                }
                assert!(body.done);
                if version == Version::Http11 {
                    let (mut scanner, mut plain) = (Track::new(Framing::Chunked), Vec::new());
                    let used = scanner.advance(&out, |range| plain.extend_from_slice(&out[range]));
                    assert!(used == Ok(out.len()) && scanner.done());
                    out = plain;
                }
                assert_eq!(out, expected, "{framing:?} {version:?} {step}");
            }
        }
        // What breaks off inside an event leaves what there is, and no end.
        let mut body = Body::new(Framing::Chunked, Version::Http11, Some(UsageCut::default()));
        assert_eq!(body.pass(b"9\r\ndata: x\n".to_vec(), |_| {}).unwrap(), b"");
        assert_eq!(body.release(), b"8\r\ndata: x\n\r\n");
    }

    #[test]
    fn the_buffer_grows_only_while_reads_fill_it() {
        let mut body = Body::new(Framing::UntilClose, Version::Http11, None);
        assert_eq!(body.next_read_bytes(100), READ_BYTES);
        assert_eq!(body.next_read_bytes(READ_BYTES), 2 * READ_BYTES);
        for _ in 0..20 {
            body.next_read_bytes(READ_BYTES_MAX);
        }
        assert_eq!(body.next_read_bytes(1), READ_BYTES_MAX);
    }
}
