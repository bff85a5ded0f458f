//! What a key may use: requests and tokens a minute, requests at once, tokens a day or month.
//!
//! `exchange` asks once per request, before its body is read; the permit that it gets is settled with what was really
//! used. State is per key id, shared by all cores and exact: one lock per limited key, held for a few additions. It
//! outlives a new snapshot; what was used before the process began comes in through `carry`. Keys without limits cost
//! nothing here. Time comes in as arguments.

mod brake;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use crate::clock;
use crate::error::{Fault, Quota};
use crate::keys::{KeyRecord, Limits, Period, UnixSeconds};

pub use brake::AuthBrake;

const MINUTE: Duration = Duration::from_secs(60);
/// Before the provider has counted, a token is taken to be this many bytes of the request's body.
const BYTES_PER_TOKEN: u64 = 4;
/// When to come again where nothing tells how long requests at once will take.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// The state of every limited key.
#[derive(Default)]
pub struct KeyLimits(DashMap<String, Arc<Mutex<State>>>);

#[derive(Default)]
struct State {
    /// Since the window's first request: when that was, requests, tokens.
    minute: Option<(Instant, u32, u64)>,
    concurrent: u32,
    /// The day's first second, and the tokens since.
    day: (UnixSeconds, u64),
    /// The same of the month.
    month: (UnixSeconds, u64),
}

/// A request that was let in. Dropped before it is settled, it used no tokens.
pub struct Permit {
    state: Arc<Mutex<State>>,
    reserved: u64,
    counted: Counted,
    settled: bool,
}

/// Where a request was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    minute: Instant,
    day: UnixSeconds,
    month: UnixSeconds,
}

