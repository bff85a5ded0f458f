//! Limits of a key: exact however many come at once, on every core, in every dialect.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use memoryrouter::keys::{KeyChange, Limits, NewKey, Period};
use memoryrouter::usage::Query;

use crate::support::{
    CHAT as BODY, Gate, Provider, Reply, Router, Setup, Then, eventually, json, request,
};

const CHAT: &str = "/v1/chat/completions";
const USED: &str = r#"{"usage":{"prompt_tokens":60,"completion_tokens":40}}"#;

pub fn limited(router: &Router, limits: Limits) -> String {
    router.mint(NewKey {
        limits,
        ..NewKey::default()
    })
}

pub fn ask(router: &Router, key: &str) -> Reply {
    router
        .connect()
        .exchange(request("POST", CHAT, &[("x-api-key", key)], BODY))
}

#[test]
fn two_hundred_at_once_on_a_limit_of_ten_admit_ten() {
    let provider = Provider::answering(json(200, USED));
    let router = Setup::all(&provider).workers(2).start();
    for limits in [
        Limits {
            requests_per_minute: Some(10),
            ..Limits::default()
        },
        // Each is counted as 100 tokens by its provider, and as a few before it is.
        Limits {
            requests_per_minute: Some(10),
            tokens_per_minute: Some(1_000_000),
            ..Limits::default()
        },
    ] {
        let key = limited(&router, limits);
        let before = provider.count();
        let (admitted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..200 {
                scope.spawn(|| match ask(&router, &key).status {
                    200 => admitted.fetch_add(1, Ordering::SeqCst),
                    429 => refused.fetch_add(1, Ordering::SeqCst),
                    other => panic!("{other}"),
                });
            }
        });
        assert_eq!((admitted.into_inner(), refused.into_inner()), (10, 190));
        assert_eq!(provider.count(), before + 10);
    }
}

#[test]
fn the_answer_says_which_limit_and_when_to_come_again() {
    let provider = Provider::answering(json(200, USED));
    let router = Router::start(&provider);
    let key = limited(
        &router,
        Limits {
            requests_per_minute: Some(1),
            ..Limits::default()
        },
    );
    assert_eq!(ask(&router, &key).status, 200);
    let reply = ask(&router, &key);
    assert_eq!(reply.status, 429);
    let after: u64 = reply.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    assert_eq!(reply.field("x-ratelimit-limit-requests"), Some("1"));
    assert_eq!(reply.field("x-ratelimit-remaining-requests"), Some("0"));
    assert!(reply.field("x-ratelimit-reset-requests").is_some());
    let expected = format!(
        r#"{{"error": "Rate limit exceeded", "hint": "This key has 1 request a minute; there is room again in {after} s"}}"#
    );
    assert_eq!(reply.text(), expected);
    // A new snapshot forgets nothing, and other keys have their own count.
    router.mint(NewKey::default());
    assert_eq!(ask(&router, &key).status, 429);
    assert_eq!(ask(&router, &router.key).status, 200);
    // What asks no provider is not counted.
    assert_eq!(
        router
            .ask("GET", "/v1/models", &[("x-api-key", &key)])
            .status,
        200
    );
    assert_eq!(provider.count(), 2);
}

#[test]
fn who_is_to_come_again_keeps_the_connection_unless_much_is_under_way() {
    let provider = Provider::answering(json(200, USED));
    let router = Router::start(&provider);
    let limits = Limits {
        requests_per_minute: Some(1),
        ..Limits::default()
    };
    let key = limited(&router, limits);
    assert_eq!(ask(&router, &key).status, 200);
    let fields = [("x-api-key", key.as_str())];
    let asked = |fields: &[(&str, &str)], body: &str| request("POST", CHAT, fields, body);
    let mut caller = router.connect();
    let whole = asked(&fields, BODY);
    let (head, body) = whole.split_at(whole.len() - BODY.len());
    // The body with the head, in a piece of its own, in two.
    for pieces in [
        vec![&whole[..]],
        vec![head, body],
        vec![&whole[..whole.len() - 5], &body[BODY.len() - 5..]],
    ] {
        for piece in pieces {
            caller.send(piece);
            std::thread::sleep(Duration::from_millis(20));
        }
        let reply = caller.reply();
        assert_eq!((reply.status, reply.field("connection")), (429, None));
    }
    assert_eq!(
        caller.exchange(request("GET", "/health", &[], "")).status,
        200
    );
    let long = format!(
        r#"{{"model":"gpt-4o","messages":[],"x":"{}"}}"#,
        "x".repeat(70_000)
    );
    let expecting = [("x-api-key", key.as_str()), ("Expect", "100-continue")];
    for bytes in [asked(&fields, &long), asked(&expecting, BODY)] {
        let reply = router.connect().exchange(bytes);
        assert_eq!(
            (reply.status, reply.field("connection")),
            (429, Some("close"))
        );
    }
    assert_eq!(provider.count(), 1);
}

