//! `GET /metrics`: everything that is counted, in Prometheus' text format.
//!
//! Each family is written whole, with its help and type, from one look at the counters. Labels are bounded where the
//! counts are kept; key ids are among them only if the operator asked for that.

mod stores;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::answer::Answer;
use super::desk::Desk;
use super::page::Page;
use super::process;
use crate::clock::unix_seconds;
use crate::log;
use crate::metrics::{CoreMetrics, Tally};

const MEDIA: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The router's own time, in seconds: tens of microseconds, with room for trouble.
const ROUTER_BOUNDS: &[f64] = &[
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 1.0,
];
/// A provider's time: from a fast loopback answer to a long piece of reasoning.
const PROVIDER_BOUNDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

/// The whole page.
pub(super) fn answer(desk: &Desk) -> Answer {
    let mut page = Page::default();
    let shared = desk.control.shared();
    let tally = shared.metrics.tally();
    page.family(
        "build_info",
        "gauge",
        "Constant 1, labelled with the version.",
    );
    page.value("build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.gauge(
        "start_time_seconds",
        "When the router started, in seconds since 1970.",
        desk.started_at as f64,
    );
    exchanges(&mut page, &tally);
    workers(&mut page, &shared.metrics.cores());
    snapshot(&mut page, desk);
    if let Some(tracer) = &shared.tracer {
        let status = tracer.status();
        page.counter(
            "spans_sent_total",
            "Spans that the trace collector took.",
            status.sent,
        );
        page.counter(
            "spans_failed_total",
            "Spans that it did not take.",
            status.failed,
        );
        page.counter(
            "spans_dropped_total",
            "Spans for which there was no room.",
            status.dropped,
        );
    }
    stores::memory(&mut page, &desk.control.memory().status());
    stores::usage(&mut page, &desk.control.usage().status());
    page.counter(
        "panics_total",
        "Connections lost to a bug.",
        shared.panics.load(Ordering::Relaxed),
    );
    page.gauge(
        "draining",
        "1 while the router goes down.",
        f64::from(u8::from(desk.control.draining())),
    );
    page.gauge(
        "open_fds",
        "Open descriptors.",
        process::descriptors() as f64,
    );
    page.gauge(
        "max_fds",
        "Descriptors that may be open.",
        process::descriptors_max() as f64,
    );
    page.gauge(
        "resident_memory_bytes",
        "Memory in use.",
        process::resident_bytes() as f64,
    );
    page.counter(
        "log_lines_dropped_total",
        "Log lines dropped because stderr was too slow or failed.",
        log::dropped(),
    );
    Answer::of(200, MEDIA, page.into_bytes())
}

fn exchanges(page: &mut Page, tally: &Tally) {
    let providers = tally.providers();
    page.family(
        "requests_total",
        "counter",
        "Requests by route, provider and status; status none where the caller had left.",
    );
    for provider in &providers {
        for answered in &provider.answered {
            let status = answered
                .status
                .map_or("none".to_owned(), |status| status.to_string());
            let labels = [
                ("route", answered.route),
                ("provider", &provider.name),
                ("status", &status),
            ];
            page.value("requests_total", &labels, answered.count as f64);
        }
    }
    let sides = tally.sides();
    page.family(
        "request_failures_total",
        "counter",
        "Requests that failed, by whose fault it was.",
    );
    for (side, count) in [
        ("caller", sides.caller),
        ("router", sides.router),
        ("provider", sides.provider),
    ] {
        page.value("request_failures_total", &[("side", side)], count as f64);
    }
    page.family(
        "router_seconds",
        "histogram",
        "The router's own time before a request left.",
    );
    page.histogram("router_seconds", &[], &tally.overhead, ROUTER_BOUNDS);
    page.family(
        "first_byte_seconds",
        "histogram",
        "From a request's departure to the head of its answer.",
    );
    for provider in &providers {
        page.histogram(
            "first_byte_seconds",
            &[("provider", &provider.name)],
            &provider.first_byte,
            PROVIDER_BOUNDS,
        );
    }
    page.family(
        "request_seconds",
        "histogram",
        "From a request's head to the last byte of its answer.",
    );
    for provider in &providers {
        page.histogram(
            "request_seconds",
            &[("provider", &provider.name)],
            &provider.total,
            PROVIDER_BOUNDS,
        );
    }
    page.family(
        "tokens_total",
        "counter",
        "Tokens, by the provider's count or estimated where it has none.",
    );
    for provider in &providers {
        for (direction, count) in [
            ("input", provider.input_tokens),
            ("output", provider.output_tokens),
        ] {
            page.value(
                "tokens_total",
                &[("provider", &provider.name), ("direction", direction)],
                count as f64,
            );
        }
    }
    if !tally.keys().is_empty() {
        page.family(
            "key_requests_total",
            "counter",
            "Requests by key id (metrics.keys).",
        );
        for (key, count) in tally.keys() {
            page.value("key_requests_total", &[("key", key)], *count as f64);
        }
    }
}

