//! One connection's place on the wheel: when it is looked at, and what becomes of it then.

use std::cell::Cell;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{HORIZON, NEVER, Side, TICK, ticks};
use crate::net::stream::Hangup;

/// There is one for each connection, so it is laid out tight.
pub(super) struct Slot {
    pub(super) side: Side,
    pub(super) hangup: Hangup,
    pub(super) due_tick: Cell<u64>,
    pub(super) queued_tick: Cell<u64>,
    pub(super) fired: Cell<bool>,
    /// Between two exchanges: may be closed before others when the router drains.
    pub(super) idle: Cell<bool>,
    /// What it waits for or is in began after the router had been told to drain.
    pub(super) late: Cell<bool>,
    pub(super) cut: Cell<bool>,
    /// The low half of when it was armed: only the time since then counts.
    armed_tick: Cell<u32>,
    /// Where something is being written: from one look at the peer to the next. Elsewhere 0.
    pause_ticks: Cell<u32>,
    /// The low half of what it had taken at the last one: only whether that is more now counts.
    taken: Cell<u32>,
    looked: Cell<bool>,
    /// A peer that acknowledges nothing for so long is gone.
    patience_ticks: Cell<u32>,
    deserted: Cell<bool>,
    /// Its owner is to be woken, and the connection not ended.
    reminds: Cell<bool>,
    reminded: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// What comes of a look.
pub(super) enum Look {
    /// The next one is at this tick.
    Next(u64),
    /// Nothing is to be looked at.
    Nothing,
    ShutDown,
}

impl Slot {
    pub(super) fn new(side: Side, hangup: Hangup) -> Self {
        Self {
            side,
            hangup,
            due_tick: Cell::new(NEVER),
            queued_tick: Cell::new(NEVER),
            fired: Cell::new(false),
            idle: Cell::new(false),
            late: Cell::new(false),
            cut: Cell::new(false),
            armed_tick: Cell::new(0),
            pause_ticks: Cell::new(0),
            taken: Cell::new(0),
            looked: Cell::new(false),
            patience_ticks: Cell::new(u32::MAX),
            deserted: Cell::new(false),
            reminds: Cell::new(false),
            reminded: Cell::new(false),
            waker: Cell::default(),
        }
    }

    /// It is due so many ticks from now; returns when it is to be looked at.
    pub(super) fn set(&self, now_tick: u64, wait_ticks: u64) -> u64 {
        let due = now_tick.saturating_add(wait_ticks).min(NEVER - 1);
        self.due_tick.set(due);
        self.armed_tick.set(now_tick as u32);
        self.pause_ticks.set(0);
        due.min(now_tick + self.horizon())
    }

    /// What it was set for, so many ticks from then, is a write: it is put off for as long as the peer takes some of it.
    pub(super) fn set_writing(&self, wait_ticks: u64) {
        let pause = u32::try_from(wait_ticks).unwrap_or(u32::MAX);
        self.pause_ticks.set(pause);
        self.looked.set(false);
        self.hangup.take_wrote();
    }

    pub(super) fn set_patience(&self, patience: Duration) {
        let patience = u32::try_from(ticks(patience)).unwrap_or(u32::MAX);
        self.patience_ticks.set(patience);
    }

    /// How far ahead it stands in the queue at most.
    fn horizon(&self) -> u64 {
        HORIZON.min(u64::from(self.patience_ticks.get()) + 2)
    }

    /// Whether it was shut down because the peer is gone.
    pub(super) fn deserted(&self) -> bool {
        self.deserted.get()
    }

    /// What is to be done at `now_tick`.
    pub(super) fn look(&self, now_tick: u64) -> Look {
        let due = self.due_tick.get();
        if due == NEVER {
            return Look::Nothing;
        }
        if due > now_tick {
            if !self.is_deserted(now_tick) {
                return Look::Next(due.min(now_tick + self.horizon()));
            }
            self.deserted.set(true);
        } else if self.pause_ticks.get() > 0 && self.takes() {
            let pause = u64::from(self.pause_ticks.get());
            self.due_tick.set(now_tick + pause);
            return Look::Next(now_tick + pause.min(self.horizon()));
        }
        self.due_tick.set(NEVER);
        if !self.deserted.get() && self.reminds.take() {
            self.reminded.set(true);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
            return Look::Nothing;
        }
        self.fired.set(!self.deserted.get());
        self.hangup.now();
        Look::ShutDown
    }

    /// Whether the peer has taken anything since the last look; the first one only sees whether there is anything to take.
    fn takes(&self) -> bool {
        let found = self.hangup.acknowledged();
        let taken = found.map_or(0, |it| it.bytes as u32);
        let before = self.taken.replace(taken);
        let takes = match self.looked.replace(true) {
            false => found.is_some_and(|it| it.more),
            true => taken != before,
        };
        self.hangup.take_wrote() || takes
    }

    /// Whether the peer has acknowledged nothing since long ago. In an exchange that is younger there is nothing to ask.
    fn is_deserted(&self, now_tick: u64) -> bool {
        let patience = self.patience_ticks.get();
        let waited = (now_tick as u32).wrapping_sub(self.armed_tick.get());
        let found = match waited > patience {
            true => self.hangup.acknowledged(),
            false => None,
        };
        found.is_some_and(|it| it.nothing_for(TICK.saturating_mul(patience)))
    }

    pub(super) fn remind(&self) {
        self.reminds.set(true);
    }

    pub(super) fn forget_reminder(&self) {
        self.reminds.set(false);
        self.reminded.set(false);
    }

    pub(super) fn poll_reminder(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.reminded.get() {
            return Poll::Ready(());
        }
        let mut waker = self.waker.take();
        match &mut waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => waker = Some(cx.waker().clone()),
        }
        self.waker.set(waker);
        Poll::Pending
    }
}
