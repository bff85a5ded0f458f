//! Connections to providers, per core: dial, keep, hand out, take back.
//!
//! `exchange` checks one out, sends over it (`send`), and gives it back after a fully clean exchange; whatever was not
//! clean is dropped, which closes it. An idle connection has a read in flight, so a provider that closed it, or that
//! spoke out of turn, is noticed before the next request goes over it. Nothing here retries: the caller of `send`
//! knows what may be repeated.

mod dial;
mod resolve;
mod send;
mod status;
mod watch;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::net::{Deadline, Deadlines, Reader, TlsConnector, Writer};
use dial::Dialler;

pub use resolve::Resolver;
pub use send::{ANSWER_HEAD_LIMITS, Answer, Failure, Outgoing, Part, Sending, Sent, send};
pub use status::status_of;
pub use watch::Watch;

/// Where a provider is: scheme, host and port, and whom its certificate must name.
pub struct Origin {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS with this provider's roots; none for plain HTTP.
    pub tls: Option<TlsConnector>,
}

/// Which origin of the process's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginId(pub usize);

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialError {
    /// No address, no listener, no valid certificate.
    Unreachable,
    /// The connect timeout passed.
    TimedOut,
    /// This process may open no more.
    NoDescriptor,
}

/// A connection to a provider. It changes hands ten times an exchange, so most of it stays where it is.
pub struct Connection {
    line: Box<Line>,
    writer: Writer,
}

/// What a connection is, apart from its writing direction, which goes with a request that is being sent.
struct Line {
    reader: Reader,
    deadline: Deadline,
    origin: OriginId,
    reused: bool,
    idle_since: Instant,
}

impl Connection {
    /// Whether it has carried an exchange before.
    pub fn reused(&self) -> bool {
        self.line.reused
    }
}

/// How connections are made and kept.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    /// For name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// A peer that acknowledges nothing for this long is gone.
    pub unacknowledged_timeout: Duration,
    /// Idle connections older than this are closed; below what providers use, so that we close first.
    pub idle_timeout: Duration,
    /// Idle connections kept per origin.
    pub idle_per_origin_max: usize,
}

/// The upstream side of one core.
pub struct Upstreams {
    origins: Rc<[Origin]>,
    /// Idle connections by origin, the last used one at the back.
    idle: RefCell<Vec<VecDeque<Connection>>>,
    dialler: Dialler,
    keeping: Keeping,
}

impl Upstreams {
    /// No connections yet.
    pub fn new(
        origins: Rc<[Origin]>,
        resolver: Resolver,
        deadlines: Rc<Deadlines>,
        keeping: Keeping,
    ) -> Self {
        let idle = RefCell::new(origins.iter().map(|_| VecDeque::new()).collect());
        let dialler = Dialler::new(origins.len(), resolver, deadlines, keeping);
        Self {
            origins,
            idle,
            dialler,
            keeping,
        }
    }

    /// Whether a dial to it failed a short time ago: others may be asked first.
    pub fn is_down(&self, origin: OriginId, now: Instant) -> bool {
        self.dialler.is_down(origin, now)
    }

    /// A new connection.
    pub async fn fresh(&self, origin: OriginId) -> Result<Connection, DialError> {
        // Apart, because dialling is rare and its future is most of what an exchange's would weigh.
        Box::pin(self.dial(origin)).await
    }

    /// Takes a connection back after a clean exchange, at `now`.
    pub fn give_back(&self, mut connection: Connection, now: Instant) {
        let line = &mut connection.line;
        line.deadline.disarm();
        // An answer's head and the start of its body come with that one read, as long as not too many wait so.
        line.reader.set_brisk(true);
        line.reader.arm_next();
        line.idle_since = now;
        line.reused = true;
        let mut idle = self.idle.borrow_mut();
        let kept = &mut idle[line.origin.0];
        kept.push_back(connection);
        if kept.len() > self.keeping.idle_per_origin_max {
            kept.pop_front();
        }
    }

    /// Closes idle connections that are too old or that the provider has closed. Called about once a second.
    pub fn sweep(&self, now: Instant) {
        for kept in self.idle.borrow_mut().iter_mut() {
            kept.retain_mut(|connection| self.usable(&mut connection.line, now));
        }
    }

    /// Idle connections of all origins.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().iter().map(VecDeque::len).sum()
    }

    /// The idle connection used last. `now` may be somewhat old: `sweep` looks more closely.
    pub fn take_idle(&self, origin: OriginId, now: Instant) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut connection) = idle[origin.0].pop_back() {
            if self.usable(&mut connection.line, now) {
                return Some(connection);
            }
        }
        None
    }

    /// An idle connection whose read has completed was closed, or holds bytes that answer no request of ours.
    fn usable(&self, line: &mut Line, now: Instant) -> bool {
        let end = line.idle_since.checked_add(self.keeping.idle_timeout);
        end.is_none_or(|end| now < end) && line.reader.try_fill().is_none()
    }

    async fn dial(&self, id: OriginId) -> Result<Connection, DialError> {
        let (stream, deadline) = self.dialler.dial(id, &self.origins[id.0]).await?;
        let (reader, writer, _) = stream.split();
        let line = Box::new(Line {
            reader,
            deadline,
            origin: id,
            reused: false,
            idle_since: Instant::now(),
        });
        Ok(Connection { line, writer })
    }
}
