//! The conversation in a body: of each message who says it, and where its content stands.

use std::ops::Range;

use super::super::{Message, Messages, Speaker, Steps, Text, is_reminder};
use super::{MESSAGE_FIELD, Walk};
use crate::provider::json::{self, Broken};

/// A message before its closing brace.
#[derive(Default)]
pub(super) struct Draft {
    /// Where its brace stands.
    start: usize,
    role: Option<Speaker>,
    forgotten: bool,
    /// Where what is said stands, and where another part would.
    content: Option<(Range<usize>, usize)>,
    seen: Seen,
    /// By its `type` it is what a tool gave back: an item of OpenAI's responses, which has no role.
    output: bool,
    /// The id of the call whose result it is, between its quotes.
    call: Range<usize>,
}

impl Draft {
    /// A message whose brace stands at `start`.
    pub(super) fn at(start: usize) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }
}

/// What stands in a message's content, or in one part of it.
#[derive(Clone, Default)]
struct Seen {
    /// What a tool gave back, or what an agent says by itself.
    of_agent: bool,
    /// Words of whoever speaks.
    words: bool,
    /// The id of the call whose result is first in it, between its quotes.
    call: Range<usize>,
}

impl Seen {
    /// What an agent puts in is no word of the user's, whatever text is in it.
    fn add(&mut self, part: Self) {
        self.of_agent |= part.of_agent;
        self.words |= part.words && !part.of_agent;
        if self.call.is_empty() {
            self.call = part.call;
        }
    }
}

