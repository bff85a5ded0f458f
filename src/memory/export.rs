//! A vault on its way out, oldest first, a page at a time: a large one is never held as a whole, and others of the core
//! get their turn between two pages.

use super::seal::VaultRef;
use super::store::{MemoryError, MemoryStore};
use super::words::{Exported, MemoryId};

/// Memories of one page, however short they are.
const PAGE: usize = 500;

/// What the vault held when it was asked, and is still to come.
pub struct Export {
    store: MemoryStore,
    vault: VaultRef,
    left: std::vec::IntoIter<MemoryId>,
}

impl Export {
    /// The next page; an empty one at the end.
    pub async fn page(&mut self) -> Result<Vec<Exported>, MemoryError> {
        let hot = self.store.hot(&self.vault).await?;
        let page = hot.read().page(&mut self.left, PAGE);
        Ok(page)
    }
}

impl MemoryStore {
    /// All that a vault holds now; what is deleted before its page is read is not in it.
    pub async fn export(&self, vault: &VaultRef) -> Result<Export, MemoryError> {
        let all = self.hot(vault).await?.read().in_order();
        Ok(Export {
            store: self.clone(),
            vault: vault.clone(),
            left: all.into_iter(),
        })
    }
}
