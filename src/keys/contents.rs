//! What the sealed file holds, and its bytes.
//!
//! `edit` changes a `Contents` and writes it; `snapshot` turns one into the look-up tables. The encoding is a plain
//! sequence of little-endian numbers and length-prefixed texts. Decoding is strict: every bound is checked before it
//! is used, duplicates and bytes behind the end are refused. Pure.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use zeroize::{Zeroize as _, Zeroizing};

use super::UnixSeconds;
use super::codec::{Source, Writer};
use super::digest::DigestBits;
use super::entries::{Last4, TokenEntry, Tokens};

/// Version of this encoding, in front of it.
const ENCODING: u16 = 1;

/// A sealed provider key: nonce and tag around a key of any sane length.
const SEALED_KEY_BYTES_MAX: usize = 16 * 1024;
/// Counts per record; no legitimate record comes near.
const ENTRIES_MAX: usize = 4096;

/// Everything in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Keys the hashes of memory keys. Random, made once.
    pub pepper: [u8; 32],
    /// Provider keys by account and provider.
    pub provider_keys: BTreeMap<(String, String), Vec<StoredKey>>,
    /// Memory keys.
    pub keys: Vec<Arc<KeyRecord>>,
}

/// A provider key as it lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// Names it in commands.
    pub id: String,
    /// Sealed for its account and provider.
    pub sealed: Vec<u8>,
    /// For people; empty where the key is short.
    pub last4: String,
    /// When it was stored.
    pub created_at: UnixSeconds,
}

/// Whether a key opens anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It does.
    Active,
    /// It does not, until it is enabled again.
    Revoked,
}

/// A span that a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// A UTC day.
    Day,
    /// A UTC month.
    Month,
}

/// How much a key may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a minute.
    pub tokens_per_minute: Option<u64>,
    /// Requests at once.
    pub concurrent: Option<u32>,
    /// Tokens in a span.
    pub token_budget: Option<(u64, Period)>,
}

/// What a key may. Most keys may the same as many others, and hold one copy of it together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Whose provider keys it uses.
    pub account: String,
    /// Patterns of models it may use; none means all.
    pub models: Vec<String>,
    /// How much it may use.
    pub limits: Limits,
    /// Whether it may mint and revoke keys of its account.
    pub manage_keys: bool,
}

/// A memory key. There may be a million of them: what many have in common is shared, texts have no room to spare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Names it in commands, logs and metrics. Not a secret.
    pub id: Arc<str>,
    /// For people.
    pub name: Box<str>,
    /// Whose memories it reaches. Stays when the token is rotated.
    pub vault: Box<str>,
    /// Encrypts the vault's texts at rest; without the record they cannot be read again.
    pub vault_key: [u8; 32],
    /// When it was made.
    pub created_at: UnixSeconds,
    /// When it stops working.
    pub expires_at: Option<UnixSeconds>,
    /// Whether it works now.
    pub state: KeyState,
    /// The tokens that open it, the current one first.
    pub tokens: Tokens,
    /// What it may.
    pub grant: Arc<Grant>,
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.pepper.zeroize();
    }
}

impl Drop for KeyRecord {
    fn drop(&mut self) {
        self.vault_key.zeroize();
    }
}

/// Why contents are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentsError {
    /// An encoding of another version.
    Version,
    /// They end early, or go on behind their end.
    Length,
    /// A text that is not UTF-8, or a number outside its range.
    Value,
    /// The same id or token twice.
    Duplicate,
}

impl std::fmt::Display for ContentsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Version => "its contents are of another version",
            Self::Length => "its contents are cut off or too long",
            Self::Value => "its contents hold an impossible value",
            Self::Duplicate => "its contents name something twice",
        })
    }
}

impl Contents {
    /// An empty file's contents.
    pub fn new(pepper: [u8; 32]) -> Self {
        Self {
            pepper,
            provider_keys: BTreeMap::new(),
            keys: Vec::new(),
        }
    }

