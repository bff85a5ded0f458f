//! What the overview shows over time: requests, failures and streams of each of the last seconds, and the distribution
//! of times over the last minutes. `mod` calls `tick` once a second.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use crate::clock;
use crate::metrics::{Metrics, Timing};

const SECONDS_KEPT: usize = 300;
/// Distributions are kept this far apart: each is 90 KiB.
const SECONDS_PER_STATE: u64 = 30;
const STATES_KEPT: usize = SECONDS_KEPT / SECONDS_PER_STATE as usize;
/// What the rate is taken over.
const RATE_SECONDS: usize = 10;

/// One second.
#[derive(Clone, Copy, Default)]
pub(super) struct Second {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) streams: usize,
}

/// The three times that are shown.
#[derive(Clone, Default)]
pub(super) struct Times {
    pub(super) overhead: Timing,
    pub(super) first_byte: Timing,
    pub(super) total: Timing,
}

#[derive(Default)]
pub(super) struct Series {
    seconds: VecDeque<Second>,
    /// Counts at the last tick.
    requests: u64,
    failures: u64,
    /// When that was, in milliseconds since 1970.
    pub(super) until_ms: i64,
    ticks: u64,
    /// Older states, the oldest first.
    states: VecDeque<Times>,
}

impl Series {
    pub(super) fn tick(&mut self, metrics: &Metrics) {
        let (mut requests, mut failures, mut streams) = (0, 0, 0);
        for core in metrics.cores() {
            let (of_core, failed) = core.requests_and_failures();
            requests += of_core;
            failures += failed;
            streams += core.streams.load(Ordering::Relaxed);
        }
        if self.seconds.len() >= SECONDS_KEPT {
            self.seconds.pop_front();
        }
        self.seconds.push_back(Second {
            requests: requests.saturating_sub(self.requests),
            failures: failures.saturating_sub(self.failures),
            streams,
        });
        (self.requests, self.failures) = (requests, failures);
        self.until_ms = clock::unix_millis();
        if self.ticks.is_multiple_of(SECONDS_PER_STATE) {
            if self.states.len() >= STATES_KEPT {
                self.states.pop_front();
            }
            self.states.push_back(times(metrics));
        }
        self.ticks += 1;
    }

    pub(super) fn seconds(&self) -> &VecDeque<Second> {
        &self.seconds
    }

    /// Requests a second, over the last few.
    pub(super) fn rate(&self) -> f64 {
        let last = self.seconds.iter().rev().take(RATE_SECONDS);
        let (count, sum) = last.fold((0u32, 0u64), |(count, sum), second| {
            (count + 1, sum + second.requests)
        });
        if count == 0 {
            0.0
        } else {
            sum as f64 / f64::from(count)
        }
    }

    /// How long the window of `times` is.
    pub(super) fn window_seconds(&self) -> usize {
        self.seconds.len()
    }

    /// The times of the last minutes.
    pub(super) fn times(&self, metrics: &Metrics) -> Times {
        let now = times(metrics);
        match self.states.front() {
            // The first state was taken at the start, when there was nothing.
            Some(earlier) => Times {
                overhead: now.overhead.since(&earlier.overhead),
                first_byte: now.first_byte.since(&earlier.first_byte),
                total: now.total.since(&earlier.total),
            },
            None => now,
        }
    }
}

fn times(metrics: &Metrics) -> Times {
    let tally = metrics.tally();
    Times {
        first_byte: tally.first_byte(),
        total: tally.total(),
        overhead: tally.overhead,
    }
}
