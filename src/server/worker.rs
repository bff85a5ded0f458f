//! One worker thread: its loop, its listeners, its end.
//!
//! Accepting never stands in a select (a dropped accept leaks its descriptor): it is stopped by cancelling the accepts.
//! Each connection is a task of its own, and a panic in it is counted and costs that connection only.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
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
use crate::metrics::{self, CoreMetrics};
use crate::net::{self, Accepted, BoundListener, Deadlines, Listener, Side, Stream, TlsAcceptor};
use crate::plan::{Connectors, Plan};
use crate::upstream::{Keeping, Resolver, Upstreams};
use crate::worker::{Shared, Ties, Worker};

/// The pause after a failed accept: out of descriptors, for instance. Without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Callers taken from a listener's queue before it closes: all that it can hold, and no more, however many still come.
const QUEUED_MAX: usize = 4096;
/// How often, and how many times, a worker looks whether its accepts have ended.
const ENDING_LOOK: Duration = Duration::from_millis(1);
const ENDING_LOOKS: usize = 100;
/// How often a draining worker looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How long connections get to end after they were shut down.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What a worker can be told.
pub(super) enum Order {
    /// Stop accepting, finish, end.
    Drain,
    /// The same, but another process accepts from the same sockets.
    HandOver,
    /// Go on with another configuration.
    Reload {
        config: Arc<Config>,
        connectors: Connectors,
        tls: Option<TlsAcceptor>,
    },
}

/// What a new connection is served with; replaced whole by a reload.
struct Current {
    worker: Rc<Worker>,
    tls: Option<TlsAcceptor>,
}

/// The cell that a core's listeners look into.
type Serving = Rc<RefCell<Current>>;

/// Everything a worker needs, to be moved to its thread.
pub(super) struct Seat {
    pub(super) index: usize,
    pub(super) pinned: bool,
    pub(super) config: Arc<Config>,
    pub(super) connectors: Connectors,
    pub(super) resolver: Resolver,
    pub(super) ties: Ties,
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
        let upstreams = upstreams(&self.config, &plan, &self.resolver, &deadlines);
        let worker = Rc::new(Worker::new(
            self.config,
            plan,
            upstreams,
            deadlines.clone(),
            self.ties,
            self.id_prefix,
        ));
        net::spawn(deadlines.keep());
        net::spawn(worker.clone().keep_upstreams());
        let tls = self.tls;
        let serving = Rc::new(RefCell::new(Current { worker, tls }));
        let mut listeners = Vec::new();
        for bound in self.listeners {
            let listener = Rc::new(bound.open()?);
            listeners.push(listener.clone());
            let failed_at = Rc::new(Cell::new(None));
            for _ in 0..listener.accepts_at_once() {
                let accepting = accept(listener.clone(), serving.clone(), failed_at.clone());
                net::spawn(accepting);
            }
        }
        // The starter may have given up; then this worker is told to drain.
        let _ = self.ready.send(());
        drop(self.ready);
        let order = obey(self.inbox, &serving, &self.resolver).await;
        drain(order, listeners, &serving).await;
        Ok(())
    }
}

pub(super) fn upstreams(
    config: &Config,
    plan: &Plan,
    resolver: &Resolver,
    deadlines: &Rc<Deadlines>,
) -> Upstreams {
    let keeping = Keeping {
        connect_timeout: config.timeouts.connect,
        unacknowledged_timeout: config.timeouts.unacknowledged,
        idle_timeout: config.timeouts.upstream_idle,
        idle_per_origin_max: config.limits.upstream_idle_per_origin_max,
    };
    Upstreams::new(plan.origins(), resolver.clone(), deadlines.clone(), keeping)
}

/// Follows orders until one of them is the end; None when nobody is left to give any.
async fn obey(
    mut inbox: UnboundedReceiver<Order>,
    serving: &Serving,
    resolver: &Resolver,
) -> Option<Order> {
    loop {
        match std::future::poll_fn(|cx| poll_next(&mut inbox, cx)).await {
            Some(Order::Reload {
                config,
                connectors,
                tls,
            }) => {
                let mut current = serving.borrow_mut();
                let plan = Rc::new(Plan::new(&config, &connectors));
                let upstreams = upstreams(&config, &plan, resolver, &current.worker.deadlines);
                let worker = Rc::new(current.worker.successor(config, plan, upstreams));
                net::spawn(worker.clone().keep_upstreams());
                *current = Current { worker, tls };
            }
            end => return end,
        }
    }
}

