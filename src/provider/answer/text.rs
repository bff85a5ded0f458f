//! What an answer says in words: of a stream the pieces, of a plain answer all of it at once.
//!
//! Only the text of the first choice counts: no reasoning, no tool calls, no images. An event is looked at by name and
//! by path, so that most of it is never parsed.

use std::borrow::Cow;

use memchr::memmem;
use sonic_rs::{JsonContainerTrait as _, JsonValueTrait as _, LazyValue, PointerNode, pointer};

use super::super::{Dialect, json, lossy};
use crate::depth;

/// More of an answer is not gathered.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// How half a pair of UTF-16 is spelled.
type Half = [u8; 6];

/// Between two pieces of a stream's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seam {
    /// The last one ended in half a character, whose other half begins the next one.
    half: Option<Half>,
    /// Something else than text stands between.
    gap: bool,
}

/// Appends the text that one event adds.
pub(super) fn gather(
    text: &mut String,
    seam: &mut Seam,
    dialect: Dialect,
    name: &[u8],
    data: &[u8],
) {
    if text.len() >= TEXT_BYTES_MAX {
        return;
    }
    let data = &*depth::pruned(data);
    match dialect {
        Dialect::OpenAi if is_responses(name, data) => {
            if named(name, data, b"response.output_text.delta") {
                push_raw(text, seam, raw_at(data, &pointer!["delta"]));
            } else {
                seam.gap |= name == b"response.output_item.added";
            }
        }
        Dialect::OpenAi => {
            let choice = sonic_rs::get(data, pointer!["choices", 0]);
            let Some(choice) = choice.ok().filter(is_first) else {
                return;
            };
            let choice = choice.as_raw_str().as_bytes();
            let content = &pointer!["delta", "content"];
            let said = raw_at(choice, content).or_else(|| raw_at(choice, &pointer!["text"]));
            match said {
                Some(said) => push_raw(text, seam, Some(said)),
                None => push(text, seam, &parts_at(choice, content).unwrap_or_default()),
            }
        }
        Dialect::Anthropic => {
            if named(name, data, b"content_block_delta") {
                push_raw(text, seam, raw_at(data, &pointer!["delta", "text"]));
            } else if named(name, data, b"content_block_start") {
                let kind = string_at(data, &pointer!["content_block", "type"]);
                seam.gap |= kind.is_some_and(|kind| kind != "text");
            }
        }
        Dialect::Gemini => {
            if let Some(said) = lossy::parse(data).as_ref().and_then(gemini_text) {
                push(text, seam, &said);
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
        && sonic_rs::get(&*depth::pruned(data), pointer!["choices", 0])
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

fn push(text: &mut String, seam: &mut Seam, piece: &str) {
    if piece.is_empty() {
        return;
    }
    if std::mem::take(&mut seam.gap) {
        part(text, piece);
    }
    let room = TEXT_BYTES_MAX.saturating_sub(text.len());
    text.push_str(&piece[..piece.floor_char_boundary(room)]);
}

/// The same with a piece as it stands between quotes.
fn push_raw(text: &mut String, seam: &mut Seam, raw: Option<&[u8]>) {
    let Some(raw) = raw.filter(|raw| !raw.is_empty()) else {
        return;
    };
    let escaped = raw.contains(&b'\\');
    if !escaped && seam.half.is_none() {
        return push(text, seam, &json::decode(raw, false));
    }
    let (raw, half) = without_half(raw);
    let raw = [seam.half.as_ref().map_or(&[][..], |half| half), raw].concat();
    seam.half = half;
    push(text, seam, &json::decode(&raw, true));
}

/// A piece without the first half of a pair at its end, and that.
fn without_half(raw: &[u8]) -> (&[u8], Option<Half>) {
    let split = raw.split_last_chunk::<6>();
    split
        .filter(|(before, half)| {
            let slashes = before.iter().rev().take_while(|byte| **byte == b'\\');
            let first = matches!(
                half,
                [
                    b'\\',
                    b'u',
                    b'd' | b'D',
                    b'8' | b'9' | b'a' | b'b' | b'A' | b'B',
                    ..
                ]
            );
            // One that is itself escaped begins nothing.
            first && slashes.count() % 2 == 0
        })
        .map_or((raw, None), |(before, half)| (before, Some(*half)))
}

/// A line break, unless one of the two has its own space.
fn part(text: &mut String, next: &str) {
    let spaced = text.ends_with(char::is_whitespace) || next.starts_with(char::is_whitespace);
    if !text.is_empty() && !spaced {
        text.push('\n');
    }
}

/// The events of responses have names; a provider that leaves the `event:` lines out has them in `type`.
fn is_responses(name: &[u8], data: &[u8]) -> bool {
    name.starts_with(b"response.")
        || name.is_empty() && memmem::find(data, b"\"response.output_text.delta\"").is_some()
}

fn named(name: &[u8], data: &[u8], expected: &[u8]) -> bool {
    let stated = || {
        let stated = depth::pruned(data);
        let stated = string_at(&stated, &pointer!["type"]);
        stated.is_some_and(|stated| stated.as_bytes() == expected)
    };
    name == expected || name.is_empty() && stated()
}

/// Where several answers are asked for, each chunk says whose piece it is.
fn is_first(choice: &LazyValue<'_>) -> bool {
    let index = choice.get("index").and_then(|index| index.as_u64());
    index.unwrap_or(0) == 0
}

/// A string as it stands between its quotes.
fn raw_at<'d>(data: &'d [u8], path: &[PointerNode]) -> Option<&'d [u8]> {
    if !depth::fits(data) {
        return None;
    }
    let start = data.as_ptr().addr();
    let value = sonic_rs::get(data, path).ok()?;
    let raw = value.as_raw_str();
    // By its place, because it lives no longer than `value` does.
    let at = raw.as_ptr().addr().checked_sub(start)?;
    let raw = data.get(at..at + raw.len())?;
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

fn string_at<'d>(data: &'d [u8], path: &[PointerNode]) -> Option<Cow<'d, str>> {
    let raw = raw_at(data, path)?;
    Some(json::decode(raw, raw.contains(&b'\\')))
}

/// The texts of parts: so Mistral tells reasoning apart.
fn parts_at(data: &[u8], path: &[PointerNode]) -> Option<String> {
    let parts = sonic_rs::get(data, path).ok()?;
    let parts: sonic_rs::Value = lossy::parse(parts.as_raw_str().as_bytes())?;
    Some(joined(parts.as_array()?.iter(), "text"))
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
    let body = depth::pruned(body);
    let holds = |path: &[PointerNode]| {
        let value = sonic_rs::get(&*body, path);
        value.is_ok_and(|value| value.is_array() || value.is_object())
    };
    match dialect {
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
    let value: sonic_rs::Value = lossy::parse(body)?;
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
                    let mut said = String::new();
                    for item in value["output"].as_array()?.iter() {
                        let parts = item["content"].as_array().into_iter().flatten();
                        let more = joined(parts, "output_text");
                        if !more.is_empty() {
                            part(&mut said, &more);
                            said += &more;
                        }
                    }
                    said
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

/// The texts of parts of a kind. A text may come in several, that stand side by side; what else stands between two
/// divides them.
fn joined<'a>(parts: impl Iterator<Item = &'a sonic_rs::Value>, kind: &str) -> String {
    spoken(parts, |part| part["type"].as_str() == Some(kind))
}

fn gemini_text(value: &sonic_rs::Value) -> Option<String> {
    let parts = value["candidates"][0]["content"]["parts"].as_array()?;
    Some(spoken(parts.iter(), |part| {
        part["thought"].as_bool() != Some(true)
    }))
}

fn spoken<'a>(
    parts: impl Iterator<Item = &'a sonic_rs::Value>,
    speaks: impl Fn(&sonic_rs::Value) -> bool,
) -> String {
    let (mut said, mut gap) = (String::new(), false);
    for it in parts {
        match it["text"].as_str().filter(|_| speaks(it)) {
            Some(text) => {
                if !text.is_empty() && std::mem::take(&mut gap) {
                    part(&mut said, text);
                }
                said += text;
            }
            None => gap = true,
        }
    }
    said
}
