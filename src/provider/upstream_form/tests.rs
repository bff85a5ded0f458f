use super::*;
use crate::route::{Endpoint, endpoint};

fn operation(path: &str) -> Operation<'_> {
    match endpoint("POST", path) {
        Ok(Endpoint::Proxy(operation)) => operation,
        other => panic!("{path}: {other:?}"),
    }
}

fn target(kind: Kind, base_path: &str, path: &str, query: Option<&str>) -> String {
    let choice = Choice {
        provider: 0,
        prefix: "",
        model_sent: "m",
    };
    Address {
        kind,
        base_path,
        azure: None,
    }
    .target(&operation(path), &choice, query)
    .to_string()
}

#[test]
fn every_kind_on_every_dialect() {
    let chat = "/v1/chat/completions";
    let messages = "/v1/messages/count_tokens";
    let generate = "/v1beta/models/m:generateContent";
    for (kind, base, path, expected) in [
        (Kind::OpenAi, "/v1", chat, "/v1/chat/completions"),
        (
            Kind::OpenAi,
            "/openai/v1/",
            chat,
            "/openai/v1/chat/completions",
        ),
        (
            Kind::OpenAi,
            "/api/v1",
            "/v1/v1/audio/speech/",
            "/api/v1/audio/speech",
        ),
        (Kind::OpenAi, "", chat, "/chat/completions"),
        (Kind::OpenAi, "/", chat, "/chat/completions"),
        (Kind::Anthropic, "", messages, "/v1/messages/count_tokens"),
        (
            Kind::Anthropic,
            "/v1",
            messages,
            "/v1/messages/count_tokens",
        ),
        (
            Kind::Anthropic,
            "/proxy/",
            chat,
            "/proxy/v1/chat/completions",
        ),
        (
            Kind::Google,
            "",
            generate,
            "/v1beta/models/m:generateContent",
        ),
        (
            Kind::Google,
            "/v1beta",
            generate,
            "/v1beta/models/m:generateContent",
        ),
        (
            Kind::Google,
            "",
            "/v1/models/m:countTokens",
            "/v1/models/m:countTokens",
        ),
        (
            Kind::Google,
            "",
            "/models/m:countTokens",
            "/v1beta/models/m:countTokens",
        ),
        (Kind::Google, "", chat, "/v1beta/openai/chat/completions"),
        (
            Kind::Google,
            "/v1beta",
            chat,
            "/v1beta/openai/chat/completions",
        ),
        (
            Kind::Google,
            "/v1beta/openai/",
            chat,
            "/v1beta/openai/chat/completions",
        ),
        (Kind::Keyless, "/v1", chat, "/v1/chat/completions"),
        (Kind::Keyless, "/v1", messages, "/v1/messages/count_tokens"),
        (Kind::Keyless, "", messages, "/v1/messages/count_tokens"),
        (
            Kind::Keyless,
            "/v1",
            generate,
            "/v1beta/models/m:generateContent",
        ),
        (
            Kind::Keyless,
            "/x/v1",
            "/v1/models/m:countTokens",
            "/x/v1/models/m:countTokens",
        ),
    ] {
        assert_eq!(
            target(kind, base, path, None),
            expected,
            "{kind:?} {base} {path}"
        );
        let queried = target(kind, base, path, Some("beta=true&x"));
        assert_eq!(queried, format!("{expected}?beta=true&x"));
        assert_eq!(target(kind, base, path, Some("")), expected);
    }
}

#[test]
fn a_gemini_prefix_leaves_the_path() {
    let choice = Choice {
        provider: 0,
        prefix: "demo/",
        model_sent: "echo",
    };
    let address = Address {
        kind: Kind::Google,
        base_path: "",
        azure: None,
    };
    for (path, expected) in [
        (
            "/v1beta/models/demo/echo:streamGenerateContent",
            "/v1beta/models/echo:streamGenerateContent?alt=sse",
        ),
        (
            "/v1/models/demo%2Fecho%3AcountTokens",
            "/v1/models/echo%3AcountTokens?alt=sse",
        ),
    ] {
        assert_eq!(
            address
                .target(&operation(path), &choice, Some("alt=sse"))
                .to_string(),
            expected
        );
    }
}

