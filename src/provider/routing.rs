//! Which provider a model goes to: an explicit prefix, else a name pattern, else the default.
//!
//! `config` builds the table, `exchange` asks it once per request. Providers are indices into the configuration's
//! list. A pass-through key goes to the provider that is chosen here and to no other, so a prefix that names a
//! provider always decides, even where that provider cannot serve the request.

use super::Dialect;
use super::pattern::Pattern;

/// The routing rules, as plain data.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// What each provider speaks; the other members' indices point in here.
    pub dialects: Vec<Vec<Dialect>>,
    /// Prefixes without their slash (a provider's name, or an alias), compared in any case.
    pub prefixes: Vec<(String, usize)>,
    /// The first that matches wins.
    pub patterns: Vec<(Pattern, usize)>,
    /// Where everything else goes.
    pub default: Option<usize>,
    /// The provider of unprefixed models on Anthropic's paths.
    pub anthropic: Option<usize>,
    /// The provider of unprefixed models on Gemini's paths.
    pub google: Option<usize>,
}

/// Where a request goes, and under which model name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice<'m> {
    /// Index of the provider.
    pub provider: usize,
    /// The part of the model that names the provider, slash included; empty if none was taken off.
    pub prefix: &'m str,
    /// The model as the provider knows it.
    pub model_sent: &'m str,
}

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misroute {
    /// The provider that the prefix names, or the only default, does not speak the path's dialect.
    OtherDialect(usize),
    /// Nothing matches and no default is configured.
    NoProvider,
}

impl Table {
    /// Routes a model on a path of `dialect`.
    pub fn choose<'m>(&self, model: &'m str, dialect: Dialect) -> Result<Choice<'m>, Misroute> {
        let (provider, prefix_len) = match self.named_by_prefix(model) {
            Some(named) => named,
            None => (
                self.unprefixed(model, dialect)
                    .ok_or(Misroute::NoProvider)?,
                0,
            ),
        };
        if !self.speaks(provider, dialect) {
            return Err(Misroute::OtherDialect(provider));
        }
        let (prefix, model_sent) = model.split_at(prefix_len);
        Ok(Choice {
            provider,
            prefix,
            model_sent,
        })
    }

    /// The provider of a request that states no model, where OpenAI has a default.
    pub fn without_model(&self, openai: Option<usize>) -> Result<usize, Misroute> {
        openai.or(self.default).ok_or(Misroute::NoProvider)
    }

    fn named_by_prefix(&self, model: &str) -> Option<(usize, usize)> {
        let slash = model.find('/')?;
        let name = &model[..slash];
        let (_, provider) = self
            .prefixes
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        Some((*provider, slash + 1))
    }

    /// Name patterns say who makes a model, and on OpenAI's paths everyone is reachable. The other dialects have one
    /// native provider, which knows its own names best.
    fn unprefixed(&self, model: &str, dialect: Dialect) -> Option<usize> {
        match dialect {
            Dialect::OpenAi => {
                let matching = self
                    .patterns
                    .iter()
                    .find(|(pattern, _)| pattern.matches(model));
                matching.map(|(_, provider)| *provider).or(self.default)
            }
            Dialect::Anthropic => self.anthropic.or(self.default),
            Dialect::Gemini => self.google.or(self.default),
        }
    }

    fn speaks(&self, provider: usize, dialect: Dialect) -> bool {
        let spoken = self.dialects.get(provider);
        spoken.is_some_and(|spoken| spoken.contains(&dialect))
    }
}

#[cfg(test)]
mod tests;
