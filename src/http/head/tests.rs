use super::*;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 1024,
    fields_max: 8,
    target_bytes_max: 200,
};

fn parse(bytes: &[u8]) -> Result<Option<Head<RequestLine>>, HeadError> {
    request(bytes, &mut 0, &LIMITS)
}

fn syntax_error(bytes: &[u8]) -> bool {
    matches!(parse(bytes), Err(HeadError::Syntax(_)))
}

#[test]
fn a_request_at_every_split() {
    let bytes = b"POST /v1/x?a=b?c HTTP/1.1\r\nHost: gw.test:80\r\nX-Memory-Key:\t mk_a \r\nEmpty:\r\n\r\nbody";
    let end = bytes.len() - 4;
    let mut scanned = 0;
    for len in 0..end {
        assert!(
            request(&bytes[..len], &mut scanned, &LIMITS)
                .unwrap()
                .is_none(),
            "{len}"
        );
    }
    let head = request(bytes, &mut scanned, &LIMITS).unwrap().unwrap();
    assert_eq!(
        (head.end, head.line.method, head.line.version),
        (end, Method::Post, Version::Http11)
    );
    assert_eq!(
        (head.path(bytes), head.query(bytes)),
        ("/v1/x", Some("a=b?c"))
    );
    assert_eq!(head.first(Name::XMemoryKey, bytes), Some(&b"mk_a"[..]));
    assert_eq!(head.fields[1].spelled(bytes), b"X-Memory-Key");
    assert_eq!(head.fields[2].value(bytes), b"");
}

#[test]
fn targets() {
    let of = |target: &str| {
        let bytes = format!("POST {target} HTTP/1.1\r\nHost: gw.test\r\n\r\n").into_bytes();
        let head = parse(&bytes)?.unwrap();
        Ok::<_, HeadError>((
            head.path(&bytes).to_owned(),
            head.query(&bytes).map(str::to_owned),
        ))
    };
    assert_eq!(of("/a"), Ok(("/a".into(), None)));
    assert_eq!(
        of("http://GW.test/a?b"),
        Ok(("/a".into(), Some("b".into())))
    );
    assert_eq!(of("http://gw.test"), Ok(("/".into(), None)));
    assert_eq!(of("http://gw.test?q"), Ok(("/".into(), Some("q".into()))));
    for bad in [
        "a",
        "*",
        "gw.test:80",
        "ftp://gw.test/",
        "http://evil.test/",
        "http://u@gw.test/",
        "/a#b",
        "/\u{e9}",
    ] {
        assert!(matches!(of(bad), Err(HeadError::Syntax(_))), "{bad}");
    }
    assert_eq!(
        of(&format!("/{}", "a".repeat(200))),
        Err(HeadError::TargetTooLong)
    );
}

#[test]
fn empty_lines_in_front() {
    assert!(
        parse(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap()
            .is_some()
    );
    assert!(syntax_error(b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(syntax_error(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"));
}

#[test]
fn refused_heads() {
    for bad in [
        &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\n X: b\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: u@b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
        b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\r\n\r\n",
    ] {
        assert!(
            syntax_error(bad),
            "{:?} {:?}",
            String::from_utf8_lossy(bad),
            parse(bad)
        );
    }
    assert_eq!(
        parse(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n").err(),
        Some(HeadError::Version)
    );
    assert!(parse(b"GET / HTTP/1.0\r\n\r\n").unwrap().is_some());
}

#[test]
fn limits_hold_before_the_end_comes() {
    let endless_value = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &[b'a'; 2000]].concat();
    assert_eq!(parse(&endless_value).err(), Some(HeadError::TooLarge));
    let endless_target = [b"GET /".as_slice(), &[b'a'; 300]].concat();
    assert_eq!(parse(&endless_target).err(), Some(HeadError::TargetTooLong));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(8));
    assert_eq!(parse(many.as_bytes()).err(), Some(HeadError::TooManyFields));
}

#[test]
fn responses() {
    let bytes = b"HTTP/1.1 429 Too Many\r\nRetry-After: 1\r\n\r\n";
    let head = response(bytes, &mut 0, &LIMITS).unwrap().unwrap();
    assert_eq!(
        (head.line.status, &bytes[head.line.reason_at.clone()]),
        (429, &b"Too Many"[..])
    );
    let bare = b"HTTP/1.0 200\r\n\r\n";
    let head = response(bare, &mut 0, &LIMITS).unwrap().unwrap();
    assert_eq!(
        (head.line.status, head.line.version, head.line.reason_at),
        (200, Version::Http10, 13..13)
    );
    let bytes = b"HTTP/1.1 200 Tr\xe8s bien\r\nA: b\r\n\r\n";
    let head = response(bytes, &mut 0, &LIMITS).unwrap().unwrap();
    assert_eq!(&bytes[head.line.reason_at], b"Tr\xe8s bien");
    for bad in [
        &b"\r\nHTTP/1.1 200 OK\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    ] {
        assert!(
            response(bad, &mut 0, &LIMITS).is_err(),
            "{:?}",
            String::from_utf8_lossy(bad)
        );
    }
}
