use std::io::Write as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

const TEXT: &str =
    r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello hello hello é"}]}"#;
/// `TEXT` as other implementations encode it: zstd with a checksum, without, at its highest level; brotli.
const ZSTD_CHECKED: &str = "28b52ffd245065020044047b226d6f64656c223a226770742d346f222c226d65737361676573223a5b7b22726f6c65223a2275736572222c22636f6e74656e74223a2268656c6c6f20c3a9227d5d7d01001eae4001a491cecf";
const ZSTD_PLAIN: &str = "28b52ffd20502d020042040f15b0ebcc5d929ac49655056c930d5fca63d813cc3901d5d4db0b9a315e27978ea56bf470c8719e9c59c3d3421e599d18b93dbc87904f9d9c71ea761a01001eae4001";
/// The same, with a window of 128 MiB.
const ZSTD_LONG: &str = "28b52ffd048865020044047b226d6f64656c223a226770742d346f222c226d65737361676573223a5b7b22726f6c65223a2275736572222c22636f6e74656e74223a2268656c6c6f20c3a9227d5d7d01001eae4001a491cecf";
const BROTLI: &str = "1b4f00f02c8b77a073cc2956ac28c73b3314fc0895de227b6c5b932675b8bafaea4cae5874ea0dae455acae882434e048e2d91c0620d0aa03eb8491a43ecca07aae9d2271826ed2be214";
/// Encoded with a large window, which is no part of the coding.
const BROTLI_LARGE: &str = "115c3c01c0b32cde81ce31a758b1a21cefcc50f023547a8becb16d4d9ad4e1eaeaab33b962d1a937b8166929a30b0e391138b644028b352880e8036e48620cc4ae7ca09a2e7d8261d2be224e01";
/// 64 MiB of zeros.
const BROTLI_BOMB: &str = "cbffff3ff82700e2b14020f7fe8fffff7ff04f00c4611180eefd1fffffffe09f0088c30200ddfb3ffeffffc13f0110870500baf77ffcffff837f02200e0b0074effff8ffff07ff04401c1600e8defff1ffff0ffe0980382c00d0bdffcbffff3ffc1300715800a07bff07";

const MAX: usize = 1 << 20;

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn gzipped(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(data: &[u8]) -> Vec<u8> {
    compress_to_vec(data, CompressionLevel::Fastest)
}

fn decode(codings: &str, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, CodingError> {
    let codings = Codings::parse(codings.as_bytes())?;
    let decoded = pin!(codings.decode(body, bytes_max, async || {}));
    match decoded.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(decoded) => decoded,
        Poll::Pending => panic!("nothing to wait for"),
    }
}

/// One frame of `blocks` times 128 KiB of zeros, four bytes each.
fn zstd_bomb(blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58];
    for block in 1..=blocks {
        let head = (128u32 * 1024) << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("gzip", gzipped(TEXT.as_bytes())),
        ("X-GZip", gzipped(TEXT.as_bytes())),
        ("zstd", zstandard(TEXT.as_bytes())),
        ("zstd", bytes(ZSTD_CHECKED)),
        ("ZSTD", bytes(ZSTD_PLAIN)),
        ("br", bytes(BROTLI)),
        ("gzip, zstd", zstandard(&gzipped(TEXT.as_bytes()))),
        ("zstd,identity ,,gzip", gzipped(&zstandard(TEXT.as_bytes()))),
        ("br, gzip, zstd", zstandard(&gzipped(&bytes(BROTLI)))),
    ]
}

#[test]
fn every_coding_and_lists_of_them() {
    for (codings, body) in samples() {
        assert_eq!(
            decode(codings, &body, MAX).as_deref(),
            Ok(TEXT.as_bytes()),
            "{codings}"
        );
        assert_eq!(
            decode(codings, &body, MAX.max(TEXT.len())).as_deref(),
            Ok(TEXT.as_bytes())
        );
    }
    for codings in ["", "identity", " Identity , ", ","] {
        assert!(Codings::parse(codings.as_bytes()).unwrap().is_identity());
        assert_eq!(
            decode(codings, b"as it is", 8).as_deref(),
            Ok(&b"as it is"[..])
        );
        assert_eq!(decode(codings, b"as it is", 7), Err(CodingError::TooLarge));
    }
    assert!(!Codings::parse(b"gzip").unwrap().is_identity());
}

#[test]
fn other_codings_are_unsupported() {
    for codings in [
        "deflate",
        "compress",
        "gzip, deflate",
        "gzip;q=1",
        "gzip zstd",
        "gzip,gzip,gzip,gzip",
        "*",
        "\u{e9}",
    ] {
        assert_eq!(
            Codings::parse(codings.as_bytes()),
            Err(CodingError::Unsupported),
            "{codings}"
        );
    }
}

