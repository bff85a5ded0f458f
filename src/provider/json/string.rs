//! Past a string: to its closing quote, every escape checked on the way.
//!
//! `json` calls it for each name and text of a body. Short strings are read word by word, longer ones in blocks of 64.
//! From the first block on in which something stands, blocks become bit masks (Langdale and Lemire, Parsing Gigabytes
//! of JSON per Second, section 3.1), because the texts of chats and code hold an escape every twenty bytes: run by run
//! they cost three times as much. The widest vectors that the CPU has are used.

use fearless_simd::{Level, Simd, dispatch, prelude::*, u8x64};

use super::Broken;

const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
const QUOTES: u64 = u64::from_ne_bytes([b'"'; 8]);
const BACKSLASHES: u64 = u64::from_ne_bytes([b'\\'; 8]);
const SPACES: u64 = u64::from_ne_bytes([0x20; 8]);

/// Most names and short values end within this many bytes; beyond, vector instructions are worth their start.
const SHORT_BYTES: usize = 32;

/// One bit of a mask for each byte.
pub(super) const BLOCK_BYTES: usize = 64;

/// Skips what follows an opening quote; returns the offset behind the closing one, and whether there were escapes.
pub(in crate::provider) fn skip_string(bytes: &[u8], at: usize) -> Result<(usize, bool), Broken> {
    let rest = bytes.get(at..).unwrap_or_default();
    let short = rest.get(..SHORT_BYTES).unwrap_or(rest);
    let plain = plain_bytes(short);
    match short.get(plain) {
        Some(b'"') => Ok((at + plain + 1, false)),
        Some(0..0x20) => Err(Broken),
        _ => dispatch!(Level::new(), simd => {
            skip_blocks(simd, bytes, skip_plain_blocks(simd, bytes, at + plain))
        }),
    }
}

/// Past the blocks in which nothing but text stands. In a string that has had an escape, masks at once cost less than
/// this look before them.
#[inline(always)]
fn skip_plain_blocks<S: Simd>(simd: S, bytes: &[u8], mut at: usize) -> usize {
    while let Some(block) = bytes.get(at..at + BLOCK_BYTES) {
        let block = u8x64::from_slice(simd, block);
        let marked = block.simd_eq(b'"') | block.simd_eq(b'\\') | block.simd_lt(0x20);
        if marked.any_true() {
            break;
        }
        at += BLOCK_BYTES;
    }
    at
}

/// Bit 7 of each byte that ends a plain run: a quote, a backslash, a control character. A borrow can mark bytes above
/// a true hit as well, so only the lowest mark is exact; it is the only one that is read.
#[inline]
fn run_ends(word: u64) -> u64 {
    let quote = word ^ QUOTES;
    let backslash = word ^ BACKSLASHES;
    (quote.wrapping_sub(ONES) & !quote
        | backslash.wrapping_sub(ONES) & !backslash
        | word.wrapping_sub(SPACES) & !word)
        & HIGHS
}

