//! Strict JSON lexing over bytes that are valid UTF-8: skip a value, skip a string, decode a string.
//!
//! `body` walks with it. It accepts exactly RFC 8259, needs no recursion, and takes one bit per open container, so
//! neither depth nor size of hostile input costs stack. Offsets in, offsets out: nothing is copied. It is our own
//! because sonic-rs' checked skip recurses without a bound (a body of `[` overflows the stack, which no handler can
//! catch) and takes any four bytes behind `\u`; at several GB/s on message-heavy bodies it is no slower.

mod string;

use std::borrow::Cow;
use std::ops::Range;

use fearless_simd::{Level, Simd, dispatch};

pub(super) use string::skip_string;

/// How deep values may nest, the top-level object included.
pub(super) const DEPTH_MAX: u32 = 128;

/// As much of a text as is copied at once.
const LANE_BYTES: usize = 32;

/// Not RFC 8259, or nested deeper than `DEPTH_MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// The first offset from `at` on that is not white space.
#[inline]
pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Takes the one byte `expected`, white space before it allowed.
#[inline]
pub(super) fn take(bytes: &[u8], at: usize, expected: u8) -> Result<usize, Broken> {
    let at = skip_space(bytes, at);
    if bytes.get(at) == Some(&expected) {
        Ok(at + 1)
    } else {
        Err(Broken)
    }
}

/// Skips one value of any kind, white space before it allowed; returns the offset behind it. `depth` containers are
/// open around it already.
pub(super) fn skip_value(bytes: &[u8], mut at: usize, depth: u32) -> Result<usize, Broken> {
    // One bit per container opened here, the innermost lowest: 1 for an object, 0 for an array.
    let mut objects: u128 = 0;
    let mut open: u32 = 0;
    let room = DEPTH_MAX.saturating_sub(depth);
    'value: loop {
        at = skip_space(bytes, at);
        match bytes.get(at) {
            Some(b'"') => at = skip_string(bytes, at + 1)?.0,
            Some(&bracket @ (b'{' | b'[')) => {
                if open == room {
                    return Err(Broken);
                }
                let object = bracket == b'{';
                at = skip_space(bytes, at + 1);
                if bytes.get(at) == Some(if object { &b'}' } else { &b']' }) {
                    at += 1;
                } else {
                    open += 1;
                    objects = objects << 1 | u128::from(object);
                    if object {
                        at = skip_name(bytes, at)?;
                    }
                    continue 'value;
                }
            }
            Some(b'-' | b'0'..=b'9') => at = skip_number(bytes, at)?,
            Some(b't') => at = skip_word(bytes, at, b"true")?,
            Some(b'f') => at = skip_word(bytes, at, b"false")?,
            Some(b'n') => at = skip_word(bytes, at, b"null")?,
            _ => return Err(Broken),
        }
        while open > 0 {
            let object = objects & 1 == 1;
            at = skip_space(bytes, at);
            match bytes.get(at) {
                Some(b',') if object => {
                    at = skip_name(bytes, skip_space(bytes, at + 1))?;
                    continue 'value;
                }
                Some(b',') => {
                    at += 1;
                    continue 'value;
                }
                Some(b'}') if object => at += 1,
                Some(b']') if !object => at += 1,
                _ => return Err(Broken),
            }
            objects >>= 1;
            open -= 1;
        }
        return Ok(at);
    }
}

/// Hands each member of an object whose brace is before `at` to `on_member`, as its name's bytes between the quotes,
/// whether they hold escapes, and where its value stands. `depth` containers are open, the object included.
pub(super) fn each_member(
    bytes: &[u8],
    at: usize,
    depth: u32,
    mut on_member: impl FnMut(&[u8], bool, Range<usize>),
) -> Result<usize, Broken> {
    let mut at = skip_space(bytes, at);
    if bytes.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        if bytes.get(at) != Some(&b'"') {
            return Err(Broken);
        }
        let (name_end, escaped) = skip_string(bytes, at + 1)?;
        let start = skip_space(bytes, take(bytes, name_end, b':')?);
        let end = skip_value(bytes, start, depth)?;
        on_member(
            bytes.get(at + 1..name_end - 1).unwrap_or_default(),
            escaped,
            start..end,
        );
        at = skip_space(bytes, end);
        match bytes.get(at) {
            Some(b',') => at = skip_space(bytes, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(Broken),
        }
    }
}

/// Skips a member's name and the colon behind it.
fn skip_name(bytes: &[u8], at: usize) -> Result<usize, Broken> {
    if bytes.get(at) != Some(&b'"') {
        return Err(Broken);
    }
    let (at, _) = skip_string(bytes, at + 1)?;
    take(bytes, at, b':')
}

fn skip_word(bytes: &[u8], at: usize, word: &[u8]) -> Result<usize, Broken> {
    match bytes.get(at..at + word.len()) {
        Some(found) if found == word => Ok(at + word.len()),
        _ => Err(Broken),
    }
}

