//! Chunked bodies: the same content, verdict and end, whatever the pieces they come in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memoryrouter::http::{ChunkError, ChunkScanner};

fn scan(pieces: &[&[u8]]) -> (Vec<u8>, Result<Option<usize>, ChunkError>) {
    let mut scanner = ChunkScanner::default();
    let (mut content, mut used) = (Vec::new(), 0);
    for piece in pieces {
        match scanner.scan(piece, |range| content.extend_from_slice(&piece[range])) {
            Ok(taken) => used += taken,
            Err(error) => return (content, Err(error)),
        }
        if scanner.done() {
            return (content, Ok(Some(used)));
        }
    }
    (content, Ok(None))
}

fuzz_target!(|input: (Vec<u8>, u16)| {
    let (bytes, split) = input;
    let whole = scan(&[&bytes]);
    let at = usize::from(split) % (bytes.len() + 1);
    let (one, two) = bytes.split_at(at);
    let halves = scan(&[one, two]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    let singles = scan(&single);
    assert_eq!(whole.1, halves.1);
    assert_eq!(whole.1, singles.1);
    if whole.1.is_ok() {
        assert!(whole.0 == halves.0 && whole.0 == singles.0);
    }
});
