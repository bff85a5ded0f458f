//! Strict JSON lexing over bytes that are valid UTF-8: skip a value, skip a string, decode a string.
//!
//! `body` walks with it. It accepts exactly RFC 8259, needs no recursion, and takes one bit per open container, so
//! neither depth nor size of hostile input costs stack. Offsets in, offsets out: nothing is copied. It is our own
//! because sonic-rs' checked skip recurses without a bound (a body of `[` overflows the stack, which no handler can
//! catch) and takes any four bytes behind `\u`; at several GB/s on message-heavy bodies it is no slower.

mod decode;
mod string;

use std::ops::Range;

pub(super) use decode::{decode, decode_start, raw_len_of_prefix, text_bytes};
pub(super) use string::skip_string;

/// How deep values may nest, the top-level object included.
pub(super) const DEPTH_MAX: u32 = 128;

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

#[cfg(test)]
mod tests;
