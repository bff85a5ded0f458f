//! `memoryrouter keys`: make, list, revoke, enable, rotate and delete memory keys.
//!
//! Every change goes through the sealed file, under its lock; a running router takes it within two seconds. A token
//! is printed once, by the command that makes it, and can never be shown again.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::memory;
use super::secret_input::read_secret;
use super::table::table;
use super::{Failure, Global};
use crate::audit::{self, Who};
use crate::clock::{rfc3339, unix_seconds};
use crate::config::Config;
use crate::keys::{
    self, EditError, KeyFiles, KeyForm, KeyRecord, KeyState, Limits, NewKey, Period,
};
use crate::secret::Secret;

#[derive(Subcommand)]
pub(crate) enum KeysCommand {
    /// Mint a key and print it, once
    Create(Create),
    /// List the keys, without their tokens
    List,
    /// Stop a key from working
    Revoke(Id),
    /// Let a revoked key work again
    Enable(Id),
    /// Give a key a new token for the same memory
    Rotate(Rotate),
    /// Take a key out for good, and its memories with it
    Delete(Id),
}

#[derive(Args)]
pub(crate) struct Create {
    /// Whose provider keys it uses
    #[arg(long, value_name = "A", default_value = "default")]
    account: String,
    /// A name for people
    #[arg(long, value_name = "N", default_value = "")]
    name: String,
    /// How long it works, such as 30d
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    /// Models it may use, such as 'openai/*,claude*' [default: all]
    #[arg(long, value_name = "PATTERNS", value_delimiter = ',')]
    models: Vec<String>,
    /// Requests a minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rpm: Option<u32>,
    /// Tokens a minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tpm: Option<u64>,
    /// Requests at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrent: Option<u32>,
    /// Tokens a day or a month, such as 100000/day
    #[arg(long, value_name = "N/day", value_parser = budget)]
    budget_tokens: Option<(u64, Period)>,
    /// May mint and revoke keys of its account
    #[arg(long)]
    manage_keys: bool,
    /// Read an existing token from stdin instead of minting one
    #[arg(long)]
    import: bool,
}

#[derive(Args)]
pub(crate) struct Id {
    /// The key's id, as `keys list` shows it
    id: String,
}

#[derive(Args)]
pub(crate) struct Rotate {
    /// The key's id, as `keys list` shows it
    id: String,
    /// How long the old token goes on working
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "0s")]
    grace: Duration,
}

fn budget(text: &str) -> Result<(u64, Period), String> {
    let wrong =
        || format!("{text:?} is not a number and a span, such as 100000/day or 2000000/month");
    let (tokens, span) = text.split_once('/').ok_or_else(wrong)?;
    let period = match span {
        "day" => Period::Day,
        "month" => Period::Month,
        _ => return Err(wrong()),
    };
    let tokens = tokens
        .parse()
        .ok()
        .filter(|tokens| *tokens > 0)
        .ok_or_else(wrong)?;
    Ok((tokens, period))
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        Self::failed(error)
    }
}

