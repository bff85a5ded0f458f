//! Counting, adding up, and the bounds of what callers can make grow.

use std::time::{Duration, Instant};

use super::*;
use crate::record::{Ended, RequestId};
use crate::relay::End;

fn record(provider: Option<&str>, status: u16) -> Record {
    let mut record = Record::new(RequestId::new(1, 2), "POST", Instant::now());
    record.route = "/v1/chat/completions";
    record.provider = provider.map(Into::into);
    record.status = Some(status);
    record.ended = Ended::Relayed(End::Complete);
    record.key_id = Some("key_a".into());
    record
}

#[test]
fn counts_by_provider_route_and_status_over_all_cores() {
    let metrics = Metrics::default();
    let (one, two) = (metrics.core(), metrics.core());
    for core in [&one, &one, &two] {
        let mut record = record(Some("openai"), 200);
        record.first_byte = Some(Duration::from_millis(5));
        record.overhead = Some(Duration::from_micros(40));
        record.usage.input = Some(7);
        core.finished(record, true, 1);
    }
    two.finished(record(None, 404), false, 2);
    let all = metrics.tally();
    assert_eq!((all.requests(), one.requests(), two.requests()), (4, 2, 2));
    let names: Vec<&str> = all
        .providers()
        .iter()
        .map(|provider| provider.name.as_str())
        .collect();
    assert_eq!(names, ["none", "openai"]);
    let openai = all.providers()[1];
    assert_eq!(openai.requests(), 3);
    assert_eq!(openai.input_tokens, 21);
    assert_eq!(openai.first_byte.count(), 3);
    assert_eq!(openai.first_byte.count_within(0.004), 0);
    assert_eq!(openai.first_byte.count_within(0.01), 3);
    let p50 = all.overhead.quantile_ms(0.5).unwrap();
    assert!((0.0396..0.0404).contains(&p50), "{p50}");
    assert_eq!(all.keys(), [("key_a".to_owned(), 3)]);
    assert_eq!(metrics.recent(10).len(), 4);
    let newest = metrics.recent(1);
    assert_eq!((newest.len(), newest[0].at_ms, newest[0].worker), (1, 2, 1));
}

#[test]
fn a_provider_that_makes_statuses_up_fills_nothing() {
    let core = CoreMetrics::default();
    for status in 100..1000 {
        core.finished(record(Some("openai"), status), false, 0);
    }
    let tally = &lock(&core.exchanges).tally;
    let openai = tally.providers()[0];
    assert!(openai.answered.len() <= 257);
    assert_eq!(openai.requests(), 900);
}

#[test]
fn the_last_exchanges_are_kept_and_no_more() {
    let metrics = Metrics::default();
    let core = metrics.core();
    for _ in 0..1000 {
        core.finished(record(None, 200), false, 0);
    }
    assert_eq!(metrics.recent(10_000).len(), 256);
}

#[test]
fn in_a_crowd_the_newest_and_those_that_failed_stay() {
    let metrics = Metrics::default();
    let core = metrics.core();
    // 40 in each millisecond, of which one in 4,000 fails.
    for n in 0..40_000 {
        let mut record = record(None, if n % 4_000 == 2_000 { 500 } else { 200 });
        record.request_bytes = n;
        if n % 4_000 == 2_000 {
            record.refused(&crate::error::Fault::Draining);
        }
        core.finished(record, false, n as i64 / 40);
    }
    let recent = metrics.recent(10_000);
    assert_eq!(recent.len(), 256);
    let numbers: Vec<u64> = recent.iter().map(|one| one.record.request_bytes).collect();
    assert!(numbers.contains(&39_999) && numbers.contains(&38_000));
    assert!(*numbers.iter().min().unwrap() < 37_000);
    let failed = recent.iter().filter(|one| one.record.side().is_some());
    assert_eq!(failed.count(), 1);
    // A second later each is kept again.
    for n in 0..20 {
        let mut record = record(None, 200);
        record.request_bytes = 50_000 + n;
        core.finished(record, false, 3_000 + n as i64 * 100);
    }
    let recent = metrics.recent(20);
    let numbers = recent.iter().map(|one| one.record.request_bytes);
    assert!(numbers.eq((50_000..50_020).rev()));
}

#[test]
fn what_came_since() {
    let mut timing = Timing::default();
    assert_eq!(timing.quantile_ms(0.5), None);
    timing.record(Duration::from_millis(1));
    let earlier = timing.clone();
    timing.record(Duration::from_millis(100));
    let since = timing.since(&earlier);
    assert_eq!(since.count(), 1);
    assert!(since.quantile_ms(0.01).unwrap() > 90.0);
    assert!((since.sum_seconds() - 0.1).abs() < 1e-9);
    timing.record(Duration::from_secs(100_000));
    assert_eq!(timing.count_within(3_601.0), 3);
}
