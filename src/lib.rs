//! MemoryRouter: a self-hosted router between applications and LLM providers.
//!
//! The modules are declared in the order in which a request meets them: reading them so is walking one request. A
//! module imports only from those that stand lower in the layers that `tests/tidy.rs` holds.
//!
//! Tried and left out, measured as `load/compare` does: huge pages for the allocator (no less time, 14 MiB more of an
//! idle router); io_uring with a polling kernel thread (9 % more CPU, panics on a full queue) or deferred task running
//! (7 % more on one core, level on two); an unpinned worker, another congestion control, other read buffers (no
//! difference); optimization level 2 (1 to 2 % more); splice(2) for bodies (3.4 times a copy loop); zero-copy sends. A
//! third less of a future and of what is copied saved 1 %; as much as one thread that woke sixty times a second. Nearly
//! four fifths of a request's CPU are the kernel's: two sends are 58 % of all, with the receiving side's TCP in them, two
//! receives 9 %. A third of that is a try before the wait, and the flag against it is out of the runtime's reach; an
//! eighth of an event is its acknowledgement, which is not delayed, because a provider that gathers small writes would
//! pause with it.

#![forbid(unsafe_code)]

// A connection comes in.
pub mod server;

pub mod connection;

// One request, and the stages it walks through.
pub mod exchange;

pub mod http;

pub mod auth;

pub mod route;

pub mod provider;

pub mod memory;

pub mod upstream;

pub mod relay;

pub mod record;

pub mod usage;

// What the stages stand on.
pub mod worker;

pub mod metrics;

pub mod traces;

pub mod plan;

pub mod limits;

pub mod keys;

pub mod catalogue;

pub mod prices;

pub mod respond;

pub mod net;

// Words that all of them use.
pub mod error;

pub mod secret;

pub mod files;

pub mod clock;

pub mod depth;

// Around the request: how the router is set up, run and tried out.
pub mod config;

pub mod admin;

pub mod audit;

pub mod cli;

pub mod log;

pub mod demo;
