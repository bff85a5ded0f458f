//! One worker thread: its loop, its listeners, its end.
//!
//! A new caller is served here or passed to a neighbour (`balance`), and a neighbour may pass one here at any time.
//! Each connection is a task of its own, and a panic in it is counted and costs that connection only.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use futures_channel::mpsc::UnboundedReceiver;

use super::balance::{Neighbours, Open};
use crate::config::Config;
use crate::connection;
use crate::error::Fault;
use crate::exchange;
use crate::metrics;
use crate::net::{self, Accepted, BoundListener, Deadlines, Listener, Side, Stream, TlsAcceptor};
use crate::plan::{Connectors, Plan};
use crate::upstream::{Keeping, Resolver, Upstreams};
use crate::worker::{Ties, Worker};

/// The pause after a failed accept: out of descriptors, for instance. Without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Who is beyond the limit is told so, over TLS behind a handshake, which takes as long as the caller likes. At most this
/// part of the limit (one in so many) may be at that; who comes on top of them is just let go.
const UNTOLD_SHARE: usize = 8;
/// Callers taken from a listener's queue before it closes: all that it can hold, and no more, however many still come.
const QUEUED_MAX: usize = 4096;
/// How often a draining worker looks whether it is done.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How often it looks between cutting callers off and shutting them down: whoever has nothing of its answer yet is told.
/// Counted in looks, because a core that comes to nothing tells nobody.
const CUT_LOOKS: u32 = 25;
/// How long connections get to end after they were shut down.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// What a worker can be told.
pub(super) enum Order {
    /// Serve a caller that a neighbour accepted and counted.
    Serve { accepted: Accepted, open: Open },
    /// Stop accepting, finish, end.
    Drain,
    /// The same, but another process accepts from the same sockets.
    HandOver,
    /// Let go of the keys as they were: others are in use.
    Keys,
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
    pub(super) neighbours: Neighbours,
    pub(super) listeners: Vec<BoundListener>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) id_prefix: u64,
    pub(super) inbox: UnboundedReceiver<Order>,
    pub(super) ready: Sender<()>,
}

impl Seat {
    /// The thread's whole life.
    pub(super) fn run(mut self) -> io::Result<()> {
        if self.pinned {
            match net::pin_to_core(self.index) {
                Ok(cpu) => self.neighbours.cpu = Some(cpu),
                // Fewer CPUs than workers, or a scheduler that forbids it: unpinned works too.
                Err(error) => tracing::debug!(worker = self.index, %error, "not pinned"),
            }
        }
        net::run(self.serve())?
    }