    /// The bytes to seal.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer(Zeroizing::new(Vec::with_capacity(
            256 + self.keys.len() * 256,
        )));
        out.bytes(&ENCODING.to_le_bytes());
        out.bytes(&self.pepper);
        out.number(self.provider_keys.len() as u64);
        for ((account, provider), list) in &self.provider_keys {
            out.text(account);
            out.text(provider);
            out.number(list.len() as u64);
            for key in list {
                out.text(&key.id);
                out.number(key.sealed.len() as u64);
                out.bytes(&key.sealed);
                out.text(&key.last4);
                out.number(key.created_at as u64);
            }
        }
        out.number(self.keys.len() as u64);
        for key in &self.keys {
            key.encode(&mut out);
        }
        out.0
    }

    /// Reads what `encode` wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, ContentsError> {
        Self::decode_beside(bytes, |_| None)
    }

    /// The same where other contents are in use: a record that `known` finds among them, the same in all, is held
    /// together with them.
    pub(super) fn decode_beside(
        bytes: &[u8],
        known: impl Fn(&KeyRecord) -> Option<Arc<KeyRecord>>,
    ) -> Result<Self, ContentsError> {
        let mut from = Source(bytes);
        if u16::from_le_bytes(from.array()?) != ENCODING {
            return Err(ContentsError::Version);
        }
        let mut contents = Self::new(from.array()?);
        for _ in 0..from.count(bytes.len())? {
            let place = (from.text()?.to_owned(), from.text()?.to_owned());
            // As they are written: one order, and so one encoding of the same contents.
            if contents
                .provider_keys
                .last_key_value()
                .is_some_and(|(last, _)| *last > place)
            {
                return Err(ContentsError::Value);
            }
            let mut list = Vec::new();
            for _ in 0..from.count(ENTRIES_MAX)? {
                let id = from.text()?.to_owned();
                let length = from.count(SEALED_KEY_BYTES_MAX)?;
                let sealed = from.bytes(length)?.to_vec();
                list.push(StoredKey {
                    id,
                    sealed,
                    last4: from.text()?.to_owned(),
                    created_at: from.seconds()?,
                });
            }
            if contents.provider_keys.insert(place, list).is_some() {
                return Err(ContentsError::Duplicate);
            }
        }
        // Each record takes far more than a byte, so a count beyond the bytes there are is a lie.
        let count = from.count(bytes.len())?;
        contents.keys.reserve_exact(count.min(bytes.len() / 100));
        let mut grants = Grants::default();
        for _ in 0..count {
            let record = KeyRecord::decode(&mut from, &mut grants)?;
            let record = match known(&record) {
                Some(known) => {
                    grants.adopt(&record.grant, &known.grant);
                    known
                }
                None => Arc::new(record),
            };
            contents.keys.push(record);
        }
        if !from.0.is_empty() {
            return Err(ContentsError::Length);
        }
        contents.check_unique()?;
        Ok(contents)
    }

    fn check_unique(&self) -> Result<(), ContentsError> {
        let count = self.keys.len();
        let mut ids = HashSet::with_capacity_and_hasher(count, ahash::RandomState::default());
        if !self.keys.iter().all(|key| ids.insert(&*key.id)) {
            return Err(ContentsError::Duplicate);
        }
        drop(ids);
        let bits = BuildHasherDefault::<DigestBits>::default();
        let mut digests = HashSet::with_capacity_and_hasher(count, bits);
        let mut tokens = self.keys.iter().flat_map(|key| key.tokens.iter());
        if !tokens.all(|token| digests.insert(&token.digest)) {
            return Err(ContentsError::Duplicate);
        }
        for list in self.provider_keys.values() {
            let mut ids = HashSet::new();
            if !list.iter().all(|key| ids.insert(&*key.id)) {
                return Err(ContentsError::Duplicate);
            }
        }
        Ok(())
    }
}

