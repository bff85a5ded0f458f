//! What the router answers by itself: models, health, readiness, HEAD, OPTIONS, CORS.

use memoryrouter::keys::NewKey;

use crate::support::{Gate, Provider, Router, Setup, Then, eventually, json, request};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

#[test]
fn models_are_those_that_the_account_can_pay_and_the_key_may_use() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .without_stored()
        .stored("openai", "k")
        .stored("anthropic", "k")
        .start();
    let list = |key: &str, path: &str| {
        let reply = router.ask("GET", path, &[("x-api-key", key)]);
        assert_eq!(reply.status, 200);
        let body = reply.json();
        assert_eq!(body["object"], "list");
        body["data"].as_array().unwrap().clone()
    };
    let all = list(&router.key, "/v1/models");
    for model in &all {
        assert!(
            model["id"].is_string()
                && model["display_name"].is_string()
                && model["owned_by"].is_string()
        );
        assert_eq!(model["object"], "model");
        assert!(model["created"].is_u64());
    }
    let owners = |models: &[serde_json::Value]| {
        let mut owners: Vec<String> = models
            .iter()
            .map(|model| model["owned_by"].as_str().unwrap().into())
            .collect();
        owners.sort();
        owners.dedup();
        owners
    };
    assert!(all.iter().any(|model| model["id"] == "gpt-4o"));
    assert!(
        all.iter()
            .any(|model| model["id"].as_str().unwrap().starts_with("claude"))
    );
    assert!(
        !all.iter()
            .any(|model| model["id"].as_str().unwrap().starts_with("gemini")),
        "{:?}",
        owners(&all)
    );
    for path in [
        "/v1beta/models",
        "/models",
        "/v1/v1/models",
        "/v1/models/",
        "/v1/models?limit=1000",
    ] {
        assert_eq!(list(&router.key, path), all, "{path}");
    }
    let narrow = router.mint(NewKey {
        models: vec!["claude*".into()],
        ..NewKey::default()
    });
    let some = list(&narrow, "/v1/models");
    assert!(
        !some.is_empty()
            && some
                .iter()
                .all(|model| model["id"].as_str().unwrap().contains("claude"))
    );
    let poor = router.mint(NewKey {
        account: "poor".into(),
        ..NewKey::default()
    });
    // Only what needs no key is left.
    assert!(
        list(&poor, "/v1/models")
            .iter()
            .all(|model| model["id"].as_str().unwrap().starts_with("ollama/"))
    );
    assert_eq!(router.ask("GET", "/v1/models", &[]).status, 401);
    assert_eq!(provider.accepted(), 0, "the list itself asks nobody");
    // Each listed model leads back to its provider.
    for model in all
        .iter()
        .filter(|model| model["owned_by"] == "openai" || model["owned_by"] == "anthropic")
    {
        let body = format!(r#"{{"model":{},"messages":[]}}"#, model["id"]);
        assert_eq!(router.post(CHAT, body).status, 200, "{model}");
    }
}

#[test]
fn health_readiness_and_root_need_no_key() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    assert_eq!(router.ask("GET", "/health", &[]).json()["status"], "ok");
    let ready = router.ask("GET", "/ready", &[]);
    assert_eq!(
        (ready.status, &ready.json()["status"]),
        (200, &"ready".into())
    );
    assert_eq!(ready.json()["snapshot"]["keys"], 1);
    let root = router.ask("GET", "/", &[]);
    assert_eq!(root.json()["name"], "MemoryRouter");
    assert_eq!(root.json()["version"], env!("CARGO_PKG_VERSION"));
    assert!(root.json()["docs"].is_string());
    for path in ["/", "/health", "/ready", "/v1/models"] {
        let bearer = router.bearer();
        let auth = [("Authorization", bearer.as_str())];
        let get = router.ask("GET", path, &auth);
        let head = router.ask("HEAD", path, &auth);
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(
            head.field("content-length"),
            get.field("content-length"),
            "{path}"
        );
        // Nothing follows a HEAD's head: the next answer on the connection is the next answer.
        let mut caller = router.connect();
        caller.send(request("HEAD", path, &auth, ""));
        caller.head().unwrap();
        assert_eq!(
            caller.exchange(request("GET", "/health", &[], "")).status,
            200,
            "{path}"
        );
    }
}

