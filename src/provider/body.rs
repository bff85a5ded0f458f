//! A JSON request body in one pass: where the model stands, what the router's own fields say and which bytes to cut.
//!
//! `exchange` scans a body once and gets byte offsets into it; `edits` turns them into splices, so that every byte
//! not named there leaves as it came. The whole body is checked on the way, because one that parsers understand
//! differently could pass the router as one thing and reach the provider as another: for the same reason a duplicate
//! name is never skipped. Keys are compared by their text, however they are escaped.

use std::borrow::Cow;
use std::ops::Range;

use super::json::{self, Broken};
use super::splice::{Overlap, Splices};
use super::{Dialect, anthropic, gemini, openai};

/// Settings longer than this are no settings.
const SETTING_BYTES_MAX: usize = 256;

/// The member that every message may carry for the router.
const MESSAGE_FIELD: &str = "memory";

/// The router's own top-level members, in the order of `RouterField`.
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
    pub(super) fn named(name: &str) -> Option<Self> {
        let (_, field) = ROUTER_FIELDS.iter().find(|(known, _)| *known == name)?;
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

/// The router's own fields in a body; of duplicates the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings([Option<Setting>; ROUTER_FIELDS.len()]);

impl Settings {
    /// What the body says for `field`.
    pub fn get(&self, field: RouterField) -> Option<&Setting> {
        self.0[field as usize].as_ref()
    }

    /// Takes what the body says for `field`, replacing what stood there before.
    pub(super) fn set(&mut self, field: RouterField, setting: Option<Setting>) {
        self.0[field as usize] = setting;
    }
}

/// What one pass over a body finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestBody {
    /// The top-level `model`; of duplicates the last, as most parsers have it. `None` if that one is no string.
    pub model: Option<Text>,
    /// Every other place that states a model: duplicates of `model`, and the places where Gemini's bodies repeat it.
    /// A parser that takes the first of two would act on these.
    pub model_repeats: Vec<Text>,
    /// `messages` is there, whatever it holds.
    pub has_messages: bool,
    /// `input` is there, whatever it holds.
    pub has_input: bool,
    /// `stream`, if it is a boolean.
    pub stream: Option<bool>,
    /// The router's own fields.
    pub settings: Settings,
    /// The bytes that must not go upstream, in order, without overlap.
    pub cuts: Vec<Range<usize>>,
}

/// Why a body cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// No JSON object by RFC 8259, not UTF-8, or nested deeper than 128 levels.
    InvalidJson,
    /// No form by RFC 7578.
    InvalidForm,
}

impl From<Broken> for BodyError {
    fn from(Broken: Broken) -> Self {
        Self::InvalidJson
    }
}

/// Finds in one pass what the router needs of a body, and checks the whole of it.
pub fn scan(body: &[u8], dialect: Dialect) -> Result<RequestBody, BodyError> {
    std::str::from_utf8(body).map_err(|_| BodyError::InvalidJson)?;
    let start = json::take(body, 0, b'{')?;
    let mut walk = Walk {
        body,
        places: places(dialect),
        found: RequestBody::default(),
    };
    let end = walk.members(start, Place::Root, 1)?;
    if json::skip_space(body, end) != body.len() {
        return Err(BodyError::InvalidJson);
    }
    Ok(walk.found)
}

impl RequestBody {
    /// The splices that make the body to send: router fields out and, where a model starts with `prefix` (as it stands
    /// in the routed model, slash included), that prefix out.
    pub fn edits(&self, body: &[u8], prefix: &str) -> Result<Splices, Overlap> {
        let mut splices = Splices::default();
        let mut models: Vec<&Text> = self.model.iter().chain(&self.model_repeats).collect();
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

/// The containers that the walk looks into; all others are skipped whole. They nest at most three deep, so the calls
/// between `members` and `elements` do too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Messages,
    Message,
    ModelList,
    ModelObject,
}

struct Walk<'b> {
    body: &'b [u8],
    places: &'static Places,
    found: RequestBody,
}

