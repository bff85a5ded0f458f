//! What a provider's answer says, read from the bytes that pass: token counts, errors, text.
//!
//! `relay::tap` calls in with single events of a stream, or with a plain answer's last bytes or whole body. All
//! dialects spell the same few facts differently; one tolerant form reads them all, and what is not there stays
//! unknown. Nothing is parsed that does not hold one of these facts.

mod calls;
mod counts;
mod names;
mod text;

use std::sync::LazyLock;

use memchr::memmem::Finder;
use sonic_rs::JsonValueTrait as _;

use super::{Dialect, json};
use counts::{CANDIDATES_MAX, Counts, depth_behind};
use names::Names;
use text::Seam;

use crate::depth;

/// Where nobody counts, a token is taken to be this many bytes.
const BYTES_PER_TOKEN: u64 = 4;
pub use text::{TEXT_BYTES_MAX, is_answer, without_reasoning};

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
    /// Of that, to be kept for an hour, which costs more.
    pub cache_written_1h: Option<u64>,
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
    /// Bytes of what a stream's events say, or a plain answer without counts, as they are spelled: for estimates.
    pub said_bytes: u64,
    /// It answers what tokens are paid for: what it does not count is estimated, whatever it says.
    pub billed: bool,
    /// The answer's text, where it was asked for; of a very long one the start.
    pub text: String,
    /// The model asks its caller to do something; looked for where the text was asked for.
    pub calls: bool,
    /// By which the first call's result will name it, where the dialect has that.
    pub call_id: String,
    /// A stream has said by itself that it is over; a plain answer is a whole document, where its text was asked for.
    pub ended: bool,
    /// A stream has said why it is over: its text is whole, though counts may follow. Looked for where the text was asked
    /// for.
    pub finished: bool,
    /// The counts are those of a stream's start: what Anthropic counts there is not what the model says behind it.
    of_start: bool,
    seam: Seam,
}

impl Observed {
    /// Looks at one event of a stream. `with_text` gathers the answer's text too.
    pub fn event(&mut self, dialect: Dialect, name: &[u8], data: &[u8], with_text: bool) {
        let names = Names::of(data);
        if is_error(name) || (names.error && top_level_error(data)) {
            self.error = true;
        }
        if names.counts && self.counts(dialect, data).is_some() {
            self.of_start = text::starts(dialect, name, data);
        }
        // What an event adds to an answer stands in the first of these that there is. Where OpenAI's dialect has a text
        // without a delta it repeats what was said, but in the choices of old completions.
        let adds = |at: &usize| dialect != Dialect::OpenAi || CHOICES.find(&data[..*at]).is_some();
        if let Some(at) = names.delta.or_else(|| names.text.filter(adds)) {
            self.said_bytes += said_bytes(data, at) as u64;
        }
        self.ended |= text::ends(dialect, name, data);
        if with_text {
            if !self.calls {
                self.call(calls::first_in(dialect, data));
            }
            self.finished = self.finished || text::finishes(dialect, name, data);
            text::gather(&mut self.text, &mut self.seam, dialect, name, data);
        }
    }

    /// Looks at the end of an event that is too long to be looked at whole.
    pub fn event_end(&mut self, dialect: Dialect, name: &[u8], end: &[u8]) {
        self.error |= is_error(name);
        self.counts(dialect, end);
        self.ended |= text::ends(dialect, name, end);
    }

    /// Looks at the end of a plain answer, or all of it: for its counts, and for an error that stands behind or instead
    /// of them.
    pub fn tail(&mut self, dialect: Dialect, tail: &[u8]) {
        let counts_end = self.counts(dialect, tail);
        self.error |= error_behind(tail, counts_end.unwrap_or(0));
    }

    /// Looks at the start of a plain answer; says whether its counts stand there.
    pub fn head(&mut self, dialect: Dialect, head: &[u8]) -> bool {
        let counts = Counts::find_at_start(head, dialect);
        if let Some(counts) = &counts {
            self.usage.add(counts, dialect);
        }
        counts.is_some()
    }

    /// Measures a plain answer that does not count itself: by its texts or, where not all of it is `kept` or it has none
    /// of a known name, by its length.
    pub fn measure(&mut self, kept: &[u8], all_bytes: usize) {
        if !self.billed || self.error || self.usage.output.is_some() {
            return;
        }
        let said = match kept.len() == all_bytes {
            true => said_bytes(kept, 0),
            false => 0,
        };
        self.said_bytes = if said > 0 { said } else { all_bytes } as u64;
    }

    /// Looks at a whole plain answer for its text and calls, and for an error that stands in its place.
    pub fn whole(&mut self, dialect: Dialect, body: &[u8]) {
        self.error |= ERROR.find(body).is_some() && top_level_error(body);
        self.call(calls::first_in(dialect, body));
        if let Some(text) = text::of_whole(dialect, body) {
            self.text = text;
            self.ended = true;
        }
    }

