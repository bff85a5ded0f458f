//! The changes that can be made to the sealed file's contents: keys added, ended, rotated; provider keys stored, removed.
//!
//! `edit` hands an `Editor` to its caller under the lock. Every change leaves contents that `contents` would accept.

use std::collections::HashSet;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::UnixSeconds;
use super::contents::{Contents, Grant, KeyRecord, KeyState, Limits, StoredKey};
use super::digest::TokenHasher;
use super::edit::EditError;
use super::entries::{Last4, TokenEntry, Tokens};
use super::master::MasterKey;
use super::seal::{self, Place};
use super::token;
use crate::clock;
use crate::secret::{Secret, is_memory_key};

/// Names and ids that people give.
const NAME_BYTES_MAX: usize = 128;
const PROVIDER_KEY_BYTES_MAX: usize = 8 * 1024;
/// Patterns of models on one key.
const PATTERNS_MAX: usize = 256;
const PATTERN_BYTES_MAX: usize = 256;

/// From this size of the file on, keys over the API make no more: a quarter of what it may have, and some 400,000 keys.
const MINTED_FILE_BYTES_MAX: usize = seal::FILE_BYTES_MAX / 4;

/// A key to be made.
#[derive(Debug, Default)]
pub struct NewKey {
    /// For people; empty is allowed.
    pub name: String,
    /// Whose provider keys it uses.
    pub account: String,
    /// When it stops working.
    pub expires_at: Option<UnixSeconds>,
    /// Patterns of models.
    pub models: Vec<String>,
    /// What it may use.
    pub limits: Limits,
    /// Whether it may mint and revoke.
    pub manage_keys: bool,
    /// A token made elsewhere; else one is minted.
    pub token: Option<Secret>,
}

/// What is to change of a key; what is none stays.
#[derive(Debug, Default)]
pub struct KeyChange {
    /// For people.
    pub name: Option<String>,
    /// Whether it opens anything.
    pub state: Option<KeyState>,
    /// When it stops working; `Some(None)` is never.
    pub expires_at: Option<Option<UnixSeconds>>,
    /// Patterns of models.
    pub models: Option<Vec<String>>,
    /// What it may use.
    pub limits: Option<Limits>,
    /// Whether it may mint and revoke.
    pub manage_keys: Option<bool>,
}

/// The contents while they are changed.
pub struct Editor<'a> {
    /// As they are.
    pub contents: &'a mut Contents,
    pub(super) master: &'a MasterKey,
    /// The file's size before the change.
    pub(super) file_bytes: usize,
}