#[test]
fn a_budget_is_settled_with_what_the_provider_counted() {
    let provider = Provider::answering(json(200, USED));
    let router = Router::start(&provider);
    for (limits, error, told) in [
        (
            Limits {
                tokens_per_minute: Some(250),
                ..Limits::default()
            },
            "Rate limit exceeded",
            "This key has 250 tokens a minute; there is room again in ",
        ),
        (
            Limits {
                token_budget: Some((250, Period::Day)),
                ..Limits::default()
            },
            "Budget exhausted",
            "This key has 250 tokens a day (UTC); there is room again in ",
        ),
        (
            Limits {
                token_budget: Some((250, Period::Month)),
                ..Limits::default()
            },
            "Budget exhausted",
            "This key has 250 tokens a month (UTC); there is room again in ",
        ),
    ] {
        let key = limited(&router, limits);
        // 100 tokens each: two fit, and a third is let in for its 15 estimated ones.
        for _ in 0..3 {
            assert_eq!(ask(&router, &key).status, 200, "{error}");
        }
        let reply = ask(&router, &key);
        assert_eq!(
            (reply.status, reply.json()["error"].as_str()),
            (429, Some(error))
        );
        let after = reply.field("retry-after").unwrap();
        assert_eq!(reply.json()["hint"], format!("{told}{after} s"));
    }
    // Errors of the provider's cost nothing.
    let failing = Provider::answering(json(500, "{}"));
    let router = Router::start(&failing);
    let key = limited(
        &router,
        Limits {
            tokens_per_minute: Some(20),
            ..Limits::default()
        },
    );
    for _ in 0..5 {
        assert_eq!(ask(&router, &key).status, 500);
    }
}

#[test]
fn a_limit_is_on_what_was_used_before_it_was_set() {
    let provider = Provider::answering(json(200, USED));
    let router = Router::start(&provider);
    let new = NewKey {
        account: "default".into(),
        ..NewKey::default()
    };
    let (record, token) = router.edit(|editor| editor.add_key(new));
    let key = String::from_utf8(token.expose().to_vec()).unwrap();
    let budget = |tokens| Limits {
        token_budget: Some((tokens, Period::Month)),
        ..Limits::default()
    };
    let mut asked = 0;
    for (limits, answers) in [
        (Limits::default(), [200, 200, 200]),
        // 300 are used.
        (budget(300), [429, 429, 429]),
        (budget(350), [200, 429, 429]),
        (Limits::default(), [200, 200, 200]),
        // 700 are.
        (budget(750), [200, 429, 429]),
    ] {
        let change = KeyChange {
            limits: Some(limits),
            ..KeyChange::default()
        };
        router.edit(|editor| editor.change_key(&record.id, change));
        assert_eq!([(); 3].map(|()| ask(&router, &key).status), answers);
        asked += 3;
        // It is counted behind all that a limit is told.
        let counted = || {
            router.used(&Query {
                until: i64::MAX,
                ..Query::default()
            })
        };
        eventually("the counts", || {
            counted().is_ok_and(|report| report.total.requests == asked)
        });
    }
}

#[test]
fn guessing_keys_is_braked_and_costs_nobody_else() {
    let provider = Provider::answering(json(200, USED));
    let setup = Setup::all(&provider).workers(2);
    let router = setup.toml("limits.auth_failures = 5").start();
    for _ in 0..5 {
        assert_eq!(ask(&router, "mk_guess").status, 401);
    }
    // From here on it costs the connection, whichever core it is on.
    for _ in 0..10 {
        let reply = ask(&router, "mk_guess");
        assert_eq!(reply.status, 429);
        assert_eq!(reply.field("connection"), Some("close"));
        let after: u64 = reply.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=12).contains(&after), "{after}");
        assert_eq!(reply.json()["error"], "Too many invalid memory keys");
    }
    // The same address with a good key, and without any, is told as ever.
    assert_eq!(ask(&router, &router.key).status, 200);
    assert_eq!(
        router
            .connect()
            .exchange(request("POST", CHAT, &[], BODY))
            .status,
        401
    );
    assert_eq!(provider.count(), 1);
}

