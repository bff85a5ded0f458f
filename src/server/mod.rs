//! The process's life: bind everything, start a worker per core, drain, end.
//!
//! `cli` starts it and tests do the same on port 0. Every listener is bound before the first thread starts, so what
//! can fail fails here and once. Threads are told to drain by message; nothing is shared but what `Shared` holds.

mod worker;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use futures_channel::mpsc::{UnboundedSender, unbounded};

use crate::config::{Config, Listen};
use crate::keys::KeyStore;
use crate::net::{self, BoundAddr, BoundListener, TlsAcceptor, TlsFileError};
use crate::plan::{Connectors, PlanError};
use crate::upstream::Resolver;
use crate::worker::Shared;
use worker::{Order, Seat};

/// Why the router did not start.
#[derive(Debug)]
pub enum StartError {
    /// An address that cannot be listened on.
    Listen(String, io::Error),
    /// The listener's certificate or key.
    Tls(TlsFileError),
    /// A provider's settings.
    Plan(PlanError),
    /// A thread, a ring, randomness: the machine refused something that a worker needs.
    Worker(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Plan(error) => write!(f, "{error}"),
            Self::Worker(error) => write!(f, "cannot start a worker: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running router.
pub struct Running {
    addrs: Vec<BoundAddr>,
    shared: Arc<Shared>,
    orders: Vec<UnboundedSender<Order>>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

/// Starts the router; returns when every worker accepts.
pub fn start(config: Arc<Config>, keys: KeyStore) -> Result<Running, StartError> {
    let workers = config.server.workers_count();
    let tls = match &config.server.tls {
        Some(files) => {
            Some(TlsAcceptor::from_files(&files.cert, &files.key).map_err(StartError::Tls)?)
        }
        None => None,
    };
    let connectors = Connectors::new(&config).map_err(StartError::Plan)?;
    let (addrs, mut listeners) = bind(&config, workers)?;
    if net::driver_name() == "epoll" {
        tracing::warn!("io_uring is not available here; running on epoll");
    }
    let shared = Arc::<Shared>::default();
    let resolver = Resolver::default();
    let mut running = Running {
        addrs,
        shared: shared.clone(),
        orders: Vec::new(),
        threads: Vec::new(),
    };
    let (ready, all_ready) = std::sync::mpsc::channel();
    for index in 0..workers {
        let (orders, inbox) = unbounded();
        let seat = Seat {
            index,
            pinned: workers > 1,
            config: config.clone(),
            keys: keys.clone(),
            connectors: connectors.clone(),
            resolver: resolver.clone(),
            shared: shared.clone(),
            listeners: listeners.iter_mut().filter_map(Vec::pop).collect(),
            tls: tls.clone(),
            id_prefix: random_prefix().map_err(StartError::Worker)?,
            inbox,
            ready: ready.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || seat.run())
            .map_err(StartError::Worker)?;
        running.orders.push(orders);
        running.threads.push(thread);
    }
    drop(ready);
    let accepting = all_ready.iter().take(workers).count();
    if accepting < workers {
        // A worker that could not start has said why; its thread holds the reason.
        running.drain();
        let failed = running.join().err();
        return Err(StartError::Worker(
            failed.unwrap_or_else(|| io::Error::other("a worker ended")),
        ));
    }
    Ok(running)
}

fn bind(
    config: &Config,
    workers: usize,
) -> Result<(Vec<BoundAddr>, Vec<Vec<BoundListener>>), StartError> {
    let mut addrs = Vec::new();
    let mut listeners = Vec::new();
    for listen in &config.server.listen {
        let (addr, bound) = match listen {
            Listen::Tcp(address) => BoundListener::tcp(*address, workers)
                .map_err(|error| StartError::Listen(address.to_string(), error))?,
            Listen::Unix(path) => BoundListener::unix(path, workers)
                .map_err(|error| StartError::Listen(format!("unix:{}", path.display()), error))?,
        };
        addrs.push(addr);
        listeners.push(bound);
    }
    Ok((addrs, listeners))
}

fn random_prefix() -> io::Result<u64> {
    getrandom::u64().map_err(|error| io::Error::other(error.to_string()))
}

impl Running {
    /// The addresses that are listened on, in the configuration's order.
    pub fn addrs(&self) -> &[BoundAddr] {
        &self.addrs
    }

    /// Callers' connections that are open.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Connections lost to bugs so far.
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Stops accepting and lets what runs finish, for at most the configured time. Returns at once.
    pub fn drain(&self) {
        self.drainer().drain();
    }

    /// A handle for whoever decides about the end, while another thread waits for it.
    pub fn drainer(&self) -> Drainer {
        Drainer {
            shared: self.shared.clone(),
            orders: self.orders.clone(),
        }
    }

    /// Waits until every worker has ended.
    pub fn wait(self) -> io::Result<()> {
        self.join()
    }

    fn join(self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(error),
                Err(_) => result = Err(io::Error::other("a worker panicked")),
            }
        }
        for addr in &self.addrs {
            if let BoundAddr::Unix(path) = addr {
                let _ = std::fs::remove_file(path);
            }
        }
        result
    }
}

/// Ends a running router from anywhere.
#[derive(Clone)]
pub struct Drainer {
    shared: Arc<Shared>,
    orders: Vec<UnboundedSender<Order>>,
}

impl Drainer {
    /// Stops accepting and lets what runs finish, for at most the configured time. Returns at once.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        for orders in &self.orders {
            // A worker that has ended needs no order.
            let _ = orders.unbounded_send(Order::Drain);
        }
    }

    /// Whether somebody has asked for the end.
    pub fn draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }
}
