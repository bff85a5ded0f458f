//! The operator's port: dashboard, admin API, metrics; on a thread of its own, so that no worker ever waits for it.
//!
//! `cli` starts it beside the workers and tests do the same. It reads what the workers count, changes keys through the
//! sealed file like the command line does, and runs on the same HTTP core. A router that was handed over to leaves its
//! port to its successor, which waits for it in the background.

mod access;
mod accounts;
mod answer;
mod assets;
mod blocking;
mod connection;
mod desk;
mod exposition;
mod guards;
mod keys;
mod memory;
mod overview;
mod page;
mod playground;
mod process;
mod provider_test;
mod request;
mod requests;
mod routes;
mod series;
mod settings;
mod token;
mod usage;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures_channel::oneshot;

use crate::clock::unix_seconds;
use crate::config::{Config, Listen};
use crate::keys::KeyStore;
use crate::net::{self, Accepted, BoundAddr, BoundListener, Deadlines, Listener, TlsAcceptor};
use crate::secret::Secret;
use crate::server::{self, Control};
use access::Access;
use blocking::Blocking;
use connection::Connection;
use desk::Desk;

pub use token::{FILE_NAME as TOKEN_FILE_NAME, ensure as ensure_token, read as read_token};

/// The pause after a failed accept, and between two looks at a port that a predecessor still holds.
const PAUSE: Duration = Duration::from_millis(50);
/// An operator's tools, and room for a few forgotten ones. Beyond it, callers are closed at once.
const CONNECTIONS_MAX: usize = 256;
const TICK: Duration = Duration::from_secs(1);
/// For a next request over a kept connection, before it ends with this process: what callers of the data port have.
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// A predecessor leaves the port within milliseconds of hearing that this process serves.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(2);

/// A running admin port; dropping it ends its thread, and removes its socket's file unless a successor has that.
pub struct Running {
    addr: Option<BoundAddr>,
    own_file: OwnFile,
    control: Control,
    _stop: oneshot::Sender<()>,
}

/// The file of the Unix socket that is listened on, once it is.
type OwnFile = Arc<OnceLock<PathBuf>>;

impl Drop for Running {
    // Here and not on the port's thread, for which the end of the process does not wait.
    fn drop(&mut self) {
        let handed_over = self.control.shared().successor.serves();
        if let Some(file) = self.own_file.get().filter(|_| !handed_over) {
            let _ = std::fs::remove_file(file);
        }
    }
}

impl Running {
    /// The address that is listened on; none while a predecessor still holds it.
    pub fn addr(&self) -> Option<&BoundAddr> {
        self.addr.as_ref()
    }
}

