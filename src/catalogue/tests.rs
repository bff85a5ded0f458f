use std::collections::HashSet;

use serde_json::Value;

use super::*;
use crate::config::Config;

/// Routes like the defaults do, as far as the tests need it.
fn leads_to(model: &str) -> Option<String> {
    let provider = match model.split_once('/') {
        Some(("openai" | "anthropic" | "deepseek" | "openrouter", _)) => return None,
        _ if model.starts_with("gpt-") => "openai",
        _ if model.starts_with("claude") => "anthropic",
        _ => "openrouter",
    };
    Some(provider.to_owned())
}

fn list(own: &str, providers: &[&str]) -> Vec<Value> {
    let catalogue = Catalogue::new(own, [], leads_to).unwrap();
    let list: Value =
        serde_json::from_str(&catalogue.list(providers, |_, _| true, |_| false)).unwrap();
    assert_eq!(list["object"], "list");
    assert_eq!(list.as_object().unwrap().len(), 2);
    list["data"].as_array().unwrap().clone()
}

#[test]
fn one_model_in_full() {
    let models = list("", &["openai"]);
    let gpt4o = models.iter().find(|model| model["id"] == "gpt-4o").unwrap();
    let expected = serde_json::json!({
        "id": "gpt-4o",
        "object": "model",
        "created": 1_715_558_400,
        "owned_by": "openai",
        "display_name": "GPT-4o",
    });
    assert_eq!(*gpt4o, expected);
}

#[test]
fn ids_are_what_a_caller_sends() {
    let ids = |provider: &str| -> Vec<String> {
        let models = list("", &[provider]);
        let ids = models
            .iter()
            .map(|model| model["id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    assert!(ids("anthropic").contains(&"claude-opus-5".to_owned()));
    assert!(ids("openai").contains(&"openai/whisper-1".to_owned()));
    assert!(ids("groq").contains(&"groq/openai/gpt-oss-120b".to_owned()));
    assert!(ids("openrouter").contains(&"meta-llama/llama-3.3-70b-instruct".to_owned()));
    assert!(ids("openrouter").contains(&"openrouter/openai/gpt-5.5".to_owned()));
    assert_eq!(ids("demo"), ["demo/echo"]);
}

#[test]
fn only_the_callers_providers_in_their_order() {
    assert!(list("", &[]).is_empty());
    assert!(list("", &["nobody"]).is_empty());
    let models = list("", &["xai", "demo"]);
    let owners: Vec<_> = models
        .iter()
        .map(|model| model["owned_by"].as_str().unwrap())
        .collect();
    assert_eq!(owners[0], "xai");
    assert_eq!(*owners.last().unwrap(), "memoryrouter");
}

#[test]
fn the_filter_sees_provider_and_the_providers_own_id() {
    let catalogue = Catalogue::new("", [], leads_to).unwrap();
    let allowed = |provider: &str, model: &str| provider == "groq" && model == "openai/gpt-oss-20b";
    let list = catalogue.list(&["groq", "openai"], allowed, |_| false);
    let list: Value = serde_json::from_str(&list).unwrap();
    let data = list["data"].as_array().unwrap();
    assert_eq!(data.len(), 1);
    assert_eq!(data[0]["id"], "groq/openai/gpt-oss-20b");
}

#[test]
fn some_models_stand_there_in_googles_form_too() {
    let catalogue = Catalogue::new("", [], leads_to).unwrap();
    let list = catalogue.list(&["google", "openai"], |_, _| true, |it| it == "google");
    let list: Value = serde_json::from_str(&list).unwrap();
    let (data, models) = (&list["data"], list["models"].as_array().unwrap());
    assert!(!models.is_empty() && models.len() < data.as_array().unwrap().len());
    assert_eq!(
        models[0]["name"],
        format!("models/{}", data[0]["id"].as_str().unwrap())
    );
    assert_eq!(models[0]["displayName"], data[0]["display_name"]);
}

#[test]
fn the_operators_lists_replace_single_providers() {
    let own = "[xai]\nmodels = [{ id = \"grok-next\" }]\n[vllm]\nmodels = [{ id = \"q\", name = \"Q\" }]\n";
    let models = list(own, &["xai", "vllm", "anthropic"]);
    assert_eq!(models[0]["id"], "xai/grok-next");
    assert_eq!(models[0]["display_name"], "grok-next");
    assert_eq!(models[0]["created"], 0);
    assert_eq!(models[1]["id"], "vllm/q");
    assert!(models.len() > 10);
}

#[test]
fn more_models_stand_behind_a_providers_own() {
    let more = [("azure", "gpt-4o"), ("xai", "grok-own")];
    let catalogue = Catalogue::new("", more, leads_to).unwrap();
    let list = catalogue.list(
        &["azure", "xai"],
        |_, model| !model.starts_with("grok-4"),
        |_| false,
    );
    let list: Value = serde_json::from_str(&list).unwrap();
    let ids: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(
        ids,
        ["azure/gpt-4o", "xai/grok-code-fast-1", "xai/grok-own"]
    );
}

#[test]
fn a_wrong_list_says_the_line() {
    let error = Catalogue::new("[xai]\nmodels = [\n{ ids = \"x\" }]\n", [], leads_to);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("line 3") && error.contains("unknown field `ids`"),
        "{error}"
    );
}

#[test]
fn built_in_lists_name_built_in_providers_and_no_model_twice() {
    let lists: Lists = toml::from_str(BUILT_IN).unwrap();
    let config = Config::defaults(std::path::Path::new("/d"));
    for (provider, list) in &lists {
        let known = config.providers.find(provider).is_some() || provider == crate::config::DEMO;
        assert!(known, "{provider}");
        let ids: HashSet<_> = list.models.iter().map(|entry| &entry.id).collect();
        assert_eq!(ids.len(), list.models.len(), "{provider}");
        assert!(
            list.models
                .iter()
                .all(|entry| entry.created.is_none_or(|it| it.date.is_some()))
        );
    }
    // What an operator runs or deploys nobody else knows.
    for (_, provider) in config.providers.iter() {
        let own = matches!(provider.name.as_str(), "azure" | "ollama");
        assert_eq!(
            lists.contains_key(&provider.name),
            !own,
            "{}",
            provider.name
        );
    }
}

#[test]
fn days() {
    let cases = [
        ((1970, 1, 1), 0),
        ((1969, 12, 31), -86_400),
        ((2000, 2, 29), 951_782_400),
        ((2024, 5, 13), 1_715_558_400),
        ((2026, 11, 24), 1_795_478_400),
        ((2100, 3, 1), 4_107_542_400),
    ];
    for ((year, month, day), seconds) in cases {
        assert_eq!(
            unix_seconds(Date { year, month, day }),
            seconds,
            "{year}-{month}-{day}"
        );
    }
}
