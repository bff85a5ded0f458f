//! A `multipart/form-data` body (RFC 7578): where its `model` part stands and which parts are the router's own.
//!
//! `exchange` comes here instead of to `body` when the Content-Type says so (audio and image tasks) and gets the same
//! answer in the same terms. Files between the parts are passed over by one substring search. Delimiters and part
//! heads are taken strictly, with CRLF alone: a form that two parsers could split differently is refused.

use std::ops::Range;

use memchr::memmem;

use super::body::{
    BodyError, MODELS_MAX, RequestBody, RouterField, SETTING_BYTES_MAX, Setting, Text,
};

/// Forms of real applications have a dozen.
const PARTS_MAX: usize = 1024;
const PART_HEAD_BYTES_MAX: usize = 8 * 1024;
/// RFC 2046, section 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// Whether a Content-Type names a form. Then `scan` is to be asked, whatever else it says.
pub fn is_form(content_type: &[u8]) -> bool {
    let media_type = content_type
        .split(|b| *b == b';')
        .next()
        .unwrap_or_default();
    media_type
        .trim_ascii()
        .eq_ignore_ascii_case(b"multipart/form-data")
}

/// Finds in one pass what the router needs of a form.
pub fn scan(body: &[u8], content_type: &[u8]) -> Result<RequestBody, BodyError> {
    let boundary = parameter(content_type, "boundary").ok_or(BodyError::InvalidForm)?;
    if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX || boundary.contains(&b'\r') {
        return Err(BodyError::InvalidForm);
    }
    let parts = parts(body, &boundary).ok_or(BodyError::InvalidForm)?;
    let mut found = RequestBody::default();
    for part in parts {
        let name = part_name(&body[part.head.clone()]).ok_or(BodyError::InvalidForm)?;
        let value = &body[part.value.clone()];
        match name.as_slice() {
            b"model" => {
                std::str::from_utf8(value).map_err(|_| BodyError::InvalidForm)?;
                let stated = Text {
                    range: part.value,
                    escaped: false,
                };
                let before = found.model.replace(stated);
                found.model_repeats.extend(before);
                if found.model_repeats.len() >= MODELS_MAX {
                    return Err(BodyError::TooManyModels);
                }
            }
            b"stream" => found.stream = value.eq_ignore_ascii_case(b"true").then_some(true),
            name => {
                if let Some(field) = RouterField::named(name) {
                    found.settings.set(field, Some(setting(value)));
                    found.cuts.push(part.whole);
                }
            }
        }
    }
    Ok(found)
}

fn setting(value: &[u8]) -> Setting {
    match std::str::from_utf8(value) {
        Ok(text) if text.len() <= SETTING_BYTES_MAX => Setting::Value(text.to_owned()),
        _ => Setting::Unusable,
    }
}

struct Part {
    /// From its delimiter's dashes to those of the next one: what a cut takes.
    whole: Range<usize>,
    head: Range<usize>,
    value: Range<usize>,
}

/// What stands behind a boundary.
enum Delimiter {
    /// A part's head, from this offset.
    Part(usize),
    /// Nothing more.
    Close,
}

/// The parts up to the closing delimiter; `None` if there is none, or a part has no end or no head.
fn parts(body: &[u8], boundary: &[u8]) -> Option<Vec<Part>> {
    let delimiter = [b"\r\n--", boundary].concat();
    let finder = memmem::Finder::new(&delimiter);
    // The next delimiter from `from` on: the offset of its dashes, and what it opens. Text that only starts like a
    // delimiter is content.
    let next = |from: usize| {
        finder.find_iter(&body[from..]).find_map(|at| {
            let dashes = from + at + 2;
            Some((dashes, delimiter_kind(body, dashes + delimiter.len() - 2)?))
        })
    };
    let first = match body.starts_with(&delimiter[2..]) {
        true => delimiter_kind(body, delimiter.len() - 2).map(|kind| (0, kind)),
        false => None,
    };
    let (mut dashes, mut kind) = first.or_else(|| next(0))?;
    let mut parts = Vec::new();
    while let Delimiter::Part(head_start) = kind {
        if parts.len() == PARTS_MAX {
            return None;
        }
        // An empty head ends at once: its empty line is all of it.
        let window = &body[head_start..body.len().min(head_start + PART_HEAD_BYTES_MAX)];
        let head_len = memmem::find(window, b"\r\n\r\n")?;
        let head = head_start..head_start + head_len;
        // The line end of an empty value's head is also that of the delimiter behind it.
        let (next_dashes, next_kind) = next(head.end + 2)?;
        let value = head.end + 4..(next_dashes - 2).max(head.end + 4);
        parts.push(Part {
            whole: dashes..next_dashes,
            head,
            value,
        });
        (dashes, kind) = (next_dashes, next_kind);
    }
    Some(parts)
}

/// Reads on behind a boundary: `--`, or white space and a line end; `None` if this is no delimiter.
fn delimiter_kind(body: &[u8], behind: usize) -> Option<Delimiter> {
    let rest = &body[behind..];
    if rest.starts_with(b"--") {
        return Some(Delimiter::Close);
    }
    let blank = rest
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    rest[blank..]
        .starts_with(b"\r\n")
        .then_some(Delimiter::Part(behind + blank + 2))
}

/// The `name` in a part's Content-Disposition; `None` if the head has not exactly one such name.
fn part_name(head: &[u8]) -> Option<Vec<u8>> {
    let mut name = None;
    for line in head.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = memchr::memchr(b':', line)?;
        let (field, value) = line.split_at(colon);
        if field.eq_ignore_ascii_case(b"content-disposition") {
            let stated = parameter(&value[1..], "name")?;
            if name.replace(stated).is_some() {
                return None;
            }
        }
    }
    name
}

/// One parameter of a header value, unquoted; of duplicates none, because parsers disagree about which counts.
fn parameter(value: &[u8], wanted: &str) -> Option<Vec<u8>> {
    let mut found = None;
    let mut rest = &value[memchr::memchr(b';', value)?..];
    while let [b';', behind @ ..] = rest.trim_ascii_start() {
        let end = memchr::memchr2(b'=', b';', behind).unwrap_or(behind.len());
        let (name, tail) = behind.split_at(end);
        let Some(tail) = tail.strip_prefix(b"=") else {
            rest = tail;
            continue;
        };
        let (text, tail) = parameter_value(tail.trim_ascii_start())?;
        rest = tail;
        if name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
            && found.replace(text).is_some()
        {
            return None;
        }
    }
    // Something that is no parameter stands behind a quoted value.
    rest.trim_ascii().is_empty().then_some(found)?
}

/// Reads a token or a quoted string; returns it and what stands behind it.
fn parameter_value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = memchr::memchr(b';', text).unwrap_or(text.len());
        return Some((text[..end].trim_ascii().to_vec(), &text[end..]));
    };
    let mut value = Vec::new();
    let mut rest = quoted;
    loop {
        rest = match rest {
            [b'"', behind @ ..] => return Some((value, behind)),
            // Only what a quoted string must escape: browsers send a file's backslashes bare.
            [b'\\', escaped @ (b'"' | b'\\'), behind @ ..] => {
                value.push(*escaped);
                behind
            }
            [byte, behind @ ..] => {
                value.push(*byte);
                behind
            }
            [] => return None,
        };
    }
}

#[cfg(test)]
mod tests;
