//! Counts of exchanges by route, provider and status, with their times.
//!
//! Labels come from fixed sets: routes are templates of ours, providers those of the configuration, statuses three
//! digits. They are few, so they stand in lists that are searched from the front.

use std::time::Duration;

use super::timing::Timing;
use crate::error::FaultSide;
use crate::record::Record;

/// Combinations of route and status for one provider; a provider that makes statuses up fills no more than this.
const COMBINATIONS_MAX: usize = 256;
/// Keys that are counted one by one, where the operator asked for that.
const KEYS_MAX: usize = 10_000;

/// What stands for a provider where none was involved.
const NO_PROVIDER: &str = "none";

/// The exchanges of one core, or of several together.
#[derive(Clone, Default)]
pub struct Tally {
    requests: u64,
    sides: Sides,
    /// The router's own time before a request left.
    pub overhead: Timing,
    providers: Vec<ByProvider>,
    keys: Vec<(String, u64)>,
}

/// Exchanges that failed, by whose fault it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// The caller's.
    pub caller: u64,
    /// The router's own.
    pub router: u64,
    /// The provider's.
    pub provider: u64,
}

impl Sides {
    /// All together.
    pub fn failures(&self) -> u64 {
        self.caller + self.router + self.provider
    }
}

/// The exchanges of one provider.
#[derive(Clone, Default)]
pub struct ByProvider {
    /// Its name; `none` for those that needed none.
    pub name: String,
    /// By route and status.
    pub answered: Vec<Answered>,
    /// Those that failed, whoever is to blame.
    pub failures: u64,
    /// From a request's departure to the head of its answer.
    pub first_byte: Timing,
    /// From an exchange's head to its last byte.
    pub total: Timing,
    /// Tokens that went in, by the provider's count.
    pub input_tokens: u64,
    /// Tokens that came out.
    pub output_tokens: u64,
}

impl ByProvider {
    /// How many.
    pub fn requests(&self) -> u64 {
        self.answered.iter().map(|answered| answered.count).sum()
    }
}

/// How often a route was answered with a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The endpoint's template.
    pub route: &'static str,
    /// The status; none where the caller had left, or behind the last combination that fits.
    pub status: Option<u16>,
    /// How often.
    pub count: u64,
}

impl Tally {
    /// One more exchange.
    pub(super) fn count(&mut self, record: &Record, total: Duration, by_key: bool) {
        self.requests += 1;
        let side = record.side();
        match side {
            None => {}
            Some(FaultSide::Caller) => self.sides.caller += 1,
            Some(FaultSide::Router) => self.sides.router += 1,
            Some(FaultSide::Provider) => self.sides.provider += 1,
        }
        let provider = self.provider(record.provider.as_deref().unwrap_or(NO_PROVIDER));
        count_answer(&mut provider.answered, record.route, record.status, 1);
        provider.failures += u64::from(side.is_some());
        provider.input_tokens += record.usage.input.unwrap_or(0);
        provider.output_tokens += record.usage.output.unwrap_or(0);
        if let Some(time) = record.first_byte {
            provider.first_byte.record(time);
            provider.total.record(total);
        }
        if let Some(time) = record.overhead {
            self.overhead.record(time);
        }
        if let (true, Some(key)) = (by_key, &record.key_id) {
            self.count_key(key, 1);
        }
    }

    fn provider(&mut self, name: &str) -> &mut ByProvider {
        let at = match self.providers.iter().position(|known| known.name == name) {
            Some(at) => at,
            None => {
                self.providers.push(ByProvider {
                    name: name.to_owned(),
                    ..ByProvider::default()
                });
                self.providers.len() - 1
            }
        };
        &mut self.providers[at]
    }

    fn count_key(&mut self, key: &str, count: u64) {
        match self
            .keys
            .binary_search_by(|(known, _)| known.as_str().cmp(key))
        {
            Ok(at) => self.keys[at].1 += count,
            Err(at) if self.keys.len() < KEYS_MAX => self.keys.insert(at, (key.to_owned(), count)),
            Err(_) => {}
        }
    }

    /// Adds another core's.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.sides.caller += other.sides.caller;
        self.sides.router += other.sides.router;
        self.sides.provider += other.sides.provider;
        self.overhead.add(&other.overhead);
        for theirs in &other.providers {
            let own = self.provider(&theirs.name);
            for answered in &theirs.answered {
                count_answer(
                    &mut own.answered,
                    answered.route,
                    answered.status,
                    answered.count,
                );
            }
            own.failures += theirs.failures;
            own.first_byte.add(&theirs.first_byte);
            own.total.add(&theirs.total);
            own.input_tokens += theirs.input_tokens;
            own.output_tokens += theirs.output_tokens;
        }
        for (key, count) in &other.keys {
            self.count_key(key, *count);
        }
    }

    /// How many.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// From a request's departure to the head of its answer, over all providers.
    pub fn first_byte(&self) -> Timing {
        self.over_all(|provider| &provider.first_byte)
    }

    /// From an exchange's head to its last byte, of those that reached a provider.
    pub fn total(&self) -> Timing {
        self.over_all(|provider| &provider.total)
    }

    fn over_all(&self, of: impl Fn(&ByProvider) -> &Timing) -> Timing {
        let mut all = Timing::default();
        self.providers.iter().for_each(|one| all.add(of(one)));
        all
    }

    /// Those that failed.
    pub fn sides(&self) -> Sides {
        self.sides
    }

    /// By provider, in the order of their names.
    pub fn providers(&self) -> Vec<&ByProvider> {
        let mut all: Vec<&ByProvider> = self.providers.iter().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Requests by key id, where keys are counted.
    pub fn keys(&self) -> &[(String, u64)] {
        &self.keys
    }
}

fn count_answer(
    answered: &mut Vec<Answered>,
    route: &'static str,
    status: Option<u16>,
    count: u64,
) {
    let same = |known: &&mut Answered, status| known.status == status && known.route == route;
    if let Some(known) = answered.iter_mut().find(|known| same(known, status)) {
        known.count += count;
        return;
    }
    let status = status.filter(|_| answered.len() < COMBINATIONS_MAX);
    match answered.iter_mut().find(|known| same(known, status)) {
        Some(known) => known.count += count,
        None => answered.push(Answered {
            route,
            status,
            count,
        }),
    }
}
