//! One request over one connection, up to the head of its answer.
//!
//! Sending and reading run at once, because a provider may answer before it has read everything, and because the read
//! is how a dead connection shows. While both run, the caller's connection is watched: when the caller leaves, the
//! upstream connection is shut down at once, since a provider bills for answers that nobody reads.

use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::{Connection, Line, Watch};
use crate::http::Framing;
use crate::http::head::{self, Head, HeadLimits, StatusLine};
use crate::net::{self, Deadline, Fill, Reader, Writer};

/// Room for an answer's head and the start of its body.
const READ_BYTES: usize = 4 * 1024;
/// Interim responses before the final one: more than one a second for as long as a first byte is waited for by default,
/// since some servers say with each that they are still at work. A chain without end is an attack.
const INTERIM_MAX: usize = 1000;

/// A piece of an outgoing message.
pub enum Part {
    /// Bytes made here.
    Own(Vec<u8>),
    /// A run of the caller's own bytes.
    Body(Range<usize>),
}

/// How much of an answer's head is accepted. Providers send up to a few kilobytes of rate-limit and tracing fields.
pub const ANSWER_HEAD_LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    fields_max: head::FIELDS_CEILING,
    target_bytes_max: 0,
};

/// A request ready to be sent, and sent again: the caller's bytes with the parts of the message over them.
#[derive(Default)]
pub struct Outgoing {
    /// What is sent first: the head with as much of the body as was worth putting behind it.
    pub start: Vec<u8>,
    /// What follows, in this order.
    pub rest: Vec<Part>,
    /// What the ranges of `rest` are over.
    pub body: Vec<u8>,
}

impl Outgoing {
    async fn write(mut self, mut writer: Writer) -> Wrote {
        let (result, start) = writer.write_all(std::mem::take(&mut self.start)).await;
        self.start = start;
        if result.is_err() {
            return (writer, self, result);
        }
        for part in &mut self.rest {
            let result = match part {
                Part::Own(own) => {
                    let (result, bytes) = writer.write_all(std::mem::take(own)).await;
                    *own = bytes;
                    result
                }
                Part::Body(range) => {
                    let (result, bytes) = writer
                        .write_range(std::mem::take(&mut self.body), range.clone())
                        .await;
                    self.body = bytes;
                    result
                }
            };
            if result.is_err() {
                return (writer, self, result);
            }
        }
        (writer, self, Ok(()))
    }
}

type Wrote = (Writer, Outgoing, io::Result<()>);

/// The sending half of an exchange, which may outlive the arrival of the answer.
pub enum Sending {
    /// Not all is sent.
    Running(Pin<Box<dyn Future<Output = Wrote>>>),
    /// It has ended; whether everything was sent.
    Ended {
        /// The connection's writing direction.
        writer: Writer,
        /// The message, for sending it again.
        outgoing: Outgoing,
        /// Whether every byte was taken.
        whole: bool,
    },
}

impl Sending {
    /// Lets the sending go on. Returns whether it ended just now.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let Self::Running(running) = self else {
            return false;
        };
        let Poll::Ready((writer, outgoing, result)) = running.as_mut().poll(cx) else {
            return false;
        };
        *self = Self::Ended {
            writer,
            outgoing,
            whole: result.is_ok(),
        };
        true
    }

    async fn ended(mut self) -> (Writer, Outgoing, bool) {
        loop {
            match self {
                Self::Running(running) => {
                    let (writer, outgoing, result) = running.await;
                    self = Self::Ended {
                        writer,
                        outgoing,
                        whole: result.is_ok(),
                    };
                }
                Self::Ended {
                    writer,
                    outgoing,
                    whole,
                } => return (writer, outgoing, whole),
            }
        }
    }
}

/// The head of a provider's answer, and the connection that the rest comes over.
pub struct Answer {
    /// The final response's head.
    pub head: Head<StatusLine>,
    /// What `head` is over, and what came behind it already.
    pub bytes: Vec<u8>,
    line: Box<Line>,
    sending: Sending,
}

impl Answer {
    /// The connection again, after a clean exchange; none if the request was not sent whole, or the provider sent more
    /// than its answer.
    #[expect(clippy::boxed_local, reason = "taken apart where it lies")]
    pub fn into_connection(self: Box<Self>) -> Option<Connection> {
        let Sending::Ended {
            writer,
            outgoing,
            whole: true,
        } = self.sending
        else {
            return None;
        };
        self.head.recycle();
        net::recycle(outgoing.start);
        net::recycle(outgoing.body);
        let line = self.line;
        let empty = line.reader.bytes().is_empty();
        empty.then_some(Connection { line, writer })
    }

    /// The connection's deadline.
    pub fn deadline(&self) -> &Deadline {
        &self.line.deadline
    }

    /// Reads more of the answer into `buf`, while the rest of the request is still being sent and the caller watched.
    pub async fn receive(
        &mut self,
        buf: Vec<u8>,
        spare: usize,
        watch: &mut Watch<'_>,
    ) -> (Fill, Vec<u8>) {
        let line = &mut *self.line;
        line.reader.put_back(buf);
        let fill = poll_fn(|cx| {
            self.sending.poll(cx);
            let fill = line.reader.poll_fill(cx, spare);
            if fill.is_pending() {
                watch.poll(cx, &line.deadline);
            }
            fill
        })
        .await;
        (fill, line.reader.take())
    }

