//! A new connection to an origin: its name looked up, its addresses tried, TLS spoken.
//!
//! Called by `Upstreams` when no connection is idle. An address that could not be reached is tried after the others for
//! a while, and an origin of which none could is known to be down; its failing and its return are told once each.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::resolve::Resolver;
use super::{DialError, Keeping, Origin, OriginId};
use crate::net::{self, Deadline, Deadlines, Side, Stream};

/// How long what could not be reached comes last. Long enough that a dead machine costs few requests its connect
/// timeout, short enough that one that is back gets its share soon.
const AVOIDED_FOR: Duration = Duration::from_secs(10);
/// Addresses remembered so; more fail at once only where nothing works.
const AVOIDED_MAX: usize = 64;

/// What dialling needs, and what it has found out.
pub(super) struct Dialler {
    resolver: Resolver,
    deadlines: Rc<Deadlines>,
    keeping: Keeping,
    /// Addresses that could not be reached, and until when they come last.
    avoided: RefCell<Vec<(SocketAddr, Instant)>>,
    /// By origin: until when it comes last, from a failed dial to the next good one.
    down: RefCell<Vec<Option<Instant>>>,
}

/// Why there is no connection, for the answer and for the log.
type Unreached = (DialError, String);

impl Dialler {
    pub(super) fn new(
        origins: usize,
        resolver: Resolver,
        deadlines: Rc<Deadlines>,
        keeping: Keeping,
    ) -> Self {
        Self {
            resolver,
            deadlines,
            keeping,
            avoided: RefCell::default(),
            down: RefCell::new(vec![None; origins]),
        }
    }

    /// Whether a dial to it failed a short time ago.
    pub(super) fn is_down(&self, id: OriginId, now: Instant) -> bool {
        self.down.borrow()[id.0].is_some_and(|until| now < until)
    }

    pub(super) async fn dial(
        &self,
        id: OriginId,
        origin: &Origin,
    ) -> Result<(Stream, Deadline), DialError> {
        let reached = self.reach(origin).await;
        let (host, port) = (&origin.host, origin.port);
        let down = &mut self.down.borrow_mut()[id.0];
        match reached {
            Ok(reached) => {
                if down.take().is_some() {
                    tracing::info!(host, port, "provider reachable again");
                }
                Ok(reached)
            }
            // Says nothing about the provider.
            Err((DialError::NoDescriptor, _)) => Err(DialError::NoDescriptor),
            Err((error, reason)) => {
                if down.replace(Instant::now() + AVOIDED_FOR).is_none() {
                    tracing::warn!(host, port, reason, "provider not reachable");
                }
                Err(error)
            }
        }
    }

    async fn reach(&self, origin: &Origin) -> Result<(Stream, Deadline), Unreached> {
        let started = Instant::now();
        let timeout = self.keeping.connect_timeout;
        let addresses =
            match net::within(timeout, self.resolver.lookup(&origin.host, origin.port)).await {
                None => return Err((DialError::TimedOut, "its name is looked up too long".into())),
                Some(Err(error)) if net::is_out_of_descriptors(&error) => {
                    return Err((DialError::NoDescriptor, error.to_string()));
                }
                Some(Err(error)) => return Err((DialError::Unreachable, error.to_string())),
                Some(Ok(addresses)) => addresses,
            };
        let mut connected = self.first_of(&addresses, started).await;
        // The name may have moved since it was looked up.
        if let Err((DialError::Unreachable | DialError::TimedOut, _)) = &connected {
            let left = timeout.saturating_sub(started.elapsed());
            let newer = self.resolver.newer(&origin.host, origin.port, &addresses);
            if let Some(Some(addresses)) = net::within(left, newer).await {
                connected = self.first_of(&addresses, started).await;
            }
        }
        let stream = connected?;
        let deadline = self.deadlines.register(Side::Upstream, stream.hangup());
        deadline.expect_acknowledgements(self.keeping.unacknowledged_timeout);
        let Some(tls) = &origin.tls else {
            return Ok((stream, deadline));
        };
        deadline.arm(Instant::now(), timeout.saturating_sub(started.elapsed()));
        let wrapped = tls.connect(&origin.host, stream).await;
        deadline.disarm();
        match wrapped {
            Ok(stream) => Ok((stream, deadline)),
            Err(_) if deadline.fired() => Err((
                DialError::TimedOut,
                "its TLS handshake takes too long".into(),
            )),
            Err(error) => Err((DialError::Unreachable, format!("TLS handshake: {error}"))),
        }
    }

    /// Tries each address in turn, those that failed lately at the end; all but the last get at most half of the time
    /// that is left.
    async fn first_of(
        &self,
        addresses: &[SocketAddr],
        started: Instant,
    ) -> Result<Stream, Unreached> {
        let mut last = (DialError::Unreachable, "no address".to_owned());
        let (late, soon): (Vec<&SocketAddr>, Vec<&SocketAddr>) = addresses
            .iter()
            .partition(|address| self.avoids(**address, started));
        for (index, address) in soon.into_iter().chain(late).enumerate() {
            let left = self
                .keeping
                .connect_timeout
                .saturating_sub(started.elapsed());
            let share = if index + 1 < addresses.len() {
                left / 2
            } else {
                left
            };
            match net::connect(*address, share).await {
                Ok(stream) => {
                    self.avoided.borrow_mut().retain(|(at, _)| at != address);
                    return Ok(stream);
                }
                Err(error) => last = (self.judge(&error, *address), format!("{address}: {error}")),
            }
        }
        Err(last)
    }

    fn avoids(&self, address: SocketAddr, now: Instant) -> bool {
        let avoided = self.avoided.borrow();
        avoided
            .iter()
            .any(|(at, until)| *at == address && now < *until)
    }

    fn judge(&self, error: &io::Error, address: SocketAddr) -> DialError {
        if net::is_out_of_descriptors(error) {
            return DialError::NoDescriptor;
        }
        let mut avoided = self.avoided.borrow_mut();
        let now = Instant::now();
        avoided.retain(|(at, until)| *at != address && now < *until);
        if avoided.len() < AVOIDED_MAX {
            avoided.push((address, now + AVOIDED_FOR));
        }
        match error.kind() {
            io::ErrorKind::TimedOut => DialError::TimedOut,
            _ => DialError::Unreachable,
        }
    }
}
