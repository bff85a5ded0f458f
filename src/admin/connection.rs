//! One connection to the admin port: request after request, each judged by its head before its body is read.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_core::Stream as _;

use super::answer::{Answer, Broken, Denial, Piece, Reply, reason};
use super::desk::Desk;
use super::guards::{GUARDS, guarded};
use super::request::Request;
use super::routes;
use crate::http::head::{self, Head, HeadLimits, RequestLine};
use crate::http::{ChunkScanner, Framing, Method, Name, Version, chunk, framing};
use crate::net::{self, Deadline, Fill, Reader, Side, Stream, Writer};
use crate::upstream::Watch;

const HEAD_LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    fields_max: 100,
    target_bytes_max: 16 * 1024,
};
const READ_BYTES: usize = 64 * 1024;
/// An import is the largest body.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Of whoever has shown no credential: a log-in holds a token.
const STRANGER_BODY_BYTES_MAX: usize = 4 * 1024;
/// Between two requests of somebody who was let in: dashboards ask every second or two.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// For a whole head, and for all that a stranger sends, counted from the connection's start or the answer before: places
/// are few, and a byte now and then must not keep one.
const STRANGER_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of a body or an answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A playground's answer may be a long time coming; the router's own timeouts hold there.
const RELAY_TIMEOUT: Duration = Duration::from_secs(3600);

pub(super) struct Connection {
    reader: Reader,
    writer: Writer,
    deadline: Deadline,
    peer: Option<SocketAddr>,
    secure: bool,
    /// Whether its last request came with a credential.
    known: bool,
}

/// Whether another request may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Next,
    End,
}

impl Connection {
    pub(super) fn new(stream: Stream, peer: Option<SocketAddr>, secure: bool, desk: &Desk) -> Self {
        let (reader, writer, hangup) = stream.split();
        let deadline = desk.deadlines.register(Side::Downstream, hangup);
        Self {
            reader,
            writer,
            deadline,
            peer,
            secure,
            known: false,
        }
    }

    /// Answers request after request; None inside means that the connection is over.
    pub(super) async fn serve(mut self, desk: Rc<Desk>) {
        while self.exchange(&desk).await == Some(Then::Next) {}
        self.writer.finish().await;
        self.linger().await;
    }

    async fn exchange(&mut self, desk: &Rc<Desk>) -> Option<Then> {
        let head = match self.head().await? {
            Ok(head) => head,
            Err(denial) => return self.deny(denial, Version::Http11, false).await,
        };
        let version = head.line.version;
        let mut request = Request::new(&head, self.reader.bytes(), self.peer, self.secure);
        let keep =
            version == Version::Http11 && framing::keeps_alive(&head, self.reader.bytes(), version);
        let head_only = request.method == Method::Head;
        let who = match routes::admit(desk, &request) {
            Ok(who) => who,
            Err(denial) => return self.deny(denial, version, head_only).await,
        };
        self.known = who.is_some();
        request.body = match self.body(&head).await? {
            Ok(body) => body,
            Err(denial) => return self.deny(denial, version, head_only).await,
        };
        // What makes the answer has its own ends.
        self.deadline.disarm();
        // A successor has the port: whoever asks again is to find it.
        let then = match keep && !desk.handed_over() {
            true => Then::Next,
            false => Then::End,
        };
        match routes::answer(desk, request, who).await {
            Ok(Reply::Whole(answer)) => self.write(&answer, version, head_only, then).await,
            // Whoever makes the pieces hears that nobody wants them.
            Ok(Reply::Pieces(answer, _)) if head_only => self.head_alone(&answer, then).await,
            Ok(Reply::Pieces(answer, pieces)) => self.pieces(answer, pieces, version, then).await,
            Ok(Reply::Relayed(ends)) => self.relay(ends.0, ends.1, desk).await,
            Err(denial) => {
                self.write(&denial.into_answer(), version, head_only, then)
                    .await
            }
        }
    }

