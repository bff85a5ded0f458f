//! What a provider's answer says, read from the bytes that pass: token counts, errors, text.
//!
//! `relay::tap` calls in with single events of a stream, or with a plain answer's last bytes or whole body. All
//! dialects spell the same few facts differently; one tolerant form reads them all, and what is not there stays
//! unknown. Nothing is parsed that does not hold one of these facts.

mod names;
mod text;

use std::sync::LazyLock;

use memchr::memmem::Finder;
use sonic_rs::JsonValueTrait as _;

use super::{Dialect, json};
use names::Names;

/// Where nobody counts, a token is taken to be this many bytes.
const BYTES_PER_TOKEN: u64 = 4;
pub use text::TEXT_BYTES_MAX;

/// Tokens of one exchange by the provider's own count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All tokens that went in, cached ones included.
    pub input: Option<u64>,
    /// All tokens that came out, reasoning included.
    pub output: Option<u64>,
    /// Of the input, read from the provider's prompt cache.
    pub cached: Option<u64>,
    /// Of the input, written to it.
    pub cache_written: Option<u64>,
    /// Of the output, spent on reasoning.
    pub reasoning: Option<u64>,
    /// Input and output are no count of the provider's.
    pub estimated: bool,
}

/// What is known of an answer so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Token counts; later events add to and replace earlier ones.
    pub usage: Usage,
    /// The answer is or holds an error, under whatever status.
    pub error: bool,
    /// Bytes of what a stream's events say, as they are spelled: for estimates.
    pub said_bytes: u64,
    /// The answer's text, where it was asked for; of a very long one the start.
    pub text: String,
    /// A stream has said by itself that it is over.
    pub ended: bool,
}

/// Every dialect's spelling of the same counts. A count that is no whole number is unknown.
#[derive(Default)]
struct Counts {
    prompt: Option<u64>,
    completion: Option<u64>,
    /// Read from the cache, by the members of that name and by those that tell it in details.
    cache_read: Option<u64>,
    cached: Option<u64>,
    cached_of_prompt: Option<u64>,
    cache_created: Option<u64>,
    thoughts: Option<u64>,
    reasoning_of_completion: Option<u64>,
}

impl Counts {
    /// Reads the object that follows a colon at the start of `bytes`; none if there is no whole one.
    fn read(bytes: &[u8]) -> Option<Self> {
        let at = json::take(bytes, 0, b':').ok()?;
        let at = json::take(bytes, at, b'{').ok()?;
        let mut counts = Self::default();
        json::each_member(bytes, at, 1, |name, _, value| {
            counts.member(name, &bytes[value]);
        })
        .ok()?;
        Some(counts)
    }

    fn member(&mut self, name: &[u8], value: &[u8]) {
        let slot = match name {
            b"prompt_tokens" | b"input_tokens" | b"promptTokenCount" => &mut self.prompt,
            b"completion_tokens" | b"output_tokens" | b"candidatesTokenCount" => {
                &mut self.completion
            }
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
            b"cachedContentTokenCount" | b"prompt_cache_hit_tokens" | b"cached_tokens" => {
                &mut self.cached
            }
            b"thoughtsTokenCount" => &mut self.thoughts,
            _ => return,
        };
        set(slot, whole_number(value));
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

fn whole_number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| {
        value.iter().fold(0_u64, |number, digit| {
            number
                .saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        })
    })
}

/// What is known stays known.
fn set(slot: &mut Option<u64>, value: Option<u64>) {
    if value.is_some() {
        *slot = value;
    }
}

impl Usage {
    fn add(&mut self, counts: &Counts, dialect: Dialect) {
        set(&mut self.cached, counts.cache_read.or(counts.cached));
        set(&mut self.cached, counts.cached_of_prompt);
        set(&mut self.cache_written, counts.cache_created);
        set(&mut self.reasoning, counts.thoughts);
        set(&mut self.reasoning, counts.reasoning_of_completion);
        match dialect {
            // Anthropic counts the cached part of the input apart.
            Dialect::Anthropic => set(
                &mut self.input,
                counts.prompt.map(|tokens| {
                    tokens
                        .saturating_add(self.cached.unwrap_or(0))
                        .saturating_add(self.cache_written.unwrap_or(0))
                }),
            ),
            _ => set(&mut self.input, counts.prompt),
        }
        match dialect {
            // Google counts thoughts apart.
            Dialect::Gemini => set(
                &mut self.output,
                counts
                    .completion
                    .or(counts.thoughts.map(|_| 0))
                    .map(|tokens| tokens.saturating_add(counts.thoughts.unwrap_or(0))),
            ),
            _ => set(&mut self.output, counts.completion),
        }
    }
}

