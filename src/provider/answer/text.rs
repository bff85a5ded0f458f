//! What an answer says in words: of a stream the pieces, of a plain answer all of it at once.
//!
//! Only the text of the first choice counts: no reasoning, no tool calls, no images. An event is looked at by name and
//! by path, so that most of it is never parsed.

use std::borrow::Cow;

use memchr::memmem;
use sonic_rs::{JsonContainerTrait as _, JsonValueTrait as _, LazyValue, PointerNode, pointer};

use super::super::Dialect;
use crate::depth;

/// More of an answer is not gathered.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// Appends the text that one event adds.
pub(super) fn gather(text: &mut String, dialect: Dialect, name: &[u8], data: &[u8]) {
    if text.len() >= TEXT_BYTES_MAX || !depth::fits(data) {
        return;
    }
    match dialect {
        Dialect::OpenAi if is_responses(name, data) => {
            if named(name, data, b"response.output_text.delta") {
                push(text, string_at(data, &pointer!["delta"]));
            }
        }
        Dialect::OpenAi => {
            let choice = sonic_rs::get(data, pointer!["choices", 0]);
            let Some(choice) = choice.ok().filter(is_first) else {
                return;
            };
            let choice = choice.as_raw_str().as_bytes();
            let said = content_at(choice, &pointer!["delta", "content"]);
            push(text, said.or_else(|| string_at(choice, &pointer!["text"])));
        }
        Dialect::Anthropic => {
            if named(name, data, b"content_block_delta") {
                push(text, string_at(data, &pointer!["delta", "text"]));
            }
        }
        Dialect::Gemini => {
            if let Ok(value) = sonic_rs::from_slice::<sonic_rs::Value>(data) {
                push(text, gemini_text(&value).map(Cow::Owned));
            }
        }
    }
}

/// Whether an event says nothing but that a stream begins.
pub(super) fn starts(dialect: Dialect, name: &[u8], data: &[u8]) -> bool {
    dialect == Dialect::Anthropic && named(name, data, b"message_start")
}

/// Whether an event is a stream's last word.
pub(super) fn ends(dialect: Dialect, name: &[u8], data: &[u8]) -> bool {
    match dialect {
        Dialect::OpenAi => {
            let last = [&b"response.completed"[..], b"response.incomplete"];
            // Mostly it is neither, and is not to be parsed.
            let typed = || name.is_empty() && data.starts_with(b"{\"type\":\"response.");
            data == b"[DONE]"
                || last.contains(&name)
                || typed() && last.iter().any(|last| named(name, data, last))
        }
        Dialect::Anthropic => named(name, data, b"message_stop"),
        Dialect::Gemini => {
            let name = b"\"finishReason\"";
            // Some servers say with each event that there is none yet.
            memmem::find(data, name).is_some_and(|at| {
                let value = super::json::take(data, at + name.len(), b':');
                value
                    .and_then(|at| super::json::take(data, at, b'"'))
                    .is_ok()
            })
        }
    }
}

/// Whether an event says why its answer is over, which in OpenAI's dialect is not a stream's last word.
pub(super) fn finishes(dialect: Dialect, name: &[u8], data: &[u8]) -> bool {
    dialect == Dialect::OpenAi && (has_finish_reason(data) || is_last_response(name, data))
}

/// Whether the first choice has a reason. Most events say that there is none yet, and are not to be parsed.
fn has_finish_reason(data: &[u8]) -> bool {
    let word = b"\"finish_reason\"";
    let is_string = |at: usize| {
        let value = super::json::take(data, at + word.len(), b':');
        value
            .and_then(|at| super::json::take(data, at, b'"'))
            .is_ok()
    };
    memmem::find_iter(data, word).any(is_string)
        && depth::fits(data)
        && sonic_rs::get(data, pointer!["choices", 0])
            .ok()
            .filter(is_first)
            .is_some_and(|choice| {
                let reason = choice.get("finish_reason");
                reason.is_some_and(|reason| reason.is_str())
            })
}

/// Whether an event without a name is the last of a response, however it is spelled.
fn is_last_response(name: &[u8], data: &[u8]) -> bool {
    let is = |last: &[u8], quoted: &[u8]| {
        name.is_empty() && memmem::find(data, quoted).is_some() && named(name, data, last)
    };
    is(b"response.completed", b"\"response.completed\"")
        || is(b"response.incomplete", b"\"response.incomplete\"")
}

fn push(text: &mut String, piece: Option<Cow<'_, str>>) {
    let piece = piece.unwrap_or_default();
    let room = TEXT_BYTES_MAX.saturating_sub(text.len());
    text.push_str(&piece[..piece.floor_char_boundary(room)]);
}

/// The events of responses have names; a provider that leaves the `event:` lines out has them in `type`.
fn is_responses(name: &[u8], data: &[u8]) -> bool {
    name.starts_with(b"response.")
        || name.is_empty() && memmem::find(data, b"\"response.output_text.delta\"").is_some()
}

