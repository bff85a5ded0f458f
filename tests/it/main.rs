//! The router from outside: raw bytes in, raw bytes out, against a provider that records what it gets.

#![allow(unreachable_pub, reason = "nothing is public in a test binary")]

mod support;

mod broken;
mod bytes;
mod credentials;
mod errors;
mod fallback;
mod forms;
mod http_cases;
mod limits;
mod local;
mod pool;
mod routing;
mod snapshot;
mod streaming;
mod tenants;
mod tls;
