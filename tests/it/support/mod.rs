//! What the tests stand on: a scripted provider, a router in this process, a caller that sees raw bytes.
//!
//! All three use plain threads and their own parser, so that they share no mistake with the code under test.

mod caller;
mod message;
pub mod program;
mod provider;
mod router;

use std::time::{Duration, Instant};

pub use caller::{Caller, Reply, request};
pub use message::unchunk;
pub use provider::{Gate, Provider, Then, json};
pub use router::{Router, Setup};

/// How long a test waits for what must happen: long, so that a loaded machine is not a failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The body of a plain chat request.
pub const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;

/// Waits until `done` says so; fails with `what` when it does not.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether `needle` stands in `haystack`.
pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}
