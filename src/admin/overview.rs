//! What an operator sees first: is it up, how much, how fast, what fails.

use std::sync::atomic::Ordering;

use serde::Serialize;

use super::answer::Answer;
use super::desk::Desk;
use super::process;
use super::series::Second;
use crate::clock::{rfc3339, unix_millis, unix_seconds};
use crate::config::Listen;
use crate::keys::KeyState;
use crate::memory::StoreState;
use crate::metrics::{ByProvider, Timing};
use crate::net::{self, BoundAddr};

#[derive(Serialize)]
struct Overview {
    version: &'static str,
    uptime_s: i64,
    started_at: String,
    pid: u32,
    now_ms: i64,
    workers: usize,
    driver: &'static str,
    draining: bool,
    data_url: Option<String>,
    data_urls: Vec<String>,
    snapshot: Snapshot,
    counts: Counts,
    requests_per_second: f64,
    latency_ms: Latency,
    errors: Errors,
    by_provider: Vec<OfProvider>,
    workers_list: Vec<OfWorker>,
    series: Shown,
    memory: OfMemory,
    usage: OfUsage,
}

#[derive(Serialize)]
struct OfMemory {
    state: &'static str,
    reason: Option<String>,
    hot_vaults: usize,
    bytes: usize,
    queue: usize,
    dropped: u64,
    failures: u64,
    stored: u64,
    recalls: u64,
    hits: u64,
}

#[derive(Serialize)]
struct OfUsage {
    state: &'static str,
    reason: Option<String>,
    queue: usize,
    dropped: u64,
}

#[derive(Serialize)]
struct Snapshot {
    generation: u64,
    created_at: String,
    loaded_at: String,
    age_s: i64,
    keys: usize,
    refusals: u64,
    last_refusal: Option<String>,
}

#[derive(Serialize)]
struct Counts {
    keys: usize,
    keys_active: usize,
    accounts: usize,
    provider_keys: usize,
    connections: usize,
    in_flight: usize,
    streams: usize,
    requests: u64,
    errors: u64,
    panics: u64,
    fds: u64,
    fds_max: u64,
    rss_bytes: u64,
}

#[derive(Serialize)]
struct Latency {
    window_s: usize,
    router: Percentiles,
    first_byte: Percentiles,
    total: Percentiles,
}

#[derive(Serialize)]
struct Percentiles {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    count: u64,
}

impl Percentiles {
    fn of(timing: &Timing) -> Self {
        Self {
            p50: timing.quantile_ms(0.5),
            p95: timing.quantile_ms(0.95),
            p99: timing.quantile_ms(0.99),
            count: timing.count(),
        }
    }
}

#[derive(Serialize)]
struct Errors {
    caller: u64,
    router: u64,
    provider: u64,
}

#[derive(Serialize)]
struct OfProvider {
    provider: String,
    requests: u64,
    errors: u64,
    input_tokens: u64,
    output_tokens: u64,
    first_byte_ms: Percentiles,
}

impl OfProvider {
    fn new(provider: &ByProvider) -> Self {
        Self {
            provider: provider.name.clone(),
            requests: provider.requests(),
            errors: provider.failures,
            input_tokens: provider.input_tokens,
            output_tokens: provider.output_tokens,
            first_byte_ms: Percentiles::of(&provider.first_byte),
        }
    }
}

#[derive(Serialize)]
struct OfWorker {
    worker: usize,
    requests: u64,
    connections: usize,
}

#[derive(Serialize)]
struct Shown {
    step_s: u32,
    until_ms: i64,
    requests: Vec<u64>,
    errors: Vec<u64>,
    streams: Vec<usize>,
}

