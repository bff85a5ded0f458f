//! Counts of streams whose callers do not ask for them: asked for, taken out again, and nothing else changed.

use std::thread;
use std::time::Duration;

use memoryrouter::keys::{Limits, NewKey, Period};
use memoryrouter::usage::{Figures, Query};

use crate::support::{Gate, Provider, Router, Setup, Then, eventually, request};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str =
    r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
const ASKED: &str = r#"{"stream_options":{"include_usage":true},"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true}"#;
const HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What the caller is to see.
const PLAIN: &str = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"h\u{e9}\"}}],\"obfuscation\":\"x\"}\n\n\
    data: {\"id\":\"1\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
/// What OpenAI sends when it is asked for counts.
const COUNTED: &str = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"h\u{e9}\"}}],\"usage\":null,\"obfuscation\":\"x\"}\n\n\
    data: {\"id\":\"1\",\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\
    data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7,\
    \"prompt_tokens_details\":{\"cached_tokens\":4},\"completion_tokens_details\":{\"reasoning_tokens\":2}}}\n\ndata: [DONE]\n\n";

/// Answers with counts if it is asked for them, cut where the request says; 0 means single bytes.
fn openai() -> Provider {
    Provider::start(|request, wire| {
        let text = match request.text().contains("\"include_usage\":true") {
            true => COUNTED,
            false => PLAIN,
        };
        let cut: usize = request
            .fields
            .get("x-cut")
            .map_or(1, |cut| cut.parse().unwrap());
        wire.send(HEAD);
        let pieces: Vec<&[u8]> = match cut.min(text.len() - 1) {
            0 => text.as_bytes().chunks(1).collect(),
            cut => vec![&text.as_bytes()[..cut], &text.as_bytes()[cut..]],
        };
        for piece in pieces {
            wire.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
            if cut > 0 {
                thread::sleep(Duration::from_micros(200));
            }
        }
        wire.send("0\r\n\r\n");
        Then::Keep
    })
}

fn total(router: &Router) -> Figures {
    let query = Query {
        until: i64::MAX,
        ..Query::default()
    };
    router
        .used(&query)
        .map_or_else(|_| Figures::default(), |report| report.total)
}

#[test]
fn the_callers_stream_is_what_it_would_have_been_at_every_cut() {
    let provider = openai();
    let router = Router::start(&provider);
    let mut caller = router.connect();
    for cut in 0..COUNTED.len() {
        let cut_text = cut.to_string();
        let reply = caller.exchange(router.request(CHAT, &[("X-Cut", &cut_text)], BODY));
        assert!(reply.complete);
        assert_eq!(reply.text(), PLAIN, "cut at {cut}");
        assert_eq!(provider.last().text(), ASKED);
    }
    assert_eq!(provider.accepted(), 1);
    let requests = COUNTED.len() as u64;
    eventually("the counts", || total(&router).requests == requests);
    let total = total(&router);
    assert_eq!(
        (total.input_tokens, total.output_tokens),
        (11 * requests, 7 * requests)
    );
    assert_eq!(
        (total.cached_tokens, total.reasoning_tokens),
        (4 * requests, 2 * requests)
    );
    assert_eq!((total.estimated_requests, total.errors), (0, 0));
    assert!(total.cost_usd > 0.0);
}

