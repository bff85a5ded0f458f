//! The thread behind the store: every 400 ms it takes what the cores have counted and writes it in one commit.
//!
//! A file that cannot be opened or written stops nobody: rows wait in memory, bounded, the reason is in the status, and
//! each round tries again. A damaged one too stays where it is, for its owner to judge, and is tried when it is another
//! or a minute has passed. A batch whose commit failed is looked for in the file once that opens again, so it is counted
//! once whether or not it had arrived. After a hand-over the file is the successor's, and rows go to spool files.

mod state;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::before::{self, Before};
use super::counts::{Counts, Meter};
use super::ledger::{Batch, DAY_HOURS, Ledger, LedgerError, Pass, guarded, read_foreign};
use super::recorder::{Tally, lock};
use super::refinement::{MINUTE_SECONDS, Refinement};
use super::{Carried, Settings, UnixSeconds, hour_of, spool};
use crate::clock;
use crate::prices::Prices;
pub(super) use state::State;

/// The name of the store's file.
pub(super) const FILE_NAME: &str = "usage.redb";

/// Within a second everything must be written: two rounds fit into it, and a slow disk's commit. Each is a flush and takes
/// half a millisecond of a core.
const ROUND: Duration = Duration::from_millis(400);
/// While another process has the file; it is on its way out.
const HELD_ROUND: Duration = Duration::from_millis(20);
/// Places that wait while nothing can be written; some 30 MiB at most.
const PENDING_ROWS_MAX: usize = 65_536;
/// Rows that compaction looks at in one round: a few milliseconds of work.
const COMPACTED_ROWS_MAX: usize = 2_000;
const COMPACTION_INTERVAL: Duration = Duration::from_hours(1);
const SPOOL_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A damaged file heals if at all because somebody mends it; each attempt reads much of it, and may put a panic into the log.
const DAMAGED_RETRY: Duration = Duration::from_mins(1);

/// Device, inode and the last change, in nanoseconds behind the second.
type FileId = (u64, u64, i64, i64);

/// What the thread can be told.
pub(super) enum Order {
    /// Write what there is and let go of the file: another process opens it now.
    HandOver(SyncSender<()>),
    /// Write what there is and end.
    Close(SyncSender<()>),
}

/// What the thread shares with the store's handles.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) dir: PathBuf,
    pub(super) recorders: Mutex<Vec<Arc<Mutex<Tally>>>>,
    pub(super) prices: Mutex<Arc<Prices>>,
    /// Held during a commit, so that whoever looks sees each row once: waiting or written.
    pub(super) state: Mutex<State>,
}

