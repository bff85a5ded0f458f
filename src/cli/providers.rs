//! `memoryrouter providers`: the provider keys that accounts have stored.
//!
//! Keys come in on stdin, never as an argument, and are shown by their last four characters only. Several for one
//! provider are used in turn.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::secret_input::read_secret;
use super::table::table;
use super::{Failure, Global};
use crate::audit::{self, Who};
use crate::clock::rfc3339;
use crate::config::Config;
use crate::keys::{self, KeyFiles, Refusal, StoredKey};
use crate::secret::Secret;

#[derive(Subcommand)]
pub(crate) enum ProvidersCommand {
    /// Store a provider key, read from stdin
    Set(Set),
    /// List the stored provider keys by their last four characters
    List,
    /// Remove stored provider keys
    Remove(Remove),
}

#[derive(Args)]
pub(crate) struct Set {
    /// The provider, as the configuration names it
    provider: String,
    /// Whose key it is
    #[arg(long, value_name = "A", default_value = "default")]
    account: String,
}

#[derive(Args)]
pub(crate) struct Remove {
    /// The provider
    provider: String,
    /// One of several, by the id that `providers list` shows [default: all]
    id: Option<String>,
    /// Whose key it is
    #[arg(long, value_name = "A", default_value = "default")]
    account: String,
}

#[derive(Serialize)]
struct Row<'a> {
    account: &'a str,
    provider: &'a str,
    id: &'a str,
    last4: &'a str,
    created_at: String,
}

impl<'a> Row<'a> {
    fn new(account: &'a str, provider: &'a str, stored: &'a StoredKey) -> Self {
        let StoredKey {
            id,
            last4,
            created_at,
            ..
        } = stored;
        Self {
            account,
            provider,
            id,
            last4,
            created_at: rfc3339(*created_at),
        }
    }
}

/// Runs the command.
pub(crate) fn run(command: ProvidersCommand, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let files = Global::key_files(&config);
    let not_made = |error| Failure::not_made(error, &config);
    match command {
        ProvidersCommand::Set(Set { provider, account }) => {
            let provider = canonical(&config, &provider)?;
            if is_keyless(&config, &provider) {
                return Err(Failure::failed(format!("{provider} needs no key")));
            }
            let key = read_secret("provider key")?;
            let same = stored_as(&files, &account, &provider, &key);
            if let Some(id) = same.map_err(|refusal| Failure::refused(&refusal, &config))? {
                let about = format!("this key is stored already: it is key {id} for {provider}");
                return Err(Failure::failed(about));
            }
            let stored = keys::edit(&files, |editor| {
                editor.add_provider_key(&account, &provider, &key)
            });
            let stored = stored.map_err(not_made)?;
            let about = [
                ("account", account.as_str()),
                ("provider", &provider),
                ("id", &stored.id),
            ];
            audit::append(&config.dir, &Who::Cli, "provider key stored", &about);
            let row = Row::new(&account, &provider, &stored);
            global.show(
                || &row,
                || {
                    format!(
                        "stored key {} for {provider} (…{})",
                        stored.id, stored.last4
                    )
                },
            )
        }
        ProvidersCommand::List => {
            let inspected = keys::inspect(&files);
            let (_, contents) = inspected.map_err(|refusal| Failure::refused(&refusal, &config))?;
            let rows: Vec<Row<'_>> = contents
                .provider_keys
                .iter()
                .flat_map(|((account, provider), list)| {
                    list.iter().map(move |key| Row::new(account, provider, key))
                })
                .collect();
            let cells = |row: &Row<'_>| {
                [
                    row.account,
                    row.provider,
                    row.id,
                    row.last4,
                    &row.created_at,
                ]
                .map(str::to_owned)
            };
            let head = ["ACCOUNT", "PROVIDER", "ID", "LAST 4", "CREATED"];
            global.show(|| &rows, || table(head, rows.iter().map(cells)))
        }
        ProvidersCommand::Remove(Remove {
            provider,
            id,
            account,
        }) => {
            #[derive(Serialize)]
            struct Removed {
                removed: usize,
            }
            let change = |name: &str| {
                keys::edit(&files, |editor| {
                    editor.remove_provider_keys(&account, name, id.as_deref())
                })
                .inspect(|_| {
                    let mut about = vec![("account", account.as_str()), ("provider", name)];
                    about.extend(id.as_deref().map(|id| ("id", id)));
                    audit::append(&config.dir, &Who::Cli, "provider key removed", &about);
                })
                .map_err(not_made)
            };
            // Keys of a provider that has left the configuration can still be removed.
            let removed = match canonical(&config, &provider) {
                Ok(name) => change(&name)?,
                Err(_) => change(&provider)?,
            };
            global.show(|| Removed { removed }, || format!("removed {removed}"))
        }
    }
}

/// The id that a key has already: stored once more it would have two turns, and be tried twice where it fails.
fn stored_as(
    files: &KeyFiles,
    account: &str,
    provider: &str,
    key: &Secret,
) -> Result<Option<String>, Refusal> {
    let place = (account.to_owned(), provider.to_owned());
    keys::reveal(files, |contents, open| {
        let mut stored = contents.provider_keys.get(&place).into_iter().flatten();
        let same =
            |one: &&StoredKey| open(account, provider, one).is_some_and(|secret| secret == *key);
        Ok(stored.find(same).map(|one| one.id.clone()))
    })
}

fn is_keyless(config: &Config, name: &str) -> bool {
    let id = config.providers.find(name);
    id.is_some_and(|id| config.providers.get(id).kind_name() == "keyless")
}

/// The provider's own name, for an alias too. A name that nothing is routed to is a mistake.
fn canonical(config: &Config, name: &str) -> Result<String, Failure> {
    let Some(id) = config.providers.find(name) else {
        let names = config
            .providers
            .iter()
            .map(|(_, provider)| provider.name.as_str());
        let near =
            crate::config::nearest(name, names).map(|near| format!("; did you mean {near}?"));
        return Err(Failure::failed(format!(
            "no such provider: {name}{}",
            near.unwrap_or_default()
        )));
    };
    Ok(config.providers.get(id).name.clone())
}
