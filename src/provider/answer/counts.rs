//! Token counts: where they stand in an answer, and what each dialect's spelling of them means.
//!
//! An answer is looked at from its end, where nearly all of them stand. Objects named so may stand deeper as well (parts
//! of a sum, what a tool gave), so the least deep one counts: what follows an object tells how deep it is. Pure.

use super::super::{Dialect, json};
use super::Usage;
use super::names::rfind;

/// So many objects of the name are looked at, the last ones: each look may be a walk to the answer's end.
pub(super) const CANDIDATES_MAX: usize = 32;

/// Every dialect's spelling of the same counts. A count that is no whole number is unknown.
#[derive(Default)]
pub(super) struct Counts {
    prompt: Option<u64>,
    /// What tools gave a model of Google's, which is not in its prompt.
    tool_prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    /// Read from the cache, by the members of that name and by those that tell it in details.
    cache_read: Option<u64>,
    cached: Option<u64>,
    cached_of_prompt: Option<u64>,
    cache_created: Option<u64>,
    /// Of these, for an hour.
    cache_created_1h: Option<u64>,
    thoughts: Option<u64>,
    reasoning_of_completion: Option<u64>,
}

fn name_of(dialect: Dialect) -> &'static [u8] {
    match dialect {
        Dialect::Gemini => b"\"usageMetadata\"",
        Dialect::OpenAi | Dialect::Anthropic => b"\"usage\"",
    }
}

impl Counts {
    /// Takes the counts of an answer, and says where they end. Its start may be missing.
    pub(super) fn find(&mut self, bytes: &[u8], dialect: Dialect) -> Option<usize> {
        let name = name_of(dialect);
        // Where the least deep one begins and ends.
        let mut found: Option<(usize, usize)> = None;
        let mut least_deep = u32::MAX;
        let mut rest = bytes;
        for _ in 0..CANDIDATES_MAX {
            let Some(at) = rfind(rest, name) else { break };
            rest = &bytes[..at];
            let start = at + name.len();
            let Some(end) = self.read(bytes, start) else {
                continue;
            };
            let depth = depth_behind(bytes, end).unwrap_or(u32::MAX);
            if found.is_none() || depth < least_deep {
                (found, least_deep) = (Some((start, end)), depth);
            }
            if depth <= 1 {
                return Some(end);
            }
        }
        // The last one that was looked at is another.
        found.and_then(|(start, _)| self.read(bytes, start))
    }

    /// The counts among the first members of an answer whose end is missing.
    pub(super) fn find_at_start(bytes: &[u8], dialect: Dialect) -> Option<Self> {
        let name = name_of(dialect);
        let at = json::take(bytes, 0, b'{').ok()?;
        let (mut counts, mut found) = (Self::default(), false);
        // It ends in an error where the bytes do.
        let _ = json::each_member(bytes, at, 1, |member, _, value| {
            if member == &name[1..name.len() - 1] {
                found = counts.take_object(bytes, value.start).is_some();
            }
        });
        found.then_some(counts)
    }

    /// Takes those of the object that follows a colon at `at`, and says where it ends; none if there is no whole one.
    fn read(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        self.take_object(bytes, json::take(bytes, at, b':').ok()?)
    }

    fn take_object(&mut self, bytes: &[u8], at: usize) -> Option<usize> {
        let at = json::take(bytes, at, b'{').ok()?;
        *self = Self::default();
        let end = json::each_member(bytes, at, 1, |name, _, value| {
            self.member(name, &bytes[value]);
        });
        end.ok()
    }

    fn member(&mut self, name: &[u8], value: &[u8]) {
        let slot = match name {
            b"prompt_tokens" | b"input_tokens" | b"promptTokenCount" => &mut self.prompt,
            b"completion_tokens" | b"output_tokens" | b"candidatesTokenCount" => {
                &mut self.completion
            }
            b"total_tokens" => &mut self.total,
            b"toolUsePromptTokenCount" => &mut self.tool_prompt,
            b"prompt_tokens_details" | b"input_tokens_details" => {
                return detail(&mut self.cached_of_prompt, b"cached_tokens", value);
            }
            b"completion_tokens_details" | b"output_tokens_details" => {
                return detail(
                    &mut self.reasoning_of_completion,
                    b"reasoning_tokens",
                    value,
                );
            }
            b"cache_read_input_tokens" => &mut self.cache_read,
            b"cache_creation_input_tokens" => &mut self.cache_created,
            b"cache_creation" => {
                let name = b"ephemeral_1h_input_tokens";
                return detail(&mut self.cache_created_1h, name, value);
            }
            b"cachedContentTokenCount" | b"prompt_cache_hit_tokens" | b"cached_tokens" => {
                &mut self.cached
            }
            b"thoughtsTokenCount" => &mut self.thoughts,
            _ => return,
        };
        set(slot, whole_number(value));
    }

