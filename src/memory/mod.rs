//! Memory: what was said under a key, and what of it helps with what is said now.
//!
//! `words` names the things. The pure core has no clock and no files: `analyse` turns text into numbers, `index` and
//! `dense` hold one vault's numbers, `rank` orders a vault's memories by relevance, `select` chooses from them for one request.

pub mod analyse;
mod dense;
pub mod index;
pub mod rank;
pub mod select;
pub mod words;

pub use words::{MemoryId, NewMemory, Query, Recalled, Role, Window};
