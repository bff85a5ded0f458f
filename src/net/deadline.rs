//! Deadlines of one core: a timing wheel that ends late operations by shutting their connection down.
//!
//! Every connection of a core has one `Deadline`. Arming it is a store: the wheel looks at the stored time only when
//! the queued one comes up, and queues again if it moved later, so a connection that is armed a thousand times stands
//! in the wheel once. `server` spawns `keep`, which advances it whenever something comes up; `connection` and
//! `upstream` arm.

mod slot;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::stream::Hangup;
use slot::{Look, Slot};

/// Half of how late a deadline may fire. Timeouts are seconds; 25 ms costs a busy core 40 loop turns a second at most.
pub(super) const TICK: Duration = Duration::from_nanos(TICK_NANOS as u64);
const TICK_NANOS: u32 = 25_000_000;
const TICKS_PER_SECOND: u64 = 40;

const NEVER: u64 = u64::MAX;

/// How far ahead an entry stands in the queue at most, in ticks (10 s). A connection that is gone leaves its entry
/// behind; with timeouts of many minutes, all connections of that time would.
const HORIZON: u64 = 400;

/// Which end of the router a connection stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A caller's connection.
    Downstream,
    /// A connection to a provider.
    Upstream,
}

/// The wheel of one core.
pub struct Deadlines {
    started: Instant,
    /// The tick that was asked for last, with its first moment and the one behind its last: most ask for the same, and
    /// comparing costs a fifth of counting.
    current: Cell<(Instant, Instant, u64)>,
    slots: RefCell<Slots>,
    keeper: Keeper,
}

/// What `keep` waits for, so that it does not turn an idle core's loop.
#[derive(Default)]
struct Keeper {
    /// The tick at which it will look, if nothing comes up earlier.
    looks_at: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Default)]
struct Slots {
    /// Open connections and free places; a place's generation tells a queued entry from its successor's.
    places: Vec<Place>,
    free: Vec<u32>,
    /// Entries by the tick at which they are looked at.
    queue: BTreeMap<u64, Vec<(u32, u32)>>,
    open_downstream: usize,
}

struct Place {
    generation: u32,
    slot: Option<Rc<Slot>>,
}

/// One connection's deadline; unarmed at first. Dropping it takes the connection off the wheel.
pub struct Deadline {
    wheel: Rc<Deadlines>,
    slot: Rc<Slot>,
    place: u32,
}

impl Deadlines {
    /// An empty wheel that counts ticks from `started`.
    pub fn new(started: Instant) -> Rc<Self> {
        Rc::new(Self {
            started,
            current: Cell::new((started, started, 0)),
            slots: RefCell::default(),
            keeper: Keeper::default(),
        })
    }

    /// Registers a connection.
    pub fn register(self: &Rc<Self>, side: Side, hangup: Hangup) -> Deadline {
        let slot = Rc::new(Slot::new(side, hangup));
        let mut slots = self.slots.borrow_mut();
        slots.open_downstream += usize::from(side == Side::Downstream);
        let place = match slots.free.pop() {
            Some(place) => {
                slots.places[place as usize].slot = Some(slot.clone());
                place
            }
            None => {
                slots.places.push(Place {
                    generation: 0,
                    slot: Some(slot.clone()),
                });
                (slots.places.len() - 1) as u32
            }
        };
        drop(slots);
        Deadline {
            wheel: self.clone(),
            slot,
            place,
        }
    }

    /// Fires everything that is due at `now`; returns how many connections it shut down.
    pub fn advance(&self, now: Instant) -> usize {
        let now_tick = self.tick_at(now);
        let mut slots = self.slots.borrow_mut();
        let mut fired = 0;
        while let Some(entry) = slots.queue.first_entry() {
            let looked_at = *entry.key();
            if looked_at > now_tick {
                break;
            }
            for (place, generation) in entry.remove() {
                let Place {
                    generation: current,
                    slot: Some(slot),
                } = &slots.places[place as usize]
                else {
                    continue;
                };
                // Another connection's place by now, or looked at earlier: that entry is the one that counts.
                if *current != generation || slot.queued_tick.get() != looked_at {
                    continue;
                }
                slot.queued_tick.set(NEVER);
                match slot.look(now_tick) {
                    Look::Next(next) => {
                        slot.queued_tick.set(next);
                        let queue = slots.queue.entry(next).or_default();
                        queue.push((place, generation));
                    }
                    Look::Nothing => {}
                    Look::ShutDown => fired += 1,
                }
            }
        }
        fired
    }

