//! The router's own answers, byte for byte.

use memoryrouter::keys::NewKey;

use crate::support::{CHAT, Provider, Reply, Router, Setup, request};

const GEMINI: &str = "/v1beta/models/gemini-x:generateContent";

fn check(reply: &Reply, status: u16, body: &str) {
    assert_eq!((reply.status, reply.text()), (status, body));
    assert_eq!(reply.field("content-type"), Some("application/json"));
    assert_eq!(
        reply.field("content-length"),
        Some(body.len().to_string().as_str())
    );
    let id = reply.field("x-mr-request-id").unwrap();
    assert_eq!(id.len(), 24);
    let sdk_id = reply.field("x-request-id").or(reply.field("request-id"));
    assert_eq!(sdk_id, Some(id), "the id that the SDK reads");
}

#[test]
fn bodies_are_exact() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .without_stored()
        .stored("anthropic", "sk-ant")
        .start();
    let chat = |body: &str| router.post("/v1/chat/completions", body);
    check(
        &chat(CHAT),
        400,
        r#"{"error": "No API key configured for provider: openai", "hint": "Add your openai API key in settings, or pass X-Provider-Key header"}"#,
    );
    check(
        &chat(r#"{"model":"unknown-model","messages":[]}"#),
        400,
        r#"{"error": "No API key configured for provider: openrouter", "hint": "Add your openrouter API key in settings, or pass X-Provider-Key header"}"#,
    );
    for body in [
        "",
        "{",
        "[]",
        "null",
        "\"x\"",
        "{\"model\":\"gpt-4o\",}",
        "{\"model\":\"gpt-4o\"} x",
        "{\"model\" \"x\"}",
        "{'model':1}",
    ] {
        check(&chat(body), 400, r#"{"error": "Invalid JSON body"}"#);
    }
    for body in [
        "{}",
        r#"{"messages":[]}"#,
        r#"{"nested":{"model":"gpt-4o"},"messages":[]}"#,
    ] {
        check(
            &chat(body),
            400,
            r#"{"error": "Missing required field: model"}"#,
        );
    }
    for body in [
        r#"{"model":"gpt-4o"}"#,
        r#"{"model":"gpt-4o","x":{"messages":[]}}"#,
    ] {
        check(
            &chat(body),
            400,
            r#"{"error": "Missing required field: messages"}"#,
        );
    }
    assert_eq!(provider.count(), 0);
    // An empty list is the provider's to judge; a Responses-shaped body has `input` in place of messages.
    let claude = |body: &str| router.post("/v1/chat/completions", body).status;
    assert_eq!(claude(r#"{"model":"claude-x","messages":[]}"#), 200);
    assert_eq!(claude(r#"{"model":"claude-x","input":"hi"}"#), 200);
}

#[test]
fn a_model_that_the_key_does_not_allow() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let models = vec!["openai/gpt-4*".to_owned(), "claude*".to_owned()];
    let key = router.mint(NewKey {
        models,
        ..NewKey::default()
    });
    let ask = |path: &str, body: &str| {
        router
            .connect()
            .exchange(request("POST", path, &[("x-api-key", &key)], body))
    };
    check(
        &ask(
            "/v1/chat/completions",
            r#"{"model":"openai/o3","messages":[]}"#,
        ),
        403,
        r#"{"error": "Model not allowed for this memory key: openai/o3", "hint": "Allowed: openai/gpt-4*, claude*"}"#,
    );
    assert_eq!(ask(GEMINI, "{}").status, 403);
    // Whichever of two a provider reads, the key has to allow it.
    assert_eq!(
        ask(
            "/v1/chat/completions",
            r#"{"model":"gpt-4o","model":"o3","messages":[]}"#
        )
        .status,
        403
    );
    assert_eq!(
        ask(
            "/v1/chat/completions",
            r#"{"model":"o3","model":"gpt-4o","messages":[]}"#
        )
        .status,
        403
    );
    // So has it where another name, or the body beside a path, states one.
    let path = "/v1/chat/completions";
    for (path, body) in [
        (path, r#"{"model":"gpt-4o","Model":"o3","messages":[]}"#),
        (
            path,
            r#"{"model":"gpt-4o","models":["gpt-4o", 7, "o3"],"messages":[]}"#,
        ),
        (path, r#"{"models":["o3"],"model":"gpt-4o","messages":[]}"#),
        (
            "/v1beta/models/claude-x:embedContent",
            r#"{"model":"models/gemini-ultra","content":{}}"#,
        ),
        (
            "/v1beta/models/claude-x:countTokens",
            r#"{"generate_content_request":{"model":"models/gemini-ultra"}}"#,
        ),
    ] {
        assert_eq!(ask(path, body).status, 403, "{body}");
    }
    assert_eq!(provider.count(), 0);
    for body in [
        r#"{"model":"gpt-4o","Model":"gpt-4","models":["gpt-4o", ["o3"]],"messages":[]}"#,
        r#"{"model":"gpt-4o","models":[],"MODEL":null,"messages":[]}"#,
        r#"{"model":"gpt-4o","models":"o3","messages":[]}"#,
    ] {
        assert_eq!(ask(path, body).status, 200, "{body}");
        assert_eq!(provider.last().text(), body, "it goes on as it came");
    }
    for model in ["gpt-4o", "openai/gpt-4o", "claude-x", "anthropic/claude-x"] {
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        assert_eq!(ask("/v1/chat/completions", &body).status, 200, "{model}");
    }
}

#[test]
fn paths_and_methods_that_are_not_there() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let bearer = router.bearer();
    let auth = [("Authorization", bearer.as_str())];
    let reply = router.ask("GET", "/v1/chat/completion", &auth);
    assert_eq!(reply.status, 404);
    assert_eq!(reply.json()["error"], "Not Found");
    assert_eq!(reply.json()["path"], "/v1/chat/completion");
    assert!(
        reply.json()["hint"]
            .as_str()
            .unwrap()
            .contains("/v1/chat/completions")
    );
    assert_eq!(
        router.ask("GET", "/v1/chat/completion", &[]).status,
        401,
        "authentication comes first"
    );
    assert_eq!(router.ask("GET", "/v1", &[]).status, 401);
    let unknown = router.ask("GET", "/nowhere", &[]);
    assert_eq!(
        (unknown.status, &unknown.json()["path"]),
        (404, &"/nowhere".into())
    );
    let method = router.ask("GET", "/v1/chat/completions", &auth);
    assert_eq!((method.status, method.field("allow")), (405, Some("POST")));
    assert_eq!(method.json()["error"], "Method Not Allowed");
    assert_eq!(router.ask("GET", "/v1/chat/completions", &[]).status, 401);
    let health = router
        .connect()
        .exchange(request("POST", "/health", &[], ""));
    assert_eq!(
        (health.status, health.field("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[test]
fn providers_that_cannot_be_reached() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let router = Setup::new()
        .provider("openai", &format!("http://{closed}/v1"))
        .start();
    let reply = router.post("/v1/chat/completions", CHAT);
    check(
        &reply,
        502,
        r#"{"error": "Failed to reach provider: openai"}"#,
    );
    let router = Setup::new()
        .provider("openai", "http://name.invalid/v1")
        .start();
    check(
        &router.post("/v1/chat/completions", CHAT),
        502,
        r#"{"error": "Failed to reach provider: openai"}"#,
    );
    // Azure has no address until it is configured.
    let reply = Setup::new().stored("azure", "k").start().post(
        "/v1/chat/completions",
        r#"{"model":"azure/m","messages":[]}"#,
    );
    check(
        &reply,
        400,
        r#"{"error": "Provider is not configured: azure", "hint": "Set base_url under [providers.azure]"}"#,
    );
}

#[test]
fn limits_name_the_key_that_sets_them() {
    let provider = Provider::plain();
    let limits = "limits.head_bytes = \"2KiB\"\nlimits.headers = 20\nlimits.target_bytes = \"512B\"\nlimits.body_bytes = \"4KiB\"";
    let router = Setup::all(&provider).toml(limits).start();
    let long = "x".repeat(3000);
    let many: Vec<(String, String)> = (0..30).map(|i| (format!("X-{i}"), "1".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let cases = [
        (
            request("GET", "/", &[("X-Long", &long)], ""),
            431,
            "limits.head_bytes",
        ),
        (request("GET", "/", &many, ""), 431, "limits.headers"),
        (
            request("GET", &format!("/{}", "a".repeat(600)), &[], ""),
            414,
            "limits.target_bytes",
        ),
        (
            router.request(
                "/v1/chat/completions",
                &[],
                format!("{CHAT}{}", " ".repeat(4096)),
            ),
            413,
            "limits.body_bytes",
        ),
    ];
    for (bytes, status, setting) in cases {
        let mut caller = router.connect();
        let reply = caller.exchange(bytes);
        assert_eq!(reply.status, status, "{setting}");
        assert!(
            reply.json()["hint"].as_str().unwrap().contains(setting),
            "{reply:?}"
        );
        assert_eq!(reply.field("connection"), Some("close"));
        assert_eq!(caller.rest(), b"");
    }
    let reply = router.post_with(
        "/v1/chat/completions",
        &[("Content-Encoding", "lzma")],
        CHAT,
    );
    assert_eq!(reply.status, 415);
    assert_eq!(
        reply.json()["hint"],
        "Use gzip, zstd, br or no content encoding"
    );
    assert_eq!(provider.count(), 0);
}

#[test]
fn in_the_dialects_own_envelope() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .toml("errors.format = \"dialect\"")
        .start();
    let ask = |path: &str| router.connect().exchange(request("POST", path, &[], "{}"));
    let openai = ask("/v1/chat/completions");
    assert_eq!(
        openai.json(),
        serde_json::json!({
            "error": {"message": "Missing or invalid authentication", "type": "authentication_error", "param": null, "code": "invalid_api_key"},
            "hint": "Use: Authorization: Bearer mk_xxx"
        })
    );
    assert_eq!(
        openai.field("x-request-id"),
        openai.field("x-mr-request-id")
    );
    let anthropic = ask("/v1/messages");
    assert_eq!(
        anthropic.json(),
        serde_json::json!({
            "type": "error",
            "error": {"type": "authentication_error", "message": "Missing or invalid authentication"},
            "hint": "Use: Authorization: Bearer mk_xxx"
        })
    );
    assert_eq!(
        anthropic.field("request-id"),
        anthropic.field("x-mr-request-id")
    );
    assert_eq!(
        ask(GEMINI).json(),
        serde_json::json!({
            "error": {"code": 401, "message": "Missing or invalid authentication", "status": "UNAUTHENTICATED"},
            "hint": "Use: Authorization: Bearer mk_xxx"
        })
    );
    // A path that is not there, in whichever version's name.
    for path in [
        "/v1beta/models/g:nope",
        "/v1/models/g:nope",
        "/models/g:nope",
    ] {
        let body = router.post(path, "{}").json();
        assert_eq!(body["error"]["status"], "NOT_FOUND", "{path}");
        assert_eq!(body["path"], path);
    }
    for path in ["/chat/completions", "/v1/models/ft:gpt-4o:us::1"] {
        let bearer = router.bearer();
        let reply = router.ask("GET", path, &[("Authorization", &bearer)]);
        let kind = &reply.json()["error"]["type"];
        assert_eq!(*kind, "invalid_request_error", "{path}");
    }
    let missing = router.post("/v1/chat/completions", "{}").json();
    assert_eq!(missing["error"]["param"], "model");
    // Where no dialect is known, the plain form.
    assert_eq!(
        router.ask("GET", "/nowhere", &[]).json()["error"],
        "Not Found"
    );
}
