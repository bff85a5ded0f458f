//! The router from outside: raw bytes in, raw bytes out, against a provider that records what it gets.

#![allow(unreachable_pub, reason = "nothing is public in a test binary")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may end where it stands"
)]

mod support;

mod account;
mod admin;
mod agents;
mod answers;
mod broken;
mod bytes;
mod checked;
mod commands;
mod credentials;
mod deployed;
mod durable;
mod errors;
mod fallback;
mod forgotten;
mod forms;
mod handover;
mod http_cases;
mod isolation;
mod key_limits;
mod limits;
mod local;
mod meaning;
mod memory;
mod metrics;
mod mishaps;
mod nesting;
mod operated;
mod operator_port;
mod overview;
mod pool;
mod process;
mod recall;
mod relatives;
mod remembered;
mod restart;
mod routing;
mod slow;
mod snapshot;
mod soak;
mod spread;
mod storms;
mod stream_usage;
mod streaming;
mod tenants;
mod timing;
mod tls;
mod traces;
mod uncounted;
mod usage;
mod vault;
