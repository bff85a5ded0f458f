//! Which provider a model means, and which spellings of a path are the same endpoint.

use memoryrouter::keys::NewKey;

use crate::support::{Provider, Router, Setup, contains, request};

const CHAT: &str = "/v1/chat/completions";

/// One provider for all names; the base path tells which of them was meant.
fn start(provider: &Provider, toml: &str) -> Router {
    let mut setup = Setup::new().without_stored();
    for name in [
        "openai",
        "xai",
        "deepseek",
        "mistral",
        "cerebras",
        "groq",
        "together",
        "openrouter",
        "ollama",
        "own.ai",
    ] {
        let quoted = format!("\"{name}\"");
        setup = setup
            .provider(&quoted, &provider.url(&format!("/{name}")))
            .stored(name, "k");
    }
    for name in ["anthropic", "google"] {
        setup = setup
            .provider(name, &provider.url(&format!("/{name}")))
            .stored(name, "k");
    }
    setup.toml(toml).start()
}

#[test]
fn models_find_their_provider() {
    let provider = Provider::plain();
    let router = start(&provider, "");
    #[rustfmt::skip] // A table reads by rows.
    let rows = [
        ("gpt-4o", "openai", "gpt-4o"),
        ("chatgpt-4o-latest", "openai", "chatgpt-4o-latest"),
        ("o1", "openai", "o1"),
        ("o3-mini", "openai", "o3-mini"),
        ("text-embedding-3-small", "openai", "text-embedding-3-small"),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "openai", "ft:gpt-4o-mini-2024-07-18:org::id"),
        ("codex-mini-latest", "openai", "codex-mini-latest"),
        ("computer-use-preview", "openai", "computer-use-preview"),
        ("davinci-002", "openai", "davinci-002"),
        ("whisper-1", "openai", "whisper-1"),
        ("tts-1-hd", "openai", "tts-1-hd"),
        ("dall-e-3", "openai", "dall-e-3"),
        ("omni-moderation-latest", "openai", "omni-moderation-latest"),
        ("claude-sonnet-4", "anthropic", "claude-sonnet-4"),
        ("gemini-2.0-flash", "google", "gemini-2.0-flash"),
        ("grok-4", "xai", "grok-4"),
        ("deepseek-chat", "deepseek", "deepseek-chat"),
        ("mistral-large", "mistral", "mistral-large"),
        ("mixtral-8x7b", "mistral", "mixtral-8x7b"),
        ("codestral-latest", "mistral", "codestral-latest"),
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("openai/claude-x", "openai", "claude-x"),
        ("x-ai/grok-4", "xai", "grok-4"),
        ("groq/meta-llama/llama-4", "groq", "meta-llama/llama-4"),
        ("openrouter/anthropic/claude-x", "openrouter", "anthropic/claude-x"),
        ("own.ai/thing", "own.ai", "thing"),
        ("ollama/llama3:8b", "ollama", "llama3:8b"),
        ("together/Qwen/Qwen3", "together", "Qwen/Qwen3"),
        // Anything else, vendor prefix kept.
        ("meta-llama/llama-4", "openrouter", "meta-llama/llama-4"),
        ("mistralai/mistral-small", "openrouter", "mistralai/mistral-small"),
        ("deepseek-ai/DeepSeek-R1", "openrouter", "deepseek-ai/DeepSeek-R1"),
        ("qwen-max", "openrouter", "qwen-max"),
        ("my-gpt-4o", "openrouter", "my-gpt-4o"),
        ("oo1", "openrouter", "oo1"),
        ("opus", "openrouter", "opus"),
    ];
    for (model, name, sent) in rows {
        let body = format!(r#"{{"messages":[], "model" : "{model}" }}"#);
        let reply = router.post(CHAT, body);
        assert_eq!(reply.status, 200, "{model}: {reply:?}");
        let request = provider.last();
        assert!(
            request.target.starts_with(&format!("/{name}/")),
            "{model} went to {}",
            request.target
        );
        assert_eq!(
            request.text(),
            format!(r#"{{"messages":[], "model" : "{sent}" }}"#)
        );
    }
}

#[test]
fn dialects_have_their_own_default_and_prefixes_name_others_that_speak_them() {
    let provider = Provider::plain();
    let router = start(
        &provider,
        "providers.\"own.ai\".dialects = [\"openai\", \"anthropic\", \"gemini\"]",
    );
    let sent = |path: &str, body: &str| {
        let reply = router.post(path, body);
        (
            reply.status,
            provider.received().pop().map(|request| request.target),
        )
    };
    let to = |target: &str| (200, Some(target.to_owned()));
    assert_eq!(
        sent(
            "/v1/messages",
            r#"{"model":"some-new-model","messages":[]}"#
        ),
        to("/anthropic/v1/messages")
    );
    assert_eq!(
        sent("/v1/messages", r#"{"model":"own.ai/x","messages":[]}"#),
        to("/own.ai/v1/messages")
    );
    assert_eq!(
        sent("/v1beta/models/brand-new:generateContent", "{}"),
        to("/google/v1beta/models/brand-new:generateContent")
    );
    assert_eq!(
        sent(
            "/v1beta/models/own.ai/x:streamGenerateContent?alt=sse",
            "{}"
        ),
        to("/own.ai/v1beta/models/x:streamGenerateContent?alt=sse")
    );
    // A model of no name is a name that nobody knows, not a form without one.
    for (path, target) in [
        ("/v1/messages", "/anthropic/v1/messages"),
        (
            "/v1/messages/count_tokens",
            "/anthropic/v1/messages/count_tokens",
        ),
        (CHAT, "/openrouter/chat/completions"),
    ] {
        assert_eq!(sent(path, r#"{"model":"","messages":[]}"#), to(target));
    }
    let before = provider.count();
    let (status, _) = sent("/v1/messages", r#"{"model":"openai/gpt-4o","messages":[]}"#);
    assert_eq!(
        (status, provider.count()),
        (400, before),
        "OpenAI does not speak Anthropic's dialect"
    );
}

#[test]
fn what_openai_takes_without_a_model_goes_to_openai() {
    let provider = Provider::plain();
    let router = start(&provider, "");
    for (path, body) in [
        ("/v1/moderations", r#"{"input":"x"}"#),
        ("/v1/images/generations", r#"{"prompt":"x"}"#),
        ("/v1/responses", r#"{"prompt":{"id":"pmpt_1"}}"#),
    ] {
        assert_eq!(router.post(path, body).status, 200, "{path}");
        let sent = provider.last();
        assert_eq!(sent.target, path.replace("/v1", "/openai"));
        assert_eq!(sent.text(), body);
    }
    for (path, body) in [
        ("/v1/responses", r#"{"input":"x"}"#),
        ("/v1/embeddings", r#"{"input":"x"}"#),
        ("/v1/completions", r#"{"prompt":"x"}"#),
        ("/v1/audio/speech", r#"{"input":"x"}"#),
    ] {
        let reply = router.post(path, body);
        let error = "Missing required field: model";
        assert_eq!(
            (reply.status, &reply.json()["error"]),
            (400, &error.into()),
            "{path}"
        );
    }
    let limited = router.mint(NewKey {
        models: vec!["gpt-4o".into()],
        ..NewKey::default()
    });
    let bytes = request("POST", "/v1/moderations", &[("x-api-key", &limited)], "{}");
    assert_eq!(router.connect().exchange(bytes).status, 403);
}

#[test]
fn the_operators_patterns_and_default_come_first() {
    let provider = Provider::plain();
    let toml =
        "routing.default_provider = \"groq\"\nrouting.patterns = { \"gpt-oss*\" = \"cerebras\" }";
    let router = start(&provider, toml);
    for (model, name) in [
        ("gpt-oss-120b", "cerebras"),
        ("gpt-4o", "openai"),
        ("whatever", "groq"),
    ] {
        router.post(CHAT, format!(r#"{{"model":"{model}","messages":[]}}"#));
        assert!(
            provider.last().target.starts_with(&format!("/{name}/")),
            "{model}"
        );
    }
}

#[test]
fn every_spelling_of_a_path_is_the_same_endpoint() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let chat = r#"{"model":"gpt-4o","messages":[]}"#;
    let spellings = |rest: &str| {
        ["", "/v1", "/v1/v1"]
            .map(|version| [format!("{version}{rest}"), format!("{version}{rest}/")])
            .concat()
    };
    for (rest, upstream) in [
        ("/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/embeddings", "/v1/embeddings"),
        ("/responses", "/v1/responses"),
        ("/moderations", "/v1/moderations"),
        ("/audio/speech", "/v1/audio/speech"),
        ("/images/generations", "/v1/images/generations"),
        ("/messages", "/v1/messages"),
        ("/messages/count_tokens", "/v1/messages/count_tokens"),
    ] {
        for path in spellings(rest) {
            for (query, kept) in [
                ("", ""),
                ("?beta=true&x=%20y", "?beta=true&x=%20y"),
                ("?", ""),
            ] {
                let reply = router.post(&format!("{path}{query}"), chat);
                assert_eq!(reply.status, 200, "{path}{query}: {reply:?}");
                // The dialect decides about the prefix, the model about the provider: both are one provider here.
                assert_eq!(
                    provider.last().target,
                    format!("{upstream}{kept}"),
                    "{path}{query}"
                );
            }
        }
    }
    for action in [
        "generateContent",
        "streamGenerateContent",
        "countTokens",
        "embedContent",
        "batchEmbedContents",
    ] {
        for version in ["/v1beta", "/v1beta/v1beta", "/v1/v1beta"] {
            let path = format!("{version}/models/gemini-x:{action}");
            assert_eq!(router.post(&path, "{}").status, 200, "{path}");
            assert_eq!(
                provider.last().target,
                format!("/v1beta/models/gemini-x:{action}")
            );
        }
        assert_eq!(
            router
                .post(&format!("/v1/models/gemini-x:{action}"), "{}")
                .status,
            200
        );
        assert_eq!(
            provider.last().target,
            format!("/v1/models/gemini-x:{action}")
        );
    }
    // Gemini's `alt` stays as it was given, or not given.
    for query in ["", "?alt=sse", "?alt=json&prettyPrint=false"] {
        router.post(
            &format!("/v1beta/models/gemini-x:streamGenerateContent{query}"),
            "{}",
        );
        assert_eq!(
            provider.last().target,
            format!("/v1beta/models/gemini-x:streamGenerateContent{query}")
        );
    }
}

#[test]
fn router_parameters_do_not_go_upstream() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let query =
        "?a=1&mode=off&memory=read&store=false&store_response=false&limit=5&debug=true&key=x&b=%2F";
    assert_eq!(
        router
            .post(
                &format!("{CHAT}{query}"),
                r#"{"model":"gpt-4o","messages":[]}"#
            )
            .status,
        200
    );
    assert_eq!(provider.last().target, "/v1/chat/completions?a=1&b=%2F");
}

#[test]
fn nothing_in_a_request_chooses_the_host() {
    let trap = Provider::plain();
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let evil = trap.url("/v1");
    let host = format!("localhost:{}", trap.addr.port());
    let fields = [
        ("X-Base-Url", evil.as_str()),
        ("X-Portkey-Custom-Host", &evil),
        ("X-Forwarded-Host", &host),
        ("X-Forwarded-For", "1.2.3.4"),
        ("Forwarded", "host=evil"),
        ("Via", "1.1 evil"),
        ("X-Original-Url", &evil),
        ("X-Rewrite-Url", "/evil"),
        ("Upgrade", "h2c"),
        ("OpenAI-Base-Url", &evil),
    ];
    let bodies = [
        format!(
            r#"{{"model":"gpt-4o","messages":[],"api_base":"{evil}","base_url":"{evil}","endpoint":"{evil}"}}"#
        ),
        format!(r#"{{"model":"{evil}/gpt-4o","messages":[]}}"#),
        r#"{"model":"openai/../../evil","messages":[]}"#.to_owned(),
        r#"{"model":"openai/@evil.test/x","messages":[]}"#.to_owned(),
    ];
    for body in &bodies {
        let reply = router.post_with(
            &format!("{CHAT}?base_url={evil}&api_base={evil}"),
            &fields,
            body,
        );
        assert_eq!(reply.status, 200, "{body}: {reply:?}");
    }
    for model in ["../../evil", "..%2f..%2fevil", "x/../../../y", "a%3Fb%23c"] {
        // Refused or kept inside one segment; never another path.
        router.post(&format!("/v1beta/models/{model}:generateContent"), "{}");
    }
    for request in provider.received() {
        let path = request.target.split('?').next().unwrap();
        assert!(!path.contains("/../") && !path.contains("//"), "{path}");
        let expected = format!("localhost:{}", provider.addr.port());
        assert_eq!(request.fields.get("host"), Some(expected.as_str()));
        for name in [
            "x-forwarded-for",
            "x-forwarded-host",
            "forwarded",
            "via",
            "upgrade",
        ] {
            assert_eq!(request.fields.get(name), None, "{name}");
        }
    }
    assert_eq!(trap.accepted(), 0);
    // Redirects are relayed, and nobody goes there.
    let redirect =
        format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {evil}\r\nContent-Length: 0\r\n\r\n");
    let redirecting = Provider::answering(redirect);
    let reply = Router::start(&redirecting).post(CHAT, &bodies[0]);
    assert_eq!(
        (reply.status, reply.field("location")),
        (307, Some(evil.as_str()))
    );
    assert_eq!((trap.accepted(), redirecting.count()), (0, 1));
    assert!(!contains(&provider.all_bytes(), b"mk_"));
}

#[test]
fn a_key_may_use_the_names_that_its_patterns_state() {
    let provider = Provider::plain();
    let toml = "providers.\"own.ai\".aliases = [\"me\"]\n\
                routing.patterns = { \"llamas/*\" = \"groq\" }";
    let router = start(&provider, toml);
    for (pattern, model, status) in [
        ("x-ai/*", "x-ai/grok-4", 200),
        ("x-ai/*", "xai/grok-4", 200),
        ("x-ai/*", "grok-4", 200),
        ("x-ai/*", "gpt-4o", 403),
        ("xai/*", "x-ai/grok-4", 200),
        ("me/*", "me/foo", 200),
        ("me/*", "own.ai/foo", 200),
        ("me/*", "openrouter/me/foo", 403),
        ("meta-llama/*", "meta-llama/llama-3", 200),
        ("meta-llama/llama-3", "meta-llama/llama-3", 200),
        ("meta-llama/llama-3", "openrouter/meta-llama/llama-3", 200),
        ("meta-llama/llama-3", "meta-llama/llama-4", 403),
        ("llamas/*", "llamas/small", 200),
        ("openai/*", "openrouter/openai/gpt-4o", 403),
    ] {
        let key = router.mint(NewKey {
            models: vec![pattern.into()],
            ..NewKey::default()
        });
        let body = format!(r#"{{"model":"{model}","messages":[]}}"#);
        let bytes = request("POST", CHAT, &[("x-api-key", &key)], body);
        let reply = router.connect().exchange(bytes);
        assert_eq!(reply.status, status, "{pattern} {model}");
    }
    let key = router.mint(NewKey {
        models: vec!["x-ai/*".into()],
        ..NewKey::default()
    });
    let listed = router.ask("GET", "/v1/models", &[("x-api-key", &key)]);
    let listed = listed.json()["data"].as_array().unwrap().len();
    assert!(listed > 0, "its models are listed");
}
