//! Memory: what was said under a key, and what of it helps with what is said now.
//!
//! `words` names the things. The pure core has no clock and no files: `analyse` turns text into numbers, `index` and
//! `dense` hold one vault's numbers, `rank` orders a vault's memories by relevance, `select` chooses from them for one
//! request, `block` writes them down as quoted data. `turns` keeps what was recalled while an agent works on it.
//!
//! `store` is the handle on all vaults. Behind it, `vault` is one of them in RAM and `core` the table of those that are;
//! `log` is the file in which every row is sealed (`seal`, `row`) under its vault's own key. Workers touch only what is
//! in RAM: `loader` threads read, the `writer` thread writes what lies in the `queue`. `deletions` keeps what was said
//! before a deletion from being stored behind it. Where a model is configured, `embed` asks it for vectors and `revector`
//! gives them to memories.

mod change;
mod compact;
mod core;
mod deletions;
mod dense;
mod embed;
mod export;
mod jobs;
mod loader;
mod log;
mod queue;
mod revector;
mod row;
mod seal;
mod spool;
mod status;
mod store;
mod texthash;
mod vault;
mod writer;

pub mod analyse;
pub mod block;
pub mod index;
pub mod rank;
pub mod select;
pub mod turns;
pub mod words;

pub use self::core::{Added, MemorySettings};
pub use deletions::Moment;
pub use embed::EmbeddingSettings;
pub use export::Export;
pub use log::is_held;
pub use seal::VaultRef;
pub use status::{BOUNDS_MICROS, MemoryStatus, StoreState, Times};
pub use store::{Loaded, MemoryError, MemoryStore};
pub use words::{
    Browse, Cursor, Delete, Exported, MemoryId, NewMemory, PAGE_BYTES, Query, Recalled, Role,
    VaultStats, Window,
};
