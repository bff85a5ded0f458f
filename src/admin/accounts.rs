//! Accounts and the provider keys that they have stored, over the admin port. A key comes in once and is shown by its
//! last four characters only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answer::{Answer, Denial};
use super::desk::Desk;
use super::request::Request;
use crate::audit::Who;
use crate::clock::{rfc3339, unix_seconds};
use crate::keys::KeyState;
use crate::provider::Kind;
use crate::secret::Secret;

#[derive(Default, Serialize)]
struct Account {
    account: String,
    keys: usize,
    keys_active: usize,
    providers: Vec<String>,
}

#[derive(Serialize)]
struct Accounts {
    accounts: Vec<Account>,
}

/// `GET /accounts`: every account that has a key of either kind, and `default`.
pub(super) fn list(desk: &Desk) -> Answer {
    let snapshot = desk.keys.current();
    let now = unix_seconds();
    let mut accounts: BTreeMap<&str, Account> = BTreeMap::new();
    accounts.entry("default").or_default();
    for record in snapshot.records() {
        let account = accounts.entry(&record.grant.account).or_default();
        let ended = record.expires_at.is_some_and(|end| end <= now);
        account.keys += 1;
        account.keys_active += usize::from(record.state == KeyState::Active && !ended);
    }
    for (account, provider, _) in snapshot.stored() {
        let account = accounts.entry(account).or_default();
        account.providers.push(provider.to_owned());
    }
    let accounts = accounts.into_iter().map(|(name, mut account)| {
        account.account = name.to_owned();
        account.providers.sort();
        account
    });
    Answer::json(&Accounts {
        accounts: accounts.collect(),
    })
}

#[derive(Serialize)]
struct Stored {
    id: String,
    last4: String,
    created_at: String,
}

#[derive(Serialize)]
struct Provider {
    provider: String,
    kind: &'static str,
    configured: bool,
    needs_key: bool,
    keys: Vec<Stored>,
}

#[derive(Serialize)]
struct Providers<'a> {
    account: &'a str,
    providers: Vec<Provider>,
}

/// `GET /accounts/{a}/providers`: every provider of the configuration, and those that have left it with keys behind.
pub(super) fn providers(desk: &Desk, account: &str) -> Answer {
    let snapshot = desk.keys.current();
    let config = desk.config();
    let mut stored: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
    for (of, provider, keys) in snapshot.stored() {
        if of == account {
            let keys = keys.iter().map(|key| Stored {
                id: key.id.clone(),
                last4: key.last4.clone(),
                created_at: rfc3339(key.created_at),
            });
            stored.insert(provider.to_owned(), keys.collect());
        }
    }
    let mut providers = Vec::new();
    for (_, provider) in config.providers.iter() {
        providers.push(Provider {
            provider: provider.name.clone(),
            kind: provider.kind_name(),
            configured: !provider.base_urls.is_empty(),
            needs_key: provider.kind != Kind::Keyless,
            keys: stored.remove(&provider.name).unwrap_or_default(),
        });
    }
    providers.extend(stored.into_iter().map(|(provider, keys)| Provider {
        provider,
        kind: "unknown",
        configured: false,
        needs_key: true,
        keys,
    }));
    Answer::json(&Providers { account, providers })
}

/// The provider's own name, for an alias too.
pub(super) fn canonical(desk: &Desk, name: &str) -> Option<String> {
    let config = desk.config();
    let id = config.providers.find(name)?;
    Some(config.providers.get(id).name.clone())
}

fn is_keyless(desk: &Desk, name: &str) -> bool {
    let config = desk.config();
    let id = config.providers.find(name);
    id.is_some_and(|id| config.providers.get(id).kind == Kind::Keyless)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewProviderKey {
    key: String,
}

#[derive(Serialize)]
struct Made<'a> {
    account: &'a str,
    provider: &'a str,
    id: &'a str,
    last4: &'a str,
    created_at: String,
}

/// `POST /accounts/{a}/providers/{p}`.
pub(super) async fn store(
    desk: &Desk,
    request: &Request,
    account: String,
    provider: &str,
    who: Who,
) -> Result<Answer, Denial> {
    let NewProviderKey { key } = request.json()?;
    let key = Secret::new(key.into_bytes());
    let provider = canonical(desk, provider)
        .ok_or_else(|| Denial::new(404, format!("no such provider: {provider}")))?;
    if is_keyless(desk, &provider) {
        return Err(Denial::odd(format!("{provider} needs no key")));
    }
    let snapshot = desk.keys.current();
    let stored = snapshot.provider_keys(&account, &provider);
    let same = stored.and_then(|keys| keys.iter().find(|stored| stored.secret == key));
    if let Some(same) = same {
        return Err(
            Denial::new(409, "this key is stored already").hint(format!("Its id is {}", same.id))
        );
    }
    let (of, name) = (account.clone(), provider.clone());
    let about = about(&account, &provider);
    let stored = desk
        .edit(
            who,
            "provider key stored",
            move |editor| editor.add_provider_key(&of, &name, &key),
            move |stored| [about, vec![("id", stored.id.clone())]].concat(),
        )
        .await?;
    Ok(Answer::with_status(
        201,
        &Made {
            account: &account,
            provider: &provider,
            id: &stored.id,
            last4: &stored.last4,
            created_at: rfc3339(stored.created_at),
        },
    ))
}

fn about(account: &str, provider: &str) -> Vec<(&'static str, String)> {
    vec![
        ("account", account.to_owned()),
        ("provider", provider.to_owned()),
    ]
}

#[derive(Serialize)]
struct Removed {
    removed: usize,
}

/// `DELETE /accounts/{a}/providers/{p}[/{n}]`.
pub(super) async fn remove(
    desk: &Desk,
    account: String,
    provider: &str,
    id: Option<String>,
    who: Who,
) -> Result<Answer, Denial> {
    // Keys of a provider that has left the configuration can still be removed.
    let provider = canonical(desk, provider).unwrap_or_else(|| provider.to_owned());
    let mut about = about(&account, &provider);
    about.extend(id.clone().map(|id| ("id", id)));
    let removed = desk
        .edit(
            who,
            "provider key removed",
            move |editor| editor.remove_provider_keys(&account, &provider, id.as_deref()),
            move |_| about,
        )
        .await?;
    Ok(Answer::json(&Removed { removed }))
}
