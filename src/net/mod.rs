//! The runtime's door: all that touches monoio and rustls streams stands here.
//!
//! The crates below have had no release since 2024, so the rest of the product sees only these types: a thread's
//! runtime, listeners, a connection split into a `Reader` and a `Writer`, and deadlines.
//!
//! Two rules hold everywhere above this module and make it safe to use:
//! - An operation in flight is never dropped. A read that a timeout drops loses bytes, and a dropped TLS operation
//!   panics the next one. What must end early is ended by `shutdown(2)` on its descriptor (`Hangup`), after which
//!   the operation completes by itself.
//! - A read is in flight at most once per connection, whoever waits for it (`Reader`).

mod acknowledged;
mod buffers;
mod deadline;
mod listener;
mod reader;
mod runtime;
mod stream;
mod tls;

pub use buffers::{buffer, recycle, trim};
pub use deadline::{Deadline, Deadlines, Side};
pub use listener::{Accepted, BoundAddr, BoundListener, Listener, bind_patiently, is_deserted};
pub use reader::{Fill, Reader};
pub use runtime::{
    Isolated, choose_driver, driver_name, is_out_of_descriptors, isolate, lacks_descriptors,
    out_of_descriptors, pin_to_core, run, sleep, spawn, within,
};
pub use stream::{Hangup, Stream, Writer, connect, pair};
pub use tls::{
    TlsAcceptor, TlsConnector, TlsFileError, ca_file_roots, connect_pinned, system_roots,
};