/// The port before anybody is served on it. Dropped without a start, it leaves nothing behind.
pub struct Port {
    listen: Listen,
    token: Secret,
    /// None while a predecessor still holds it.
    bound: Option<(BoundAddr, BoundListener)>,
    own_file: OwnFile,
    started: bool,
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(file) = self.own_file.get().filter(|_| !self.started) {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Takes the port for a router that is yet to start, since a port that somebody else has is no reason to take callers in
/// first; none where the configuration says so.
pub fn bind(config: &Config) -> io::Result<Option<Port>> {
    let Some(listen) = config.admin.listen.clone() else {
        return Ok(None);
    };
    let named = |error: io::Error| {
        let text = format!("cannot listen on {listen} (admin.listen): {error}");
        io::Error::new(error.kind(), text)
    };
    let token = token::ensure(&config.dir)?;
    let bound = match server::has_predecessor() {
        false => Some(net::bind_patiently(|| listen_on(&listen)).map_err(named)?),
        // The process before this one leaves the port once it has heard that this one accepts.
        true => match listen_on(&listen) {
            Err(error) if in_use(&error) => None,
            bound => Some(bound.map_err(named)?),
        },
    };
    let own_file = OwnFile::default();
    if let Some((addr, _)) = &bound {
        own(&own_file, addr);
    }
    Ok(Some(Port {
        listen,
        token,
        bound,
        own_file,
        started: false,
    }))
}

/// Serves on the port of a running router. What failed for want of descriptors may be tried again.
pub fn start(port: &mut Port, control: &Control, keys: &KeyStore) -> io::Result<Running> {
    let bound = port.bound.as_ref();
    let listener = bound
        .map(|(_, listener)| listener.try_clone())
        .transpose()?;
    let blocking = Blocking::start()?;
    let (stop, stopped) = oneshot::channel();
    let (ready, started) = mpsc::channel();
    let seat = Seat {
        control: control.clone(),
        keys: keys.clone(),
        token: port.token.clone(),
        blocking,
        listen: port.listen.clone(),
        bound: listener,
        own_file: port.own_file.clone(),
    };
    thread::Builder::new().name("admin".into()).spawn(move || {
        let not_started = ready.clone();
        if let Err(error) = net::run(async move { seat.serve(stopped, ready).await }) {
            let _ = not_started.send(Err(error));
        }
    })?;
    started
        .recv()
        .map_err(|_| io::Error::other("the admin port did not start"))??;
    port.started = true;
    Ok(Running {
        addr: bound.map(|(addr, _)| addr.clone()),
        own_file: port.own_file.clone(),
        control: control.clone(),
        _stop: stop,
    })
}

fn listen_on(listen: &Listen) -> io::Result<(BoundAddr, BoundListener)> {
    let (addr, mut listeners) = match listen {
        Listen::Tcp(address) => BoundListener::tcp(*address, 1)?,
        Listen::Unix(path) => return BoundListener::unix(path),
    };
    let listener = listeners.pop();
    listener
        .map(|listener| (addr, listener))
        .ok_or_else(|| io::Error::other("no listener"))
}

fn own(own_file: &OwnFile, addr: &BoundAddr) {
    if let BoundAddr::Unix(path) = addr {
        let _ = own_file.set(path.clone());
    }
}

fn in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// What goes to the thread.
struct Seat {
    control: Control,
    keys: KeyStore,
    token: Secret,
    blocking: Blocking,
    listen: Listen,
    bound: Option<BoundListener>,
    own_file: OwnFile,
}

impl Seat {
    async fn serve(self, stopped: oneshot::Receiver<()>, ready: mpsc::Sender<io::Result<()>>) {
        let deadlines = Deadlines::new(Instant::now());
        let guest = match self.control.guest(&self.keys, &deadlines) {
            Ok(guest) => guest,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let desk = Rc::new(Desk {
            control: self.control.clone(),
            keys: self.keys,
            access: Access::new(self.token),
            blocking: self.blocking,
            series: Default::default(),
            deadlines: deadlines.clone(),
            started_at: unix_seconds(),
            guest: RefCell::new(guest),
        });
        // The starter waits for exactly this.
        let opened = match self.bound.map(BoundListener::open).transpose() {
            Ok(opened) => opened,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let _ = ready.send(Ok(()));
        net::spawn(deadlines.clone().keep());
        net::spawn(tick(desk.clone()));
        let listener = match opened {
            Some(listener) => listener,
            None => match inherit(&self.listen, &self.own_file, &desk).await {
                Some(listener) => listener,
                None => return,
            },
        };
        let listener = Rc::new(listener);
        // Not held here: the successor's port is free once those who accept and leave have let go of it.
        let held = Rc::downgrade(&listener);
        net::spawn(leave(desk.clone(), listener.clone()));
        net::spawn(accept(listener, desk.clone()));
        // The handle was dropped: nobody needs this port any more.
        let _ = stopped.await;
        if let Some(listener) = held.upgrade() {
            listener.stop();
        }
        desk.deadlines.hang_up_downstream(false);
        net::sleep(PAUSE).await;
    }
}

/// Waits for the port that the process before this one still holds.
async fn inherit(listen: &Listen, own_file: &OwnFile, desk: &Desk) -> Option<Listener> {
    let (began, mut told) = (Instant::now(), false);
    loop {
        match listen_on(listen) {
            Ok((addr, listener)) => {
                tracing::info!("admin port on {addr}");
                own(own_file, &addr);
                return listener.open().ok();
            }
            Err(error) if !in_use(&error) => {
                tracing::error!(%error, "cannot listen on {listen} (admin.listen)");
                return None;
            }
            Err(_) if desk.control.draining() => return None,
            Err(error) => {
                if !told && began.elapsed() > PREDECESSOR_PATIENCE {
                    told = true;
                    tracing::warn!(%error, "cannot listen on {listen} (admin.listen) yet; still trying");
                }
                net::sleep(PAUSE).await;
            }
        }
    }
}

async fn tick(desk: Rc<Desk>) {
    loop {
        desk.series
            .borrow_mut()
            .tick(&desk.control.shared().metrics);
        // It holds keys that were replaced until it looks for those in use.
        drop(desk.worker().snapshot());
        net::sleep(TICK).await;
    }
}

/// Leaves the port to the successor. Answers under way come to their end, and what is asked within a moment over a kept
/// connection is still answered.
async fn leave(desk: Rc<Desk>, listener: Rc<Listener>) {
    let arrived = desk.control.shared().successor.arrived();
    if arrived.await.is_err() {
        return;
    }
    listener.stop();
    drop(listener);
    net::sleep(LAST_PAUSE).await;
    desk.deadlines.hang_up_downstream(true);
}

/// Accepts until the listener is stopped, and closes it.
async fn accept(listener: Rc<Listener>, desk: Rc<Desk>) {
    loop {
        match listener.accept().await {
            Ok(accepted) => admit(accepted, &desk),
            Err(_) if listener.stopped() => break,
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept");
                net::sleep(PAUSE).await;
            }
        }
    }
    // Nobody else takes those whom the kernel has connected already.
    for _ in 0..CONNECTIONS_MAX {
        let Ok(Some(accepted)) = listener.accept_waiting() else {
            break;
        };
        admit(accepted, &desk);
    }
}

fn admit(accepted: Accepted, desk: &Rc<Desk>) {
    if desk.deadlines.open_downstream() >= CONNECTIONS_MAX {
        return tracing::warn!("too many connections to the admin port");
    }
    let desk = desk.clone();
    // TLS is for TCP, and only a TCP caller has an address.
    let tls = desk.control.current().admin_tls;
    let tls = tls.filter(|_| accepted.peer.is_some());
    net::spawn(async move {
        let (secure, peer) = (tls.is_some(), accepted.peer);
        let Some(stream) = secured(accepted, tls, &desk).await else {
            return;
        };
        let connection = Connection::new(stream, peer, secure, &desk);
        connection::serve(connection, desk).await;
    });
}

async fn secured(accepted: Accepted, tls: Option<TlsAcceptor>, desk: &Desk) -> Option<net::Stream> {
    const HANDSHAKE: Duration = Duration::from_secs(10);
    let stream = accepted.open().ok()?;
    let Some(tls) = tls else { return Some(stream) };
    let deadline = desk
        .deadlines
        .register(net::Side::Downstream, stream.hangup());
    deadline.arm(Instant::now(), HANDSHAKE);
    tls.accept(stream).await.ok()
}