    /// What went in, where the cached part is not counted apart.
    fn input(&self) -> Option<u64> {
        let tool_prompt = self.tool_prompt.unwrap_or(0);
        // Of embeddings some (Voyage) tell nothing but the total.
        let only = self.total.filter(|_| self.completion.is_none());
        self.prompt
            .or(only)
            .map(|tokens| tokens.saturating_add(tool_prompt))
    }

    /// What came out.
    fn output(&self, dialect: Dialect) -> Option<u64> {
        match dialect {
            // Google counts thoughts apart.
            Dialect::Gemini => {
                let answered = self.completion.or(self.thoughts.map(|_| 0));
                answered.map(|tokens| tokens.saturating_add(self.thoughts.unwrap_or(0)))
            }
            // xAI, and Google in this dialect, leave reasoning out of the completion but not out of the total.
            Dialect::OpenAi => {
                let beyond_prompt = self.total.zip(self.prompt);
                let beyond_prompt = beyond_prompt.and_then(|(all, prompt)| all.checked_sub(prompt));
                beyond_prompt
                    .filter(|tokens| *tokens > self.completion.unwrap_or(0))
                    .or(self.completion)
            }
            Dialect::Anthropic => self.completion,
        }
    }
}

/// How many containers are open around what ends at `at`, told by what closes them up to the answer's end. An array
/// around all of it does not count: a stream of Google's without `alt=sse` is one. None if they are not all closed so.
pub(super) fn depth_behind(bytes: &[u8], mut at: usize) -> Option<u32> {
    let (mut depth, mut in_array) = (0, false);
    loop {
        at = json::skip_space(bytes, at);
        match bytes.get(at) {
            Some(&bracket @ (b'}' | b']')) => {
                depth += 1;
                in_array = bracket == b']';
                at += 1;
            }
            Some(b',') => {
                at = json::skip_value(bytes, at + 1, 1).ok()?;
                // It was a member's name: its value is next.
                if let Ok(value) = json::take(bytes, at, b':') {
                    at = json::skip_value(bytes, value, 1).ok()?;
                }
            }
            Some(_) => return None,
            None if depth == 0 => return None,
            None => return Some(depth - u32::from(in_array)),
        }
    }
}

/// Takes the count of one name out of an object of details.
fn detail(slot: &mut Option<u64>, wanted: &[u8], object: &[u8]) {
    if object.first() == Some(&b'{') {
        // The object has been skipped as whole before.
        let _ = json::each_member(object, 1, 2, |name, _, value| {
            if name == wanted {
                set(slot, whole_number(&object[value]));
            }
        });
    }
}

/// No answer costs as much: a larger count is a broken provider's (-1 without its sign), and would spoil every sum.
const COUNT_MAX: u64 = 1_000_000_000_000;

/// Digits, behind which some write a point and zeros.
fn whole_number(value: &[u8]) -> Option<u64> {
    let (mut number, mut rest) = (0_u64, value);
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        number = number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'));
        rest = behind;
    }
    let has_digits = rest.len() < value.len();
    let zeros = rest.strip_prefix(b".").unwrap_or(rest);
    let whole = has_digits && zeros.iter().all(|byte| *byte == b'0');
    (whole && number <= COUNT_MAX).then_some(number)
}

/// What is known stays known.
fn set(slot: &mut Option<u64>, value: Option<u64>) {
    if value.is_some() {
        *slot = value;
    }
}

impl Usage {
    /// Takes what an answer or event counts.
    pub(super) fn add(&mut self, counts: &Counts, dialect: Dialect) {
        set(&mut self.cached, counts.cache_read.or(counts.cached));
        set(&mut self.cached, counts.cached_of_prompt);
        set(&mut self.cache_written, counts.cache_created);
        set(&mut self.cache_written_1h, counts.cache_created_1h);
        set(&mut self.reasoning, counts.thoughts);
        set(&mut self.reasoning, counts.reasoning_of_completion);
        let input = match dialect {
            // Anthropic counts the cached part of the input apart.
            Dialect::Anthropic => counts.input().map(|tokens| {
                tokens
                    .saturating_add(self.cached.unwrap_or(0))
                    .saturating_add(self.cache_written.unwrap_or(0))
            }),
            Dialect::OpenAi | Dialect::Gemini => counts.input(),
        };
        self.estimated &= input.is_none();
        set(&mut self.input, input);
        set(&mut self.output, counts.output(dialect));
    }
}
