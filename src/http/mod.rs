//! HTTP/1.1 as pure functions over bytes: heads, framing, chunks, and what goes back out.
//!
//! `connection`, `exchange`, `relay` and the demo provider call in here. Nothing does IO or keeps more than the few
//! numbers of a scanner, and a trailer. Parsing is strict: where two readings of a message are possible, the message is
//! refused, because the next hop may take the other one.

pub mod chunk;
pub mod encode;
pub mod field;
pub mod framing;
pub mod head;
mod target;
pub mod token;

pub use chunk::{ChunkError, ChunkScanner};
pub use field::{Field, Name, NameSet};
pub use framing::{Framing, Track};
pub use head::{Head, HeadError, HeadLimits, Method, RequestLine, StatusLine, Version};
