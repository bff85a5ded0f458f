//! What the tests stand on: a scripted provider, a router in this process, a caller that sees raw bytes.
//!
//! All three use plain threads and their own parser, so that they share no mistake with the code under test.

mod caller;
pub mod dialogue;
mod message;
pub mod operator;
pub mod program;
mod provider;
mod router;

use std::time::{Duration, Instant};

pub use caller::{Caller, Reply, request};
pub use message::{doubtless, unchunk};
pub use provider::{Gate, Provider, Then, json};
pub use router::{Router, Setup};

/// How long a test waits for what must happen: long, so that a loaded machine is not a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

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

/// How often something is done: a small number in everyday runs, what the variable says in a long one.
pub fn count(variable: &str, everyday: usize) -> usize {
    let asked = std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok());
    asked.unwrap_or(everyday)
}

/// Thousands of connections have two ends here.
pub fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// A small generator of pseudo-random numbers, for interleavings that a seed repeats.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}
