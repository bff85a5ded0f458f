//! MemoryRouter: a self-hosted router between applications and LLM providers.
//!
//! The modules are declared in the order in which a request meets them.

pub mod auth;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod error;
pub mod http;
pub mod log;
pub mod net;
pub mod provider;
pub mod relay;
pub mod respond;
pub mod route;
pub mod secret;
pub mod upstream;