    fn call(&mut self, id: Option<String>) {
        self.calls = id.is_some();
        self.call_id = id.unwrap_or_default();
    }

    /// Whether the provider has counted what the model said, if that is anything yet.
    pub fn is_counted(&self) -> bool {
        let said = self.said_tokens();
        let counts = |output| !self.of_start || output >= said;
        let owes_none = said == 0 && (self.error || !self.billed);
        self.usage.output.map_or(owes_none, counts)
    }

    /// Puts estimates where the provider did not count: all of it in an answer whose end with the counts did not come,
    /// was not asked for or has none, and what went in where the caller did not wait for an answer's first word. `asked`
    /// tells what the request's texts may have cost.
    pub fn estimate(&mut self, asked: impl FnOnce() -> u64, caller_left: bool) {
        let said = self.said_tokens();
        let unheard = caller_left && said == 0 && self.usage.output.is_none();
        if self.is_counted() && !unheard {
            return;
        }
        let input = self.usage.input.unwrap_or_else(asked);
        if said + input > 0 {
            self.usage.output = Some(said);
            self.usage.input = Some(input);
            self.usage.estimated = true;
        }
    }

    fn said_tokens(&self) -> u64 {
        self.said_bytes.div_ceil(BYTES_PER_TOKEN)
    }

    /// Takes the counts, and says where they end.
    fn counts(&mut self, dialect: Dialect, bytes: &[u8]) -> Option<usize> {
        let mut counts = Counts::default();
        let end = counts.find(bytes, dialect)?;
        self.usage.add(&counts, dialect);
        Some(end)
    }
}

/// Prepared once.
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"choices\""));

/// Whether counts may stand in a part of an answer of OpenAI's dialect.
pub fn names_counts(bytes: &[u8]) -> bool {
    names::rfind(bytes, b"\"usage\"").is_some()
}

/// How long the strings are that an event adds to an answer, from the name at `at` on; or that an answer holds.
fn said_bytes(data: &[u8], mut at: usize) -> usize {
    let mut said = 0;
    // By the name that they have: some servers tell the same thoughts under two.
    let mut thoughts = [0; 3];
    let mut details_end = 0;
    // From string to string: what stands between two of them holds no quote, and is a byte or two.
    let quote = |at: usize| data.get(at..)?.iter().position(|byte| *byte == b'"');
    while let Some(quote) = quote(at) {
        let start = at + quote + 1;
        let Ok((end, _)) = json::skip_string(data, start) else {
            break;
        };
        at = end;
        let name = &data[start..end - 1];
        let Ok(value) = json::take(data, end, b':') else {
            continue;
        };
        if name == b"reasoning_details" {
            details_end = json::skip_value(data, value, 1).unwrap_or(data.len());
        }
        if says(name)
            && let Ok(value) = json::take(data, value, b'"')
        {
            // Of an answer that breaks off inside a text there is the start.
            let end = json::skip_string(data, value).map(|(end, _)| end);
            let text_end = end.map_or(data.len(), |end| end - 1);
            *match name {
                b"reasoning" => &mut thoughts[0],
                b"reasoning_content" => &mut thoughts[1],
                _ if value < details_end => &mut thoughts[2],
                _ => &mut said,
            } += text_end - value;
            at = end.unwrap_or(data.len());
        }
    }
    said + thoughts.into_iter().max().unwrap_or(0)
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
            | b"reasoning"
            | b"reasoning_content"
            | b"refusal"
            | b"transcript"
            | b"input"
    )
}

/// Whether an event of this name is an error.
fn is_error(name: &[u8]) -> bool {
    matches!(name, b"error" | b"response.failed")
}

/// `{"error": …}`, or such a name in `type`, whatever the event is called. An `error` of null is none. For data in which
/// `"error"` stands.
fn top_level_error(data: &[u8]) -> bool {
    let data = depth::pruned(data);
    let error = sonic_rs::get(&*data, &["error"]).is_ok_and(|value| !value.is_null());
    let stated = || sonic_rs::get(&*data, &["type"]);
    error || stated().is_ok_and(|it| it.as_str().is_some_and(|name| is_error(name.as_bytes())))
}

/// Whether the `error` of a plain answer stands behind `start`, of a stream as one array the last element's.
fn error_behind(bytes: &[u8], start: usize) -> bool {
    let name = b"\"error\"";
    let mut rest = bytes;
    for _ in 0..CANDIDATES_MAX {
        let Some(at) = names::rfind(&rest[start..], name) else {
            break;
        };
        rest = &bytes[..start + at];
        let value = json::take(bytes, start + at + name.len(), b':');
        let end = value.and_then(|value| json::skip_value(bytes, value, 1));
        if let (Ok(value), Ok(end)) = (value, end)
            && bytes[value..end].trim_ascii() != b"null"
            && depth_behind(bytes, end) == Some(1)
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
