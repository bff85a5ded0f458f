//! The models that `GET /v1/models` lists: data in a file beside this one, which the operator can replace in parts.
//!
//! `config` puts the catalogue together at the start, `exchange` asks it for the models of one caller. A model is listed
//! under the id that a caller sends: the provider's own where that alone leads there, else with the provider's prefix.
//! The list is for pickers and humans; nothing is refused because it is not in here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use toml::value::Date;

use crate::clock;

const BUILT_IN: &str = include_str!("models.toml");

/// What a file says: provider to its models.
type Lists = BTreeMap<String, List>;

/// The built-in lists, parsed once. A test holds that they are good; an error here would be empty lists.
static BUILT_IN_LISTS: LazyLock<Lists> =
    LazyLock::new(|| toml::from_str(BUILT_IN).unwrap_or_default());

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    models: Vec<Entry>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    name: Option<String>,
    created: Option<toml::value::Datetime>,
    owned_by: Option<String>,
}

/// One model, as a member of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Model {
    /// As a caller sends it.
    id: String,
    object: &'static str,
    /// Seconds since 1970; 0 where nobody knows.
    created: i64,
    owned_by: String,
    display_name: String,
    #[serde(skip)]
    provider: String,
    /// As the provider knows it.
    #[serde(skip)]
    id_sent: String,
}

/// One model, as Google's SDKs read it.
#[derive(Serialize)]
struct GoogleModel<'a> {
    name: String,
    #[serde(rename = "displayName")]
    display_name: &'a str,
}

/// The known models of all providers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    models: Vec<Model>,
}

impl Catalogue {
    /// What is built in, with the lists of `own`, the operator's file, in place of those of the same providers, and
    /// `more` models (provider and id) behind. `leads_to` tells which provider a model without a prefix goes to.
    pub fn new<'m>(
        own: &str,
        more: impl IntoIterator<Item = (&'m str, &'m str)>,
        leads_to: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, toml::de::Error> {
        let mut lists = BUILT_IN_LISTS.clone();
        lists.extend(toml::from_str::<Lists>(own)?);
        for (provider, id) in more {
            let list = lists.entry(provider.to_owned()).or_default();
            list.models.push(Entry::bare(id));
        }
        let listed = |(provider, list): (String, List)| {
            let entries = list.models.into_iter();
            let models = entries.map(|entry| entry.listed(&provider, &leads_to));
            models.collect::<Vec<_>>()
        };
        let models = lists.into_iter().flat_map(listed).collect();
        Ok(Self { models })
    }

    /// The list for a caller who can use `providers`, without the models that `allowed(provider, model)` denies. Those of
    /// a provider that `google` names stand in it in Google's form too.
    pub fn list(
        &self,
        providers: &[&str],
        allowed: impl Fn(&str, &str) -> bool,
        google: impl Fn(&str) -> bool,
    ) -> String {
        #[derive(Serialize)]
        struct Answer<'a> {
            object: &'static str,
            data: Vec<&'a Model>,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            models: Vec<GoogleModel<'a>>,
        }
        let mut data = Vec::new();
        for provider in providers {
            let own = self
                .models
                .iter()
                .filter(|model| model.provider == *provider);
            data.extend(own.filter(|model| allowed(provider, &model.id_sent)));
        }
        let models = data.iter().filter(|model| google(&model.provider));
        let models = models.map(|model| GoogleModel {
            name: format!("models/{}", model.id),
            display_name: &model.display_name,
        });
        let answer = Answer {
            object: "list",
            models: models.collect(),
            data,
        };
        // Strings and numbers only, so it does not fail; a caller would see an empty list.
        sonic_rs::to_string(&answer).unwrap_or_else(|_| r#"{"object":"list","data":[]}"#.to_owned())
    }
}

impl Entry {
    fn bare(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: None,
            created: None,
            owned_by: None,
        }
    }

    fn listed(self, provider: &str, leads_to: impl Fn(&str) -> Option<String>) -> Model {
        let plain = leads_to(&self.id).as_deref() == Some(provider);
        let id = if plain {
            self.id.clone()
        } else {
            format!("{provider}/{}", self.id)
        };
        let date = self.created.and_then(|created| created.date);
        Model {
            object: "model",
            created: date.map_or(0, unix_seconds),
            owned_by: self.owned_by.unwrap_or_else(|| provider.to_owned()),
            display_name: self.name.unwrap_or_else(|| self.id.clone()),
            provider: provider.to_owned(),
            id,
            id_sent: self.id,
        }
    }
}

/// Midnight UTC of a day.
fn unix_seconds(date: Date) -> i64 {
    let (year, month, day) = (date.year.into(), date.month.into(), date.day.into());
    clock::days_to(year, month, day) * 86_400
}

#[cfg(test)]
mod tests;