impl Editor<'_> {
    /// Adds a memory key; returns its record and the token, which is shown once and kept nowhere.
    pub fn add_key(&mut self, new: NewKey) -> Result<(Arc<KeyRecord>, Secret), EditError> {
        check_name("account", &new.account)?;
        check_words(&new.name, &new.models)?;
        let (token, entry) = self.token(new.token)?;
        let grant = Grant {
            account: new.account,
            models: new.models,
            limits: new.limits,
            manage_keys: new.manage_keys,
        };
        let record = Arc::new(KeyRecord {
            id: new_id("key")?.into(),
            name: new.name.into(),
            vault: new_id("vault")?.into(),
            vault_key: *random()?,
            created_at: clock::unix_seconds(),
            expires_at: new.expires_at,
            state: KeyState::Active,
            tokens: Tokens::from_iter([entry]),
            grant: Arc::new(grant),
        });
        self.contents.keys.push(record.clone());
        Ok((record, token))
    }

    /// The same for a caller. Where others have filled the file, what is left of it is the operator's.
    pub fn mint_key(&mut self, new: NewKey) -> Result<(Arc<KeyRecord>, Secret), EditError> {
        if self.file_bytes > MINTED_FILE_BYTES_MAX {
            return Err(EditError::Full);
        }
        self.add_key(new)
    }

    fn token(&self, imported: Option<Secret>) -> Result<(Secret, TokenEntry), EditError> {
        let token = match imported {
            Some(token) => {
                token::check_imported(token.expose()).map_err(EditError::Token)?;
                token
            }
            None => token::mint(*random()?),
        };
        let digest = TokenHasher::new(&self.contents.pepper).digest(token.expose());
        if self
            .contents
            .keys
            .iter()
            .flat_map(|key| key.tokens.iter())
            .any(|known| known.digest == digest)
        {
            return Err(EditError::TokenExists);
        }
        let entry = TokenEntry {
            digest,
            last4: Last4::of(&token.last4()),
            valid_until: None,
        };
        Ok((token, entry))
    }

    /// The record of an id.
    pub fn key(&self, id: &str) -> Result<&Arc<KeyRecord>, EditError> {
        self.place(id).map(|at| &self.contents.keys[at])
    }

    /// The same, to be changed: the copy of it that is in use stays as it is.
    fn key_mut(&mut self, id: &str) -> Result<&mut Arc<KeyRecord>, EditError> {
        self.place(id).map(|at| &mut self.contents.keys[at])
    }

    fn place(&self, id: &str) -> Result<usize, EditError> {
        let found = self.contents.keys.iter().position(|key| *key.id == *id);
        found.ok_or_else(|| EditError::NotFound(format!("key: {}", token::told_id(id))))
    }

    /// Revokes a key, or takes that back.
    pub fn set_state(&mut self, id: &str, state: KeyState) -> Result<Arc<KeyRecord>, EditError> {
        let key = self.key_mut(id)?;
        Arc::make_mut(key).state = state;
        Ok(key.clone())
    }

    /// Takes a key out for good, and with it the only means to read its vault.
    pub fn remove_key(&mut self, id: &str) -> Result<Arc<KeyRecord>, EditError> {
        let at = self.place(id)?;
        Ok(self.contents.keys.remove(at))
    }

    /// Changes a key's settings; its token and its memory stay.
    pub fn change_key(&mut self, id: &str, change: KeyChange) -> Result<Arc<KeyRecord>, EditError> {
        // What stays was taken once, and must hinder no change of something else.
        let name = change.name.as_deref().unwrap_or_default();
        check_words(name, change.models.as_deref().unwrap_or_default())?;
        let record = self.key_mut(id)?;
        let key = Arc::make_mut(record);
        if let Some(name) = change.name {
            key.name = name.into();
        }
        key.state = change.state.unwrap_or(key.state);
        key.expires_at = change.expires_at.unwrap_or(key.expires_at);
        let grant = Arc::make_mut(&mut key.grant);
        if let Some(models) = change.models {
            grant.models = models;
        }
        grant.limits = change.limits.unwrap_or(grant.limits);
        grant.manage_keys = change.manage_keys.unwrap_or(grant.manage_keys);
        Ok(record.clone())
    }

    /// Gives a key a new token; the old one works until `old_until`.
    pub fn rotate(
        &mut self,
        id: &str,
        old_until: UnixSeconds,
    ) -> Result<(Arc<KeyRecord>, Secret), EditError> {
        let (token, entry) = self.token(None)?;
        let now = clock::unix_seconds();
        let record = self.key_mut(id)?;
        let key = Arc::make_mut(record);
        // An earlier end stays: rotating again must not lengthen the life of a token that is on its way out.
        for old in key.tokens.iter_mut() {
            old.valid_until = Some(old.valid_until.map_or(old_until, |end| end.min(old_until)));
        }
        let lives = |old: &&TokenEntry| old.valid_until.is_none_or(|end| end > now);
        let old = key.tokens.iter().filter(lives).cloned();
        key.tokens = [entry].into_iter().chain(old).collect();
        Ok((record.clone(), token))
    }

    /// Stores a provider key for an account; returns its id.
    pub fn add_provider_key(
        &mut self,
        account: &str,
        provider: &str,
        key: &Secret,
    ) -> Result<StoredKey, EditError> {
        check_name("account", account)?;
        check_name("provider", provider)?;
        let bytes = key.expose();
        if bytes.is_empty()
            || bytes.len() > PROVIDER_KEY_BYTES_MAX
            || !bytes.iter().all(u8::is_ascii_graphic)
        {
            return Err(EditError::Invalid(
                "a provider key is one line of visible ASCII characters".into(),
            ));
        }
        if is_memory_key(bytes) {
            return Err(EditError::Invalid(
                "this is a memory key; a provider key comes from the provider".into(),
            ));
        }
        let place = Place { account, provider };
        let sealed =
            seal::seal_for(&place, self.master, *random()?, bytes).ok_or(EditError::Random)?;
        let list = self
            .contents
            .provider_keys
            .entry((account.to_owned(), provider.to_owned()))
            .or_default();
        let number = list
            .iter()
            .filter_map(|key| key.id.parse::<u32>().ok())
            .max()
            .unwrap_or(0)
            + 1;
        let stored = StoredKey {
            id: number.to_string(),
            sealed,
            last4: key.last4(),
            created_at: clock::unix_seconds(),
        };
        list.push(stored.clone());
        Ok(stored)
    }

    /// Removes one provider key by id, or all of an account for a provider; returns how many.
    pub fn remove_provider_keys(
        &mut self,
        account: &str,
        provider: &str,
        id: Option<&str>,
    ) -> Result<usize, EditError> {
        let place = (account.to_owned(), provider.to_owned());
        let missing =
            || EditError::NotFound(format!("key of account {account} for provider: {provider}"));
        let list = self
            .contents
            .provider_keys
            .get_mut(&place)
            .ok_or_else(missing)?;
        let before = list.len();
        list.retain(|key| id.is_some_and(|id| key.id != id));
        let removed = before - list.len();
        if list.is_empty() {
            self.contents.provider_keys.remove(&place);
        }
        if removed == 0 {
            Err(missing())
        } else {
            Ok(removed)
        }
    }
}

