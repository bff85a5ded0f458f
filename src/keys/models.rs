//! Which models a key may use: patterns over names, with `*` for any text.
//!
//! `exchange` asks for each provider that a request may go to; a key that mints others gives no more than it has. What
//! stands before a slash is read as routing reads it: it names a provider, by its name or an alias, or is a part of the
//! model's own name.

use super::KeyRecord;

/// What names a provider, and which: the table that routing reads prefixes by.
pub type ProviderNames = [(String, usize)];

/// A pattern, read.
enum Reading<'p> {
    /// Models of these providers, by the name that they have there.
    Of(&'p str, &'p str),
    /// Models of any provider.
    Any(&'p str),
}

impl<'p> Reading<'p> {
    fn new(pattern: &'p str, names: &ProviderNames) -> Self {
        match pattern.split_once('/') {
            Some((vendor, name)) if names.iter().any(|(known, _)| covers(vendor, known)) => {
                Self::Of(vendor, name)
            }
            _ => Self::Any(pattern),
        }
    }
}

/// Whether a provider goes by a name that `vendor` covers.
fn named(vendor: &str, provider: usize, names: &ProviderNames) -> bool {
    let mut own = names.iter().filter(|(_, place)| *place == provider);
    own.any(|(known, _)| covers(vendor, known))
}

/// Whether a key may use a model of a provider, `model` being its name there. No patterns allow everything.
pub fn model_allowed(key: &KeyRecord, names: &ProviderNames, provider: usize, model: &str) -> bool {
    let allows = |pattern: &String| match Reading::new(pattern, names) {
        Reading::Of(vendor, name) => covers(name, model) && named(vendor, provider, names),
        Reading::Any(pattern) => covers(pattern, model),
    };
    key.grant.models.is_empty() || key.grant.models.iter().any(allows)
}

/// Whether everything that `asked` allows is allowed by `own`.
pub(super) fn pattern_covers(own: &str, asked: &str, names: &ProviderNames) -> bool {
    let every = |of: &dyn Fn(usize) -> bool| names.iter().all(|(_, provider)| of(*provider));
    match (Reading::new(own, names), Reading::new(asked, names)) {
        (Reading::Of(vendor, name), Reading::Of(asked_vendor, asked_name)) => {
            let of = |it| !named(asked_vendor, it, names) || named(vendor, it, names);
            covers(name, asked_name) && every(&of)
        }
        (Reading::Of(vendor, name), Reading::Any(asked)) => {
            covers(name, asked) && every(&|it| named(vendor, it, names))
        }
        (Reading::Any(own), Reading::Of(_, asked_name)) => covers(own, asked_name),
        (Reading::Any(own), Reading::Any(asked)) => covers(own, asked),
    }
}

/// `*` is any text, case aside.
fn covers(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(byte) if byte.eq_ignore_ascii_case(&text[read]) => (at, read) = (at + 1, read + 1),
            _ => match &mut star {
                Some((place, swallowed)) => {
                    *swallowed += 1;
                    (at, read) = (*place + 1, *swallowed);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;

    /// Some providers; the last has a name that is asked for nowhere.
    pub(in super::super) fn names() -> Vec<(String, usize)> {
        let names = [
            ("openai", 0),
            ("openrouter", 1),
            ("anthropic", 2),
            ("xai", 3),
            ("x-ai", 3),
            ("azure", 4),
            ("groq", 5),
            ("local", 6),
            ("me", 6),
        ];
        names.map(|(name, place)| (name.to_owned(), place)).to_vec()
    }

    #[test]
    fn patterns_of_models() {
        let mut contents = super::super::contents::tests::sample();
        let mut key = (*contents.keys.remove(0)).clone();
        let names = names();
        for (patterns, provider, model, allowed) in [
            (&[][..], "openai", "gpt-4o", true),
            (&["openai/*"], "openai", "gpt-4o", true),
            (&["openai/*"], "openrouter", "openai/gpt-4o", false),
            (&["claude*"], "anthropic", "Claude-3", true),
            (&["claude*"], "openai", "gpt-4o", false),
            (
                &["claude*", "openai/gpt-4o-*"],
                "openai",
                "gpt-4o-mini",
                true,
            ),
            (&["openai/gpt-4o"], "openai", "gpt-4o-mini", false),
            (&["*/gpt*"], "azure", "gpt-4", true),
            (&["openrouter/openai/*"], "openrouter", "openai/gpt", true),
            // By whichever of its names.
            (&["x-ai/*"], "xai", "grok-4", true),
            (&["xai/*"], "xai", "grok-4", true),
            (&["X-AI/grok-4"], "xai", "grok-4", true),
            (&["x-ai/*"], "openai", "grok-4", false),
            (&["me/*"], "local", "foo", true),
            (&["me/*"], "openrouter", "me/foo", false),
            // A vendor that is no provider is a part of the name.
            (&["meta-llama/*"], "openrouter", "meta-llama/llama-3", true),
            (&["meta-llama/*"], "groq", "meta-llama/llama-3", true),
            (&["meta-llama/*"], "openrouter", "llama-3", false),
            (
                &["meta-llama/llama-3"],
                "openrouter",
                "Meta-Llama/Llama-3",
                true,
            ),
            (
                &["meta-llama/llama-3"],
                "openrouter",
                "meta-llama/llama-4",
                false,
            ),
        ] {
            let patterns_of = patterns.iter().map(|pattern| (*pattern).to_owned());
            Arc::make_mut(&mut key.grant).models = patterns_of.collect();
            let (_, place) = names.iter().find(|(name, _)| name == provider).unwrap();
            assert_eq!(
                model_allowed(&key, &names, *place, model),
                allowed,
                "{patterns:?} {provider}/{model}"
            );
        }
    }

    #[test]
    fn what_is_given_is_no_more_than_what_is_had() {
        let names = names();
        for (own, asked, covered) in [
            ("*", "meta-llama/*", true),
            ("openai/*", "openai/gpt-*", true),
            ("openai/*", "azure/gpt-4", false),
            ("gpt-4*", "groq/gpt-4o*", true),
            ("*/gpt-4*", "azure/gpt-4o", true),
            ("*/gpt-4*", "gpt-4o", true),
            ("openai/gpt-4*", "gpt-4o", false),
            ("o*/gpt-4*", "open*/gpt-4o", true),
            ("open*/gpt-4*", "o*/gpt-4*", true),
            ("open*/gpt-4*", "*/gpt-4*", false),
            ("xai/*", "x-ai/grok-4", true),
            ("x-ai/*", "xai/*", true),
            ("meta-llama/*", "meta-llama/llama-3", true),
            ("meta*", "meta-llama/llama-3", true),
            // Its models have this vendor in their names, and what is allowed has not.
            ("llama*", "meta-llama/llama-3", false),
            ("*/llama*", "meta-llama/llama-3", false),
            ("meta-llama/*", "openrouter/meta-llama/*", true),
            ("openrouter/meta-llama/*", "meta-llama/*", false),
        ] {
            assert_eq!(pattern_covers(own, asked, &names), covered, "{own} {asked}");
        }
    }
}
