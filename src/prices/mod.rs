//! What tokens cost: data in a file beside this one, which the operator's own file goes before.
//!
//! `config` reads the operator's file, `usage` asks for the price of each place that it writes. A model without a price
//! costs nothing and is marked, so that a sum which leaves something out says so.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::provider::pattern::Pattern;

const BUILT_IN: &str = include_str!("prices.toml");

/// The built-in prices, parsed once. A test holds that they are good; an error here would be no prices.
static BUILT_IN_PRICES: LazyLock<Lists> = LazyLock::new(|| read(BUILT_IN).unwrap_or_default());

type Lists = BTreeMap<String, Vec<(Pattern, Price)>>;

/// Those that sell another one's models at its prices.
const LIKE: &[(&str, &str)] = &[("azure", "openai")];

/// Dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// In.
    pub input: f64,
    /// In, read from the provider's cache.
    pub cached: f64,
    /// In, written to it.
    pub cache_write: f64,
    /// In, written to it for an hour.
    pub cache_write_1h: f64,
    /// Out.
    pub output: f64,
}

/// Where nothing else is said: Anthropic's twice the input for an hour, over its 1.25 times for five minutes.
const CACHE_WRITE_1H_FACTOR: f64 = 1.6;

/// Tokens that cost something.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokens {
    /// All that went in.
    pub input: u64,
    /// Of these, read from the provider's cache.
    pub cached: u64,
    /// Of these, written to it.
    pub cache_written: u64,
    /// Of those written, to be kept for an hour.
    pub cache_written_1h: u64,
    /// All that came out.
    pub output: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with a list `prices`")]
struct List {
    prices: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    model: String,
    input: f64,
    cached: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
    #[serde(default)]
    output: f64,
}

impl Price {
    /// What so many tokens cost, in billionths of a dollar.
    pub fn nano_usd(&self, tokens: &Tokens) -> u64 {
        let Tokens {
            input,
            cached,
            cache_written,
            cache_written_1h,
            output,
        } = *tokens;
        let plain = input.saturating_sub(cached).saturating_sub(cache_written);
        let written_shortly = cache_written.saturating_sub(cache_written_1h);
        let parts = [
            (plain, self.input),
            (cached, self.cached),
            (written_shortly, self.cache_write),
            (cache_written - written_shortly, self.cache_write_1h),
            (output, self.output),
        ];
        // A dollar for a million tokens is a thousand billionths for one.
        let nano: f64 = parts
            .iter()
            .map(|(tokens, usd)| *tokens as f64 * usd * 1e3)
            .sum();
        nano.round() as u64
    }
}

/// All prices: the operator's, then what is built in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    own: Lists,
}

impl Prices {
    /// Reads the operator's file.
    pub fn parse(own: &str) -> Result<Self, String> {
        Ok(Self { own: read(own)? })
    }

    /// The price of a provider's model; of an aggregator's `vendor/model` the vendor's, if it names none of its own.
    pub fn find(&self, provider: &str, model: &str) -> Option<Price> {
        let like = LIKE
            .iter()
            .find(|(name, _)| *name == provider)
            .map(|(_, like)| *like);
        let vendor = model.split_once('/');
        [
            Some((provider, model)),
            like.map(|like| (like, model)),
            vendor,
        ]
        .into_iter()
        .flatten()
        .find_map(|(provider, model)| {
            [&self.own, &*BUILT_IN_PRICES]
                .into_iter()
                .find_map(|lists| {
                    let list = lists.get(provider)?;
                    let (_, price) = list.iter().find(|(pattern, _)| pattern.matches(model))?;
                    Some(*price)
                })
        })
    }
}

