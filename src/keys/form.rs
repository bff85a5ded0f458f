//! A key and its limits in JSON: as they are shown, and as a new one is asked for.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::contents::{KeyRecord, KeyState, Limits, Period};
use super::models::{ProviderNames, pattern_covers};
use super::{NewKey, UnixSeconds};
use crate::clock::rfc3339;
use crate::secret::Secret;

/// A key as it is shown; its token only by the answer that makes it.
#[derive(Serialize)]
pub struct KeyForm<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) account: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    vault: Option<&'a str>,
    pub(crate) last4: &'a str,
    pub(crate) created_at: String,
    pub(crate) expires_at: Option<String>,
    pub(crate) state: &'static str,
    models: &'a [String],
    manage_keys: bool,
    limits: LimitsForm,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<Vec<TokenForm<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

/// One of a key's tokens: there are several while an old one still works beside the new.
#[derive(Serialize)]
struct TokenForm<'a> {
    last4: &'a str,
    valid_until: Option<String>,
}

/// Limits as they are shown and asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsForm {
    rpm: Option<u32>,
    tpm: Option<u64>,
    concurrent: Option<u32>,
    budget_tokens: Option<u64>,
    budget_period: Option<Span>,
}

/// A change of some limits: what is left out stays, null takes a limit away.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsPatch {
    #[serde(deserialize_with = "named")]
    rpm: Option<Option<u32>>,
    #[serde(deserialize_with = "named")]
    tpm: Option<Option<u64>>,
    #[serde(deserialize_with = "named")]
    concurrent: Option<Option<u32>>,
    #[serde(deserialize_with = "named")]
    budget_tokens: Option<Option<u64>>,
    #[serde(deserialize_with = "named")]
    budget_period: Option<Option<Span>>,
}

/// What is written as an object: parsers take a list for one, its members in their order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = T;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members))
            }
        }

        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

/// A member that is there, null or not.
pub fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Span {
    Day,
    Month,
}

/// A key that another one asks for.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyWish {
    name: String,
    expires_in_s: Option<u64>,
    models: Vec<String>,
    limits: Object<LimitsForm>,
    manage_keys: bool,
}

/// What a key is now, in one word.
pub fn state_of(record: &KeyRecord, now: UnixSeconds) -> &'static str {
    match record.state {
        KeyState::Revoked => "revoked",
        KeyState::Active if record.expires_at.is_some_and(|end| end <= now) => "expired",
        KeyState::Active => "active",
    }
}

impl<'a> KeyForm<'a> {
    /// Shows a record to who may use the key.
    pub fn new(record: &'a KeyRecord, token: Option<&'a Secret>, now: UnixSeconds) -> Self {
        Self {
            id: &record.id,
            name: &record.name,
            account: &record.grant.account,
            vault: None,
            last4: record.tokens.first().map_or("", |token| &token.last4),
            created_at: rfc3339(record.created_at),
            expires_at: record.expires_at.map(rfc3339),
            state: state_of(record, now),
            models: &record.grant.models,
            manage_keys: record.grant.manage_keys,
            limits: LimitsForm::new(&record.grant.limits),
            tokens: None,
            // Tokens are ASCII: minted ones are made so, imported ones were checked.
            token: token.and_then(|token| std::str::from_utf8(token.expose()).ok()),
        }
    }

    /// Shows it to the operator, with its vault and all of its tokens' ends.
    pub fn whole(record: &'a KeyRecord, token: Option<&'a Secret>, now: UnixSeconds) -> Self {
        let tokens = record.tokens.iter().map(|token| TokenForm {
            last4: &token.last4,
            valid_until: token.valid_until.map(rfc3339),
        });
        Self {
            vault: Some(&record.vault),
            tokens: Some(tokens.collect()),
            ..Self::new(record, token, now)
        }
    }
}

