//! Where the names that matter stand in an answer. All that an event may hold are looked for in one pass, since a search
//! for each would cost most of what is done with an event; the counts of a plain answer from its end.
//!
//! A name is found by its opening quote and first letter, block by block. A quote inside a string is escaped, so text
//! that speaks of "usage" does not match. A block's last byte may be a quote whose name is in the next one, so it is
//! always looked at. Pure; `answer` calls it.

use fearless_simd::{Level, Simd, dispatch, prelude::*, u8x64};

/// One bit of a mask for each byte.
const BLOCK_BYTES: usize = 64;

/// What stands in an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// `usage` or `usageMetadata`.
    pub(super) counts: bool,
    /// `error`.
    pub(super) error: bool,
    /// Where the first `delta` is, at its quote.
    pub(super) delta: Option<usize>,
    /// Where the first `text` is.
    pub(super) text: Option<usize>,
}

impl Names {
    pub(super) fn of(data: &[u8]) -> Self {
        dispatch!(Level::new(), simd => find(simd, data))
    }

    /// What is it, behind the quote at `at`?
    fn look(&mut self, data: &[u8], at: usize) {
        let name = data.get(at + 1..).unwrap_or_default();
        if name.starts_with(b"delta\"") {
            self.delta.get_or_insert(at);
        } else if name.starts_with(b"text\"") {
            self.text.get_or_insert(at);
        } else if name.starts_with(b"error\"") {
            self.error = true;
        } else if name.starts_with(b"usage\"") || name.starts_with(b"usageMetadata\"") {
            self.counts = true;
        }
    }
}

/// The last place of `name`, which is given with its quotes.
pub(super) fn rfind(data: &[u8], name: &[u8]) -> Option<usize> {
    dispatch!(Level::new(), simd => find_last(simd, data, name))
}

#[inline(always)]
fn find_last<S: Simd>(simd: S, data: &[u8], name: &[u8]) -> Option<usize> {
    let first = *name.get(1)?;
    let mut end = data.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        let block = block(simd, &data[start..end]);
        let last = 1 << (end - start - 1);
        let before_first = block.simd_eq(first).to_bitmask() >> 1 | last;
        let mut found = block.simd_eq(b'"').to_bitmask() & before_first;
        while found != 0 {
            let bit = found.ilog2();
            let at = start + bit as usize;
            if data[at..].starts_with(name) {
                return Some(at);
            }
            found ^= 1 << bit;
        }
        end = start;
    }
    None
}

/// The first bytes, with zeros behind the end.
#[inline(always)]
fn block<S: Simd>(simd: S, bytes: &[u8]) -> u8x64<S> {
    let mut last = [0; BLOCK_BYTES];
    let block = bytes.first_chunk().unwrap_or_else(|| {
        last[..bytes.len()].copy_from_slice(bytes);
        &last
    });
    u8x64::from_slice(simd, block)
}

#[inline(always)]
fn find<S: Simd>(simd: S, data: &[u8]) -> Names {
    let mut names = Names::default();
    for start in (0..data.len()).step_by(BLOCK_BYTES) {
        let block = block(simd, &data[start..]);
        let first =
            block.simd_eq(b'd') | block.simd_eq(b't') | block.simd_eq(b'e') | block.simd_eq(b'u');
        let last = 1 << (BLOCK_BYTES - 1);
        let before_first = first.to_bitmask() >> 1 | last;
        let mut found = block.simd_eq(b'"').to_bitmask() & before_first;
        while found != 0 {
            names.look(data, start + found.trailing_zeros() as usize);
            found &= found - 1;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_at_every_place() {
        for before in 0..200 {
            for (name, expected) in [
                (
                    "delta",
                    Names {
                        delta: Some(before),
                        ..Names::default()
                    },
                ),
                (
                    "text",
                    Names {
                        text: Some(before),
                        ..Names::default()
                    },
                ),
                (
                    "error",
                    Names {
                        error: true,
                        ..Names::default()
                    },
                ),
                (
                    "usage",
                    Names {
                        counts: true,
                        ..Names::default()
                    },
                ),
                (
                    "usageMetadata",
                    Names {
                        counts: true,
                        ..Names::default()
                    },
                ),
                ("usages", Names::default()),
                ("texts", Names::default()),
                ("delt", Names::default()),
            ] {
                let data = format!("{}\"{name}\"", "x".repeat(before));
                assert_eq!(Names::of(data.as_bytes()), expected, "{data}");
                assert_eq!(
                    Names::of(&data.as_bytes()[..data.len() - 1]),
                    Names::default(),
                    "{data}"
                );
            }
        }
    }

    #[test]
    fn the_last_is_found_wherever_it_is() {
        let name = b"\"usage\"";
        for (before, behind) in
            (0..200).flat_map(|before| (0..70).map(move |behind| (before, behind)))
        {
            let text = |count| "\"u".repeat(count / 2) + &"x".repeat(count % 2);
            let data = format!("\"usage\"{}\"usage\"{}", text(before), text(behind));
            assert_eq!(rfind(data.as_bytes(), name), Some(7 + before), "{data}");
            let one = &data.as_bytes()[..7 + before + 6];
            assert_eq!(rfind(one, name), Some(0), "{data}");
            assert_eq!(rfind(&one[1..], name), None, "{data}");
        }
        assert_eq!(rfind(b"", name), None);
    }

    #[test]
    fn the_first_counts_and_text_is_none() {
        let data = br#"{"delta":1,"delta":2,"text":"","x":"say \"error\" or \"usage\"","text":3}"#;
        let expected = Names {
            delta: Some(1),
            text: Some(21),
            ..Names::default()
        };
        assert_eq!(Names::of(data), expected);
        assert_eq!(Names::of(b""), Names::default());
    }
}
