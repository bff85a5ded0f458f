//! How the two stores are doing: memory and usage.

use crate::admin::page::Page;
use crate::memory::{MemoryStatus, StoreState};
use crate::usage;

/// How memory is doing.
pub(super) fn memory(page: &mut Page, status: &MemoryStatus) {
    let up = f64::from(u8::from(status.state == StoreState::Open));
    page.gauge("memory_up", "1 while the memory log can be written.", up);
    page.gauge(
        "memory_hot_vaults",
        "Vaults in RAM.",
        status.hot_vaults as f64,
    );
    page.gauge(
        "memory_hot_bytes",
        "What vaults in RAM take, about.",
        status.hot_bytes as f64,
    );
    page.gauge(
        "memory_queue",
        "Changes of memory that are not durable yet.",
        status.queued as f64,
    );
    page.gauge(
        "memory_queue_bytes",
        "What they take.",
        status.queued_bytes as f64,
    );
    for (name, help, count) in [
        (
            "memory_dropped_total",
            "Memories that were not taken, for want of room.",
            status.dropped,
        ),
        (
            "memory_stored_total",
            "Memories made durable.",
            status.stored,
        ),
        (
            "memory_duplicates_total",
            "Memories that were there already.",
            status.duplicates,
        ),
        (
            "memory_damaged_total",
            "Rows of the memory log that could not be read.",
            status.damaged,
        ),
        ("memory_recalls_total", "Recalls.", status.recalls),
        (
            "memory_recalled_total",
            "Memories that recalls gave back.",
            status.recalled,
        ),
        (
            "memory_recalls_without_vector_total",
            "Recalls by words alone, because the embedder gave no vector in time.",
            status.without_vector,
        ),
        (
            "memory_hits_total",
            "Recalls and writes that found their vault in RAM.",
            status.hits,
        ),
        (
            "memory_loads_total",
            "Vaults read from the file.",
            status.loads,
        ),
        (
            "memory_evictions_total",
            "Vaults that left RAM for others.",
            status.evictions,
        ),
        (
            "memory_write_failures_total",
            "Writes of the memory log that failed.",
            status.failures,
        ),
        (
            "memory_compactions_total",
            "Rewrites of the memory log.",
            status.compactions,
        ),
    ] {
        page.counter(name, help, count);
    }
    for (name, help, times) in [
        (
            "memory_recall_seconds",
            "Searches in vaults in RAM.",
            &status.recall_times,
        ),
        (
            "memory_load_seconds",
            "Loads of vaults from the file.",
            &status.load_times,
        ),
        (
            "memory_commit_seconds",
            "Commits of the memory log.",
            &status.commit_times,
        ),
    ] {
        page.family(name, "histogram", help);
        page.buckets(name, times);
    }
}

/// How the store of usage is doing.
pub(super) fn usage(page: &mut Page, status: &usage::Status) {
    let up = f64::from(u8::from(status.opened && status.failed.is_none()));
    page.gauge("usage_up", "1 while the usage store can be written.", up);
    page.gauge(
        "usage_queue",
        "Rows of usage that are not durable yet.",
        status.pending as f64,
    );
    page.counter(
        "usage_dropped_total",
        "Requests counted nowhere, for want of room.",
        status.dropped,
    );
    page.counter(
        "usage_commits_total",
        "Commits of the usage store.",
        status.commits,
    );
}
