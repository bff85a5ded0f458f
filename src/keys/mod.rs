//! Memory keys and provider keys: one sealed file on disk, one immutable snapshot in memory.
//!
//! `server` opens a `KeyStore` and every worker reads from it through a `Reader`; `cli` changes the file through
//! `edit`. Memory keys lie in the file only as keyed hashes, provider keys only sealed once more inside the sealed
//! contents. A file that cannot be trusted whole is refused with its reason, and what was loaded before keeps
//! serving. Nothing here runs on a worker but the look-up.

mod codec;
mod contents;
mod digest;
mod edit;
mod editor;
mod entries;
mod form;
mod master;
mod models;
mod open;
mod seal;
mod seen;
mod snapshot;
mod store;
mod token;
mod watch;

pub use contents::{
    Contents, ContentsError, Grant, KeyRecord, KeyState, Limits, Period, StoredKey,
};
pub use edit::{
    EditError, check_init, edit, init, inspect, inspect_for_use, put, rekey, replace, reveal,
};
pub use editor::{Editor, KeyChange, NewKey, steers};
pub use entries::{Last4, TokenEntry, Tokens};
pub use form::{KeyForm, KeyWish, LimitsForm, LimitsPatch, Object, named, state_of};
pub use master::{MasterError, MasterKey, MasterSource};
pub use models::{ProviderNames, model_allowed};
pub use seal::{Header, SealError, Sealed};
pub use seen::has_shrunk;
pub use snapshot::{InTurn, ProviderKey, ProviderKeys, Snapshot};
pub use store::{Held, KeyFiles, KeyStore, Reader, Refusal, Reload, Status};
pub use token::{TokenError, check_imported, mint, told_id};
pub use watch::WatchGuard;

/// Seconds since 1970.
pub type UnixSeconds = i64;
