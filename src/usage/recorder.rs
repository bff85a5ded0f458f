//! Where a core's requests are added up until the keeper takes them: one lock that nobody else wants but four times a
//! second, one look-up, no allocation for a place that is known, no wake, no system call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::UsageStore;
use super::counts::{Counts, Meter};
use super::place::{OTHER_MODEL, Place};

/// Places that one core remembers between two visits of the keeper.
const PLACES_MAX: usize = 4096;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The caller sent what cannot be served.
    Caller,
    /// The router could not.
    Router,
    /// The provider failed.
    Provider,
}

/// One request that is over.
#[derive(Clone, Debug, Default)]
pub struct Event<'a> {
    /// Who called, by the key's id.
    pub key: &'a str,
    /// Who answered; empty if nobody was asked.
    pub provider: &'a str,
    /// The endpoint's template.
    pub route: &'a str,
    /// The model as the provider knows it; empty where there is none.
    pub model: &'a str,
    /// Whose fault it was if it failed.
    pub error: Option<Side>,
    /// The caller left before the end.
    pub aborted: bool,
    /// The answer broke off.
    pub truncated: bool,
    /// The tokens are an estimate.
    pub estimated: bool,
    /// It costs something, whether or not its tokens are counted.
    pub costs: bool,
    /// Tokens in, cached ones included.
    pub input: u64,
    /// Tokens out, reasoning included.
    pub output: u64,
    /// Of the input, read from the provider's cache.
    pub cached: u64,
    /// Of the input, written to it.
    pub cache_written: u64,
    /// Of that, to be kept for an hour.
    pub cache_written_1h: u64,
    /// Of the output, spent on reasoning.
    pub reasoning: u64,
    /// Tokens of memory put into the request.
    pub recalled: u64,
    /// Tokens of memory stored.
    pub stored: u64,
    /// From the request's departure to the head of the answer.
    pub provider_time: Option<Duration>,
    /// The router's own time before the request left.
    pub router_time: Option<Duration>,
}

/// Places and their numbers, as many as fit.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) rows: HashMap<Box<[u8]>, Counts, ahash::RandomState>,
    /// Requests that found no place.
    pub(super) dropped: u64,
    /// Reused from request to request.
    place: Vec<u8>,
}

impl Tally {
    fn record(&mut self, event: &Event<'_>, now: i64) {
        let mut place = Place {
            key: event.key,
            time: super::hour_of(now),
            provider: event.provider,
            route: event.route,
            model: event.model,
        };
        place.write(&mut self.place);
        if self.rows.len() >= PLACES_MAX && !self.rows.contains_key(&self.place[..]) {
            // A caller makes models up faster than they can be written: they are one from here on.
            place.model = OTHER_MODEL;
            place.write(&mut self.place);
            if self.rows.len() >= 2 * PLACES_MAX && !self.rows.contains_key(&self.place[..]) {
                self.dropped += 1;
                return;
            }
        }
        if let Some(counts) = self.rows.get_mut(&self.place[..]) {
            return counts.count(event);
        }
        let mut counts = Counts::default();
        counts.count(event);
        self.rows.insert(self.place.as_slice().into(), counts);
    }

    /// Adds rows, `rows_max` at most; what finds no place is counted as dropped.
    pub(super) fn merge(&mut self, other: Self, rows_max: usize) {
        self.dropped += other.dropped;
        for (place, counts) in other.rows {
            if let Some(known) = self.rows.get_mut(&place) {
                known.merge(&counts);
            } else if self.rows.len() < rows_max {
                self.rows.insert(place, counts);
            } else {
                self.dropped += counts.get(Meter::Requests);
            }
        }
    }
}

impl Counts {
    fn count(&mut self, event: &Event<'_>) {
        self.add(Meter::Requests, 1);
        match event.error {
            Some(Side::Caller) => self.add(Meter::ErrorsCaller, 1),
            Some(Side::Router) => self.add(Meter::ErrorsRouter, 1),
            Some(Side::Provider) => self.add(Meter::ErrorsProvider, 1),
            None => {}
        }
        for (meter, amount) in [
            (Meter::Aborted, u64::from(event.aborted)),
            (Meter::Truncated, u64::from(event.truncated)),
            (Meter::Estimated, u64::from(event.estimated)),
            // Until a price is found.
            (Meter::Unpriced, u64::from(event.costs)),
            (Meter::Input, event.input),
            (Meter::Output, event.output),
            (Meter::Cached, event.cached),
            (Meter::CacheWritten, event.cache_written),
            (Meter::CacheWritten1h, event.cache_written_1h),
            (Meter::Reasoning, event.reasoning),
            (Meter::Recalled, event.recalled),
            (Meter::Stored, event.stored),
        ] {
            self.add(meter, amount);
        }
        if let Some(time) = event.provider_time {
            self.provider.record(time);
        }
        if let Some(time) = event.router_time {
            self.router.record(time);
        }
    }
}

/// One core's end of the store.
pub struct Recorder {
    tally: Arc<Mutex<Tally>>,
    store: UsageStore,
}

impl Recorder {
    pub(super) fn new(tally: Arc<Mutex<Tally>>, store: UsageStore) -> Self {
        Self { tally, store }
    }

    /// Counts a request that was over at `now`, in seconds since 1970. Never waits for more than the keeper's taking
    /// over, which is one swap.
    pub fn record(&self, event: &Event<'_>, now: i64) {
        lock(&self.tally).record(event, now);
    }

    /// The store, for questions.
    pub fn store(&self) -> &UsageStore {
        &self.store
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_models_become_one_and_nothing_grows_without_end() {
        let mut tally = Tally::default();
        let models: Vec<String> = (0..3 * PLACES_MAX)
            .map(|number| format!("m{number}"))
            .collect();
        for model in &models {
            let event = Event {
                key: "k",
                model,
                input: 2,
                ..Event::default()
            };
            tally.record(&event, 7200);
        }
        assert_eq!((tally.rows.len(), tally.dropped), (PLACES_MAX + 1, 0));
        let total: u64 = tally
            .rows
            .values()
            .map(|counts| counts.get(Meter::Input))
            .sum();
        assert_eq!(total, 6 * PLACES_MAX as u64);
        let mut small = Tally::default();
        small.merge(tally, 10);
        assert_eq!(small.rows.len(), 10);
        assert!(small.dropped > 0);
    }
}
