//! Changing the sealed file: read, change, seal anew with the next generation, all under one lock.
//!
//! The command line and the admin API come through here, so two writers at once wait for each other and neither
//! loses the other's change. What is on disk is always the old file or the new one, whole.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use super::UnixSeconds;
use super::contents::{Contents, KeyRecord, KeyState, Limits, StoredKey, TokenEntry};
use super::file::{self, FileError};
use super::master::{KdfParams, MasterError, MasterKey, MasterSource};
use super::seal::{self, Header, Place, SealError};
use super::snapshot::TokenHasher;
use super::store::{self, KeyFiles, Opened, Refusal, Seen};
use super::token::{self, TokenError};
use crate::clock;
use crate::secret::Secret;

/// Names and ids that people give.
const NAME_BYTES_MAX: usize = 128;
const PROVIDER_KEY_BYTES_MAX: usize = 8 * 1024;

/// Why a change was not made.
#[derive(Debug)]
pub enum EditError {
    /// The file as it is cannot be used.
    Refused(Refusal),
    /// It cannot be written.
    File(FileError),
    /// It cannot be sealed.
    Seal(SealError),
    /// The master key.
    Master(MasterError),
    /// No random bytes from the system.
    Random,
    /// An imported token that cannot be a key.
    Token(TokenError),
    /// A token that opens a key already.
    TokenExists,
    /// No such key or provider key.
    NotFound(String),
    /// Not allowed as it stands; the text says why.
    Invalid(String),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::File(error) => write!(f, "key snapshot {error}"),
            Self::Seal(error) => write!(f, "key snapshot cannot be sealed: {error}"),
            Self::Master(error) => write!(f, "{error}"),
            Self::Random => f.write_str("the system gives no random bytes"),
            Self::Token(error) => write!(f, "{error}"),
            Self::TokenExists => f.write_str("this token is a key already"),
            Self::NotFound(what) => write!(f, "no such {what}"),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for EditError {}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, EditError> {
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

/// Makes a master key and an empty sealed file. Overwrites nothing.
pub fn init(snapshot: &Path, master_key: &Path) -> Result<(), EditError> {
    if snapshot.exists() || master_key.exists() {
        return Err(EditError::File(FileError::Exists));
    }
    let master = new_master()?;
    file::create_private(master_key, master.to_line().as_bytes()).map_err(EditError::File)?;
    let contents = Contents::new(*random()?);
    let header = header(&master, 1, false, None);
    let bytes =
        seal::seal(&header, &master, *random()?, &contents.encode()).map_err(EditError::Seal)?;
    file::create_private(snapshot, &bytes).map_err(EditError::File)
}

fn new_master() -> Result<MasterKey, EditError> {
    // The check is for keys that people bring; one from the system fails it less than once in 10^30.
    MasterKey::new(random()?).map_err(|_| EditError::Random)
}

fn header(master: &MasterKey, generation: u64, shrinks: bool, kdf: Option<KdfParams>) -> Header {
    Header {
        key_id: seal::key_id(master),
        generation,
        created_at: clock::unix_seconds(),
        shrinks,
        kdf,
    }
}

/// What is in the file now, without the lock.
pub fn inspect(files: &KeyFiles) -> Result<(Header, Contents), Refusal> {
    let opened = store::open_file(files)?;
    Ok((opened.header, opened.contents))
}

/// Changes the contents. The file is written only if `change` succeeds.
pub fn edit<T>(
    files: &KeyFiles,
    change: impl FnOnce(&mut Editor<'_>) -> Result<T, EditError>,
) -> Result<T, EditError> {
    write(files, false, |contents, master| {
        change(&mut Editor { contents, master })
    })
}

/// Puts other contents in the place of all there are, then lets `change` add to them. `shrinks` says that keys may be
/// missing on purpose.
pub fn replace(
    files: &KeyFiles,
    contents: Contents,
    shrinks: bool,
    change: impl FnOnce(&mut Editor<'_>) -> Result<(), EditError>,
) -> Result<(), EditError> {
    write(files, shrinks, |current, master| {
        *current = contents;
        change(&mut Editor {
            contents: current,
            master,
        })
    })
}

/// Lets `read` see the contents with the means to open their provider keys: account, provider, stored key to key.
pub fn reveal<T>(
    files: &KeyFiles,
    read: impl FnOnce(
        &Contents,
        &dyn Fn(&str, &str, &StoredKey) -> Option<Secret>,
    ) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let Opened {
        contents, master, ..
    } = store::open_file(files)?;
    let open = |account: &str, provider: &str, stored: &StoredKey| {
        let key = seal::open_for(&Place { account, provider }, &master, &stored.sealed)?;
        Some(Secret::new(key.as_slice()))
    };
    read(&contents, &open)
}

fn write<T>(
    files: &KeyFiles,
    shrinks: bool,
    change: impl FnOnce(&mut Contents, &MasterKey) -> Result<T, EditError>,
) -> Result<T, EditError> {
    let _lock = file::lock(&files.snapshot).map_err(EditError::File)?;
    let Opened {
        header: before,
        mut contents,
        master,
        file_hash,
    } = open_current(files)?;
    let _ = file_hash;
    let result = change(&mut contents, &master)?;
    let encoded = contents.encode();
    // What could not be read again is not written.
    Contents::decode(&encoded).map_err(|error| EditError::Refused(Refusal::Contents(error)))?;
    let header = header(&master, before.generation + 1, shrinks, before.kdf);
    let bytes = seal::seal(&header, &master, *random()?, &encoded).map_err(EditError::Seal)?;
    file::replace_private(&files.snapshot, &bytes).map_err(EditError::File)?;
    Ok(result)
}

/// The file, if it is not older than one that was in use: a change would make an old version look new.
fn open_current(files: &KeyFiles) -> Result<Opened, EditError> {
    let opened = store::open_file(files).map_err(EditError::Refused)?;
    if let Some(seen) = Seen::read(&files.seen()) {
        seen.admits(&opened.header, &opened.file_hash)
            .map_err(EditError::Refused)?;
    }
    Ok(opened)
}

/// Seals everything under a new master key, and leaves only that in the key file. While both files change, the key
/// file holds old and new, so a router that loads at any moment finds what it needs.
pub fn rekey(files: &KeyFiles) -> Result<(), EditError> {
    let MasterSource::File(path) = &files.master else {
        return Err(EditError::Invalid(
            "a passphrase is changed by writing its file; rekey makes key files".into(),
        ));
    };
    let _lock = file::lock(&files.snapshot).map_err(EditError::File)?;
    let Opened {
        header: before,
        mut contents,
        master: old,
        ..
    } = open_current(files)?;
    let new = new_master()?;
    for ((account, provider), list) in &mut contents.provider_keys {
        let place = Place { account, provider };
        for stored in list {
            let key = seal::open_for(&place, &old, &stored.sealed)
                .ok_or(EditError::Refused(Refusal::ProviderKey))?;
            stored.sealed =
                seal::seal_for(&place, &new, *random()?, &key).ok_or(EditError::Random)?;
        }
    }
    let header = header(&new, before.generation + 1, false, None);
    let bytes =
        seal::seal(&header, &new, *random()?, &contents.encode()).map_err(EditError::Seal)?;
    let both = Zeroizing::new([new.to_line().as_bytes(), old.to_line().as_bytes()].concat());
    file::replace_private(path, &both).map_err(EditError::File)?;
    file::replace_private(&files.snapshot, &bytes).map_err(EditError::File)?;
    file::replace_private(path, new.to_line().as_bytes()).map_err(EditError::File)
}

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

/// The contents while they are changed.
pub struct Editor<'a> {
    /// As they are.
    pub contents: &'a mut Contents,
    master: &'a MasterKey,
}

impl Editor<'_> {
    /// Adds a memory key; returns its record and the token, which is shown once and kept nowhere.
    pub fn add_key(&mut self, new: NewKey) -> Result<(KeyRecord, Secret), EditError> {
        check_name("account", &new.account)?;
        if new.name.len() > NAME_BYTES_MAX {
            return Err(EditError::Invalid(format!(
                "a name has at most {NAME_BYTES_MAX} bytes"
            )));
        }
        let (token, entry) = self.token(new.token)?;
        let record = KeyRecord {
            id: new_id("key")?,
            name: new.name,
            account: new.account,
            vault: new_id("vault")?,
            vault_key: *random()?,
            created_at: clock::unix_seconds(),
            expires_at: new.expires_at,
            state: KeyState::Active,
            tokens: vec![entry],
            models: new.models,
            limits: new.limits,
            manage_keys: new.manage_keys,
        };
        self.contents.keys.push(record.clone());
        Ok((record, token))
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
            .flat_map(|key| &key.tokens)
            .any(|known| known.digest == digest)
        {
            return Err(EditError::TokenExists);
        }
        let entry = TokenEntry {
            digest,
            last4: token.last4(),
            valid_until: None,
        };
        Ok((token, entry))
    }

    /// The record of an id.
    pub fn key(&mut self, id: &str) -> Result<&mut KeyRecord, EditError> {
        let found = self.contents.keys.iter_mut().find(|key| key.id == id);
        found.ok_or_else(|| EditError::NotFound(format!("key: {id}")))
    }

    /// Revokes a key, or takes that back.
    pub fn set_state(&mut self, id: &str, state: KeyState) -> Result<KeyRecord, EditError> {
        let key = self.key(id)?;
        key.state = state;
        Ok(key.clone())
    }

    /// Gives a key a new token; the old one works until `old_until`.
    pub fn rotate(
        &mut self,
        id: &str,
        old_until: UnixSeconds,
    ) -> Result<(KeyRecord, Secret), EditError> {
        let (token, entry) = self.token(None)?;
        let now = clock::unix_seconds();
        let key = self.key(id)?;
        // An earlier end stays: rotating again must not lengthen the life of a token that is on its way out.
        for old in &mut key.tokens {
            old.valid_until = Some(old.valid_until.map_or(old_until, |end| end.min(old_until)));
        }
        key.tokens
            .retain(|old| old.valid_until.is_none_or(|end| end > now));
        key.tokens.insert(0, entry);
        Ok((key.clone(), token))
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
        if token::is_memory_key(bytes) {
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

/// Accounts and providers are named in files, paths and logs.
fn check_name(what: &str, name: &str) -> Result<(), EditError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        return Err(EditError::Invalid(format!(
            "{what}: 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 - _ . @ :"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
