//! Which of the names that matter stand in an event, in one pass: a search for each would cost most of what is done
//! with an event at all.
//!
//! A name is found by its opening quote and first letter, block by block. A quote inside a string is escaped, so text
//! that speaks of "usage" does not match. Pure; `answer` asks once for each event.

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

#[inline(always)]
fn find<S: Simd>(simd: S, data: &[u8]) -> Names {
    let mut names = Names::default();
    for start in (0..data.len()).step_by(BLOCK_BYTES) {
        let rest = &data[start..];
        let mut last = [0; BLOCK_BYTES];
        let block = rest.first_chunk().unwrap_or_else(|| {
            last[..rest.len()].copy_from_slice(rest);
            &last
        });
        let block = u8x64::from_slice(simd, block);
        let first =
            block.simd_eq(b'd') | block.simd_eq(b't') | block.simd_eq(b'e') | block.simd_eq(b'u');
        // A block's last byte may be a quote whose name is in the next one.
        let before_first = first.to_bitmask() >> 1 | 1 << (BLOCK_BYTES - 1);
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
