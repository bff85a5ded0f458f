//! Deadlines of one core: a timing wheel that ends late operations by shutting their connection down.
//!
//! Every connection of a core has one `Deadline`. Arming it is a store: the wheel looks at the stored time only when
//! the queued one comes up, and queues again if it moved later, so a connection that is armed a thousand times stands
//! in the wheel once. `server` runs `advance` every tick; `connection` and `upstream` arm.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::stream::Hangup;

/// Half of how late a deadline may fire. Timeouts are seconds; 25 ms costs 40 loop turns a second on an idle core.
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
    slots: RefCell<Slots>,
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

struct Slot {
    side: Side,
    hangup: Hangup,
    due_tick: Cell<u64>,
    queued_tick: Cell<u64>,
    fired: Cell<bool>,
    reminder: Reminder,
    /// Between two exchanges: may be closed at once when the router drains.
    idle: Cell<bool>,
}

/// What a slot does instead of ending its connection, where it is asked to.
#[derive(Default)]
struct Reminder {
    wanted: Cell<bool>,
    came: Cell<bool>,
    waker: RefCell<Option<Waker>>,
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
            slots: RefCell::default(),
        })
    }

    /// Registers a connection.
    pub fn register(self: &Rc<Self>, side: Side, hangup: Hangup) -> Deadline {
        let slot = Rc::new(Slot {
            side,
            hangup,
            due_tick: Cell::new(NEVER),
            queued_tick: Cell::new(NEVER),
            fired: Cell::new(false),
            reminder: Reminder::default(),
            idle: Cell::new(false),
        });
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
            if *entry.key() > now_tick {
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
                if *current != generation {
                    continue;
                }
                let due = slot.due_tick.get();
                if due <= now_tick {
                    slot.queued_tick.set(NEVER);
                    slot.due_tick.set(NEVER);
                    if slot.reminder.wanted.replace(false) {
                        slot.reminder.came.set(true);
                        if let Some(waker) = slot.reminder.waker.take() {
                            waker.wake();
                        }
                        continue;
                    }
                    slot.fired.set(true);
                    slot.hangup.now();
                    fired += 1;
                } else {
                    let next = match due {
                        NEVER => NEVER,
                        due => due.min(now_tick + HORIZON),
                    };
                    slot.queued_tick.set(next);
                    if next != NEVER {
                        slots
                            .queue
                            .entry(next)
                            .or_default()
                            .push((place, generation));
                    }
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
        for place in &self.slots.borrow().places {
            if let Some(slot) = &place.slot
                && slot.side == Side::Downstream
                && (slot.idle.get() || !idle_only)
            {
                slot.hangup.now();
            }
        }
    }

    /// Runs the wheel for as long as this thread's loop runs.
    pub async fn keep(self: Rc<Self>) {
        loop {
            super::sleep(TICK).await;
            self.advance(Instant::now());
        }
    }

    fn tick_at(&self, now: Instant) -> u64 {
        ticks(now.saturating_duration_since(self.started))
    }
}

/// Whole ticks. In 32-bit and 64-bit steps: this runs several times in each exchange, and dividing 128 bits is a call.
fn ticks(time: Duration) -> u64 {
    time.as_secs()
        .saturating_mul(TICKS_PER_SECOND)
        .saturating_add(u64::from(time.subsec_nanos() / TICK_NANOS))
}

impl Deadline {
    /// The connection is shut down unless it is armed again or disarmed within `timeout` from `now`.
    pub fn arm(&self, now: Instant, timeout: Duration) {
        self.forget_reminder();
        self.set(now, timeout);
    }

    /// Nothing is shut down after `timeout` from `now`: `poll_reminder` is over then, unless `arm` comes first.
    pub fn remind(&self, now: Instant, timeout: Duration) {
        self.forget_reminder();
        self.slot.reminder.wanted.set(true);
        self.set(now, timeout);
    }

    /// Waits until what `remind` asked for comes.
    pub fn poll_reminder(&self, cx: &mut Context<'_>) -> Poll<()> {
        let reminder = &self.slot.reminder;
        if reminder.came.get() {
            return Poll::Ready(());
        }
        let mut waker = reminder.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn forget_reminder(&self) {
        self.slot.reminder.wanted.set(false);
        self.slot.reminder.came.set(false);
    }

    fn set(&self, now: Instant, timeout: Duration) {
        // Both are rounded down: two ticks more, so that a deadline fires late and never early.
        let now_tick = self.wheel.tick_at(now);
        let due = now_tick
            .saturating_add(ticks(timeout).saturating_add(2))
            .min(NEVER - 1);
        self.slot.due_tick.set(due);
        let look = due.min(now_tick + HORIZON);
        if look < self.slot.queued_tick.get() {
            self.slot.queued_tick.set(look);
            let mut slots = self.wheel.slots.borrow_mut();
            let generation = slots.places[self.place as usize].generation;
            slots
                .queue
                .entry(look)
                .or_default()
                .push((self.place, generation));
        }
    }

    /// No deadline holds any more.
    pub fn disarm(&self) {
        self.forget_reminder();
        self.slot.due_tick.set(NEVER);
    }

    /// Whether the deadline shut the connection down.
    pub fn fired(&self) -> bool {
        self.slot.fired.get()
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
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    fn closed(peer: &UnixStream) -> bool {
        use std::io::Read;
        peer.set_nonblocking(true).unwrap();
        matches!((&*peer).read(&mut [0; 1]), Ok(0))
    }

    #[test]
    fn fires_once_due_and_not_before() {
        let start = Instant::now();
        let wheel = Deadlines::new(start);
        let (near, far) = UnixStream::pair().unwrap();
        let deadline = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
        deadline.arm(start, Duration::from_secs(1));
        assert_eq!(wheel.advance(start + Duration::from_millis(990)), 0);
        assert!(!closed(&far) && !deadline.fired());
        assert_eq!(wheel.advance(start + Duration::from_millis(1060)), 1);
        assert!(closed(&far) && deadline.fired());
        assert_eq!(wheel.advance(start + Duration::from_secs(9)), 0);
    }

    #[test]
    fn moves_later_and_earlier_and_disarms() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let wheel = Deadlines::new(start);
        let (near, far) = UnixStream::pair().unwrap();
        let deadline = wheel.register(Side::Upstream, Hangup::new(near.as_raw_fd()));
        deadline.arm(start, Duration::from_millis(100));
        deadline.arm(at(50), Duration::from_secs(10));
        assert_eq!(wheel.advance(at(5000)), 0, "moved later");
        deadline.arm(at(5000), Duration::from_millis(100));
        deadline.disarm();
        assert_eq!(wheel.advance(at(20_000)), 0, "disarmed");
        deadline.arm(at(20_000), Duration::from_secs(60));
        deadline.arm(at(20_000), Duration::from_millis(100));
        assert_eq!(wheel.advance(at(20_200)), 1, "moved earlier");
        assert!(closed(&far));
    }

    #[test]
    fn a_reminder_wakes_and_ends_nothing() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let wheel = Deadlines::new(start);
        let (near, far) = UnixStream::pair().unwrap();
        let deadline = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
        let mut cx = Context::from_waker(Waker::noop());
        let mut came = || deadline.poll_reminder(&mut cx).is_ready();
        deadline.remind(start, Duration::from_secs(1));
        wheel.advance(at(990));
        assert!(!came());
        wheel.advance(at(1_060));
        assert!(came() && !deadline.fired() && !closed(&far));
        deadline.arm(at(1_100), Duration::from_secs(2));
        assert!(!came(), "what is armed has forgotten it");
        deadline.remind(at(2_000), Duration::from_secs(1));
        assert!(!came(), "the last one is over");
        deadline.arm(at(2_100), Duration::from_secs(2));
        wheel.advance(at(3_900));
        assert!(!came(), "what is armed reminds nobody");
        assert_eq!(wheel.advance(at(4_200)), 1);
        assert!(deadline.fired() && closed(&far));
    }

    #[test]
    fn a_dropped_connection_is_never_hit() {
        let start = Instant::now();
        let wheel = Deadlines::new(start);
        let (near, far) = UnixStream::pair().unwrap();
        let first = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
        first.arm(start, Duration::from_millis(100));
        drop(first);
        assert_eq!(wheel.open_downstream(), 0);
        let second = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
        assert_eq!(wheel.advance(start + Duration::from_secs(5)), 0);
        assert!(!closed(&far) && !second.fired());
        assert_eq!(wheel.open_downstream(), 1);
    }

    #[test]
    fn connections_that_are_gone_leave_nothing_behind_for_long() {
        let start = Instant::now();
        let wheel = Deadlines::new(start);
        let (near, _far) = UnixStream::pair().unwrap();
        let mut kept = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
        for step in 0..10_000 {
            let now = start + step * TICK;
            let passing = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
            passing.arm(now, Duration::from_secs(600));
            drop(std::mem::replace(&mut kept, passing));
            wheel.advance(now);
        }
        let queued: usize = wheel.slots.borrow().queue.values().map(Vec::len).sum();
        assert!(queued as u64 <= HORIZON + 2, "{queued}");
        let end = start + 10_000 * TICK + Duration::from_secs(601);
        assert_eq!(wheel.advance(end), 1, "only the one that is still there");
    }

    #[test]
    fn drain_hangs_up_idle_callers_only() {
        let wheel = Deadlines::new(Instant::now());
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let sides = [Side::Downstream, Side::Downstream, Side::Upstream];
        let held: Vec<_> = pairs
            .iter()
            .zip(sides)
            .map(|(pair, side)| wheel.register(side, Hangup::new(pair.0.as_raw_fd())))
            .collect();
        held[0].set_idle(true);
        wheel.hang_up_downstream(true);
        assert_eq!(
            pairs.iter().map(|p| closed(&p.1)).collect::<Vec<_>>(),
            [true, false, false]
        );
        wheel.hang_up_downstream(false);
        assert_eq!(
            pairs.iter().map(|p| closed(&p.1)).collect::<Vec<_>>(),
            [true, true, false]
        );
    }
}