fn read(text: &str) -> Result<Lists, String> {
    // What a number is called in this language is nothing to an operator.
    let wrong = |error: toml::de::Error| error.to_string().replace("f64", "a number");
    let lists: BTreeMap<String, List> = toml::from_str(text).map_err(wrong)?;
    let mut all = Lists::new();
    for (provider, list) in lists {
        let mut prices = Vec::new();
        for entry in list.prices {
            let wrong = |why: &str| format!("{provider}: {}: {why}", entry.model);
            let pattern =
                Pattern::parse(&entry.model).map_err(|error| wrong(&error.to_string()))?;
            let cache_write = entry.cache_write.unwrap_or(entry.input);
            let price = Price {
                input: entry.input,
                cached: entry.cached.unwrap_or(entry.input),
                cache_write,
                cache_write_1h: entry
                    .cache_write_1h
                    .unwrap_or(cache_write * CACHE_WRITE_1H_FACTOR),
                output: entry.output,
            };
            let all = [
                price.input,
                price.cached,
                price.cache_write,
                entry.cache_write_1h.unwrap_or_default(),
                price.output,
            ];
            if !all.iter().all(|usd| (0.0..=1e6).contains(usd)) {
                return Err(wrong(
                    "a price is dollars for a million tokens, from 0 to 1000000",
                ));
            }
            prices.push((pattern, price));
        }
        all.insert(provider, prices);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_file_is_good() {
        let lists = read(BUILT_IN).unwrap();
        assert!(lists.len() > 5 && lists.values().all(|list| !list.is_empty()));
    }

    /// A wrong price is worse than none, which is marked.
    #[test]
    fn a_variant_of_a_model_has_no_price_but_its_own() {
        let prices = Prices::default();
        let has = |provider: &str, model: &str| prices.find(provider, model).is_some();
        let lists = read(BUILT_IN).unwrap();
        let lines = lists.iter().flat_map(|(provider, list)| {
            let patterns = list.iter().map(|(pattern, _)| pattern.as_str());
            patterns.map(move |pattern| (provider, pattern))
        });
        let mut looked_at = 0;
        for (provider, pattern) in lines.filter(|(_, pattern)| *pattern != "*") {
            let model = pattern
                .replace('?', "1")
                .replace("[-@]", "-")
                .replace("[56]", "5");
            assert!(has(provider, &model), "{model}");
            for variant in ["-pro", "-deep-research", "-codex-mini", "-preview-tts", "x"] {
                let variant = format!("{model}{variant}");
                assert!(!has(provider, &variant), "{provider} {variant}");
                looked_at += 1;
            }
        }
        assert!(looked_at > 200, "{looked_at}");
        for (provider, model, priced) in [
            ("openai", "gpt-5.2-2025-12-11", true),
            ("openai", "gpt-5.2-pro-2025-12-11", false),
            ("openai", "o4-mini-2025-04-16", true),
            ("openai", "gpt-4o-2024-05-13", false),
            ("anthropic", "claude-sonnet-4-5-20250929", true),
            ("anthropic", "claude-sonnet-4-20250514", true),
            ("google", "gemini-2.5-pro-preview-06-05", true),
            ("google", "gemini-2.5-flash-lite-preview-09-2025", true),
        ] {
            assert_eq!(has(provider, model), priced, "{model}");
        }
    }

    #[test]
    fn own_prices_go_first_and_unknown_models_have_none() {
        let own = "[openai]\nprices = [{ model = \"gpt-4o*\", input = 1.0, output = 2.0 }]\n\
            [mine]\nprices = [{ model = \"*\", input = 0.5 }]";
        let prices = Prices::parse(own).unwrap();
        let input = |provider, model| prices.find(provider, model).map(|price| price.input);
        assert_eq!(input("openai", "gpt-4o-2024-08-06"), Some(1.0));
        assert_eq!(input("azure", "gpt-4o"), Some(1.0));
        assert_eq!(input("openrouter", "openai/gpt-4o"), Some(1.0));
        assert_eq!(input("mine", "anything"), Some(0.5));
        assert_eq!(input("openai", "gpt-4.1"), Some(2.0));
        assert_eq!(input("openai", "unheard-of"), None);
        assert_eq!(input("elsewhere", "gpt-4o"), None);
        for wrong in [
            "[a]\nprices = [{ model = \"\", input = 1.0 }]",
            "[a]\nprices = [{ model = \"x\", input = -1.0 }]",
            "[a]\nprices = [{ model = \"x\", inputs = 1.0 }]",
            "[a",
        ] {
            assert!(Prices::parse(wrong).is_err(), "{wrong}");
        }
        let told = |wrong| Prices::parse(wrong).unwrap_err();
        let text = told("[a]\nprices = [{ model = \"x\", input = \"1\" }]");
        assert!(
            text.contains("line 2") && text.ends_with("expected a number\n"),
            "{text}"
        );
        let number = told("a = 1");
        assert!(
            number.ends_with("expected a table with a list `prices`\n"),
            "{number}"
        );
    }

    #[test]
    fn cached_tokens_are_part_of_the_input() {
        let price = Price {
            input: 3.0,
            cached: 0.3,
            cache_write: 3.75,
            cache_write_1h: 6.0,
            output: 15.0,
        };
        // 50 plain, 30 cached, 20 written, 8 of them for an hour, 10 out.
        let tokens = Tokens {
            input: 100,
            cached: 30,
            cache_written: 20,
            cache_written_1h: 8,
            output: 10,
        };
        assert_eq!(
            price.nano_usd(&tokens),
            150_000 + 9_000 + 45_000 + 48_000 + 150_000
        );
        let more_cached_than_there_is = Tokens {
            input: 1,
            cached: 5,
            cache_written_1h: 3,
            ..Tokens::default()
        };
        assert_eq!(price.nano_usd(&more_cached_than_there_is), 1_500);
    }

    #[test]
    fn writing_for_an_hour_has_its_own_price_or_follows_the_other() {
        let own = "[mine]\nprices = [\
            { model = \"a\", input = 1.0, cache_write = 2.0, cache_write_1h = 5.0 },\
            { model = \"b\", input = 1.0, cache_write = 2.0 }]";
        let prices = Prices::parse(own).unwrap();
        let hour = |provider, model| prices.find(provider, model).unwrap().cache_write_1h;
        assert_eq!(hour("mine", "a"), 5.0);
        assert_eq!(hour("mine", "b"), 3.2);
        assert_eq!(hour("anthropic", "claude-sonnet-4-5"), 6.0);
    }
}
