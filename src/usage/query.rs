//! Questions to the store: whose usage, from when to when, and by what it is broken down.

use std::collections::BTreeMap;

use serde::Serialize;

use super::counts::{Counts, Latencies, Meter};
use super::ledger::{DAY_HOURS, LedgerError, Reading};
use super::place::Place;
use super::recorder::Tally;
use super::{UnixSeconds, hour_of};

/// Lines of one answer; whoever needs more asks for shorter times.
const LINES_MAX: usize = 100_000;

/// What an answer is broken down by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The memory key.
    Key,
    /// The provider.
    Provider,
    /// The model.
    Model,
    /// The endpoint.
    Route,
    /// The UTC day.
    Day,
    /// The hour; where that is not known any more, the day's first.
    Hour,
}

impl By {
    /// Reads its word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "key" => Self::Key,
            "provider" => Self::Provider,
            "model" => Self::Model,
            "route" => Self::Route,
            "day" => Self::Day,
            "hour" => Self::Hour,
            _ => return None,
        })
    }
}

/// A question.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// One key; all without.
    pub key: Option<String>,
    /// One provider; all without.
    pub provider: Option<String>,
    /// One model, as the provider knows it; all without.
    pub model: Option<String>,
    /// From this hour on.
    pub since: UnixSeconds,
    /// Up to this time.
    pub until: UnixSeconds,
    /// One line for each combination.
    pub by: Vec<By>,
}

/// One line of an answer. What was not asked for is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The memory key's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The endpoint's template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// `2026-01-31`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// `2026-01-31T12:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    /// The numbers.
    #[serde(flatten)]
    pub figures: Figures,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// All of it together.
    pub total: Figures,
    /// In the order of what it is broken down by.
    pub lines: Vec<Line>,
}

/// Numbers as they are shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Requests of any outcome.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// By the caller's fault.
    pub errors_caller: u64,
    /// By the router's.
    pub errors_router: u64,
    /// By the provider's.
    pub errors_provider: u64,
    /// Whose caller left.
    pub aborted: u64,
    /// Whose answer broke off.
    pub truncated: u64,
    /// Tokens in.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// Both.
    pub total_tokens: u64,
    /// Of the input, from the provider's cache.
    pub cached_tokens: u64,
    /// Of the input, into it.
    pub cache_written_tokens: u64,
    /// Of the output, for reasoning.
    pub reasoning_tokens: u64,
    /// Of memory, put into requests.
    pub memory_tokens_recalled: u64,
    /// Of memory, stored.
    pub memory_tokens_stored: u64,
    /// Requests whose tokens are an estimate.
    pub estimated_requests: u64,
    /// Requests of models without a price; `cost_usd` knows nothing of them.
    pub unpriced_requests: u64,
    /// Dollars.
    pub cost_usd: f64,
    /// Of the provider: to the head of its answer.
    pub provider_latency_ms: Percentiles,
    /// The router's own.
    pub router_latency_ms: Percentiles,
}

/// Milliseconds; none without requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half stayed within.
    pub p50: Option<f64>,
    /// 95 of 100.
    pub p95: Option<f64>,
    /// 99 of 100.
    pub p99: Option<f64>,
}

impl Percentiles {
    fn of(latencies: &Latencies) -> Self {
        let millis = |share| {
            let time = latencies.quantile(share)?;
            Some((time.as_secs_f64() * 1e6).round() / 1e3)
        };
        Self {
            p50: millis(0.50),
            p95: millis(0.95),
            p99: millis(0.99),
        }
    }
}

impl From<&Counts> for Figures {
    fn from(counts: &Counts) -> Self {
        let get = |meter| counts.get(meter);
        Self {
            requests: get(Meter::Requests),
            errors: counts.errors(),
            errors_caller: get(Meter::ErrorsCaller),
            errors_router: get(Meter::ErrorsRouter),
            errors_provider: get(Meter::ErrorsProvider),
            aborted: get(Meter::Aborted),
            truncated: get(Meter::Truncated),
            input_tokens: get(Meter::Input),
            output_tokens: get(Meter::Output),
            total_tokens: counts.tokens(),
            cached_tokens: get(Meter::Cached),
            cache_written_tokens: get(Meter::CacheWritten),
            reasoning_tokens: get(Meter::Reasoning),
            memory_tokens_recalled: get(Meter::Recalled),
            memory_tokens_stored: get(Meter::Stored),
            estimated_requests: get(Meter::Estimated),
            unpriced_requests: get(Meter::Unpriced),
            cost_usd: get(Meter::CostNanoUsd) as f64 / 1e9,
            provider_latency_ms: Percentiles::of(&counts.provider),
            router_latency_ms: Percentiles::of(&counts.router),
        }
    }
}

/// What lines are told apart by, in the order in which they are sorted.
type Group = (Option<u32>, Option<u32>, [Option<String>; 4]);

/// Adds up what is asked for.
struct Sum<'q> {
    query: &'q Query,
    hours: std::ops::Range<u32>,
    total: Counts,
    groups: BTreeMap<Group, Counts>,
}

impl Sum<'_> {
    fn add(&mut self, place: &Place<'_>, counts: &Counts) {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        let query = self.query;
        if !(is(&query.provider, place.provider) && is(&query.model, place.model)) {
            return;
        }
        self.total.merge(counts);
        let by = |which| self.query.by.contains(&which);
        let text = |which, text: &str| by(which).then(|| text.to_owned());
        let group = (
            by(By::Day).then_some(place.time / DAY_HOURS),
            by(By::Hour).then_some(place.time),
            [
                text(By::Key, place.key),
                text(By::Provider, place.provider),
                text(By::Model, place.model),
                text(By::Route, place.route),
            ],
        );
        if self.groups.len() < LINES_MAX || self.groups.contains_key(&group) {
            self.groups.entry(group).or_default().merge(counts);
        }
    }

    fn finish(self) -> Report {
        let line = |((day, hour, [key, provider, model, route]), counts): (Group, Counts)| Line {
            key,
            provider,
            model,
            route,
            day: day.map(|day| super::day_text(i64::from(day) * 86_400)),
            hour: hour.map(|hour| crate::clock::rfc3339(i64::from(hour) * 3600)),
            figures: Figures::from(&counts),
        };
        let grouped = !self.query.by.is_empty();
        Report {
            total: Figures::from(&self.total),
            lines: self
                .groups
                .into_iter()
                .filter(|_| grouped)
                .map(line)
                .collect(),
        }
    }
}

/// Answers from what is written and from rows that wait to be.
pub(super) fn answer(
    query: &Query,
    reading: Option<&Reading>,
    pending: Option<&Tally>,
) -> Result<Report, LedgerError> {
    let hours = hour_of(query.since)..hour_of(query.until.saturating_add(3599));
    let mut sum = Sum {
        query,
        hours: hours.clone(),
        total: Counts::default(),
        groups: BTreeMap::new(),
    };
    if let Some(reading) = reading {
        let keys = match &query.key {
            Some(key) => vec![key.clone()],
            None => reading.keys()?,
        };
        for key in keys {
            reading.rows(&key, hours.clone(), |place, counts| {
                sum.add(&place, &counts)
            })?;
        }
    }
    for (bytes, counts) in pending.into_iter().flat_map(|tally| &tally.rows) {
        if let Some(place) = Place::read(bytes)
            && query.key.as_ref().is_none_or(|key| key == place.key)
            && sum.hours.contains(&place.time)
        {
            sum.add(&place, counts);
        }
    }
    Ok(sum.finish())
}