/// `GET /overview`.
pub(super) fn answer(desk: &Desk) -> Answer {
    let shared = desk.control.shared();
    let tally = shared.metrics.tally();
    let cores = shared.metrics.cores();
    let series = desk.series.borrow();
    let times = series.times(&shared.metrics);
    let sides = tally.sides();
    let over_seconds = |of: fn(&Second) -> u64| series.seconds().iter().map(of).collect();
    let urls = data_urls(desk);
    Answer::json(&Overview {
        version: env!("CARGO_PKG_VERSION"),
        uptime_s: unix_seconds() - desk.started_at,
        started_at: rfc3339(desk.started_at),
        pid: std::process::id(),
        now_ms: unix_millis(),
        workers: cores.len(),
        driver: net::driver_name(),
        draining: desk.control.draining(),
        data_url: urls.iter().find(|url| url.starts_with("http")).cloned(),
        data_urls: urls,
        snapshot: snapshot(desk),
        counts: Counts {
            connections: shared.connections.load(Ordering::Relaxed),
            in_flight: cores
                .iter()
                .map(|core| core.in_flight.load(Ordering::Relaxed))
                .sum(),
            streams: cores
                .iter()
                .map(|core| core.streams.load(Ordering::Relaxed))
                .sum(),
            requests: tally.requests(),
            errors: sides.failures(),
            panics: shared.panics.load(Ordering::Relaxed),
            fds: process::descriptors(),
            fds_max: process::descriptors_max(),
            rss_bytes: process::resident_bytes(),
            ..key_counts(desk)
        },
        requests_per_second: series.rate(),
        latency_ms: Latency {
            window_s: series.window_seconds(),
            router: Percentiles::of(&times.overhead),
            first_byte: Percentiles::of(&times.first_byte),
            total: Percentiles::of(&times.total),
        },
        errors: Errors {
            caller: sides.caller,
            router: sides.router,
            provider: sides.provider,
        },
        by_provider: tally.providers().into_iter().map(OfProvider::new).collect(),
        workers_list: cores
            .iter()
            .enumerate()
            .map(|(worker, core)| OfWorker {
                worker,
                requests: core.requests(),
                connections: core.connections.load(Ordering::Relaxed),
            })
            .collect(),
        series: Shown {
            step_s: 1,
            until_ms: series.until_ms,
            requests: over_seconds(|second| second.requests),
            errors: over_seconds(|second| second.failures),
            streams: series
                .seconds()
                .iter()
                .map(|second| second.streams)
                .collect(),
        },
        memory: memory(desk),
        usage: usage(desk),
    })
}

fn memory(desk: &Desk) -> OfMemory {
    let status = desk.control.memory().status();
    let (state, reason) = match status.state {
        StoreState::Opening => ("opening", None),
        StoreState::Open => ("open", None),
        StoreState::Failed(reason) => ("failed", Some(reason)),
        StoreState::Closed => ("closed", None),
    };
    OfMemory {
        state,
        reason,
        hot_vaults: status.hot_vaults,
        bytes: status.hot_bytes,
        queue: status.queued,
        dropped: status.dropped,
        failures: status.failures,
        stored: status.stored,
        recalls: status.recalls,
        hits: status.hits,
    }
}

fn usage(desk: &Desk) -> OfUsage {
    let status = desk.control.usage().status();
    OfUsage {
        state: match (&status.failed, status.opened) {
            (Some(_), _) => "failed",
            (None, true) => "open",
            (None, false) => "opening",
        },
        reason: status.failed,
        queue: status.pending,
        dropped: status.dropped,
    }
}

fn snapshot(desk: &Desk) -> Snapshot {
    let status = desk.keys.status();
    Snapshot {
        generation: status.generation,
        created_at: rfc3339(status.created_at),
        loaded_at: rfc3339(status.loaded_at),
        age_s: (unix_seconds() - status.created_at).max(0),
        keys: status.keys,
        refusals: status.refusals,
        last_refusal: status.last_refusal,
    }
}

/// What there is of keys; everything else is nought.
fn key_counts(desk: &Desk) -> Counts {
    let snapshot = desk.keys.current();
    let now = unix_seconds();
    let active = snapshot.records().iter().filter(|record| {
        record.state == KeyState::Active && record.expires_at.is_none_or(|end| now < end)
    });
    let mut accounts: Vec<&str> = snapshot
        .records()
        .iter()
        .map(|record| record.grant.account.as_str())
        .chain(snapshot.stored().map(|(account, ..)| account))
        .collect();
    accounts.sort_unstable();
    accounts.dedup();
    Counts {
        keys: snapshot.keys,
        keys_active: active.count(),
        accounts: accounts.len(),
        provider_keys: snapshot.stored().map(|(.., keys)| keys.len()).sum(),
        connections: 0,
        in_flight: 0,
        streams: 0,
        requests: 0,
        errors: 0,
        panics: 0,
        fds: 0,
        fds_max: 0,
        rss_bytes: 0,
    }
}

/// Where callers connect, as base URLs. Every interface is shown as loopback: that much is certain.
fn data_urls(desk: &Desk) -> Vec<String> {
    let scheme = if desk.config().server.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let url = |addr: &BoundAddr| match addr {
        BoundAddr::Tcp(address) => {
            let mut address = *address;
            if address.ip().is_unspecified() {
                address.set_ip(match address {
                    std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                    std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
                });
            }
            format!("{scheme}://{address}")
        }
        BoundAddr::Unix(path) => Listen::Unix(path.clone()).to_string(),
    };
    desk.control.addrs().iter().map(url).collect()
}
