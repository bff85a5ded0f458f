//! The sealed file: a header, all of it authenticated, and AES-256-GCM-SIV over the contents (RFC 8452).
//!
//! The one door to the cipher. Keys are derived per file from the master key and the file's nonce by HKDF-SHA-256, so
//! a nonce is never used twice under one key. GCM-SIV does not commit to its key; the header carries a commitment,
//! which also tells a wrong master key from a damaged file before anything is decrypted. Pure: bytes in, bytes out.

use aes_gcm_siv::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::master::{KdfParams, MasterKey};

/// A sealed file is at most this large: a million keys take about 170 MiB.
pub(super) const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"MRKEYS\r\n";
const FORMAT: u16 = 1;
/// AES-256-GCM-SIV, HKDF-SHA-256.
const SUITE: u8 = 1;
const HEADER_BYTES: usize = 128;
const TAG_BYTES: usize = 16;
const FLAG_SHRINKS: u8 = 1;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Names the master key without telling anything of it.
    pub key_id: [u8; 8],
    /// Counts the file's versions.
    pub generation: u64,
    /// When this version was written.
    pub created_at: i64,
    /// The writer says: many keys may be missing against the version before.
    pub shrinks: bool,
    /// How the master key comes from a passphrase, if it does.
    pub kdf: Option<KdfParams>,
}

/// Why a sealed file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// No file of ours, or of a later format.
    Foreign,
    /// Shorter or longer than it says.
    Length,
    /// A header that contradicts itself.
    Header,
    /// Sealed under another master key.
    WrongKey,
    /// Some byte was changed.
    Damaged,
    /// More than 256 MiB.
    TooLarge,
}

impl std::fmt::Display for SealError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Foreign => "not a sealed file of this program, or of a newer version",
            Self::Length => "truncated, or with bytes behind its end",
            Self::Header => "its header is invalid",
            Self::WrongKey => "sealed under another master key",
            Self::Damaged => "damaged: its contents do not authenticate",
            Self::TooLarge => "larger than 256 MiB",
        })
    }
}

/// A sealed file whose header has been read, and nothing believed yet.
pub struct Sealed<'a> {
    /// The header; trustworthy only once `open` has succeeded.
    pub header: Header,
    nonce: [u8; 12],
    commitment: [u8; 32],
    header_bytes: &'a [u8],
    ciphertext: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Reads the header and checks every length.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SealError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(SealError::TooLarge);
        }
        if bytes.get(..8) != Some(MAGIC) {
            return Err(SealError::Foreign);
        }
        let (header_bytes, ciphertext) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or(SealError::Length)?;
        let mut at = Cursor(&header_bytes[8..]);
        if u16::from_le_bytes(at.take()) != FORMAT || at.take::<1>()[0] != SUITE {
            return Err(SealError::Foreign);
        }
        let [flags] = at.take();
        let key_id = at.take();
        let generation = u64::from_le_bytes(at.take());
        let created_at = i64::from_le_bytes(at.take());
        let kdf = KdfParams {
            memory_kib: u32::from_le_bytes(at.take()),
            passes: u32::from_le_bytes(at.take()),
            salt: at.take(),
        };
        let nonce = at.take();
        let payload_bytes = u64::from_le_bytes(at.take());
        let commitment = at.take();
        let kdf = match (kdf.memory_kib, kdf.passes, kdf.salt) {
            (0, 0, salt) if salt == [0; 16] => None,
            _ => Some(kdf.checked().ok_or(SealError::Header)?),
        };
        if at.0.iter().any(|byte| *byte != 0) || flags & !FLAG_SHRINKS != 0 {
            return Err(SealError::Header);
        }
        if payload_bytes != ciphertext.len() as u64 || ciphertext.len() < TAG_BYTES {
            return Err(SealError::Length);
        }
        let header = Header {
            key_id,
            generation,
            created_at,
            shrinks: flags & FLAG_SHRINKS != 0,
            kdf,
        };
        Ok(Self {
            header,
            nonce,
            commitment,
            header_bytes,
            ciphertext,
        })
    }

    /// Decrypts the contents.
    pub fn open(&self, master: &MasterKey) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let keys = FileKeys::derive(master, &self.nonce);
        if !bool::from(keys.commitment.ct_eq(&self.commitment)) {
            return Err(SealError::WrongKey);
        }
        let payload = Payload {
            msg: self.ciphertext,
            aad: self.header_bytes,
        };
        keys.cipher
            .decrypt(&Nonce::from(self.nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| SealError::Damaged)
    }
}

