//! What a key may use: requests and tokens a minute, requests at once, tokens a day or month.
//!
//! `exchange` asks once per request, before its body is read. The permit that it gets is told what the request may cost
//! once that is known, and settled with what it did cost. Estimates hold back what comes beside them and nothing else:
//! what is left lets one request in, however large it seems. State is per key id, shared by all cores and exact: one
//! lock per key, held for a few additions. It outlives a new snapshot; what was used before the process began comes in
//! through `carry`. Of keys without limits only tokens are counted, for the day that they get some. Time comes in as
//! arguments.

mod brake;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ahash::RandomState;
use dashmap::DashMap;

use crate::clock;
use crate::error::{Fault, Quota};
use crate::keys::{KeyRecord, Limits, Period, UnixSeconds};

pub use brake::{AuthBrake, network_of};

const MINUTE: Duration = Duration::from_secs(60);
/// A clock that steps back over midnight begins no day anew, or each such step would give a budget once more. One that
/// goes back further was wrong before, and waiting until it is as late again could take years.
const CLOCK_STEP_MAX: UnixSeconds = clock::DAY_SECONDS;
/// When to come again where nothing tells how long what is under way will take.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// The state of every key that has a limit, or has used tokens.
#[derive(Default)]
pub struct KeyLimits(DashMap<String, Arc<Mutex<State>>, RandomState>);

#[derive(Default)]
struct State {
    /// Since the window's first request: when that was, requests, tokens.
    minute: Option<(Instant, u32, u64)>,
    concurrent: u32,
    /// What those under way may cost together, none of it counted yet.
    expected: u64,
    /// The day's first second, and the tokens since.
    day: (UnixSeconds, u64),
    /// The same of the month.
    month: (UnixSeconds, u64),
}

/// A request that was let in. Dropped before it is settled, it went to no provider: it is none of its minute's.
pub struct Permit {
    state: Arc<Mutex<State>>,
    /// The window that it was counted in.
    window: Instant,
    /// Its part of what is expected.
    expected: u64,
    /// Tokens, once it is settled.
    used: Option<u64>,
    /// Whether it has a place among those at once.
    seated: bool,
}

impl KeyLimits {
    /// Lets a request in, or says which limit is reached. None for a key without limits.
    pub fn admit(&self, key: &KeyRecord) -> Result<Option<Permit>, Fault> {
        self.let_in(&key.id, &key.grant.limits)
    }

    /// Counts a request that the router answers by itself among those of the minute, or says that it is one too many.
    pub fn count(&self, key: &KeyRecord) -> Result<(), Fault> {
        let limits = Limits {
            requests_per_minute: key.grant.limits.requests_per_minute,
            ..Limits::default()
        };
        // Over at once: given back, it would be none of the minute's.
        let permit = self.let_in(&key.id, &limits)?;
        permit.into_iter().for_each(|permit| permit.settle(0));
        Ok(())
    }

    fn let_in(&self, key_id: &str, limits: &Limits) -> Result<Option<Permit>, Fault> {
        if *limits == Limits::default() {
            return Ok(None);
        }
        let state = self.state(key_id);
        let (now, today) = (Instant::now(), clock::unix_seconds());
        let window = lock(&state).admit(limits, now, today)?;
        Ok(Some(Permit {
            state,
            window,
            expected: 0,
            used: None,
            seated: true,
        }))
    }

    /// Counts what a key without limits has used: a limit that it gets later is on this too.
    pub fn used(&self, key_id: &str, tokens: u64, now: Instant) {
        if tokens > 0 {
            let today = clock::unix_seconds();
            match self.0.get(key_id) {
                Some(state) => lock(&state).count(tokens, now, today),
                None => lock(&self.state(key_id)).count(tokens, now, today),
            }
        }
    }

