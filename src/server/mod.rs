//! The process's life: bind everything, start a worker per core, drain, end.
//!
//! `cli` starts it and tests do the same on port 0. Every listener is bound before the first thread starts, so what
//! can fail fails here and once. Threads are told to drain by message; nothing is shared but what `Shared` holds.

mod balance;
mod guest;
mod handover;
mod parts;
mod worker;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::config::{Config, Listen};
use crate::keys::{KeyStore, WatchGuard};
use crate::memory::MemoryStore;
use crate::net::{self, BoundAddr, TlsAcceptor, TlsFileError};
use crate::plan::{Connectors, PlanError};
use crate::upstream::Resolver;
use crate::usage::UsageStore;
use crate::worker::{Shared, Ties, connections_max};
use balance::Workers;
pub use guest::Guest;
use handover::Lot;
pub use handover::{has_predecessor, predecessor_has_config_file};
use parts::{Bound, bind, open_memory, open_usage, tls_of, tracer};
use worker::{Order, Seat};

/// Why the router did not start.
#[derive(Debug)]
pub enum StartError {
    /// An address that cannot be listened on.
    Listen(String, io::Error),
    /// A listener's certificate or key, and the setting that names it.
    Tls(&'static str, TlsFileError),
    /// A provider's settings.
    Plan(PlanError),
    /// A thread, a ring, randomness: the machine refused something that a worker needs.
    Worker(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Tls(setting, error) => write!(f, "{setting}: {error}"),
            Self::Plan(error) => write!(f, "{error}"),
            Self::Worker(error) => write!(f, "cannot start a worker: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running router.
pub struct Running {
    addrs: Vec<BoundAddr>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    control: Control,
}

/// Steers a running router from anywhere.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    workers: Workers,
    usage: UsageStore,
    addrs: Arc<[BoundAddr]>,
    /// Files of Unix sockets, which go when nobody new is accepted.
    own_files: Arc<[PathBuf]>,
    resolver: Resolver,
    current: Arc<Mutex<Current>>,
    memory: MemoryStore,
    attempt: Arc<handover::Attempt>,
}

/// What new connections are served with.
#[derive(Clone)]
pub struct Current {
    /// The configuration as it runs.
    pub config: Arc<Config>,
    /// TLS toward its providers.
    pub connectors: Connectors,
    /// TLS of the admin port.
    pub admin_tls: Option<TlsAcceptor>,
}

/// Starts the router; returns when every worker accepts.
pub fn start(config: Arc<Config>, keys: KeyStore) -> Result<Running, StartError> {
    handover::keep_program();
    let count = config.server.workers_count();
    let tls = tls_of("server.tls", &config.server.tls)?;
    let admin_tls = tls_of("admin.tls", &config.admin.tls)?;
    let connectors = Connectors::new(&config).map_err(StartError::Plan)?;
    let Bound {
        addrs,
        listeners,
        own_files,
    } = bind(&config, count)?;
    net::choose_driver(rings(count));
    let fits = connections_max(&config);
    if fits < config.limits.connections_max {
        tracing::warn!(
            fits,
            "limits.connections: there are descriptors for fewer (ulimit -n)"
        );
    }
    let shared = Arc::new(Shared {
        tracer: tracer(&config)?,
        ..Shared::default()
    });
    let usage = open_usage(&config, &shared).map_err(StartError::Worker)?;
    let memory = open_memory(&config).map_err(StartError::Worker)?;
    let resolver = Resolver::default();
    let (workers, places) = Workers::new(&listeners, &shared).map_err(StartError::Worker)?;
    let mut running = Running {
        addrs: addrs.clone(),
        threads: Vec::new(),
        control: Control {
            shared: shared.clone(),
            workers,
            usage: usage.clone(),
            addrs: addrs.clone().into(),
            own_files: own_files.into(),
            resolver: resolver.clone(),
            current: Arc::new(Mutex::new(Current {
                config: config.clone(),
                connectors: connectors.clone(),
                admin_tls,
            })),
            memory: memory.clone(),
            attempt: Arc::default(),
        },
    };
    let (ready, all_ready) = std::sync::mpsc::channel();
    for (index, ((neighbours, inbox), listeners)) in places.into_iter().zip(listeners).enumerate() {
        let seat = Seat {
            index,
            pinned: count > 1,
            config: config.clone(),
            connectors: connectors.clone(),
            resolver: resolver.clone(),
            ties: Ties {
                shared: shared.clone(),
                keys: keys.clone(),
                memory: memory.clone(),
                metrics: neighbours.metrics.clone(),
                usage: usage.recorder(),
            },
            neighbours,
            listeners,
            tls: tls.clone(),
            id_prefix: random_prefix().map_err(StartError::Worker)?,
            inbox,
            ready: ready.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || seat.run())
            .map_err(StartError::Worker)?;
        running.threads.push(thread);
    }
    drop(ready);
    let accepting = all_ready.iter().take(count).count();
    if accepting < count {
        // A worker that could not start has said why; its thread holds the reason.
        let failed = running.abandon().err();
        return Err(StartError::Worker(
            failed.unwrap_or_else(|| io::Error::other("a worker ended")),
        ));
    }
    Ok(running)
}

/// Loops beside the workers: the operator's port, and what sends spans or tries something out for a moment.
const OTHER_LOOPS: usize = 2;

/// How many loops this process needs room for. Its successor's run beside them; a successor's own predecessor has its.
fn rings(workers: usize) -> usize {
    let own = workers + OTHER_LOOPS;
    match has_predecessor() {
        true => own,
        false => 2 * own,
    }
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
        self.control.shared.connections.load(Ordering::Relaxed)
    }

    /// Connections lost to bugs so far.
    pub fn panics(&self) -> u64 {
        self.control.shared.panics.load(Ordering::Relaxed)
    }

    /// Tells the process before this one, if there is one, that it may go: once nothing of the start can
    /// fail any more.
    pub fn tell_predecessor(&self) {
        handover::tell_predecessor();
        let mut left = handover::files_of_predecessor();
        let needed = self.control.socket_files();
        left.retain(|file| !needed.contains(file));
        if !left.is_empty() {
            handover::remove_once_deserted(left);
        }
    }

    /// Ends a start that has failed. Whoever was accepted by then is served, and what a predecessor goes on with stays.
    pub fn abandon(self) -> io::Result<()> {
        let theirs = handover::files_of_predecessor();
        let own_files = self.control.own_files.iter();
        for path in own_files.filter(|path| !theirs.contains(path)) {
            let _ = std::fs::remove_file(path);
        }
        self.control.end(|| Order::Drain);
        self.wait()
    }

    /// See [`Control::drain`].
    pub fn drain(&self) {
        self.control.drain();
    }

    /// A handle for whoever steers the router while another thread waits for its end.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits until every worker has ended.
    pub fn wait(self) -> io::Result<()> {
        let mut result = Ok(());
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(error),
                Err(_) => result = Err(io::Error::other("a worker panicked")),
            }
        }
        // Nobody counts any more.
        self.control.usage.close();
        // Nobody remembers anything more.
        self.control.memory.close();
        // Last, because a collector that is away may take the time that this is given.
        if let Some(tracer) = &self.control.shared.tracer {
            tracer.flush();
        }
        result
    }
}

