//! Chunks at every split position.

use super::*;

/// Decodes in pieces of `step` bytes: the data, the bytes that belong to the body, and whether it is complete.
fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
    let mut scanner = ChunkScanner::default();
    let (mut data, mut used) = (Vec::new(), 0);
    for piece in input.chunks(step) {
        let count = scanner.scan(piece, |range| data.extend_from_slice(&piece[range]))?;
        used += count;
        if count < piece.len() {
            break;
        }
    }
    Ok((data, used, scanner.done()))
}

#[test]
fn what_is_written_is_read() {
    for size in [0, 1, 9, 10, 15, 16, 255, 256, 0xabcde] {
        let data = vec![b'x'; size];
        let mut out = Vec::new();
        put(&mut out, &data);
        if size > 0 {
            assert!(out.starts_with(format!("{size:x}\r\n").as_bytes()));
        }
        out.extend_from_slice(b"0\r\n\r\n");
        assert_eq!(decode(&out, out.len()), Ok((data, out.len(), true)));
    }
}

#[test]
fn good_bodies_at_every_split() {
    for (input, expected, surplus) in [
        (&b"5\r\nhello\r\n0\r\n\r\n"[..], &b"hello"[..], 0),
        (b"0\r\n\r\n", b"", 0),
        (
            b"00A;a=b;c=\"d e\"\r\n0123456789\r\n1\r\n!\r\n0;z\r\n\r\n",
            b"0123456789!",
            0,
        ),
        (b"1;a=\"\\\"\t\xe9\";b\r\nx\r\n0\r\n\r\n", b"x", 0),
        (b"1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", b"\r\n", 0),
        (b"0\r\nX-Sum: 1\r\nY:\r\n\r\nGET", b"", 3),
    ] {
        for step in 1..=input.len() {
            let whole = decode(input, step);
            assert_eq!(
                whole,
                Ok((expected.to_vec(), input.len() - surplus, true)),
                "{step}"
            );
        }
    }
}

#[test]
fn bad_bodies_at_every_split() {
    let flood = [b"1;".as_slice(), &[b'x'; 300]].concat();
    let long_trailer = [b"0\r\na:".as_slice(), &[b'x'; 9000]].concat();
    let many = b"1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n.\r\n".repeat(300);
    for (input, error) in [
        (&b"\r\n\r\n"[..], ChunkError::Size),
        (b"0x5\r\nhello\r\n", ChunkError::Size),
        (b"+5\r\nhello\r\n", ChunkError::Size),
        (b" 5\r\nhello\r\n", ChunkError::Size),
        (b"5 \r\nhello\r\n", ChunkError::Size),
        (b"5\nhello\r\n", ChunkError::Size),
        (b"5\r\rhello", ChunkError::Size),
        (b"10000000000000045\r\n", ChunkError::SizeOverflow),
        (b"FFFFFFFFFFFFFFFF\r\n", ChunkError::SizeOverflow),
        (b"5;a\nhello\r\n", ChunkError::Extension),
        (b"5;a\0\r\nhello\r\n", ChunkError::Extension),
        (b"5;\r\nhello\r\n", ChunkError::Extension),
        (b"5;a=\r\nhello\r\n", ChunkError::Extension),
        (b"5; a\r\nhello\r\n", ChunkError::Extension),
        (b"5;a=\"x\r\nhello\r\n", ChunkError::Extension),
        (b"5;a=\"x\"y\r\nhello\r\n", ChunkError::Extension),
        (b"5;a=\"\\\r\nhello\r\n", ChunkError::Extension),
        (&flood, ChunkError::ExtensionTooLong),
        (&many, ChunkError::ExtensionTooLong),
        (b"5\r\nhelloXY0\r\n\r\n", ChunkError::DataEnd),
        (b"5\r\nhello\n0\r\n\r\n", ChunkError::DataEnd),
        (b"0\r\n: x\r\n\r\n", ChunkError::Trailer),
        (b"0\r\na b: x\r\n\r\n", ChunkError::Trailer),
        (b"0\r\na: x\n\r\n", ChunkError::Trailer),
        (b"0\r\na\r\n\r\n", ChunkError::Trailer),
        (b"0\r\n\n", ChunkError::Trailer),
        (&long_trailer, ChunkError::TrailerTooLong),
    ] {
        for step in [1, 2, 3, 7, input.len()] {
            assert_eq!(
                decode(input, step),
                Err(error),
                "{:?}",
                String::from_utf8_lossy(input)
            );
        }
    }
}

#[test]
fn an_answer_may_have_extensions_on_each_of_its_chunks() {
    let many = [&b"1;a=b\r\n.\r\n".repeat(5000)[..], b"0;a=b\r\n\r\n"].concat();
    let mut scanner = ChunkScanner::of_answer();
    assert_eq!(scanner.scan(&many, |_| {}), Ok(many.len()));
    assert!(scanner.done());
    let line = [b"1;".as_slice(), &[b'x'; 300]].concat();
    let found = ChunkScanner::of_answer().scan(&line, |_| {});
    assert_eq!(found, Err(ChunkError::ExtensionTooLong));
    assert_eq!(decode(&many, 7), Err(ChunkError::ExtensionTooLong));
}

#[test]
fn an_answer_may_have_white_space_around_what_parts_its_extensions() {
    let good = b"1; a\r\n.\r\n1 ;\ta = b\r\n.\r\n1\t; a =\t\"b c\" ;d; e=f\r\n.\r\n0 ;z\r\n\r\n";
    for step in 1..=good.len() {
        let mut scanner = ChunkScanner::of_answer();
        let mut data = Vec::new();
        for piece in good.chunks(step) {
            let used = scanner.scan(piece, |range| data.extend_from_slice(&piece[range]));
            assert_eq!(used, Ok(piece.len()), "{step}");
        }
        assert!(scanner.done() && data == b"...");
        assert!(decode(good, step).is_err());
    }
    let flood = [b"1".as_slice(), &[b' '; 300], b";a\r\n"].concat();
    for (bad, error) in [
        (&b" 1\r\n"[..], ChunkError::Size),
        (b"1 \r\n", ChunkError::Extension),
        (b"1 2\r\n", ChunkError::Extension),
        (b"1 ;\r\n", ChunkError::Extension),
        (b"1;a \r\n", ChunkError::Extension),
        (b"1;a b\r\n", ChunkError::Extension),
        (b"1;a=b c\r\n", ChunkError::Extension),
        (b"1;a = \r\n", ChunkError::Extension),
        (b"1;a\n", ChunkError::Extension),
        (&flood, ChunkError::ExtensionTooLong),
    ] {
        let found = ChunkScanner::of_answer().scan(bad, |_| {});
        assert_eq!(found, Err(error), "{:?}", String::from_utf8_lossy(bad));
    }
}

#[test]
fn the_trailer_is_kept_as_it_came() {
    let body = b"1\r\nx\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n";
    for step in 1..=body.len() {
        let mut scanner = ChunkScanner::default();
        for piece in body.chunks(step) {
            scanner.scan(piece, |_| {}).unwrap();
        }
        assert_eq!(scanner.trailer(), b"X-Sum: 1\r\nY:\r\n", "{step}");
    }
}

#[test]
fn an_unfinished_body_is_not_done() {
    for end in 0..15 {
        let (_, _, done) = decode(&b"5\r\nhello\r\n0\r\n\r\n"[..end.max(1)], 4).unwrap();
        assert!(!done, "{end}");
    }
}
