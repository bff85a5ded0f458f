//! What is done to rows before they are written: tokens priced, models bounded, each key's current minute followed.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use super::counts::Meter;
use super::hour_of;
use super::ledger::{DAY_HOURS, Minute};
use super::place::{OTHER_MODEL, Place};
use super::recorder::Tally;
use crate::clock;
use crate::prices::{Prices, Tokens};

/// Models of one key that are told apart in a day; agents use a handful.
const MODELS_PER_DAY_MAX: usize = 64;
pub(super) const MINUTE_SECONDS: i64 = 60;

/// What is known of each key that called today.
#[derive(Default)]
pub(super) struct Refinement {
    /// Hashes of the models that each key named on this day.
    day: u32,
    models: HashMap<String, HashSet<u64>>,
    hasher: RandomState,
    minutes: HashMap<String, Minute>,
    minutes_changed: HashSet<String>,
}

impl Refinement {
    /// Refines what came in since the last time.
    pub(super) fn take(&mut self, tally: &mut Tally, prices: &Prices) {
        // In this order: the one that others become has no price.
        price(tally, prices);
        self.bound_models(tally);
        self.follow_minutes(tally);
    }

    /// What an earlier process knew of a key.
    pub(super) fn remember(
        &mut self,
        key: &str,
        day: u32,
        models: &[String],
        minute: Option<Minute>,
    ) {
        if let Some(minute) = minute {
            self.merge(key, minute);
        }
        if !models.is_empty() {
            let hashes = models
                .iter()
                .map(|model| self.hasher.hash_one(model.as_str()));
            let hashes: Vec<u64> = hashes.collect();
            self.begin(day);
            self.models
                .entry(key.to_owned())
                .or_default()
                .extend(hashes);
        }
    }

    /// The minutes that have changed since some were written.
    pub(super) fn changed_minutes(&self) -> Vec<(String, Minute)> {
        let current = |key: &String| Some((key.clone(), *self.minutes.get(key)?));
        self.minutes_changed.iter().filter_map(current).collect()
    }

    /// Those that have changed are in the file.
    pub(super) fn minutes_written(&mut self) {
        self.minutes_changed.clear();
    }

    /// Lets go of another day's models, and with them of keys that are gone.
    fn begin(&mut self, day: u32) {
        if self.day != day {
            self.models = HashMap::new();
            self.day = day;
        }
    }

    /// What another process counts of a key beside this one.
    pub(super) fn add(&mut self, key: &str, minute: Minute) {
        self.merge(key, minute);
        self.minutes_changed.insert(key.to_owned());
    }

    /// Callers may have come here already: it is the same minute then.
    fn merge(&mut self, key: &str, more: Minute) {
        let minute = self.minutes.entry(key.to_owned()).or_insert(Minute {
            started: more.started,
            requests: 0,
            tokens: 0,
        });
        minute.started = minute.started.min(more.started);
        minute.requests = minute.requests.saturating_add(more.requests);
        minute.tokens = minute.tokens.saturating_add(more.tokens);
    }

    /// Whether a minute has changed since some were written.
    pub(super) fn has_changed(&self) -> bool {
        !self.minutes_changed.is_empty()
    }

    /// Makes models beyond the bound one.
    fn bound_models(&mut self, tally: &mut Tally) {
        self.begin(hour_of(clock::unix_seconds()) / DAY_HOURS);
        let mut surplus = Vec::new();
        for bytes in tally.rows.keys() {
            let Some(place) = Place::read(bytes).filter(|place| !place.model.is_empty()) else {
                continue;
            };
            let hash = self.hasher.hash_one(place.model);
            if !self.models.contains_key(place.key) {
                self.models.insert(place.key.to_owned(), HashSet::new());
            }
            let Some(known) = self.models.get_mut(place.key) else {
                continue;
            };
            if known.len() < MODELS_PER_DAY_MAX || known.contains(&hash) {
                known.insert(hash);
                continue;
            }
            let mut other = Vec::new();
            Place {
                model: OTHER_MODEL,
                ..place
            }
            .write(&mut other);
            surplus.push((bytes.clone(), other));
        }
        for (bytes, other) in surplus {
            if let Some(counts) = tally.rows.remove(&bytes) {
                tally.rows.entry(other.into()).or_default().merge(&counts);
            }
        }
    }

    fn follow_minutes(&mut self, tally: &Tally) {
        let now = clock::unix_seconds();
        self.minutes
            .retain(|_, minute| now - minute.started < MINUTE_SECONDS);
        for (bytes, counts) in &tally.rows {
            // What was asked of no provider is none of a limit's requests.
            let Some(place) = Place::read(bytes).filter(|place| !place.provider.is_empty()) else {
                continue;
            };
            let minute = self.minutes.entry(place.key.to_owned()).or_insert(Minute {
                started: now,
                requests: 0,
                tokens: 0,
            });
            minute.requests += counts.get(Meter::Requests);
            minute.tokens = minute.tokens.saturating_add(counts.tokens());
            self.minutes_changed.insert(place.key.to_owned());
        }
        self.minutes_changed
            .retain(|key| self.minutes.contains_key(key));
    }
}

/// At the prices of today: a price that changes tomorrow does not change what was spent. What costs something is marked
/// as without a price until here.
fn price(tally: &mut Tally, prices: &Prices) {
    for (bytes, counts) in &mut tally.rows {
        let Some(place) = Place::read(bytes).filter(|_| counts.get(Meter::Unpriced) > 0) else {
            continue;
        };
        if let Some(price) = prices.find(place.provider, place.model) {
            let cost = price.nano_usd(&Tokens {
                input: counts.get(Meter::Input),
                cached: counts.get(Meter::Cached),
                cache_written: counts.get(Meter::CacheWritten),
                cache_written_1h: counts.get(Meter::CacheWritten1h),
                output: counts.get(Meter::Output),
            });
            counts.add(Meter::CostNanoUsd, cost);
            counts.clear(Meter::Unpriced);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_for_a_day_and_no_key_for_longer() {
        let mut refined = Refinement::default();
        let models = ["a".to_owned(), "b".to_owned()];
        refined.remember("k1", 7, &models, None);
        refined.remember("k2", 7, &models[..1], None);
        refined.remember("k1", 7, &models, None);
        assert_eq!((refined.models.len(), refined.models["k1"].len()), (2, 2));
        refined.remember("k2", 8, &models, None);
        assert_eq!(refined.models.keys().collect::<Vec<_>>(), ["k2"]);
    }

    #[test]
    fn changed_minutes_are_told_until_they_are_written() {
        let mut refined = Refinement::default();
        let mut tally = Tally::default();
        let mut place = Vec::new();
        Place {
            key: "k",
            time: 1,
            provider: "p",
            route: "r",
            model: "m",
        }
        .write(&mut place);
        tally.rows.entry(place.into()).or_default();
        refined.take(&mut tally, &Prices::default());
        for _ in 0..2 {
            assert_eq!(refined.changed_minutes().len(), 1);
        }
        refined.minutes_written();
        assert_eq!(refined.changed_minutes().len(), 0);
    }
}
