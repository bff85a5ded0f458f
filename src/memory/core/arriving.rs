//! The end of a load: the vault is here, with what was said to it meanwhile; or it is not, and that goes on waiting.
//!
//! What is pending is kept while the log cannot be read, which may be as long as a disk is full. Whoever asks for the
//! vault next has it loaded again, and so does `writer`, every second that the log is open.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Coming, Core, Pending, Slot, text_bytes};
use crate::memory::MemoryError;
use crate::memory::deletions::Said;
use crate::memory::jobs::Job;
use crate::memory::seal::VaultRef;
use crate::memory::vault::{By, Hot};

impl Core {
    /// A load has ended: everybody who waited is told.
    pub(in crate::memory) fn arrived(
        &self,
        vault: &VaultRef,
        loaded: Result<Arc<Hot>, MemoryError>,
    ) {
        match loaded {
            Ok(hot) => self.is_here(vault, &hot),
            Err(_) if self.queue.is_closed() => self.is_elsewhere(vault),
            Err(error) => self.failed(vault, &error),
        }
    }

    /// Who waited gets the vault, after what was said to it meanwhile was taken in.
    fn is_here(&self, vault: &VaultRef, hot: &Arc<Hot>) {
        loop {
            let Some(mut slot) = self.vaults.get_mut(&**vault.id()) else {
                return;
            };
            let Slot::Coming(coming) = &mut *slot else {
                return;
            };
            let pending = std::mem::take(&mut coming.pending);
            if !pending.is_empty() {
                drop(slot);
                self.add_pending(hot, pending);
                continue;
            }
            let waiters = std::mem::take(&mut coming.waiters);
            let takes_in = coming.takes_in;
            self.recount(hot, hot.read().ram_bytes());
            // Counts as just used, or it could be the first to go.
            let _ = self.used(hot, vault);
            *slot = Slot::Hot(hot.clone());
            drop(slot);
            if takes_in {
                self.jobs.push(Job::TakeIn(vault.id().clone()));
            }
            for waiter in waiters {
                let _ = waiter.send(Ok(hot.clone()));
            }
            return;
        }
    }

    /// Another process has the log: what was said is left for it.
    fn is_elsewhere(&self, vault: &VaultRef) {
        if let Some((_, Slot::Coming(coming))) = self.vaults.remove(&**vault.id()) {
            self.add_pending(&Self::stand_in(vault), coming.pending);
            for waiter in coming.waiters {
                let _ = waiter.send(Err(MemoryError::Closed));
            }
        }
    }

    /// Nobody waits for a log that cannot be read; what was said stays for the next load.
    fn failed(&self, vault: &VaultRef, error: &MemoryError) {
        let mut waiters = Vec::new();
        // Under the table's lock, so that nothing is said to a vault that is just being given up.
        self.vaults.remove_if_mut(&**vault.id(), |_, slot| {
            let Slot::Coming(coming) = slot else {
                return false;
            };
            waiters = std::mem::take(&mut coming.waiters);
            let is_idle = coming.pending.is_empty();
            if !is_idle {
                coming.parked = Some(vault.clone());
                self.any_parked.store(true, Ordering::Release);
            }
            is_idle
        });
        for waiter in waiters {
            let _ = waiter.send(Err(error.clone()));
        }
    }

    /// Loads those again whose load has failed, for what is pending; once the log is closed, that goes to the spool.
    pub(in crate::memory) fn load_parked(&self) {
        if !self.any_parked.swap(false, Ordering::AcqRel) {
            return;
        }
        for mut slot in self.vaults.iter_mut() {
            if let Slot::Coming(coming) = slot.value_mut()
                && let Some(vault) = coming.parked.take()
            {
                self.jobs.push(Job::Load(vault));
            }
        }
    }

    /// Keeps a vault that cannot be loaded from being loaded, until a load is pushed for it; what waits for it is
    /// dropped. False for one that is here or on its way.
    pub(in crate::memory) fn hold(&self, vault: &VaultRef) -> bool {
        let mut slot = self.vaults.entry(vault.id().clone()).or_insert_with(|| {
            let parked = Some(vault.clone());
            Slot::Coming(Coming {
                parked,
                ..Coming::default()
            })
        });
        let Slot::Coming(coming) = slot.value_mut() else {
            return false;
        };
        let held = coming.parked.take().is_some();
        if held {
            for (memories, _) in std::mem::take(&mut coming.pending) {
                drop(self.queue.arriving(text_bytes(&memories)));
            }
        }
        held
    }

    fn add_pending(&self, hot: &Hot, pending: Vec<Pending>) {
        for (memories, begun) in pending {
            let _arriving = self.queue.arriving(text_bytes(&memories));
            let new = self.without_twins(hot, memories, By::Turn);
            self.add_new(hot, new, Vec::new(), |_| Some(Said::Since(begun)), None);
        }
    }
}
