//! The walk over a body's bytes: member by member where something may stand that matters, past everything else.

mod message;

use std::ops::Range;

use super::{
    BodyError, MODELS_MAX, Messages, Places, RequestBody, RouterField, SETTING_BYTES_MAX, Setting,
    Text,
};
use crate::provider::json::{self, Broken};
use message::Draft;

/// The member that every message may carry for the router.
const MESSAGE_FIELD: &str = "memory";

/// Walks a whole document, which must be an object.
pub(super) fn root(
    body: &[u8],
    places: &'static Places,
    conversation: bool,
) -> Result<RequestBody, BodyError> {
    let start = json::take(body, 0, b'{')?;
    let mut walk = Walk {
        body,
        places,
        // Offsets of a conversation take half the room; a body that is larger has none.
        conversation: conversation && u32::try_from(body.len()).is_ok(),
        messages: Messages::default(),
        models: 0,
        found: RequestBody {
            members_start: start,
            ..RequestBody::default()
        },
    };
    let end = walk.members(start, Place::Root, 1);
    if walk.models > MODELS_MAX {
        return Err(BodyError::TooManyModels);
    }
    if json::skip_space(body, end?) != body.len() {
        return Err(BodyError::InvalidJson);
    }
    Ok(walk.found)
}

/// The containers that the walk looks into; all others are skipped whole. They nest at most five deep, so the calls
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
    conversation: bool,
    /// The list that is being walked.
    messages: Messages,
    /// How many models are stated.
    models: usize,
    found: RequestBody,
}

impl Walk<'_> {
    /// Walks an object's members from behind its brace, it being the `depth`th open container; returns the offset
    /// behind the closing brace.
    fn members(&mut self, at: usize, place: Place, depth: u32) -> Result<usize, Broken> {
        let mut draft = Draft::at(at.saturating_sub(1));
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
                    let end = match self.conversation {
                        true => self.message_member(&mut draft, &name, value_start, depth)?,
                        false => json::skip_value(self.body, value_start, depth)?,
                    };
                    (ours, end)
                }
                _ => {
                    let messages = place == Place::ModelObject
                        && self.body.get(value_start) == Some(&b'[')
                        && self.place_of(&name.bytes(self.body)) == Some(Place::Messages);
                    let end = if messages {
                        self.elements(value_start + 1, Place::Message, depth + 1)?
                    } else {
                        json::skip_value(self.body, value_start, depth)?
                    };
                    if self.is(&name, "model") && self.body.get(value_start) == Some(&b'"') {
                        let model = self.model(value_start)?;
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
                    if place == Place::Message {
                        self.message_ends(draft, at + 1);
                    }
                    return Ok(at + 1);
                }
                _ => return Err(Broken),
            }
        }
    }

    /// Walks an array from behind its bracket, it being the `depth`th open container, into the objects among its
    /// elements.
    fn elements(&mut self, at: usize, each: Place, depth: u32) -> Result<usize, Broken> {
        let mut at = json::skip_space(self.body, at);
        if self.body.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            at = json::skip_space(self.body, at);
            at = match self.body.get(at) {
                Some(b'{') => self.members(at + 1, each, depth + 1)?,
                _ => json::skip_value(self.body, at, depth)?,
            };
            if self.conversation && each == Place::Message {
                self.messages.elements += 1;
            }
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
        let name = name.bytes(body);
        let place = self.place_of(&name);
        self.messages = Messages::default();
        let end = match (place, body.get(at)) {
            (Some(Place::Messages), Some(b'[')) => self.elements(at + 1, Place::Message, 2)?,
            (Some(Place::Messages), Some(b'{')) if self.places.bare_ones => {
                let end = self.members(at + 1, Place::Message, 2)?;
                self.messages.elements = 1;
                end
            }
            (Some(Place::ModelList), Some(b'[')) => self.elements(at + 1, Place::ModelObject, 2)?,
            (Some(Place::ModelObject), Some(b'{')) => {
                self.members(at + 1, Place::ModelObject, 2)?
            }
            _ => json::skip_value(body, at, 1)?,
        };
        match name.as_ref() {
            b"model" => {
                let stated = match body.get(at) {
                    Some(b'"') => Some(self.model(at)?),
                    _ => None,
                };
                let before = std::mem::replace(&mut self.found.model, stated);
                self.found.model_repeats.extend(before);
            }
            b"messages" => {
                self.found.has_messages = true;
                self.found.messages = std::mem::take(&mut self.messages);
            }
            b"contents" if place == Some(Place::Messages) => {
                self.found.messages = std::mem::take(&mut self.messages);
            }
            b"input" => {
                self.found.has_input = true;
                if self.conversation && body.get(at) == Some(&b'"') {
                    self.messages.push_text(at..end);
                }
                self.found.input = std::mem::take(&mut self.messages);
            }
            b"prompt" => self.found.has_prompt = true,
            b"stream" => {
                self.found.stream = match body.get(at) {
                    Some(b't') => Some(true),
                    Some(b'f') => Some(false),
                    _ => None,
                }
            }
            b"stream_options" => {
                let before = self.found.stream_options.replace(at..end);
                self.found.stream_options_repeated |= before.is_some();
            }
            b"data_sources" | b"dataSources" => self.found.has_data_sources = true,
            b"models" => self.strings(at)?,
            other if other.eq_ignore_ascii_case(b"model") && body.get(at) == Some(&b'"') => {
                let model = self.model(at)?;
                self.found.models_besides.push(model);
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

    /// Takes the names in a list of models, if it is one.
    fn strings(&mut self, at: usize) -> Result<(), Broken> {
        if self.body.get(at) != Some(&b'[') {
            return Ok(());
        }
        let mut at = json::skip_space(self.body, at + 1);
        loop {
            let end = match self.body.get(at) {
                Some(b']') => return Ok(()),
                Some(b'"') => {
                    let name = self.model(at)?;
                    let end = name.range.end + 1;
                    self.found.models_besides.push(name);
                    end
                }
                _ => json::skip_value(self.body, at, 2)?,
            };
            at = json::skip_space(self.body, end);
            if self.body.get(at) == Some(&b',') {
                at = json::skip_space(self.body, at + 1);
            }
        }
    }

    fn place_of(&self, name: &[u8]) -> Option<Place> {
        let among = |names: &[&str]| names.iter().any(|known| known.as_bytes() == name);
        let Places {
            message_lists,
            model_lists,
            model_objects,
            ..
        } = self.places;
        if among(message_lists) {
            Some(Place::Messages)
        } else if among(model_lists) {
            Some(Place::ModelList)
        } else if among(model_objects) {
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

    /// A string that states a model. One too many ends the walk.
    fn model(&mut self, at: usize) -> Result<Text, Broken> {
        self.models += 1;
        match self.models > MODELS_MAX {
            true => Err(Broken),
            false => self.string(at),
        }
    }

    fn is(&self, text: &Text, expected: &str) -> bool {
        *text.bytes(self.body) == *expected.as_bytes()
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
