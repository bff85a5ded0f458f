//! A JSON request body in one pass: where the model stands, what the router's own fields say and which bytes to cut.
//!
//! `exchange` scans a body once and gets byte offsets into it; `edits` turns them into splices, so that every byte
//! not named there leaves as it came. The whole body is checked on the way, because one that parsers understand
//! differently could pass the router as one thing and reach the provider as another: for the same reason a duplicate
//! name is never skipped. Keys are compared by their text, however they are escaped.

mod turn;
mod walk;

use std::borrow::Cow;
use std::ops::Range;

use super::json::{self, Broken};
use super::splice::{Overlap, Splices};
use super::{Dialect, anthropic, gemini, openai};

pub use turn::{Said, Turn};

/// Settings longer than this are no settings.
pub(super) const SETTING_BYTES_MAX: usize = 256;

/// The router's own top-level members.
pub(super) const ROUTER_FIELDS: [(&str, RouterField); 6] = [
    ("memory", RouterField::Memory),
    ("memory_mode", RouterField::MemoryMode),
    ("memory_store", RouterField::MemoryStore),
    ("memory_store_response", RouterField::MemoryStoreResponse),
    ("memory_limit", RouterField::MemoryLimit),
    ("session_id", RouterField::SessionId),
];

/// Where one dialect's bodies carry what the router looks at: names of top-level members.
pub(super) struct Places {
    /// Arrays of messages.
    pub(super) message_lists: &'static [&'static str],
    /// The member of a message that holds what is said: a string, or an array of parts.
    pub(super) content: &'static str,
    /// A message without a role is the user's.
    pub(super) roleless_is_user: bool,
    /// Parts that hold what a tool gave back: their `type`, or the name of the member that makes them one.
    pub(super) tool_results: &'static [&'static str],
    /// One message, or one part, may stand without the brackets of its list.
    pub(super) bare_ones: bool,
    /// Arrays of objects that each repeat the model.
    pub(super) model_lists: &'static [&'static str],
    /// Objects that repeat the model.
    pub(super) model_objects: &'static [&'static str],
}

fn places(dialect: Dialect) -> &'static Places {
    match dialect {
        Dialect::OpenAi => &openai::PLACES,
        Dialect::Anthropic => &anthropic::PLACES,
        Dialect::Gemini => &gemini::PLACES,
    }
}

/// A member that is the router's and never the provider's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterField {
    /// `memory`
    Memory,
    /// `memory_mode`
    MemoryMode,
    /// `memory_store`
    MemoryStore,
    /// `memory_store_response`
    MemoryStoreResponse,
    /// `memory_limit`
    MemoryLimit,
    /// `session_id`
    SessionId,
}

impl RouterField {
    pub(super) fn named(name: &[u8]) -> Option<Self> {
        let mut known = ROUTER_FIELDS.iter();
        let (_, field) = known.find(|(known, _)| known.as_bytes() == name)?;
        Some(*field)
    }
}

/// A string in the body, by offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The bytes between the quotes.
    pub range: Range<usize>,
    /// Whether there are escapes in it.
    pub escaped: bool,
}

impl Text {
    fn raw<'b>(&self, body: &'b [u8]) -> &'b [u8] {
        body.get(self.range.clone()).unwrap_or_default()
    }

    /// What it says, as bytes.
    pub fn bytes<'b>(&self, body: &'b [u8]) -> Cow<'b, [u8]> {
        json::text_bytes(self.raw(body), self.escaped)
    }

    /// What it says.
    pub fn decode<'b>(&self, body: &'b [u8]) -> Cow<'b, str> {
        json::decode(self.raw(body), self.escaped)
    }

    /// The bytes that spell `len` bytes of its text from `start` on.
    pub fn range_of(&self, body: &[u8], start: usize, len: usize) -> Range<usize> {
        let raw = self.raw(body);
        let offset =
            |text_len| self.range.start + json::raw_len_of_prefix(raw, self.escaped, text_len);
        offset(start)..offset(start + len)
    }
}

/// What a router-only member of the body says; `null` says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// A string's text, or `true`, `false`, a number as written: as a header or query parameter would have it.
    Value(String),
    /// An object, an array, or more than 256 bytes: present, and of no use.
    Unusable,
}