impl Walk<'_> {
    /// Walks an object's members from behind its brace, it being the `depth`th open container; returns the offset
    /// behind the closing brace.
    fn members(&mut self, at: usize, place: Place, depth: u32) -> Result<usize, Broken> {
        let mut at = json::skip_space(self.body, at);
        if self.body.get(at) == Some(&b'}') {
            return Ok(at + 1);
        }
        let mut cutter = Cutter::default();
        loop {
            let name_start = at;
            cutter.member_starts(name_start, &mut self.found.cuts);
            let name = self.string(name_start)?;
            let value_start =
                json::skip_space(self.body, json::take(self.body, name.range.end + 1, b':')?);
            let (ours, end) = match place {
                Place::Root => self.root_member(&name, value_start)?,
                Place::Message => {
                    let ours = self.is(&name, MESSAGE_FIELD);
                    (ours, json::skip_value(self.body, value_start, depth)?)
                }
                _ => {
                    let end = json::skip_value(self.body, value_start, depth)?;
                    if self.is(&name, "model") && self.body.get(value_start) == Some(&b'"') {
                        let model = self.string(value_start)?;
                        self.found.model_repeats.push(model);
                    }
                    (false, end)
                }
            };
            cutter.member_ends(name_start, end, ours, &mut self.found.cuts);
            at = json::skip_space(self.body, end);
            match self.body.get(at) {
                Some(b',') => {
                    cutter.comma = at;
                    at = json::skip_space(self.body, at + 1);
                }
                Some(b'}') => {
                    cutter.object_ends(&mut self.found.cuts);
                    return Ok(at + 1);
                }
                _ => return Err(Broken),
            }
        }
    }

    /// Walks a top-level member's array from behind its bracket, into the objects among its elements.
    fn elements(&mut self, at: usize, each: Place) -> Result<usize, Broken> {
        let mut at = json::skip_space(self.body, at);
        if self.body.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            at = json::skip_space(self.body, at);
            at = match self.body.get(at) {
                Some(b'{') => self.members(at + 1, each, 3)?,
                _ => json::skip_value(self.body, at, 2)?,
            };
            at = json::skip_space(self.body, at);
            match self.body.get(at) {
                Some(b',') => at += 1,
                Some(b']') => return Ok(at + 1),
                _ => return Err(Broken),
            }
        }
    }

    /// Looks at one top-level member; says whether it is the router's own, and where it ends.
    fn root_member(&mut self, name: &Text, at: usize) -> Result<(bool, usize), Broken> {
        let body = self.body;
        let name = name.decode(body);
        let place = self.place_of(&name);
        let end = match (place, body.get(at)) {
            (Some(Place::Messages), Some(b'[')) => self.elements(at + 1, Place::Message)?,
            (Some(Place::ModelList), Some(b'[')) => self.elements(at + 1, Place::ModelObject)?,
            (Some(Place::ModelObject), Some(b'{')) => {
                self.members(at + 1, Place::ModelObject, 2)?
            }
            _ => json::skip_value(body, at, 1)?,
        };
        match name.as_ref() {
            "model" => {
                let stated = match body.get(at) {
                    Some(b'"') => Some(self.string(at)?),
                    _ => None,
                };
                let before = std::mem::replace(&mut self.found.model, stated);
                self.found.model_repeats.extend(before);
            }
            "messages" => self.found.has_messages = true,
            "input" => self.found.has_input = true,
            "stream" => {
                self.found.stream = match body.get(at) {
                    Some(b't') => Some(true),
                    Some(b'f') => Some(false),
                    _ => None,
                }
            }
            other => {
                if let Some(field) = RouterField::named(other) {
                    let setting = self.setting(at, end)?;
                    self.found.settings.set(field, setting);
                    return Ok((true, end));
                }
            }
        }
        Ok((false, end))
    }

    fn place_of(&self, name: &str) -> Option<Place> {
        let Places {
            message_lists,
            model_lists,
            model_objects,
        } = self.places;
        if message_lists.contains(&name) {
            Some(Place::Messages)
        } else if model_lists.contains(&name) {
            Some(Place::ModelList)
        } else if model_objects.contains(&name) {
            Some(Place::ModelObject)
        } else {
            None
        }
    }

    /// The string whose opening quote must stand at `at`.
    fn string(&self, at: usize) -> Result<Text, Broken> {
        if self.body.get(at) != Some(&b'"') {
            return Err(Broken);
        }
        let (end, escaped) = json::skip_string(self.body, at + 1)?;
        Ok(Text {
            range: at + 1..end - 1,
            escaped,
        })
    }

    fn is(&self, text: &Text, expected: &str) -> bool {
        if text.escaped {
            text.decode(self.body) == expected
        } else {
            text.raw(self.body) == expected.as_bytes()
        }
    }

    fn setting(&self, at: usize, end: usize) -> Result<Option<Setting>, Broken> {
        let raw = self.body.get(at..end).unwrap_or_default();
        Ok(match raw.first() {
            Some(b'n') => None,
            Some(b'{' | b'[') => Some(Setting::Unusable),
            _ if raw.len() > SETTING_BYTES_MAX => Some(Setting::Unusable),
            Some(b'"') => Some(Setting::Value(
                self.string(at)?.decode(self.body).into_owned(),
            )),
            _ => Some(Setting::Value(String::from_utf8_lossy(raw).into_owned())),
        })
    }
}

/// Cuts members out of one object so that exactly one comma goes with each: the one before it if a kept member stands
/// before, else the one behind it.
#[derive(Default)]
struct Cutter {
    /// Where the last comma stands.
    comma: usize,
    /// A member before this one is kept.
    kept: bool,
    /// The first byte of a cut that ends where the next member starts.
    leading: Option<usize>,
    /// Where the member that is being cut ends.
    end: usize,
}

impl Cutter {
    fn member_starts(&mut self, at: usize, cuts: &mut Vec<Range<usize>>) {
        if let Some(start) = self.leading.take() {
            push_cut(cuts, start..at);
        }
    }

    fn member_ends(&mut self, start: usize, end: usize, ours: bool, cuts: &mut Vec<Range<usize>>) {
        match (ours, self.kept) {
            (false, _) => self.kept = true,
            (true, true) => push_cut(cuts, self.comma..end),
            (true, false) => {
                self.leading = Some(start);
                self.end = end;
            }
        }
    }

    fn object_ends(&mut self, cuts: &mut Vec<Range<usize>>) {
        if let Some(start) = self.leading.take() {
            push_cut(cuts, start..self.end);
        }
    }
}

/// Adjacent cuts become one.
fn push_cut(cuts: &mut Vec<Range<usize>>, cut: Range<usize>) {
    match cuts.last_mut() {
        Some(last) if last.end == cut.start => last.end = cut.end,
        _ => cuts.push(cut),
    }
}

#[cfg(test)]
mod tests;
