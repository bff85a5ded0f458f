//! Bodies on their way through: framing in and out, at every split.

use super::*;

/// Passes `input` in pieces of `step` bytes: what goes downstream, what the tap saw, done, surplus.
fn pass(
    framing: Framing,
    version: Version,
    input: &[u8],
    step: usize,
) -> (Vec<u8>, Vec<u8>, bool, bool) {
    let mut body = Body::new(framing, version, None);
    let (mut out, mut seen) = (Vec::new(), Vec::new());
    for piece in input.chunks(step) {
        out.extend(body.pass(piece.to_vec(), |content| seen.extend_from_slice(content)));
    }
    (out, seen, body.done, body.surplus)
}

#[test]
fn bodies_pass_as_they_are_at_every_split() {
    let chunked = b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n";
    for step in 1..=chunked.len() {
        let passed = pass(Framing::Chunked, Version::Http11, chunked, step);
        assert_eq!(passed, (chunked.to_vec(), b"abcde".to_vec(), true, false));
        let dechunked = pass(Framing::Chunked, Version::Http10, chunked, step);
        assert_eq!(
            dechunked,
            (b"abcde".to_vec(), b"abcde".to_vec(), true, false)
        );
        let long = pass(Framing::Length(5), Version::Http11, b"abcdeX", step);
        assert_eq!(long, (b"abcde".to_vec(), b"abcde".to_vec(), true, true));
    }
}

#[test]
fn a_body_that_ends_with_the_connection_gets_chunks() {
    let mut body = Body::new(Framing::UntilClose, Version::Http11, None);
    assert_eq!(body.pass(b"hello".to_vec(), |_| {}), b"5\r\nhello\r\n");
    assert_eq!(body.pass(Vec::new(), |_| {}), b"");
    assert_eq!(body.finish(), b"0\r\n\r\n");
    assert!(body.done);
}

#[test]
fn what_is_cut_out_changes_the_framing_and_nothing_else() {
    let content =
        "data: {\"a\":1,\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{}}\n\ndata: x\n\n";
    let expected = b"data: {\"a\":1}\n\ndata: x\n\n";
    let chunked = format!("{:x}\r\n{content}\r\n0\r\n\r\n", content.len());
    for (framing, bytes) in [
        (Framing::Chunked, chunked.as_bytes()),
        (Framing::Length(content.len() as u64), content.as_bytes()),
        (Framing::UntilClose, content.as_bytes()),
    ] {
        for (version, step) in [Version::Http10, Version::Http11]
            .into_iter()
            .flat_map(|version| (1..=bytes.len()).map(move |step| (version, step)))
        {
            let mut body = Body::new(framing, version, Some(UsageCut::default()));
            let mut out = Vec::new();
            for piece in bytes.chunks(step) {
                out.extend(body.pass(piece.to_vec(), |_| {}));
            }
            if framing == Framing::UntilClose {
                out.extend(body.finish());
            }
            assert!(body.done);
            if version == Version::Http11 {
                let (mut scanner, mut plain) = (Track::new(Framing::Chunked), Vec::new());
                let used = scanner.advance(&out, |range| plain.extend_from_slice(&out[range]));
                assert!(used == Ok(out.len()) && scanner.done());
                out = plain;
            }
            assert_eq!(out, expected, "{framing:?} {version:?} {step}");
        }
    }
    // What breaks off inside an event leaves what there is, and no end.
    let mut body = Body::new(Framing::Chunked, Version::Http11, Some(UsageCut::default()));
    assert_eq!(body.pass(b"9\r\ndata: x\n".to_vec(), |_| {}), b"");
    assert_eq!(body.release(), b"8\r\ndata: x\n\r\n");
}

#[test]
fn a_trailer_stays_where_counts_are_cut_out() {
    let bytes = b"16\r\ndata: {\"usage\":null}\n\n\r\n0\r\nX-Cost: 1\r\nY:\r\n\r\n";
    for step in 1..=bytes.len() {
        let mut body = Body::new(Framing::Chunked, Version::Http11, Some(UsageCut::default()));
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            out.extend(body.pass(piece.to_vec(), |_| {}));
        }
        let expected = b"a\r\ndata: {}\n\n\r\n0\r\nX-Cost: 1\r\nY:\r\n\r\n";
        assert!(body.done);
        assert_eq!(out, expected, "{step}");
    }
}

#[test]
fn what_came_before_a_malformed_chunk_passes() {
    let bytes = b"3\r\nabc\r\n2\r\nde\r\nxyz\r\n";
    let cut = || Some(UsageCut::default());
    for (version, cut, expected) in [
        (Version::Http11, None, &b"3\r\nabc\r\n2\r\nde"[..]),
        (Version::Http11, cut(), b"5\r\nabcde\r\n"),
        (Version::Http10, None, b"abcde"),
        (Version::Http10, cut(), b"abcde"),
    ] {
        let mut body = Body::new(Framing::Chunked, version, cut);
        let mut seen = Vec::new();
        let out = body.pass(bytes.to_vec(), |content| seen.extend_from_slice(content));
        assert_eq!((&out[..], &seen[..]), (expected, &b"abcde"[..]));
        assert!(body.malformed && !body.done);
    }
}

#[test]
fn the_buffer_grows_only_while_reads_fill_it() {
    let mut body = Body::new(Framing::UntilClose, Version::Http11, None);
    assert_eq!(body.next_read_bytes(100), READ_BYTES);
    assert_eq!(body.next_read_bytes(READ_BYTES), 2 * READ_BYTES);
    for _ in 0..20 {
        body.next_read_bytes(READ_BYTES_MAX);
    }
    assert_eq!(body.next_read_bytes(1), READ_BYTES_MAX);
}
