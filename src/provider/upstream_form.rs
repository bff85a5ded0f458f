//! How a provider is addressed and paid: the credential's form and the request target, by kind and dialect.
//!
//! `exchange` asks when the provider is chosen. Host and base path come from the configuration alone; of the caller's
//! words only a known endpoint's path, a checked model name and a cleaned query reach the target.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use super::anthropic::OAUTH_TOKEN_PREFIX;
use super::operation::{Operation, Task};
use super::routing::Choice;
use super::{Dialect, Kind};
use crate::secret::Secret;

/// The one header that carries the provider key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialForm {
    /// `Authorization: Bearer …`
    Bearer,
    /// `x-api-key: …`
    XApiKey,
    /// `x-goog-api-key: …`
    XGoogApiKey,
    /// `api-key: …`
    ApiKey,
    /// None: the provider is not paid.
    None,
}

impl CredentialForm {
    /// Whether a request needs a provider key.
    pub fn needs_key(self) -> bool {
        self != Self::None
    }

    /// The header's name, in lower case, and what stands before the key in its value.
    pub fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Bearer => Some(("authorization", "Bearer ")),
            Self::XApiKey => Some(("x-api-key", "")),
            Self::XGoogApiKey => Some(("x-goog-api-key", "")),
            Self::ApiKey => Some(("api-key", "")),
            Self::None => None,
        }
    }
}

/// The form in which a provider of `kind` takes `key` on paths of `dialect`.
pub fn credential_form(kind: Kind, dialect: Dialect, key: Option<&Secret>) -> CredentialForm {
    let oauth = || key.is_some_and(|key| key.expose().starts_with(OAUTH_TOKEN_PREFIX));
    match (kind, dialect) {
        (Kind::Keyless, _) => CredentialForm::None,
        (Kind::Azure, _) => CredentialForm::ApiKey,
        (Kind::Anthropic, Dialect::Anthropic) if !oauth() => CredentialForm::XApiKey,
        (Kind::Google, Dialect::Gemini) => CredentialForm::XGoogApiKey,
        _ => CredentialForm::Bearer,
    }
}

/// What Azure needs besides a base URL.
#[derive(Clone, Copy, Debug)]
pub struct AzureForm<'a> {
    /// Model → deployment.
    pub deployments: &'a [(String, String)],
    /// The deployment of every model that is not among them; without it the model's own name is taken.
    pub deployment: Option<&'a str>,
    /// The `api-version` parameter; empty for none.
    pub api_version: &'a str,
}

/// A provider as the configuration addresses it.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// Decides the path's form.
    pub kind: Kind,
    /// The base URL's path, such as `/v1` or `/openai/v1`; a trailing slash does not count.
    pub base_path: &'a str,
    /// For kind Azure.
    pub azure: Option<AzureForm<'a>>,
}

/// A request target: path and query.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// Of the configuration.
    pub base: &'a str,
    /// What follows it; of the caller's words too.
    pub rest: Cow<'a, str>,
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.base, self.rest)
    }
}

impl<'a> Address<'a> {
    /// The request target of an operation. `query` is cleaned already.
    pub fn target(
        &self,
        operation: &Operation<'a>,
        choice: &Choice<'_>,
        query: Option<&str>,
    ) -> Target<'a> {
        let base = self.base_path.trim_end_matches('/');
        let path = operation.path_without(choice.prefix);
        let version = operation.version;
        let mut target = match (self.kind, operation.dialect) {
            // What nearly all ask for is put together where it is written.
            (Kind::OpenAi | Kind::Keyless, Dialect::OpenAi) if query.is_none() => {
                return Target { base, rest: path };
            }
            (Kind::Azure, _) => self.azure_target(base, operation, choice),
            (_, Dialect::Gemini) => [without_version(base), version, &path].concat(),
            (Kind::Anthropic, _) | (_, Dialect::Anthropic) => {
                [without_version(base), "/v1", &path].concat()
            }
            (Kind::Google, Dialect::OpenAi) => {
                let base = base.strip_suffix("/openai").unwrap_or(base);
                [without_version(base), "/v1beta/openai", &path].concat()
            }
            (Kind::OpenAi | Kind::Keyless, Dialect::OpenAi) => [base, &*path].concat(),
        };
        let query = match self.azure {
            Some(azure) if self.kind == Kind::Azure => azure_query(azure.api_version, query),
            _ => query.map(Cow::Borrowed),
        };
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            target.push('?');
            target.push_str(&query);
        }
        if target.is_empty() {
            target.push('/');
        }
        Target {
            base: "",
            rest: Cow::Owned(target),
        }
    }

    fn azure_target(&self, base: &str, operation: &Operation<'_>, choice: &Choice<'_>) -> String {
        let base = base.strip_suffix("/openai").unwrap_or(base);
        // The responses API alone stands beside the deployments and reads the model from the body.
        if operation.task == Task::Responses {
            return [base, "/openai", operation.path].concat();
        }
        let model = choice.model_sent;
        let deployment = self.azure.and_then(|azure| {
            let own = azure
                .deployments
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(model));
            own.map(|(_, deployment)| deployment.as_str())
                .or(azure.deployment)
        });
        let mut target = [base, "/openai/deployments/"].concat();
        push_segment(&mut target, deployment.unwrap_or(model));
        target.push_str(operation.path);
        target
    }
}

/// A base path without the version that the operation brings along: people paste base URLs with and without.
fn without_version(base: &str) -> &str {
    base.strip_suffix("/v1")
        .or_else(|| base.strip_suffix("/v1beta"))
        .unwrap_or(base)
}

/// The configured `api-version` replaces the caller's.
fn azure_query<'q>(api_version: &str, query: Option<&'q str>) -> Option<Cow<'q, str>> {
    if api_version.is_empty() {
        return query.map(Cow::Borrowed);
    }
    let mut result = format!("api-version={api_version}");
    let kept = query.unwrap_or_default().split('&');
    for piece in kept.filter(|piece| !piece.is_empty() && !piece.starts_with("api-version=")) {
        result.push('&');
        result.push_str(piece);
    }
    Some(Cow::Owned(result))
}

/// Appends one path segment, percent-encoded. `.` and `..` cannot be encoded away; a dot is encoded all the same, so
/// that at least nothing between resolves them.
fn push_segment(target: &mut String, segment: &str) {
    let dots = matches!(segment, "." | "..");
    for byte in segment.bytes() {
        match byte {
            b'.' if dots => target.push_str("%2E"),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                target.push(char::from(byte))
            }
            // Writing to a `String` cannot fail.
            _ => drop(write!(target, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests;
