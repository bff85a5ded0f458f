//! The master key: 32 bytes that open the sealed file, from a file, a systemd credential or a passphrase.
//!
//! A key file holds one key a line, as 64 hexadecimal digits; the first seals, all of them open, so that old and new
//! can stand side by side while a file is sealed anew. Keys that are missing, readable by others, short or no keys at
//! all (zeros, one byte over and over) are refused with the reason. A passphrase file is the same with passphrases.

use std::path::{Path, PathBuf};
use std::{env, fmt};

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::seal::Header;
use crate::files::{self, FileError};
use crate::secret::Secret;

/// More lines than this are no key file.
const KEYS_MAX: usize = 8;
pub(super) const FILE_BYTES_MAX: usize = 4096;
/// Shorter passphrases are guessed, whatever they are stretched with.
const PASSPHRASE_BYTES_MIN: usize = 12;
/// Room for the new and the old one in a file, however long somebody's sentence is.
const PASSPHRASE_BYTES_MAX: usize = 1024;
/// Random 32 bytes have fewer distinct values than this once in 10^30.
const DISTINCT_BYTES_MIN: usize = 12;

/// What is asked of a passphrase by default: 64 MiB, 3 passes (RFC 9106 section 4, second choice).
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// What a file may ask of us: checked before any work is done.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 10;
const MEMORY_KIB_MIN: u32 = 8;

/// The variable that names a master key file, and the one that names a file with a passphrase.
const FILE_VARIABLE: &str = "MEMORYROUTER_MASTER_KEY_FILE";
const PASSPHRASE_VARIABLE: &str = "MEMORYROUTER_PASSPHRASE_FILE";
/// systemd's directory of credentials, and ours in it.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";
const CREDENTIAL: &str = "master.key";

/// A key that opens sealed files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterKey(Secret);

/// How a passphrase becomes a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KdfParams {
    /// Argon2id's memory.
    pub memory_kib: u32,
    /// Its passes.
    pub passes: u32,
    /// Random, per file.
    pub salt: [u8; 16],
}

impl KdfParams {
    /// The default cost over a new salt.
    pub fn new(salt: [u8; 16]) -> Self {
        Self {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            salt,
        }
    }

    /// Itself, if the cost is one that we are willing to pay.
    pub(super) fn checked(self) -> Option<Self> {
        let sane = (MEMORY_KIB_MIN..=MEMORY_KIB_MAX).contains(&self.memory_kib)
            && (1..=PASSES_MAX).contains(&self.passes);
        sane.then_some(self)
    }
}

/// Why there is no master key.
#[derive(Debug)]
pub enum MasterError {
    /// The file cannot be used.
    File(PathBuf, FileError),
    /// What it holds is no key; the text says why.
    Unusable(PathBuf, &'static str),
    /// The sealed file wants a passphrase and none is given.
    NoPassphrase,
    /// Argon2 refused.
    Kdf,
}

impl fmt::Display for MasterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "master key {}: {error}", path.display()),
            Self::Unusable(path, why) => write!(f, "master key {}: {why}", path.display()),
            Self::NoPassphrase => write!(
                f,
                "the file is sealed under a passphrase: set {PASSPHRASE_VARIABLE}"
            ),
            Self::Kdf => f.write_str("the passphrase cannot be turned into a key here (memory?)"),
        }
    }
}

/// Where the master key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterSource {
    /// A file of keys.
    File(PathBuf),
    /// A file with a passphrase.
    Passphrase(PathBuf),
}

impl fmt::Display for MasterSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Passphrase(path) => write!(f, "passphrase in {}", path.display()),
        }
    }
}

impl MasterSource {
    /// The configured file if it is there, else what the environment names.
    pub fn find(configured: &Path) -> Self {
        if configured.exists() {
            return Self::File(configured.to_owned());
        }
        let named = |variable| env::var_os(variable).filter(|path| !path.is_empty());
        if let Some(path) = named(FILE_VARIABLE) {
            return Self::File(path.into());
        }
        if let Some(path) = named(PASSPHRASE_VARIABLE) {
            return Self::Passphrase(path.into());
        }
        let credential =
            named(CREDENTIALS_VARIABLE).map(|directory| PathBuf::from(directory).join(CREDENTIAL));
        Self::File(
            credential
                .filter(|path| path.exists())
                .unwrap_or_else(|| configured.to_owned()),
        )
    }