/// Seals `contents` under `header`. `nonce` must be random and new.
pub(super) fn seal(
    header: &Header,
    master: &MasterKey,
    nonce: [u8; 12],
    contents: &[u8],
) -> Result<Vec<u8>, SealError> {
    let keys = FileKeys::derive(master, &nonce);
    let mut out = Vec::with_capacity(HEADER_BYTES + contents.len() + TAG_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.push(SUITE);
    out.push(if header.shrinks { FLAG_SHRINKS } else { 0 });
    out.extend_from_slice(&header.key_id);
    out.extend_from_slice(&header.generation.to_le_bytes());
    out.extend_from_slice(&header.created_at.to_le_bytes());
    let none = KdfParams {
        memory_kib: 0,
        passes: 0,
        salt: [0; 16],
    };
    let kdf = header.kdf.as_ref().unwrap_or(&none);
    out.extend_from_slice(&kdf.memory_kib.to_le_bytes());
    out.extend_from_slice(&kdf.passes.to_le_bytes());
    out.extend_from_slice(&kdf.salt);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&((contents.len() + TAG_BYTES) as u64).to_le_bytes());
    out.extend_from_slice(&keys.commitment);
    out.resize(HEADER_BYTES, 0);
    let payload = Payload {
        msg: contents,
        aad: &out,
    };
    let ciphertext = keys
        .cipher
        .encrypt(&Nonce::from(nonce), payload)
        .map_err(|_| SealError::TooLarge)?;
    out.extend_from_slice(&ciphertext);
    if out.len() > FILE_BYTES_MAX {
        return Err(SealError::TooLarge);
    }
    Ok(out)
}

struct FileKeys {
    cipher: Aes256GcmSiv,
    commitment: [u8; 32],
}

impl FileKeys {
    fn derive(master: &MasterKey, nonce: &[u8; 12]) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(nonce), master.expose());
        Self {
            cipher: Aes256GcmSiv::new(&(*expand(&hkdf, &[b"memoryrouter file key"])).into()),
            commitment: *expand(&hkdf, &[b"memoryrouter key commitment"]),
        }
    }
}

fn expand(hkdf: &Hkdf<Sha256>, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    // 32 bytes are far below HKDF-SHA-256's limit of 8,160.
    let filled = hkdf.expand_multi_info(info, &mut *out);
    debug_assert!(filled.is_ok());
    out
}

/// Seals one provider key for exactly one place, so that moved to another it does not open.
pub(super) fn seal_for(
    place: &Place<'_>,
    master: &MasterKey,
    nonce: [u8; 12],
    key: &[u8],
) -> Option<Vec<u8>> {
    let sealed = place
        .cipher(master, &nonce)
        .encrypt(&Nonce::from(nonce), key)
        .ok()?;
    Some([nonce.as_slice(), &sealed].concat())
}

/// Opens what `seal_for` sealed for the same place.
pub(super) fn open_for(
    place: &Place<'_>,
    master: &MasterKey,
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = sealed.split_first_chunk::<12>()?;
    place
        .cipher(master, nonce)
        .decrypt(&Nonce::from(*nonce), ciphertext)
        .ok()
        .map(Zeroizing::new)
}

/// Where a provider key belongs.
pub(super) struct Place<'a> {
    pub(super) account: &'a str,
    pub(super) provider: &'a str,
}

impl Place<'_> {
    fn cipher(&self, master: &MasterKey, nonce: &[u8; 12]) -> Aes256GcmSiv {
        let hkdf = Hkdf::<Sha256>::new(Some(nonce), master.expose());
        // Lengths in front keep `a` + `bc` apart from `ab` + `c`.
        let lengths = [
            (self.account.len() as u32).to_le_bytes(),
            (self.provider.len() as u32).to_le_bytes(),
        ]
        .concat();
        let info: [&[u8]; 4] = [
            b"memoryrouter provider key",
            &lengths,
            self.account.as_bytes(),
            self.provider.as_bytes(),
        ];
        Aes256GcmSiv::new(&(*expand(&hkdf, &info)).into())
    }
}

/// The name of a master key: a hash that tells two apart and nothing else.
pub(super) fn key_id(master: &MasterKey) -> [u8; 8] {
    let digest = Sha256::new()
        .chain_update(b"memoryrouter key id")
        .chain_update(master.expose())
        .finalize();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    id
}

/// Takes fixed pieces off a slice whose length was checked for all of them.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((piece, rest)) => {
                self.0 = rest;
                *piece
            }
            None => [0; N],
        }
    }
}

#[cfg(test)]
mod tests;
