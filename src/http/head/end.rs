//! Where a head ends, found by masks of its line feeds. Called by `head` before anything is parsed; holds that every
//! line up to the end stops in CRLF and that the first one is not empty.

use fearless_simd::{Level, Simd, dispatch, prelude::*, u8x64};

use super::HeadError;

/// Where the head ends, if its end has come. `scanned` keeps how far earlier calls have looked.
pub(super) fn find_end(
    bytes: &[u8],
    start: usize,
    scanned: &mut usize,
) -> Result<Option<usize>, HeadError> {
    dispatch!(Level::new(), simd => find_end_with(simd, bytes, start, scanned))
}

#[inline(always)]
fn find_end_with<S: Simd>(
    simd: S,
    bytes: &[u8],
    start: usize,
    scanned: &mut usize,
) -> Result<Option<usize>, HeadError> {
    let mut at = (*scanned).max(start);
    while at < bytes.len() {
        // Lines are short: one mask for all that end in a block costs less than a search for each.
        let mut feeds = line_feeds(simd, &bytes[at..]);
        while feeds != 0 {
            let lf = at + feeds.trailing_zeros() as usize;
            if lf == start || bytes[lf - 1] != b'\r' {
                return Err(HeadError::Syntax("a line does not end in CRLF"));
            }
            if lf == start + 1 {
                return Err(HeadError::Syntax("empty request line"));
            }
            if lf >= start + 3 && bytes[lf - 2] == b'\n' {
                return Ok(Some(lf + 1));
            }
            *scanned = lf + 1;
            feeds &= feeds - 1;
        }
        at += BLOCK_BYTES;
    }
    Ok(None)
}

/// One bit of a mask for each byte.
const BLOCK_BYTES: usize = 64;

/// Which of the first bytes are line feeds: the first byte is the lowest bit.
#[inline(always)]
fn line_feeds<S: Simd>(simd: S, bytes: &[u8]) -> u64 {
    let mut last = [0; BLOCK_BYTES];
    let block = bytes.first_chunk().unwrap_or_else(|| {
        last[..bytes.len()].copy_from_slice(bytes);
        &last
    });
    u8x64::from_slice(simd, block).simd_eq(b'\n').to_bitmask()
}
