//! One worker thread: its loop, its listeners, its end.
//!
//! Accepting never stands in a select (a dropped accept leaks its descriptor): it is stopped by shutting the listener
//! down. Each connection is a task of its own, and a panic in it is counted and costs that connection only.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use futures_channel::mpsc::UnboundedReceiver;

use crate::config::Config;
use crate::connection;
use crate::error::Fault;
use crate::exchange;
use crate::keys::KeyStore;
use crate::net::{
    self, Accepted, BoundListener, Deadlines, Hangup, Listener, Side, Stream, TlsAcceptor,
};
use crate::plan::{Connectors, Plan};
use crate::upstream::{Keeping, Resolver, Upstreams};
use crate::worker::{Shared, Worker};

/// The pause after a failed accept: out of descriptors, for instance. Without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a draining worker looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How long connections get to end after they were shut down.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What a worker can be told.
pub(super) enum Order {
    /// Stop accepting, finish, end.
    Drain,
}

/// Everything a worker needs, to be moved to its thread.
pub(super) struct Seat {
    pub(super) index: usize,
    pub(super) pinned: bool,
    pub(super) config: Arc<Config>,
    pub(super) keys: KeyStore,
    pub(super) connectors: Connectors,
    pub(super) resolver: Resolver,
    pub(super) shared: Arc<Shared>,
    pub(super) listeners: Vec<BoundListener>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) id_prefix: u64,
    pub(super) inbox: UnboundedReceiver<Order>,
    pub(super) ready: Sender<()>,
}

impl Seat {
    /// The thread's whole life.
    pub(super) fn run(self) -> io::Result<()> {
        if self.pinned {
            // Fewer CPUs than workers, or a scheduler that forbids it: unpinned works too.
            if let Err(error) = net::pin_to_core(self.index) {
                tracing::debug!(worker = self.index, %error, "not pinned");
            }
        }
        net::run(self.serve())?
    }

    async fn serve(self) -> io::Result<()> {
        let deadlines = Deadlines::new(Instant::now());
        let plan = Rc::new(Plan::new(&self.config, &self.connectors));
        let keeping = Keeping {
            connect_timeout: self.config.timeouts.connect,
            idle_timeout: self.config.timeouts.upstream_idle,
            idle_per_origin_max: self.config.limits.upstream_idle_per_origin_max,
        };
        let upstreams = Upstreams::new(plan.origins(), self.resolver, deadlines.clone(), keeping);
        let worker = Rc::new(Worker::new(
            self.config,
            plan,
            upstreams,
            deadlines.clone(),
            self.shared,
            self.keys,
            self.id_prefix,
        ));
        let mut hangups = Vec::new();
        for bound in self.listeners {
            let tls = self
                .tls
                .clone()
                .filter(|_| matches!(bound, BoundListener::Tcp(_)));
            let listener = bound.open()?;
            hangups.push(listener.hangup());
            net::spawn(accept(listener, tls, worker.clone()));
        }
        net::spawn(deadlines.keep());
        net::spawn(worker.clone().keep_upstreams());
        // The starter may have given up; then this worker is told to drain.
        let _ = self.ready.send(());
        drop(self.ready);
        drain(self.inbox, &hangups, &worker).await;
        Ok(())
    }
}

async fn accept(listener: Listener, tls: Option<TlsAcceptor>, worker: Rc<Worker>) {
    loop {
        match listener.accept().await {
            Ok(accepted) => admit(accepted, tls.clone(), &worker),
            Err(_) if worker.draining() => return,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                net::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Starts a connection's task, or turns the caller away when there are too many.
fn admit(accepted: Accepted, tls: Option<TlsAcceptor>, worker: &Rc<Worker>) {
    let open = Open::new(worker.shared.clone());
    let within_limit = open.count <= worker.config.limits.connections_max;
    let worker = worker.clone();
    net::spawn(async move {
        let shared = worker.shared.clone();
        let task = async move {
            let Some(stream) = secure(accepted.stream, tls, &worker).await else {
                return;
            };
            if within_limit {
                connection::serve(stream, worker).await;
            } else {
                exchange::turn_away(stream, &worker, &Fault::Overloaded).await;
            }
        };
        if net::isolate(task).await.is_err() {
            shared.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a connection was lost to a bug");
        }
        drop(open);
    });
}

async fn secure(stream: Stream, tls: Option<TlsAcceptor>, worker: &Worker) -> Option<Stream> {
    let Some(tls) = tls else { return Some(stream) };
    let deadline = worker.deadlines.register(Side::Downstream, stream.hangup());
    deadline.arm(Instant::now(), worker.config.timeouts.head);
    match tls.accept(stream).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
    }
}

/// Counts a connection for as long as it lives.
struct Open {
    shared: Arc<Shared>,
    count: usize,
}

impl Open {
    fn new(shared: Arc<Shared>) -> Self {
        let count = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        Self { shared, count }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits for the order, then ends in steps: no new callers, idle ones off, busy ones in time, the rest cut.
async fn drain(mut inbox: UnboundedReceiver<Order>, listeners: &[Hangup], worker: &Worker) {
    match std::future::poll_fn(|cx| poll_next(&mut inbox, cx)).await {
        Some(Order::Drain) | None => {}
    }
    listeners.iter().for_each(Hangup::now);
    let started = Instant::now();
    let mut cut = None;
    loop {
        worker.deadlines.hang_up_downstream(true);
        if worker.deadlines.open_downstream() == 0 {
            break;
        }
        match cut {
            None if started.elapsed() >= worker.config.timeouts.drain => {
                tracing::warn!(
                    open = worker.deadlines.open_downstream(),
                    "drain timeout: cutting connections"
                );
                worker.deadlines.hang_up_downstream(false);
                cut = Some(Instant::now());
            }
            Some(since) if Instant::now().duration_since(since) >= LAST_WAIT => break,
            _ => {}
        }
        net::sleep(DRAIN_LOOK).await;
    }
    // Closing is an operation too: let the loop turn once more.
    net::sleep(DRAIN_LOOK).await;
}

fn poll_next<T>(
    inbox: &mut UnboundedReceiver<T>,
    cx: &mut std::task::Context<'_>,
) -> std::task::Poll<Option<T>> {
    use futures_core::Stream as _;
    std::pin::Pin::new(inbox).poll_next(cx)
}