impl KeyLimits {
    /// Lets a request of `body_bytes` in, or says which limit is reached. None for a key without limits.
    pub fn admit(&self, key: &KeyRecord, body_bytes: u64) -> Result<Option<Permit>, Fault> {
        if key.limits == Limits::default() {
            return Ok(None);
        }
        let state = match self.0.get(&*key.id) {
            Some(state) => state.clone(),
            None => self.0.entry(key.id.to_string()).or_default().clone(),
        };
        let reserve = body_bytes / BYTES_PER_TOKEN;
        let (now, today) = (Instant::now(), clock::unix_seconds());
        let admitted = lock(&state).admit(&key.limits, reserve, now, today);
        Ok(Some(Permit {
            counted: admitted?,
            state,
            reserved: reserve,
            settled: false,
        }))
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
        let state = self.0.entry(key_id.to_owned()).or_default().clone();
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
        state.minute = match (state.minute, started) {
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
    /// Counts a request in if every limit allows it; returns where it was counted.
    fn admit(
        &mut self,
        limits: &Limits,
        reserve: u64,
        now: Instant,
        today: UnixSeconds,
    ) -> Result<Counted, Fault> {
        let (started, requests, tokens) = match self.minute {
            Some(minute) if now.saturating_duration_since(minute.0) < MINUTE => minute,
            _ => (now, 0, 0),
        };
        let resets_in = MINUTE.saturating_sub(now.saturating_duration_since(started));
        let reached = |quota, limit, resets_in| Fault::LimitReached {
            quota,
            limit,
            resets_in,
        };
        if let Some(limit) = limits.requests_per_minute
            && requests >= limit
        {
            return Err(reached(Quota::Requests, u64::from(limit), resets_in));
        }
        // A request alone in its window passes even if it is estimated too large: estimates are no reason for never.
        if let Some(limit) = limits.tokens_per_minute
            && tokens > 0
            && tokens.saturating_add(reserve) > limit
        {
            return Err(reached(Quota::Tokens, limit, resets_in));
        }
        if let Some(limit) = limits.concurrent
            && self.concurrent >= limit
        {
            return Err(reached(Quota::Concurrent, u64::from(limit), BUSY_RETRY));
        }
        let (day, month) = (clock::day_start(today), clock::month_start(today));
        for (span, start) in [(&mut self.day, day), (&mut self.month, month)] {
            if span.0 != start {
                *span = (start, 0);
            }
        }
        if let Some((limit, period)) = limits.token_budget {
            let (span, end) = match period {
                Period::Day => (self.day, day + clock::DAY_SECONDS),
                // 31 days behind the first one lies in the next month, whatever their number.
                Period::Month => (
                    self.month,
                    clock::month_start(month + 31 * clock::DAY_SECONDS),
                ),
            };
            if span.1 > 0 && span.1.saturating_add(reserve) > limit || span.1 >= limit {
                let left = Duration::from_secs((end - today).max(1).unsigned_abs());
                return Err(reached(Quota::Budget, limit, left));
            }
        }
        self.minute = Some((started, requests + 1, tokens.saturating_add(reserve)));
        self.concurrent += 1;
        for span in [&mut self.day, &mut self.month] {
            span.1 = span.1.saturating_add(reserve);
        }
        Ok(Counted {
            minute: started,
            day,
            month,
        })
    }
}

impl Permit {
    /// The provider has answered: what it counted takes the estimate's place; where it did not say, the estimate stays.
    pub fn settle(&mut self, tokens: Option<u64>) {
        if let Some(tokens) = tokens {
            self.exchange(tokens);
        }
        self.settled = true;
    }

    fn exchange(&self, tokens: u64) {
        let mut state = lock(&self.state);
        let correct = |counted: &mut u64| {
            *counted = counted.saturating_sub(self.reserved).saturating_add(tokens);
        };
        // A window that is over by now has nothing to correct.
        if let Some((started, _, counted)) = &mut state.minute
            && *started == self.counted.minute
        {
            correct(counted);
        }
        if state.day.0 == self.counted.day {
            correct(&mut state.day.1);
        }
        if state.month.0 == self.counted.month {
            correct(&mut state.month.1);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.settled {
            self.exchange(0);
        }
        lock(&self.state).concurrent -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::default()
    }

    fn quota(result: Result<Counted, Fault>) -> Option<(Quota, Duration)> {
        match result {
            Err(Fault::LimitReached {
                quota, resets_in, ..
            }) => Some((quota, resets_in)),
            _ => None,
        }
    }

    #[test]
    fn requests_a_minute_and_what_heals_them() {
        let limits = Limits {
            requests_per_minute: Some(3),
            ..limits()
        };
        let mut state = State::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in [0, 10, 20] {
            assert!(state.admit(&limits, 0, at(second), 0).is_ok());
        }
        let refused = quota(state.admit(&limits, 0, at(40), 0));
        assert_eq!(refused, Some((Quota::Requests, Duration::from_secs(20))));
        assert!(state.admit(&limits, 0, at(60), 0).is_ok());
    }

    #[test]
    fn tokens_are_reserved_then_settled() {
        let limits = Limits {
            tokens_per_minute: Some(100),
            token_budget: Some((150, Period::Day)),
            ..limits()
        };
        let keys = KeyLimits::default();
        let state = keys.0.entry("k".into()).or_default().clone();
        let permit = |reserve| {
            let counted = lock(&state).admit(&limits, reserve, Instant::now(), 5)?;
            Ok::<_, Fault>(Permit {
                state: state.clone(),
                reserved: reserve,
                counted,
                settled: false,
            })
        };
        let mut first = permit(90).unwrap_or_else(|fault| panic!("{fault:?}"));
        assert!(matches!(
            permit(20),
            Err(Fault::LimitReached {
                quota: Quota::Tokens,
                ..
            })
        ));
        first.settle(Some(10));
        let mut second = permit(20).unwrap_or_else(|fault| panic!("{fault:?}"));
        second.settle(Some(85));
        // One that never reached a provider, and one that the provider counted nothing of.
        drop(permit(5).unwrap_or_else(|fault| panic!("{fault:?}")));
        let mut silent = permit(1).unwrap_or_else(|fault| panic!("{fault:?}"));
        silent.settle(None);
        drop((first, second, silent));
        let spans = {
            let state = lock(&state);
            (state.day, state.month)
        };
        assert_eq!(spans, ((0, 96), (0, 96)));
        assert_eq!(lock(&state).concurrent, 0);
        lock(&state).minute = None;
        assert!(matches!(
            permit(60),
            Err(Fault::LimitReached {
                quota: Quota::Budget,
                ..
            })
        ));
    }

    #[test]
    fn a_budget_ends_with_its_span() {
        let limits = Limits {
            token_budget: Some((10, Period::Month)),
            ..limits()
        };
        let mut state = State::default();
        let now = Instant::now();
        // 2024-02-29 12:00:00 and the first second of March.
        let (february, march) = (1_709_208_000, 1_709_251_200);
        assert!(state.admit(&limits, 10, now, february).is_ok());
        let left = Duration::from_secs(march as u64 - february as u64);
        assert_eq!(
            quota(state.admit(&limits, 1, now, february)),
            Some((Quota::Budget, left))
        );
        assert!(state.admit(&limits, 1, now, march).is_ok());
    }

    #[test]
    fn what_was_used_before_counts() {
        let limits = Limits {
            requests_per_minute: Some(3),
            token_budget: Some((100, Period::Day)),
            ..limits()
        };
        let keys = KeyLimits::default();
        let now = clock::unix_seconds();
        let (day, month) = (clock::day_start(now), clock::month_start(now));
        let admit = |reserve| {
            let state = keys.0.entry("k".into()).or_default().clone();
            let admitted = lock(&state).admit(&limits, reserve, Instant::now(), now);
            quota(admitted).map(|(quota, _)| quota)
        };
        assert_eq!(admit(10), None);
        keys.carry("k", Some((now, 1, 50)), (day, 50), (month, 500));
        // Another day's tokens are none of this one's.
        keys.carry("k", None, (day - clock::DAY_SECONDS, 1000), (month, 0));
        assert_eq!(admit(41), Some(Quota::Budget));
        assert_eq!(admit(40), None);
        assert_eq!(admit(0), Some(Quota::Requests));
    }

    #[test]
    fn at_once() {
        let limits = Limits {
            concurrent: Some(1),
            ..limits()
        };
        let mut state = State::default();
        assert!(state.admit(&limits, 0, Instant::now(), 0).is_ok());
        let refused = quota(state.admit(&limits, 0, Instant::now(), 0));
        assert_eq!(refused, Some((Quota::Concurrent, BUSY_RETRY)));
    }
}