/// The thread's own things.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    /// What was used before this process began is told here, once it is known.
    carry: Box<dyn Fn(Carried) + Send>,
    /// What was told so of each key, where the process before this one may write more.
    told: HashMap<String, Carried>,
    refined: Refinement,
    pass: Option<Pass>,
    pass_ended: Option<Instant>,
    spools_seen: Option<Instant>,
    /// The file that was found damaged, and when.
    damaged: Option<(Option<FileId>, Instant)>,
    handed_over: bool,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, carry: Box<dyn Fn(Carried) + Send>) -> Self {
        Self {
            shared,
            carry,
            told: HashMap::new(),
            refined: Refinement::default(),
            pass: None,
            pass_ended: None,
            spools_seen: None,
            damaged: None,
            handed_over: false,
        }
    }

    /// The thread's whole life. `looked` ends once it has told what was used before, as far as that can be known.
    pub(super) fn run(mut self, orders: &Receiver<Order>, looked: SyncSender<()>) {
        let mut looked = Some(looked);
        loop {
            self.round();
            drop(looked.take());
            let waits = !self.handed_over && lock(&self.shared.state).elsewhere;
            let done = match orders.recv_timeout(if waits { HELD_ROUND } else { ROUND }) {
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => None,
                Ok(Order::HandOver(done)) => {
                    self.round();
                    self.handed_over = true;
                    let mut state = lock(&self.shared.state);
                    state.let_go();
                    state.elsewhere = true;
                    drop(state);
                    let _ = done.send(());
                    continue;
                }
                Ok(Order::Close(done)) => Some(done),
            };
            self.round();
            self.leave();
            if let Some(done) = done {
                let _ = done.send(());
            }
            return;
        }
    }

    /// The last rows, where the file could not take them.
    fn leave(&mut self) {
        let mut state = lock(&self.shared.state);
        if let Some((_, doubtful)) = state.doubtful.take() {
            // Whether it arrived cannot be asked any more. Money errs on the side of having been spent once.
            state.pending.merge(doubtful, PENDING_ROWS_MAX);
        }
        state.let_go();
        if let Err(error) = self.spool(&mut state) {
            let of = |counts: &Counts| counts.get(Meter::Requests);
            let requests: u64 = state.pending.rows.values().map(of).sum();
            tracing::error!(%error, requests, "usage cannot be written; these requests are counted nowhere");
        }
    }

    fn round(&mut self) {
        let shared = self.shared.clone();
        let mut tally = Tally::default();
        for recorder in lock(&shared.recorders).iter() {
            let taken = std::mem::take(&mut *lock(recorder));
            tally.merge(taken, PENDING_ROWS_MAX);
        }
        let prices = lock(&shared.prices).clone();
        self.refined.take(&mut tally, &prices);
        let mut state = lock(&shared.state);
        state.pending.merge(tally, PENDING_ROWS_MAX);
        if self.handed_over {
            if let Err(error) = self.spool(&mut state) {
                state.fails(&error);
            }
        } else if self.ready(&mut state) {
            let worked = self.write(&mut state);
            let worked = worked.and_then(|()| guarded(|| self.keep(&mut state)));
            match worked {
                // A file that opens may still not be writable.
                Ok(()) => state.heals(),
                Err(error) => self.refused(&mut state, &error),
            }
        }
        let doubtful = state.doubtful.as_ref();
        let doubtful = doubtful.map_or(0, |(_, tally)| tally.rows.len());
        state.status.pending = state.pending.rows.len() + doubtful;
        state.status.dropped += std::mem::take(&mut state.pending.dropped);
    }

    /// Whether the file is open; opens it if it is not.
    fn ready(&mut self, state: &mut State) -> bool {
        if state.ledger.is_some() {
            return true;
        }
        if let Some((file, at)) = self.damaged {
            if file == self.file_now() && at.elapsed() < DAMAGED_RETRY {
                return false;
            }
            self.damaged = None;
        }
        let opened = guarded(|| self.open(state));
        state.elsewhere = opened.as_ref().is_err_and(LedgerError::is_held);
        match opened {
            Ok(ledger) => {
                state.ledger = Some(ledger);
                (self.pass, self.pass_ended) = (Some(Pass::new()), None);
                self.spools_seen = None;
                true
            }
            // The process before this one, which leaves it soon.
            Err(error) if error.is_held() => {
                if state.news(&error).is_some() {
                    tracing::info!("another process has the usage store; counts wait in memory");
                    // Callers come here already. What is written until the file is free, is told then.
                    let now = clock::unix_seconds();
                    let read = guarded(|| {
                        let reading = read_foreign(&self.shared.dir.join(FILE_NAME))?;
                        reading
                            .map(|reading| before::read(&reading, now))
                            .transpose()
                    });
                    if let Ok(Some(before)) = read {
                        self.remember(before, now, false);
                    }
                }
                false
            }
            Err(error) => {
                self.refused(state, &error);
                false
            }
        }
    }

    fn open(&mut self, state: &mut State) -> Result<Ledger, LedgerError> {
        let ledger = Ledger::open(&self.shared.dir.join(FILE_NAME))?;
        let last = ledger.last_batch()?;
        if let Some((id, tally)) = state.doubtful.take()
            && last != Some(id)
        {
            state.pending.merge(tally, PENDING_ROWS_MAX);
        }
        if !state.status.opened {
            let now = clock::unix_seconds();
            self.remember(before::read(&ledger.read()?, now)?, now, true);
            self.told = HashMap::new();
            state.status.opened = true;
        }
        Ok(ledger)
    }

    /// The file as it lies there.
    fn file_now(&self) -> Option<FileId> {
        let file = fs::metadata(self.shared.dir.join(FILE_NAME)).ok()?;
        Some((file.dev(), file.ino(), file.mtime(), file.mtime_nsec()))
    }

    /// Lets go of a file that cannot be used: it is opened anew, since an error leaves it in doubt.
    fn refused(&mut self, state: &mut State, error: &LedgerError) {
        state.fails(error);
        if error.is_damage() {
            self.damaged = Some((self.file_now(), Instant::now()));
        }
    }

    /// What was used before this process began: for limits, and the models of today. Unless it is `all`, the process
    /// before this one still writes.
    fn remember(&mut self, before: Vec<Before>, now: UnixSeconds, all: bool) {
        for Before { carried, models } in before {
            if all {
                let day = hour_of(now) / DAY_HOURS;
                let minute = carried.minute;
                self.refined.remember(&carried.key, day, &models, minute);
            }
            let told = match all {
                true => self.told.remove(&carried.key),
                false => self.told.insert(carried.key.clone(), carried.clone()),
            };
            let news = told.map_or(carried.clone(), |told| carried.beyond(&told));
            if news.month.1 > 0 || news.minute.is_some() {
                (self.carry)(news);
            }
        }
    }

    fn write(&mut self, state: &mut State) -> Result<(), LedgerError> {
        let State {
            ledger: Some(ledger),
            pending,
            doubtful,
            status,
            ..
        } = state
        else {
            return Ok(());
        };
        if pending.rows.is_empty() && !self.refined.has_changed() {
            return Ok(());
        }
        let mut tally = Tally::default();
        std::mem::swap(&mut tally.rows, &mut pending.rows);
        // Without randomness an id of zero is found in no file, and the batch is written again after a failure.
        let id = getrandom::u64().map_or(0, |id| u128::from(id) << 64 | u128::from(status.commits));
        let minutes = self.refined.changed_minutes();
        let batch = Batch {
            id,
            tally: &tally,
            minutes: &minutes,
        };
        let written = guarded(|| ledger.write(&batch));
        if written.is_err() {
            *doubtful = Some((id, tally));
        } else {
            self.refined.minutes_written();
            status.commits += 1;
        }
        written
    }

    /// What is due besides: rows of other processes, old rows.
    fn keep(&mut self, state: &mut State) -> Result<(), LedgerError> {
        let Some(ledger) = &state.ledger else {
            return Ok(());
        };
        if due(self.spools_seen, SPOOL_LOOK_INTERVAL) {
            self.spools_seen = Some(Instant::now());
            self.take_in_spools(ledger)?;
        }
        if self.pass.is_none() && due(self.pass_ended, COMPACTION_INTERVAL) {
            self.pass = Some(Pass::new());
        }
        let Some(pass) = self.pass.take() else {
            return Ok(());
        };
        let now = clock::unix_seconds();
        let (hour, day) = kept_from(&self.shared.settings, now);
        self.pass = ledger.compact(pass, hour, day, COMPACTED_ROWS_MAX)?;
        if self.pass.is_none() {
            self.pass_ended = Some(Instant::now());
            ledger.tidy(&spool::list(&self.shared.dir), now - MINUTE_SECONDS)?;
            spool::clear_leftovers(&self.shared.dir);
        }
        Ok(())
    }

    fn take_in_spools(&mut self, ledger: &Ledger) -> Result<(), LedgerError> {
        for name in spool::list(&self.shared.dir) {
            let path = spool::path(&self.shared.dir, &name);
            let tally = match spool::read(&path) {
                Ok(tally) => tally,
                Err(error) => {
                    tracing::warn!(%error, file = %path.display(), "a spool file of usage cannot be read; it is put aside");
                    let _ = fs::rename(&path, self.shared.dir.join(format!("bad.{name}")));
                    continue;
                }
            };
            if ledger.take_in(&name, &tally)? {
                // What another process has let its callers use counts against their limits here.
                let now = clock::unix_seconds();
                before::of_rows(&tally, spool::written_at(&path), now, |carried| {
                    if let Some(minute) = carried.minute {
                        self.refined.add(&carried.key, minute);
                    }
                    (self.carry)(carried);
                });
            }
            let _ = fs::remove_file(&path);
        }
        Ok(())
    }

    fn spool(&self, state: &mut State) -> io::Result<()> {
        if !state.pending.rows.is_empty() {
            spool::write(&self.shared.dir, &state.pending)?;
            state.pending.rows.clear();
        }
        Ok(())
    }
}

/// The first hour that is kept as such, and the first day that is kept at all: a budget needs all of its month.
pub(super) fn kept_from(settings: &Settings, now: UnixSeconds) -> (u32, u32) {
    let day = |time| hour_of(time) / DAY_HOURS;
    let before = |age: Duration| day(now.saturating_sub(age.as_secs() as i64));
    let Settings {
        compact_after,
        retention,
    } = *settings;
    let hour = before(compact_after.min(retention)) * DAY_HOURS;
    (hour, before(retention).min(day(clock::month_start(now))))
}

fn due(last: Option<Instant>, interval: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= interval)
}

#[cfg(test)]
mod tests;
