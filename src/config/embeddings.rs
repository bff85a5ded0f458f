//! `[memory.embeddings]`: where vectors for memory come from, if anywhere.

use std::time::Duration;

use super::base_url::BaseUrl;
use super::reader::{Section, parsed};
use super::units::duration;

/// An endpoint that speaks OpenAI's `/v1/embeddings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embeddings {
    /// With its version.
    pub base_url: BaseUrl,
    /// As the endpoint knows it.
    pub model: String,
    /// The environment variable that holds the endpoint's key.
    pub key_env: Option<String>,
    /// How long a request waits for its query's vector; then it goes by words alone.
    pub deadline: Duration,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Embeddings> {
    let url = |text: &str| BaseUrl::parse(text).map_err(|error| error.to_string());
    let named = |text: &str| match text.trim() {
        "" => Err("expected a name".to_owned()),
        name => Ok(name.to_owned()),
    };
    let base_url = section.optional("base_url", parsed(url));
    let model = section.optional("model", parsed(named));
    let key_env = section.optional("key_env", parsed(named));
    // A local model answers in a few milliseconds; what nobody notices before an answer of seconds.
    let deadline = section.value(
        "deadline",
        Duration::from_millis(50),
        duration(Duration::from_millis(1), Duration::from_secs(5)),
    );
    if base_url.is_none() || model.is_none() {
        section.wrong("needs both `base_url` and `model`");
    }
    Some(Embeddings {
        base_url: base_url?,
        model: model?,
        key_env,
        deadline,
    })
}
