//! Changing the sealed file: read, change, seal anew with the next generation, all under one lock.
//!
//! The command line and the admin API come through here, so two writers at once wait for each other and neither
//! loses the other's change. What is on disk is always the old file or the new one, whole.

use std::fmt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::contents::{Contents, KeyRecord, StoredKey};
use super::editor::{Editor, check_records, random};
use super::master::{self, KdfParams, MasterError, MasterKey, MasterSource};
use super::open::{self, Closed, Opened};
use super::seal::{self, Header, Place, SealError};
use super::seen::Seen;
use super::snapshot::Snapshot;
use super::store::{KeyFiles, KeyStore, Refusal, Reload};
use super::token::TokenError;
use crate::clock;
use crate::files::{self, FileError, Lock, Prepared};
use crate::secret::Secret;

/// Why a change was not made.
#[derive(Debug)]
pub enum EditError {
    /// The file as it is cannot be used.
    Refused(Refusal),
    /// A file that cannot be read or written.
    File(PathBuf, FileError),
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
    /// The file has no room left for keys that callers make.
    Full,
    /// Not allowed as it stands; the text says why.
    Invalid(String),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::File(path, error) => write!(f, "{} {error}", path.display()),
            Self::Seal(error) => write!(f, "key snapshot cannot be sealed: {error}"),
            Self::Master(error) => write!(f, "{error}"),
            Self::Random => f.write_str("the system gives no random bytes"),
            Self::Token(error) => write!(f, "{error}"),
            Self::TokenExists => f.write_str("this token is a key already"),
            Self::NotFound(what) => write!(f, "no such {what}"),
            Self::Full => f.write_str("key snapshot has no room left for keys that callers make"),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for EditError {}

/// Whether [`init`] has what it needs. Makes nothing.
pub fn check_init(files: &KeyFiles) -> Result<(), EditError> {
    if files.snapshot.exists() {
        return Err(EditError::File(files.snapshot.clone(), FileError::Exists));
    }
    if files.seen().exists() {
        return Err(EditError::Invalid(format!(
            "{} is missing and was in use: put it back, or remove {} to begin anew",
            files.snapshot.display(),
            files.seen().display()
        )));
    }
    match &files.master {
        MasterSource::Passphrase(path) => master::read_passphrases(path).map(drop),
        MasterSource::File(path) if path.exists() => MasterKey::read_file(path).map(drop),
        MasterSource::File(_) => Ok(()),
    }
    .map_err(EditError::Master)
}

/// Makes an empty sealed file: under the key or passphrase that is there, else under a new key in a new file.
/// Overwrites nothing.
pub fn init(files: &KeyFiles) -> Result<(), EditError> {
    check_init(files)?;
    let (master, kdf) = match &files.master {
        MasterSource::Passphrase(path) => {
            let kdf = KdfParams::new(*random()?);
            let lines = master::read_passphrases(path).map_err(EditError::Master)?;
            (stretch(&lines[0], &kdf)?, Some(kdf))
        }
        MasterSource::File(path) if path.exists() => {
            let keys = MasterKey::read_file(path).map_err(EditError::Master)?;
            (keys.into_iter().next().ok_or(EditError::Random)?, None)
        }
        MasterSource::File(path) => {
            let master = new_master()?;
            files::create_private(path, master.to_line().as_bytes()).map_err(at(path))?;
            (master, None)
        }
    };
    let contents = Contents::new(*random()?);
    let header = header(&master, 1, false, kdf);
    let bytes =
        seal::seal(&header, &master, *random()?, &contents.encode()).map_err(EditError::Seal)?;
    files::create_private(&files.snapshot, &bytes).map_err(at(&files.snapshot))
}

fn at(path: &Path) -> impl FnOnce(FileError) -> EditError {
    move |error| EditError::File(path.to_owned(), error)
}

fn stretch(passphrase: &Secret, kdf: &KdfParams) -> Result<MasterKey, EditError> {
    MasterKey::from_passphrase(passphrase.expose(), kdf).map_err(EditError::Master)
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
    let opened = open::open_file(files, None)?;
    Ok((opened.header, opened.contents))
}

/// The same as a start or a change would find it: `files` may name another file than the one that was in use last, and
/// `used` is the one that it would take the place of.
pub fn inspect_for_use(files: &KeyFiles, used: &KeyFiles) -> Result<(Header, Contents), Refusal> {
    let opened = open::open_file(files, None)?;
    if files.snapshot == used.snapshot {
        admitted(&opened, used)?;
    } else {
        fits(&opened, used)?;
    }
    Ok((opened.header, opened.contents))
}

/// Puts the file `new` in the place of the one in use, if a router takes it there. The old one stays beside it.
pub fn put(files: &KeyFiles, new: &Path) -> Result<(), EditError> {
    let _lock = locked(&files.snapshot)?;
    let closed = Closed::read(new).map_err(at(new))?;
    let bytes = closed.bytes().to_vec();
    let opened = closed.open(&files.master, None);
    let opened = opened.map_err(EditError::Refused)?;
    fits(&opened, files).map_err(EditError::Refused)?;
    let mut before = files.snapshot.clone().into_os_string();
    before.push(".before");
    let before = PathBuf::from(before);
    if files.snapshot.exists() {
        files::keep_as(&files.snapshot, &before).map_err(at(&before))?;
    }
    files::replace_private(&files.snapshot, &bytes).map_err(at(&files.snapshot))
}

fn admitted(opened: &Opened, used: &KeyFiles) -> Result<(), Refusal> {
    let seen = Seen::read(&used.seen())?;
    seen.map_or(Ok(()), |seen| seen.admits(opened))
}

/// Whether a file may take the place of the one in `used`: that may hold changes which no router has met yet, and tells
/// how many keys there were.
fn fits(opened: &Opened, used: &KeyFiles) -> Result<(), Refusal> {
    admitted(opened, used)?;
    // One that is of no use itself is nothing to be held against.
    let Ok(current) = open::open_file(used, None) else {
        return Ok(());
    };
    if admitted(&current, used).is_err() {
        return Ok(());
    }
    Seen::of(&current).admits(opened)
}

/// Changes the contents. The file is written only if `change` succeeds.
pub fn edit<T>(
    files: &KeyFiles,
    change: impl FnOnce(&mut Editor<'_>) -> Result<T, EditError>,
) -> Result<T, EditError> {
    edit_beside(files, None, change)
}

fn edit_beside<T>(
    files: &KeyFiles,
    used: Option<&Snapshot>,
    change: impl FnOnce(&mut Editor<'_>) -> Result<T, EditError>,
) -> Result<T, EditError> {
    write(files, false, used, |editor| {
        let before = editor.contents.keys.len();
        let result = change(editor)?;
        // Keys that an editor takes out are meant to go, the last one too.
        Ok((result, editor.contents.keys.len() < before))
    })
}

impl KeyStore {
    /// Changes the file of a running router. One that the router refuses is left as it is: it would refuse it with the
    /// change too, and what was asked for would be in use nowhere.
    pub fn edit<T>(
        &self,
        change: impl FnOnce(&mut Editor<'_>) -> Result<T, EditError>,
    ) -> Result<T, EditError> {
        if let Reload::Refused(refusal) = self.reload() {
            return Err(EditError::Refused(refusal));
        }
        edit_beside(self.files(), Some(&self.current()), change)
    }
}

/// Puts other contents in the place of all there are, then lets `change` add to them. `shrinks` says that keys may be
/// missing on purpose.
pub fn replace(
    files: &KeyFiles,
    contents: Contents,
    shrinks: bool,
    change: impl FnOnce(&mut Editor<'_>) -> Result<(), EditError>,
) -> Result<(), EditError> {
    write(files, shrinks, None, |editor| {
        check_records(&contents.keys)?;
        *editor.contents = contents;
        change(editor)?;
        Ok(((), shrinks))
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
    } = open::open_file(files, None)?;
    let open = |account: &str, provider: &str, stored: &StoredKey| {
        let key = seal::open_for(&Place { account, provider }, &master, &stored.sealed)?;
        Some(Secret::new(key.as_slice()))
    };
    read(&contents, &open)
}

/// `change` says with its result whether keys may be missing on purpose; `lost` that they may be missing already. What
/// is in `used` already is not held twice.
fn write<T>(
    files: &KeyFiles,
    lost: bool,
    used: Option<&Snapshot>,
    change: impl FnOnce(&mut Editor<'_>) -> Result<(T, bool), EditError>,
) -> Result<T, EditError> {
    let _lock = locked(&files.snapshot)?;
    let (current, shrinking) = open_current(files, lost, used)?;
    let Opened {
        header: before,
        mut contents,
        master,
        file_bytes,
        ..
    } = current;
    let (result, shrinks) = change(&mut Editor {
        contents: &mut contents,
        master: &master,
        file_bytes,
    })?;
    let encoded = contents.encode();
    drop(contents);
    // What could not be read again is not written.
    let known = |record: &KeyRecord| used?.known(record);
    Contents::decode_beside(&encoded, known)
        .map_err(|error| EditError::Refused(Refusal::Contents(error)))?;
    let shrinks = shrinks || shrinking;
    let header = header(&master, before.generation + 1, shrinks, before.kdf);
    let bytes = seal::seal(&header, &master, *random()?, &encoded).map_err(EditError::Seal)?;
    files::replace_private(&files.snapshot, &bytes).map_err(at(&files.snapshot))?;
    Ok(result)
}

fn locked(snapshot: &Path) -> Result<Lock, EditError> {
    let lock = files::lock(snapshot).map_err(at(snapshot))?;
    files::clear_leftovers(snapshot);
    Ok(lock)
}

/// The file, if it is not older than one that was in use: a change would make an old version look new. And whether keys
/// are missing in it, on purpose, that are still in use: a router sees only the last of several changes.
fn open_current(
    files: &KeyFiles,
    lost: bool,
    used: Option<&Snapshot>,
) -> Result<(Opened, bool), EditError> {
    let opened = open::open_file(files, used).map_err(EditError::Refused)?;
    match admitted(&opened, files) {
        Err(Refusal::Shrunk { .. }) if lost => {}
        judged => judged.map_err(EditError::Refused)?,
    }
    let seen = Seen::read(&files.seen()).map_err(EditError::Refused)?;
    let taken = seen.is_some_and(|seen| seen.generation >= opened.header.generation);
    let shrinking = opened.header.shrinks && !taken;
    Ok((opened, shrinking))
}

/// Seals everything under a new master key, or under `passphrase` where a passphrase is in use, and leaves only that
/// in the key file. While both files change, the key file holds old and new, so a router that loads at any moment
/// finds what it needs.
pub fn rekey(files: &KeyFiles, passphrase: Option<&Secret>) -> Result<(), EditError> {
    let path = files.master.path();
    let _lock = locked(&files.snapshot)?;
    files::clear_leftovers(path);
    let (new, kdf, line) = match (&files.master, passphrase) {
        (MasterSource::File(_), None) => {
            let new = new_master()?;
            let line = Zeroizing::new(new.to_line().as_bytes().to_vec());
            (new, None, line)
        }
        (MasterSource::Passphrase(_), Some(passphrase)) => {
            master::check_new_passphrase(passphrase.expose())
                .map_err(|why| EditError::Invalid(why.into()))?;
            let kdf = KdfParams::new(*random()?);
            let line = master::passphrase_line(passphrase);
            (stretch(passphrase, &kdf)?, Some(kdf), line)
        }
        (MasterSource::File(_), Some(_)) => {
            return Err(EditError::Invalid(
                "a key file is in use, no passphrase".into(),
            ));
        }
        (MasterSource::Passphrase(_), None) => {
            return Err(EditError::Invalid("the new passphrase is missing".into()));
        }
    };
    let (current, shrinks) = open_current(files, false, None)?;
    let Opened {
        header: before,
        mut contents,
        master: old,
        ..
    } = current;
    for ((account, provider), list) in &mut contents.provider_keys {
        let place = Place { account, provider };
        for stored in list {
            let key = seal::open_for(&place, &old, &stored.sealed)
                .ok_or(EditError::Refused(Refusal::ProviderKey))?;
            stored.sealed =
                seal::seal_for(&place, &new, *random()?, &key).ok_or(EditError::Random)?;
        }
    }
    let header = header(&new, before.generation + 1, shrinks, kdf);
    let bytes =
        seal::seal(&header, &new, *random()?, &contents.encode()).map_err(EditError::Seal)?;
    // Only the line that opens the present file, so that what a killed change has left does not add up.
    let opening = files.master.line_of(&old, &before);
    let opening = opening.map_err(EditError::Master)?;
    let both = Zeroizing::new(
        [
            line.as_slice(),
            opening.as_deref().map_or(&[], Vec::as_slice),
        ]
        .concat(),
    );
    let original = files::read_private(path, master::FILE_BYTES_MAX).map_err(at(path))?;
    let original = Zeroizing::new(original);
    // What needs room takes it before anything is changed.
    let sealed = Prepared::new(&files.snapshot, &bytes).map_err(at(&files.snapshot))?;
    files::replace_private(path, &both).map_err(at(path))?;
    if let Err(error) = sealed.put() {
        // The old file is still in its place. If this fails too, the key file opens old and new.
        let _ = files::replace_private(path, &original);
        return Err(at(&files.snapshot)(error));
    }
    files::sync_directory(&files.snapshot).map_err(at(&files.snapshot))?;
    files::replace_private(path, &line).map_err(at(path))
}

#[cfg(test)]
mod tests;