/// How many bytes stand before the first quote, backslash or control character.
fn plain_bytes(short: &[u8]) -> usize {
    let mut at = 0;
    let (words, tail) = short.as_chunks::<8>();
    for word in words {
        let ends = run_ends(u64::from_le_bytes(*word));
        if ends != 0 {
            return at + (ends.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let plain = |&&b: &&u8| b != b'"' && b != b'\\' && b >= 0x20;
    at + tail.iter().take_while(plain).count()
}

#[inline(always)]
fn skip_blocks<S: Simd>(simd: S, bytes: &[u8], mut at: usize) -> Result<(usize, bool), Broken> {
    let mut any_escape = false;
    // 1 while the block before ended in the backslash of an escape.
    let mut carried = 0;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let mut last = [0; BLOCK_BYTES];
        let block = match rest.first_chunk() {
            Some(block) => block,
            // The zeros behind the end are control characters: no string ends in them.
            None => {
                last[..rest.len()].copy_from_slice(rest);
                &last
            }
        };
        let marks = Marks::of(u8x64::from_slice(simd, block));
        let escaped = escaped(marks.backslashes, &mut carried);
        let quotes = marks.quotes & !escaped;
        // All bytes before the closing quote.
        let inside = (quotes & quotes.wrapping_neg()).wrapping_sub(1);
        if marks.controls & inside != 0 {
            return Err(Broken);
        }
        // Nearly all are of these, and one mask for them costs less than a look at each.
        let usual = marks.quotes | marks.backslashes | marks.letters_n;
        let mut left = escaped & inside & !usual;
        while left != 0 {
            let offset = left.trailing_zeros() as usize;
            check_escape(bytes, at + offset)?;
            left &= left - 1;
        }
        any_escape |= marks.backslashes & inside != 0;
        if quotes != 0 {
            return Ok((at + quotes.trailing_zeros() as usize + 1, any_escape));
        }
        if rest.len() < BLOCK_BYTES {
            return Err(Broken);
        }
        at += BLOCK_BYTES;
    }
}

/// Where in a block stands what: the first byte is the lowest bit.
struct Marks {
    quotes: u64,
    backslashes: u64,
    controls: u64,
    letters_n: u64,
}

impl Marks {
    #[inline(always)]
    fn of<S: Simd>(block: u8x64<S>) -> Self {
        Self {
            quotes: block.simd_eq(b'"').to_bitmask(),
            backslashes: block.simd_eq(b'\\').to_bitmask(),
            controls: block.simd_lt(0x20).to_bitmask(),
            letters_n: block.simd_eq(b'n').to_bitmask(),
        }
    }
}

/// The bytes that a backslash before them escapes: those behind each run of backslashes that is odd, and every second
/// one within a run. `carried` is what the block before says of this one's first byte, and then what this one says.
#[inline]
pub(super) fn escaped(backslashes: u64, carried: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    if backslashes | *carried == 0 {
        return 0;
    }
    let starts = backslashes & !*carried;
    let follows = starts << 1 | *carried;
    let odd_starts = starts & !EVEN & !follows;
    let (ends, over) = odd_starts.overflowing_add(starts);
    *carried = u64::from(over);
    (EVEN ^ ends << 1) & follows
}

/// Checks the escape whose backslash stands before `at`.
#[inline]
fn check_escape(bytes: &[u8], at: usize) -> Result<(), Broken> {
    match bytes.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
        Some(b'u') => match bytes.get(at + 1..at + 5) {
            Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => Ok(()),
            _ => Err(Broken),
        },
        _ => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The grammar of RFC 8259 section 7, byte after byte.
    fn slowly(bytes: &[u8]) -> Result<(usize, bool), Broken> {
        let (mut at, mut escaped) = (0, false);
        loop {
            match bytes.get(at) {
                Some(b'"') => return Ok((at + 1, escaped)),
                Some(b'\\') => {
                    escaped = true;
                    check_escape(bytes, at + 1)?;
                    at += if bytes.get(at + 1) == Some(&b'u') {
                        6
                    } else {
                        2
                    };
                }
                Some(0x20..) => at += 1,
                _ => return Err(Broken),
            }
        }
    }

    #[test]
    fn runs_of_backslashes_around_the_edges_of_blocks() {
        for before in 0..200 {
            for run in 0..70 {
                for end in ["\"", "n\"", "u00e9\" \\", "x\"", "\n\"", "", "\"\\\""] {
                    let text = "a".repeat(before) + &"\\".repeat(run) + end;
                    let bytes = text.as_bytes();
                    assert_eq!(skip_string(bytes, 0), slowly(bytes), "{text}");
                }
            }
        }
    }

    #[test]
    fn every_byte_among_every_other() {
        for hit in 0..=255_u8 {
            for around in [0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7f, 0x80, 0xa2, 0xdc, 0xff] {
                for at in 0..100 {
                    let mut bytes = [around; 101];
                    bytes[at] = hit;
                    bytes[100] = b'"';
                    assert_eq!(
                        skip_string(&bytes, 0),
                        slowly(&bytes),
                        "{hit} in {around} at {at}"
                    );
                }
            }
        }
        assert_eq!(skip_string(b"abc", 7), Err(Broken));
    }

    #[test]
    fn one_bad_byte_anywhere() {
        for at in 0..200 {
            for bad in ["\n", "\0", "\u{1f}", "\\x", "\\u12g4", "\\U0000", "\\"] {
                let text = "a".repeat(at) + bad + &"\\n".repeat(at) + "\"";
                let bytes = text.as_bytes();
                assert_eq!(skip_string(bytes, 0), slowly(bytes), "{text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn as_the_grammar_has_it(
            pieces in proptest::collection::vec(
                prop_oneof![
                    20 => "[a-z é漢]{0,40}",
                    10 => Just("\\n".to_owned()),
                    5 => Just("\\\"".to_owned()),
                    5 => "(\\\\){1,5}",
                    3 => "\\\\u[0-9a-fA-F]{4}",
                    1 => Just("\"".to_owned()),
                    1 => "[\u{0}-\u{1f}]",
                    1 => Just("\\x".to_owned()),
                ],
                0..60,
            ),
            at in 0_usize..20,
        ) {
            let text = "x".repeat(at) + &pieces.concat() + "\"";
            let bytes = text.as_bytes();
            let expected = slowly(&bytes[at..]).map(|(end, escaped)| (end + at, escaped));
            prop_assert_eq!(skip_string(bytes, at), expected, "{:?}", text);
        }
    }
}
