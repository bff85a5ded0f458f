//! The relatives of the raw cases: every place of a head with every byte, and every combination of framing fields.
//!
//! Another parser, which accepts nothing doubtful, is the judge: what it refuses must be refused.

use std::io::Cursor;

use memoryrouter::http::head::{self, Head, RequestLine};
use memoryrouter::http::{Framing, HeadLimits, Version};

use crate::support::{CHAT, Provider, Router, doubtless};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    fields_max: 100,
    target_bytes_max: 16 * 1024,
};

const HEAD: &str = "POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: a.test:80\r\nX-Tab: b\t c \r\nContent-Length: 5\r\n\r\n";

fn taken(bytes: &[u8]) -> Option<Head<RequestLine>> {
    head::request(bytes, &mut 0, &LIMITS).ok().flatten()
}

#[test]
fn every_byte_at_every_place_of_a_head() {
    assert!(taken(HEAD.as_bytes()).is_some());
    let (mut tried, mut accepted) = (0, 0);
    for at in 0..HEAD.len() {
        for byte in 0..=255u8 {
            let mut replaced = HEAD.as_bytes().to_vec();
            replaced[at] = byte;
            let mut inserted = HEAD.as_bytes().to_vec();
            inserted.insert(at, byte);
            for bytes in [replaced, inserted] {
                tried += 1;
                let Some(head) = taken(&bytes) else { continue };
                accepted += 1;
                // An empty line in front is allowed; the judge starts behind it.
                let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
                let judged = doubtless(&mut Cursor::new(&bytes[start..]));
                let (line, fields) = judged
                    .unwrap_or_else(|why| panic!("{why}: {:?}", String::from_utf8_lossy(&bytes)));
                assert_eq!(fields.0.len(), head.fields.len(), "{line}");
                let parts: Vec<&str> = line.split(' ').collect();
                assert_eq!(parts.len(), 3, "{line}");
                assert!(["HTTP/1.1", "HTTP/1.0"].contains(&parts[2]), "{line}");
                assert!(
                    !parts[1].contains(|c: char| c <= ' ' || c == '#' || c == '\x7f'),
                    "{line}"
                );
            }
        }
    }
    assert!(tried > 40_000 && accepted > 5_000, "{tried} {accepted}");
}

#[test]
fn every_combination_of_framing_fields() {
    let lengths = [
        "5",
        "05",
        "5 ",
        "+5",
        "-5",
        "5,5",
        "5, 5",
        "5,6",
        "",
        "0x5",
        "5;",
        "5.0",
        "five",
        "99999999999999999999",
        "\t5",
    ];
    let codings = [
        "chunked",
        "Chunked",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "",
        ",chunked",
        "chunked,",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
    ];
    let mut lines: Vec<String> = lengths
        .iter()
        .map(|value| format!("Content-Length: {value}\r\n"))
        .collect();
    lines.extend(
        codings
            .iter()
            .map(|value| format!("Transfer-Encoding: {value}\r\n")),
    );
    lines.push(String::new());
    for first in &lines {
        for second in &lines {
            for version in ["1.0", "1.1"] {
                let text = format!("POST / HTTP/{version}\r\nHost: a\r\n{first}{second}\r\n");
                let framing = taken(text.as_bytes()).map(|head| {
                    let version = head.line.version;
                    (Framing::of_request(&head, text.as_bytes()), version)
                });
                let both = format!("{first}{second}");
                let expected = match both.as_str() {
                    "" => Some(Framing::None),
                    "Content-Length: 5\r\n"
                    | "Content-Length: 5 \r\n"
                    | "Content-Length: \t5\r\n"
                    | "Content-Length: 05\r\n" => Some(Framing::Length(5)),
                    "Transfer-Encoding: chunked\r\n" | "Transfer-Encoding: Chunked\r\n"
                        if version == "1.1" =>
                    {
                        Some(Framing::Chunked)
                    }
                    _ => None,
                };
                let found = framing.and_then(|(framing, version)| {
                    assert_eq!(version == Version::Http10, text.contains("HTTP/1.0"));
                    framing.ok()
                });
                assert_eq!(found, expected, "{text:?}");
            }
        }
    }
}

#[test]
fn through_the_running_router_too() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let good = String::from_utf8(router.request("/v1/chat/completions", &[], CHAT)).unwrap();
    // Bytes that end lines, names or values for some parser somewhere.
    let bad = ["\0", "\r", "\n", "\x0b", "\x0c", "\x7f", "\x1b"];
    for byte in bad {
        for place in [
            "POST",
            "/v1",
            " HTTP",
            "Host",
            "router.test",
            "Authorization",
            "Bearer",
            "application",
        ] {
            let broken = good.replacen(place, &format!("{byte}{place}"), 1);
            let mut caller = router.connect();
            caller.send(&broken);
            let reply = caller.reply();
            assert_eq!(
                (reply.status, reply.field("connection")),
                (400, Some("close")),
                "{byte:?} before {place}"
            );
            assert_eq!(caller.rest(), b"");
        }
    }
    assert_eq!(provider.count(), 0);
}
