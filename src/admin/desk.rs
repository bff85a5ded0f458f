//! What the admin thread holds, and the one way in which it changes keys.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::access::Access;
use super::answer::Denial;
use super::blocking::Blocking;
use super::series::Series;
use crate::audit::{self, Who};
use crate::config::Config;
use crate::keys::{EditError, Editor, KeyRecord, KeyStore, Refusal, Reload, told_id};
use crate::net::Deadlines;
use crate::server::{Control, Guest};
use crate::worker::Worker;

/// Everything that answers are made from.
pub(super) struct Desk {
    pub(super) control: Control,
    pub(super) keys: KeyStore,
    pub(super) access: Access,
    pub(super) blocking: Blocking,
    pub(super) series: RefCell<Series>,
    pub(super) deadlines: Rc<Deadlines>,
    pub(super) started_at: i64,
    pub(super) guest: RefCell<Guest>,
}

impl Desk {
    /// The configuration as it runs.
    pub(super) fn config(&self) -> Arc<Config> {
        self.control.current().config
    }

    /// Whether another process serves by now.
    pub(super) fn handed_over(&self) -> bool {
        self.control.shared().successor.serves()
    }

    /// A core's state, for requests of the port's own.
    pub(super) fn worker(&self) -> Rc<Worker> {
        self.guest.borrow_mut().worker(&self.control)
    }

    /// The record of a key's id.
    pub(super) fn record(&self, id: &str) -> Result<Arc<KeyRecord>, Denial> {
        let snapshot = self.keys.current();
        let record = snapshot.record(id).cloned();
        record.ok_or_else(|| Denial::new(404, format!("no such key: {}", told_id(id))))
    }

    /// Changes the sealed file, writes down who did what, and lets every core have it before it is answered.
    pub(super) async fn edit<T: Send + 'static>(
        &self,
        who: Who,
        what: &'static str,
        change: impl FnOnce(&mut Editor<'_>) -> Result<T, EditError> + Send + 'static,
        about: impl FnOnce(&T) -> Vec<(&'static str, String)> + Send + 'static,
    ) -> Result<T, Denial> {
        let (store, dir) = (self.keys.clone(), self.config().dir.clone());
        let edited = move || {
            let result = store.edit(change)?;
            let about = about(&result);
            let about: Vec<(&str, &str)> = about
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            audit::append(&dir, &who, what, &about);
            // A file that is refused has been told in the log; what was asked for is on disk all the same.
            store.reload();
            Ok(result)
        };
        let result: Result<T, EditError> = self.blocking.run(edited).await?;
        Ok(result?)
    }

    /// Looks at the key snapshot.
    pub(super) async fn reload(&self) -> Result<Result<Reload, Refusal>, Denial> {
        let store = self.keys.clone();
        let looked = self.blocking.run(move || store.reload()).await?;
        Ok(match looked {
            Reload::Refused(refusal) => Err(refusal),
            other => Ok(other),
        })
    }
}
