//! `memoryrouter snapshot`: look into the sealed file, change its master key, move it.
//!
//! An export is the one command that prints provider keys; it says so on stderr and wants `--plain`. An import
//! replaces all keys, as the next generation of the file, so that a running router takes it.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::secret_input::read_passphrase;
use super::{Failure, Global, print};
use crate::audit::{self, Who};
use crate::clock::rfc3339;
use crate::keys::{
    self, Contents, Grant, KeyFiles, KeyRecord, KeyState, Last4, Limits, MasterSource, Period,
    Refusal, TokenEntry, Tokens, UnixSeconds,
};
use crate::secret::Secret;

/// An export on its way in: a million keys are about 540 MB of JSON.
const IMPORT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

#[derive(Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Check a sealed file and tell what it is
    Verify(Verify),
    /// Put a file in the place of the configured one, if a router takes it there; the old one stays as FILE.before
    Replace(Replace),
    /// Seal everything under a new master key, or under a new passphrase from stdin where one is in use
    Rekey,
    /// Print everything, provider keys included
    Export(Export),
    /// Replace everything by an export, read from stdin
    Import(Import),
}

#[derive(Args)]
pub(crate) struct Verify {
    /// The file [default: the configured one]
    file: Option<PathBuf>,
    /// Also whether a router here would take it in the place of the configured one
    #[arg(long)]
    for_use: bool,
}

#[derive(Args)]
pub(crate) struct Replace {
    /// The new file
    file: PathBuf,
}

#[derive(Args)]
pub(crate) struct Export {
    /// Agree to see provider keys in the clear
    #[arg(long, required = true)]
    plain: bool,
}

#[derive(Args)]
pub(crate) struct Import {
    /// Let a running router take it even if most of its keys are gone
    #[arg(long)]
    allow_shrink: bool,
}

/// Runs the command.
pub(crate) fn run(command: SnapshotCommand, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let mut files = Global::key_files(&config);
    let written = |what: &str| audit::append(&config.dir, &Who::Cli, what, &[]);
    match command {
        SnapshotCommand::Verify(Verify { file, for_use }) => {
            let configured = files.clone();
            let for_use = for_use || file.is_none();
            files.snapshot = file.unwrap_or(files.snapshot);
            if for_use {
                keys::inspect_for_use(&files, &configured)
                    .map_err(|refusal| unusable(&refusal, &files))?;
            }
            verify(&files, global)
        }
        SnapshotCommand::Replace(Replace { file }) => {
            keys::put(&files, &file)?;
            written("snapshot replaced");
            verify(&files, global)
        }
        SnapshotCommand::Rekey => {
            let passphrase = match &files.master {
                MasterSource::File(_) => None,
                MasterSource::Passphrase(_) => Some(read_passphrase("new passphrase")?),
            };
            keys::rekey(&files, passphrase.as_ref())?;
            written("snapshot sealed under another key");
            verify(&files, global)
        }
        SnapshotCommand::Export(Export { plain: _ }) => {
            export(&files)?;
            written("snapshot exported in plain text");
            Ok(())
        }
        SnapshotCommand::Import(Import { allow_shrink }) => {
            import(&files, allow_shrink)?;
            written("snapshot imported");
            verify(&files, global)
        }
    }
}

#[derive(Serialize)]
struct Report {
    file: String,
    generation: u64,
    created_at: String,
    master_key: String,
    passphrase: bool,
    keys: usize,
    provider_keys: usize,
}

/// Which file it is, where several could be meant.
fn unusable(refusal: &Refusal, files: &KeyFiles) -> Failure {
    Failure::failed(format!("{refusal} ({})", files.snapshot.display()))
}

fn verify(files: &KeyFiles, global: &Global) -> Result<(), Failure> {
    let inspected = keys::inspect(files);
    let (header, contents) = inspected.map_err(|refusal| unusable(&refusal, files))?;
    let report = Report {
        file: files.snapshot.display().to_string(),
        generation: header.generation,
        created_at: rfc3339(header.created_at),
        master_key: header
            .key_id
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        passphrase: header.kdf.is_some(),
        keys: contents.keys.len(),
        provider_keys: contents.provider_keys.values().map(Vec::len).sum(),
    };
    let text = || {
        let Report {
            file,
            generation,
            created_at,
            master_key,
            keys,
            provider_keys,
            ..
        } = &report;
        format!(
            "{file}: good\ngeneration     {generation} of {created_at}\nmaster key     {master_key}\n\
             memory keys    {keys}\nprovider keys  {provider_keys}"
        )
    };
    global.show(|| &report, text)
}

