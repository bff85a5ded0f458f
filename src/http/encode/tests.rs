//! What goes out, byte for byte.

use super::super::head::{HeadLimits, request, response};
use super::*;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 4096,
    fields_max: 64,
    target_bytes_max: 512,
};

#[test]
fn upstream_gets_the_callers_fields_and_nothing_of_the_routers() {
    let bytes = b"POST /v1/chat/completions HTTP/1.1\r\nHost: gw.test\r\nX-Memory-Key: mk_a\r\n\
        Authorization: Bearer sk\r\nx-api-key: k\r\nx-goog-api-key: k\r\napi-key: k\r\nX-Provider-Key: k\r\n\
        X-Memory-Mode: off\r\nX-Session-ID: s\r\nX-Store-Input: false\r\nX-Debug: true\r\nX-Context-Limit: 3\r\n\
        Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 9\r\nTE: trailers\r\nUpgrade: foo\r\n\
        Forwarded: for=1\r\nX-Forwarded-For: 1\r\nVia: x\r\nX-Real-IP: 1\r\nCookie: k=mk_b\r\n\
        mk_c: 1\r\nReferer: http://a.test/?key=mk%5Fd\r\nX-Part: 100%\r\nAccept-Language: mk-MK\r\nExpect: 100-continue\r\naccept-encoding: gzip\r\nContent-Encoding: gzip\r\n\
        X-E2E:  yes \r\nuser-agent: x\r\nContent-Length: 3\r\n\r\n";
    let head = request(bytes, &mut 0, &LIMITS).unwrap().unwrap();
    let mut out = Vec::new();
    let with = UpstreamHead {
        target: ["/v1", "/chat/completions"],
        authority: "api.test",
        credential: Some(CredentialLine {
            name: "authorization",
            scheme: "Bearer ",
            key: b"sk-stored",
        }),
        defaults: &[(Name::AnthropicVersion, "anthropic-version", "2023-06-01")],
        traceparent: None,
        new_trace: false,
        body_bytes: 70,
        decoded: true,
    };
    upstream_request(&mut out, &head, bytes, &with);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "POST /v1/chat/completions HTTP/1.1\r\nhost: api.test\r\nauthorization: Bearer sk-stored\r\n\
        X-Part: 100%\r\nAccept-Language: mk-MK\r\nX-E2E: yes\r\nuser-agent: x\r\nanthropic-version: 2023-06-01\r\n\
        accept-encoding: identity\r\ncontent-length: 70\r\n\r\n"
    );
}