impl Observed {
    /// Looks at one event of a stream. `with_text` gathers the answer's text too.
    pub fn event(&mut self, dialect: Dialect, name: &[u8], data: &[u8], with_text: bool) {
        let names = Names::of(data);
        if matches!(name, b"error" | b"response.failed") || (names.error && top_level_error(data)) {
            self.error = true;
        }
        if names.counts {
            self.counts(dialect, data);
        }
        // What an event adds to an answer stands in the first of these that there is. Ends of streams repeat it all,
        // and hold no delta.
        if let Some(at) = names.delta.or(names.text) {
            self.said_bytes += said_bytes(data, at) as u64;
        }
        if with_text {
            self.ended |= text::ends(dialect, name, data);
            text::gather(&mut self.text, dialect, name, data);
        }
    }

    /// Looks at the end of a plain answer, where every provider puts its counts.
    pub fn tail(&mut self, dialect: Dialect, tail: &[u8]) {
        self.counts(dialect, tail);
    }

    /// Looks at a whole plain answer for its text, and for an error that stands in its place.
    pub fn whole(&mut self, dialect: Dialect, body: &[u8]) {
        self.error |= ERROR.find(body).is_some() && top_level_error(body);
        if let Some(text) = text::of_whole(dialect, body) {
            self.text = text;
        }
    }

    /// Puts estimates where the provider did not count: all of it in a stream whose end with the counts did not come
    /// or was not asked for. `request_bytes` went up; `whole` is a stream that came to its end.
    pub fn estimate(&mut self, request_bytes: u64, whole: bool) {
        let tokens = |bytes: u64| bytes.div_ceil(BYTES_PER_TOKEN);
        let said = tokens(self.said_bytes);
        // What Anthropic counts at the start of a stream is not what it says until its caller leaves.
        let counted = self.usage.output.filter(|output| whole || *output >= said);
        if said == 0 || counted.is_some() {
            return;
        }
        self.usage.output = Some(said);
        self.usage.input = self.usage.input.or(Some(tokens(request_bytes)));
        self.usage.estimated = true;
    }

    fn counts(&mut self, dialect: Dialect, bytes: &[u8]) {
        let name: &[u8] = match dialect {
            Dialect::Gemini => b"\"usageMetadata\"",
            Dialect::OpenAi | Dialect::Anthropic => b"\"usage\"",
        };
        // The last: an answer's own counts stand behind whatever else is named so.
        let mut found = names::rfind(bytes, name);
        while let Some(at) = found {
            if let Some(counts) = Counts::read(&bytes[at + name.len()..]) {
                self.usage.add(&counts, dialect);
                return;
            }
            found = names::rfind(&bytes[..at], name);
        }
    }
}

/// Prepared once.
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));

/// Whether counts may stand in a part of an answer of OpenAI's dialect.
pub fn names_counts(bytes: &[u8]) -> bool {
    names::rfind(bytes, b"\"usage\"").is_some()
}

/// How long the strings are that an event adds to an answer, from the name at `at` on.
fn said_bytes(data: &[u8], mut at: usize) -> usize {
    let mut said = 0;
    // From string to string: what stands between two of them holds no quote, and is a byte or two.
    let quote = |at: usize| data.get(at..)?.iter().position(|byte| *byte == b'"');
    while let Some(quote) = quote(at) {
        let start = at + quote + 1;
        let Ok((end, _)) = json::skip_string(data, start) else {
            break;
        };
        at = end;
        if says(&data[start..end - 1])
            && let Ok(value) = json::take(data, end, b':')
            && let Ok(value) = json::take(data, value, b'"')
            && let Ok((end, _)) = json::skip_string(data, value)
        {
            said += end - 1 - value;
            at = end;
        }
    }
    said
}

/// Whether a member of that name holds what the model says: texts, thoughts, arguments of calls.
fn says(name: &[u8]) -> bool {
    matches!(
        name,
        b"content"
            | b"text"
            | b"delta"
            | b"arguments"
            | b"thinking"
            | b"partial_json"
            | b"reasoning_content"
    )
}

/// `{"error": …}` or `{"type": "error", …}`, whatever the event is called. An `error` of null is none. For data in which
/// `"error"` stands.
fn top_level_error(data: &[u8]) -> bool {
    let error = sonic_rs::get(data, &["error"]).is_ok_and(|value| !value.is_null());
    error || sonic_rs::get(data, &["type"]).is_ok_and(|value| value.as_str() == Some("error"))
}

#[cfg(test)]
mod tests;