/// The file's contents as JSON. Bytes are hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    format: String,
    pepper: String,
    /// Account to provider to keys.
    provider_keys: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    keys: Vec<PlainKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainKey {
    id: String,
    name: String,
    account: String,
    vault: String,
    vault_key: String,
    created_at: UnixSeconds,
    expires_at: Option<UnixSeconds>,
    revoked: bool,
    tokens: Vec<PlainToken>,
    models: Vec<String>,
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u64>,
    concurrent: Option<u32>,
    tokens_per_day: Option<u64>,
    tokens_per_month: Option<u64>,
    manage_keys: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainToken {
    digest: String,
    last4: String,
    valid_until: Option<UnixSeconds>,
}

const FORMAT: &str = "memoryrouter-keys-1";

fn export(files: &KeyFiles) -> Result<(), Failure> {
    let plain = keys::reveal(files, |contents, reveal| {
        let mut provider_keys: BTreeMap<String, BTreeMap<String, Vec<String>>> = BTreeMap::new();
        for ((account, provider), list) in &contents.provider_keys {
            for stored in list {
                let key = reveal(account, provider, stored).ok_or(Refusal::ProviderKey)?;
                let key = String::from_utf8_lossy(key.expose()).into_owned();
                let account = provider_keys.entry(account.clone()).or_default();
                account.entry(provider.clone()).or_default().push(key);
            }
        }
        let keys = contents.keys.iter().map(|key| PlainKey::new(key)).collect();
        Ok(Plain {
            format: FORMAT.into(),
            pepper: hex(&contents.pepper),
            provider_keys,
            keys,
        })
    })
    .map_err(Failure::failed)?;
    let _ = writeln!(
        std::io::stderr(),
        "memoryrouter: this holds provider keys in the clear; whoever reads it can spend them"
    );
    print(&Zeroizing::new(
        sonic_rs::to_string(&plain).map_err(Failure::failed)?,
    ))
}

fn import(files: &KeyFiles, allow_shrink: bool) -> Result<(), Failure> {
    let mut text = Zeroizing::new(Vec::new());
    std::io::stdin()
        .lock()
        .take(IMPORT_BYTES_MAX + 1)
        .read_to_end(&mut text)
        .map_err(|error| Failure::failed(format!("cannot read the export from stdin: {error}")))?;
    if text.len() as u64 > IMPORT_BYTES_MAX {
        return Err(Failure::failed("the export is larger than 1 GiB"));
    }
    // The parser's own words would show what stands there.
    let plain: Plain = sonic_rs::from_slice(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Failure::failed(format!(
            "this is no export, or a damaged one: line {line}, column {column}"
        ))
    })?;
    if plain.format != FORMAT {
        return Err(Failure::failed(format!(
            "this is no export of format {FORMAT}"
        )));
    }
    let pepper = unhex(&plain.pepper)
        .filter(|pepper| pepper.iter().any(|byte| *byte != 0))
        .ok_or_else(|| Failure::failed("this is no export: the pepper is not one"))?;
    let mut contents = Contents::new(pepper);
    for (number, key) in (1..).zip(plain.keys) {
        let record = key.into_record();
        let record = record.map_err(|why| Failure::failed(format!("key {number}: {why}")))?;
        contents.keys.push(Arc::new(record));
    }
    let (_, current) = keys::inspect(files).map_err(Failure::failed)?;
    let (before, after) = (current.keys.len(), contents.keys.len());
    if !allow_shrink && keys::has_shrunk(before, after) {
        return Err(Failure::failed(Refusal::Shrunk { before, after }));
    }
    keys::replace(files, contents, allow_shrink, |editor| {
        for (account, providers) in &plain.provider_keys {
            for (provider, list) in providers {
                for key in list {
                    editor.add_provider_key(account, provider, &Secret::new(key.as_bytes()))?;
                }
            }
        }
        Ok(())
    })?;
    Ok(())
}

impl PlainKey {
    fn new(record: &KeyRecord) -> Self {
        let token = |token: &TokenEntry| PlainToken {
            digest: hex(&token.digest),
            last4: token.last4.to_string(),
            valid_until: token.valid_until,
        };
        let budget = |wanted| match record.grant.limits.token_budget {
            Some((tokens, period)) if period == wanted => Some(tokens),
            _ => None,
        };
        Self {
            id: record.id.to_string(),
            name: record.name.to_string(),
            account: record.grant.account.clone(),
            vault: record.vault.to_string(),
            vault_key: hex(&record.vault_key),
            created_at: record.created_at,
            expires_at: record.expires_at,
            revoked: record.state == KeyState::Revoked,
            tokens: record.tokens.iter().map(token).collect(),
            models: record.grant.models.clone(),
            requests_per_minute: record.grant.limits.requests_per_minute,
            tokens_per_minute: record.grant.limits.tokens_per_minute,
            concurrent: record.grant.limits.concurrent,
            tokens_per_day: budget(Period::Day),
            tokens_per_month: budget(Period::Month),
            manage_keys: record.grant.manage_keys,
        }
    }

    fn into_record(self) -> Result<KeyRecord, &'static str> {
        let token = |token: PlainToken| {
            let PlainToken {
                digest,
                last4,
                valid_until,
            } = token;
            Some(TokenEntry {
                digest: unhex(&digest)?,
                last4: Last4::of(&last4),
                valid_until,
            })
        };
        let token_budget = match (self.tokens_per_day, self.tokens_per_month) {
            (Some(_), Some(_)) => return Err("a budget is per day or per month, not both"),
            (Some(tokens), None) => Some((tokens, Period::Day)),
            (None, month) => month.map(|tokens| (tokens, Period::Month)),
        };
        let tokens: Option<Tokens> = self.tokens.into_iter().map(token).collect();
        let grant = Grant {
            account: self.account,
            models: self.models,
            limits: Limits {
                requests_per_minute: self.requests_per_minute,
                tokens_per_minute: self.tokens_per_minute,
                concurrent: self.concurrent,
                token_budget,
            },
            manage_keys: self.manage_keys,
        };
        Ok(KeyRecord {
            id: self.id.into(),
            name: self.name.into(),
            vault: self.vault.into(),
            vault_key: unhex(&self.vault_key).ok_or("its vault_key is not hexadecimal")?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            state: if self.revoked {
                KeyState::Revoked
            } else {
                KeyState::Active
            },
            tokens: tokens.ok_or("a digest is not hexadecimal")?,
            grant: Arc::new(grant),
        })
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
