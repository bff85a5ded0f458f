//! Who can be routed to, and which model goes where.

use super::{dir, parse};
use crate::config::{BaseUrl, Config, DEMO, FILE_NAME, Location, ProviderId, StreamUsage};
use crate::provider::{Dialect, Kind};

#[test]
fn built_in_providers() {
    let config = Config::defaults(&dir());
    #[rustfmt::skip] // A table reads by rows.
    let expected = [
        ("openai", Kind::OpenAi, "https://api.openai.com/v1"),
        ("anthropic", Kind::Anthropic, "https://api.anthropic.com"),
        ("google", Kind::Google, "https://generativelanguage.googleapis.com"),
        ("xai", Kind::OpenAi, "https://api.x.ai/v1"),
        ("deepseek", Kind::OpenAi, "https://api.deepseek.com/v1"),
        ("mistral", Kind::OpenAi, "https://api.mistral.ai/v1"),
        ("cerebras", Kind::OpenAi, "https://api.cerebras.ai/v1"),
        ("groq", Kind::OpenAi, "https://api.groq.com/openai/v1"),
        ("together", Kind::OpenAi, "https://api.together.xyz/v1"),
        ("openrouter", Kind::OpenAi, "https://openrouter.ai/api/v1"),
        ("azure", Kind::Azure, ""),
        ("ollama", Kind::Keyless, "http://127.0.0.1:11434/v1"),
    ];
    assert_eq!(config.providers.len(), expected.len());
    for ((id, provider), (name, kind, url)) in config.providers.iter().zip(expected) {
        assert_eq!(provider.name, name);
        assert_eq!(provider.kind, kind, "{name}");
        let urls: Vec<_> = provider.base_urls.iter().map(BaseUrl::to_string).collect();
        assert_eq!(urls.join(" "), url, "{name}");
        assert_eq!(config.providers.find(name), Some(id));
        assert_eq!(provider.azure.is_some(), kind == Kind::Azure);
    }
    assert_eq!(config.providers.find("x-ai"), config.providers.find("xai"));
    assert_eq!(config.providers.find("demo"), None);
}

#[test]
fn who_is_asked_for_counts_of_a_stream() {
    use StreamUsage::{Estimate, Exact};
    for (table, expected) in [
        ("a = { base_url = \"https://a\" }", Estimate),
        ("a = { base_url = \"https://a\", usage = \"exact\" }", Exact),
        ("a = { base_url = \"https://a\", kind = \"azure\" }", Exact),
        ("openai = { base_url = \"https://a\" }", Exact),
        ("azure = { api_version = \"2024-06-01\" }", Estimate),
        ("azure = { api_version = \"2024-08-01-preview\" }", Estimate),
        ("azure = { api_version = \"2024-09-01-preview\" }", Exact),
        ("azure = { api_version = \"preview\" }", Exact),
        (
            "azure = { api_version = \"2024-06-01\", usage = \"exact\" }",
            Exact,
        ),
        ("azure = { usage = \"estimate\" }", Estimate),
    ] {
        let config = parse(&format!("[providers]\n{table}"));
        let name = table.split_once(' ').unwrap().0;
        let provider = config.providers.find(name).unwrap();
        assert_eq!(config.providers.get(provider).usage, expected, "{table}");
    }
}

#[test]
fn dialects_by_kind_and_by_hand() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    let config = parse(
        r#"
        [providers]
        a = { base_url = "https://a" }
        b = { base_url = "https://b", kind = "anthropic" }
        c = { base_url = "https://c", kind = "google" }
        d = { base_url = "https://d", kind = "azure" }
        e = { base_url = "https://e", kind = "keyless" }
        f = { base_url = "https://f", kind = "keyless", dialects = ["openai", "anthropic"] }
        "#,
    );
    let cases = [
        ("a", vec![OpenAi]),
        ("b", vec![Anthropic, OpenAi]),
        ("c", vec![Gemini, OpenAi]),
        ("d", vec![OpenAi]),
        ("e", vec![OpenAi]),
        ("f", vec![OpenAi, Anthropic]),
    ];
    for (name, dialects) in cases {
        let provider = config.providers.get(config.providers.find(name).unwrap());
        assert_eq!(provider.dialects, dialects, "{name}");
    }
}

