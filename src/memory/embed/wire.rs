//! One call to an embedding endpoint. The one door to the HTTP library that it takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use ureq::Agent;

use super::EmbeddingSettings;
use crate::depth;

/// A batch of 64 vectors of 4,096 numbers is 6 MB.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// Why there are no vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::memory) enum NoVectors {
    /// The endpoint does not take these texts; it may well take others.
    Refused(String),
    /// It is not there, not ours to use, or does not answer as it should.
    Failed(String),
}

/// Answers to a text that is too long or that the model cannot read: 500 is what llama.cpp says.
const REFUSALS: [u16; 4] = [400, 413, 422, 500];

pub(super) struct Endpoint {
    agent: Agent,
    url: String,
    settings: EmbeddingSettings,
}

#[derive(Serialize)]
struct Call<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    index: Option<usize>,
    embedding: Vec<f32>,
}

impl Endpoint {
    pub(super) fn new(settings: EmbeddingSettings) -> Self {
        let config = Agent::config_builder()
            // The one host that is configured, and no other.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent("memoryrouter")
            .build();
        Self {
            agent: config.new_agent(),
            url: format!("{}/embeddings", settings.base_url.trim_end_matches('/')),
            settings,
        }
    }

    /// A vector for each text, in their order.
    pub(super) fn ask(
        &self,
        texts: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Vec<f32>>, NoVectors> {
        let failed = |error: &dyn std::fmt::Display| NoVectors::Failed(error.to_string());
        let call = Call {
            model: &self.settings.model,
            input: texts,
            encoding_format: "float",
        };
        let body = sonic_rs::to_vec(&call).map_err(|error| failed(&error))?;
        let mut request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json");
        if let Some(key) = &self.settings.key {
            let bearer = [b"Bearer ", key.expose()].concat();
            request = request.header("authorization", bearer.as_slice());
        }
        let request = request.config().timeout_global(Some(timeout)).build();
        let mut response = request.send(&body[..]).map_err(|error| failed(&error))?;
        let status = response.status();
        if !status.is_success() {
            let reason = format!("it answered {status}");
            return Err(match REFUSALS.contains(&status.as_u16()) {
                true => NoVectors::Refused(reason),
                false => NoVectors::Failed(reason),
            });
        }
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let body = body.read_to_vec().map_err(|error| failed(&error))?;
        read(&body, texts.len()).ok_or_else(|| failed(&"its answer is not what was asked for"))
    }
}

/// The vectors of an answer to so many texts.
fn read(body: &[u8], count: usize) -> Option<Vec<Vec<f32>>> {
    if !depth::fits(body) {
        return None;
    }
    let answer: Answer = sonic_rs::from_slice(body).ok()?;
    if answer.data.len() != count {
        return None;
    }
    let mut vectors = vec![Vec::new(); count];
    for (place, Embedding { index, embedding }) in answer.data.into_iter().enumerate() {
        *vectors.get_mut(index.unwrap_or(place))? = embedding;
    }
    vectors
        .iter()
        .all(|vector| !vector.is_empty())
        .then_some(vectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_strictly() {
        for (body, count, expected) in [
            (
                r#"{"data":[{"embedding":[1,2.5]}]}"#,
                1,
                Some(vec![vec![1.0, 2.5]]),
            ),
            (
                r#"{"object":"list","data":[{"index":1,"embedding":[2]},{"index":0,"embedding":[1]}],"usage":{}}"#,
                2,
                Some(vec![vec![1.0], vec![2.0]]),
            ),
            (r#"{"data":[{"embedding":[1]}]}"#, 2, None),
            (r#"{"data":[{"index":7,"embedding":[1]}]}"#, 1, None),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[2]}]}"#,
                2,
                None,
            ),
            (r#"{"data":[{"embedding":[]}]}"#, 1, None),
            (r#"{"data":[{"embedding":"AAAA"}]}"#, 1, None),
            ("", 1, None),
            ("{}", 0, None),
        ] {
            assert_eq!(read(body.as_bytes(), count), expected, "{body}");
        }
    }
}