/// Runs the command.
pub(crate) fn run(command: KeysCommand, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let files = Global::key_files(&config);
    let not_made = |error| Failure::not_made(error, &config);
    let written = |what: &str, record: &KeyRecord| {
        audit::append(&config.dir, &Who::Cli, what, &[("key", &record.id)]);
    };
    match command {
        KeysCommand::Create(create) => {
            let new = create.into_key()?;
            let made = keys::edit(&files, |editor| editor.add_key(new));
            let (record, token) = made.map_err(not_made)?;
            written("key made", &record);
            show_made(&record, &token, global)
        }
        KeysCommand::List => list(&files, &config, global),
        KeysCommand::Revoke(Id { id }) => {
            let change = keys::edit(&files, |editor| editor.set_state(&id, KeyState::Revoked));
            let record = change.map_err(not_made)?;
            written("key revoked", &record);
            show_state(&record, global)
        }
        KeysCommand::Enable(Id { id }) => {
            let change = keys::edit(&files, |editor| editor.set_state(&id, KeyState::Active));
            let record = change.map_err(not_made)?;
            written("key enabled", &record);
            show_state(&record, global)
        }
        KeysCommand::Rotate(Rotate { id, grace }) => {
            let old_until = unix_seconds().saturating_add(seconds(grace));
            let change = keys::edit(&files, |editor| editor.rotate(&id, old_until));
            let (record, token) = change.map_err(not_made)?;
            written("key rotated", &record);
            show_made(&record, &token, global)
        }
        KeysCommand::Delete(Id { id }) => {
            let (record, is_last) = keys::edit(&files, |editor| {
                let record = editor.remove_key(&id)?;
                let mut others = editor.contents.keys.iter();
                let is_last = others.all(|other| other.vault != record.vault);
                Ok((record, is_last))
            })
            .map_err(not_made)?;
            written("key removed", &record);
            if is_last && let Err(failure) = memory::forget(&config, &record.vault) {
                memory::tell(&format!(
                    "{} is deleted, but its memories stay in the log, sealed: {failure}; \
                     DELETE /admin/v1/vaults/{} on the admin port drops them",
                    record.id, record.vault
                ));
            }
            let mut row = KeyForm::whole(&record, None, unix_seconds());
            row.state = "deleted";
            global.show(|| &row, || format!("{}: {}", row.id, row.state))
        }
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

impl Create {
    fn into_key(self) -> Result<NewKey, Failure> {
        let token = if self.import {
            Some(read_secret("token")?)
        } else {
            None
        };
        if let Some(empty) = self.models.iter().find(|pattern| pattern.trim().is_empty()) {
            return Err(Failure::Usage(format!("--models: {empty:?} is no pattern")));
        }
        if self.expires.is_some_and(|time| time.as_secs() == 0) {
            return Err(Failure::Usage("--expires: it would be over already".into()));
        }
        Ok(NewKey {
            name: self.name,
            account: self.account,
            expires_at: self
                .expires
                .map(|time| unix_seconds().saturating_add(seconds(time))),
            models: self
                .models
                .iter()
                .map(|pattern| pattern.trim().to_owned())
                .collect(),
            limits: Limits {
                requests_per_minute: self.rpm,
                tokens_per_minute: self.tpm,
                concurrent: self.concurrent,
                token_budget: self.budget_tokens,
            },
            manage_keys: self.manage_keys,
            token,
        })
    }
}

/// A key that was just made: the one time that its token is shown.
#[derive(Serialize)]
struct Made<'a> {
    id: &'a str,
    token: &'a str,
    name: &'a str,
    account: &'a str,
    vault: &'a str,
    created_at: String,
    expires_at: Option<String>,
}

fn show_made(record: &KeyRecord, token: &Secret, global: &Global) -> Result<(), Failure> {
    // Tokens are ASCII: minted ones are made so, imported ones were checked.
    let token = std::str::from_utf8(token.expose()).unwrap_or_default();
    let made = || Made {
        id: &record.id,
        token,
        name: &record.name,
        account: &record.grant.account,
        vault: &record.vault,
        created_at: rfc3339(record.created_at),
        expires_at: record.expires_at.map(rfc3339),
    };
    let text = || {
        format!(
            "{token}\n\nThis is {}. The token is not stored and cannot be shown again.",
            record.id
        )
    };
    global.show_once(made, text).map_err(|failure| {
        let id = &record.id;
        Failure::failed(format!(
            "{failure}; the token of {id} is in use all the same, and lost: rotate or delete that key"
        ))
    })
}

fn list(files: &KeyFiles, config: &Config, global: &Global) -> Result<(), Failure> {
    let inspected = keys::inspect(files);
    let (_, contents) = inspected.map_err(|refusal| Failure::refused(&refusal, config))?;
    let now = unix_seconds();
    let rows: Vec<KeyForm<'_>> = contents
        .keys
        .iter()
        .map(|record| KeyForm::whole(record, None, now))
        .collect();
    global.show(
        || &rows,
        || {
            let cells = |row: &KeyForm<'_>| {
                let expires = row.expires_at.clone().unwrap_or_else(|| "never".into());
                [
                    row.id,
                    row.name,
                    row.account,
                    row.last4,
                    &row.created_at,
                    &expires,
                    row.state,
                ]
                .map(str::to_owned)
            };
            table(
                [
                    "ID", "NAME", "ACCOUNT", "LAST 4", "CREATED", "EXPIRES", "STATE",
                ],
                rows.iter().map(cells),
            )
        },
    )
}

fn show_state(record: &KeyRecord, global: &Global) -> Result<(), Failure> {
    let row = KeyForm::whole(record, None, unix_seconds());
    global.show(|| &row, || format!("{}: {}", row.id, row.state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        assert_eq!(budget("100/day"), Ok((100, Period::Day)));
        assert_eq!(budget("5/month"), Ok((5, Period::Month)));
        for wrong in ["100", "0/day", "x/day", "1/week", "-1/day", "/day"] {
            assert!(budget(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
    }
}
