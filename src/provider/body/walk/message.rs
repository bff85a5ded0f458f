//! The conversation in a body: of each message who says it, and where its content stands.

use std::ops::Range;

use super::super::{Message, Messages, Speaker, Text, is_reminder};
use super::{MESSAGE_FIELD, Walk};
use crate::provider::json::{self, Broken};

/// A message before its closing brace.
#[derive(Default)]
pub(super) struct Draft {
    role: Option<Speaker>,
    forgotten: bool,
    /// Where what is said stands, and where another part would.
    content: Option<(Range<usize>, usize)>,
    results_only: bool,
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
            let (end, parts_end, results_only) = self.parts(at + 1, depth + 1)?;
            draft.content = Some((at..end, parts_end));
            draft.results_only = results_only;
            return Ok(end);
        }
        if self.is(name, self.places.content) && first == Some(b'{') && self.places.bare_ones {
            return self.bare_part(draft, at, depth + 1);
        }
        let end = json::skip_value(self.body, at, depth)?;
        if self.is(name, self.places.content) {
            draft.content = (first == Some(b'"')).then_some((at..end, end));
            draft.results_only = false;
        } else if self.is(name, "role") && first == Some(b'"') {
            let role = self.string(at)?;
            draft.role = Some(match role.decode(self.body).as_ref() {
                "user" => Speaker::User,
                "assistant" | "model" => Speaker::Model,
                _ => Speaker::Other,
            });
        } else if self.is(name, MESSAGE_FIELD) {
            let said = self.body.get(at..end).unwrap_or_default();
            draft.forgotten = matches!(said, b"false" | b"\"false\"");
        }
        Ok(end)
    }

    /// Walks the one part of a message that stands without brackets; returns where it ends. A further text can only go
    /// into its own.
    fn bare_part(&self, draft: &mut Draft, at: usize, depth: u32) -> Result<usize, Broken> {
        let mut text_end = None;
        draft.results_only = false;
        let end = json::each_member(self.body, at + 1, depth, |name, escaped, value| {
            let said = self.body.get(value.clone()).unwrap_or_default();
            draft.results_only |= self.is_of_agent(name, escaped, said);
            if *json::text_bytes(name, escaped) == *b"text" {
                text_end = said.starts_with(b"\"").then_some(value.end);
            }
        })?;
        draft.content = text_end.map(|text_end| (at..end, text_end));
        Ok(end)
    }

    /// Walks a message's parts from behind their bracket: where they end, where another would stand, and whether they
    /// do nothing but hand back what tools gave and remind of what an agent says by itself.
    fn parts(&self, at: usize, depth: u32) -> Result<(usize, usize, bool), Broken> {
        let body = self.body;
        let mut at = json::skip_space(body, at);
        if body.get(at) == Some(&b']') {
            return Ok((at + 1, at, false));
        }
        let mut results_only = true;
        loop {
            at = json::skip_space(body, at);
            let mut result = false;
            let end = match body.get(at) {
                Some(b'{') => {
                    json::each_member(body, at + 1, depth + 1, |name, escaped, value| {
                        let value = body.get(value).unwrap_or_default();
                        result |= self.is_of_agent(name, escaped, value);
                    })?
                }
                _ => json::skip_value(body, at, depth)?,
            };
            results_only &= result;
            at = json::skip_space(body, end);
            match body.get(at) {
                Some(b',') => at += 1,
                Some(b']') => return Ok((at + 1, end, results_only)),
                _ => return Err(Broken),
            }
        }
    }

    /// A member that makes its part one which no user wrote.
    fn is_of_agent(&self, name: &[u8], escaped: bool, value: &[u8]) -> bool {
        let known = |text: &[u8]| {
            self.places
                .tool_results
                .iter()
                .any(|known| known.as_bytes() == text)
        };
        match json::text_bytes(name, escaped).as_ref() {
            b"type" => value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""))
                .is_some_and(known),
            b"text" => value.strip_prefix(b"\"").is_some_and(is_reminder),
            name => known(name),
        }
    }

    /// Keeps a message that says something.
    pub(super) fn message_ends(&mut self, draft: Draft) {
        let Some((content, parts_end)) = draft.content.filter(|_| self.conversation) else {
            return;
        };
        let roleless = match self.places.roleless_is_user {
            true => Speaker::User,
            false => Speaker::Other,
        };
        let speaker = match draft.role.unwrap_or(roleless) {
            Speaker::User if draft.results_only => Speaker::Other,
            speaker => speaker,
        };
        if speaker != Speaker::Other {
            self.messages
                .push(speaker, !draft.forgotten, content, parts_end);
        }
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
