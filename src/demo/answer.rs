//! What the demo provider answers, as a pure function of the request: path, query, body and the time.
//!
//! `demo` does the HTTP around it. The three dialects' files build the bodies; here is what they share: which
//! endpoint is meant, what the echo says, and how it counts tokens.

use sonic_rs::{JsonContainerTrait as _, JsonValueTrait as _, Value, json};

use super::{anthropic, gemini, openai};
use crate::depth;
use crate::memory::block;

/// The one model.
pub const MODEL: &str = "echo";

/// An answer before it is framed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content: Content,
}

/// Its content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// One JSON document.
    Json(String),
    /// Events of a stream, each with its empty line, to be sent one by one.
    Events(Vec<String>),
}

impl Reply {
    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self {
            status,
            content: Content::Json(text(value)),
        }
    }

    pub(super) fn events(events: Vec<String>) -> Self {
        Self {
            status: 200,
            content: Content::Events(events),
        }
    }
}

/// A value as JSON text.
pub(super) fn text(value: &Value) -> String {
    // A value without foreign types always has a text.
    sonic_rs::to_string(value).unwrap_or_default()
}

/// An event without a name.
pub(super) fn data(value: &Value) -> String {
    format!("data: {}\n\n", text(value))
}

/// An event whose name is its `type`.
pub(super) fn named(value: &Value) -> String {
    format!(
        "event: {}\ndata: {}\n\n",
        value["type"].as_str().unwrap_or_default(),
        text(value)
    )
}

/// Answers a POST.
pub(super) fn answer(path: &str, query: &str, body: &[u8], now: i64) -> Reply {
    let request = depth::fits(body).then(|| sonic_rs::from_slice::<Value>(body));
    let Some(Ok(request)) = request else {
        return Reply::json(
            400,
            &json!({"error": {"message": "not JSON", "type": "invalid_request_error"}}),
        );
    };
    if let Some(method) = path.split_once("/models/").map(|(_, rest)| rest) {
        return gemini::answer(method, query, &request);
    }
    if request["model"]
        .as_str()
        .is_some_and(|model| model != MODEL)
    {
        let message = format!("the demo provider has one model: {MODEL}");
        return Reply::json(
            404,
            &json!({"error": {"message": message, "type": "invalid_request_error", "code": "model_not_found"}}),
        );
    }
    match path {
        "/v1/chat/completions" => openai::chat(&request, now),
        "/v1/completions" => openai::completions(&request, now),
        "/v1/responses" => openai::responses(&request, now),
        "/v1/embeddings" => openai::embeddings(&request),
        "/v1/moderations" => openai::moderations(&request),
        "/v1/messages" => anthropic::messages(&request),
        "/v1/messages/count_tokens" => anthropic::count_tokens(&request),
        _ => not_found(path),
    }
}

/// The answer to everything else.
pub(super) fn not_found(path: &str) -> Reply {
    let message = format!("the demo provider has no {path}");
    Reply::json(
        404,
        &json!({"error": {"message": message, "type": "invalid_request_error", "code": null}}),
    )
}

/// What stands before the message in an answer.
const YOU_SAID: &str = "You said: ";

/// What it says to the newest user message: what users said before, as far as the router recalled it, then the message
/// itself. Of its own answers only the echo counts, or each would hold all that were before it.
pub(super) fn echo(said: &str) -> String {
    let recalled = block::contents(said);
    let said = block::cut(said);
    let said = said.trim();
    let mut remembered: Vec<&str> = Vec::new();
    for (role, text) in &recalled {
        // Of a statement and its echo, memory gives the later one.
        let told = match role.as_str() {
            "user" => Some(text.as_str()),
            _ => text.rsplit_once(YOU_SAID).map(|(_, told)| told),
        };
        let new = told.filter(|told| *told != said && !remembered.contains(told));
        remembered.extend(new);
    }
    let echo = match said {
        "" => "You said nothing.".into(),
        said => format!("{YOU_SAID}{said}"),
    };
    match remembered.as_slice() {
        [] => echo,
        texts => format!("I remember: {}\n{echo}", texts.join(" | ")),
    }
}

/// The text of the newest message of `role`, whose content is a string or parts that may hold a `text`.
pub(super) fn newest(messages: &Value, role: &str, content: &str) -> String {
    let list = messages
        .as_array()
        .map(|list| list.iter().collect::<Vec<_>>())
        .unwrap_or_default();
    let newest = list
        .into_iter()
        .rev()
        .find(|message| message["role"].as_str().is_none_or(|found| found == role));
    newest
        .map(|message| text_of(&message[content]))
        .unwrap_or_default()
}

/// The text of a content: a string, or the `text` of its parts, one per line.
pub(super) fn text_of(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let Some(parts) = content.as_array() else {
        return String::new();
    };
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| part["text"].as_str().or(part.as_str()))
        .collect();
    texts.join("\n")
}

/// Tokens by the rule of thumb of four bytes each, never none.
pub(super) fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4).max(1)
}

/// The tokens of a whole request: of its text as JSON, which is close enough for a demo.
pub(super) fn request_tokens(value: &Value) -> u64 {
    tokens(&text(value))
}

/// The pieces in which a text is streamed: words, each with the space behind it.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    text.split_inclusive(' ').collect()
}

/// A small vector that depends on the text alone: byte frequencies folded into eight numbers, of length one.
pub(super) fn embedding(text: &str) -> Vec<f64> {
    let mut vector = [0.0f64; 8];
    for (at, byte) in text.bytes().enumerate() {
        vector[(usize::from(byte) + at) % 8] += 1.0;
    }
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt().max(1.0);
    vector.iter().map(|x| x / length).collect()
}

#[cfg(test)]
mod tests;