#[test]
fn truncated_damaged_and_trailing_bytes_are_broken() {
    for (codings, body) in samples() {
        for len in 0..body.len() {
            assert_eq!(
                decode(codings, &body[..len], MAX),
                Err(CodingError::Broken),
                "{codings} {len}"
            );
        }
        for tail in [&b"\0"[..], b"garbage that is no member", &[0; 5000]] {
            let trailing = [&body, tail].concat();
            assert_eq!(
                decode(codings, &trailing, MAX),
                Err(CodingError::Broken),
                "{codings} {}",
                tail.len()
            );
        }
        assert_eq!(
            decode(codings, TEXT.as_bytes(), MAX),
            Err(CodingError::Broken),
            "{codings}"
        );
    }
    for (codings, checked) in [
        ("gzip", gzipped(TEXT.as_bytes())),
        ("zstd", bytes(ZSTD_CHECKED)),
    ] {
        let last = checked.len() - 1;
        let mut damaged = checked;
        damaged[last] ^= 1;
        assert_eq!(
            decode(codings, &damaged, MAX),
            Err(CodingError::Broken),
            "{codings}"
        );
    }
    for (codings, large) in [("zstd", ZSTD_LONG), ("br", BROTLI_LARGE)] {
        assert_eq!(
            decode(codings, &bytes(large), MAX),
            Err(CodingError::Broken),
            "{codings}"
        );
    }
}

#[test]
fn members_and_frames_follow_each_other() {
    let (one, two) = TEXT.split_at(30);
    let gzip = [
        gzipped(one.as_bytes()),
        gzipped(b""),
        gzipped(two.as_bytes()),
    ]
    .concat();
    assert_eq!(decode("gzip", &gzip, MAX).as_deref(), Ok(TEXT.as_bytes()));
    let skippable = b"\x5A\x2A\x4D\x18\x03\0\0\0abc";
    let parts = [
        &skippable[..],
        &zstandard(one.as_bytes()),
        skippable,
        &zstandard(two.as_bytes()),
        skippable,
    ];
    assert_eq!(
        decode("zstd", &parts.concat(), MAX).as_deref(),
        Ok(TEXT.as_bytes())
    );
    for broken in [
        &b"\x50\x2A\x4D\x18"[..],
        b"\x50\x2A\x4D\x18\x04\0\0\0abc",
        b"\x50\x2A\x4D\x18\xff\xff\xff\xffabc",
    ] {
        assert_eq!(decode("zstd", broken, MAX), Err(CodingError::Broken));
    }
    assert_eq!(
        decode("gzip", &gzipped(b"").repeat(MEMBERS_MAX), MAX).as_deref(),
        Ok(&b""[..])
    );
    assert_eq!(
        decode("gzip", &gzipped(b"").repeat(100_000), MAX),
        Err(CodingError::Broken)
    );
    assert_eq!(
        decode("zstd", &skippable.repeat(100_000), MAX),
        Err(CodingError::Broken)
    );
}

/// A deflate stream bit by bit, in a gzip member.
struct Deflated {
    bytes: Vec<u8>,
    bits: u32,
    count: u32,
}

impl Deflated {
    fn new() -> Self {
        let bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        Self {
            bytes,
            bits: 0,
            count: 0,
        }
    }

    /// Appends the low `count` bits, the lowest first.
    fn push(&mut self, bits: u32, count: u32) {
        self.bits |= bits << self.count;
        self.count += count;
        while self.count >= 8 {
            self.bytes.push(self.bits as u8);
            self.bits >>= 8;
            self.count -= 8;
        }
    }

    /// A block with fixed codes and nothing in it: ten bits, for which a decoder makes its tables.
    fn empty(&mut self, times: usize) {
        for _ in 0..times {
            self.push(0b010, 3);
            self.push(0, 7);
        }
    }

    /// A stored block, and the bits before it filled up.
    fn stored(&mut self, text: &[u8], last: bool) {
        self.push(u32::from(last), 3);
        self.push(0, (8 - self.count) % 8);
        let len = text.len() as u16;
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(&(!len).to_le_bytes());
        self.bytes.extend_from_slice(text);
    }

    fn finish(mut self, plain: &[u8]) -> Vec<u8> {
        let mut crc = flate2::Crc::new();
        crc.update(plain);
        self.bytes.extend_from_slice(&crc.sum().to_le_bytes());
        self.bytes.extend_from_slice(&crc.amount().to_le_bytes());
        self.bytes
    }
}

