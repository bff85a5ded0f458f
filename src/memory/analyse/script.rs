//! What kind of character it is: what a word is made of differs from script to script.

use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// How a character takes part in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Between words.
    Gap,
    /// A digit of whatever script.
    Digit,
    /// A letter of a script that puts spaces between words.
    Letter(Script),
    /// A character of a script without spaces between words, or (Hangul) with endings grown onto them: such runs are
    /// read by pairs.
    Paired,
    /// A Han character: means something alone, too.
    Han,
    /// Belongs to the character before it.
    Mark,
}

/// Scripts whose words have stems of their own; the others are taken as they stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Script {
    Latin,
    Cyrillic,
    Greek,
    Arabic,
    Hebrew,
    Armenian,
    Devanagari,
    Tamil,
    Other,
}

pub(super) fn kind(c: char) -> Kind {
    match c {
        'a'..='z' | 'A'..='Z' => Kind::Letter(Script::Latin),
        '0'..='9' => Kind::Digit,
        '\0'..='\u{a9}' => Kind::Gap,
        // Joiners that shape a word without parting it.
        '\u{200c}' | '\u{200d}' => Kind::Mark,
        _ if is_combining_mark(c) => Kind::Mark,
        _ if !c.is_alphanumeric() => Kind::Gap,
        _ if is_han(c) => Kind::Han,
        _ if is_paired(c) => Kind::Paired,
        _ if c.is_numeric() => Kind::Digit,
        _ => Kind::Letter(script(c)),
    }
}

fn script(c: char) -> Script {
    match u32::from(c) {
        0x00aa..=0x02af | 0x1e00..=0x1eff | 0x2c60..=0x2c7f | 0xa720..=0xa7ff => Script::Latin,
        0x0370..=0x03ff | 0x1f00..=0x1fff => Script::Greek,
        0x0400..=0x052f | 0x2de0..=0x2dff | 0xa640..=0xa69f => Script::Cyrillic,
        0x0530..=0x058f => Script::Armenian,
        0x0590..=0x05ff => Script::Hebrew,
        0x0600..=0x06ff | 0x0750..=0x077f | 0x08a0..=0x08ff => Script::Arabic,
        0x0900..=0x097f => Script::Devanagari,
        0x0b80..=0x0bff => Script::Tamil,
        _ => Script::Other,
    }
}

fn is_han(c: char) -> bool {
    matches!(u32::from(c),
        0x3005..=0x3007 | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff)
}

/// Kana, Hangul, Bopomofo, Thai, Lao, Tibetan, Myanmar, Khmer, Yi and the Tai scripts.
fn is_paired(c: char) -> bool {
    matches!(u32::from(c),
        0x3040..=0x312f | 0x31a0..=0x31bf | 0x31f0..=0x31ff | 0x1100..=0x11ff | 0xac00..=0xd7ff
        | 0x0e00..=0x0fff | 0x1000..=0x109f | 0xaa60..=0xaa7f | 0x1780..=0x17ff
        | 0xa000..=0xa4cf | 0x1950..=0x19df | 0xa980..=0xa9df | 0x1_b000..=0x1_b16f)
}

/// A lower-case letter as people type it who leave accents out: of Latin and Greek letters the accent goes, the
/// Cyrillic ё is an е, the Greek final sigma a sigma. Others stay.
pub(super) fn plain(c: char) -> char {
    match c {
        '\0'..='\u{7f}' => c,
        'ё' => 'е',
        'ς' => 'σ',
        'ø' => 'o',
        'ł' => 'l',
        'đ' => 'd',
        'ı' => 'i',
        _ if matches!(script(c), Script::Latin | Script::Greek) => {
            let mut base = None;
            decompose_canonical(c, |part| {
                base.get_or_insert(part);
            });
            base.unwrap_or(c)
        }
        _ => c,
    }
}

/// What belongs to the letter before it, as in `C++17` and `F#`; not the sign of a sum or of an issue's number.
pub(super) fn sign(text: &str) -> Option<&'static str> {
    let sign = ["++", "#"].into_iter().find(|it| text.starts_with(it))?;
    let behind = text[sign.len()..].chars().next().unwrap_or(' ');
    let joined = match kind(behind) {
        Kind::Gap => matches!(behind, '+' | '#'),
        Kind::Digit => sign == "#",
        _ => true,
    };
    (!joined).then_some(sign)
}

/// How many quarters of a token a character is: letters that models know by the word are a quarter each, other
/// alphabets about half a token, characters of scripts without spaces a whole one, pictures two.
pub(in crate::memory) fn token_quarters(c: char) -> u64 {
    match u32::from(c) {
        0..=0x7f => 1,
        0x80..=0x7ff => 2,
        0x1_0000..=0x1_ffff => 8,
        _ if is_han(c) || is_paired(c) => 4,
        _ => 3,
    }
}
