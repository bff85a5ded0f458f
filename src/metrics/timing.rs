//! A distribution of times: percentiles for people, buckets and a sum for Prometheus.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Times are told apart from this on, in nanoseconds.
const LOWEST_NS: u64 = 100;
/// Anything longer counts as this long.
const HIGHEST_NS: u64 = 3_600_000_000_000;
/// Two digits: a percentile is right within one in a hundred, for about 30 KiB.
const DIGITS: u8 = 2;

/// How long something took, over many times.
#[derive(Clone, Default)]
pub struct Timing {
    /// Made with the first time.
    histogram: Option<Histogram<u64>>,
    sum_ns: u64,
}

impl Timing {
    /// One more.
    pub fn record(&mut self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        if self.histogram.is_none() {
            // The bounds are constants that it takes.
            self.histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS).ok();
        }
        if let Some(histogram) = &mut self.histogram {
            histogram.saturating_record(ns.min(HIGHEST_NS));
        }
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    /// Adds another's times.
    pub fn add(&mut self, other: &Self) {
        match (&mut self.histogram, &other.histogram) {
            (Some(own), Some(other)) => {
                // Both have the same bounds, so nothing is out of range.
                let _ = own.add(other);
            }
            (own @ None, Some(other)) => *own = Some(other.clone()),
            (_, None) => {}
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// What came since `earlier`, which is an older state of the same.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut left = self.clone();
        if let (Some(own), Some(earlier)) = (&mut left.histogram, &earlier.histogram) {
            // Every count of an older state is still in the newer one.
            let _ = own.subtract(earlier);
        }
        left.sum_ns = self.sum_ns.saturating_sub(earlier.sum_ns);
        left
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.histogram.as_ref().map_or(0, Histogram::len)
    }

    /// All together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// How many took at most `seconds`.
    pub fn count_within(&self, seconds: f64) -> u64 {
        let bound = (seconds * 1e9) as u64;
        self.histogram
            .as_ref()
            .map_or(0, |histogram| histogram.count_between(0, bound))
    }

    /// The time that this share of them, 0 to 1, did not exceed, in milliseconds; none where there is nothing.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let histogram = self.histogram.as_ref().filter(|all| !all.is_empty())?;
        Some(histogram.value_at_quantile(share) as f64 / 1e6)
    }
}
