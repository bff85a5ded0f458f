//! Whether a text stands in a request, wherever: in a system prompt, in what a tool gave back, within a longer message.
//!
//! Bodies may be large, several texts are looked for, and most stand nowhere. So the body is gone over once: of every
//! sixteen bytes the first eight leave a mark. Wherever a text stands, all such marks of its own are there, counted from
//! one of its first sixteen bytes on. Only a text of which that is true is searched for. Pure; `said` calls it.

use std::cell::{Cell, OnceCell};

use memchr::memmem;

const BLOCK_BYTES: usize = 8;

/// From block to block. Half of it would take twice as long; of twice as much, many memories would hold no whole block.
const STRIDE_BYTES: usize = 16;

/// A shorter text may stand there by chance.
const TEXT_BYTES_MIN: usize = 16;

/// Most texts are told by so much of their start, and spelling the rest takes longer than all else.
const START_BYTES: usize = 64;

/// To go over so much takes half a millisecond. Of a larger body it is the end, where the newest stands.
const BODY_BYTES_MAX: usize = 4 << 20;

/// More is not searched for one request, which takes a few milliseconds; a text beyond it counts as not found.
const SEARCHED_BYTES_MAX: usize = 32 << 20;

/// So many bits for each block of a body: one in so many blocks that are not in it seems to be.
const BITS_PER_BLOCK: usize = 16;

/// A body in which texts are looked for.
pub(super) struct Inside<'b> {
    body: &'b [u8],
    marks: OnceCell<Marks>,
    /// Bytes that may still be searched.
    left: Cell<usize>,
}

impl<'b> Inside<'b> {
    pub(super) fn of(body: &'b [u8]) -> Self {
        Self {
            body: &body[body.len().saturating_sub(BODY_BYTES_MAX)..],
            marks: OnceCell::new(),
            left: Cell::new(SEARCHED_BYTES_MAX),
        }
    }

    /// Whether the text stands in the body, in either of the spellings that callers use.
    pub(super) fn holds(&self, text: &str) -> bool {
        let text = text.trim();
        text.len() >= TEXT_BYTES_MIN
            && (self.finds(text, false) || !text.is_ascii() && self.finds(text, true))
    }

    fn finds(&self, text: &str, ascii: bool) -> bool {
        let marks = self.marks.get_or_init(|| Marks::of(self.body));
        let may_hold = |text: &str| {
            let spelled = spelled(text, ascii);
            marks.may_hold(&spelled).then_some(spelled)
        };
        let start = &text[..text.floor_char_boundary(START_BYTES)];
        let Some(spelled) = may_hold(start).and_then(|_| may_hold(text)) else {
            return false;
        };
        if self.left.get() == 0 {
            return false;
        }
        let found = memmem::find(self.body, &spelled);
        let searched = found.unwrap_or(self.body.len());
        self.left.set(self.left.get().saturating_sub(searched));
        found.is_some()
    }
}

/// One bit for each block that a body has, at a place that its bytes say.
struct Marks {
    words: Vec<u64>,
    /// What is left of a block's product with an odd number behind this many bits is its place.
    shift: u32,
}

impl Marks {
    fn of(body: &[u8]) -> Self {
        let bits = (body.len() / STRIDE_BYTES * BITS_PER_BLOCK).next_power_of_two();
        let bits = bits.max(u64::BITS as usize);
        let mut marks = Self {
            words: vec![0; bits / u64::BITS as usize],
            shift: u64::BITS - bits.ilog2(),
        };
        blocks(body).for_each(|block| {
            let (word, bit) = marks.place(block);
            if let Some(word) = marks.words.get_mut(word) {
                *word |= bit;
            }
        });
        marks
    }

    fn place(&self, block: &[u8; BLOCK_BYTES]) -> (usize, u64) {
        let place = u64::from_le_bytes(*block).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift;
        let (word, bit) = (place / u64::from(u64::BITS), place % u64::from(u64::BITS));
        (word as usize, 1 << bit)
    }

    /// Not so where a block of the text is missing; a text that is too short for one has none missing.
    fn may_hold(&self, spelled: &[u8]) -> bool {
        let marked = |block| {
            let (word, bit) = self.place(block);
            self.words.get(word).is_some_and(|word| word & bit != 0)
        };
        let mut starts = (0..STRIDE_BYTES).filter_map(|start| spelled.get(start..));
        starts.any(|rest| blocks(rest).all(marked))
    }
}

fn blocks(bytes: &[u8]) -> impl Iterator<Item = &[u8; BLOCK_BYTES]> {
    let (strides, rest) = bytes.as_chunks::<STRIDE_BYTES>();
    let blocks = strides.iter().filter_map(|stride| stride.first_chunk());
    blocks.chain(rest.first_chunk())
}

/// A text as it stands between quotes: as most write it, or as those do who keep to ASCII.
fn spelled(text: &str, ascii: bool) -> Vec<u8> {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' | '\\' => out.extend(['\\', character]),
            other if other < ' ' || ascii && !other.is_ascii() => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            other => out.push(other),
        }
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_wherever_they_start_and_end() {
        let text = "My dog is called Rex.";
        for before in 0..20 {
            for behind in 0..20 {
                let body = format!("{}{text}{}", "a".repeat(before), "b".repeat(behind));
                let inside = Inside::of(body.as_bytes());
                assert!(inside.holds(text), "{body}");
                assert!(inside.holds(&format!(" {text}\n")), "{body}");
                assert!(!inside.holds("My dog is called Max."), "{body}");
                assert!(!inside.holds(&format!("{text}!")), "{body}");
            }
        }
        assert!(!Inside::of(b"").holds(text));
    }

    #[test]
    fn either_spelling_is_found_and_what_is_short_is_not() {
        let text = "Zo\u{eb} says \"h\u{e9} \u{1f642}\"\tto C:\\\nand\u{1} 咪咪";
        for body in [
            r#"{"a":"Zoë says \"hé 🙂\"\tto C:\\\nand\u0001 咪咪"}"#,
            r#"{"a":"Zo\u00eb says \"h\u00e9 \ud83d\ude42\"\tto C:\\\nand\u0001 \u54aa\u54aa"}"#,
        ] {
            let inside = Inside::of(body.as_bytes());
            assert!(inside.holds(text), "{body}");
            assert!(!inside.holds(&text[..10]), "{body}");
        }
    }

    #[test]
    fn a_large_body_is_searched_from_its_end_and_not_without_end() {
        let text = "The parrot is called Coco.";
        let body = format!("{text}{}", "x".repeat(BODY_BYTES_MAX));
        assert!(!Inside::of(body.as_bytes()).holds(text));
        let body = format!("{text}{}{text}", "x".repeat(BODY_BYTES_MAX));
        let inside = Inside::of(body.as_bytes());
        let searched = (0..100).filter(|_| inside.holds(text)).count();
        assert_eq!(
            searched,
            SEARCHED_BYTES_MAX.div_ceil(BODY_BYTES_MAX - text.len())
        );
    }
}
