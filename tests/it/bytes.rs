//! Byte identity: what goes up is what came in, but for the named cuts; what comes down is what the provider sent.

use crate::support::{Provider, Router, Setup, Then, contains, request, unchunk};

const CHAT: &str = "/v1/chat/completions";

/// Bodies that a parser which writes its result down again would change, with `@` where the model stands.
fn corpus() -> Vec<String> {
    let messages = "x".repeat(2 << 20);
    vec![
        r#"{"model":"@","messages":[]}"#.into(),
        "  {\t\"model\"\r\n:  \"@\" , \n\n\"messages\" :[ ] }  \n".into(),
        r#"{"messages":[{"role":"user","content":"a","content":"b"}],"model":"@","x":1,"x":2}"#.into(),
        r#"{"model":"@","messages":[],"unknown_field":{"deep":[[[{"a":null}]]]},"metadata":{}}"#.into(),
        r#"{"model":"@","messages":[],"a":1e400,"b":-0,"c":0.1000,"d":12345678901234567890123456789,"e":1E+2}"#.into(),
        r#"{"model":"@","messages":["\u00e9\u0000\ud83d\ude00\/\b\f\n\r\t\"\\"],"k\u0065y":"v"}"#.into(),
        "{\"model\":\"@\",\"messages\":[\"é ß 漢字 🙂 \u{10ffff} \u{7ff} \u{800} \u{ffff}\"]}".into(),
        r#"{"messages":[{"role":"user","content":"{\"model\":\"openai/x\"}","model":"openai/inner"}],"model":"@"}"#.into(),
        r#"{"tools":[{"function":{"parameters":{"model":"openai/no","messages":1}}}],"messages":[],"model":"@"}"#.into(),
        r#"{"model":"@","messages":[{"content":[{"type":"image_url","image_url":{"url":"data:;base64,AA=="}}]}]}"#.into(),
        r#"{"messages":[{"role":"user","content":""}],"stream":true,"stream_options":{"include_usage":false},"model":"@"}"#.into(),
        format!(r#"{{"messages":[{{"role":"user","content":"{messages}"}}],"model":"@"}}"#),
        r#"{"MODEL":"openai/upper","Model":"x","messages":[],"model":"@"}"#.into(),
        r#"{"model":"@","messages":[{"memory_mode":"mine","session_id":1}],"memories":1,"memory_modes":2}"#.into(),
    ]
}

#[test]
fn request_bodies_arrive_as_they_were_sent() {
    let provider = Provider::plain();
    // A stream's body is left alone too where nobody asks for counts on its caller's behalf; and nothing is recalled
    // from one body for the next.
    let toml = "usage.stream = \"estimate\"\nmemory.enabled = false";
    let router = Setup::all(&provider).toml(toml).start();
    let mut caller = router.connect();
    for body in corpus() {
        let plain = body.replace('@', "gpt-4o");
        assert_eq!(
            caller.exchange(router.request(CHAT, &[], &plain)).status,
            200
        );
        assert!(
            provider.last().body == plain.as_bytes(),
            "{}",
            &plain[..plain.len().min(200)]
        );
        // The prefix alone comes off.
        let prefixed = body.replace('@', "openai/gpt-4o");
        assert_eq!(
            caller.exchange(router.request(CHAT, &[], &prefixed)).status,
            200
        );
        assert!(
            provider.last().body == plain.as_bytes(),
            "{}",
            &prefixed[..prefixed.len().min(200)]
        );
        // The same in chunks of every kind.
        for size in [1, 7, 4096, usize::MAX] {
            if size < 4096 && plain.len() > 10_000 {
                continue;
            }
            let mut chunked = String::new();
            let mut rest = prefixed.as_str();
            while !rest.is_empty() {
                let mut at = size.min(rest.len());
                while !rest.is_char_boundary(at) {
                    at += 1;
                }
                chunked += &format!("{at:X}\r\n{}\r\n", &rest[..at]);
                rest = &rest[at..];
            }
            chunked += "0\r\n\r\n";
            let head = format!(
                "POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
                router.bearer()
            );
            assert_eq!(caller.exchange(head + &chunked).status, 200);
            assert!(
                provider.last().body == plain.as_bytes(),
                "in chunks of {size}"
            );
        }
    }
}

#[test]
fn router_fields_come_off_and_nothing_else() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    #[rustfmt::skip] // Pairs read by rows.
    let pairs = [
        (r#"{"model":"gpt-4o","memory":true,"messages":[]}"#, r#"{"model":"gpt-4o","messages":[]}"#),
        (r#"{"memory_mode":"off","model":"gpt-4o","messages":[]}"#, r#"{"model":"gpt-4o","messages":[]}"#),
        (r#"{"model":"gpt-4o","messages":[],"memory_store":false}"#, r#"{"model":"gpt-4o","messages":[]}"#),
        (r#"{"model":"gpt-4o","messages":[],"memory_store_response":false,"memory_limit":3,"session_id":"s"}"#, r#"{"model":"gpt-4o","messages":[]}"#),
        (r#"{"model":"gpt-4o","messages":[{"role":"user","memory":false,"content":"a"},{"memory":true,"role":"x"}]}"#, r#"{"model":"gpt-4o","messages":[{"role":"user","content":"a"},{"role":"x"}]}"#),
        (r#"{"model":"gpt-4o","messages":[{"role":"user","content":"memory_mode session_id"}]}"#, r#"{"model":"gpt-4o","messages":[{"role":"user","content":"memory_mode session_id"}]}"#),
        (r#"{"memory":{"a":[1,"}"]},"model":"openai/gpt-4o","messages":[],"x":{"memory":1}}"#, r#"{"model":"gpt-4o","messages":[],"x":{"memory":1}}"#),
    ];
    for (sent, expected) in pairs {
        let reply = router.post(CHAT, sent);
        assert_eq!(reply.status, 200, "{sent}: {reply:?}");
        let received: serde_json::Value = serde_json::from_str(provider.last().text()).unwrap();
        let wanted: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(received, wanted, "{sent}");
        assert_eq!(provider.last().text(), expected, "{sent}");
    }
    for (path, sent, expected) in [
        (
            "/v1/messages",
            r#"{"model":"claude-x","session_id":"s","messages":[{"role":"user","content":"a","memory":false}]}"#,
            r#"{"model":"claude-x","messages":[{"role":"user","content":"a"}]}"#,
        ),
        (
            "/v1/responses",
            r#"{"model":"gpt-4o","input":[{"role":"user","content":"a","memory":false}],"memory":"off"}"#,
            r#"{"model":"gpt-4o","input":[{"role":"user","content":"a"}]}"#,
        ),
        (
            "/v1beta/models/gemini-x:generateContent",
            r#"{"contents":[{"parts":[],"memory":false}],"memory_limit":1}"#,
            r#"{"contents":[{"parts":[]}]}"#,
        ),
        (
            "/v1beta/models/gemini-x:countTokens",
            r#"{"generateContentRequest":{"model":"models/gemini-x","contents":[{"memory":false,"parts":[]},{"parts":[]}]}}"#,
            r#"{"generateContentRequest":{"model":"models/gemini-x","contents":[{"parts":[]},{"parts":[]}]}}"#,
        ),
        (
            "/v1/embeddings",
            r#"{"memory":"off","model":"openai/text-embedding-3-small","input":"a"}"#,
            r#"{"model":"text-embedding-3-small","input":"a"}"#,
        ),
        (
            "/v1/moderations",
            r#"{"model":"omni-moderation-latest","input":[{"type":"text","memory":null}]}"#,
            r#"{"model":"omni-moderation-latest","input":[{"type":"text","memory":null}]}"#,
        ),
    ] {
        assert_eq!(router.post(path, sent).status, 200, "{path}");
        assert_eq!(provider.last().text(), expected, "{path}");
    }
}

#[test]
fn end_to_end_fields_go_up_and_the_routers_own_do_not() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let ours = [
        "X-Memory-Mode",
        "X-Memory-Store",
        "X-Memory-Anything",
        "X-Session-ID",
        "X-Store-Input",
        "X-Store-Response",
        "X-Context-Limit",
        "X-Debug",
    ];
    let mut fields: Vec<(&str, &str)> = ours.iter().map(|name| (*name, "1")).collect();
    let kept = [
        ("User-Agent", "OpenAI/Python 1.99"),
        ("X-Stainless-Lang", "python"),
        ("OpenAI-Organization", "org-1"),
        ("X-Custom", "a, b"),
        ("x-claude-code-session-id", "s-1"),
        ("X-Empty", ""),
        ("X-Tab", "a\tb"),
        ("Accept", "application/json"),
        ("traceparent", "00-1-2-01"),
        ("X-High", "\u{e9}"),
    ];
    fields.extend(kept);
    fields.extend([
        ("Connection", "X-Hop, keep-alive"),
        ("X-Hop", "1"),
        ("Keep-Alive", "5"),
        ("TE", "trailers"),
        ("Accept-Encoding", "gzip, br"),
    ]);
    let bytes: Vec<u8> = {
        let text =
            String::from_utf8(router.request(CHAT, &fields, r#"{"model":"gpt-4o","messages":[]}"#))
                .unwrap();
        text.chars().map(|c| u32::from(c) as u8).collect()
    };
    assert_eq!(router.connect().exchange(bytes).status, 200);
    let request = provider.only();
    for (name, value) in kept {
        assert_eq!(request.fields.get(name), Some(value), "{name}");
    }
    for name in ours.into_iter().chain(["X-Hop", "Keep-Alive", "TE"]) {
        assert_eq!(request.fields.get(name), None, "{name}");
    }
    assert_eq!(request.fields.get("accept-encoding"), Some("identity"));
    assert_eq!(request.fields.get("content-type"), Some("application/json"));
}

#[test]
fn answers_arrive_as_they_were_sent() {
    let bodies = [
        b"{}".to_vec(),
        Vec::new(),
        "{\"text\":\"\u{1f642} é\"}\n".into(),
        vec![0, 255, 13, 10, 13, 10, b'0', 13, 10, 13, 10],
        (0..3_000_000u32).map(|i| (i * 31 % 251) as u8).collect(),
    ];
    for status in [200, 201, 400, 401, 404, 418, 429, 500, 503, 529] {
        for body in &bodies {
            let head = format!(
                "HTTP/1.1 {status} Some Reason\r\nContent-Type: application/json\r\nX-Request-Id: req_1\r\nrequest-id: r\r\n\
                 Retry-After: 7\r\nx-ratelimit-remaining-requests: 3\r\nanthropic-ratelimit-tokens-reset: 2025-01-01T00:00:00Z\r\n\
                 X-Should-Retry: true\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nopenai-processing-ms: 5\r\n\
                 Strict-Transport-Security: max-age=1\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let provider = Provider::answering([head.as_bytes(), body].concat());
            let router = Setup::all(&provider).start();
            let reply = router.post(CHAT, r#"{"model":"gpt-4o","messages":[]}"#);
            assert_eq!(reply.status, status);
            assert!(
                reply.complete && reply.raw_body == *body,
                "{status} with {} bytes",
                body.len()
            );
            assert!(
                reply
                    .raw_head
                    .starts_with(format!("HTTP/1.1 {status} Some Reason\r\n").as_bytes())
            );
            for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
                assert!(
                    contains(&reply.raw_head, format!("{line}\r\n").as_bytes()),
                    "{status}: {line}"
                );
            }
            let names = reply.fields.0.iter().map(|(name, _)| name.as_str());
            let ours: Vec<_> = names
                .filter(|name| name.starts_with("x-mr-") || name.starts_with("x-memory-"))
                .collect();
            let expected = [
                "x-mr-request-id",
                "x-memory-mode",
                "x-memory-chunks-retrieved",
                "x-memory-tokens-retrieved",
                "x-mr-overhead-ms",
                "x-mr-memory-ms",
            ];
            assert_eq!(ours, expected);
        }
    }
}

#[test]
fn chunked_and_close_delimited_answers() {
    let chunked = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
        6;ext=1\r\ndata: \r\nB\r\n{\"a\":\"\u{e9}\"}\n\r\n1\r\n\n\r\n0\r\nX-Trailer: 1\r\n\r\n";
    let provider = Provider::answering(chunked);
    let router = Router::start(&provider);
    let mut caller = router.connect();
    for _ in 0..3 {
        let reply =
            caller.exchange(router.request(CHAT, &[], r#"{"model":"gpt-4o","messages":[]}"#));
        assert!(reply.complete);
        assert_eq!(reply.text(), "data: {\"a\":\"é\"}\n\n");
        assert!(
            chunked.ends_with(std::str::from_utf8(&reply.raw_body).unwrap()),
            "the framing too"
        );
    }
    assert_eq!(provider.accepted(), 1);

    let closing = Provider::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil ");
        wire.send("the end");
        Then::Close
    });
    let router = Router::start(&closing);
    let mut caller = router.connect();
    for _ in 0..2 {
        let reply =
            caller.exchange(router.request(CHAT, &[], r#"{"model":"gpt-4o","messages":[]}"#));
        assert_eq!((reply.text(), reply.complete), ("until the end", true));
        // Only a length or chunks tell a caller that nothing is missing.
        assert_eq!(unchunk(&reply.raw_body), reply.body);
    }
}

#[test]
fn callers_of_http_1_0_get_no_chunks() {
    let provider = Provider::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    let router = Router::start(&provider);
    let body = r#"{"model":"gpt-4o","messages":[]}"#;
    let mut caller = router.connect();
    caller.send(format!(
        "POST {CHAT} HTTP/1.0\r\nAuthorization: {}\r\nConnection: keep-alive\r\nContent-Length: {}\r\n\r\n{body}",
        router.bearer(),
        body.len()
    ));
    let reply = caller.reply();
    assert_eq!(reply.field("transfer-encoding"), None);
    assert_eq!(
        (reply.text(), reply.field("connection")),
        ("abcde", Some("close"))
    );
    assert_eq!(caller.rest(), b"");
    assert!(
        provider
            .only()
            .raw
            .starts_with(b"POST /v1/chat/completions HTTP/1.1\r\n")
    );
}

#[test]
fn forms_for_audio_and_images() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .provider("groq", &provider.url("/openai/v1"))
        .start();
    let form = |model: &str| {
        let file: Vec<u8> = (0..100_000u32).map(|i| (i % 256) as u8).collect();
        let head = "--XYZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n";
        let tail = format!(
            "\r\n--XYZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--XYZ--\r\n"
        );
        [head.as_bytes(), &file, tail.as_bytes()].concat()
    };
    let multipart = "multipart/form-data; boundary=XYZ";
    let bearer = router.bearer();
    let post = |path: &str, body: &[u8]| {
        let fields = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", multipart),
        ];
        router
            .connect()
            .exchange(request("POST", path, &fields, body))
    };
    assert_eq!(
        post("/v1/audio/transcriptions", &form("groq/whisper-large-v3")).status,
        200
    );
    let received = provider.last();
    assert_eq!(received.target, "/openai/v1/audio/transcriptions");
    assert!(received.body == form("whisper-large-v3"));
    assert_eq!(received.fields.get("content-type"), Some(multipart));
    // No model: OpenAI.
    let bare = b"--XYZ\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\nPNG\r\n--XYZ--\r\n";
    assert_eq!(post("/v1/images/edits", bare).status, 200);
    assert_eq!(
        (provider.last().target.as_str(), &provider.last().body[..]),
        ("/v1/images/edits", &bare[..])
    );
    let broken = post(
        "/v1/audio/transcriptions",
        b"--XYZ\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nx",
    );
    assert_eq!(
        (broken.status, broken.text()),
        (400, r#"{"error": "Invalid form body"}"#)
    );
}
