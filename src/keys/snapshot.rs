//! The keys as requests meet them: immutable tables, made off the workers from decrypted contents.
//!
//! A look-up is a form check, one HMAC, one table access by the digest's own bits, and a comparison in constant time.
//! Unknown, revoked and expired keys take that same path and come back as the same nothing.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::iter::Chain;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::contents::{Contents, KeyRecord, KeyState};
use super::digest::{self, Digest, DigestBits, TokenHasher};
use super::entries::{Last4, TokenEntry, Tokens};
use super::master::MasterKey;
use super::seal::{self, Header, Place};
use super::{UnixSeconds, token};
use crate::secret::Secret;

type Table = HashSet<Opener, BuildHasherDefault<DigestBits>>;

/// A token that opens a record; its digest stands there.
struct Opener {
    record: Arc<KeyRecord>,
    /// Which of the record's tokens; there are few.
    at: u32,
}

impl Opener {
    fn token(&self) -> &TokenEntry {
        &self.record.tokens[self.at as usize]
    }

    /// No token has this digest: it would have to be found first.
    fn nobody() -> Self {
        let token = TokenEntry {
            digest: [0; 32],
            last4: Last4::default(),
            valid_until: None,
        };
        let record = KeyRecord {
            id: Arc::from(""),
            name: Box::default(),
            vault: Box::default(),
            vault_key: [0; 32],
            created_at: 0,
            expires_at: None,
            state: KeyState::Active,
            tokens: Tokens::from_iter([token]),
            grant: Arc::default(),
        };
        Self {
            record: Arc::new(record),
            at: 0,
        }
    }
}

// A set that is asked for digests: an opener is found, and told from others, by its own.
impl Borrow<Digest> for Opener {
    fn borrow(&self) -> &Digest {
        &self.token().digest
    }
}

impl Hash for Opener {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.token().digest.hash(state);
    }
}

impl PartialEq for Opener {
    fn eq(&self, other: &Self) -> bool {
        self.token().digest == other.token().digest
    }
}

impl Eq for Opener {}

/// One version of all keys.
pub struct Snapshot {
    /// The file's version.
    pub generation: u64,
    /// When that version was written.
    pub created_at: UnixSeconds,
    /// How many memory keys it holds.
    pub keys: usize,
    hasher: TokenHasher,
    table: Table,
    /// In the file's order.
    records: Vec<Arc<KeyRecord>>,
    /// What an unknown token is held against, so that it takes the way of a known one.
    nobody: Opener,
    provider_keys: ByName<ByName<ProviderKeys>>,
}

/// Looked up in each exchange, where the standard hasher costs more than all else about it.
type ByName<T> = HashMap<String, T, ahash::RandomState>;

impl Snapshot {
    /// Builds the tables. None if a provider key does not open at its place.
    pub(super) fn build(
        header: &Header,
        mut contents: Contents,
        master: &MasterKey,
    ) -> Option<Self> {
        let mut provider_keys = ByName::<ByName<ProviderKeys>>::default();
        for ((account, provider), list) in &contents.provider_keys {
            let place = Place { account, provider };
            let open = |stored: &super::StoredKey| {
                let key = seal::open_for(&place, master, &stored.sealed)?;
                Some(ProviderKey {
                    id: stored.id.clone(),
                    secret: Secret::new(key.as_slice()),
                    last4: stored.last4.clone(),
                    created_at: stored.created_at,
                })
            };
            let keys: Box<[ProviderKey]> = list.iter().map(open).collect::<Option<_>>()?;
            let keys = ProviderKeys {
                keys,
                next: AtomicUsize::new(0),
            };
            provider_keys
                .entry(account.clone())
                .or_default()
                .insert(provider.clone(), keys);
        }
        let hasher = TokenHasher::new(&contents.pepper);
        let records = std::mem::take(&mut contents.keys);
        let count = records.iter().map(|record| record.tokens.len()).sum();
        let mut table = Table::with_capacity_and_hasher(count, BuildHasherDefault::default());
        table.extend(records.iter().flat_map(|record| {
            (0..record.tokens.len()).map(|at| Opener {
                record: record.clone(),
                at: at as u32,
            })
        }));
        Some(Self {
            generation: header.generation,
            created_at: header.created_at,
            keys: records.len(),
            hasher,
            table,
            records,
            nobody: Opener::nobody(),
            provider_keys,
        })
    }

