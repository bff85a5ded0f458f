//! The seal of one vault's rows: AES-256-GCM-SIV under a key derived from the vault's own.
//!
//! The one door of memory to the cipher. Vault id, place and day are authenticated with each row, so that a row moved to
//! another vault, to another place in its own, or to another day does not open. Whoever has no vault key, because its
//! record is gone from the key snapshot, has noise. Pure: bytes in, bytes out.

use std::sync::Arc;

use aes_gcm_siv::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

pub(super) const NONCE_BYTES: usize = 12;

/// What names a vault in the file: short, of one length, and the same for whoever knows the id.
pub(super) type Tag = [u8; 16];

/// The tag of a vault id.
pub(super) fn tag(id: &str) -> Tag {
    let digest = Sha256::new()
        .chain_update(b"memoryrouter vault")
        .chain_update(id)
        .finalize();
    let mut tag = [0; 16];
    tag.copy_from_slice(&digest[..16]);
    tag
}

/// A vault as an authenticated key's record names it. Nothing else makes one.
#[derive(Clone)]
pub struct VaultRef {
    id: Arc<str>,
    key: Zeroizing<[u8; 32]>,
}

impl VaultRef {
    /// From a key record's vault id and vault key.
    pub fn new(id: &str, key: [u8; 32]) -> Self {
        Self {
            id: id.into(),
            key: Zeroizing::new(key),
        }
    }

    /// Its id. Not a secret.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }
}

impl std::fmt::Debug for VaultRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VaultRef({})", self.id)
    }
}

/// Where a row belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the log.
    Log {
        /// Its number in the vault.
        seq: u64,
        /// The day that stands beside it in the clear.
        day: u32,
    },
    /// In the log, beside the row of that number.
    Vector {
        /// The row's number in the vault.
        seq: u64,
    },
    /// On the way into it, between two processes.
    Spool,
}

/// Seals and opens one vault's rows.
pub(super) struct Sealer {
    pub(super) id: Arc<str>,
    pub(super) tag: Tag,
    key: Zeroizing<[u8; 32]>,
    cipher: Aes256GcmSiv,
}

impl Sealer {
    pub(super) fn new(vault: &VaultRef) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        // 32 bytes are far below HKDF-SHA-256's limit of 8,160.
        let filled =
            Hkdf::<Sha256>::new(None, &*vault.key).expand(b"memoryrouter memory row", &mut *key);
        debug_assert!(filled.is_ok());
        Self {
            id: vault.id.clone(),
            tag: tag(&vault.id),
            key: vault.key.clone(),
            cipher: Aes256GcmSiv::new(&(*key).into()),
        }
    }

    /// Whether `vault` is the one that this was made for.
    pub(super) fn is_for(&self, vault: &VaultRef) -> bool {
        self.id == vault.id && bool::from(self.key.as_slice().ct_eq(vault.key.as_slice()))
    }

    /// Nonce and ciphertext. `nonce` must be random. None for a text that no cipher takes.
    pub(super) fn seal(&self, place: Place, nonce: [u8; 12], plain: &[u8]) -> Option<Vec<u8>> {
        let payload = Payload {
            msg: plain,
            aad: &self.associated(place),
        };
        let sealed = self.cipher.encrypt(&Nonce::from(nonce), payload).ok()?;
        let mut out = Vec::with_capacity(NONCE_BYTES + sealed.len());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Some(out)
    }

    /// Opens what was sealed for the same place of the same vault.
    pub(super) fn open(&self, place: Place, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: ciphertext,
            aad: &self.associated(place),
        };
        self.cipher.decrypt(&Nonce::from(*nonce), payload).ok()
    }

    fn associated(&self, place: Place) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.id.len() + 16);
        match place {
            Place::Log { seq, day } => {
                out.push(1);
                out.extend_from_slice(&seq.to_be_bytes());
                out.extend_from_slice(&day.to_be_bytes());
            }
            Place::Vector { seq } => {
                out.push(3);
                out.extend_from_slice(&seq.to_be_bytes());
            }
            Place::Spool => out.push(2),
        }
        out.extend_from_slice(self.id.as_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; 12] = [7; 12];

    fn sealer(id: &str, key: u8) -> Sealer {
        Sealer::new(&VaultRef::new(id, [key; 32]))
    }

    #[test]
    fn a_row_opens_at_its_place_only() {
        let place = Place::Log { seq: 5, day: 9 };
        let sealed = sealer("a", 1).seal(place, NONCE, b"text").unwrap();
        assert!(!sealed.windows(4).any(|window| window == b"text"));
        assert_eq!(
            sealer("a", 1).open(place, &sealed).as_deref(),
            Some(&b"text"[..])
        );
        let elsewhere = [
            (sealer("a", 2), place),
            (sealer("b", 1), place),
            (sealer("a", 1), Place::Log { seq: 6, day: 9 }),
            (sealer("a", 1), Place::Log { seq: 5, day: 8 }),
            (sealer("a", 1), Place::Spool),
        ];
        for (sealer, place) in elsewhere {
            assert_eq!(sealer.open(place, &sealed), None);
        }
        for cut in 0..sealed.len() {
            assert_eq!(sealer("a", 1).open(place, &sealed[..cut]), None);
            let mut flipped = sealed.clone();
            flipped[cut] ^= 1;
            assert_eq!(sealer("a", 1).open(place, &flipped), None);
        }
    }

    #[test]
    fn knows_its_vault() {
        let sealer = sealer("a", 1);
        assert!(sealer.is_for(&VaultRef::new("a", [1; 32])));
        assert!(!sealer.is_for(&VaultRef::new("a", [2; 32])));
        assert!(!sealer.is_for(&VaultRef::new("b", [1; 32])));
        assert_ne!(tag("a"), tag("b"));
        assert!(!format!("{:?}", VaultRef::new("a", [1; 32])).contains("1, 1"));
    }
}
