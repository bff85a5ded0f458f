//! Streams: nothing held back, nothing invented, nothing counted wrong, however the bytes are cut.

use std::thread;
use std::time::Duration;

use crate::support::{Gate, Provider, Router, Setup, Then};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[],"stream":true}"#;
const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[test]
fn each_event_leaves_before_the_next_one_arrives() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send(HEAD);
        for event in [
            "data: one\n\n",
            "data: two\n\n",
            ": comment\n\n",
            "data: [DONE]\n\n",
        ] {
            waits.pass();
            wire.send(chunk(event));
        }
        waits.pass();
        wire.send("0\r\n\r\n");
        Then::Keep
    });
    let router = Router::start(&provider);
    let mut caller = router.connect();
    caller.send(router.request(CHAT, &[], BODY));
    // The head is here before the provider has sent any event.
    let head = caller.head().unwrap();
    assert_eq!(head.status, 200);
    for event in [
        "data: one\n\n",
        "data: two\n\n",
        ": comment\n\n",
        "data: [DONE]\n\n",
    ] {
        gate.open();
        let expected = chunk(event);
        assert_eq!(caller.bytes(expected.len()), expected.as_bytes());
    }
    gate.open();
    assert_eq!(caller.bytes(5), b"0\r\n\r\n");
    // Kept alive on both sides.
    for _ in 0..5 {
        gate.open();
    }
    assert!(caller.exchange(router.request(CHAT, &[], BODY)).complete);
    assert_eq!(provider.accepted(), 1);
}

#[test]
fn a_plain_answer_is_not_held_back_either() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n");
        for piece in ["ab", "cd", "ef"] {
            waits.pass();
            wire.send(piece);
        }
        Then::Keep
    });
    let router = Router::start(&provider);
    let mut caller = router.connect();
    caller.send(router.request(CHAT, &[], BODY));
    assert_eq!(caller.head().unwrap().field("content-length"), Some("6"));
    for piece in ["ab", "cd", "ef"] {
        gate.open();
        assert_eq!(caller.bytes(2), piece.as_bytes());
    }
}

/// Streams of each dialect, with LF and CRLF, comments, multi-byte text and multi-line data.
fn streams() -> Vec<(&'static str, &'static str, String)> {
    let openai = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"h\u{e9} \u{1f642}\"}}]}\n\n: keep-alive\n\n\
        data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n";
    let anthropic = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":11}}}\n\n\
        event: ping\ndata: {\"type\": \"ping\"}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let gemini = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\u{6f22}\"}]}}],\"usageMetadata\":{\"promptTokenCount\":11,\"candidatesTokenCount\":7}}\n\n";
    let mut all = Vec::new();
    for (path, body, text) in [
        (CHAT, BODY, openai),
        (
            "/v1/messages",
            r#"{"model":"claude-x","messages":[],"stream":true}"#,
            anthropic,
        ),
        (
            "/v1beta/models/gemini-x:streamGenerateContent?alt=sse",
            "{}",
            gemini,
        ),
    ] {
        all.push((path, body, text.to_owned()));
        all.push((path, body, text.replace('\n', "\r\n")));
    }
    all
}

#[test]
fn cut_at_every_offset_the_same_bytes_come_out() {
    for (path, body, text) in streams() {
        let stream = text.clone();
        // The request says at which offset to cut; 0 means single bytes.
        let provider = Provider::start(move |request, wire| {
            let cut: usize = request.fields.get("x-cut").unwrap().parse().unwrap();
            wire.send(HEAD);
            let pieces: Vec<&[u8]> = match cut {
                0 => stream.as_bytes().chunks(1).collect(),
                cut => vec![&stream.as_bytes()[..cut], &stream.as_bytes()[cut..]],
            };
            for piece in pieces {
                wire.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
                if cut > 0 {
                    thread::sleep(Duration::from_micros(200));
                }
            }
            wire.send("0\r\n\r\n");
            Then::Keep
        });
        // Counts that the caller did not ask for would be taken out; `stream_usage` has that.
        let toml = "usage.stream = \"estimate\"";
        let router = Setup::all(&provider).toml(toml).start();
        let mut caller = router.connect();
        for cut in 0..text.len() {
            let cut = cut.to_string();
            let reply = caller.exchange(router.request(path, &[("X-Cut", &cut)], body));
            assert!(reply.complete);
            assert_eq!(reply.text(), text, "cut at {cut}");
        }
        assert_eq!(provider.accepted(), 1);
    }
}

#[test]
fn a_long_stream_may_have_an_extension_on_each_chunk() {
    let events = "3;a=b\r\n:\n\n\r\n".repeat(3000);
    for (last, complete) in [("0;a=b\r\n\r\n", true), ("1;a\0\r\n", false)] {
        let (start, rest) = events.split_at(events.len() / 2);
        let (head, rest) = (format!("{HEAD}{start}"), format!("{rest}{last}"));
        let provider = Provider::start(move |_, wire| {
            wire.send(&head);
            wire.send(&rest);
            Then::Keep
        });
        let router = Router::start(&provider);
        let reply = router.post(CHAT, BODY);
        // Up to where it is malformed, all that came is the caller's.
        assert_eq!(
            (reply.complete, reply.text()),
            (complete, ":\n\n".repeat(3000).as_str())
        );
    }
}

#[test]
fn long_gaps_inside_the_idle_limit_are_no_end() {
    let provider = Provider::start(|_, wire| {
        thread::sleep(Duration::from_millis(700));
        wire.send(HEAD);
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(700));
            wire.send(chunk("data: x\n\n"));
        }
        wire.send("0\r\n\r\n");
        Then::Keep
    });
    // Every other limit is shorter than the stream takes.
    let toml = "timeouts.stream_idle = \"5s\"\ntimeouts.first_byte = \"2s\"\ntimeouts.connect = \"2s\"\n\
        timeouts.head = \"2s\"\ntimeouts.body_idle = \"2s\"\ntimeouts.keepalive = \"2s\"\ntimeouts.upstream_idle = \"2s\"";
    let router = Setup::all(&provider).toml(toml).start();
    let reply = router.post(CHAT, BODY);
    assert!(reply.complete);
    assert_eq!(reply.text(), "data: x\n\n".repeat(4));
}

#[test]
fn two_thousand_streams_start_without_waiting_for_each_other() {
    const STREAMS: usize = 2000;
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send(HEAD);
        wire.send(chunk("data: first\n\n"));
        waits.pass();
        wire.send("0\r\n\r\n");
        Then::Keep
    });
    let router = Setup::all(&provider).workers(2).start();
    let mut callers = Vec::new();
    for _ in 0..STREAMS {
        let mut caller = router.connect();
        caller.send(router.request(CHAT, &[], BODY));
        callers.push(caller);
    }
    let first = chunk("data: first\n\n");
    for caller in &mut callers {
        assert_eq!(caller.head().unwrap().status, 200);
        assert_eq!(caller.bytes(first.len()), first.as_bytes());
    }
    assert_eq!((provider.count(), provider.open()), (STREAMS, STREAMS));
    for _ in 0..STREAMS {
        gate.open();
    }
    for caller in &mut callers {
        assert_eq!(caller.bytes(5), b"0\r\n\r\n");
    }
}