#[test]
fn requests_at_once_are_counted_while_they_run() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        waits.pass();
        wire.send(json(200, "{}"));
        Then::Keep
    });
    let router = Setup::all(&provider).workers(2).start();
    let key = limited(
        &router,
        Limits {
            concurrent: Some(2),
            ..Limits::default()
        },
    );
    let bytes = request("POST", CHAT, &[("x-api-key", &key)], BODY);
    let mut busy: Vec<_> = (0..2).map(|_| router.connect()).collect();
    for (count, caller) in busy.iter_mut().enumerate() {
        caller.send(&bytes);
        provider.wait_for(count + 1);
    }
    assert_eq!(ask(&router, &key).status, 429);
    // One leaves before its answer: its place is free again while the other goes on.
    drop(busy.pop());
    let mut third = router.connect();
    crate::support::eventually("a free place", || {
        let before = provider.count();
        third.send(&bytes);
        thread::sleep(std::time::Duration::from_millis(50));
        provider.count() > before || {
            third = router.connect();
            false
        }
    });
    for _ in 0..50 {
        gate.open();
    }
    assert_eq!(busy[0].reply().status, 200);
    assert_eq!(third.reply().status, 200);
    // Who has an answer's last byte has its place back.
    assert_eq!(ask(&router, &key).status, 200);
}

pub fn post(key: &str, path: &str, fields: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let all = [&[("x-api-key", key)], fields].concat();
    request("POST", path, &all, body)
}

fn image(bytes: usize) -> String {
    let image = "iVBORw0K".repeat(bytes / 8);
    format!(
        r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#
    )
}

/// 100,000 tokens of each kind.
fn hundred_thousand() -> [Limits; 2] {
    let minute = Limits {
        tokens_per_minute: Some(100_000),
        ..Limits::default()
    };
    let day = Limits {
        token_budget: Some((100_000, Period::Day)),
        ..Limits::default()
    };
    [minute, day]
}

#[test]
fn bytes_of_files_are_no_tokens() {
    let provider = Provider::start(|request, wire| {
        wire.send(match request.target.as_str() {
            "/v1/audio/transcriptions" => json(200, r#"{"text":"hello"}"#),
            "/v1/messages/count_tokens" => json(200, r#"{"input_tokens":90000}"#),
            target if target.contains(":countTokens") => json(200, r#"{"totalTokens":90000}"#),
            _ => json(
                200,
                r#"{"usage":{"prompt_tokens":9,"completion_tokens":6}}"#,
            ),
        });
        Then::Keep
    });
    let router = Router::start(&provider);
    let text = "so it goes ".repeat(36_000);
    let counted = format!(r#"{{"model":"claude-x","messages":[],"system":"{text}"}}"#);
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{text}\r\n--b--\r\n"
    );
    let form_type = [("Content-Type", "multipart/form-data; boundary=b")];
    for limits in hundred_thousand() {
        let key = limited(&router, limits);
        let mut caller = router.connect();
        let mut goes = |path: &str, fields: &[(&str, &str)], body: &str| {
            let reply = caller.exchange(post(&key, path, fields, body));
            assert_eq!(reply.status, 200, "{path} of {} bytes", body.len());
        };
        for _ in 0..2 {
            goes(CHAT, &[], BODY);
            goes(CHAT, &[], &image(600_000));
            goes("/v1/audio/transcriptions", &form_type, &form);
            goes("/v1/messages/count_tokens", &[], &counted);
            goes("/v1beta/models/gemini-x:countTokens", &[], &counted);
        }
        // While a large one is on its way, and while an image is with its provider, there is room for others.
        let mut large = router.connect();
        let bytes = post(&key, CHAT, &[("Expect", "100-continue")], image(600_000));
        let head = bytes.len() - image(600_000).len();
        large.send(&bytes[..head]);
        assert_eq!(large.reply().status, 100);
        goes(CHAT, &[], BODY);
        large.send(&bytes[head..]);
        assert_eq!(large.reply().status, 200);
    }
}

#[test]
fn what_is_under_way_counts_however_it_was_framed() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        waits.pass();
        wire.send(json(200, USED));
        Then::Keep
    });
    let router = Setup::all(&provider).workers(2).start();
    let text = "so it goes ".repeat(320);
    let body = format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, body.as_bytes()).unwrap();
    let zipped = encoder.finish().unwrap();
    let ask_in = |form: &str, key: &str| match form {
        "gzip" => post(key, CHAT, &[("Content-Encoding", "gzip")], &zipped),
        "chunks" => {
            let head = format!(
                "POST {CHAT} HTTP/1.1\r\nHost: router.test\r\nx-api-key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
            );
            (head + &chunked).into_bytes()
        }
        _ => post(key, CHAT, &[], &body),
    };
    for form in ["length", "chunks", "gzip"] {
        let key = limited(
            &router,
            Limits {
                tokens_per_minute: Some(1000),
                ..Limits::default()
            },
        );
        let before = provider.count();
        let mut first = router.connect();
        first.send(ask_in(form, &key));
        provider.wait_for(before + 1);
        for _ in 0..3 {
            let reply = router.connect().exchange(ask_in(form, &key));
            assert_eq!(reply.status, 429);
            assert_eq!(reply.field("retry-after"), Some("1"), "once that is over");
        }
        gate.open();
        assert_eq!(first.reply().status, 200);
        gate.open();
        assert_eq!(router.connect().exchange(ask_in(form, &key)).status, 200);
        assert_eq!(provider.count(), before + 2);
    }
}

