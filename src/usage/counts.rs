//! What is counted in one place (a key, an hour or day, a provider, route and model), and its bytes.
//!
//! `recorder` adds requests up in it, `ledger` stores it, `query` adds rows up and reads percentiles out. A row is a few
//! dozen bytes: numbers in as many bytes as they need, latencies as the buckets that are not empty. Pure.

use std::time::Duration;

/// Version of the encoding, in front of it.
const ENCODING: u8 = 1;

/// A number that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    /// Requests of any outcome.
    Requests,
    /// Of them, those that failed by the caller's fault.
    ErrorsCaller,
    /// Those that the router could not serve.
    ErrorsRouter,
    /// Those that the provider failed.
    ErrorsProvider,
    /// Those whose caller left before the end.
    Aborted,
    /// Those whose answer broke off.
    Truncated,
    /// Those whose tokens are estimated, because the provider did not count them.
    Estimated,
    /// Those of a model without a price.
    Unpriced,
    /// Tokens in, cached ones included.
    Input,
    /// Tokens out, reasoning included.
    Output,
    /// Of the input, read from the provider's cache.
    Cached,
    /// Of the input, written to it.
    CacheWritten,
    /// Of the output, spent on reasoning.
    Reasoning,
    /// Tokens of memory put into requests.
    Recalled,
    /// Tokens of memory stored.
    Stored,
    /// What it cost, in billionths of a dollar.
    CostNanoUsd,
    /// Of what was written to the provider's cache, that to be kept for an hour: it has a price of its own. Behind the
    /// others, where older rows have nothing.
    CacheWritten1h,
}

const METERS: usize = Meter::CacheWritten1h as usize + 1;

/// The numbers of one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    numbers: [u64; METERS],
    /// From the request's departure to the head of the answer.
    pub provider: Latencies,
    /// The router's own time before the request left.
    pub router: Latencies,
}

impl Counts {
    /// What a meter shows.
    pub fn get(&self, meter: Meter) -> u64 {
        self.numbers[meter as usize]
    }

    /// Counts `amount` more.
    pub fn add(&mut self, meter: Meter, amount: u64) {
        let number = &mut self.numbers[meter as usize];
        *number = number.saturating_add(amount);
    }

    /// Counts nothing there.
    pub(super) fn clear(&mut self, meter: Meter) {
        self.numbers[meter as usize] = 0;
    }

    /// All failures, whoever's fault.
    pub fn errors(&self) -> u64 {
        self.get(Meter::ErrorsCaller)
            .saturating_add(self.get(Meter::ErrorsRouter))
            .saturating_add(self.get(Meter::ErrorsProvider))
    }

    /// Input and output: what limits count.
    pub fn tokens(&self) -> u64 {
        self.get(Meter::Input)
            .saturating_add(self.get(Meter::Output))
    }

    /// Adds another place's numbers.
    pub fn merge(&mut self, other: &Self) {
        for (number, more) in self.numbers.iter_mut().zip(other.numbers) {
            *number = number.saturating_add(more);
        }
        self.provider.merge(&other.provider);
        self.router.merge(&other.router);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        out.extend([ENCODING, METERS as u8]);
        for number in self.numbers {
            put(&mut out, number);
        }
        self.provider.encode(&mut out);
        self.router.encode(&mut out);
        out
    }

    /// Reads what `encode` wrote, with fewer or more numbers than there are today.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let (&[version, meters], rest) = bytes.split_first_chunk()?;
        if version != ENCODING {
            return None;
        }
        bytes = rest;
        let mut counts = Self::default();
        for at in 0..usize::from(meters) {
            let number = take(&mut bytes)?;
            if let Some(slot) = counts.numbers.get_mut(at) {
                *slot = number;
            }
        }
        counts.provider = Latencies::decode(&mut bytes)?;
        counts.router = Latencies::decode(&mut bytes)?;
        bytes.is_empty().then_some(counts)
    }
}

/// How often something took how long: eight buckets to an octave of microseconds, so within 7 %.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies(Vec<(u16, u64)>);

/// Buckets up to 2^40 µs, which is twelve days.
const BUCKETS: u16 = 312;