#[test]
fn what_is_read_for_nothing_is_bounded() {
    let body = |empty: usize, rounds: usize| {
        let mut deflated = Deflated::new();
        for round in 0..rounds {
            deflated.empty(empty);
            deflated.stored(TEXT.as_bytes(), round + 1 == rounds);
        }
        deflated.finish(TEXT.repeat(rounds).as_bytes())
    };
    // Flushed after each text, and a little more.
    assert_eq!(
        decode("gzip", &body(0, 1000), MAX).unwrap(),
        TEXT.repeat(1000).into_bytes()
    );
    assert!(decode("gzip", &body(2, 1000), MAX).is_ok());
    let at_once = GZIP_IDLE_BYTES * 8 / 10;
    assert!(decode("gzip", &body(at_once / 2, 1), MAX).is_ok());
    for (empty, rounds) in [(2 * at_once, 1), (1_000_000, 1), (200, 1000)] {
        let broken = Err(CodingError::Broken);
        assert_eq!(
            decode("gzip", &body(empty, rounds), MAX),
            broken,
            "{empty} {rounds}"
        );
        // Nor is it brought in by a layer around it.
        let twice = decode("gzip, gzip", &gzipped(&body(empty, rounds)), MAX);
        assert!(twice.is_err(), "{empty} {rounds}");
    }
}

#[test]
fn others_have_their_turn() {
    let zeros = vec![0; 1 << 20];
    let noise: Vec<u8> = (0..1u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let brotli = bytes(BROTLI_BOMB);
    for (coding, body, bytes_max) in [
        ("gzip", gzipped(&zeros), MAX),
        ("gzip", gzipped(&noise), MAX),
        ("zstd", zstandard(&noise), MAX),
        ("zstd", zstd_bomb(8), MAX),
        ("br", brotli, 64 << 20),
    ] {
        let codings = Codings::parse(coding.as_bytes()).unwrap();
        let turns = std::cell::Cell::new(0);
        let decoded = pin!(codings.decode(&body, bytes_max, async || turns.set(turns.get() + 1)));
        let decoded = decoded.poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(decoded, Poll::Ready(Ok(_))), "{coding}");
        assert!(
            turns.get() + 1 >= bytes_max / BLOCK_BYTES,
            "{coding}: {turns:?}"
        );
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    let zeros = vec![0; 64 << 20];
    let gzip = gzipped(&zeros);
    for (codings, bomb) in [
        ("gzip", gzip.clone()),
        ("zstd", zstd_bomb(512)),
        ("br", bytes(BROTLI_BOMB)),
        ("gzip, gzip", gzipped(&gzip)),
        ("gzip", gzipped(&zeros[..MAX + 1])),
    ] {
        assert_eq!(
            decode(codings, &bomb, MAX),
            Err(CodingError::TooLarge),
            "{codings}"
        );
    }
    assert_eq!(decode("zstd", &zstd_bomb(8), MAX).unwrap().len(), MAX);
    assert_eq!(
        decode("br", &bytes(BROTLI_BOMB), 64 << 20).unwrap().len(),
        64 << 20
    );
}

#[test]
fn the_limit_is_exact_and_bounds_what_is_allocated() {
    for (codings, body) in samples().into_iter().take(6) {
        assert_eq!(
            decode(codings, &body, TEXT.len()).as_deref(),
            Ok(TEXT.as_bytes()),
            "{codings}"
        );
        assert_eq!(
            decode(codings, &body, TEXT.len() - 1),
            Err(CodingError::TooLarge),
            "{codings}"
        );
        assert_eq!(
            decode(codings, &body, 0),
            Err(CodingError::TooLarge),
            "{codings}"
        );
    }
    let body = gzipped(&vec![0; 700_000]);
    for bytes_max in [700_000, 700_001, 900_000, 1 << 30] {
        let decoded = decode("gzip", &body, bytes_max).unwrap();
        assert_eq!(decoded.len(), 700_000);
        assert!(decoded.capacity() <= bytes_max && decoded.capacity() < 1_400_000);
    }
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(data in proptest::collection::vec(0u8..4, 0..5000)) {
        prop_assert_eq!(decode("gzip", &gzipped(&data), MAX).unwrap(), &data[..]);
        prop_assert_eq!(decode("zstd", &zstandard(&data), MAX).unwrap(), &data[..]);
    }

    #[test]
    fn no_bytes_make_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), sample in 0usize..9, at in any::<prop::sample::Index>(),
    ) {
        let (codings, mut body) = samples().swap_remove(sample);
        let _ = decode(codings, &bytes, MAX);
        let at = at.index(body.len());
        body.splice(at.., bytes);
        let _ = decode(codings, &body, MAX);
    }

    #[test]
    fn one_damaged_byte_does_not_panic(sample in 0usize..9, at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (codings, mut body) = samples().swap_remove(sample);
        let at = at.index(body.len());
        body[at] ^= flip;
        let _ = decode(codings, &body, MAX);
    }
}
