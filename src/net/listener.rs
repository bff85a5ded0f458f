//! Where callers come in: bound once for the whole process, then opened by every worker.
//!
//! A TCP address is bound with SO_REUSEPORT once per worker, so the kernel spreads connections over cores without a
//! shared queue; a Unix socket has one queue that all workers accept from. `server` binds before any thread starts,
//! so a taken port is an error of the start and not of a worker.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use monoio::net::{TcpListener, UnixListener};
use socket2::{Domain, Protocol, Socket, Type};

use super::stream::{Hangup, Stream};

/// Connections the kernel completes while a core is busy; more than any burst a core can lag behind.
const BACKLOG: i32 = 4096;

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
        let mut bound = address;
        let mut listeners = Vec::with_capacity(count);
        for _ in 0..count {
            let socket = Socket::new(
                Domain::for_address(address),
                Type::STREAM,
                Some(Protocol::TCP),
            )?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.bind(&bound.into())?;
            socket.listen(BACKLOG)?;
            let listener = std::net::TcpListener::from(socket);
            bound = listener.local_addr()?;
            listeners.push(Self::Tcp(listener));
        }
        Ok((BoundAddr::Tcp(bound), listeners))
    }

    /// Binds a Unix socket; one that nobody answers on any more is replaced.
    pub fn unix(path: &Path, count: usize) -> io::Result<(BoundAddr, Vec<Self>)> {
        if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
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

    /// Hands the socket to this thread's loop.
    pub fn open(self) -> io::Result<Listener> {
        // epoll wants a socket that never blocks; io_uring answers EAGAIN on such a one instead of waiting.
        let epoll = super::driver_name() == "epoll";
        Ok(match self {
            Self::Tcp(listener) => {
                listener.set_nonblocking(epoll)?;
                Listener::Tcp(TcpListener::from_std(listener)?)
            }
            Self::Unix(listener) => {
                listener.set_nonblocking(epoll)?;
                Listener::Unix(UnixListener::from_std(listener)?)
            }
        })
    }
}

/// A listening socket on this thread's loop.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix.
    Unix(UnixListener),
}

/// A new caller.
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// Who it is; none for a Unix socket.
    pub peer: Option<SocketAddr>,
}

impl Listener {
    /// Waits for a caller. Never dropped half-way (an accepted descriptor would leak): ended by `hangup`.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted {
                    stream: Stream::tcp(stream),
                    peer: Some(peer),
                })
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted {
                    stream: Stream::unix(stream),
                    peer: None,
                })
            }
        }
    }

    /// The handle that makes a waiting `accept` return with an error.
    pub fn hangup(&self) -> Hangup {
        Hangup::new(match self {
            Self::Tcp(listener) => listener.as_raw_fd(),
            Self::Unix(listener) => listener.as_raw_fd(),
        })
    }
}