impl Latencies {
    /// Counts one.
    pub fn record(&mut self, time: Duration) {
        // The standard library's whole number of microseconds has 128 bits.
        let micros = time.as_secs().saturating_mul(1_000_000);
        self.count(
            bucket_of(micros.saturating_add(time.subsec_micros().into())),
            1,
        );
    }

    fn count(&mut self, bucket: u16, count: u64) {
        match self.0.binary_search_by_key(&bucket, |entry| entry.0) {
            Ok(at) => self.0[at].1 = self.0[at].1.saturating_add(count),
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }

    fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            self.count(*bucket, *count);
        }
    }

    /// The time that a share of all stayed within; none if there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.0.iter().map(|entry| entry.1).sum();
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = self.0.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        reached.map(|(bucket, _)| Duration::from_micros(middle_of(*bucket)))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.0.len() as u64);
        let mut last = 0;
        for (bucket, count) in &self.0 {
            put(out, u64::from(bucket - last));
            put(out, *count);
            last = *bucket;
        }
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let count = take(bytes)?;
        let mut entries: Vec<(u16, u64)> = Vec::new();
        for _ in 0..count.min(u64::from(BUCKETS) + 1) {
            let last = entries.last().map_or(0, |entry| entry.0);
            let bucket = u16::try_from(take(bytes)?).ok()?.checked_add(last)?;
            entries.push((bucket, take(bytes)?));
        }
        (entries.len() as u64 == count && entries.is_sorted_by(|a, b| a.0 < b.0))
            .then_some(Self(entries))
    }
}

fn bucket_of(micros: u64) -> u16 {
    let micros = micros.min((1 << 40) - 1);
    if micros < 8 {
        return micros as u16;
    }
    let octave = 63 - micros.leading_zeros();
    let within = (micros >> (octave - 3)) & 7;
    ((octave - 2) * 8) as u16 + within as u16
}

fn middle_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket.min(BUCKETS));
    if bucket < 8 {
        return bucket;
    }
    let shift = bucket / 8 - 1;
    let start = (8 + bucket % 8) << shift;
    start + (1 << shift) / 2
}

/// LEB128.
pub(super) fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mut counts = Counts::default();
        counts.add(Meter::Requests, 3);
        counts.add(Meter::Input, u64::MAX);
        counts.add(Meter::Input, 1);
        counts.add(Meter::CostNanoUsd, 300);
        for micros in [0, 7, 8, 55, 1_000_000, u64::MAX] {
            counts.provider.record(Duration::from_micros(micros));
        }
        let bytes = counts.encode();
        assert!(bytes.len() < 64, "{}", bytes.len());
        assert_eq!(Counts::decode(&bytes).as_ref(), Some(&counts));
        for end in 0..bytes.len() {
            assert_eq!(Counts::decode(&bytes[..end]), None, "{end}");
        }
        assert_eq!(Counts::decode(&[&bytes[..], &[0]].concat()), None);
        // A row of a version that knew one meter less.
        let mut older = vec![ENCODING, METERS as u8 - 1];
        for number in &counts.numbers[..METERS - 1] {
            put(&mut older, *number);
        }
        counts.provider.encode(&mut older);
        counts.router.encode(&mut older);
        assert_eq!(Counts::decode(&older), Some(counts.clone()));
        let mut twice = counts.clone();
        twice.merge(&counts);
        assert_eq!(twice.get(Meter::Requests), 6);
        assert_eq!(twice.get(Meter::Input), u64::MAX);
        assert_eq!(twice.provider.quantile(0.01), Some(Duration::ZERO));
    }

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for shift in 0..40 {
            for part in 0..16u64 {
                let micros = (1u64 << shift) + ((1u64 << shift) * part) / 16;
                let bucket = bucket_of(micros);
                assert!(bucket >= last && bucket <= BUCKETS, "{micros}");
                last = bucket;
                let off = middle_of(bucket).abs_diff(micros);
                assert!(
                    off * 100 <= micros * 7,
                    "{micros} shows as {}",
                    middle_of(bucket)
                );
            }
        }
    }

    #[test]
    fn percentiles() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for millis in 1..=100 {
            latencies.record(Duration::from_millis(millis));
        }
        for (share, millis) in [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0)] {
            let found = latencies.quantile(share).unwrap().as_secs_f64() * 1e3;
            assert!((found - millis).abs() <= millis * 0.07, "{share}: {found}");
        }
    }
}
