//! Which model goes where, as data: the table that `provider` matches a model's name against.

use super::providers::{Provider, ProviderId, Providers};
use super::reader::{Section, count, one_or_many, parsed, unknown};
use crate::provider::pattern::Pattern;
use crate::provider::routing::Table;

/// Names of models whose vendor is known.
const PATTERNS: [(&str, &str); 22] = [
    ("gpt-*", "openai"),
    ("chatgpt-*", "openai"),
    ("o[0-9]*", "openai"),
    ("text-embedding-*", "openai"),
    ("ft:gpt-*", "openai"),
    ("codex-*", "openai"),
    ("computer-use-*", "openai"),
    ("davinci-*", "openai"),
    ("babbage-*", "openai"),
    ("whisper-*", "openai"),
    ("tts-*", "openai"),
    ("dall-e-*", "openai"),
    ("sora-*", "openai"),
    ("omni-moderation-*", "openai"),
    ("text-moderation-*", "openai"),
    ("claude*", "anthropic"),
    ("gemini*", "google"),
    ("grok*", "xai"),
    ("deepseek*", "deepseek"),
    ("mistral*", "mistral"),
    ("mixtral*", "mistral"),
    ("codestral*", "mistral"),
];

/// Names with a vendor before them are none of these: `mistralai/mistral-small` is an aggregator's name for its model.
const VENDORS: &str = "*/*";

/// Where models go that nothing else places: one account there reaches most vendors, under `vendor/model` names.
const DEFAULT_PROVIDER: &str = "openrouter";

/// Tries for one request over all keys and providers: one, and two more; each may take as long as a timeout lets it.
const ATTEMPTS: usize = 3;

/// `[routing]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// For models that no prefix and no pattern places.
    pub default_provider: ProviderId,
    /// Providers to go on with when one has failed before its answer began, in this order.
    pub fallback: Vec<ProviderId>,
    /// Upstream requests made for one request at most.
    pub attempts: u32,
    /// Patterns of model names, the first match wins: those of the file, then those built in. All of them parse.
    pub patterns: Vec<(String, ProviderId)>,
}

impl Routing {
    /// Reads `[routing]`.
    pub(super) fn read(section: &mut Section<'_>, providers: &Providers) -> Self {
        let provider = |name: &str| {
            providers.find(name).ok_or_else(|| {
                let names: Vec<_> = providers.iter().map(|(_, it)| it.name.as_str()).collect();
                unknown(name, &names)
            })
        };
        // The names above are built in, so `find` never misses; place 0 only spares a panic.
        let built_in = |name| providers.find(name).unwrap_or(ProviderId(0));
        let default_provider = built_in(DEFAULT_PROVIDER);
        let attempts = section.value("attempts", ATTEMPTS, count(1, 100));
        let mut routing = Self {
            default_provider: section.value("default_provider", default_provider, parsed(provider)),
            fallback: section.value("fallback", Vec::new(), one_or_many(parsed(provider))),
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            patterns: section.section("patterns", |section| {
                section.rest(|text, value| Ok((pattern(text)?, parsed(provider)(value)?)))
            }),
        };
        let mut seen = Vec::new();
        routing.fallback.retain(|id| {
            let new = !seen.contains(id);
            seen.push(*id);
            new
        });
        let known = PATTERNS.map(|(text, name)| (text.to_owned(), built_in(name)));
        let vendors = (VENDORS.to_owned(), routing.default_provider);
        routing.patterns.push(vendors);
        routing.patterns.extend(known);
        routing
    }

    /// The rules in the form that a model is matched against.
    pub fn table(&self, providers: &Providers) -> Table {
        let names = |(ProviderId(place), provider): (_, &Provider)| {
            let names = provider.aliases.iter().chain([&provider.name]);
            names.map(|name| (name.clone(), place)).collect::<Vec<_>>()
        };
        let pattern = |(text, provider): &(String, ProviderId)| {
            let pattern = Pattern::parse(text).ok()?;
            Some((pattern, provider.0))
        };
        let place = |name| providers.find(name).map(|provider| provider.0);
        Table {
            dialects: providers
                .iter()
                .map(|(_, it)| it.dialects.clone())
                .collect(),
            prefixes: providers.iter().flat_map(names).collect(),
            patterns: self.patterns.iter().filter_map(pattern).collect(),
            default: Some(self.default_provider.0),
            anthropic: place("anthropic"),
            google: place("google"),
        }
    }
}

fn pattern(text: &str) -> Result<String, String> {
    match Pattern::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
