//! JSON of more levels than a parser's stack has room for, from a provider, a caller and an operator: it ends nothing.

use std::sync::{Arc, Mutex};

use crate::support::operator::{ask, ask_as};
use crate::support::{Provider, Router, Then, request};
use memoryrouter::keys::NewKey;

/// Where a level is a few hundred bytes of a thread's 2 MiB.
const LEVELS: usize = 100_000;

fn deep() -> [String; 4] {
    [
        "[".repeat(LEVELS) + &"]".repeat(LEVELS),
        "{\"a\":".repeat(LEVELS) + "1" + &"}".repeat(LEVELS),
        "[".repeat(LEVELS),
        // As deep as may be, in what stands around it.
        "[".repeat(60) + &"]".repeat(60),
    ]
}

#[test]
fn an_answer_is_relayed_however_deep_it_nests() {
    let answer = Arc::new(Mutex::new(Vec::new()));
    let said = answer.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send(said.lock().unwrap().as_slice());
        Then::Keep
    });
    let router = Router::start(&provider);
    let frames = [
        r#"{"choices":[{"index":0,"message":{"content":"x","y":@},"delta":{"content":"x"}}],"tool_calls":1}"#,
        r#"{"content":[{"type":"text","text":"x"}],"y":@,"tool_use":1}"#,
        r#"{"candidates":[{"content":{"parts":[{"text":"x"}]},"y":@}],"functionCall":1}"#,
        r#"{"y":@,"type":"response.output_text.delta","delta":"x"}"#,
        r#"{"delta":@,"type":"content_block_delta"}"#,
        r#"{"error":@}"#,
        r#"{"usage":@,"usageMetadata":@}"#,
        "@",
    ];
    let messages = r#""messages":[{"role":"user","content":"x"}]"#;
    let gemini = r#"{"contents":[{"role":"user","parts":[{"text":"x"}]}]}"#;
    for (target, body) in [
        (
            "/v1/chat/completions",
            format!(r#"{{"model":"gpt-4o",{messages}}}"#),
        ),
        (
            "/v1/responses",
            r#"{"model":"gpt-4o","input":"x"}"#.to_owned(),
        ),
        (
            "/v1/messages",
            format!(r#"{{"model":"claude-x","max_tokens":9,{messages}}}"#),
        ),
        ("/v1beta/models/gemini-x:generateContent", gemini.to_owned()),
    ] {
        for frame in frames {
            for levels in deep() {
                let json = frame.replace('@', &levels);
                for (media, content) in [
                    ("application/json", json.clone()),
                    ("text/event-stream", format!("data: {json}\n\n")),
                ] {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
                        content.len()
                    );
                    *answer.lock().unwrap() = (head + &content).into_bytes();
                    let reply = router.post(target, &body);
                    assert_eq!(reply.status, 200, "{target} {frame} {media}");
                    assert!(reply.text() == content, "{target} {frame} {media}");
                }
            }
        }
    }
}

#[test]
fn a_request_is_refused_however_deep_it_nests() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let boss = router.mint(NewKey {
        manage_keys: true,
        ..NewKey::default()
    });
    let members = [
        r#"{"name":@}"#,
        r#"{"limits":{"rpm":@}}"#,
        r#"{"unknown":@}"#,
        r#"{"key_id":"x","path":"/v1/models","body":@}"#,
        r#"{"level":@}"#,
        "@",
    ];
    for member in members {
        for levels in &deep()[..3] {
            let body = member.replace('@', levels);
            let fields = [("x-api-key", boss.as_str())];
            let mint = request("POST", "/v1/keys", &fields, &body);
            let minted = router.connect().exchange(mint);
            assert_eq!(minted.status, 400, "{member}");
            for (method, target) in [
                ("POST", "/admin/v1/keys"),
                ("POST", "/admin/v1/playground"),
                ("PUT", "/admin/v1/log"),
            ] {
                let reply = ask(&router, method, target, &body);
                assert_eq!(reply.status, 400, "{target} {member}");
            }
        }
    }
    let small = format!("{{\"token\":{}}}", "[".repeat(4000));
    let fields = [("Content-Type", "application/json")];
    let stranger = ask_as(&router, "POST", "/admin/v1/login", &fields, &small);
    assert_eq!(stranger.status, 400);
}
