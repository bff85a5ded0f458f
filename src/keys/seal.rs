//! The sealed file: a header, all of it authenticated, and AES-256-GCM-SIV over the contents (RFC 8452).
//!
//! The one door to the cipher. Keys are derived per file from the master key and the file's nonce by HKDF-SHA-256, so
//! a nonce is never used twice under one key. GCM-SIV does not commit to its key; the header carries a commitment,
//! which also tells a wrong master key from a damaged file before anything is decrypted. Pure: bytes in, bytes out.

use std::ops::Deref;

use aes_gcm_siv::aead::{Aead as _, AeadInOut as _, KeyInit as _};
use aes_gcm_siv::{Aes256GcmSiv, Nonce, Tag};
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
pub struct Sealed {
    /// The header; trustworthy only once `open` has succeeded.
    pub header: Header,
    nonce: [u8; 12],
    commitment: [u8; 32],
    /// Wiped at the end: what is opened lies here.
    bytes: Zeroizing<Vec<u8>>,
}

/// What was sealed, in the place of what it was sealed into: there may be 256 MiB of it.
pub(super) struct Plain(Zeroizing<Vec<u8>>);

impl Deref for Plain {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let end = self.0.len().saturating_sub(TAG_BYTES);
        self.0.get(HEADER_BYTES..end).unwrap_or_default()
    }
}

impl Sealed {
    /// Reads the header and checks every length.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, SealError> {
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
            bytes: Zeroizing::new(bytes),
        })
    }

    /// Decrypts the contents under the one of `masters` that sealed them.
    pub(super) fn open(mut self, masters: Vec<MasterKey>) -> Result<(MasterKey, Plain), SealError> {
        let fitting = masters.into_iter().find_map(|master| {
            let keys = FileKeys::derive(&master, &self.nonce);
            let fits = keys.commitment.ct_eq(&self.commitment).into();
            Some((master, keys)).filter(|_| fits)
        });
        let (master, keys) = fitting.ok_or(SealError::WrongKey)?;
        let (header, sealed) = self
            .bytes
            .split_at_mut_checked(HEADER_BYTES)
            .ok_or(SealError::Length)?;
        let (contents, tag) = sealed
            .split_last_chunk_mut::<TAG_BYTES>()
            .ok_or(SealError::Length)?;
        let (nonce, tag) = (Nonce::from(self.nonce), Tag::from(*tag));
        keys.cipher
            .decrypt_inout_detached(&nonce, header, contents.into(), &tag)
            .map_err(|_| SealError::Damaged)?;
        Ok((master, Plain(self.bytes)))
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
    out.extend_from_slice(contents);
    let (header, contents) = out
        .split_at_mut_checked(HEADER_BYTES)
        .ok_or(SealError::Header)?;
    let tag = keys
        .cipher
        .encrypt_inout_detached(&Nonce::from(nonce), header, contents.into())
        .map_err(|_| SealError::TooLarge)?;
    out.extend_from_slice(&tag);
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
