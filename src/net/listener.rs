//! Where callers come in: bound once for the whole process, then opened by every worker.
//!
//! A TCP address is bound with SO_REUSEPORT once per worker, so the kernel spreads connections over cores without a
//! shared queue; a Unix socket has one queue, and so has a socket that a service manager hands in: one worker accepts
//! from it for all. `server` binds before any thread starts, so a taken port is an error of the start and not of a
//! worker. A listening socket is never shut down: it may be another process's too.
//!
//! The loop only waits for callers; they are taken from the queue by a call that never waits. So an accept may be
//! dropped or stopped at any time without losing anybody, and a caller may go to another thread before its first byte.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::runtime::{epoll, sleep};
use super::stream::Stream;

/// Connections the kernel completes while a core is busy; more than any burst a core can lag behind.
const BACKLOG: i32 = 4096;
/// Callers taken from the queue before the loop turns once: a burst is soon taken in, and those who are served already
/// wait for a fraction of a millisecond.
const ACCEPTS_IN_A_ROW: usize = 32;
/// The shortest pause that the loop's timer knows.
const TURN: Duration = Duration::from_millis(1);

/// A router that was killed lets go of its ports some ten milliseconds after it is gone, when io_uring is taken down.
const IN_USE_PATIENCE: Duration = Duration::from_millis(400);
const IN_USE_PAUSE: Duration = Duration::from_millis(10);

/// Binds once more for a moment where an address is in use. Blocks: for a start, before any loop runs.
pub fn bind_patiently<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        match bind() {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && began.elapsed() < IN_USE_PATIENCE =>
            {
                std::thread::sleep(IN_USE_PAUSE);
            }
            bound => return bound,
        }
    }
}

/// The address that a listener really got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundAddr {
    /// IP and port.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl fmt::Display for BoundAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listening socket that may be moved to the thread that will use it.
pub enum BoundListener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// Unix.
    Unix(UnixListener),
}

impl BoundListener {
    /// Binds `address` once for each of `count` workers. Port 0 takes one free port for all of them.
    pub fn tcp(address: SocketAddr, count: usize) -> io::Result<(BoundAddr, Vec<Self>)> {
        if address.port() != 0 {
            // With SO_REUSEPORT alone, a second router would quietly take half of the first one's callers.
            tcp_socket(address, false)?;
        }
        let mut bound = address;
        let mut listeners = Vec::with_capacity(count);
        for _ in 0..count {
            let socket = tcp_socket(bound, true)?;
            socket.listen(BACKLOG)?;
            let listener = std::net::TcpListener::from(socket);
            bound = listener.local_addr()?;
            listeners.push(Self::Tcp(listener));
        }
        Ok((BoundAddr::Tcp(bound), listeners))
    }

    /// Binds a Unix socket; one that nobody answers on any more is replaced. Anything else at that path stays.
    pub fn unix(path: &Path) -> io::Result<(BoundAddr, Self)> {
        if is_deserted(path) {
            std::fs::remove_file(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        let listener = Self::Unix(UnixListener::from(socket));
        Ok((BoundAddr::Unix(path.to_owned()), listener))
    }

    /// The address that it listens on; none for a Unix socket without a name.
    pub fn addr(&self) -> Option<BoundAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(BoundAddr::Tcp),
            Self::Unix(listener) => {
                let addr = listener.local_addr().ok()?;
                addr.as_pathname()
                    .map(|path| BoundAddr::Unix(path.to_owned()))
            }
        }
    }

    /// The same socket once more, for another worker or another process.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(listener) => Self::Unix(listener.try_clone()?),
        })
    }

    /// Whether a caller waits to be accepted.
    pub fn somebody_waits(&self) -> bool {
        let mut queue = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll(&mut queue, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Hands the socket to this thread's loop.
    pub fn open(self) -> io::Result<Listener> {
        match &self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                // Who is accepted inherits it.
                SockRef::from(listener).set_tcp_nodelay(true)?;
            }
            Self::Unix(listener) => listener.set_nonblocking(true)?,
        }
        let own = match self.try_clone()? {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => OwnedFd::from(listener).into(),
        };
        Ok(Listener {
            bound: self,
            queue: monoio::net::TcpListener::from_std(own)?,
            in_a_row: Cell::new(0),
            preferred: Cell::new(None),
            stop: Stop::default(),
        })
    }
}

