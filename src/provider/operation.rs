//! What a proxied request asks of a provider: the dialect, the task, and the path behind the version segment.
//!
//! `route` makes operations out of paths; `upstream_form` makes upstream targets out of them.

use std::borrow::Cow;
use std::ops::Range;

use super::Dialect;
use super::query::hex_value;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// `/chat/completions`
    ChatCompletions,
    /// `/completions`
    Completions,
    /// `/embeddings`
    Embeddings,
    /// `/responses`
    Responses,
    /// `/moderations`
    Moderations,
    /// `/audio/…`
    Audio,
    /// `/images/…`
    Images,
    /// `/messages`
    Messages,
    /// `/messages/count_tokens`
    CountTokens,
    /// `:generateContent` and `:streamGenerateContent`
    Generate {
        /// The path asks for a stream; in the other dialects the body does.
        stream: bool,
    },
    /// `:countTokens`
    GeminiCountTokens,
    /// `:embedContent`
    GeminiEmbed,
    /// `:batchEmbedContents`
    GeminiBatchEmbed,
}

impl Task {
    /// Whether OpenAI takes it without a model, and has one of its own for it; `prompt` says that the body names a prompt
    /// that is kept there, with its model.
    pub fn has_default_model(self, prompt: bool) -> bool {
        match self {
            Self::Moderations | Self::Images => true,
            Self::Responses => prompt,
            _ => false,
        }
    }

    /// The endpoint's template, for logs and metrics: never a caller's own path.
    pub fn template(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
            Self::Moderations => "/v1/moderations",
            Self::Audio => "/v1/audio",
            Self::Images => "/v1/images",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
            Self::Generate { stream: false } => "/v1beta/models:generateContent",
            Self::Generate { stream: true } => "/v1beta/models:streamGenerateContent",
            Self::GeminiCountTokens => "/v1beta/models:countTokens",
            Self::GeminiEmbed => "/v1beta/models:embedContent",
            Self::GeminiBatchEmbed => "/v1beta/models:batchEmbedContents",
        }
    }

    /// It asks for embeddings, which some providers (Google) do not count.
    pub fn embeds(self) -> bool {
        matches!(
            self,
            Self::Embeddings | Self::GeminiEmbed | Self::GeminiBatchEmbed
        )
    }

    /// It asks a model to say something, and every token of that is paid for.
    pub fn generates(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions
                | Self::Completions
                | Self::Responses
                | Self::Messages
                | Self::Generate { .. }
        )
    }

    /// Providers take money for it.
    pub fn is_billed(self) -> bool {
        let free = [
            Self::Moderations,
            Self::CountTokens,
            Self::GeminiCountTokens,
        ];
        !free.contains(&self)
    }

    /// The body may be a form instead of JSON, and need not state a model.
    pub fn takes_form(self) -> bool {
        matches!(self, Self::Audio | Self::Images)
    }
}

/// One proxied request's path, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// The wire format.
    pub dialect: Dialect,
    /// What is asked for.
    pub task: Task,
    /// `/v1` or `/v1beta`, as the caller has it nearest to `path`; `/v1` if nowhere, on Gemini's paths `/v1beta`.
    pub version: &'static str,
    /// The path behind the version, as the caller wrote it, without a trailing slash.
    pub path: &'a str,
    /// The model that a Gemini path names.
    pub model: Option<PathModel<'a>>,
}

/// A model inside a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathModel<'a> {
    /// Where it stands in the operation's path.
    pub range: Range<usize>,
    /// Its name, decoded. Only letters, digits and `-._~:@+/`, no empty or dotted segment: it can stand in a path
    /// again without changing what the path means.
    pub name: Cow<'a, str>,
}

impl<'a> Operation<'a> {
    /// Reads `/models/M:method`. Slashes and colons may come percent-encoded.
    pub(crate) fn gemini(version: &'static str, path: &'a str) -> Option<Self> {
        const ROOTS: [&str; 3] = ["/models/", "/models%2F", "/models%2f"];
        let start = ROOTS.iter().find(|root| path.starts_with(**root))?.len();
        let (model_len, method) = split_method(&path[start..])?;
        let range = start..start + model_len;
        let name = decode_model(&path[range.clone()])?;
        Some(Self {
            dialect: Dialect::Gemini,
            task: gemini_task(method)?,
            version,
            path,
            model: Some(PathModel { range, name }),
        })
    }

    /// The path with `prefix` taken off its model; the rest is as the caller wrote it.
    pub(crate) fn path_without(&self, prefix: &str) -> Cow<'a, str> {
        match &self.model {
            Some(model) if !prefix.is_empty() && model.name.starts_with(prefix) => {
                let raw = &self.path[model.range.clone()];
                let cut = raw_len_of_prefix(raw, prefix.len());
                let (head, tail) = self.path.split_at(model.range.start);
                Cow::Owned([head, &tail[cut..]].concat())
            }
            _ => Cow::Borrowed(self.path),
        }
    }
}

fn gemini_task(method: &str) -> Option<Task> {
    Some(match method {
        "generateContent" => Task::Generate { stream: false },
        "streamGenerateContent" => Task::Generate { stream: true },
        "countTokens" => Task::GeminiCountTokens,
        "embedContent" => Task::GeminiEmbed,
        "batchEmbedContents" => Task::GeminiBatchEmbed,
        _ => return None,
    })
}

/// Splits `M:method` at its last colon, because a model's name may hold one itself.
fn split_method(text: &str) -> Option<(usize, &str)> {
    ["%3A", "%3a", ":"]
        .iter()
        .filter_map(|colon| text.rfind(colon).map(|at| (at, &text[at + colon.len()..])))
        .max_by_key(|(at, _)| *at)
}

/// Decodes a model's name; `None` if it holds anything that could make the path mean something else.
fn decode_model(raw: &str) -> Option<Cow<'_, str>> {
    let name = if raw.contains('%') {
        let mut decoded = String::with_capacity(raw.len());
        let mut rest = raw.as_bytes();
        while let [first, behind @ ..] = rest {
            let (byte, behind) = match (first, behind) {
                (b'%', [high, low, behind @ ..]) => {
                    (hex_value(*high)? << 4 | hex_value(*low)?, behind)
                }
                _ => (*first, behind),
            };
            decoded.push(char::from(byte));
            rest = behind;
        }
        Cow::Owned(decoded)
    } else {
        Cow::Borrowed(raw)
    };
    let safe = |c: char| c.is_ascii_alphanumeric() || "-._~:@+/".contains(c);
    let plain = |segment: &str| !matches!(segment, "" | "." | "..");
    (name.chars().all(safe) && name.split('/').all(plain)).then_some(name)
}

/// How many bytes of a percent-encoded text spell its first `len` bytes.
fn raw_len_of_prefix(raw: &str, len: usize) -> usize {
    let bytes = raw.as_bytes();
    (0..len)
        .fold(0, |at, _| {
            at + if bytes.get(at) == Some(&b'%') { 3 } else { 1 }
        })
        .min(raw.len())
}

#[cfg(test)]
mod tests;