#[test]
fn who_asks_gets_the_counts_and_who_says_no_gets_none() {
    let provider = openai();
    let router = Router::start(&provider);
    let asks = BODY.replace(
        "\"stream\":true",
        "\"stream\":true,\"stream_options\":{\"include_usage\":true}",
    );
    assert_eq!(router.post(CHAT, &asks).text(), COUNTED);
    assert_eq!(provider.last().text(), asks);
    let spelled = asks.replace("include_usage", "include\\u005fusage");
    let answer = format!("{HEAD}{:x}\r\n{COUNTED}\r\n0\r\n\r\n", COUNTED.len());
    let answers = Provider::answering(answer.clone());
    let other = Router::start(&answers);
    assert_eq!(other.post(CHAT, &spelled).text(), COUNTED);
    assert_eq!(answers.last().text(), spelled);
    // Nothing is taken out of a failure.
    let fails = Provider::answering(answer.replace("200 OK", "400 Bad Request"));
    let other = Router::start(&fails);
    assert_eq!(other.post(CHAT, BODY).text(), COUNTED);
    let declines = asks.replace("usage\":true", "usage\":false");
    assert_eq!(router.post(CHAT, &declines).text(), PLAIN);
    assert_eq!(provider.last().text(), asks);
    // HTTP/1.0 knows no chunks.
    let raw = request("POST", CHAT, &[("Authorization", &router.bearer())], BODY);
    let raw = String::from_utf8(raw)
        .unwrap()
        .replace("HTTP/1.1", "HTTP/1.0");
    let mut caller = router.connect();
    caller.send(raw);
    let rest = caller.rest();
    assert!(String::from_utf8(rest).unwrap().ends_with(PLAIN));
}

#[test]
fn counts_in_a_last_event_without_its_end_are_taken_like_others() {
    for end in ["", "\n"] {
        let counts =
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}";
        let stream = format!("data: {{\"choices\":[{{}}],\"usage\":null}}\n\n{counts}{end}");
        let length = stream.len();
        let provider = Provider::answering(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {length}\r\n\r\n{stream}"
        ));
        let router = Router::start(&provider);
        let reply = router.post(CHAT, BODY);
        assert_eq!(
            (reply.text(), reply.complete),
            ("data: {\"choices\":[{}]}\n\n", true)
        );
        eventually("the counts", || {
            let total = total(&router);
            (
                total.input_tokens,
                total.output_tokens,
                total.estimated_requests,
            ) == (11, 7, 0)
        });
    }
}

#[test]
fn a_coding_that_is_none_hides_no_counts_and_a_trailer_stays() {
    for (coding, expected) in [
        ("Content-Encoding: identity\r\n", PLAIN),
        ("Content-Encoding: \r\n", PLAIN),
        ("Content-Encoding: Identity\r\nTrailer: X-Cost\r\n", PLAIN),
        // What is compressed is relayed as it came.
        ("Content-Encoding: gzip\r\n", COUNTED),
    ] {
        let head = HEAD.replace("Transfer", &format!("{coding}Transfer"));
        let last = "0\r\nX-Cost: 1\r\n\r\n";
        let answer = format!("{head}{:x}\r\n{COUNTED}\r\n{last}", COUNTED.len());
        let provider = Provider::answering(answer);
        let router = Router::start(&provider);
        let reply = router.post(CHAT, BODY);
        assert_eq!(reply.text(), expected, "{coding}");
        assert!(reply.complete && reply.raw_body.ends_with(last.as_bytes()));
        eventually("the request", || total(&router).requests == 1);
        let found = total(&router);
        let read = expected == PLAIN;
        assert_eq!(found.output_tokens == 7, read, "{coding}");
        assert_eq!(found.estimated_requests, u64::from(!read), "{coding}");
        let named = coding.contains("Trailer").then_some("X-Cost");
        assert_eq!(reply.field("trailer"), named);
    }
}

#[test]
fn estimates_leave_requests_and_streams_alone() {
    for toml in [
        "usage.stream = \"estimate\"",
        "providers.openai.usage = \"estimate\"",
    ] {
        let provider = openai();
        let router = Setup::all(&provider).toml(toml).start();
        assert_eq!(router.post(CHAT, BODY).text(), PLAIN);
        assert_eq!(provider.last().text(), BODY);
        eventually("the estimate", || total(&router).estimated_requests == 1);
        let total = total(&router);
        assert_eq!(
            (total.input_tokens, total.output_tokens),
            (BODY.len().div_ceil(4) as u64, 1)
        );
    }
}

