//! The last exchanges of a core, for whoever looks for one of them. No bodies, no credentials: what a `Record` holds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::record::Record;

/// Enough to find a request that was made a moment ago; about 100 KiB a core.
const KEPT_MAX: usize = 256;

/// An exchange that is over.
#[derive(Clone, Debug)]
pub struct Recent {
    /// When it ended, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long it took.
    pub total: Duration,
    /// Which core served it.
    pub worker: usize,
    /// What is known of it.
    pub record: Record,
}

#[derive(Default)]
pub(super) struct Ring(VecDeque<Record>);

impl Ring {
    pub(super) fn push(&mut self, record: Record) {
        if self.0.len() >= KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    /// Copies all of them to `out`, as those of this core. `now` is the same moment by both clocks.
    pub(super) fn copy(&self, worker: usize, out: &mut Vec<Recent>, now: (Instant, i64)) {
        let (now, now_ms) = now;
        out.extend(self.0.iter().rev().map(|record| {
            let since_end = now
                .saturating_duration_since(record.started())
                .saturating_sub(record.total());
            Recent {
                at_ms: now_ms - i64::try_from(since_end.as_millis()).unwrap_or(0),
                total: record.total(),
                worker,
                record: record.clone(),
            }
        }));
    }
}
