//! What differs between LLM vendors, as pure functions over bytes: wire dialects, credential forms, where a
//! request's model and texts stand, and how a body is edited without being re-written.
//!
//! `exchange` calls in here, in this order: `coding` opens a compressed body, `body` (JSON) or `multipart` finds the
//! model and the router's own fields, `routing` picks the provider, `upstream_form` says how it is addressed and
//! paid, `splice` makes the bytes that leave. Nothing here does IO or keeps state.

pub mod answer;
mod anthropic;
pub mod body;
pub mod coding;
pub mod expected;
mod gemini;
mod json;
pub mod lossy;
pub mod multipart;
mod openai;
pub mod operation;
pub mod pattern;
pub mod query;
pub mod routing;
pub mod splice;
pub mod stream_usage;
pub mod upstream_form;

/// A wire format that applications speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's `/v1/…` endpoints, and everyone compatible with them.
    OpenAi,
    /// Anthropic's `/v1/messages`.
    Anthropic,
    /// Google's `/v1beta/models/M:method`.
    Gemini,
}

/// How a provider is addressed and paid: decides credential form and upstream path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// OpenAI-compatible: `Authorization: Bearer`.
    OpenAi,
    /// Anthropic: `x-api-key` on its own dialect, `Bearer` on its OpenAI-compatible endpoint.
    Anthropic,
    /// Google: `x-goog-api-key` on its own dialect, `Bearer` on its OpenAI-compatible endpoint.
    Google,
    /// Azure OpenAI: `api-key`, deployments and an `api-version`.
    Azure,
    /// No credential at all (Ollama and other local engines).
    Keyless,
}