#[test]
fn version_segments_that_a_dialect_brings_are_taken_off() {
    let config = parse(
        r#"
        [providers]
        anthropic = { base_url = "https://a.example/proxy/v1/" }
        google = { base_url = ["https://g.example/v1beta", "https://h.example/v1", "https://i.example/x"] }
        openai = { base_url = "https://o.example/v1" }
        azure = { base_url = "https://z.example/openai/" }
        "#,
    );
    let paths = |name| {
        let provider = config.providers.get(config.providers.find(name).unwrap());
        let paths = provider.base_urls.iter().map(|url| url.path.as_str());
        paths.collect::<Vec<_>>()
    };
    assert_eq!(paths("anthropic"), ["/proxy"]);
    assert_eq!(paths("google"), ["", "", "/x"]);
    assert_eq!(paths("openai"), ["/v1"]);
    assert_eq!(paths("azure"), [""]);
}

#[test]
fn the_demo_provider_is_there_only_if_enabled() {
    let mut config = parse("[demo]\nenabled = true\n[routing]\ndefault_provider = \"demo\"\n");
    let id = config.providers.find(DEMO).unwrap();
    assert_eq!(config.routing.default_provider, id);
    assert!(config.providers.get(id).base_urls.is_empty());
    config
        .providers
        .set_demo_address("127.0.0.1:4242".parse().unwrap());
    let demo = config.providers.get(id);
    assert_eq!(demo.base_urls[0].to_string(), "http://127.0.0.1:4242/v1");
    assert_eq!(demo.kind, Kind::Keyless);
    assert!(demo.speaks(Dialect::Gemini) && demo.speaks(Dialect::Anthropic));
}

#[test]
fn models_are_listed_under_this_configurations_routing() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        FILE_NAME,
        "[routing]\ndefault_provider = \"groq\"\npatterns = { \"gpt-4o\" = \"azure\" }\n\
         [providers.azure]\ndeployments = { \"gpt-4o\" = \"d\", \"own\" = \"e\" }\n",
    );
    write("models.toml", "[groq]\nmodels = [{ id = \"llama\" }]\n");
    let location = Location::resolve(Some(dir.path().to_owned()), None, |_| None);
    let config = Config::load(&location).unwrap();
    let list = config.catalogue.list(
        &["groq", "azure", "openai"],
        |_, model| !model.contains('5'),
        |_| false,
    );
    for id in ["llama", "gpt-4o", "azure/own", "openai/gpt-4o", "gpt-4.1"] {
        assert!(list.contains(&format!("\"id\":\"{id}\"")), "{id}: {list}");
    }
    assert!(!list.contains("gpt-oss"), "{list}");

    write("models.toml", "[groq]\nmodels = [\n{ name = \"llama\" }]\n");
    let error = Config::load(&location).unwrap_err().to_string();
    assert!(
        error.contains("models.toml: ") && error.contains("line 3"),
        "{error}"
    );
}

#[test]
fn own_patterns_come_before_those_built_in() {
    let config = parse("[routing.patterns]\n\"zz*\" = \"groq\"\n\"gpt-*\" = \"azure\"\n");
    let patterns = config.routing.patterns.iter();
    let named =
        |(text, id): &(String, ProviderId)| (text.clone(), config.providers.get(*id).name.clone());
    let first: Vec<_> = patterns.clone().take(4).map(named).collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        first,
        [
            pair("zz*", "groq"),
            pair("gpt-*", "azure"),
            pair("*/*", "openrouter"),
            pair("gpt-*", "openai")
        ]
    );
    let built_in = Config::defaults(&dir()).routing.patterns.len();
    assert_eq!(patterns.len(), built_in + 2);
}