fn named(name: &[u8], data: &[u8], expected: &[u8]) -> bool {
    let stated = || string_at(data, &pointer!["type"]);
    name == expected
        || name.is_empty() && stated().is_some_and(|stated| stated.as_bytes() == expected)
}

/// Where several answers are asked for, each chunk says whose piece it is.
fn is_first(choice: &LazyValue<'_>) -> bool {
    let index = choice.get("index").and_then(|index| index.as_u64());
    index.unwrap_or(0) == 0
}

fn string_at<'d>(data: &'d [u8], path: &[PointerNode]) -> Option<Cow<'d, str>> {
    if !depth::fits(data) {
        return None;
    }
    let value = sonic_rs::get(data, path).ok()?;
    let text = value.as_str()?.to_owned();
    Some(Cow::Owned(text))
}

/// A text, or the texts of parts: so Mistral tells reasoning apart.
fn content_at<'d>(data: &'d [u8], path: &[PointerNode]) -> Option<Cow<'d, str>> {
    string_at(data, path).or_else(|| {
        let parts = sonic_rs::get(data, path).ok()?;
        let parts: sonic_rs::Value = sonic_rs::from_str(parts.as_raw_str()).ok()?;
        Some(Cow::Owned(joined(parts.as_array()?.iter(), "text")))
    })
}

/// What stands around the reasoning that some servers leave in front of an answer.
const REASONING: [&str; 2] = ["<think>", "</think>"];

/// An answer without the reasoning in front of it; nothing where that has no end.
pub fn without_reasoning(text: &str) -> &str {
    let [open, close] = REASONING;
    match text.trim_start().strip_prefix(open) {
        Some(behind) => behind.split_once(close).map_or("", |(_, answer)| answer),
        None => text,
    }
}

/// Whether a plain answer is one of this dialect's, whatever it says or refuses to say.
pub fn is_answer(dialect: Dialect, body: &[u8]) -> bool {
    let holds = |path: &[PointerNode]| {
        let value = sonic_rs::get(body, path);
        value.is_ok_and(|value| value.is_array() || value.is_object())
    };
    depth::fits(body)
        && match dialect {
            Dialect::OpenAi => holds(&pointer!["choices"]) || holds(&pointer!["output"]),
            Dialect::Anthropic => holds(&pointer!["content"]),
            // Of a question that is refused there is the feedback alone; a stream is one array of answers.
            Dialect::Gemini => {
                holds(&pointer!["candidates"])
                    || holds(&pointer!["promptFeedback"])
                    || holds(&pointer![0, "candidates"])
            }
        }
}

/// The text of a plain answer.
pub(super) fn of_whole(dialect: Dialect, body: &[u8]) -> Option<String> {
    if !depth::fits(body) {
        return None;
    }
    let value: sonic_rs::Value = sonic_rs::from_slice(body).ok()?;
    let mut text = match dialect {
        Dialect::OpenAi => {
            let choice = first(&value["choices"]);
            let content = &choice["message"]["content"];
            match (
                content.as_str().or(choice["text"].as_str()),
                content.as_array(),
            ) {
                (Some(said), _) => said.to_owned(),
                (None, Some(parts)) => joined(parts.iter(), "text"),
                (None, None) => {
                    let items = value["output"].as_array()?.iter();
                    let messages = items.filter_map(|item| item["content"].as_array());
                    joined(messages.flat_map(|parts| parts.iter()), "output_text")
                }
            }
        }
        Dialect::Anthropic => joined(value["content"].as_array()?.iter(), "text"),
        // Without `alt=sse` a stream is one array of answers.
        Dialect::Gemini => match value.as_array() {
            Some(answers) => answers.iter().filter_map(gemini_text).collect(),
            None => gemini_text(&value)?,
        },
    };
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    Some(text)
}

/// The choice whose text counts: it need not stand first. One without an index does.
fn first(choices: &sonic_rs::Value) -> &sonic_rs::Value {
    let is_first = |choice: &&sonic_rs::Value| choice["index"].as_u64().unwrap_or(0) == 0;
    let mut list = choices.as_array().into_iter().flatten();
    list.find(is_first).unwrap_or(&choices[0])
}

fn joined<'a>(parts: impl Iterator<Item = &'a sonic_rs::Value>, kind: &str) -> String {
    parts
        .filter(|part| part["type"].as_str() == Some(kind))
        .filter_map(|part| part["text"].as_str())
        .collect()
}

fn gemini_text(value: &sonic_rs::Value) -> Option<String> {
    let parts = value["candidates"][0]["content"]["parts"].as_array()?;
    let spoken = parts
        .iter()
        .filter(|part| part["thought"].as_bool() != Some(true));
    Some(spoken.filter_map(|part| part["text"].as_str()).collect())
}
