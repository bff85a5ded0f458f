//! The newest turn of a conversation: what the user said last, and where in the caller's own bytes a further text would
//! go.
//!
//! `exchange` asks once a body is scanned, and only for requests with memory. Nothing but the newest user message is
//! read whole. `said` tells what stands in the others, and with `inside` what stands anywhere.

mod inside;
mod said;

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

use super::{Message, Messages, RequestBody, Speaker, is_reminder};
use crate::provider::json;
use crate::provider::operation::{Operation, Task};
pub use said::Said;

/// From so many elements of the model's and its tools' behind the newest user message on, an agent loops: what it called
/// and what that gave back. One alone is an answer that the caller began itself.
const LOOP_ELEMENTS: u32 = 2;

/// Two conversations that go apart do so within the first bytes of what the model did, where its words and the names of
/// its calls stand.
const STEP_BYTES_MAX: usize = 16 * 1024;

/// Callers move these marks on from step to step: they say how far a provider is to cache.
const MARK: &[u8] = b"\"cache_control\"";

/// The newest user message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its text, the texts of its parts joined by line breaks; empty if it has none.
    pub text: String,
    /// Whether it may be remembered.
    pub remembered: bool,
    /// Its place in the conversation.
    pub index: u32,
    /// Whether an agent is at work on it: results of tools stand behind it.
    pub loops: bool,
    /// The element that the model left first behind it.
    first_step: Range<usize>,
    /// The id of the call whose result came first.
    call: Range<usize>,
    place: Place,
}

/// Where a further text would go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Into its string, before the closing quote.
    String(usize),
    /// Behind its last part, in the form that its dialect has for parts.
    Parts {
        at: usize,
        first: bool,
        form: &'static str,
    },
}

impl Task {
    /// Whether it carries a conversation in which something can be recalled.
    pub fn converses(self) -> bool {
        matches!(
            self,
            Self::ChatCompletions | Self::Responses | Self::Messages | Self::Generate { .. }
        )
    }
}

impl RequestBody {
    /// The conversation of a request for `task`, and the form of a text part in it.
    fn conversation(&self, task: Task) -> Option<(&Messages, &'static str)> {
        const TEXT: &str = "{\"type\":\"text\",\"text\":";
        const INPUT: &str = "{\"type\":\"input_text\",\"text\":";
        Some(match task {
            Task::ChatCompletions if self.has_messages => (&self.messages, TEXT),
            Task::ChatCompletions | Task::Responses => (&self.input, INPUT),
            Task::Messages => (&self.messages, TEXT),
            Task::Generate { .. } => (&self.messages, "{\"text\":"),
            _ => return None,
        })
    }

    /// Where in its list the model's last message stands, if that is an answer to the newest user message and may be
    /// remembered.
    pub fn reply(&self, operation: &Operation<'_>) -> Option<usize> {
        let (messages, _) = self.conversation(operation.task)?;
        let list = &messages.list;
        let asked = list.iter().rposition(|it| it.speaker == Speaker::User)?;
        let mut behind = list[asked..].iter();
        let reply = behind.rfind(|it| it.speaker == Speaker::Model)?;
        reply.remembered.then_some(reply.index as usize)
    }

    /// The newest user message of a body that was scanned for its conversation.
    pub fn turn(&self, body: &[u8], operation: &Operation<'_>) -> Option<Turn> {
        let (messages, form) = self.conversation(operation.task)?;
        let newest = messages
            .list
            .iter()
            .rfind(|message| message.speaker == Speaker::User)?;
        let content = newest.content();
        let place = match body.get(content.start) {
            Some(b'"') => Place::String(content.end - 1),
            Some(b'{') => Place::String(newest.parts_end as usize - 1),
            _ => Place::Parts {
                at: newest.parts_end as usize,
                first: json::skip_space(body, content.start + 1) == content.end - 1,
                form,
            },
        };
        Some(Turn {
            text: newest.text(body),
            remembered: newest.remembered,
            index: newest.index,
            loops: messages.steps.count >= LOOP_ELEMENTS,
            first_step: messages.steps.first.clone(),
            call: messages.steps.call.clone(),
            place,
        })
    }
}