/// Whether it comes with a length or in chunks, and its answer is whole or breaks off.
#[test]
fn a_picture_is_not_estimated_as_text() {
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"A cat.\"}}]}\n\n";
    let picture = format!("data:image/png;base64,{}", "A".repeat(1_200_000));
    let body = format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{picture}"}}}}]}}],"stream":true}}"#
    );
    // As a file of 1,500 tokens among texts.
    let tokens = ((body.len() - 1_200_000) / 4 + 1_500) as u64;
    for field in ["Connection: close", "Content-Length: 1000"] {
        let head = HEAD.replace("Transfer-Encoding: chunked", field);
        let provider = Provider::start(move |_, wire| {
            wire.send(format!("{head}{stream}"));
            Then::Close
        });
        let toml = "usage.stream = \"estimate\"";
        let router = Setup::all(&provider).toml(toml).start();
        router.connect().exchange(router.request(CHAT, &[], &body));
        let mut caller = router.connect();
        let bearer = router.bearer();
        caller.send(format!(
            "POST {CHAT} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: {bearer}\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        ));
        caller.rest();
        eventually("the requests", || total(&router).estimated_requests == 2);
        let total = total(&router);
        assert_eq!(
            (total.input_tokens, total.output_tokens),
            (2 * tokens, 4),
            "{field}"
        );
    }
}

#[test]
fn an_event_leaves_as_soon_as_it_is_whole_and_a_broken_stream_stays_broken() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send(HEAD);
        for event in [
            "data: {\"choices\":[{\"delta\":{\"content\":\"hello there\"}}],\"usage\":null}\n\n",
            "data: {\"choices\":[{\"del",
        ] {
            waits.pass();
            wire.send(format!("{:x}\r\n{event}\r\n", event.len()));
        }
        waits.pass();
        Then::Close
    });
    let router = Router::start(&provider);
    let mut caller = router.connect();
    caller.send(router.request(CHAT, &[], BODY));
    assert_eq!(caller.head().unwrap().status, 200);
    gate.open();
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"hello there\"}}]}\n\n";
    let expected = format!("{:x}\r\n{event}\r\n", event.len());
    assert_eq!(caller.bytes(expected.len()), expected.as_bytes());
    gate.open();
    gate.open();
    // What came of the second event, and no last chunk.
    let rest = caller.rest();
    assert_eq!(rest, b"17\r\ndata: {\"choices\":[{\"del\r\n");
    eventually("the count", || total(&router).truncated == 1);
    let total = total(&router);
    assert_eq!((total.output_tokens, total.estimated_requests), (3, 1));
    assert_eq!(total.errors_provider, 1);
}

#[test]
fn a_stream_that_its_caller_leaves_is_counted_as_far_as_it_came() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send(HEAD);
        let event = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\
            \"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\nevent: content_block_delta\n\
            data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello to all of you\"}}\n\n";
        wire.send(format!("{:x}\r\n{event}\r\n", event.len()));
        waits.pass();
        Then::Close
    });
    let router = Router::start(&provider);
    let mut caller = router.connect();
    caller.send(router.request(
        "/v1/messages",
        &[],
        r#"{"model":"claude-sonnet-4-5","messages":[],"stream":true}"#,
    ));
    assert_eq!(caller.head().unwrap().status, 200);
    caller.bytes(10);
    drop(caller);
    eventually("the count", || total(&router).aborted == 1);
    let total = total(&router);
    assert_eq!(
        (total.input_tokens, total.cached_tokens, total.output_tokens),
        (30, 5, 5)
    );
    assert_eq!(total.errors, 0);
    gate.open();
}

