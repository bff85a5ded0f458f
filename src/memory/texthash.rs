//! The hash of a text: `turns` finds a turn by it, and `vault` a memory's twin.
//!
//! Its keys are random, so that nobody can choose texts that meet. Messages of agents are half a megabyte long, and each
//! step of one hash waits for the step before: several that go on side by side take half the time.

use std::hash::{BuildHasher as _, Hasher as _};

use ahash::RandomState;

/// So many go on side by side.
const LANES: usize = 4;

/// What a lane takes at once.
const PIECE_BYTES: usize = 64;

/// A shorter text is hashed before the lanes are set up.
const SHORT_BYTES: usize = 1024;

pub(super) fn text_hash(hasher: &RandomState, text: &str) -> u64 {
    if text.len() < SHORT_BYTES {
        return hasher.hash_one(text);
    }
    let (pieces, rest) = text.as_bytes().as_chunks::<PIECE_BYTES>();
    let mut lanes: [_; LANES] = std::array::from_fn(|_| hasher.build_hasher());
    let mut rows = pieces.chunks_exact(LANES);
    for row in &mut rows {
        for (lane, piece) in lanes.iter_mut().zip(row) {
            lane.write(piece);
        }
    }
    let mut whole = hasher.build_hasher();
    for lane in lanes {
        whole.write_u64(lane.finish());
    }
    for piece in rows.remainder() {
        whole.write(piece);
    }
    whole.write(rest);
    whole.write_usize(text.len());
    whole.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_byte_its_place_and_the_length_count() {
        let hasher = RandomState::new();
        let mut seen = HashSet::new();
        let mut new = |text: &str| seen.insert(text_hash(&hasher, text));
        for length in [0, 1, 63, 64, 1023, 1024, 1025, 1343, 1344, 2048, 2111] {
            assert!(new(&"a".repeat(length)), "{length}");
            for at in 0..length {
                let text = "a".repeat(at) + "b" + &"a".repeat(length - at - 1);
                assert!(new(&text), "{at} of {length}");
            }
        }
        let lanes = ["w", "x", "y", "z"].map(|lane| lane.repeat(PIECE_BYTES));
        let turned = [0, 1, 2, 3].map(|by| {
            let mut lanes = lanes.clone();
            lanes.rotate_left(by);
            lanes.concat().repeat(8)
        });
        assert!(turned.iter().all(|text| new(text)));
        let again = "a".repeat(2048);
        assert_eq!(text_hash(&hasher, &again), text_hash(&hasher, &again));
        assert_ne!(
            text_hash(&hasher, &again),
            text_hash(&RandomState::new(), &again)
        );
    }
}