    /// Its file.
    pub(super) fn path(&self) -> &Path {
        let (Self::File(path) | Self::Passphrase(path)) = self;
        path
    }

    /// Whether a service manager's copy is in use.
    pub(super) fn is_credential(&self) -> bool {
        is_credential(self.path())
    }

    /// The line of its file that is, or is stretched to, `master`.
    pub(super) fn line_of(
        &self,
        master: &MasterKey,
        header: &Header,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, MasterError> {
        let (Self::Passphrase(path), Some(kdf)) = (self, &header.kdf) else {
            return Ok(Some(Zeroizing::new(master.to_line().as_bytes().to_vec())));
        };
        for passphrase in read_passphrases(path)? {
            if MasterKey::from_passphrase(passphrase.expose(), kdf)? == *master {
                return Ok(Some(passphrase_line(&passphrase)));
            }
        }
        Ok(None)
    }

    /// The keys that may open a file with this header, the sealing one first.
    pub(super) fn load(&self, header: &Header) -> Result<Vec<MasterKey>, MasterError> {
        match (self, &header.kdf) {
            (Self::File(path), None) => MasterKey::read_file(path),
            (Self::Passphrase(path), Some(kdf)) => read_passphrases(path)?
                .iter()
                .map(|passphrase| MasterKey::from_passphrase(passphrase.expose(), kdf))
                .collect(),
            (Self::File(_), Some(_)) => Err(MasterError::NoPassphrase),
            (Self::Passphrase(path), None) => Err(MasterError::Unusable(
                path.clone(),
                "the file is sealed under a key, not a passphrase",
            )),
        }
    }
}

impl MasterKey {
    /// Takes 32 random bytes; refuses what cannot have come from a random source.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Result<Self, &'static str> {
        let mut seen = [false; 256];
        bytes
            .iter()
            .for_each(|byte| seen[usize::from(*byte)] = true);
        if bytes.iter().all(|byte| *byte == 0) {
            return Err("is all zeros");
        }
        if seen.iter().filter(|seen| **seen).count() < DISTINCT_BYTES_MIN {
            return Err("is not random: it repeats a few bytes");
        }
        Ok(Self(Secret::new(bytes.to_vec())))
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Reads a key file; never returns an empty list.
    pub(super) fn read_file(path: &Path) -> Result<Vec<Self>, MasterError> {
        let text = read_secret(path)?;
        let unusable = |why| MasterError::Unusable(path.to_owned(), why);
        let mut keys = Vec::new();
        for line in text
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
        {
            let bytes = parse_hex(line).ok_or_else(|| {
                unusable(if line.len() < 64 {
                    "is shorter than 64 hexadecimal digits"
                } else {
                    "is not 64 hexadecimal digits"
                })
            })?;
            keys.push(Self::new(bytes).map_err(unusable)?);
        }
        match keys.len() {
            0 => Err(unusable("is empty")),
            1..=KEYS_MAX => Ok(keys),
            _ => Err(unusable("holds more than 8 keys")),
        }
    }

    /// A line of a key file.
    pub(super) fn to_line(&self) -> Zeroizing<String> {
        let mut line = Zeroizing::new(String::with_capacity(65));
        for byte in self.expose() {
            line.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            line.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        line.push('\n');
        line
    }

    /// Stretches a passphrase. Takes as long as its parameters say.
    pub(super) fn from_passphrase(passphrase: &[u8], kdf: &KdfParams) -> Result<Self, MasterError> {
        let params =
            Params::new(kdf.memory_kib, kdf.passes, 1, Some(32)).map_err(|_| MasterError::Kdf)?;
        let mut bytes = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, &kdf.salt, &mut *bytes)
            .map_err(|_| MasterError::Kdf)?;
        Ok(Self(Secret::new(bytes.to_vec())))
    }
}

/// Reads a passphrase file; never returns an empty list.
pub(super) fn read_passphrases(path: &Path) -> Result<Vec<Secret>, MasterError> {
    let text = read_secret(path)?;
    let unusable = |why| MasterError::Unusable(path.to_owned(), why);
    let lines: Vec<Secret> = text
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.is_empty())
        .map(Secret::new)
        .collect();
    match lines.len() {
        0 => Err(unusable("is empty")),
        1..=KEYS_MAX => {
            check_passphrase(lines[0].expose()).map_err(unusable)?;
            Ok(lines)
        }
        _ => Err(unusable("holds more than 8 passphrases")),
    }
}