    /// The record that a token opens at `now`. None is unknown, revoked or expired, and says not which.
    pub fn authenticate(&self, token: &[u8], now: UnixSeconds) -> Option<&Arc<KeyRecord>> {
        if !token::has_form(token) {
            return None;
        }
        let digest = self.hasher.digest(token);
        let opener = self.table.get(&digest).unwrap_or(&self.nobody);
        let (token, record) = (opener.token(), &opener.record);
        let same = digest::same(&token.digest, &digest);
        let not_over = |end: Option<UnixSeconds>| end.is_none_or(|end| now < end);
        let works = record.state == KeyState::Active
            && not_over(record.expires_at)
            && not_over(token.valid_until);
        (same && works).then_some(record)
    }

    /// The same record, if it is one of these.
    pub(super) fn known(&self, record: &KeyRecord) -> Option<Arc<KeyRecord>> {
        let opener = self.table.get(&record.tokens.first()?.digest)?;
        (*opener.record == *record).then(|| opener.record.clone())
    }

    /// All memory keys, in the order in which they were made.
    pub fn records(&self) -> &[Arc<KeyRecord>] {
        &self.records
    }

    /// The memory key of an id.
    pub fn record(&self, id: &str) -> Option<&Arc<KeyRecord>> {
        self.records.iter().find(|record| *record.id == *id)
    }

    /// All stored provider keys: account, provider, keys.
    pub fn stored(&self) -> impl Iterator<Item = (&str, &str, &ProviderKeys)> {
        self.provider_keys.iter().flat_map(|(account, providers)| {
            let of_account = providers.iter();
            of_account.map(move |(provider, keys)| (account.as_str(), provider.as_str(), keys))
        })
    }

    /// What an account pays a provider with.
    pub fn provider_keys(&self, account: &str, provider: &str) -> Option<&ProviderKeys> {
        self.provider_keys
            .get(account)?
            .get(provider)
            .filter(|keys| !keys.is_empty())
    }
}

/// The keys of one account for one provider, used in turn.
pub struct ProviderKeys {
    keys: Box<[ProviderKey]>,
    next: AtomicUsize,
}

/// The keys that an account has for a provider, in the order in which they pay.
pub type InTurn<'a> = Chain<slice::Iter<'a, ProviderKey>, slice::Iter<'a, ProviderKey>>;

/// A provider key, ready for use.
pub struct ProviderKey {
    /// Names it in commands and logs.
    pub id: String,
    /// The key.
    pub secret: Secret,
    /// For people; empty where the key is short.
    pub last4: String,
    /// When it was stored.
    pub created_at: UnixSeconds,
}

impl ProviderKeys {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// All of them, in the order in which they were stored.
    pub fn iter(&self) -> impl Iterator<Item = &ProviderKey> {
        self.keys.iter()
    }

    /// All of them, starting with the one whose turn it is.
    pub fn in_turn(&self) -> InTurn<'_> {
        // All cores share the turn; one key alone needs none.
        let first = match self.keys.len() {
            0 | 1 => 0,
            several => self.next.fetch_add(1, Ordering::Relaxed) % several,
        };
        self.keys[first..].iter().chain(&self.keys[..first])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_revoked_and_expired_are_nothing() {
        let mut contents = super::super::contents::tests::sample();
        let hasher = TokenHasher::new(&contents.pepper);
        contents.provider_keys.clear();
        for (key, token) in contents
            .keys
            .iter_mut()
            .zip(["mk_good", "mk_expired", "mk_revoked"])
        {
            Arc::make_mut(key).tokens[0].digest = hasher.digest(token.as_bytes());
        }
        let key = Arc::make_mut(&mut contents.keys[0]);
        let old = TokenEntry {
            digest: hasher.digest(b"mk_old"),
            valid_until: Some(100),
            ..key.tokens[0].clone()
        };
        key.tokens = key.tokens.iter().cloned().chain([old]).collect();
        let header = Header {
            key_id: [0; 8],
            generation: 3,
            created_at: 1,
            shrinks: false,
            kdf: None,
        };
        let master =
            MasterKey::new(zeroize::Zeroizing::new(std::array::from_fn(|at| at as u8))).unwrap();
        let snapshot = Snapshot::build(&header, contents, &master).unwrap();
        let id = |token: &str, now| {
            snapshot
                .authenticate(token.as_bytes(), now)
                .map(|key| &*key.id)
        };
        assert_eq!(id("mk_good", 1_000_000), Some("k0"));
        assert_eq!((id("mk_old", 99), id("mk_old", 100)), (Some("k0"), None));
        assert_eq!(
            (id("mk_expired", 8), id("mk_expired", 9)),
            (Some("k1"), None)
        );
        assert_eq!(
            (
                id("mk_revoked", 1),
                id("mk_unknown", 1),
                id("sk-good", 1),
                id("", 1)
            ),
            (None, None, None, None)
        );
        assert_eq!(id(&format!("mk_{}", "a".repeat(1000)), 1), None);
    }
}
