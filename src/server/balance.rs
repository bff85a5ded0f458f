//! Which worker serves a new caller: as a rule the one whose CPU hears of it, so that packets, socket and exchange share
//! that CPU's caches (4 to 12 % of a request's CPU on two cores, by what caches they share).
//!
//! Where a network has fewer queues than the machine has CPUs, one process next door opens all connections, or all
//! callers come through one socket, that would be the same worker each time. So a worker that has more than its share
//! passes callers on to the one that has the fewest, before their first byte, and asks for no more until it is level.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

use super::worker::Order;
use crate::metrics::CoreMetrics;
use crate::net::{Accepted, BoundListener, Listener};
use crate::worker::Shared;

/// All workers, as those see them who give orders.
#[derive(Clone)]
pub(super) struct Workers(Arc<[Neighbour]>);

/// What others know of a worker.
struct Neighbour {
    orders: UnboundedSender<Order>,
    metrics: Arc<CoreMetrics>,
    /// Where it accepts, once more; none once no new callers are wanted.
    listeners: Mutex<Vec<BoundListener>>,
}

impl Neighbour {
    fn listeners(&self) -> MutexGuard<'_, Vec<BoundListener>> {
        self.listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> usize {
        self.metrics.connections.load(Ordering::Relaxed)
    }

    fn somebody_waits(&self) -> bool {
        self.listeners().iter().any(BoundListener::somebody_waits)
    }
}

impl Workers {
    /// A place for each worker, with the sockets that it accepts from.
    pub(super) fn new(
        listeners: &[Vec<BoundListener>],
        shared: &Arc<Shared>,
    ) -> io::Result<(Self, Vec<Place>)> {
        let mut inboxes = Vec::new();
        let all = listeners.iter().map(|own| {
            let (orders, inbox) = unbounded();
            inboxes.push(inbox);
            let copies = own.iter().map(BoundListener::try_clone);
            Ok(Neighbour {
                orders,
                metrics: shared.metrics.core(),
                listeners: Mutex::new(copies.collect::<io::Result<_>>()?),
            })
        });
        let all: Arc<[Neighbour]> = all.collect::<io::Result<_>>()?;
        let places = inboxes.into_iter().enumerate().map(|(own, inbox)| {
            let neighbours = Neighbours {
                cpu: None,
                shared: shared.clone(),
                metrics: all[own].metrics.clone(),
                all: Arc::downgrade(&all),
            };
            (neighbours, inbox)
        });
        let places = places.collect();
        Ok((Self(all), places))
    }

    /// All sockets once more, for a successor; none once no new callers are wanted.
    pub(super) fn listeners(&self) -> io::Result<Vec<BoundListener>> {
        let mut all = Vec::new();
        for neighbour in self.0.iter() {
            for listener in neighbour.listeners().iter() {
                all.push(listener.try_clone()?);
            }
        }
        Ok(all)
    }

    /// Closes the sockets, but for those that the workers have themselves.
    pub(super) fn close_listeners(&self) {
        for neighbour in self.0.iter() {
            neighbour.listeners().clear();
        }
    }

    /// Gives an order to each of them; one that has ended needs none.
    pub(super) fn tell(&self, order: impl Fn() -> Order) {
        for neighbour in self.0.iter() {
            let _ = neighbour.orders.unbounded_send(order());
        }
    }
}

/// What a worker gets of all this: the others, and where it hears its orders.
pub(super) type Place = (Neighbours, UnboundedReceiver<Order>);

/// All workers, as one of them sees them. It does not keep their inboxes open: without anybody to give orders they end.
pub(super) struct Neighbours {
    /// The CPU that this worker is bound to, if it is.
    pub(super) cpu: Option<usize>,
    shared: Arc<Shared>,
    /// What this worker counts.
    pub(super) metrics: Arc<CoreMetrics>,
    all: Weak<[Neighbour]>,
}

impl Neighbours {
    /// Passes a new caller on, if this worker has its share of callers and another one fewer; gives it back otherwise.
    pub(super) fn share(&self, accepted: Accepted, listener: &Listener) -> Option<Accepted> {
        let own = self.metrics.connections.load(Ordering::Relaxed);
        let Some(all) = self.all.upgrade() else {
            return Some(accepted);
        };
        let even = self.shared.connections.load(Ordering::Relaxed) / all.len();
        if own <= even {
            listener.prefer(self.cpu);
        }
        if own < most(even, DEVIATIONS) {
            return Some(accepted);
        }
        let least = all.iter().min_by_key(|neighbour| neighbour.connections())?;
        // Whose own callers are only just coming in will soon have more.
        let soon_level = own < most(even, DEVIATIONS_IN_A_BURST) && least.somebody_waits();
        if least.connections() >= own || soon_level {
            return Some(accepted);
        }
        listener.prefer(None);
        // Counted here, so that the next caller of a burst goes to another one.
        let open = Open::new(self.shared.clone(), least.metrics.clone());
        let refused = least.orders.unbounded_send(Order::Serve { accepted, open });
        match refused.err()?.into_inner() {
            Order::Serve { accepted, .. } => Some(accepted),
            _ => None,
        }
    }

    /// Counts a caller that this worker serves itself.
    pub(super) fn keep(&self) -> Open {
        Open::new(self.shared.clone(), self.metrics.clone())
    }
}

/// Standard deviations of the kernel's own spreading, by a hash, that a worker may be over its even share: one as a rule,
/// three while the worker with the fewest still takes its own callers in.
const DEVIATIONS: usize = 1;
const DEVIATIONS_IN_A_BURST: usize = 3;

/// The callers that a worker may have where `even` would be its even share, so many standard deviations from it; two
/// more, because those of a few are nothing.
fn most(even: usize, deviations: usize) -> usize {
    even + deviations * even.isqrt() + 2
}

/// Counts a connection for as long as it lives.
pub(super) struct Open {
    shared: Arc<Shared>,
    metrics: Arc<CoreMetrics>,
    /// Callers' connections that are open, this one among them.
    pub(super) count: usize,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_room_with_the_one_that_has_the_fewest() {
        for workers in 1..70_usize {
            for total in 0..2000_usize {
                let even = total / workers;
                // However the callers are spread, somebody has no more than an even share.
                assert!(
                    even < most(even, DEVIATIONS)
                        && most(even, DEVIATIONS) <= most(even, DEVIATIONS_IN_A_BURST)
                );
                let slack = (most(even, DEVIATIONS) - even) as f64;
                let deviation = (even as f64).sqrt();
                assert!((deviation..=deviation + 2.0).contains(&slack), "{even}");
            }
        }
    }
}