fn skip_number(bytes: &[u8], mut at: usize) -> Result<usize, Broken> {
    if bytes.get(at) == Some(&b'-') {
        at += 1;
    }
    at = match bytes.get(at) {
        Some(b'0') => at + 1,
        Some(b'1'..=b'9') => skip_digits(bytes, at)?,
        _ => return Err(Broken),
    };
    if bytes.get(at) == Some(&b'.') {
        at = skip_digits(bytes, at + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = bytes.get(at) {
            at += 1;
        }
        at = skip_digits(bytes, at)?;
    }
    Ok(at)
}

/// Skips at least one digit.
fn skip_digits(bytes: &[u8], start: usize) -> Result<usize, Broken> {
    let mut at = start;
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at += 1;
    }
    if at == start { Err(Broken) } else { Ok(at) }
}

/// The bytes of a skipped string's text, from those between the quotes: what names are compared by.
#[inline]
pub(super) fn text_bytes(raw: &[u8], escaped: bool) -> Cow<'_, [u8]> {
    match escaped {
        true => Cow::Owned(dispatch!(Level::new(), simd => unescape(simd, raw))),
        false => Cow::Borrowed(raw),
    }
}

/// The text of a skipped string, from its bytes between the quotes. A lone surrogate becomes U+FFFD: the text is for
/// comparing and showing, never for sending on.
pub(super) fn decode(raw: &[u8], escaped: bool) -> Cow<'_, str> {
    match text_bytes(raw, escaped) {
        // Checked as a whole, which for something short is much less than looking for what is to be replaced.
        Cow::Borrowed(raw) => match std::str::from_utf8(raw) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(raw),
        },
        Cow::Owned(text) => Cow::Owned(match String::from_utf8(text) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
    }
}

/// Runs between escapes are short, in code above all: they are copied by whole lanes, of which what stands behind a
/// backslash is taken back.
#[inline(always)]
fn unescape<S: Simd>(simd: S, raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len() + LANE_BYTES);
    let mut chars = Chars { raw, at: 0 };
    while let Some(rest) = raw.get(chars.at..).filter(|rest| !rest.is_empty()) {
        let run = match rest.first_chunk::<LANE_BYTES>() {
            Some(lane) => {
                text.extend_from_slice(lane);
                let run = string::first_backslash(simd, lane);
                text.truncate(text.len() - LANE_BYTES + run);
                run
            }
            None => {
                let run = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
                text.extend_from_slice(&rest[..run]);
                run
            }
        };
        chars.at += run;
        if run < rest.len().min(LANE_BYTES) {
            match rest.get(run + 1) {
                Some(b'n') => text.push(b'\n'),
                Some(&same @ (b'"' | b'\\' | b'/')) => text.push(same),
                _ => {
                    let escaped = chars.escape();
                    text.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            }
            chars.at += 2;
        }
    }
    text
}

/// Appends a text as it stands between quotes (RFC 8259 section 7).
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    loop {
        let run = rest
            .iter()
            .position(|b| matches!(b, b'"' | b'\\' | 0..0x20));
        let (run, other) = rest.split_at(run.unwrap_or(rest.len()));
        out.extend_from_slice(run);
        let Some((&byte, behind)) = other.split_first() else {
            return;
        };
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            0..0x20 => {
                let digits = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
            _ => out.extend_from_slice(&[b'\\', byte]),
        }
        rest = behind;
    }
}

/// The first `max` characters of such a string.
pub(super) fn decode_start(raw: &[u8], max: usize) -> String {
    Chars { raw, at: 0 }.take(max).map(|(c, _)| c).collect()
}

/// How many bytes of `raw` spell the first `text_len` bytes of its text.
pub(super) fn raw_len_of_prefix(raw: &[u8], escaped: bool, text_len: usize) -> usize {
    if !escaped {
        return text_len.min(raw.len());
    }
    let mut behind = 0;
    let mut text = 0;
    for (c, end) in (Chars { raw, at: 0 }) {
        if text >= text_len {
            break;
        }
        text += c.len_utf8();
        behind = end;
    }
    behind
}

/// The characters of a string and the raw offset behind each.
struct Chars<'a> {
    raw: &'a [u8],
    at: usize,
}

impl Chars<'_> {
    fn unit(&self, at: usize) -> Option<u32> {
        let hex = self.raw.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
    }

    fn escape(&mut self) -> char {
        let Some(first) = self.unit(self.at) else {
            let c = match self.raw.get(self.at + 1) {
                Some(b'b') => '\u{8}',
                Some(b'f') => '\u{c}',
                Some(b'n') => '\n',
                Some(b'r') => '\r',
                Some(b't') => '\t',
                Some(&other) => char::from(other),
                None => char::REPLACEMENT_CHARACTER,
            };
            self.at += 2;
            return c;
        };
        self.at += 6;
        if let 0xD800..=0xDBFF = first
            && let Some(second @ 0xDC00..=0xDFFF) = self.unit(self.at)
        {
            self.at += 6;
            let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            return char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        }
        char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

impl Iterator for Chars<'_> {
    type Item = (char, usize);

    fn next(&mut self) -> Option<(char, usize)> {
        let first = *self.raw.get(self.at)?;
        let c = if first == b'\\' {
            self.escape()
        } else {
            let len = match first {
                0..0x80 => 1,
                0x80..0xE0 => 2,
                0xE0..0xF0 => 3,
                _ => 4,
            };
            let bytes = self.raw.get(self.at..self.at + len).unwrap_or_default();
            self.at += len;
            let text = std::str::from_utf8(bytes).unwrap_or_default();
            text.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        Some((c, self.at.min(self.raw.len())))
    }
}

#[cfg(test)]
mod tests;