#[test]
fn browsers_are_let_in_by_name_only() {
    // A provider lets in whom it likes, which is said to the caller where the router has nothing to say.
    let answer = String::from_utf8(json(200, "{}")).unwrap();
    let lets_all_in = "\r\nAccess-Control-Allow-Origin: *\r\nVary: accept\r\n\r\n";
    let provider = Provider::answering(answer.replacen("\r\n\r\n", lets_all_in, 1));
    let preflight = [
        ("Origin", "https://app.example.com"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization"),
    ];
    let router = Router::start(&provider);
    let reply = router.ask("OPTIONS", CHAT, &preflight);
    assert_eq!(
        (reply.status, reply.field("allow")),
        (204, Some("POST, OPTIONS"))
    );
    assert_eq!(reply.field("access-control-allow-origin"), None);
    let router = Setup::all(&provider)
        .toml("cors.origins = [\"https://app.example.com\"]")
        .start();
    let reply = router.ask("OPTIONS", CHAT, &preflight);
    assert_eq!(reply.status, 204);
    assert_eq!(
        reply.field("access-control-allow-origin"),
        Some("https://app.example.com")
    );
    assert!(
        reply
            .field("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    assert!(
        reply
            .field("access-control-allow-headers")
            .unwrap()
            .contains("authorization")
    );
    let other = [("Origin", "https://evil.example.com"), preflight[1]];
    assert_eq!(
        router
            .ask("OPTIONS", CHAT, &other)
            .field("access-control-allow-origin"),
        None
    );
    for (origin, allowed) in [
        ("https://app.example.com", true),
        ("https://evil.example.com", false),
    ] {
        let reply = router.post_with(CHAT, &[("Origin", origin)], BODY);
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.field("access-control-allow-origin"),
            Some(if allowed { origin } else { "*" })
        );
        assert_eq!(reply.fields.all("vary")[0], "accept");
        let refused = router
            .connect()
            .exchange(request("POST", CHAT, &[("Origin", origin)], BODY));
        assert_eq!(
            (refused.status, refused.field("access-control-allow-origin")),
            (401, allowed.then_some(origin))
        );
    }
    assert!(
        router
            .ask("OPTIONS", "/v1/models", &[])
            .field("allow")
            .unwrap()
            .contains("GET")
    );
}

#[test]
fn draining_lets_streams_finish_and_takes_nothing_new() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        waits.pass();
        wire.send("4\r\nlast\r\n0\r\n\r\n");
        Then::Keep
    });
    let router = Setup::all(&provider).workers(2).start();
    let mut idle = router.connect();
    assert_eq!(
        idle.exchange(request("GET", "/health", &[], "")).status,
        200
    );
    let mut half = router.connect();
    half.send("GET /ready HTTP/1.1\r\n");
    let mut streaming = router.connect();
    streaming.send(router.request(CHAT, &[], BODY));
    let mut head = streaming.head().unwrap();
    eventually("all of them accepted", || {
        router.running().connections() == 3
    });
    let mut kept = router.connect();
    assert_eq!(
        kept.exchange(request("GET", "/health", &[], "")).status,
        200
    );
    router.running().drain();
    eventually("nobody listens", || {
        std::net::TcpStream::connect(router.addr()).is_err()
    });
    // What is sent over a kept connection meanwhile is answered.
    let last = kept.exchange(request("GET", "/health", &[], ""));
    assert_eq!(
        (last.status, last.field("connection")),
        (200, Some("close"))
    );
    assert_eq!(kept.rest(), b"");
    drop(kept);
    assert_eq!(idle.rest(), b"", "idle connections end soon");
    // One that has begun is answered, and told that it was the last.
    std::thread::sleep(std::time::Duration::from_millis(100));
    half.send("Host: a\r\n\r\n");
    let ready = half.reply();
    assert_eq!(
        (
            ready.status,
            ready.field("connection"),
            ready.field("retry-after")
        ),
        (503, Some("close"), Some("1"))
    );
    assert_eq!(ready.json()["error"], "Draining");
    let refused = std::net::TcpStream::connect(router.addr());
    assert!(refused.is_err(), "nobody listens any more");
    gate.open();
    streaming.finish(&mut head);
    assert_eq!((head.text(), head.complete), ("firstlast", true));
    router.stop();
}

