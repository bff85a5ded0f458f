//! MemoryRouter: a self-hosted router between applications and LLM providers.
//!
//! The modules are declared in the order in which a request meets them.

pub mod provider;
pub mod secret;
