//! The last exchanges of a core, for whoever looks for one of them. No bodies, no credentials: what a `Record` holds.

use std::collections::VecDeque;
use std::time::Duration;

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
pub(super) struct Ring(VecDeque<Recent>);

impl Ring {
    pub(super) fn push(&mut self, record: Record, at_ms: i64) {
        if self.0.len() >= KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Recent {
            at_ms,
            total: record.total(),
            worker: 0,
            record,
        });
    }

    /// Copies all of them to `out`, as those of this core.
    pub(super) fn copy(&self, worker: usize, out: &mut Vec<Recent>) {
        let recent = self.0.iter().rev().cloned();
        out.extend(recent.map(|recent| Recent { worker, ..recent }));
    }
}