impl Turn {
    /// What the model did first, where an agent is at work, the same bytes in every step; and the id of its call, which
    /// is empty where the dialect has none.
    pub fn first_step<'b>(&self, body: &'b [u8]) -> Option<(Cow<'b, [u8]>, Cow<'b, str>)> {
        let step = body.get(self.first_step.clone()).filter(|_| self.loops)?;
        let step = match unmarked(step) {
            Cow::Borrowed(step) => Cow::Borrowed(&step[..step.len().min(STEP_BYTES_MAX)]),
            Cow::Owned(mut step) => {
                step.truncate(STEP_BYTES_MAX);
                Cow::Owned(step)
            }
        };
        let call = body.get(self.call.clone()).unwrap_or_default();
        Some((step, json::decode(call, call.contains(&b'\\'))))
    }

    /// Where `text` goes in at the message's end, and the bytes that put it there. Everything before that place stays
    /// as the caller sent it.
    pub fn insertion(&self, text: &str) -> (usize, Vec<u8>) {
        let mut bytes = Vec::with_capacity(text.len() + text.len() / 8 + 64);
        match self.place {
            Place::String(at) => {
                bytes.extend_from_slice(b"\\n\\n");
                json::escape(&mut bytes, text);
                (at, bytes)
            }
            Place::Parts { at, first, form } => {
                if !first {
                    bytes.push(b',');
                }
                bytes.extend_from_slice(form.as_bytes());
                bytes.push(b'"');
                json::escape(&mut bytes, text);
                bytes.extend_from_slice(b"\"}");
                (at, bytes)
            }
        }
    }
}

/// JSON without the marks in it.
fn unmarked(json: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memmem::find(json, MARK) else {
        return Cow::Borrowed(json);
    };
    let mut kept = Vec::with_capacity(json.len());
    let (mut rest, mut next) = (json, Some(first));
    while let Some(at) = next {
        let value = json::take(rest, at + MARK.len(), b':');
        let Ok(end) = value.and_then(|value| json::skip_value(rest, value, 1)) else {
            break;
        };
        let before = rest[..at].trim_ascii_end();
        let behind = rest[end..].trim_ascii_start();
        // One comma goes with it.
        let (before, behind) = match before.strip_suffix(b",") {
            Some(before) => (before.trim_ascii_end(), behind),
            None => (before, behind.strip_prefix(b",").unwrap_or(behind)),
        };
        kept.extend_from_slice(before);
        rest = behind.trim_ascii_start();
        next = memmem::find(rest, MARK);
    }
    kept.extend_from_slice(rest);
    Cow::Owned(kept)
}

impl Message {
    fn content(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// All that it says in words.
    fn text(&self, body: &[u8]) -> String {
        let mut joined = String::new();
        each_text(body, self.content(), |raw, escaped| {
            let text = json::decode(raw, escaped);
            if !joined.is_empty() && !text.is_empty() {
                joined.push('\n');
            }
            match joined.is_empty() {
                true => joined = text.into_owned(),
                false => joined += &text,
            }
            true
        });
        joined
    }
}

/// Hands the texts of a message's content to `on_text`, as bytes between quotes, until that says enough. The body has
/// been walked before, so that nothing in it can be broken.
fn each_text(body: &[u8], content: Range<usize>, mut on_text: impl FnMut(&[u8], bool) -> bool) {
    let string = |value: Range<usize>| {
        let raw = body.get(value.start + 1..value.end.saturating_sub(1))?;
        (body.get(value.start) == Some(&b'"')).then_some((raw, raw.contains(&b'\\')))
    };
    if let Some((raw, escaped)) = string(content.clone()) {
        on_text(raw, escaped);
        return;
    }
    let mut at = match body.get(content.start) {
        Some(b'{') => content.start,
        _ => json::skip_space(body, content.start + 1),
    };
    while at + 1 < content.end {
        let mut text = None;
        let mut spoken = true;
        let end =
            match body.get(at) {
                Some(b'{') => json::each_member(body, at + 1, 4, |name, escaped, value| {
                    match json::text_bytes(name, escaped).as_ref() {
                        b"text" => text = string(value).filter(|(raw, _)| !is_reminder(raw)),
                        b"type" => {
                            let kind =
                                string(value).map(|(raw, escaped)| json::text_bytes(raw, escaped));
                            spoken &= kind.is_some_and(|kind| {
                                matches!(kind.as_ref(), b"text" | b"input_text" | b"output_text")
                            });
                        }
                        b"thought" => spoken &= body.get(value.start) != Some(&b't'),
                        _ => {}
                    }
                }),
                _ => json::skip_value(body, at, 4).inspect(|end| text = string(at..*end)),
            };
        let Ok(end) = end else { return };
        if let Some((raw, escaped)) = text.filter(|_| spoken)
            && !on_text(raw, escaped)
        {
            return;
        }
        at = json::skip_space(body, end);
        if body.get(at) == Some(&b',') {
            at = json::skip_space(body, at + 1);
        }
    }
}

#[cfg(test)]
mod tests;