impl AsFd for BoundListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}

/// Whether a Unix socket's file is there and nobody listens on it any more.
pub fn is_deserted(path: &Path) -> bool {
    let socket = std::fs::symlink_metadata(path).is_ok_and(|at| at.file_type().is_socket());
    let refused = || {
        let connected = UnixStream::connect(path);
        connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    socket && refused()
}

fn tcp_socket(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A listening socket on this thread's loop.
pub struct Listener {
    bound: BoundListener,
    /// The same socket, of either kind, for the loop to wait on.
    queue: monoio::net::TcpListener,
    in_a_row: Cell<usize>,
    preferred: Cell<Option<usize>>,
    stop: Stop,
}

#[derive(Default)]
struct Stop {
    stopped: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

/// A new caller, on no loop yet.
pub struct Accepted {
    connection: Connection,
    /// Who it is; none for a Unix socket.
    pub peer: Option<SocketAddr>,
}

enum Connection {
    Tcp(std::net::TcpStream),
    Unix(UnixStream),
}

impl Accepted {
    /// Takes the connection onto this thread's loop.
    pub fn open(self) -> io::Result<Stream> {
        // epoll wants a socket that never blocks; io_uring waits in the kernel, which it does not for such a one.
        let stream = match self.connection {
            Connection::Tcp(stream) => {
                stream.set_nonblocking(epoll())?;
                Stream::tcp(monoio::net::TcpStream::from_std(stream)?)
            }
            Connection::Unix(stream) => {
                stream.set_nonblocking(epoll())?;
                Stream::unix(monoio::net::UnixStream::from_std(stream)?)
            }
        };
        Ok(stream)
    }
}

impl Listener {
    /// Waits for a caller; an error once the listener is stopped.
    pub async fn accept(&self) -> io::Result<Accepted> {
        loop {
            if self.stopped() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let in_a_row = self.in_a_row.get();
            if in_a_row < ACCEPTS_IN_A_ROW {
                if let Some(accepted) = self.accept_waiting()? {
                    self.in_a_row.set(in_a_row + 1);
                    return Ok(accepted);
                }
            } else if epoll() {
                // With io_uring every wait lets the loop turn; epoll does not wait for what is there.
                sleep(TURN).await;
            }
            self.in_a_row.set(0);
            self.readable().await?;
        }
    }

    async fn readable(&self) -> io::Result<()> {
        let mut ready = pin!(self.queue.readable(false));
        poll_fn(|cx| {
            if self.stopped() {
                return Poll::Ready(Ok(()));
            }
            *self.stop.waiting.borrow_mut() = Some(cx.waker().clone());
            ready.as_mut().poll(cx)
        })
        .await
    }

    /// A caller that the kernel has connected already; none if none waits. Whoever is still in the queue when a listener
    /// closes that nobody else accepts from is reset.
    pub fn accept_waiting(&self) -> io::Result<Option<Accepted>> {
        let accepted = match &self.bound {
            BoundListener::Tcp(listener) => listener
                .accept()
                .map(|(stream, peer)| (Connection::Tcp(stream), Some(peer))),
            BoundListener::Unix(listener) => listener
                .accept()
                .map(|(stream, _)| (Connection::Unix(stream), None)),
        };
        match accepted {
            Ok((connection, peer)) => Ok(Some(Accepted { connection, peer })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the accept under way, and every later one, return with an error.
    pub fn stop(&self) {
        self.stop.stopped.set(true);
        if let Some(waiting) = self.stop.waiting.take() {
            waiting.wake();
        }
    }

    /// Whether accepting has been ended.
    pub fn stopped(&self) -> bool {
        self.stop.stopped.get()
    }

    /// Asks for the callers that the kernel hears of on `cpu`; none: for any, as its hash of their addresses has it.
    /// What several sockets share (SO_REUSEPORT) is told apart so since Linux 6.2; kernels before that do not mind.
    pub fn prefer(&self, cpu: Option<usize>) {
        /// The kernel's −1.
        const ANY: usize = usize::MAX;
        let BoundListener::Tcp(listener) = &self.bound else {
            return;
        };
        if self.preferred.replace(cpu) != cpu {
            // A wish: callers come without it too.
            let _ = SockRef::from(listener).set_cpu_affinity(cpu.unwrap_or(ANY));
        }
    }
}

#[cfg(test)]
mod tests;