#[test]
fn a_default_stands_in_for_a_field_that_does_not_pass() {
    let sent = |fields: &str| {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
        let head = request(&bytes, &mut 0, &LIMITS).unwrap().unwrap();
        let with = UpstreamHead {
            target: ["", "/"],
            authority: "api.test",
            credential: None,
            defaults: &[(Name::AnthropicVersion, "anthropic-version", "default")],
            traceparent: None,
            new_trace: false,
            body_bytes: 0,
            decoded: false,
        };
        let mut out = Vec::new();
        upstream_request(&mut out, &head, &bytes, &with);
        let out = String::from_utf8(out).unwrap();
        let lines = out
            .lines()
            .filter_map(|line| line.strip_prefix("anthropic-version: "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    for (fields, version) in [
        ("", "default"),
        ("anthropic-version: own\r\n", "own"),
        (
            "anthropic-version: own\r\nConnection: Anthropic-Version\r\n",
            "default",
        ),
        ("anthropic-version: mk_a\r\n", "default"),
    ] {
        assert_eq!(sent(fields), [version], "{fields}");
    }
}

#[test]
fn downstream_gets_the_providers_fields() {
    let bytes =
        b"HTTP/1.1 429 Slow Down\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nRetry-After: 7\r\n\
        X-RateLimit: 1\r\nx-mr-request-id: fake\r\nContent-Length: 2\r\n\r\n";
    let head = response(bytes, &mut 0, &LIMITS).unwrap().unwrap();
    let of = |relayed| {
        let mut out = Vec::new();
        downstream_response(&mut out, &head, bytes, relayed, OwnFields::default());
        String::from_utf8(out).unwrap()
    };
    let start = "HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nX-RateLimit: 1\r\n";
    assert_eq!(
        of(Relayed::AsIs(Framing::Length(2))),
        format!("{start}Content-Length: 2\r\n")
    );
    assert_eq!(
        of(Relayed::Chunked),
        format!("{start}transfer-encoding: chunked\r\n")
    );
    assert_eq!(of(Relayed::UntilClose), start);
}

#[test]
fn a_length_is_of_no_hop_and_cors_is_said_once() {
    let bytes =
        b"HTTP/1.1 200 OK\r\nConnection: content-length, x-hop\r\nX-Hop: 1\r\nVary: accept\r\n\
        Access-Control-Allow-Origin: *\r\naccess-control-expose-headers: x\r\nAccess-Control: 1\r\n\
        Content-Length: 2\r\n\r\n";
    let head = response(bytes, &mut 0, &LIMITS).unwrap().unwrap();
    for (own_cors, cors) in [
        (true, ""),
        (
            false,
            "Access-Control-Allow-Origin: *\r\naccess-control-expose-headers: x\r\n",
        ),
    ] {
        let mut out = Vec::new();
        let relayed = Relayed::AsIs(Framing::Length(2));
        let own = OwnFields {
            cors: own_cors,
            session: false,
        };
        downstream_response(&mut out, &head, bytes, relayed, own);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!(
                "HTTP/1.1 200 OK\r\nVary: accept\r\n{cors}Access-Control: 1\r\nContent-Length: 2\r\n"
            )
        );
    }
}

#[test]
fn what_another_router_says_of_its_own_hop_is_left_out() {
    let bytes = b"HTTP/1.1 200 OK\r\nx-memory-mode: off\r\nX-Memory-Chunks-Retrieved: 9\r\nx-memory-tokens-retrieved: 9\r\n\
        x-memory-other: 1\r\nx-mr-overhead-ms: 9\r\nX-MR-Anything: 9\r\nx-session-id: theirs\r\nx-request-id: 1\r\n\r\n";
    let head = response(bytes, &mut 0, &LIMITS).unwrap().unwrap();
    for (session, theirs) in [(true, ""), (false, "x-session-id: theirs\r\n")] {
        let own = OwnFields {
            cors: false,
            session,
        };
        let mut out = Vec::new();
        downstream_response(&mut out, &head, bytes, Relayed::UntilClose, own);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("HTTP/1.1 200 OK\r\nx-memory-other: 1\r\n{theirs}x-request-id: 1\r\n")
        );
    }
}

#[test]
fn the_names_of_a_trailer_pass_where_it_does() {
    let bytes = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    let head = response(bytes, &mut 0, &LIMITS).unwrap().unwrap();
    let (named, framed) = ("Trailer: X-Sum\r\n", "transfer-encoding: chunked\r\n");
    for (relayed, expected) in [
        (Relayed::AsIs(Framing::Chunked), [named, framed].concat()),
        (Relayed::Chunked, [named, framed].concat()),
        (Relayed::UntilClose, String::new()),
    ] {
        let mut out = Vec::new();
        downstream_response(&mut out, &head, bytes, relayed, OwnFields::default());
        let expected = format!("HTTP/1.1 200 OK\r\n{expected}");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn numbers_and_times() {
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    };
    for number in [0, 7, 10, 200, 98_765_432_100, u64::MAX] {
        assert_eq!(written(&|out| decimal(out, number)), number.to_string());
    }
    for (micros, text) in [
        (0, "0.000"),
        (7, "0.007"),
        (1_040, "1.040"),
        (60_000_999, "60000.999"),
    ] {
        let time = Duration::from_micros(micros) + Duration::from_nanos(999);
        assert_eq!(written(&|out| millis(out, time)), text);
    }
}