/// The router's own fields in a body; of duplicates the last. Most bodies have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<(RouterField, Setting)>);

impl Settings {
    /// What the body says for `field`.
    pub fn get(&self, field: RouterField) -> Option<&Setting> {
        let (_, setting) = self.0.iter().find(|(known, _)| *known == field)?;
        Some(setting)
    }

    /// Whether the body says nothing for any field.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes what the body says for `field`, replacing what stood there before.
    pub(super) fn set(&mut self, field: RouterField, setting: Option<Setting>) {
        self.0.retain(|(known, _)| *known != field);
        self.0.extend(setting.map(|setting| (field, setting)));
    }
}

/// What agents put into a user's message as a part of its own, without a word of the user's.
const REMINDER: &str = "<system-reminder>";

/// Whether a string, from behind its opening quote on, is such a part.
fn is_reminder(raw: &[u8]) -> bool {
    matches!(raw.first(), Some(b'<' | b'\\')) && json::decode_start(raw, REMINDER.len()) == REMINDER
}

/// Who says a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaker {
    /// The user, in words: a message that only hands back what tools gave is not.
    User,
    /// The model, calls of tools included.
    Model,
    /// A tool, by what it gave back.
    Tool,
    /// Anyone else: the system prompt.
    #[default]
    Other,
}

/// A message of the conversation, by offsets. Small, because a body may hold very many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub speaker: Speaker,
    /// `memory` is not false in it.
    pub remembered: bool,
    /// Its place among the list's elements, of whatever kind they are.
    index: u32,
    /// Where what is said starts: at a quote or a bracket.
    start: u32,
    /// Behind its closing quote or bracket.
    end: u32,
    /// Where another part would be put in: behind the last one. Its bracket's offset if there is none; where there is
    /// no bracket, behind the part's text.
    parts_end: u32,
}

/// The messages of one list: those of users and of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    list: Vec<Message>,
    /// How many elements the list has, of whatever kind.
    elements: u32,
    steps: Steps,
}

/// What the model and its tools left behind the newest user message; system prompts that callers put there are none of
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Steps {
    /// How many elements.
    count: u32,
    /// Where the first one stands.
    first: Range<usize>,
    /// The id of the call whose result came first, between its quotes; empty if it has none.
    call: Range<usize>,
    /// Whose the last one is.
    last: Speaker,
}

/// What one pass over a body finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestBody {
    /// The top-level `model`; of duplicates the last, as most parsers have it. `None` if that one is no string.
    pub model: Option<Text>,
    /// Every other place that states a model: duplicates of `model`, and the places where Gemini's bodies repeat it.
    /// A parser that takes the first of two would act on these.
    pub model_repeats: Vec<Text>,
    /// Models that some provider would take instead: `model` in other letters (Go's parsers know no case), and the names
    /// in `models` (OpenRouter goes on with them). They go on as they stand.
    pub models_besides: Vec<Text>,
    /// `messages` is there, whatever it holds.
    pub has_messages: bool,
    /// `input` is there, whatever it holds.
    pub has_input: bool,
    /// `prompt` is there, whatever it holds.
    pub has_prompt: bool,
    /// `stream`, if it is a boolean.
    pub stream: Option<bool>,
    /// The last `stream_options`, whatever it is.
    pub stream_options: Option<Range<usize>>,
    /// There are several.
    pub stream_options_repeated: bool,
    /// `data_sources` is there: Azure is to search in them, and refuses `stream_options` beside them.
    pub has_data_sources: bool,
    /// Behind the opening brace.
    pub members_start: usize,
    /// The router's own fields.
    pub settings: Settings,
    /// The conversation, where it was asked for: `messages` or `contents`.
    pub messages: Messages,
    /// The conversation that stands in `input`.
    pub input: Messages,
    /// The bytes that must not go upstream, in order, without overlap.
    pub cuts: Vec<Range<usize>>,
}

/// As many places of a body may state a model: a batch of Gemini's repeats it with each of its requests. Their offsets
/// are kept until the answer is over, and take ten times the room of the shortest of them.
pub const MODELS_MAX: usize = 4096;

