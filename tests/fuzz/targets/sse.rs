//! Event streams: the same events, whatever the pieces they come in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memoryrouter::relay::SseScanner;

fn events(pieces: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut scanner = SseScanner::default();
    let mut events = Vec::new();
    for piece in pieces {
        scanner.push(piece, |event| {
            events.push((event.name.to_vec(), event.data.to_vec()))
        });
    }
    events
}

fuzz_target!(|input: (Vec<u8>, u16)| {
    let (bytes, split) = input;
    let (one, two) = bytes.split_at(usize::from(split) % (bytes.len() + 1));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    let whole = events(&[&bytes]);
    assert_eq!(whole, events(&[one, two]));
    assert_eq!(whole, events(&single));
});