#[test]
fn a_request_behind_an_answer_that_did_not_say_it_was_the_last_is_served() {
    for drains in [false, true] {
        let gate = Gate::default();
        let waits = gate.clone();
        let provider = Provider::start(move |request, wire| {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
            if request.fields.get("x-wait").is_some() {
                waits.pass();
            }
            wire.send("cd");
            Then::Keep
        });
        let router = Router::start(&provider);
        let mut caller = router.connect();
        caller.send(router.request(CHAT, &[("X-Wait", "1")], BODY));
        let mut first = caller.head().unwrap();
        assert_eq!(first.field("connection"), None);
        caller.send(router.request(CHAT, &[], BODY));
        if drains {
            router.running().drain();
            eventually("nobody listens", || {
                std::net::TcpStream::connect(router.addr()).is_err()
            });
        } else {
            let file = router.dir.path().join("memoryrouter.toml");
            let toml = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, toml + "limits.body_bytes = \"1KiB\"\n").unwrap();
            router.reload().unwrap();
            eventually("the new limit", || {
                router.post(CHAT, "x".repeat(2000)).status == 413
            });
        }
        gate.open();
        caller.finish(&mut first);
        assert_eq!((first.text(), first.complete), ("abcd", true));
        let second = caller.reply();
        assert_eq!(
            (second.text(), second.field("connection")),
            ("abcd", Some("close")),
            "drains: {drains}"
        );
        assert_eq!(caller.rest(), b"");
        drop(caller);
        router.stop();
    }
}

#[test]
fn what_does_not_finish_in_time_is_cut() {
    let provider = Provider::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        wire.closed_after();
        Then::Close
    });
    let router = Setup::all(&provider)
        .toml("timeouts.drain = \"300ms\"")
        .start();
    let mut caller = router.connect();
    caller.send(router.request(CHAT, &[], BODY));
    let mut head = caller.head().unwrap();
    router.stop();
    caller.finish(&mut head);
    assert_eq!((head.text(), head.complete), ("first", false));
}

#[test]
fn who_has_nothing_of_its_answer_when_the_drain_is_over_is_told_to_come_again() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |request, wire| {
        if request.fields.get("x-begin").is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        }
        waits.pass();
        Then::Close
    });
    let router = Setup::all(&provider)
        .toml("timeouts.drain = \"1s\"\nerrors.format = \"dialect\"")
        .start();
    let ask = |target: &str, fields: &[(&str, &str)], body: &str| {
        let mut caller = router.connect();
        caller.send(router.request(target, fields, body));
        caller
    };
    let mut begun = ask(CHAT, &[("X-Begin", "1")], BODY);
    let mut head = begun.head().unwrap();
    let messages = r#"{"model":"claude-x","max_tokens":9,"messages":[]}"#;
    let gemini = "/v1beta/models/gemini-x:streamGenerateContent";
    let mut waiting = [
        ask(CHAT, &[], BODY),
        ask("/v1/messages", &[], messages),
        ask(gemini, &[], r#"{"contents":[]}"#),
    ];
    provider.wait_for(4);
    // Half a request, and no request at all.
    let mut half = router.connect();
    let request = router.request(CHAT, &[], BODY);
    half.send(&request[..request.len() - 5]);
    let mut none = router.connect();
    eventually("all of them accepted", || {
        router.running().connections() == 6
    });
    router.running().drain();
    let envelopes = [
        r#"{"error": {"message": "Draining", "type": "server_error", "param": null, "code": null}}"#,
        r#"{"type": "error", "error": {"type": "overloaded_error", "message": "Draining"}}"#,
        r#"{"error": {"code": 503, "message": "Draining", "status": "UNAVAILABLE"}}"#,
    ];
    for (caller, envelope) in waiting.iter_mut().zip(envelopes) {
        let reply = caller.reply();
        let fields = ["retry-after", "connection"].map(|name| reply.field(name));
        assert_eq!(reply.status, 503);
        assert_eq!(fields, [Some("1"), Some("close")]);
        let expected: serde_json::Value = serde_json::from_str(envelope).unwrap();
        let mut got = reply.json();
        got.as_object_mut().unwrap().remove("hint");
        assert_eq!(got, expected);
        assert_eq!(caller.rest(), b"");
    }
    assert_eq!(half.reply().status, 503);
    // What has begun is visibly not whole.
    begun.finish(&mut head);
    assert_eq!((head.text(), head.complete), ("ab", false));
    assert_eq!(none.rest(), b"");
    // The provider is let go.
    (0..4).for_each(|_| gate.open());
    router.stop();
}