impl Control {
    /// Stops accepting and lets what runs finish, for at most the configured time. Returns at once.
    pub fn drain(&self) {
        if !self.draining() {
            // While the sockets still listen: behind that, a file of this name may be the next router's.
            for path in self.own_files.iter() {
                let _ = std::fs::remove_file(path);
            }
        }
        self.end(|| Order::Drain);
    }

    /// Starts this program once more on the same sockets; once that accepts, this router drains. Blocks until then. With
    /// `config_file` the next process has to find its configuration file.
    pub fn hand_over(&self, config_file: bool) -> io::Result<Child> {
        let listeners = self.workers.listeners()?;
        if self.draining() || listeners.is_empty() {
            return Err(io::Error::other("the router is ending"));
        }
        // Not under the lock: an end is not to wait for a successor that does not come.
        let lot = Lot {
            listeners: &listeners,
            own_files: self.socket_files(),
            config_file,
        };
        let successor = handover::start_successor(&lot, &self.attempt)?;
        self.shared.successor.arrives();
        // The successor waits for both; what is counted and remembered here from now on, it takes in. Before the end is
        // ordered, because the process may be gone right after it, and somebody has yet to hear of the successor.
        self.usage.hand_over();
        self.memory.hand_over();
        self.end(|| Order::HandOver);
        Ok(successor)
    }

    /// Files of Unix sockets that callers and the operator come in by.
    fn socket_files(&self) -> Vec<PathBuf> {
        let mut files = self.own_files.to_vec();
        if let Some(Listen::Unix(file)) = &self.current().config.admin.listen {
            files.push(file.clone());
        }
        files
    }

    /// Lets no successor come any more; one that is being started ends.
    pub fn refuse_successor(&self) {
        self.attempt.give_up();
    }

    /// Lets every core go on with another configuration: new connections at once, open ones after their next exchange.
    /// What is bound or opened at the start stays as it is.
    pub fn reload(&self, config: Arc<Config>) -> Result<(), StartError> {
        let tls = tls_of("server.tls", &config.server.tls)?;
        let admin_tls = tls_of("admin.tls", &config.admin.tls)?;
        let connectors = Connectors::new(&config).map_err(StartError::Plan)?;
        self.usage.set_prices(config.prices.clone());
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Current {
            config: config.clone(),
            connectors: connectors.clone(),
            admin_tls,
        };
        self.workers.tell(|| Order::Reload {
            config: config.clone(),
            connectors: connectors.clone(),
            tls: tls.clone(),
        });
        Ok(())
    }

    /// Takes each key snapshot that is put in place from now on, and lets go of the one before and of the limits of keys
    /// that are in it no more.
    pub fn watch(&self, keys: &KeyStore) -> io::Result<WatchGuard> {
        let (shared, workers) = (self.shared.clone(), self.workers.clone());
        keys.watch(move |snapshot| {
            workers.tell(|| Order::Keys);
            let records = snapshot.records().iter();
            shared.key_limits.keep(records.map(|record| &*record.id));
        })
    }

    /// What keys have used.
    pub fn usage(&self) -> &UsageStore {
        &self.usage
    }

    /// What new connections are served with now.
    pub fn current(&self) -> Current {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// What all cores see.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The addresses that are listened on, in the configuration's order.
    pub fn addrs(&self) -> &[BoundAddr] {
        &self.addrs
    }

    /// The vaults.
    pub fn memory(&self) -> &MemoryStore {
        &self.memory
    }

    /// Whether somebody has asked for the end.
    pub fn draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    fn end(&self, order: impl Fn() -> Order) {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.workers.tell(order);
        self.workers.close_listeners();
    }
}