    /// Takes the message back for another attempt while the answer is held; none while it is still being sent.
    pub fn reclaim_outgoing(&mut self) -> Option<Outgoing> {
        match &mut self.sending {
            Sending::Running(_) => None,
            Sending::Ended { outgoing, .. } => Some(std::mem::take(outgoing)),
        }
    }

    /// Gives the connection up while the message is still being sent, and takes that back for another attempt.
    pub async fn stop_sending(&mut self) -> Outgoing {
        self.line.deadline.hang_up();
        poll_fn(|cx| {
            self.sending.poll(cx);
            self.reclaim_outgoing().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Whether all of a body so framed has come with its head.
    pub fn is_here(&self, framing: Framing) -> bool {
        let begin = (self.bytes.len() - self.head.end) as u64;
        match framing {
            Framing::None => true,
            Framing::Length(length) => length <= begin,
            Framing::Chunked | Framing::UntilClose => false,
        }
    }

    /// Gives the answer up and the connection with it; returns the request for another attempt.
    pub async fn discard(self) -> Outgoing {
        self.line.deadline.hang_up();
        self.sending.ended().await.1
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection ended before the first byte of an answer.
    Closed,
    /// It ended inside the head, or behind an interim one.
    Truncated,
    /// The answer is no HTTP that we accept.
    Malformed,
    /// No answer began in time.
    TimedOut,
    /// The provider's machine acknowledges nothing any more.
    Unacknowledged,
}

/// What came of a request.
pub enum Sent {
    /// An answer.
    Answered(Box<Answer>),
    /// None; the message comes back for another attempt.
    Failed(Failure, Outgoing),
}

/// Sends `outgoing` at `now` and waits for the head of the final response.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice"
)]
pub fn send(
    connection: Connection,
    mut outgoing: Outgoing,
    now: Instant,
    first_byte_timeout: Duration,
    limits: &HeadLimits,
    watch: &mut Watch<'_>,
) -> impl Future<Output = Sent> {
    async move {
        let Connection {
            mut line,
            mut writer,
        } = connection;
        let Line {
            reader, deadline, ..
        } = &mut *line;
        // What fits into the socket's buffer is with the kernel in a moment, and nobody is asked before. What may take longer
        // is sent beside all else, for as long as the provider takes some of it: its time begins when it has the whole.
        let takes_time = !outgoing.rest.is_empty();
        let mut sending = match takes_time {
            true => {
                deadline.arm_writing(now, first_byte_timeout);
                Sending::Running(Box::pin(outgoing.write(writer)))
            }
            false => {
                deadline.arm(now, first_byte_timeout);
                let (result, start) = writer.write_all(std::mem::take(&mut outgoing.start)).await;
                outgoing.start = start;
                Sending::Ended {
                    writer,
                    outgoing,
                    whole: result.is_ok(),
                }
            }
        };
        let mut arriving = Arriving {
            limits,
            scanned: 0,
            interim: 0,
        };
        let arrived = poll_fn(|cx| {
            if sending.poll(cx) {
                // The last of it is with the kernel, which may have megabytes of it still to deliver.
                deadline.arm_writing(Instant::now(), first_byte_timeout);
            }
            let arrived = arriving.poll(cx, reader);
            if arrived.is_pending() {
                watch.poll(cx, deadline);
            }
            arrived
        })
        .await;
        match arrived {
            Ok(head) => {
                deadline.disarm();
                let bytes = reader.take();
                Sent::Answered(Box::new(Answer {
                    head,
                    bytes,
                    line,
                    sending,
                }))
            }
            Err(failure) => {
                deadline.hang_up();
                let (_, outgoing, _) = Box::pin(sending.ended()).await;
                let failure = match failure {
                    _ if deadline.fired() => Failure::TimedOut,
                    Failure::Closed if deadline.deserted() => Failure::Unacknowledged,
                    failure => failure,
                };
                Sent::Failed(failure, outgoing)
            }
        }
    }
}

struct Arriving<'a> {
    limits: &'a HeadLimits,
    scanned: usize,
    interim: usize,
}

impl Arriving<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Reader,
    ) -> Poll<Result<Head<StatusLine>, Failure>> {
        loop {
            match reader.poll_fill(cx, READ_BYTES) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Fill::Bytes(_)) => {}
                Poll::Ready(_) if reader.bytes().is_empty() && self.interim == 0 => {
                    return Poll::Ready(Err(Failure::Closed));
                }
                Poll::Ready(_) => return Poll::Ready(Err(Failure::Truncated)),
            }
            if let Some(outcome) = self.parse(reader) {
                return Poll::Ready(outcome);
            }
        }
    }

    /// Parses what is there, dropping interim responses. None wants more bytes.
    fn parse(&mut self, reader: &mut Reader) -> Option<Result<Head<StatusLine>, Failure>> {
        loop {
            let head = match head::response(reader.bytes(), &mut self.scanned, self.limits) {
                Ok(Some(head)) => head,
                Ok(None) => return None,
                Err(error) => {
                    tracing::warn!(?error, "provider sent a malformed head");
                    return Some(Err(Failure::Malformed));
                }
            };
            match head.line.status {
                // Nothing asked for an upgrade.
                101 => return Some(Err(Failure::Malformed)),
                100..=199 => {
                    self.interim += 1;
                    if self.interim > INTERIM_MAX {
                        return Some(Err(Failure::Malformed));
                    }
                    let mut bytes = reader.take();
                    bytes.drain(..head.end);
                    reader.put_back(bytes);
                    self.scanned = 0;
                }
                _ => return Some(Ok(head)),
            }
        }
    }
}
