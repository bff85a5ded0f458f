//! The built-in provider for trying out: a real HTTP/1.1 origin on a loopback port, in the process, on its own thread.
//!
//! It answers as OpenAI, Anthropic and Google do, plain and streamed, by echoing the newest user message and what was
//! recalled for it, so that a first request takes the whole way through the router without any provider account. `cli`
//! starts it before the workers, and only where the configuration enables it. Not for production, and it says so in
//! its answers' ids.

mod answer;
mod anthropic;
mod gemini;
mod openai;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::http::head::{self, Head, HeadLimits, Method, RequestLine, Version};
use crate::http::{ChunkScanner, Framing, chunk, framing};
use crate::net::{self, BoundAddr, BoundListener, Deadline, Deadlines, Fill, Reader, Side, Writer};
use answer::{Content, Reply};

pub use answer::MODEL;

/// What it accepts: the router's own limits by default, so that whatever passes there passes here.
const HEAD_LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    fields_max: 128,
    target_bytes_max: 16 * 1024,
};
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// Longer than the router keeps idle connections, so that the router closes first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Where the provider of this process listens.
static ADDRESS: Mutex<Option<SocketAddr>> = Mutex::new(None);

/// The provider's address. It starts when it is asked for first, and its thread lives as long as the process.
pub fn address() -> io::Result<SocketAddr> {
    let mut address = ADDRESS.lock().unwrap_or_else(PoisonError::into_inner);
    match *address {
        Some(address) => Ok(address),
        None => Ok(*address.insert(start()?)),
    }
}

fn start() -> io::Result<SocketAddr> {
    let (bound, mut listeners) = BoundListener::tcp((Ipv4Addr::LOCALHOST, 0).into(), 1)?;
    let (BoundAddr::Tcp(address), Some(listener)) = (bound, listeners.pop()) else {
        return Err(io::Error::other("no TCP listener"));
    };
    let (ready, started) = mpsc::channel();
    thread::Builder::new().name("demo".into()).spawn(move || {
        let served = net::run(async move {
            let opened = listener.open();
            // The starter waits for exactly this.
            let _ = ready.send(opened.as_ref().map(drop).map_err(io::Error::kind));
            if let Ok(listener) = opened {
                serve(listener).await;
            }
        });
        if let Err(error) = served {
            tracing::error!(%error, "the demo provider stopped");
        }
    })?;
    match started.recv() {
        Ok(Ok(())) => Ok(address),
        Ok(Err(kind)) => Err(kind.into()),
        Err(_) => Err(io::Error::other("the demo provider did not start")),
    }
}

async fn serve(listener: net::Listener) {
    let deadlines = Deadlines::new(Instant::now());
    net::spawn(deadlines.clone().keep());
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                let Ok(stream) = accepted.open() else {
                    continue;
                };
                let deadlines = deadlines.clone();
                net::spawn(async move {
                    let connection = Connection::new(stream, &deadlines);
                    if net::isolate(Box::pin(connection.serve())).await.is_err() {
                        tracing::error!("the demo provider lost a connection to a bug");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the demo provider cannot accept");
                net::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

struct Connection {
    reader: Reader,
    writer: Writer,
    deadline: Deadline,
}

impl Connection {
    fn new(stream: net::Stream, deadlines: &Rc<Deadlines>) -> Self {
        let (reader, writer, hangup) = stream.split();
        let deadline = deadlines.register(Side::Downstream, hangup);
        Self {
            reader,
            writer,
            deadline,
        }
    }

    /// Answers request after request; None inside means that the connection is over.
    async fn serve(mut self) {
        while self.exchange().await.is_some() {}
    }

    async fn exchange(&mut self) -> Option<()> {
        self.deadline.arm(Instant::now(), IDLE_TIMEOUT);
        let head = self.head().await?;
        let keep = framing::keeps_alive(&head, self.reader.bytes(), head.line.version);
        let path = head.path(self.reader.bytes()).to_owned();
        let query = head
            .query(self.reader.bytes())
            .unwrap_or_default()
            .to_owned();
        let body = self.body(&head).await?;
        let reply = match head.line.method {
            Method::Post => answer::answer(&path, &query, &body, clock::unix_seconds()),
            _ => answer::not_found(&path),
        };
        self.write(reply, head.line.version).await?;
        (keep && head.line.version == Version::Http11).then_some(())
    }

    async fn head(&mut self) -> Option<Head<RequestLine>> {
        let mut scanned = 0;
        loop {
            match head::request(self.reader.bytes(), &mut scanned, &HEAD_LIMITS) {
                Ok(Some(head)) => return Some(head),
                Ok(None) => self.fill().await?,
                Err(_) => return None,
            }
        }
    }

    async fn body(&mut self, head: &Head<RequestLine>) -> Option<Vec<u8>> {
        let framing = Framing::of_request(head, self.reader.bytes()).ok()?;
        let mut rest = self.reader.take().split_off(head.end);
        let mut body = Vec::new();
        match framing {
            Framing::Chunked => {
                let mut scanner = ChunkScanner::default();
                loop {
                    let used = scanner
                        .scan(&rest, |range| body.extend_from_slice(&rest[range]))
                        .ok()?;
                    if scanner.done() {
                        rest.drain(..used);
                        break;
                    }
                    if body.len() > BODY_BYTES_MAX {
                        return None;
                    }
                    self.fill().await?;
                    rest = self.reader.take();
                }
            }
            Framing::Length(length) => {
                let length = usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= BODY_BYTES_MAX)?;
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
        Some(body)
    }

    async fn fill(&mut self) -> Option<()> {
        matches!(self.reader.fill(READ_BYTES).await, Fill::Bytes(_)).then_some(())
    }

    async fn write(&mut self, reply: Reply, version: Version) -> Option<()> {
        let Reply { status, content } = reply;
        let reason = if status == 200 { "OK" } else { "Error" };
        match content {
            Content::Json(body) => {
                let head = format!(
                    "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\nx-request-id: demo\r\n\
                     content-length: {}\r\n\r\n",
                    body.len()
                );
                self.send([head.into_bytes(), body.into_bytes()].concat())
                    .await
            }
            Content::Events(events) if version == Version::Http11 => {
                let head = format!(
                    "HTTP/1.1 {status} {reason}\r\ncontent-type: text/event-stream\r\nx-request-id: demo\r\n\
                     cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
                );
                self.send(head.into_bytes()).await?;
                for event in events {
                    let mut framed = Vec::new();
                    chunk::put(&mut framed, event.as_bytes());
                    self.send(framed).await?;
                }
                self.send(b"0\r\n\r\n".to_vec()).await
            }
            Content::Events(_) => None,
        }
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Option<()> {
        self.writer.write_all(bytes).await.0.ok()
    }
}
