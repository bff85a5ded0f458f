//! Every provider gets exactly one credential, in its own form, whatever carrier it came in.

use crate::support::{Provider, Router, Setup, request};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const GEMINI: &str = "/v1beta/models/MODEL:generateContent";

/// Credential fields of any provider.
const CREDENTIAL_FIELDS: [&str; 7] = [
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "x-memory-key",
    "x-provider-key",
    "proxy-authorization",
];

/// Model, path asked, path upstream, credential field and what stands before the key in it.
#[rustfmt::skip] // A table reads by rows.
const FORMS: &[(&str, &str, &str, &str, &str)] = &[
    ("openai/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("gpt-4o", "/v1/embeddings", "/v1/embeddings", "authorization", "Bearer "),
    ("xai/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("x-ai/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("deepseek/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("mistral/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("cerebras/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("groq/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("together/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("openrouter/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("custom/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("anthropic/m", MESSAGES, "/v1/messages", "x-api-key", ""),
    ("anthropic/m", CHAT, "/v1/chat/completions", "authorization", "Bearer "),
    ("google/m", GEMINI, "/v1beta/models/m:generateContent", "x-goog-api-key", ""),
    ("google/m", CHAT, "/v1beta/openai/chat/completions", "authorization", "Bearer "),
    ("azure/m", CHAT, "/openai/deployments/m/chat/completions?api-version=2024-10-21", "api-key", ""),
];

fn start(provider: &Provider) -> Router {
    let names = [
        "openai",
        "xai",
        "deepseek",
        "mistral",
        "cerebras",
        "groq",
        "together",
        "openrouter",
        "custom",
        "ollama",
    ];
    let mut setup = Setup::new().without_stored();
    for name in names {
        setup = setup
            .provider(name, &provider.url("/v1"))
            .stored(name, "stored-key");
    }
    for name in ["anthropic", "google", "azure"] {
        setup = setup
            .provider(name, &provider.url(""))
            .stored(name, "stored-key");
    }
    setup.start()
}

fn body(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[],"contents":[]}}"#)
}

fn credentials(provider: &Provider) -> Vec<(String, String)> {
    let fields = provider.last().fields.0.into_iter();
    let lower = fields.map(|(name, value)| (name.to_ascii_lowercase(), value));
    lower
        .filter(|(name, _)| CREDENTIAL_FIELDS.contains(&name.as_str()))
        .collect()
}

#[test]
fn provider_by_carrier() {
    let provider = Provider::plain();
    let router = start(&provider);
    let key = router.key.as_str();
    let bearer = router.bearer();
    let carriers: [(&str, &[(&str, &str)]); 6] = [
        ("stored-key", &[("Authorization", &bearer)]),
        (
            "pk-1",
            &[("Authorization", &bearer), ("X-Provider-Key", "pk-1")],
        ),
        (
            "pk-2",
            &[("X-Memory-Key", key), ("Authorization", "Bearer pk-2")],
        ),
        ("pk-3", &[("X-Memory-Key", key), ("x-api-key", "pk-3")]),
        ("pk-4", &[("X-Memory-Key", key), ("x-goog-api-key", "pk-4")]),
        (
            "pk-5",
            &[("x-api-key", key), ("Authorization", "Bearer pk-5")],
        ),
    ];
    for (model, asked, target, field, scheme) in FORMS {
        for (key, fields) in carriers {
            let asked = asked.replace("MODEL", model);
            let reply = router
                .connect()
                .exchange(request("POST", &asked, fields, body(model)));
            assert_eq!(
                reply.status, 200,
                "{model} on {asked} with {fields:?}: {reply:?}"
            );
            assert_eq!(provider.last().target, *target, "{model} on {asked}");
            let expected = vec![((*field).to_owned(), format!("{scheme}{key}"))];
            assert_eq!(
                credentials(&provider),
                expected,
                "{model} on {asked} with {fields:?}"
            );
        }
    }
    // Gemini's own carrier.
    for key in ["pk-6", "pk%2D6"] {
        let target = format!("/v1beta/models/gemini-x:countTokens?key={key}&alt=json");
        let fields = [("X-Memory-Key", router.key.as_str())];
        assert_eq!(
            router
                .connect()
                .exchange(request("POST", &target, &fields, "{}"))
                .status,
            200
        );
        assert_eq!(
            credentials(&provider),
            [("x-goog-api-key".to_owned(), "pk-6".to_owned())]
        );
        assert_eq!(
            provider.last().target,
            "/v1beta/models/gemini-x:countTokens?alt=json"
        );
    }
}

#[test]
fn a_keyless_provider_gets_no_credential_and_needs_none() {
    let provider = Provider::plain();
    let router = Setup::new()
        .without_stored()
        .provider("ollama", &provider.url("/v1"))
        .start();
    for extra in [&[][..], &[("X-Provider-Key", "pk")], &[("x-api-key", "pk")]] {
        let reply = router.post_with(CHAT, extra, body("ollama/llama3"));
        assert_eq!(reply.status, 200, "{extra:?}: {reply:?}");
        assert_eq!(credentials(&provider), []);
        assert_eq!(
            provider.last().text(),
            r#"{"model":"llama3","messages":[],"contents":[]}"#
        );
    }
}

#[test]
fn anthropic_tokens_of_a_login_go_as_bearer_and_versions_are_the_callers() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let own = [("X-Provider-Key", "sk-ant-oat01-abc")];
    assert_eq!(
        router.post_with(MESSAGES, &own, body("claude-x")).status,
        200
    );
    assert_eq!(
        credentials(&provider),
        [(
            "authorization".to_owned(),
            "Bearer sk-ant-oat01-abc".to_owned()
        )]
    );
    assert_eq!(
        provider.last().fields.get("anthropic-version"),
        Some("2023-06-01")
    );
    let fields = [
        ("anthropic-version", "2099-01-01"),
        ("anthropic-beta", "a-1,b-2"),
        ("anthropic-beta", "c-3"),
    ];
    assert_eq!(
        router
            .post_with("/v1/messages?beta=true", &fields, body("claude-x"))
            .status,
        200
    );
    let request = provider.last();
    assert_eq!(request.target, "/v1/messages?beta=true");
    assert_eq!(request.fields.get("anthropic-version"), Some("2099-01-01"));
    assert_eq!(request.fields.all("anthropic-beta"), ["a-1,b-2", "c-3"]);
    // The default is Anthropic's own: it does not go to the OpenAI-compatible endpoint.
    assert_eq!(router.post(CHAT, body("claude-x")).status, 200);
    assert_eq!(provider.last().fields.get("anthropic-version"), None);
}

#[test]
fn azure_deployments_and_version_come_from_the_configuration() {
    let provider = Provider::plain();
    let azure = r#"
        providers.azure.api_version = "2025-01-01"
        providers.azure.deployment = "main"
        providers.azure.deployments = { "gpt-4o" = "my-4o" }"#;
    let router = Setup::new()
        .provider("azure", &provider.url("/openai"))
        .toml(azure)
        .stored("azure", "az")
        .start();
    for (model, deployment) in [("azure/gpt-4o", "my-4o"), ("azure/other", "main")] {
        assert_eq!(
            router
                .post(&format!("{CHAT}?api-version=evil&x=1"), body(model))
                .status,
            200
        );
        let target =
            format!("/openai/deployments/{deployment}/chat/completions?api-version=2025-01-01&x=1");
        assert_eq!(provider.last().target, target);
    }
}

#[test]
fn a_pass_through_key_that_cannot_stand_in_a_field_is_refused() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    for key in ["pk%0d%0aX-Evil:%201", "pk%00", "p%20k", "p%C3%A4"] {
        let target = format!("/v1beta/models/gemini-x:countTokens?key={key}");
        let fields = [("X-Memory-Key", router.key.as_str())];
        let reply = router
            .connect()
            .exchange(request("POST", &target, &fields, "{}"));
        assert_eq!(reply.status, 400, "{key}: {reply:?}");
    }
    assert_eq!(provider.count(), 0);
}