/// Why a body cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// No JSON object by RFC 8259, not UTF-8, or nested deeper than 128 levels.
    InvalidJson,
    /// No form by RFC 7578.
    InvalidForm,
    /// More models than [`MODELS_MAX`].
    TooManyModels,
}

impl From<Broken> for BodyError {
    fn from(Broken: Broken) -> Self {
        Self::InvalidJson
    }
}

/// Finds in one pass what the router needs of a body, and checks the whole of it.
pub fn scan(body: &[u8], dialect: Dialect) -> Result<RequestBody, BodyError> {
    scan_in(body, places(dialect), false)
}

/// The same, and where each message stands.
pub fn scan_conversation(body: &[u8], dialect: Dialect) -> Result<RequestBody, BodyError> {
    scan_in(body, places(dialect), true)
}

/// The same of a body in OpenAI's dialect that holds no messages: what is called like them is something else.
pub fn scan_without_messages(body: &[u8]) -> Result<RequestBody, BodyError> {
    scan_in(body, &openai::PLACES_WITHOUT_MESSAGES, false)
}

fn scan_in(
    body: &[u8],
    places: &'static Places,
    conversation: bool,
) -> Result<RequestBody, BodyError> {
    // Most text is ASCII and costs next to nothing here; the standard library takes a second per GB of the rest.
    simdutf8::basic::from_utf8(body).map_err(|_| BodyError::InvalidJson)?;
    walk::root(body, places, conversation)
}

/// Of a name that is told back; no member that anybody means is longer.
const NAME_CHARS_MAX: usize = 64;

impl RequestBody {
    /// The first top-level member that is not the one that names a session, of a body that was scanned; nor is a second
    /// one, or a null.
    pub fn besides_session(&self, body: &[u8]) -> Option<String> {
        let (mut besides, mut named) = (None, false);
        // One that is empty, and was not scanned, has none.
        let _ = json::each_member(body, self.members_start, 1, |name, escaped, value| {
            let field = RouterField::named(&json::text_bytes(name, escaped));
            let says = body.get(value.start) != Some(&b'n');
            let is_session = field == Some(RouterField::SessionId) && says;
            if (!is_session || std::mem::replace(&mut named, true)) && besides.is_none() {
                let name = json::decode(name, escaped);
                besides = Some(name.chars().take(NAME_CHARS_MAX).collect());
            }
        });
        besides
    }

    /// The splices that make the body to send: router fields out and, where a model starts with `prefix` (as it stands
    /// in the routed model, slash included), that prefix out.
    pub fn edits(&self, body: &[u8], prefix: &str) -> Result<Splices, Overlap> {
        let mut splices = Splices::default();
        // Most requests name a model as it goes on: nothing to look at, and nothing to set up.
        let stated = self.model.iter().chain(&self.model_repeats);
        let mut models: Vec<&Text> = stated.filter(|_| !prefix.is_empty()).collect();
        models.sort_by_key(|model| model.range.start);
        let mut prefixes = models
            .into_iter()
            .filter_map(|model| prefix_range(model, body, prefix));
        let mut next_prefix = prefixes.next();
        for cut in &self.cuts {
            while let Some(range) = next_prefix.take_if(|range| range.start < cut.start) {
                splices.remove(range)?;
                next_prefix = prefixes.next();
            }
            splices.remove(cut.clone())?;
        }
        for range in next_prefix.into_iter().chain(prefixes) {
            splices.remove(range)?;
        }
        Ok(splices)
    }
}

/// Where `prefix` stands in a model, in any case; a Gemini body has `models/` before it.
fn prefix_range(model: &Text, body: &[u8], prefix: &str) -> Option<Range<usize>> {
    if prefix.is_empty() {
        return None;
    }
    let text = model.decode(body);
    let start = match text.strip_prefix(gemini::MODEL_RESOURCE) {
        Some(_) => gemini::MODEL_RESOURCE.len(),
        None => 0,
    };
    let stated = text.get(start..start + prefix.len())?;
    stated
        .eq_ignore_ascii_case(prefix)
        .then(|| model.range_of(body, start, prefix.len()))
}

#[cfg(test)]
mod tests;
