//! What every key has used: requests, tokens, latencies and cost by hour, provider, model and route.
//!
//! Each core counts into its own `Recorder`; a thread writes what has come together twice a second and more, so a request
//! costs one uncontended lock and nothing is older than a second when the machine dies. `DIR/usage.redb` holds hours,
//! after `usage.compact_after` days, for as long as `usage.retention`. Whatever is wrong with the file, requests flow on.

mod before;
mod counts;
mod keeper;
mod ledger;
mod place;
mod query;
mod recorder;
mod refinement;
mod spool;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_channel::oneshot;

use crate::clock;
use crate::prices::Prices;
use keeper::{Keeper, Order, Shared, State};
use ledger::guarded;
use recorder::{Tally, lock};

pub use counts::{Counts, Latencies, Meter};
pub use ledger::Minute;
pub use place::OTHER_MODEL;
pub use query::{By, Figures, Line, Percentiles, Query, Report};
pub use recorder::{Event, Recorder, Side};

/// Seconds since 1970.
pub type UnixSeconds = i64;

/// Questions that wait for their turn; one takes a few milliseconds.
const QUESTIONS_MAX: usize = 64;
/// How long the start of the process waits to hear what was used before: no caller is to have its limits anew.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a question waits for a process that opens the file: that takes a moment, or as long as it runs.
const HELD_PATIENCE: Duration = Duration::from_secs(1);
/// How long its end waits for the last commit.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long what is kept.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Hours become days after this long.
    pub compact_after: Duration,
    /// Days go after this long.
    pub retention: Duration,
}

/// What a key has used before this process counted, for its limits. To be added to what is known already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The key's id.
    pub key: String,
    /// Its current minute.
    pub minute: Option<Minute>,
    /// The day's first second, and tokens since.
    pub day: (UnixSeconds, u64),
    /// The same of the month.
    pub month: (UnixSeconds, u64),
}

impl Carried {
    /// What has come since `earlier` was told of the same key.
    fn beyond(mut self, earlier: &Self) -> Self {
        for ((start, tokens), known) in [
            (&mut self.day, earlier.day),
            (&mut self.month, earlier.month),
        ] {
            if *start == known.0 {
                *tokens = tokens.saturating_sub(known.1);
            }
        }
        if let (Some(minute), Some(known)) = (&mut self.minute, earlier.minute)
            && minute.started == known.started
        {
            minute.requests = minute.requests.saturating_sub(known.requests);
            minute.tokens = minute.tokens.saturating_sub(known.tokens);
        }
        self
    }
}

/// The state of the store, for people and metrics.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Whether the file was ever opened.
    pub opened: bool,
    /// Why it cannot be used now.
    pub failed: Option<String>,
    /// Requests that found no place in memory while it could not be used, and are counted nowhere.
    pub dropped: u64,
    /// Rows that wait to be written.
    pub pending: usize,
    /// Commits so far.
    pub commits: u64,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The store cannot be read now; the text says why.
    Unavailable(String),
    /// Too many questions wait already.
    Busy,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the usage store cannot be read: {why}"),
            Self::Busy => f.write_str("too many questions to the usage store wait already"),
        }
    }
}

impl std::error::Error for Unanswered {}

type Question = (Query, oneshot::Sender<Result<Report, Unanswered>>);

