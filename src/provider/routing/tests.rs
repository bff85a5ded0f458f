use super::*;

const OPENAI: &[Dialect] = &[Dialect::OpenAi];
const ANTHROPIC: &[Dialect] = &[Dialect::Anthropic, Dialect::OpenAi];
const GOOGLE: &[Dialect] = &[Dialect::Gemini, Dialect::OpenAi];
const ALL: &[Dialect] = &[Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];

const PROVIDERS: [(&str, &[Dialect]); 10] = [
    ("openai", OPENAI),
    ("anthropic", ANTHROPIC),
    ("google", GOOGLE),
    ("xai", OPENAI),
    ("deepseek", OPENAI),
    ("mistral", OPENAI),
    ("openrouter", OPENAI),
    ("azure", OPENAI),
    ("ollama", ALL),
    ("My-Claude", ANTHROPIC),
];

const PATTERNS: [(&str, &str); 11] = [
    ("gpt-*", "openai"),
    ("chatgpt-*", "openai"),
    ("o[0-9]*", "openai"),
    ("text-embedding-*", "openai"),
    ("claude*", "anthropic"),
    ("gemini*", "google"),
    ("grok*", "xai"),
    ("deepseek*", "deepseek"),
    ("mistral*", "mistral"),
    ("mixtral*", "mistral"),
    ("codestral*", "mistral"),
];

fn index(name: &str) -> usize {
    PROVIDERS
        .iter()
        .position(|(known, _)| *known == name)
        .unwrap()
}

fn table() -> Table {
    let mut prefixes: Vec<_> = PROVIDERS
        .iter()
        .enumerate()
        .map(|(at, (name, _))| ((*name).to_owned(), at))
        .collect();
    prefixes.push(("x-ai".to_owned(), index("xai")));
    Table {
        dialects: PROVIDERS
            .iter()
            .map(|(_, dialects)| dialects.to_vec())
            .collect(),
        prefixes,
        patterns: PATTERNS
            .map(|(pattern, name)| (Pattern::parse(pattern).unwrap(), index(name)))
            .into(),
        default: Some(index("openrouter")),
        anthropic: Some(index("anthropic")),
        google: Some(index("google")),
    }
}

fn chosen(model: &str, dialect: Dialect) -> (&'static str, String, String) {
    let choice = table().choose(model, dialect).unwrap();
    let name = PROVIDERS[choice.provider].0;
    (name, choice.prefix.to_owned(), choice.model_sent.to_owned())
}

#[test]
fn openai_paths_go_by_prefix_then_pattern_then_default() {
    for (model, provider, sent) in [
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("OpenAI/GPT-4o", "openai", "GPT-4o"),
        ("anthropic/claude-sonnet-4", "anthropic", "claude-sonnet-4"),
        ("google/gemini-2.5-pro", "google", "gemini-2.5-pro"),
        ("xai/grok-4", "xai", "grok-4"),
        ("x-ai/grok-4", "xai", "grok-4"),
        ("azure/gpt-4o", "azure", "gpt-4o"),
        ("ollama/llama3:8b", "ollama", "llama3:8b"),
        ("my-claude/x", "My-Claude", "x"),
        ("openrouter/openai/gpt-4o", "openrouter", "openai/gpt-4o"),
        ("openai/openai/x", "openai", "openai/x"),
        ("openai/", "openai", ""),
        ("gpt-4o", "openai", "gpt-4o"),
        ("chatgpt-4o-latest", "openai", "chatgpt-4o-latest"),
        ("o3-mini", "openai", "o3-mini"),
        ("o1", "openai", "o1"),
        ("text-embedding-3-small", "openai", "text-embedding-3-small"),
        ("claude-opus-4", "anthropic", "claude-opus-4"),
        ("gemini-2.5-flash", "google", "gemini-2.5-flash"),
        ("grok-4", "xai", "grok-4"),
        ("deepseek-chat", "deepseek", "deepseek-chat"),
        ("mistral-large", "mistral", "mistral-large"),
        ("mixtral-8x7b", "mistral", "mixtral-8x7b"),
        ("codestral-latest", "mistral", "codestral-latest"),
        (
            "meta-llama/llama-3-70b",
            "openrouter",
            "meta-llama/llama-3-70b",
        ),
        ("meta/gpt-4", "openrouter", "meta/gpt-4"),
        ("my-gpt-4", "openrouter", "my-gpt-4"),
        ("olmo", "openrouter", "olmo"),
        ("gpt4", "openrouter", "gpt4"),
        ("/gpt-4o", "openrouter", "/gpt-4o"),
        ("", "openrouter", ""),
    ] {
        let (name, prefix, model_sent) = chosen(model, Dialect::OpenAi);
        assert_eq!((name, model_sent.as_str()), (provider, sent), "{model}");
        assert_eq!(prefix + &model_sent, model);
    }
}

#[test]
fn other_dialects_have_their_own_provider() {
    for (model, dialect, provider, sent) in [
        (
            "claude-opus-4",
            Dialect::Anthropic,
            "anthropic",
            "claude-opus-4",
        ),
        ("gpt-4o", Dialect::Anthropic, "anthropic", "gpt-4o"),
        ("meta/llama", Dialect::Anthropic, "anthropic", "meta/llama"),
        ("ollama/llama3", Dialect::Anthropic, "ollama", "llama3"),
        (
            "my-claude/claude-3",
            Dialect::Anthropic,
            "My-Claude",
            "claude-3",
        ),
        ("claude-opus-4", Dialect::Gemini, "google", "claude-opus-4"),
        ("google/gemini-pro", Dialect::Gemini, "google", "gemini-pro"),
        ("ollama/gemma", Dialect::Gemini, "ollama", "gemma"),
    ] {
        let (name, _, model_sent) = chosen(model, dialect);
        assert_eq!(
            (name, model_sent.as_str()),
            (provider, sent),
            "{model} {dialect:?}"
        );
    }
    for (model, dialect, provider) in [
        ("openai/gpt-4o", Dialect::Anthropic, "openai"),
        ("google/gemini-pro", Dialect::Anthropic, "google"),
        ("azure/gpt-4o", Dialect::Gemini, "azure"),
        ("anthropic/claude-3", Dialect::Gemini, "anthropic"),
    ] {
        let refused = table().choose(model, dialect);
        assert_eq!(
            refused,
            Err(Misroute::OtherDialect(index(provider))),
            "{model}"
        );
    }
}

#[test]
fn without_a_default_unknown_models_go_nowhere() {
    let mut table = table();
    table.default = None;
    assert_eq!(
        table.choose("llama", Dialect::OpenAi),
        Err(Misroute::NoProvider)
    );
    assert!(table.choose("gpt-4o", Dialect::OpenAi).is_ok());
    table.anthropic = None;
    assert_eq!(
        table.choose("claude-3", Dialect::Anthropic),
        Err(Misroute::NoProvider)
    );
    assert_eq!(table.without_model(Some(0)), Ok(0));
    assert_eq!(table.without_model(None), Err(Misroute::NoProvider));
    table.default = Some(index("openrouter"));
    let refused = table.choose("claude-3", Dialect::Anthropic);
    assert_eq!(refused, Err(Misroute::OtherDialect(index("openrouter"))));
}

#[test]
fn an_index_beyond_the_providers_is_an_error_and_no_panic() {
    let table = Table {
        default: Some(7),
        ..Table::default()
    };
    assert_eq!(
        table.choose("x", Dialect::OpenAi),
        Err(Misroute::OtherDialect(7))
    );
}