/// Accepts until the worker drains. Several of these share a listener, and `failed_at`, so that a failure that meets all
/// of them is told once.
async fn accept(listener: Rc<Listener>, serving: Serving, failed_at: Rc<Cell<Option<Instant>>>) {
    loop {
        match listener.accept().await {
            Ok(accepted) => admit(accepted, &serving),
            Err(_) if serving.borrow().worker.draining() => return,
            Err(error) => {
                let now = Instant::now();
                let told = |at| now.duration_since(at) < ACCEPT_PAUSE;
                if !failed_at.get().is_some_and(told) {
                    failed_at.set(Some(now));
                    metrics::add(&serving.borrow().worker.metrics.accept_failures);
                    tracing::warn!(%error, "accept failed");
                }
                net::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Starts a connection's task, or turns the caller away when there are too many.
fn admit(accepted: Accepted, serving: &Serving) {
    let Current { worker, tls } = &*serving.borrow();
    // TLS is for TCP, and only a TCP caller has an address.
    let tls = tls.clone().filter(|_| accepted.peer.is_some());
    let open = Open::new(worker.shared.clone(), worker.metrics.clone());
    metrics::add(&worker.metrics.accepted);
    let within_limit = open.count <= worker.connections_max;
    let peer = accepted.peer.map(|peer| peer.ip());
    let (shared, worker) = (worker.shared.clone(), worker.clone());
    // Only what a connection needs while it waits stays in its task: a handshake's future alone weighs more.
    let task: Pin<Box<dyn Future<Output = ()>>> = match tls {
        None => serve(accepted.stream, peer, worker, within_limit),
        Some(tls) => Box::pin(async move {
            if let Some(stream) = Box::pin(secure(accepted.stream, tls, &worker)).await {
                serve(stream, peer, worker, within_limit).await;
            }
        }),
    };
    let task = net::isolate(task);
    net::spawn(async move {
        if task.await.is_err() {
            shared.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a connection was lost to a bug");
        }
        drop(open);
    });
}

fn serve(
    stream: Stream,
    peer: Option<IpAddr>,
    worker: Rc<Worker>,
    within_limit: bool,
) -> Pin<Box<dyn Future<Output = ()>>> {
    if within_limit {
        return Box::pin(connection::serve(stream, peer, worker));
    }
    Box::pin(async move { exchange::turn_away(stream, &worker, &Fault::TooManyConnections).await })
}

async fn secure(stream: Stream, tls: TlsAcceptor, worker: &Worker) -> Option<Stream> {
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
    metrics: Arc<CoreMetrics>,
    count: usize,
}

impl Open {
    fn new(shared: Arc<Shared>, metrics: Arc<CoreMetrics>) -> Self {
        let count = shared.connections.fetch_add(1, Ordering::Relaxed) + 1;
        metrics.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            shared,
            metrics,
            count,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends in steps: no new callers, idle ones off in a moment, busy ones in time, the rest cut.
async fn drain(order: Option<Order>, listeners: Vec<Rc<Listener>>, serving: &Serving) {
    for listener in &listeners {
        listener.stop().now();
    }
    if matches!(order, Some(Order::HandOver)) {
        take_left(&listeners, serving).await;
    } else {
        // Nobody else takes those whom the kernel has connected already.
        for listener in &listeners {
            for _ in 0..QUEUED_MAX {
                match listener.accept_waiting() {
                    Ok(Some(accepted)) => admit(accepted, serving),
                    _ => break,
                }
            }
        }
    }
    drop(listeners);
    // An accept that came through before its listener stopped has yet to be heard of; its caller counts from then on.
    net::sleep(DRAIN_LOOK).await;
    let worker = serving.borrow().worker.clone();
    let started = Instant::now();
    let mut cut = None;
    loop {
        if started.elapsed() >= connection::LAST_PAUSE {
            worker.deadlines.hang_up_downstream(true);
        }
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

/// Whoever came while this worker's accepts were being ended: one of them may have been told of it, and not the
/// successor.
async fn take_left(listeners: &[Rc<Listener>], serving: &Serving) {
    for listener in listeners {
        // Each accept that has not ended holds the listener; the last of them ends within a turn or two.
        for _ in 0..ENDING_LOOKS {
            if Rc::strong_count(listener) == 1 {
                break;
            }
            net::sleep(ENDING_LOOK).await;
        }
        for _ in 0..QUEUED_MAX {
            match listener.take_left().await {
                Ok(Some(accepted)) => admit(accepted, serving),
                _ => break,
            }
        }
    }
}

fn poll_next<T>(
    inbox: &mut UnboundedReceiver<T>,
    cx: &mut std::task::Context<'_>,
) -> std::task::Poll<Option<T>> {
    use futures_core::Stream as _;
    std::pin::Pin::new(inbox).poll_next(cx)
}
