//! What is taken out: of answers, of the log, and of the turns that run.

use futures_channel::oneshot;

use super::{MemoryError, MemoryStore};
use crate::memory::jobs::Job;
use crate::memory::seal::VaultRef;
use crate::memory::words::Delete;

impl MemoryStore {
    /// Takes memories out of answers at once, and out of the log: durable when it returns, with how many they were. The
    /// file may hold their sealed bytes until it is rewritten, which only the vault's key can open.
    pub async fn delete(&self, vault: &VaultRef, which: Delete) -> Result<u64, MemoryError> {
        self.check_writable()?;
        let hot = match self.hot(vault).await {
            // Whatever it holds, and cannot show.
            Err(MemoryError::Unavailable(_)) if which == Delete::All => {
                let (reply, told) = oneshot::channel();
                self.core().jobs.push(Job::Clear(vault.clone(), reply));
                told.await.map_err(|_| MemoryError::Closed)??;
                self.turns().forget(vault.id());
                return Ok(0);
            }
            hot => hot?,
        };
        let one = match which {
            Delete::One(id) => Some(id),
            Delete::All | Delete::Session(_) => None,
        };
        let (reply, told) = oneshot::channel();
        self.core().jobs.push(Job::Delete(hot, which, reply));
        let written = told.await.map_err(|_| MemoryError::Closed)?;
        // Out of the index, so that no turn that begins now finds it; and out of those that run.
        match one {
            Some(id) => self.turns().forget_one(vault.id(), id),
            None => self.turns().forget(vault.id()),
        }
        written.durable.await.map_err(|_| MemoryError::Closed)??;
        Ok(written.result)
    }
}