    /// Callers' connections that are open on this core.
    pub fn open_downstream(&self) -> usize {
        self.slots.borrow().open_downstream
    }

    /// Shuts down callers' connections: the idle ones, or all of them.
    pub fn hang_up_downstream(&self, idle_only: bool) {
        self.each_downstream(|slot| {
            if slot.idle.get() || !idle_only {
                slot.cut.set(slot.cut.get() || !idle_only);
                slot.hangup.now();
            }
        });
    }

    /// Cuts callers off, those in what began before the drain or all of them: they are listened to no more, so that whatever
    /// they wait for ends, and can be told so. Returns how many.
    pub fn cut_downstream(&self, early_only: bool) -> usize {
        let mut count = 0;
        self.each_downstream(|slot| {
            if !(slot.cut.get() || early_only && slot.late.get()) {
                slot.cut.set(true);
                slot.hangup.read_side();
                count += 1;
            }
        });
        count
    }

    /// Shuts down what has been cut.
    pub fn hang_up_cut(&self) {
        self.each_downstream(|slot| {
            if slot.cut.get() {
                slot.hangup.now();
            }
        });
    }

    fn each_downstream(&self, look: impl FnMut(&Slot)) {
        let slots = self.slots.borrow();
        let open = slots
            .places
            .iter()
            .filter_map(|place| place.slot.as_deref());
        open.filter(|slot| slot.side == Side::Downstream)
            .for_each(look);
    }

    /// Runs the wheel for as long as this thread's loop runs.
    pub async fn keep(self: Rc<Self>) {
        /// For a clock that is a little ahead of the loop's.
        const SHORTEST: Duration = Duration::from_millis(1);
        /// So late only where something has held the core (a tenth of a second).
        const LATE_TICKS: u64 = 4;
        loop {
            let next = self.slots.borrow().queue.keys().next().copied();
            self.keeper.looks_at.set(next.unwrap_or(NEVER));
            let time = next.map(|tick| {
                let nanos = tick.saturating_mul(TICK_NANOS.into());
                let passed = self.started.elapsed();
                Duration::from_nanos(nanos)
                    .saturating_sub(passed)
                    .max(SHORTEST)
            });
            self.until_earlier(time).await;
            // What was waited for may have come meanwhile: its readers have some turns of the loop first.
            if next.is_some_and(|tick| self.tick_at(Instant::now()) > tick + LATE_TICKS) {
                super::sleep(TICK).await;
            }
            self.advance(Instant::now());
        }
    }

