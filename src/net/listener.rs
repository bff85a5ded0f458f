//! Where callers come in: bound once for the whole process, then opened by every worker.
//!
//! A TCP address is bound with SO_REUSEPORT once per worker, so the kernel spreads connections over cores without a
//! shared queue; a Unix socket has one queue that all workers accept from, and so has a socket that a service manager
//! hands in. `server` binds before any thread starts, so a taken port is an error of the start and not of a worker.
//! A listening socket is never shut down: it may be another process's too.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::{CancelHandle, Canceller};
use monoio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::runtime::{epoll, within};
use super::stream::Stream;

/// Connections the kernel completes while a core is busy; more than any burst a core can lag behind.
const BACKLOG: i32 = 4096;
/// See [`Listener::take_left`]: a caller who is there comes with the next turn of the loop.
const LEFT_PATIENCE: Duration = Duration::from_millis(20);
/// How often the other process may be faster before it is trusted with the queue.
const LEFT_TRIES: usize = 50;
/// See [`Listener::accepts_at_once`].
const ACCEPTS_AT_ONCE: usize = 32;

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
    Unix(StdUnixListener),
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
    pub fn unix(path: &Path, count: usize) -> io::Result<(BoundAddr, Vec<Self>)> {
        let socket = std::fs::symlink_metadata(path).is_ok_and(|at| at.file_type().is_socket());
        let refused = || {
            let connected = std::os::unix::net::UnixStream::connect(path);
            connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        if socket && refused() {
            std::fs::remove_file(path)?;
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&socket2::SockAddr::unix(path)?)?;
        socket.listen(BACKLOG)?;
        let mut listeners = Vec::with_capacity(count);
        for _ in 0..count {
            listeners.push(Self::Unix(StdUnixListener::from(socket.try_clone()?)));
        }
        Ok((BoundAddr::Unix(path.to_owned()), listeners))
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

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(nonblocking),
            Self::Unix(listener) => listener.set_nonblocking(nonblocking),
        }
    }

    /// Hands the socket to this thread's loop.
    pub fn open(self) -> io::Result<Listener> {
        // epoll wants a socket that never blocks; io_uring answers EAGAIN on such a one instead of waiting.
        self.set_nonblocking(epoll())?;
        let own = self.try_clone()?;
        let socket = match self {
            Self::Tcp(listener) => OnLoop::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener) => OnLoop::Unix(UnixListener::from_std(listener)?),
        };
        Ok(Listener {
            socket,
            own,
            stop: AcceptStop::default(),
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
    socket: OnLoop,
    /// The same socket for calls that do not go through the loop.
    own: BoundListener,
    stop: AcceptStop,
}

enum OnLoop {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Ends a listener's accepting.
#[derive(Clone, Default)]
pub struct AcceptStop(Rc<RefCell<Stop>>);

#[derive(Default)]
struct Stop {
    canceller: Canceller,
    stopped: bool,
}

impl AcceptStop {
    /// Makes the accept under way, and every later one, return with an error. A caller that has just been accepted is
    /// still handed out.
    pub fn now(&self) {
        let running = {
            let mut stop = self.0.borrow_mut();
            stop.stopped = true;
            std::mem::take(&mut stop.canceller)
        };
        running.cancel();
    }
}

/// A new caller.
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// Who it is; none for a Unix socket.
    pub peer: Option<SocketAddr>,
}

impl Listener {
    /// Waits for a caller. Never dropped half-way (an accepted descriptor would leak): ended by `stop`.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let handle = {
            let stop = self.stop.0.borrow();
            if stop.stopped {
                return Err(io::ErrorKind::Interrupted.into());
            }
            stop.canceller.handle()
        };
        self.accepted(handle).await
    }

    async fn accepted(&self, ends_with: CancelHandle) -> io::Result<Accepted> {
        match &self.socket {
            OnLoop::Tcp(listener) => {
                let (stream, peer) = listener.cancelable_accept(ends_with).await?;
                accepted_tcp(stream, peer)
            }
            OnLoop::Unix(listener) => {
                let (stream, _) = listener.cancelable_accept(ends_with).await?;
                Ok(accepted_unix(stream))
            }
        }
    }

    /// How many accepts are to wait at once. With io_uring one brings one caller for each turn of the loop, and a turn
    /// with a thousand busy callers takes 25 ms: those who come in a burst would wait for seconds. With epoll one
    /// accept goes on while there are callers.
    pub fn accepts_at_once(&self) -> usize {
        if epoll() { 1 } else { ACCEPTS_AT_ONCE }
    }

    /// Whether accepting has been ended.
    pub fn stopped(&self) -> bool {
        self.stop.0.borrow().stopped
    }

    /// The handle that ends accepting.
    pub fn stop(&self) -> AcceptStop {
        self.stop.clone()
    }

    /// A caller that is still in the queue once this process accepts no more, on a socket that another one accepts from;
    /// none if nobody is there. The kernel wakes one waiter for each caller, and it may have been one that was just
    /// being ended: the other process would not hear of that caller before the next one comes.
    pub async fn take_left(&self) -> io::Result<Option<Accepted>> {
        for _ in 0..LEFT_TRIES {
            let mut ready = [PollFd::new(self.own.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::ZERO)? == 0 {
                return Ok(None);
            }
            // The other process may be faster, and then this one would wait; it is ended like all others, never dropped.
            let canceller = Canceller::new();
            let mut accepting = pin!(self.accepted(canceller.handle()));
            if let Some(accepted) = within(LEFT_PATIENCE, accepting.as_mut()).await {
                return accepted.map(Some);
            }
            drop(canceller.cancel());
            if let Ok(accepted) = accepting.await {
                return Ok(Some(accepted));
            }
            // That end may have been told of a caller too: the queue is looked at again.
        }
        Ok(None)
    }

    /// A caller that the kernel has connected already; none if none waits. For the end of a listener that nobody else
    /// accepts from: whoever is left in the queue would be reset when it closes.
    pub fn accept_waiting(&self) -> io::Result<Option<Accepted>> {
        self.own.set_nonblocking(true)?;
        let accepted = match &self.own {
            BoundListener::Tcp(listener) => listener.accept().and_then(|(stream, peer)| {
                stream.set_nonblocking(epoll())?;
                accepted_tcp(TcpStream::from_std(stream)?, peer)
            }),
            BoundListener::Unix(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(epoll())?;
                Ok(accepted_unix(UnixStream::from_std(stream)?))
            }),
        };
        match accepted {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }
}

fn accepted_tcp(stream: TcpStream, peer: SocketAddr) -> io::Result<Accepted> {
    stream.set_nodelay(true)?;
    Ok(Accepted {
        stream: Stream::tcp(stream),
        peer: Some(peer),
    })
}

fn accepted_unix(stream: UnixStream) -> Accepted {
    Accepted {
        stream: Stream::unix(stream),
        peer: None,
    }
}

#[cfg(test)]
mod tests;