/// Records that were not made here: each must be one that could have been.
pub(super) fn check_records(records: &[Arc<KeyRecord>]) -> Result<(), EditError> {
    let (mut ids, mut vaults) = (HashSet::new(), HashSet::new());
    for record in records {
        let named = |error: EditError| EditError::Invalid(format!("key {:?}: {error}", record.id));
        check_name("id", &record.id).map_err(named)?;
        check_name("account", &record.grant.account).map_err(named)?;
        check_name("vault", &record.vault).map_err(named)?;
        check_words(&record.name, &record.grant.models).map_err(named)?;
        let wrong = |why: &str| Err(named(EditError::Invalid(why.into())));
        if record.tokens.is_empty() {
            return wrong("it has no token");
        }
        if !ids.insert(&*record.id) {
            return wrong("the id stands there twice");
        }
        if !vaults.insert(&*record.vault) {
            return wrong("its vault is another key's");
        }
    }
    Ok(())
}

/// The name and the patterns that people give a key.
fn check_words(name: &str, models: &[String]) -> Result<(), EditError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(EditError::Invalid(format!(
            "a name has at most {NAME_BYTES_MAX} bytes"
        )));
    }
    if name.contains(steers) {
        return Err(EditError::Invalid(
            "a name has no control characters".into(),
        ));
    }
    // Wherever patterns are written in one line, commas and white space lie between them.
    let odd = |c: char| c == ',' || c.is_whitespace() || steers(c);
    let fits = |pattern: &String| {
        !pattern.is_empty() && pattern.len() <= PATTERN_BYTES_MAX && !pattern.contains(odd)
    };
    if models.len() > PATTERNS_MAX || !models.iter().all(fits) {
        return Err(EditError::Invalid(format!(
            "models: at most {PATTERNS_MAX} patterns of 1 to {PATTERN_BYTES_MAX} bytes, without commas and white space"
        )));
    }
    Ok(())
}

/// Whether a character steers what shows it: a terminal's controls, or those that turn the direction of the text around.
pub fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Accounts and providers are named in files, paths and logs.
fn check_name(what: &str, name: &str) -> Result<(), EditError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte);
    // Dots alone are folders, to whoever puts a name into a path.
    let dots = matches!(name, "." | "..");
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) || dots {
        return Err(EditError::Invalid(format!(
            "{what}: 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 - _ . @ :, and not . or .."
        )));
    }
    Ok(())
}

/// Random bytes of the system's.
pub(super) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, EditError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).map_err(|_| EditError::Random)?;
    Ok(bytes)
}

/// An id that a person can read out: a word and 16 characters.
fn new_id(word: &str) -> Result<String, EditError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes = random::<16>()?;
    let letters = bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    Ok(format!("{word}_{}", letters.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_leave_room_in_the_file_for_the_operator() {
        let mut contents = Contents::new([7; 32]);
        let master = MasterKey::new(zeroize::Zeroizing::new(std::array::from_fn(|at| at as u8)));
        let master = &master.unwrap();
        let new = || NewKey {
            account: "default".into(),
            ..NewKey::default()
        };
        for (file_bytes, has_room) in [
            (0, true),
            (MINTED_FILE_BYTES_MAX, true),
            (MINTED_FILE_BYTES_MAX + 1, false),
        ] {
            let mut editor = Editor {
                contents: &mut contents,
                master,
                file_bytes,
            };
            let minted = editor.mint_key(new());
            assert_eq!(matches!(minted, Err(EditError::Full)), !has_room);
            assert!(editor.add_key(new()).is_ok());
        }
        assert_eq!(contents.keys.len(), 5);
    }

    #[test]
    fn words_that_steer_or_run_together_are_refused() {
        let judged = |name: &str, model: &str| check_words(name, &[model.to_owned()]).is_ok();
        assert!(judged("Büro, 2. Stock", "openai/gpt-4*"));
        assert!(judged("משרד", "*"));
        for name in ["a\nb", "\u{1b}[2J", "\u{9b}2J", "x\u{202e}y", "\u{2067}"] {
            assert!(!judged(name, "*"), "{name:?}");
        }
        for model in ["", "a, b", "a,b", "a b", " a", "a\t", "a\u{0}", "\u{202e}a"] {
            assert!(!judged("", model), "{model:?}");
        }
    }
}