/// What each worker counts: shown for each where balance matters, together where it does not.
fn workers(page: &mut Page, cores: &[std::sync::Arc<CoreMetrics>]) {
    page.family("worker_requests_total", "counter", "Requests by worker.");
    for (index, core) in cores.iter().enumerate() {
        page.value(
            "worker_requests_total",
            &[("worker", &index.to_string())],
            core.requests() as f64,
        );
    }
    page.family(
        "worker_connections",
        "gauge",
        "Callers connected, by worker.",
    );
    for (index, core) in cores.iter().enumerate() {
        let open = core.connections.load(Ordering::Relaxed);
        page.value(
            "worker_connections",
            &[("worker", &index.to_string())],
            open as f64,
        );
    }
    type Counter = fn(&CoreMetrics) -> &AtomicU64;
    let counters: [(&str, &str, Counter); 7] = [
        ("connections_accepted_total", "Callers accepted.", |core| {
            &core.accepted
        }),
        ("accept_failures_total", "Accepts that failed.", |core| {
            &core.accept_failures
        }),
        (
            "upstream_reused_total",
            "Requests sent over a connection that was open already.",
            |core| &core.pool_hits,
        ),
        (
            "upstream_dialled_total",
            "Connections made to providers.",
            |core| &core.pool_misses,
        ),
        (
            "upstream_dial_failures_total",
            "Connections to providers that could not be made.",
            |core| &core.dial_failures,
        ),
        (
            "upstream_retries_total",
            "Requests sent once more because an old connection had died.",
            |core| &core.retries,
        ),
        (
            "upstream_fallbacks_total",
            "Requests that went on with another key or provider.",
            |core| &core.fallbacks,
        ),
    ];
    for (name, help, counter) in counters {
        let sum = cores
            .iter()
            .map(|core| counter(core).load(Ordering::Relaxed))
            .sum();
        page.counter(name, help, sum);
    }
    type Gauge = fn(&CoreMetrics) -> &AtomicUsize;
    let gauges: [(&str, &str, Gauge); 3] = [
        (
            "requests_in_flight",
            "Requests that are with a provider.",
            |core| &core.in_flight,
        ),
        (
            "streams_live",
            "Event streams that are being relayed.",
            |core| &core.streams,
        ),
        (
            "upstream_idle_connections",
            "Connections to providers that wait for a request.",
            |core| &core.idle_upstream,
        ),
    ];
    for (name, help, gauge) in gauges {
        let sum: usize = cores
            .iter()
            .map(|core| gauge(core).load(Ordering::Relaxed))
            .sum();
        page.gauge(name, help, sum as f64);
    }
}

fn snapshot(page: &mut Page, desk: &Desk) {
    let status = desk.keys.status();
    let age = (unix_seconds() - status.created_at).max(0);
    page.gauge(
        "snapshot_generation",
        "Version of the key snapshot in use.",
        status.generation as f64,
    );
    page.gauge(
        "snapshot_age_seconds",
        "Time since the key snapshot in use was written.",
        age as f64,
    );
    page.gauge("snapshot_keys", "Memory keys in use.", status.keys as f64);
    page.counter(
        "snapshot_refusals_total",
        "Key snapshots that were refused.",
        status.refusals,
    );
    let bad = f64::from(u8::from(status.last_refusal.is_some()));
    page.gauge(
        "snapshot_refused",
        "1 while the file on disk is one that was refused.",
        bad,
    );
}
