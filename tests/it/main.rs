//! The router from outside: raw bytes in, raw bytes out, against a provider that records what it gets.

#![allow(unreachable_pub, reason = "nothing is public in a test binary")]

mod support;

mod http_cases;
