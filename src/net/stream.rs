//! One connection of any transport (TCP, Unix socket, TLS on either side), split for reading and writing at once.
//!
//! `listener` and `connect` make streams; `Stream::split` hands out a `Reader`, a `Writer` and a `Hangup`. Buffers
//! are owned by the operation while it runs and come back with its result.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use monoio::buf::IoBuf;
use monoio::io::{AsyncWriteRent, OwnedWriteHalf, Splitable};
use monoio::net::{TcpStream, UnixStream};
use monoio_rustls::{ClientTlsStream, ServerTlsStream};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use socket2::{Domain, Socket, TcpKeepalive, Type};

use super::acknowledged::Acknowledged;
use super::reader::Reader;
use super::runtime::epoll;

/// An idle upstream whose machine vanished is noticed after about 15 + 3 × 5 seconds; one with a request under way,
/// when the wheel looks (`Deadline::expect_acknowledgements`).
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// A connected stream, not yet split.
pub struct Stream {
    pub(super) transport: Transport,
    hangup: Hangup,
}

pub(super) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    TlsServer(Box<ServerTlsStream<TcpStream>>),
    TlsClient(Box<ClientTlsStream<TcpStream>>),
}

/// Opens a TCP connection. The address is already resolved: a name look-up would block the core. Without
/// TCP_USER_TIMEOUT (RFC 5482), which ends a connection whose peer answers and reads nothing, too: the wheel looks for
/// those whose machine vanished.
///
/// The one operation that a timeout may drop: no bytes can be lost on a connection that does not exist.
pub async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES),
    )?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
        _ => {}
    }
    let own = socket.try_clone()?;
    let stream = TcpStream::from_std(socket.into())?;
    monoio::time::timeout(timeout, stream.writable(false))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if let Some(error) = own.take_error()? {
        return Err(error);
    }
    // io_uring waits in the kernel, which it does not for a descriptor that asks for no waiting.
    own.set_nonblocking(epoll())?;
    Ok(Stream::tcp(stream))
}

/// Two ends of one connection inside this process.
pub fn pair() -> io::Result<(Stream, Stream)> {
    let end = |stream: std::os::unix::net::UnixStream| {
        // As a listener's: epoll wants a socket that never blocks.
        stream.set_nonblocking(epoll())?;
        UnixStream::from_std(stream).map(Stream::unix)
    };
    let (one, other) = std::os::unix::net::UnixStream::pair()?;
    Ok((end(one)?, end(other)?))
}

impl Stream {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        let hangup = Hangup::new(stream.as_raw_fd());
        Self {
            transport: Transport::Tcp(stream),
            hangup,
        }
    }

    pub(super) fn unix(stream: UnixStream) -> Self {
        let hangup = Hangup::new(stream.as_raw_fd());
        Self {
            transport: Transport::Unix(stream),
            hangup,
        }
    }

    /// A finished handshake in the place of the plain stream below it.
    pub(super) fn with_hangup(transport: Transport, hangup: Hangup) -> Self {
        Self { transport, hangup }
    }

    /// The handle that ends this stream's operations; good before the split too (a handshake in flight).
    pub fn hangup(&self) -> Hangup {
        self.hangup.clone()
    }

    /// Splits into the two directions, which may then run at once.
    pub fn split(self) -> (Reader, Writer, Hangup) {
        let (reader, half) = match self.transport {
            Transport::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (Reader::new(read), WriteHalf::Tcp(write))
            }
            Transport::Unix(stream) => {
                let (read, write) = stream.into_split();
                (Reader::new(read), WriteHalf::Unix(write))
            }
            Transport::TlsServer(stream) => {
                let (read, write) = stream.into_split();
                (Reader::over_tls(read), WriteHalf::TlsServer(write))
            }
            Transport::TlsClient(stream) => {
                let (read, write) = stream.into_split();
                (Reader::over_tls(read), WriteHalf::TlsClient(write))
            }
        };
        let writer = Writer {
            half,
            hangup: self.hangup.clone(),
        };
        (reader, writer, self.hangup)
    }
}

/// Ends a connection from outside: `shutdown(2)` in both directions, so that whatever operation is in flight on it
/// completes. Harmless after the connection is gone.
#[derive(Clone)]
pub struct Hangup(Rc<Handle>);

struct Handle {
    /// `CLOSED` once the connection is.
    fd: Cell<RawFd>,
    /// Some of what is being written has gone out, and not all.
    wrote: Cell<bool>,
}

/// No descriptor's number.
const CLOSED: RawFd = -1;