    /// Lets go of keys that are gone for good; one that is only revoked is among the `living`. Whose request is still
    /// under way is let go of next time.
    pub fn keep<'k>(&self, living: impl Iterator<Item = &'k str>) {
        // The living may be a million, and few of them are in use.
        let known = self.0.iter().map(|entry| entry.key().clone());
        let mut gone: HashSet<String, RandomState> = known.collect();
        for key_id in living {
            gone.remove(key_id);
        }
        for key_id in gone {
            self.0
                .remove_if(&key_id, |_, state| Arc::strong_count(state) == 1);
        }
    }

    fn state(&self, key_id: &str) -> Arc<Mutex<State>> {
        match self.0.get(key_id) {
            Some(state) => state.clone(),
            None => self.0.entry(key_id.to_owned()).or_default().clone(),
        }
    }

    /// Adds what a key has used elsewhere: before this process, or in the one before it. `minute` is when it began,
    /// requests and tokens; `day` and `month` are their first second, and tokens.
    pub fn carry(
        &self,
        key_id: &str,
        minute: Option<(UnixSeconds, u64, u64)>,
        day: (UnixSeconds, u64),
        month: (UnixSeconds, u64),
    ) {
        let state = self.state(key_id);
        let state = &mut *lock(&state);
        for (span, (start, tokens)) in [(&mut state.day, day), (&mut state.month, month)] {
            // Another span than the current one has nothing to do with it.
            if span.0 < start {
                *span = (start, 0);
            }
            if span.0 == start {
                span.1 = span.1.saturating_add(tokens);
            }
        }
        let Some((began, requests, tokens)) = minute else {
            return;
        };
        let age = clock::unix_seconds().saturating_sub(began);
        let started = u64::try_from(age)
            .ok()
            .and_then(|age| Instant::now().checked_sub(Duration::from_secs(age)));
        let requests = u32::try_from(requests).unwrap_or(u32::MAX);
        let runs = |minute: &(Instant, u32, u64)| minute.0.elapsed() < MINUTE;
        state.minute = match (state.minute.filter(runs), started) {
            (Some((now, more, more_tokens)), _) => Some((
                now,
                more.saturating_add(requests),
                more_tokens.saturating_add(tokens),
            )),
            (None, started) => started.map(|started| (started, requests, tokens)),
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Counts a request in if every limit allows it; returns the window that it was counted in.
    fn admit(
        &mut self,
        limits: &Limits,
        now: Instant,
        today: UnixSeconds,
    ) -> Result<Instant, Fault> {
        let (started, requests, tokens) = self.begin(now, today);
        if let Some(limit) = limits.requests_per_minute
            && requests >= limit
        {
            let resets_in = window_left(started, now);
            return Err(reached(Quota::Requests, u64::from(limit), resets_in));
        }
        self.has_room(limits, 0, now, today)?;
        if let Some(limit) = limits.concurrent
            && self.concurrent >= limit
        {
            return Err(reached(Quota::Concurrent, u64::from(limit), BUSY_RETRY));
        }
        self.minute = Some((started, requests + 1, tokens));
        self.concurrent += 1;
        Ok(started)
    }

    /// Lets go of spans that are over. Returns the minute's window, which is a new one if the last is over.
    fn begin(&mut self, now: Instant, today: UnixSeconds) -> (Instant, u32, u64) {
        let day = clock::day_start(today);
        // A month begins with a day.
        if day > self.day.0 || day < self.day.0 - CLOCK_STEP_MAX {
            self.day = (day, 0);
            let month = clock::month_start(today);
            if self.month.0 != month {
                self.month = (month, 0);
            }
        }
        match self.minute {
            Some(minute) if now.saturating_duration_since(minute.0) < MINUTE => minute,
            _ => (now, 0, 0),
        }
    }

    /// Whether one more that may cost `tokens` fits. Beside nothing else it does as long as something is left: what it
    /// may cost is no more than a guess, and no reason for never.
    fn has_room(
        &mut self,
        limits: &Limits,
        tokens: u64,
        now: Instant,
        today: UnixSeconds,
    ) -> Result<(), Fault> {
        let (started, _, of_minute) = self.begin(now, today);
        let fits = |used: u64, limit: u64| {
            let taken = used.saturating_add(self.expected);
            taken < limit && (self.expected == 0 || taken.saturating_add(tokens) <= limit)
        };
        // What is only expected may be much less in a moment.
        let heals_in = |used: u64, limit: u64, span: Duration| match used >= limit {
            true => span,
            false => span.min(BUSY_RETRY),
        };
        if let Some(limit) = limits.tokens_per_minute
            && !fits(of_minute, limit)
        {
            let left = window_left(started, now);
            return Err(reached(
                Quota::Tokens,
                limit,
                heals_in(of_minute, limit, left),
            ));
        }
        if let Some((limit, period)) = limits.token_budget {
            let ((start, used), days, quota) = match period {
                Period::Day => (self.day, 1, Quota::DayBudget),
                // 31 days behind the first one lies in the next month, whatever their number.
                Period::Month => (self.month, 31, Quota::MonthBudget),
            };
            if !fits(used, limit) {
                let behind = start + days * clock::DAY_SECONDS;
                let end = match period {
                    Period::Day => behind,
                    Period::Month => clock::month_start(behind),
                };
                let left = Duration::from_secs((end - today).max(1).unsigned_abs());
                return Err(reached(quota, limit, heals_in(used, limit, left)));
            }
        }
        Ok(())
    }

    /// Counts tokens that were used.
    fn count(&mut self, tokens: u64, now: Instant, today: UnixSeconds) {
        let (started, requests, of_minute) = self.begin(now, today);
        self.minute = Some((started, requests, of_minute.saturating_add(tokens)));
        for span in [&mut self.day, &mut self.month] {
            span.1 = span.1.saturating_add(tokens);
        }
    }

    /// Holds back for a permit what it may cost.
    fn reserve(
        &mut self,
        limits: &Limits,
        tokens: u64,
        now: Instant,
        today: UnixSeconds,
    ) -> Result<(), Fault> {
        self.has_room(limits, tokens, now, today)?;
        self.expected = self.expected.saturating_add(tokens);
        Ok(())
    }

    /// A request that was counted in this window is none.
    fn give_back(&mut self, window: Instant) {
        if let Some((started, requests, _)) = &mut self.minute
            && *started == window
        {
            *requests = requests.saturating_sub(1);
        }
    }
}

fn window_left(started: Instant, now: Instant) -> Duration {
    MINUTE.saturating_sub(now.saturating_duration_since(started))
}

fn reached(quota: Quota, limit: u64, resets_in: Duration) -> Fault {
    Fault::LimitReached {
        quota,
        limit,
        resets_in,
    }
}

impl Permit {
    /// The request is here: what it may cost holds others back until it is settled. Refused if those under way leave no
    /// room for it. `tokens` is only asked where tokens are limited.
    pub fn reserve(&mut self, limits: &Limits, tokens: impl FnOnce() -> u64) -> Result<(), Fault> {
        if limits.tokens_per_minute.is_none() && limits.token_budget.is_none() {
            return Ok(());
        }
        let tokens = tokens();
        let (now, today) = (Instant::now(), clock::unix_seconds());
        lock(&self.state).reserve(limits, tokens, now, today)?;
        self.expected = tokens;
        Ok(())
    }

    /// The request is over but for its tokens: another one may take its place.
    pub fn leave(&mut self) {
        if std::mem::take(&mut self.seated) {
            lock(&self.state).concurrent -= 1;
        }
    }

    /// The request is over and has used so many tokens.
    pub fn settle(mut self, tokens: u64) {
        self.used = Some(tokens);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.concurrent -= u32::from(self.seated);
        state.expected = state.expected.saturating_sub(self.expected);
        match self.used {
            // Counted when they are known, as the usage store does it.
            Some(tokens) if tokens > 0 => {
                state.count(tokens, Instant::now(), clock::unix_seconds());
            }
            Some(_) => {}
            None => state.give_back(self.window),
        }
    }
}

#[cfg(test)]
mod tests;