impl Walk<'_> {
    /// Looks at one member of a message; returns where it ends.
    pub(super) fn message_member(
        &mut self,
        draft: &mut Draft,
        name: &Text,
        at: usize,
        depth: u32,
    ) -> Result<usize, Broken> {
        let first = self.body.get(at).copied();
        if self.is(name, self.places.content) && first == Some(b'[') {
            let (end, parts_end, seen) = self.parts(at + 1, depth + 1)?;
            draft.content = Some((at..end, parts_end));
            draft.seen = seen;
            return Ok(end);
        }
        if self.is(name, self.places.content) && first == Some(b'{') && self.places.bare_ones {
            return self.bare_part(draft, at, depth + 1);
        }
        let end = json::skip_value(self.body, at, depth)?;
        if self.is(name, self.places.content) {
            draft.content = (first == Some(b'"')).then_some((at..end, end));
            draft.seen = Seen {
                of_agent: false,
                words: draft.content.is_some() && has_words(self.body, at..end),
                call: 0..0,
            };
        } else if self.is(name, "role") && first == Some(b'"') {
            let role = self.string(at)?;
            draft.role = Some(match role.decode(self.body).as_ref() {
                "user" => Speaker::User,
                "assistant" | "model" => Speaker::Model,
                "tool" | "function" => Speaker::Tool,
                _ => Speaker::Other,
            });
        } else if self.is(name, "type") && first == Some(b'"') {
            let said = self.body.get(at..end).unwrap_or_default();
            draft.output = said.ends_with(b"_output\"");
        } else if first == Some(b'"') && (self.is(name, "tool_call_id") || self.is(name, "call_id"))
        {
            draft.call = at + 1..end - 1;
        } else if self.is(name, MESSAGE_FIELD) {
            let said = self.body.get(at..end).unwrap_or_default();
            draft.forgotten = said == b"false" || said.eq_ignore_ascii_case(b"\"false\"");
        }
        Ok(end)
    }

    /// Walks the one part of a message that stands without brackets; returns where it ends. A further text can only go
    /// into its own.
    fn bare_part(&self, draft: &mut Draft, at: usize, depth: u32) -> Result<usize, Broken> {
        let mut text_end = None;
        let mut part = Seen::default();
        let end = json::each_member(self.body, at + 1, depth, |name, escaped, value| {
            let said = self.body.get(value.clone()).unwrap_or_default();
            self.part_member(&mut part, name, escaped, value.clone());
            if *json::text_bytes(name, escaped) == *b"text" {
                text_end = said.starts_with(b"\"").then_some(value.end);
            }
        })?;
        draft.content = text_end.map(|text_end| (at..end, text_end));
        draft.seen = Seen::default();
        draft.seen.add(part);
        Ok(end)
    }

    /// Walks a message's parts from behind their bracket: where they end, where another would stand, and what they are.
    fn parts(&self, at: usize, depth: u32) -> Result<(usize, usize, Seen), Broken> {
        let body = self.body;
        let mut at = json::skip_space(body, at);
        let mut seen = Seen::default();
        if body.get(at) == Some(&b']') {
            return Ok((at + 1, at, seen));
        }
        loop {
            at = json::skip_space(body, at);
            let mut part = Seen::default();
            let end = match body.get(at) {
                Some(b'{') => {
                    json::each_member(body, at + 1, depth + 1, |name, escaped, value| {
                        self.part_member(&mut part, name, escaped, value);
                    })?
                }
                _ => {
                    let end = json::skip_value(body, at, depth)?;
                    part.words = has_words(body, at..end);
                    end
                }
            };
            seen.add(part);
            at = json::skip_space(body, end);
            match body.get(at) {
                Some(b',') => at += 1,
                Some(b']') => return Ok((at + 1, end, seen)),
                _ => return Err(Broken),
            }
        }
    }

    /// Looks at one member of a part.
    fn part_member(&self, part: &mut Seen, name: &[u8], escaped: bool, at: Range<usize>) {
        let value = self.body.get(at.clone()).unwrap_or_default();
        let known = |text: &[u8]| {
            self.places
                .tool_results
                .iter()
                .any(|known| known.as_bytes() == text)
        };
        match json::text_bytes(name, escaped).as_ref() {
            b"type" => {
                part.of_agent |= value
                    .strip_prefix(b"\"")
                    .and_then(|value| value.strip_suffix(b"\""))
                    .is_some_and(known);
            }
            b"text" => {
                part.of_agent |= value.strip_prefix(b"\"").is_some_and(is_reminder);
                part.words |= has_words(self.body, at);
            }
            b"tool_use_id" if value.starts_with(b"\"") => part.call = at.start + 1..at.end - 1,
            name => part.of_agent |= known(name),
        }
    }

    /// Keeps a message that says something, and counts what an agent did.
    pub(super) fn message_ends(&mut self, draft: Draft, end: usize) {
        if !self.conversation {
            return;
        }
        let speaker = self.speaker(&draft);
        match (speaker, draft.content) {
            (Speaker::User, Some((content, parts_end))) => {
                self.messages.steps = Steps::default();
                self.messages
                    .push(speaker, !draft.forgotten, content, parts_end);
            }
            (Speaker::Model | Speaker::Tool, content) => {
                let calls = [draft.call, draft.seen.call];
                let call = calls.into_iter().find(|call| !call.is_empty());
                let steps = &mut self.messages.steps;
                steps.add(speaker, draft.start..end, call.unwrap_or_default());
                if let Some((content, parts_end)) = content.filter(|_| speaker == Speaker::Model) {
                    self.messages
                        .push(speaker, !draft.forgotten, content, parts_end);
                }
            }
            _ => {}
        }
    }

    fn speaker(&self, draft: &Draft) -> Speaker {
        let roleless = match (self.places.roleless_is_user, draft.output) {
            (true, _) => Speaker::User,
            (_, true) => Speaker::Tool,
            // What else OpenAI's responses have without a role: calls, reasoning.
            _ => Speaker::Model,
        };
        let speaker = draft.role.unwrap_or(roleless);
        // Agents put a picture that a tool made beside its result, or into a message of its own behind it.
        let of_agent = draft.seen.of_agent || self.messages.steps.last == Speaker::Tool;
        match speaker {
            Speaker::User if of_agent && !draft.seen.words => Speaker::Tool,
            speaker => speaker,
        }
    }
}

/// Whether a value is a string that is not empty.
fn has_words(body: &[u8], value: Range<usize>) -> bool {
    value.len() > 2 && body.get(value.start) == Some(&b'"')
}

impl Steps {
    fn add(&mut self, speaker: Speaker, element: Range<usize>, call: Range<usize>) {
        if self.count == 0 {
            self.first = element;
        }
        if self.call.is_empty() && speaker == Speaker::Tool {
            self.call = call;
        }
        self.count += 1;
        self.last = speaker;
    }
}

impl Messages {
    /// A list's one element, if the list is but a string.
    pub(super) fn push_text(&mut self, content: Range<usize>) {
        let end = content.end;
        self.push(Speaker::User, true, content, end);
        self.elements = 1;
    }

    fn push(
        &mut self,
        speaker: Speaker,
        remembered: bool,
        content: Range<usize>,
        parts_end: usize,
    ) {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.list.push(Message {
            speaker,
            remembered,
            index: self.elements,
            start: offset(content.start),
            end: offset(content.end),
            parts_end: offset(parts_end),
        });
    }
}