impl Hangup {
    pub(super) fn new(fd: RawFd) -> Self {
        Self(Rc::new(Handle {
            fd: Cell::new(fd),
            wrote: Cell::new(false),
        }))
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.0.fd.get()).filter(|fd| *fd != CLOSED)
    }

    /// A part of a write has gone out.
    pub(super) fn set_wrote(&self) {
        self.0.wrote.set(true);
    }

    /// Whether one has since this was asked.
    pub(super) fn take_wrote(&self) -> bool {
        self.0.wrote.take()
    }

    /// What the peer has acknowledged, where the kernel can tell.
    pub(super) fn acknowledged(&self) -> Option<Acknowledged> {
        Acknowledged::of(self.fd()?).ok()
    }

    /// Shuts the connection down now. Errors mean that it is down already.
    pub fn now(&self) {
        if let Some(fd) = self.fd() {
            let _ = shutdown(fd, Shutdown::Both);
        }
    }

    /// Nothing more is read: a read in flight ends, while the peer may still be told something.
    pub(super) fn read_side(&self) {
        if let Some(fd) = self.fd() {
            let _ = shutdown(fd, Shutdown::Read);
        }
    }

    /// Half-closes: the peer sees the end of our bytes, while we may still read.
    fn write_side(&self) {
        if let Some(fd) = self.fd() {
            let _ = shutdown(fd, Shutdown::Write);
        }
    }

    /// Forgets the descriptor before it is closed, so that a later number's new owner is never hit.
    fn forget(&self) {
        self.0.fd.set(CLOSED);
    }
}

enum WriteHalf {
    Tcp(OwnedWriteHalf<TcpStream>),
    Unix(OwnedWriteHalf<UnixStream>),
    TlsServer(OwnedWriteHalf<ServerTlsStream<TcpStream>>),
    TlsClient(OwnedWriteHalf<ClientTlsStream<TcpStream>>),
}

/// The writing direction of a connection. Dropping it closes the connection.
pub struct Writer {
    half: WriteHalf,
    hangup: Hangup,
}

/// Writes `buf[range]` and gives `buf` back. Not by the runtime's own function, which for any kind of buffer wraps it
/// once more; mostly one write is all.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn keeps its arguments twice"
)]
fn write_all(
    half: &mut impl AsyncWriteRent,
    mut buf: Vec<u8>,
    mut range: Range<usize>,
    hangup: &Hangup,
) -> impl Future<Output = (io::Result<()>, Vec<u8>)> {
    async move {
        while !range.is_empty() {
            let (result, slice) = half.write(buf.slice(range.clone())).await;
            buf = slice.into_inner();
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
                Ok(count) => {
                    range.start += count;
                    if !range.is_empty() {
                        hangup.set_wrote();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (Err(error), buf),
            }
        }
        (Ok(()), buf)
    }
}

impl Writer {
    /// Writes all of `buf` and gives it back.
    pub fn write_all(&mut self, buf: Vec<u8>) -> impl Future<Output = (io::Result<()>, Vec<u8>)> {
        let range = 0..buf.len();
        self.write_range(buf, range)
    }

    /// Writes `buf[range]` and gives `buf` back.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn keeps its arguments twice"
    )]
    pub fn write_range(
        &mut self,
        buf: Vec<u8>,
        range: Range<usize>,
    ) -> impl Future<Output = (io::Result<()>, Vec<u8>)> {
        async move {
            let hangup = &self.hangup;
            match &mut self.half {
                WriteHalf::Tcp(half) => write_all(half, buf, range, hangup).await,
                WriteHalf::Unix(half) => write_all(half, buf, range, hangup).await,
                // Apart: beside what TLS costs an allocation is nothing, and a plain exchange's future stays small.
                WriteHalf::TlsServer(half) => Box::pin(write_all(half, buf, range, hangup)).await,
                WriteHalf::TlsClient(half) => Box::pin(write_all(half, buf, range, hangup)).await,
            }
        }
    }

    /// The handle that ends this connection's operations.
    pub fn hangup(&self) -> Hangup {
        self.hangup.clone()
    }

    /// Tells the peer that nothing more comes: a close_notify under TLS, then FIN.
    pub async fn finish(&mut self) {
        let _ = match &mut self.half {
            WriteHalf::Tcp(half) => half.shutdown().await,
            WriteHalf::Unix(half) => half.shutdown().await,
            WriteHalf::TlsServer(half) => Box::pin(half.shutdown()).await,
            WriteHalf::TlsClient(half) => Box::pin(half.shutdown()).await,
        };
        self.hangup.write_side();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A read may still be in flight; it keeps the descriptor open until it completes, which this makes it do.
        self.hangup.now();
        self.hangup.forget();
    }
}