    async fn head(&mut self) -> Option<Result<Head<RequestLine>, Denial>> {
        let patience = match self.known {
            true => IDLE_TIMEOUT,
            false => STRANGER_TIMEOUT,
        };
        self.deadline.arm(Instant::now(), patience);
        let (mut scanned, mut begun) = (0, false);
        loop {
            if !self.reader.bytes().is_empty() {
                match head::request(self.reader.bytes(), &mut scanned, &HEAD_LIMITS) {
                    Ok(Some(head)) => return Some(Ok(head)),
                    Ok(None) if self.known && !begun => {
                        begun = true;
                        self.deadline.arm(Instant::now(), STRANGER_TIMEOUT);
                    }
                    Ok(None) => {}
                    Err(_) => return Some(Err(Denial::odd("Malformed HTTP message"))),
                }
            }
            self.deadline.set_idle(self.reader.bytes().is_empty());
            let filled = self.reader.fill(READ_BYTES).await;
            self.deadline.set_idle(false);
            if !matches!(filled, Fill::Bytes(_)) {
                return None;
            }
        }
    }

    async fn body(&mut self, head: &Head<RequestLine>) -> Option<Result<Vec<u8>, Denial>> {
        let bytes = self.reader.bytes();
        let Ok(framing) = Framing::of_request(head, bytes) else {
            return Some(Err(Denial::odd("Malformed HTTP message")));
        };
        let bytes_max = match self.known {
            true => BODY_BYTES_MAX,
            false => STRANGER_BODY_BYTES_MAX,
        };
        let too_large = || {
            Denial::new(413, "Request body is too large").hint(format!("At most {bytes_max} bytes"))
        };
        if matches!(framing, Framing::Length(length) if length > bytes_max as u64) {
            return Some(Err(too_large()));
        }
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        let waits = head.first(Name::Expect, bytes).is_some() && bytes.len() == head.end;
        if has_body && waits {
            let interim = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
            self.writer.write_all(interim).await.0.ok()?;
        }
        let mut rest = self.reader.take().split_off(head.end);
        let mut body = Vec::new();
        match framing {
            Framing::Chunked => {
                let mut scanner = ChunkScanner::default();
                loop {
                    let scanned = scanner.scan(&rest, |range| body.extend_from_slice(&rest[range]));
                    let Ok(used) = scanned else {
                        return Some(Err(Denial::odd("Malformed HTTP message")));
                    };
                    if body.len() > bytes_max {
                        return Some(Err(too_large()));
                    }
                    if scanner.done() {
                        rest.drain(..used);
                        break;
                    }
                    self.fill().await?;
                    rest = self.reader.take();
                }
            }
            Framing::Length(length) => {
                // At most `bytes_max`.
                let length = length as usize;
                self.reader.put_back(rest);
                while self.reader.bytes().len() < length {
                    self.fill().await?;
                }
                body = self.reader.take();
                rest = body.split_off(length);
            }
            Framing::None | Framing::UntilClose => {}
        }
        self.reader.put_back(rest);
        Some(Ok(body))
    }

    /// More of a body: a stranger's time for all of it runs already.
    async fn fill(&mut self) -> Option<()> {
        if self.known {
            self.deadline.arm(Instant::now(), STALL_TIMEOUT);
        }
        let filled = self.reader.fill(READ_BYTES).await;
        matches!(filled, Fill::Bytes(_)).then_some(())
    }

    /// Refuses a request whose body was not read: the connection ends behind it.
    async fn deny(&mut self, denial: Denial, version: Version, head_only: bool) -> Option<Then> {
        self.write(&denial.into_answer(), version, head_only, Then::End)
            .await
    }

    /// The head of an answer whose length is not known before it is made.
    async fn head_alone(&mut self, answer: &Answer, then: Then) -> Option<Then> {
        let mut out = head_of(answer);
        if then == Then::End {
            out += "connection: close\r\n";
        }
        out += "\r\n";
        self.send(out.into_bytes()).await?;
        Some(then)
    }