    async fn serve(mut self) -> io::Result<()> {
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
        let neighbours = Rc::new(self.neighbours);
        let mut listeners = Vec::new();
        for bound in self.listeners {
            let listener = Rc::new(bound.open()?);
            listener.prefer(neighbours.cpu);
            listeners.push(listener.clone());
            net::spawn(accept(listener, serving.clone(), neighbours.clone()));
        }
        // The starter may have given up; then this worker is told to drain.
        let _ = self.ready.send(());
        drop(self.ready);
        let order = obey(&mut self.inbox, &serving, &self.resolver).await;
        drain(order, self.inbox, listeners, &neighbours, &serving).await;
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
    inbox: &mut UnboundedReceiver<Order>,
    serving: &Serving,
    resolver: &Resolver,
) -> Option<Order> {
    loop {
        match next(inbox).await {
            Some(Order::Serve { accepted, open }) => admit(accepted, open, serving),
            Some(Order::Keys) => drop(serving.borrow().worker.snapshot()),
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

/// Accepts until the listener is stopped.
async fn accept(listener: Rc<Listener>, serving: Serving, neighbours: Rc<Neighbours>) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                if let Some(accepted) = neighbours.share(accepted, &listener) {
                    admit(accepted, neighbours.keep(), &serving);
                }
            }
            Err(_) if listener.stopped() => return,
            Err(error) => {
                metrics::add(&neighbours.metrics.accept_failures);
                tracing::warn!(%error, "accept failed");
                net::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Starts a connection's task, or turns the caller away when there are too many.
fn admit(accepted: Accepted, open: Open, serving: &Serving) {
    let Current { worker, tls } = &*serving.borrow();
    // TLS is for TCP, and only a TCP caller has an address.
    let tls = tls.clone().filter(|_| accepted.peer.is_some());
    metrics::add(&worker.metrics.accepted);
    let room = worker.connections_max;
    let within_limit = open.count <= room;
    if tls.is_some() && open.count > room + room.div_ceil(UNTOLD_SHARE) {
        metrics::add(&worker.metrics.accept_failures);
        return;
    }
    let peer = accepted.peer.map(|peer| peer.ip());
    let stream = match accepted.open() {
        Ok(stream) => stream,
        Err(error) => {
            metrics::add(&worker.metrics.accept_failures);
            tracing::warn!(%error, "a caller is lost: its connection cannot be waited on");
            return;
        }
    };
    let (shared, worker) = (worker.shared.clone(), worker.clone());
    // Only what a connection needs while it waits stays in its task: a handshake's future alone weighs more.
    let task: Pin<Box<dyn Future<Output = ()>>> = match tls {
        None => serve(stream, peer, worker, within_limit),
        Some(tls) => Box::pin(async move {
            if let Some(stream) = Box::pin(secure(stream, tls, &worker)).await {
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

/// Ends in steps: no new callers, idle ones off in a moment, busy ones in time, the rest told so or cut.
async fn drain(
    order: Option<Order>,
    mut inbox: UnboundedReceiver<Order>,
    listeners: Vec<Rc<Listener>>,
    neighbours: &Neighbours,
    serving: &Serving,
) {
    for listener in &listeners {
        listener.stop();
    }
    // From here on neighbours keep their callers; who is under way is taken in.
    inbox.close();
    while let Some(order) = next(&mut inbox).await {
        if let Order::Serve { accepted, open } = order {
            admit(accepted, open, serving);
        }
    }
    let handed_over = matches!(order, Some(Order::HandOver));
    if !handed_over {
        // Nobody else takes those whom the kernel has connected already.
        for listener in &listeners {
            for _ in 0..QUEUED_MAX {
                let Ok(Some(accepted)) = listener.accept_waiting() else {
                    break;
                };
                admit(accepted, neighbours.keep(), serving);
            }
        }
    }
    drop(listeners);
    // Whoever was just admitted counts once its task has begun.
    net::sleep(DRAIN_LOOK).await;
    let worker = serving.borrow().worker.clone();
    let started = Instant::now();
    let timeout = worker.config.timeouts.drain;
    // Behind a handover nobody waits for this process: what came last over a kept connection has its own time, behind that
    // of the exchange before it.
    let mut early_at = handed_over.then_some(timeout);
    let mut last_at = Some(match handed_over {
        true => timeout + connection::LAST_PAUSE + timeout,
        false => timeout,
    });
    let mut looks_left = None;
    let mut ended = None;
    loop {
        if started.elapsed() >= connection::LAST_PAUSE {
            worker.deadlines.hang_up_downstream(true);
        }
        if worker.deadlines.open_downstream() == 0 {
            break;
        }
        let due = |at: &mut Duration| started.elapsed() >= *at;
        let (early, all) = (
            early_at.take_if(due).is_some(),
            last_at.take_if(due).is_some(),
        );
        if early || all {
            let open = worker.deadlines.cut_downstream(!all);
            if open > 0 {
                tracing::warn!(open, "drain timeout: cutting connections");
            }
            looks_left = Some(CUT_LOOKS);
        }
        if looks_left.take_if(|left| *left == 0).is_some() {
            worker.deadlines.hang_up_cut();
            ended = last_at.is_none().then(Instant::now);
        }
        if ended.is_some_and(|since| since.elapsed() >= LAST_WAIT) {
            break;
        }
        looks_left = looks_left.map(|left| left - 1);
        net::sleep(DRAIN_LOOK).await;
    }
    // Closing is an operation too: let the loop turn once more.
    net::sleep(DRAIN_LOOK).await;
}

async fn next(inbox: &mut UnboundedReceiver<Order>) -> Option<Order> {
    use futures_core::Stream as _;
    std::future::poll_fn(|cx| Pin::new(&mut *inbox).poll_next(cx)).await
}