#[test]
fn who_has_the_whole_answer_may_ask_again_at_once() {
    let stream = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\ndata: [DONE]\n\n";
    let stream = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{stream}\r\n0\r\n\r\n",
        stream.len()
    );
    let provider = Provider::start(move |request, wire| {
        match request.text().contains("\"stream\":true") {
            true => wire.send(&stream),
            false => wire.send(json(
                200,
                r#"{"choices":[{"message":{"content":"hello"}}]}"#,
            )),
        };
        Then::Keep
    })
    .forgetful();
    let router = Setup::all(&provider).workers(2).start();
    let key = limited(
        &router,
        Limits {
            concurrent: Some(1),
            ..Limits::default()
        },
    );
    // A long text takes a while to remember.
    let text = "one word after another, and none of them the same as before; ".repeat(1_000);
    let mut callers: Vec<_> = (0..8).map(|_| router.connect()).collect();
    for round in 0..15 {
        for caller in &mut callers {
            let stream = round % 2 == 1;
            let body = format!(
                r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{round} {text}"}}],"stream":{stream}}}"#
            );
            let reply = caller.exchange(post(&key, CHAT, &[], body));
            assert_eq!(reply.status, 200, "round {round}");
        }
    }
}

#[test]
fn what_the_router_refuses_is_no_request_of_a_minute() {
    let provider = Provider::answering(json(200, USED));
    let router = Router::start(&provider);
    let one = Limits {
        requests_per_minute: Some(1),
        ..Limits::default()
    };
    let key = limited(&router, one);
    for (body, status) in [("{bad", 400), ("{}", 400), (BODY, 200), (BODY, 429)] {
        let asked = post(&key, CHAT, &[], body);
        assert_eq!(router.connect().exchange(asked).status, status, "{body}");
    }
}

/// The last chunk, which is framing alone, may come later.
#[test]
fn who_has_a_streams_last_word_may_ask_again_at_once() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |request, wire| {
        if !request.text().contains("\"stream\":true") {
            wire.send(json(200, USED));
            return Then::Keep;
        }
        let stream = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":60,\"completion_tokens\":40}}\n\ndata: [DONE]\n\n";
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{stream}\r\n",
            stream.len()
        ));
        waits.pass();
        wire.send("0\r\n\r\n");
        Then::Keep
    });
    let router = Router::start(&provider);
    let key = limited(
        &router,
        Limits {
            concurrent: Some(1),
            token_budget: Some((200, Period::Day)),
            ..Limits::default()
        },
    );
    let mut caller = router.connect();
    let body = BODY.replacen('{', "{\"stream\":true,", 1);
    caller.send(post(&key, CHAT, &[], body));
    assert_eq!(caller.head().unwrap().status, 200);
    let mut got = Vec::new();
    while !got.ends_with(b"[DONE]\n\n") {
        got.extend(caller.bytes(1));
    }
    assert_eq!(ask(&router, &key).status, 200);
    // Both are counted, once each.
    assert_eq!(ask(&router, &key).status, 429);
    gate.open();
}

#[test]
fn a_stream_that_says_in_every_event_why_it_would_end_is_counted_whole() {
    let provider = Provider::start(|_, wire| {
        let event = |output: u64| {
            let event = format!(
                "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"so\"}}]}},\"finishReason\":\"STOP\"}}],\
                \"usageMetadata\":{{\"promptTokenCount\":10,\"candidatesTokenCount\":{output}}}}}\n\n"
            );
            format!("{:x}\r\n{event}\r\n", event.len())
        };
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for output in [1, 40, 90] {
            wire.send(event(output));
            thread::sleep(Duration::from_millis(20));
        }
        wire.send("0\r\n\r\n");
        Then::Keep
    });
    let router = Router::start(&provider);
    let key = limited(
        &router,
        Limits {
            token_budget: Some((100, Period::Day)),
            ..Limits::default()
        },
    );
    let path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse";
    let ask = |()| {
        let request = post(&key, path, &[], r#"{"contents":[]}"#);
        router.connect().exchange(request).status
    };
    assert_eq!([(); 2].map(ask), [200, 429]);
}