/// A line of a passphrase file.
pub(super) fn passphrase_line(passphrase: &Secret) -> Zeroizing<Vec<u8>> {
    Zeroizing::new([passphrase.expose(), b"\n"].concat())
}

/// Whether a passphrase can be a new one.
pub(super) fn check_new_passphrase(passphrase: &[u8]) -> Result<(), &'static str> {
    if passphrase.len() > PASSPHRASE_BYTES_MAX {
        return Err("a passphrase has at most 1024 bytes");
    }
    if passphrase.contains(&b'\r') {
        return Err("a passphrase is one line");
    }
    check_passphrase(passphrase)
}

/// Whether a passphrase can be one.
fn check_passphrase(passphrase: &[u8]) -> Result<(), &'static str> {
    if passphrase.len() < PASSPHRASE_BYTES_MIN {
        return Err("a passphrase has at least 12 characters");
    }
    if passphrase.contains(&b'\n') {
        return Err("a passphrase is one line");
    }
    Ok(())
}

fn is_credential(path: &Path) -> bool {
    // Every path starts with an empty one.
    let directory = env::var_os(CREDENTIALS_VARIABLE).filter(|directory| !directory.is_empty());
    directory.is_some_and(|directory| path.starts_with(directory))
}

fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, MasterError> {
    let read = if is_credential(path) {
        files::read_credential
    } else {
        files::read_private
    };
    let bytes =
        read(path, FILE_BYTES_MAX).map_err(|error| MasterError::File(path.to_owned(), error))?;
    let mut bytes = Zeroizing::new(bytes);
    while bytes
        .last()
        .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
    {
        bytes.pop();
    }
    Ok(bytes)
}

fn parse_hex(line: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    if line.len() != 64 {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(line.chunks(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn read(text: &str, mode: u32) -> Result<Vec<MasterKey>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        MasterKey::read_file(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn key_files() {
        let good = "00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100";
        let other = good.replace('0', "1");
        assert_eq!(read(good, 0o600).unwrap().len(), 1);
        assert_eq!(
            read(&format!("{good}\n{other}\n\n"), 0o400).unwrap().len(),
            2
        );
        let line = read(good, 0o600).unwrap()[0].to_line();
        assert_eq!(line.trim_end(), good.to_lowercase());
        for (text, mode, why) in [
            ("", 0o600, "empty"),
            (&good[..62], 0o600, "shorter"),
            (&"0".repeat(64), 0o600, "zeros"),
            (&"ab".repeat(32), 0o600, "not random"),
            (&good.replace('0', "g"), 0o600, "not 64 hexadecimal"),
            (good, 0o640, "group"),
            (good, 0o604, "other"),
        ] {
            let error = read(text, mode).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("0011"), "{error}");
        }
    }

    #[test]
    fn passphrases_stretch_and_costs_are_bounded() {
        let cheap = KdfParams {
            memory_kib: 8,
            passes: 1,
            salt: [3; 16],
        };
        let key = |phrase: &str| MasterKey::from_passphrase(phrase.as_bytes(), &cheap).unwrap();
        assert_eq!(key("a"), key("a"));
        assert_ne!(key("a"), key("b"));
        for (memory_kib, passes, sane) in [
            (8, 1, true),
            (64 * 1024, 3, true),
            (2 << 20, 3, false),
            (64, 11, false),
            (0, 1, false),
            (64, 0, false),
        ] {
            assert_eq!(
                KdfParams {
                    memory_kib,
                    passes,
                    salt: [0; 16]
                }
                .checked()
                .is_some(),
                sane
            );
        }
    }
}
