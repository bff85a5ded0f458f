//! The file that is written, what is on its way there, and how it is doing.

use super::FILE_NAME;
use crate::usage::Status;
use crate::usage::ledger::{Ledger, guarded};
use crate::usage::recorder::Tally;

/// The file and what is on its way there.
#[derive(Default)]
pub(in crate::usage) struct State {
    pub(in crate::usage) ledger: Option<Ledger>,
    pub(in crate::usage) pending: Tally,
    pub(in crate::usage) status: Status,
    /// Another process has the file, before this one or behind it; it can be read all the same.
    pub(in crate::usage) elsewhere: bool,
    /// A batch whose commit failed, by its id.
    pub(in crate::usage) doubtful: Option<(u128, Tally)>,
}

impl State {
    /// Told once for each reason.
    pub(super) fn fails(&mut self, error: &dyn std::fmt::Display) {
        if let Some(reason) = self.news(error) {
            tracing::error!(
                reason,
                file = FILE_NAME,
                "the usage store cannot be used; counts wait in memory"
            );
        }
    }

    pub(super) fn heals(&mut self) {
        if self.status.failed.take().is_some() {
            tracing::info!("the usage store is written again");
        }
    }

    /// The reason, if it is another than before.
    pub(super) fn news(&mut self, error: &dyn std::fmt::Display) -> Option<String> {
        let reason = error.to_string();
        self.let_go();
        let new = self.status.failed.as_ref() != Some(&reason);
        new.then(|| self.status.failed.insert(reason).clone())
    }

    /// Closing writes, and so can fail like anything else that does; there is nobody left to tell.
    pub(super) fn let_go(&mut self) {
        let ledger = self.ledger.take();
        let _ = guarded(|| {
            drop(ledger);
            Ok(())
        });
    }
}