impl LimitsForm {
    /// Shows limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            rpm: limits.requests_per_minute,
            tpm: limits.tokens_per_minute,
            concurrent: limits.concurrent,
            budget_tokens: limits.token_budget.map(|(tokens, _)| tokens),
            budget_period: limits.token_budget.map(|(_, period)| match period {
                Period::Day => Span::Day,
                Period::Month => Span::Month,
            }),
        }
    }

    /// The limits that are asked for; in words what is wrong with them.
    pub fn into_limits(self) -> Result<Limits, String> {
        let asked = [
            self.rpm.map(u64::from),
            self.tpm,
            self.concurrent.map(u64::from),
            self.budget_tokens,
        ];
        if asked.contains(&Some(0)) {
            return Err("limits: a limit is at least 1; leave it out for none".into());
        }
        let token_budget = match (self.budget_tokens, self.budget_period) {
            (None, None) => None,
            (Some(tokens), Some(Span::Day)) => Some((tokens, Period::Day)),
            (Some(tokens), Some(Span::Month)) => Some((tokens, Period::Month)),
            _ => {
                return Err(
                    "limits: budget_tokens and budget_period (day or month) go together".into(),
                );
            }
        };
        Ok(Limits {
            requests_per_minute: self.rpm,
            tokens_per_minute: self.tpm,
            concurrent: self.concurrent,
            token_budget,
        })
    }
}

impl LimitsPatch {
    /// The limits after the change; in words what is wrong with them. A budget goes with its period.
    pub fn applied_to(self, limits: &Limits) -> Result<Limits, String> {
        let now = LimitsForm::new(limits);
        let budget_tokens = self.budget_tokens.unwrap_or(now.budget_tokens);
        let budget_period = self.budget_period.unwrap_or(now.budget_period);
        let dropped = self.budget_tokens == Some(None) && self.budget_period.flatten().is_none();
        LimitsForm {
            rpm: self.rpm.unwrap_or(now.rpm),
            tpm: self.tpm.unwrap_or(now.tpm),
            concurrent: self.concurrent.unwrap_or(now.concurrent),
            budget_tokens,
            budget_period: budget_period.filter(|_| !dropped),
        }
        .into_limits()
    }
}

impl KeyWish {
    /// What `minter` gets when it asks for this: a key of its own account that may nothing which it may not itself. What
    /// the wish leaves open is as the minter has it. `names` are what patterns are read by.
    pub fn granted(
        self,
        minter: &KeyRecord,
        names: &ProviderNames,
        now: UnixSeconds,
    ) -> Result<NewKey, String> {
        let limits = self.limits.0.into_limits()?;
        let own = &minter.grant.limits;
        let limits = Limits {
            requests_per_minute: least("rpm", limits.requests_per_minute, own.requests_per_minute)?,
            tokens_per_minute: least("tpm", limits.tokens_per_minute, own.tokens_per_minute)?,
            concurrent: least("concurrent", limits.concurrent, own.concurrent)?,
            token_budget: match (limits.token_budget, own.token_budget) {
                (wish, None) => wish,
                (None, own) => own,
                (Some(wish), Some(own)) if wish.1 == own.1 && wish.0 <= own.0 => Some(wish),
                _ => return Err("limits: the budget is more than this key has itself".into()),
            },
        };
        if self.models.iter().any(|pattern| pattern.trim().is_empty()) {
            return Err("models: an empty pattern".into());
        }
        let uncovered = |pattern: &&String| {
            !minter.grant.models.is_empty()
                && !minter
                    .grant
                    .models
                    .iter()
                    .any(|own| pattern_covers(own, pattern, names))
        };
        if let Some(pattern) = self.models.iter().find(uncovered) {
            return Err(format!("models: this key may not use {pattern} itself"));
        }
        if self.manage_keys && !minter.grant.manage_keys {
            return Err("manage_keys: this key does not have it itself".into());
        }
        if self.expires_in_s == Some(0) {
            return Err("expires_in_s: it would be over already".into());
        }
        let wished = self
            .expires_in_s
            .map(|seconds| now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)));
        Ok(NewKey {
            name: self.name,
            account: minter.grant.account.clone(),
            // A key that ends takes those that it made with it, at the latest.
            expires_at: match (wished, minter.expires_at) {
                (Some(wished), Some(own)) => Some(wished.min(own)),
                (wished, own) => wished.or(own),
            },
            models: match self.models.is_empty() {
                true => minter.grant.models.clone(),
                false => self.models,
            },
            limits,
            manage_keys: self.manage_keys,
            token: None,
        })
    }
}

fn least<T: Copy + Ord>(name: &str, wish: Option<T>, own: Option<T>) -> Result<Option<T>, String> {
    match (wish, own) {
        (Some(wish), Some(own)) if wish > own => {
            Err(format!("limits: {name} is more than this key has itself"))
        }
        (wish, own) => Ok(wish.or(own)),
    }
}

#[cfg(test)]
mod tests;