/// The store: a handle to its threads, which end with the last one.
#[derive(Clone)]
pub struct UsageStore(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    orders: Mutex<Sender<Order>>,
    questions: SyncSender<Question>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl UsageStore {
    /// Starts the store in `dir`. A file that cannot be opened is tried again and again; only threads can be refused.
    /// `carry` hears, on another thread, what keys have used before: of a file that can be read before this returns.
    pub fn open(
        settings: Settings,
        dir: &Path,
        prices: Arc<Prices>,
        carry: impl Fn(Carried) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            settings,
            dir: dir.to_owned(),
            recorders: Mutex::default(),
            prices: Mutex::new(prices),
            state: Mutex::new(State::default()),
        });
        let (orders, inbox) = channel();
        let keeper = Keeper::new(shared.clone(), Box::new(carry));
        let (looks, looked) = sync_channel(0);
        let keeper = thread::Builder::new()
            .name("usage".into())
            .spawn(move || keeper.run(&inbox, looks))?;
        // It ends without a word.
        let _ = looked.recv_timeout(LOOK_TIMEOUT);
        let (questions, asked) = sync_channel::<Question>(QUESTIONS_MAX);
        let answering = shared.clone();
        thread::Builder::new()
            .name("usage-query".into())
            .spawn(move || {
                for (query, reply) in asked {
                    // Whoever asked may have left.
                    let _ = reply.send(answer(&answering, &query));
                }
            })?;
        Ok(Self(Arc::new(Handle {
            shared,
            orders: Mutex::new(orders),
            questions,
            keeper: Mutex::new(Some(keeper)),
        })))
    }

    /// A core's end of it.
    pub fn recorder(&self) -> Recorder {
        let tally = Arc::<Mutex<Tally>>::default();
        lock(&self.0.shared.recorders).push(tally.clone());
        Recorder::new(tally, self.clone())
    }

    /// Asks; the answer comes from another thread.
    pub async fn ask(&self, query: Query) -> Result<Report, Unanswered> {
        let (reply, answer) = oneshot::channel();
        self.0
            .questions
            .try_send((query, reply))
            .map_err(|_| Unanswered::Busy)?;
        let ended = |_| Unanswered::Unavailable("it is closed".into());
        answer.await.map_err(ended)?
    }

    /// The state of the store.
    pub fn status(&self) -> Status {
        lock(&self.0.shared.state).status.clone()
    }

    /// Counts at other prices from now on.
    pub fn set_prices(&self, prices: Arc<Prices>) {
        *lock(&self.0.shared.prices) = prices;
    }

    /// Lets go of the file for another process; what is counted from here on goes to files that it takes in.
    pub fn hand_over(&self) {
        let (done, wait) = sync_channel(1);
        if lock(&self.0.orders).send(Order::HandOver(done)).is_ok() {
            let _ = wait.recv_timeout(CLOSE_TIMEOUT);
        }
    }

    /// Writes everything and ends. What is counted afterwards is lost.
    pub fn close(&self) {
        let (done, wait) = sync_channel(1);
        if lock(&self.0.orders).send(Order::Close(done)).is_ok() {
            let _ = wait.recv_timeout(CLOSE_TIMEOUT);
        }
        if let Some(keeper) = lock(&self.0.keeper).take_if(|keeper| keeper.is_finished()) {
            let _ = keeper.join();
        }
    }
}

fn answer(shared: &Shared, query: &Query) -> Result<Report, Unanswered> {
    let unavailable = |error: &dyn fmt::Display| Unanswered::Unavailable(error.to_string());
    let waiting = |state: &State| {
        let mut pending = Tally::default();
        pending.rows.clone_from(&state.pending.rows);
        pending
    };
    let (reading, pending) = loop {
        let state = lock(&shared.state);
        if let Some(ledger) = &state.ledger {
            let reading = guarded(|| ledger.read()).map_err(|error| unavailable(&error))?;
            break (Some(reading), waiting(&state));
        }
        if !state.elsewhere {
            let failed = state.status.failed.as_deref();
            return Err(unavailable(&failed.unwrap_or("it is not open yet")));
        }
        drop(state);
        let read = guarded(|| ledger::read_foreign_within(HELD_PATIENCE, &file(&shared.dir)));
        let state = lock(&shared.state);
        // If it is here by now, what waited may be in what was read.
        if state.ledger.is_none() {
            let reading = read.map_err(|error| unavailable(&error))?;
            break (reading, waiting(&state));
        }
    };
    let answer = guarded(|| query::answer(query, reading.as_ref(), Some(&pending)));
    answer.map_err(|error| unavailable(&error))
}

/// Asks a store that another process may be writing.
pub fn ask_file(dir: &Path, query: &Query) -> Result<Report, Unanswered> {
    let answer = guarded(|| {
        let reading = ledger::read_foreign_within(HELD_PATIENCE, &file(dir))?;
        query::answer(query, reading.as_ref(), None)
    });
    answer.map_err(|error| Unanswered::Unavailable(error.to_string()))
}

/// Where the store of a data directory lies.
pub fn file(dir: &Path) -> PathBuf {
    dir.join(keeper::FILE_NAME)
}

fn hour_of(time: UnixSeconds) -> u32 {
    u32::try_from(time.max(0) / 3600).unwrap_or(u32::MAX)
}

/// `2026-01-31`.
fn day_text(time: UnixSeconds) -> String {
    clock::rfc3339(time).chars().take(10).collect()
}

#[cfg(test)]
mod tests;