/// As OpenAI's SDKs and Codex do: the last chunk, which is framing alone, may come later.
#[test]
fn a_caller_that_leaves_behind_the_last_word_has_the_whole_answer() {
    let event = |name: &str, data: &str| format!("event: {name}\ndata: {data}\n\n");
    let text = "Rex is a good name for such a dog, as far as I can tell";
    for (path, body, stream) in [
        (
            CHAT,
            r#"{"model":"gpt-4o","messages":[{"role":"user","content":"my dog is Rex"}],"stream":true}"#,
            format!(
                "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}],\"usage\":null}}\n\n\
                data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":11,\"completion_tokens\":7}}}}\n\ndata: [DONE]\n\n"
            ),
        ),
        (
            "/v1/responses",
            r#"{"model":"gpt-4o","input":"my dog is Rex","stream":true}"#,
            event(
                "response.output_text.delta",
                &format!("{{\"delta\":\"{text}\"}}"),
            ) + &event(
                "response.completed",
                r#"{"response":{"usage":{"input_tokens":11,"output_tokens":7}}}"#,
            ),
        ),
        (
            "/v1/messages",
            r#"{"model":"claude-sonnet-4-5","messages":[{"role":"user","content":"my dog is Rex"}],"stream":true}"#,
            event(
                "message_start",
                r#"{"message":{"usage":{"input_tokens":11,"output_tokens":1}}}"#,
            ) + &event(
                "content_block_delta",
                &format!("{{\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}"),
            ) + &event("message_delta", r#"{"usage":{"output_tokens":7}}"#)
                + &event("message_stop", r#"{"type":"message_stop"}"#),
        ),
    ] {
        let gate = Gate::default();
        let waits = gate.clone();
        let length = stream.len();
        let provider = Provider::start(move |_, wire| {
            wire.send(HEAD);
            wire.send(format!("{length:x}\r\n{stream}\r\n"));
            waits.pass();
            Then::Close
        });
        let router = Router::start(&provider);
        let mut caller = router.connect();
        caller.send(router.request(path, &[], body));
        assert_eq!(caller.head().unwrap().status, 200);
        let last: &[u8] = match path {
            CHAT => b"[DONE]\n\n",
            "/v1/responses" => b":7}}}\n\n",
            _ => b"\"message_stop\"}\n\n",
        };
        let mut got = Vec::new();
        while !got.ends_with(last) {
            got.extend(caller.bytes(1));
        }
        drop(caller);
        eventually("the count", || total(&router).requests == 1);
        let total = total(&router);
        assert_eq!((total.input_tokens, total.output_tokens), (11, 7), "{path}");
        assert_eq!((total.estimated_requests, total.aborted), (0, 0), "{path}");
        let export = || router.ask("GET", "/v1/memory/export", &[("x-api-key", &router.key)]);
        eventually("the answer in the vault", || export().text().contains(text));
        gate.open();
    }
}

/// A provider bills for what it was sent, whoever waits for the answer.
#[test]
fn a_request_that_its_caller_leaves_is_counted_as_what_went_in() {
    let opening = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
    let plain = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"choices\":";
    for (begun, said) in [
        (String::new(), 0),
        (HEAD.to_owned(), 0),
        (format!("{HEAD}{:x}\r\n{opening}\r\n", opening.len()), 0),
        (plain.to_owned(), 3),
    ] {
        let begins = begun.clone();
        let provider = Provider::start(move |_, wire| {
            wire.send(&begins);
            wire.closed_after();
            Then::Close
        });
        let router = Router::start(&provider);
        let key = router.mint(NewKey {
            limits: Limits {
                token_budget: Some((10, Period::Day)),
                ..Limits::default()
            },
            ..NewKey::default()
        });
        let mut caller = router.connect();
        caller.send(request("POST", CHAT, &[("x-api-key", &key)], BODY));
        match begun.is_empty() {
            true => eventually("the request", || provider.count() == 1),
            false => assert_eq!(caller.head().unwrap().status, 200),
        }
        drop(caller);
        eventually("the count", || total(&router).aborted == 1);
        let total = total(&router);
        let asked = (BODY.len() / 4) as u64;
        assert_eq!(
            (total.input_tokens, total.output_tokens),
            (asked, said),
            "{begun}"
        );
        assert_eq!(total.estimated_requests, 1);
        let again = request("POST", CHAT, &[("x-api-key", &key)], BODY);
        assert_eq!(router.connect().exchange(again).status, 429);
    }
}