impl KeyRecord {
    fn encode(&self, out: &mut Writer) {
        let grant = &self.grant;
        for text in [&*self.id, &self.name, &grant.account, &self.vault] {
            out.text(text);
        }
        out.bytes(&self.vault_key);
        out.number(self.created_at as u64);
        out.optional(self.expires_at.map(|at| at as u64));
        out.bytes(&[
            u8::from(self.state == KeyState::Revoked),
            u8::from(grant.manage_keys),
        ]);
        out.number(self.tokens.len() as u64);
        for token in self.tokens.iter() {
            out.bytes(&token.digest);
            out.text(&token.last4);
            out.optional(token.valid_until.map(|at| at as u64));
        }
        out.number(grant.models.len() as u64);
        for model in &grant.models {
            out.text(model);
        }
        out.optional(grant.limits.requests_per_minute.map(u64::from));
        out.optional(grant.limits.tokens_per_minute);
        out.optional(grant.limits.concurrent.map(u64::from));
        out.optional(grant.limits.token_budget.map(|(tokens, _)| tokens));
        out.bytes(&[u8::from(matches!(
            grant.limits.token_budget,
            Some((_, Period::Month))
        ))]);
    }

    fn decode(from: &mut Source<'_>, grants: &mut Grants) -> Result<Self, ContentsError> {
        let (id, name, account, vault) = (from.text()?, from.text()?, from.text()?, from.text()?);
        let vault_key = from.array()?;
        let (created_at, expires_at) = (from.seconds()?, from.optional_seconds()?);
        let state = if from.flag()? {
            KeyState::Revoked
        } else {
            KeyState::Active
        };
        let manage_keys = from.flag()?;
        let count = from.count(ENTRIES_MAX)?;
        let tokens = (0..count).map(|_| {
            Ok(TokenEntry {
                digest: from.array()?,
                last4: Last4::of(from.text()?),
                valid_until: from.optional_seconds()?,
            })
        });
        let tokens = tokens.collect::<Result<Tokens, ContentsError>>()?;
        let count = from.count(ENTRIES_MAX)?;
        let models = (0..count).map(|_| Ok(from.text()?.to_owned()));
        let models = models.collect::<Result<_, ContentsError>>()?;
        let narrow = |value: Option<u64>| {
            value
                .map(u32::try_from)
                .transpose()
                .map_err(|_| ContentsError::Value)
        };
        let requests_per_minute = narrow(from.optional()?)?;
        let tokens_per_minute = from.optional()?;
        let concurrent = narrow(from.optional()?)?;
        let budget = from.optional()?;
        let period = if from.flag()? {
            Period::Month
        } else {
            Period::Day
        };
        let token_budget = budget.map(|tokens| (tokens, period));
        let limits = Limits {
            requests_per_minute,
            tokens_per_minute,
            concurrent,
            token_budget,
        };
        let grant = Grant {
            account: account.to_owned(),
            models,
            limits,
            manage_keys,
        };
        Ok(Self {
            id: id.into(),
            name: name.into(),
            vault: vault.into(),
            vault_key,
            created_at,
            expires_at,
            state,
            tokens,
            grant: grants.shared(grant),
        })
    }
}

/// What was granted so far, each once.
#[derive(Default)]
struct Grants(HashSet<Arc<Grant>, ahash::RandomState>);

impl Grants {
    fn shared(&mut self, grant: Grant) -> Arc<Grant> {
        if let Some(known) = self.0.get(&grant) {
            return known.clone();
        }
        let grant = Arc::new(grant);
        self.0.insert(grant.clone());
        grant
    }

    /// Puts another copy in the place of `own`: what comes behind is granted that one.
    fn adopt(&mut self, own: &Arc<Grant>, other: &Arc<Grant>) {
        if !Arc::ptr_eq(own, other) {
            self.0.replace(other.clone());
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