    /// Waits for so long, or until something is queued that comes up earlier than anything before.
    async fn until_earlier(&self, time: Option<Duration>) {
        let looks_at = self.keeper.looks_at.get();
        let earlier = poll_fn(|cx| match self.keeper.looks_at.get() == looks_at {
            true => {
                *self.keeper.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            false => Poll::Ready(()),
        });
        match time {
            Some(time) => {
                super::within(time, pin!(earlier)).await;
            }
            None => earlier.await,
        }
    }

    /// Something has been queued for `tick`.
    fn queued(&self, tick: u64) {
        if tick < self.keeper.looks_at.get() {
            self.keeper.looks_at.set(tick);
            if let Some(waker) = self.keeper.waker.take() {
                waker.wake();
            }
        }
    }

    fn tick_at(&self, now: Instant) -> u64 {
        let (first, behind, tick) = self.current.get();
        if first <= now && now < behind {
            return tick;
        }
        let since = now.saturating_duration_since(self.started);
        let tick = ticks(since);
        let first = self.started + TICK.saturating_mul(u32::try_from(tick).unwrap_or(u32::MAX));
        if first <= now && now - first < TICK {
            self.current.set((first, first + TICK, tick));
        }
        tick
    }
}

/// Whole ticks. In 32-bit and 64-bit steps: this runs several times in each exchange, and dividing 128 bits is a call.
fn ticks(time: Duration) -> u64 {
    time.as_secs()
        .saturating_mul(TICKS_PER_SECOND)
        .saturating_add(u64::from(time.subsec_nanos() / TICK_NANOS))
}

/// From now to a deadline. Both are rounded down: two ticks more, so that it fires late and never early.
fn wait_ticks(timeout: Duration) -> u64 {
    ticks(timeout).saturating_add(2)
}

impl Deadline {
    /// The connection is shut down unless it is armed again or disarmed within `timeout` from `now`.
    pub fn arm(&self, now: Instant, timeout: Duration) {
        self.slot.forget_reminder();
        self.set(now, timeout);
    }

    /// Something is being written, or has been: the connection is shut down after `pause` if the peer has all of it, else
    /// once it has taken nothing of it between two looks, which are so far apart.
    pub fn arm_writing(&self, now: Instant, pause: Duration) {
        self.arm(now, pause);
        self.slot.set_writing(wait_ticks(pause));
    }

    /// While the deadline is armed, a peer that acknowledges nothing for `patience` is gone, and its connection shut down.
    pub fn expect_acknowledgements(&self, patience: Duration) {
        self.slot.set_patience(patience);
    }

    /// Nothing is shut down after `timeout` from `now`: `poll_reminder` is over then, unless `arm` comes first.
    pub fn remind(&self, now: Instant, timeout: Duration) {
        self.arm(now, timeout);
        self.slot.remind();
    }

    /// Waits until what `remind` asked for comes.
    pub fn poll_reminder(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.slot.poll_reminder(cx)
    }

    fn set(&self, now: Instant, timeout: Duration) {
        let now_tick = self.wheel.tick_at(now);
        let look = self.slot.set(now_tick, wait_ticks(timeout));
        if look < self.slot.queued_tick.get() {
            self.slot.queued_tick.set(look);
            let mut slots = self.wheel.slots.borrow_mut();
            let generation = slots.places[self.place as usize].generation;
            slots
                .queue
                .entry(look)
                .or_default()
                .push((self.place, generation));
            drop(slots);
            self.wheel.queued(look);
        }
    }

    /// No deadline holds any more.
    pub fn disarm(&self) {
        self.slot.forget_reminder();
        self.slot.due_tick.set(NEVER);
    }

    /// Whether the deadline shut the connection down.
    pub fn fired(&self) -> bool {
        self.slot.fired.get()
    }

    /// Whether it was shut down because the peer acknowledged nothing any more.
    pub fn deserted(&self) -> bool {
        self.slot.deserted()
    }

    /// Whether the connection's end is this side's doing, for whichever of the two reasons.
    pub fn ended_it(&self) -> bool {
        self.fired() || self.deserted()
    }

    /// Says that what the connection waits for or is in comes during a drain.
    pub fn set_late(&self) {
        self.slot.late.set(true);
    }

    /// Whether the connection was cut or shut down whatever it was in: its caller did not leave by itself.
    pub fn cut(&self) -> bool {
        self.slot.cut.get()
    }

    /// Says whether the connection stands between two exchanges.
    pub fn set_idle(&self, idle: bool) {
        self.slot.idle.set(idle);
    }

    /// Shuts the connection down now.
    pub fn hang_up(&self) {
        self.slot.hangup.now();
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut slots = self.wheel.slots.borrow_mut();
        slots.open_downstream -= usize::from(self.slot.side == Side::Downstream);
        let place = &mut slots.places[self.place as usize];
        place.slot = None;
        place.generation = place.generation.wrapping_add(1);
        slots.free.push(self.place);
    }
}

#[cfg(test)]
mod tests;