#[test]
fn azure_finds_the_deployment_and_owns_the_version() {
    let deployments = [("gpt-4o".to_owned(), "prod 4o/eu".to_owned())];
    let target = |model_sent, path, deployment, api_version, query| {
        let azure = Some(AzureForm {
            deployments: &deployments,
            deployment,
            api_version,
        });
        let choice = Choice {
            provider: 0,
            prefix: "azure/",
            model_sent,
        };
        Address {
            kind: Kind::Azure,
            base_path: "/",
            azure,
        }
        .target(&operation(path), &choice, query)
        .to_string()
    };
    let chat = "/v1/chat/completions";
    for (model, path, deployment, version, query, expected) in [
        (
            "gpt-4o",
            chat,
            None,
            "2024-10-21",
            None,
            "/openai/deployments/prod%204o%2Feu/chat/completions?api-version=2024-10-21",
        ),
        (
            "GPT-4o",
            chat,
            Some("one"),
            "v",
            None,
            "/openai/deployments/prod%204o%2Feu/chat/completions?api-version=v",
        ),
        (
            "gpt-5",
            chat,
            Some("one"),
            "v",
            None,
            "/openai/deployments/one/chat/completions?api-version=v",
        ),
        (
            "gpt-5",
            chat,
            None,
            "v",
            None,
            "/openai/deployments/gpt-5/chat/completions?api-version=v",
        ),
        (
            "../x?y#z",
            chat,
            None,
            "v",
            None,
            "/openai/deployments/..%2Fx%3Fy%23z/chat/completions?api-version=v",
        ),
        (
            "..",
            chat,
            None,
            "v",
            None,
            "/openai/deployments/%2E%2E/chat/completions?api-version=v",
        ),
        (
            "é",
            chat,
            None,
            "v",
            None,
            "/openai/deployments/%C3%A9/chat/completions?api-version=v",
        ),
        (
            "m",
            chat,
            None,
            "v",
            Some("x=1&api-version=old&y"),
            "/openai/deployments/m/chat/completions?api-version=v&x=1&y",
        ),
        (
            "m",
            chat,
            None,
            "",
            Some("api-version=own"),
            "/openai/deployments/m/chat/completions?api-version=own",
        ),
        (
            "m",
            "/v1/responses",
            None,
            "v",
            None,
            "/openai/responses?api-version=v",
        ),
    ] {
        assert_eq!(target(model, path, deployment, version, query), expected);
    }
}

#[test]
fn one_credential_in_the_providers_own_form() {
    let plain = Secret::new(*b"sk-ant-api03-x");
    let oauth = Secret::new(*b"sk-ant-oat01-x");
    for (kind, dialect, key, expected) in [
        (
            Kind::OpenAi,
            Dialect::OpenAi,
            &plain,
            CredentialForm::Bearer,
        ),
        (
            Kind::Anthropic,
            Dialect::Anthropic,
            &plain,
            CredentialForm::XApiKey,
        ),
        (
            Kind::Anthropic,
            Dialect::Anthropic,
            &oauth,
            CredentialForm::Bearer,
        ),
        (
            Kind::Anthropic,
            Dialect::OpenAi,
            &plain,
            CredentialForm::Bearer,
        ),
        (
            Kind::Google,
            Dialect::Gemini,
            &plain,
            CredentialForm::XGoogApiKey,
        ),
        (
            Kind::Google,
            Dialect::OpenAi,
            &plain,
            CredentialForm::Bearer,
        ),
        (Kind::Azure, Dialect::OpenAi, &plain, CredentialForm::ApiKey),
        (Kind::Keyless, Dialect::OpenAi, &plain, CredentialForm::None),
        (
            Kind::Keyless,
            Dialect::Anthropic,
            &oauth,
            CredentialForm::None,
        ),
        (Kind::Keyless, Dialect::Gemini, &plain, CredentialForm::None),
    ] {
        assert_eq!(
            credential_form(kind, dialect, Some(key)),
            expected,
            "{kind:?} {dialect:?}"
        );
    }
    assert_eq!(
        credential_form(Kind::Anthropic, Dialect::Anthropic, None),
        CredentialForm::XApiKey
    );
    assert!(!CredentialForm::None.needs_key() && CredentialForm::None.header().is_none());
    assert_eq!(
        CredentialForm::Bearer.header(),
        Some(("authorization", "Bearer "))
    );
    assert_eq!(CredentialForm::XApiKey.header(), Some(("x-api-key", "")));
    assert_eq!(
        CredentialForm::XGoogApiKey.header(),
        Some(("x-goog-api-key", ""))
    );
    assert_eq!(CredentialForm::ApiKey.header(), Some(("api-key", "")));
}