    async fn write(
        &mut self,
        answer: &Answer,
        version: Version,
        head_only: bool,
        then: Then,
    ) -> Option<Then> {
        let mut out = head_of(answer);
        if answer.status != 204 {
            out += &format!("content-length: {}\r\n", answer.body.len());
        }
        if then == Then::End || version == Version::Http10 {
            out += "connection: close\r\n";
        }
        out += "\r\n";
        let mut out = out.into_bytes();
        if !head_only {
            out.extend_from_slice(&answer.body);
        }
        self.send(out).await?;
        Some(then)
    }

    /// Writes pieces as they come; the connection ends with them where the caller knows no chunks.
    async fn pieces(
        &mut self,
        answer: Answer,
        mut pieces: futures_channel::mpsc::Receiver<Piece>,
        version: Version,
        then: Then,
    ) -> Option<Then> {
        let chunked = version == Version::Http11;
        let mut out = head_of(&answer);
        if chunked {
            out += "transfer-encoding: chunked\r\n";
        }
        if !chunked || then == Then::End {
            out += "connection: close\r\n";
        }
        out += "\r\n";
        self.send(out.into_bytes()).await?;
        loop {
            // What makes them has its own ends.
            self.deadline.disarm();
            let next = std::future::poll_fn(|cx| std::pin::Pin::new(&mut pieces).poll_next(cx));
            let piece = match next.await {
                None => break,
                Some(Ok(piece)) if piece.is_empty() => continue,
                Some(Ok(piece)) => piece,
                Some(Err(Broken)) => return None,
            };
            let framed = match chunked {
                true => {
                    let mut framed = Vec::new();
                    chunk::put(&mut framed, &piece);
                    framed
                }
                false => piece,
            };
            self.send(framed).await?;
        }
        if !chunked {
            return Some(Then::End);
        }
        self.send(b"0\r\n\r\n".to_vec()).await?;
        Some(then)
    }

    /// Passes on what `reader` brings, until it ends or the caller leaves.
    async fn relay(&mut self, mut reader: Reader, writer: Writer, desk: &Desk) -> Option<Then> {
        let inner = desk.deadlines.register(Side::Upstream, writer.hangup());
        self.deadline.arm(Instant::now(), RELAY_TIMEOUT);
        let mut watch = Watch::new(&mut self.reader);
        let mut head_sent = false;
        loop {
            let filled = watch.during(&inner, pin!(reader.fill(READ_BYTES))).await;
            if watch.left() || !matches!(filled, Fill::Bytes(_)) {
                break;
            }
            let mut bytes = reader.take();
            if !head_sent {
                let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") else {
                    reader.put_back(bytes);
                    continue;
                };
                let rest = bytes.split_off(end + 2);
                bytes = guarded(&bytes);
                bytes.extend_from_slice(&rest);
                head_sent = true;
            }
            let (result, _) = self.writer.write_all(bytes).await;
            result.ok()?;
        }
        drop(writer);
        Some(Then::End)
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Option<()> {
        self.deadline.arm(Instant::now(), STALL_TIMEOUT);
        self.writer.write_all(bytes).await.0.ok()
    }

    /// Reads a little of what is still coming, so that the caller gets to read its answer and no reset.
    async fn linger(&mut self) {
        const BYTES_MAX: usize = 256 * 1024;
        self.deadline.arm(Instant::now(), Duration::from_secs(1));
        let mut read = 0;
        while let Fill::Bytes(count) = self.reader.fill(READ_BYTES).await {
            drop(self.reader.take());
            read += count;
            if read > BYTES_MAX {
                break;
            }
        }
    }
}

/// The head without its framing.
fn head_of(answer: &Answer) -> String {
    let mut out = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    if answer.status != 204 {
        out += &format!("content-type: {}\r\n", answer.media);
    }
    for (name, value) in &answer.fields {
        out += &format!("{name}: {value}\r\n");
    }
    out += GUARDS;
    if !answer
        .fields
        .iter()
        .any(|(name, _)| *name == "cache-control")
    {
        out += "cache-control: no-store\r\n";
    }
    out
}

/// For the module that accepts.
pub(super) async fn serve(connection: Connection, desk: Rc<Desk>) {
    if net::isolate(Box::pin(connection.serve(desk)))
        .await
        .is_err()
    {
        tracing::error!("the admin port lost a connection to a bug");
    }
}
