//! What stands between a string's quotes, as text.
//!
//! `json` gives it to those who compare, show or keep a text; nothing that is sent on comes from here. The texts of
//! chats and code hold an escape every twenty bytes, so they are read as `string` reads them: of each block a mask says
//! where its escapes are, and the runs between them are copied whole, which takes half to a third of the time that
//! looking for one after the other does.

use std::borrow::Cow;

use fearless_simd::{Level, Simd, dispatch, prelude::*, u8x64};
use simdutf8::basic::from_utf8;

use super::string::{BLOCK_BYTES, escaped};

/// A block, and as much behind it as a run that begins in it is copied from.
const WINDOW_BYTES: usize = 2 * BLOCK_BYTES;

/// A block's last byte.
const LAST: u64 = 1 << (BLOCK_BYTES - 1);

/// What a byte means behind a backslash.
const MEANT: [u8; 256] = {
    let mut meant = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        meant[byte] = byte as u8;
        byte += 1;
    }
    meant[b'b' as usize] = 0x08;
    meant[b'f' as usize] = 0x0c;
    meant[b'n' as usize] = b'\n';
    meant[b'r' as usize] = b'\r';
    meant[b't' as usize] = b'\t';
    meant
};

/// The bytes of a skipped string's text, from those between the quotes: what names are compared by.
#[inline]
pub(in crate::provider) fn text_bytes(raw: &[u8], escaped: bool) -> Cow<'_, [u8]> {
    match escaped {
        true => Cow::Owned(dispatch!(Level::new(), simd => unescape(simd, raw))),
        false => Cow::Borrowed(raw),
    }
}

/// The text of a skipped string, from its bytes between the quotes. A lone surrogate becomes U+FFFD: the text is for
/// comparing and showing, never for sending on.
pub(in crate::provider) fn decode(raw: &[u8], escaped: bool) -> Cow<'_, str> {
    match text_bytes(raw, escaped) {
        // Checked as a whole, which for something short is much less than looking for what is to be replaced.
        Cow::Borrowed(raw) => match from_utf8(raw) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(raw),
        },
        Cow::Owned(text) => Cow::Owned(match String::from_utf8(text) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
    }
}

#[inline(always)]
fn unescape<S: Simd>(simd: S, raw: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(raw.len() + BLOCK_BYTES);
    let mut chars = Chars { raw, at: 0 };
    while let Some(window) = chars.rest().first_chunk::<WINDOW_BYTES>() {
        chars.at += unescape_block(simd, window, &mut text);
        // Of a text in another script that keeps to ASCII, one stands behind the other.
        while chars.rest().starts_with(b"\\u") {
            push(&mut text, chars.escape());
        }
    }
    loop {
        let rest = chars.rest();
        let run = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
        text.extend_from_slice(&rest[..run]);
        chars.at += run;
        if run == rest.len() {
            return text;
        }
        push(&mut text, chars.escape());
    }
}

/// Appends what a window's first block says, up to the first escape that has digits or does not end in it; returns how
/// many bytes said it.
#[inline(always)]
fn unescape_block<S: Simd>(simd: S, window: &[u8; WINDOW_BYTES], text: &mut Vec<u8>) -> usize {
    let block = u8x64::from_slice(simd, &window[..BLOCK_BYTES]);
    let backslashes = block.simd_eq(b'\\').to_bitmask();
    if backslashes == 0 {
        text.extend_from_slice(&window[..BLOCK_BYTES]);
        return BLOCK_BYTES;
    }
    let escaped = escaped(backslashes, &mut 0);
    let starts = backslashes & !escaped;
    let digits = (escaped & block.simd_eq(b'u').to_bitmask()) >> 1;
    let left = digits | starts & LAST;
    let end = left.trailing_zeros() as usize;
    let mut starts = starts & (left & left.wrapping_neg()).wrapping_sub(1);
    let mut from = 0;
    while starts != 0 {
        let start = starts.trailing_zeros() as usize;
        starts &= starts - 1;
        push_run(text, window, from, start);
        text.push(MEANT[usize::from(window[start + 1])]);
        from = start + 2;
    }
    if from < end {
        push_run(text, window, from, end);
        from = end;
    }
    from
}

/// Copies with all that stands behind it in a block's length, and takes back what is too much: a copy of a fixed length
/// is an instruction or two.
#[inline(always)]
fn push_run(text: &mut Vec<u8>, window: &[u8; WINDOW_BYTES], from: usize, to: usize) {
    let before = text.len();
    text.extend_from_slice(&window[from..from + BLOCK_BYTES]);
    text.truncate(before + to - from);
}

#[inline]
fn push(text: &mut Vec<u8>, character: char) {
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// The first `max` characters of such a string.
pub(in crate::provider) fn decode_start(raw: &[u8], max: usize) -> String {
    Chars { raw, at: 0 }.take(max).map(|(c, _)| c).collect()
}

/// How many bytes of `raw` spell the first `text_len` bytes of its text.
pub(in crate::provider) fn raw_len_of_prefix(raw: &[u8], escaped: bool, text_len: usize) -> usize {
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

impl<'a> Chars<'a> {
    fn rest(&self) -> &'a [u8] {
        self.raw.get(self.at..).unwrap_or_default()
    }

    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.raw.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, &digit| {
            Some(unit << 4 | char::from(digit).to_digit(16)?)
        })
    }

    fn escape(&mut self) -> char {
        let Some(first) = self.unit(self.at) else {
            let c = match self.raw.get(self.at + 1) {
                Some(&other) => char::from(MEANT[usize::from(other)]),
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
