//! Digests of tokens: how they are made, compared, and spread over a table. Pure.

use std::hash::Hasher;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

pub(super) type Digest = [u8; 32];

/// Digests are uniform already: hashing them again costs three times the look-up.
#[derive(Default)]
pub(super) struct DigestBits(u64);

impl Hasher for DigestBits {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // An array hashes its length first; it is the same for all.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// For comparing in constant time, which goes element by element.
fn words(digest: &Digest) -> [u64; 4] {
    let (words, _) = digest.as_chunks();
    std::array::from_fn(|at| u64::from_ne_bytes(words[at]))
}

/// Whether two are the same, in a time that tells nothing of where they differ.
pub(super) fn same(one: &Digest, other: &Digest) -> bool {
    words(one).ct_eq(&words(other)).into()
}

/// HMAC-SHA-256 under the file's pepper, its two inner states computed once.
#[derive(Clone)]
pub(super) struct TokenHasher(Hmac<Sha256>);

impl TokenHasher {
    pub(super) fn new(pepper: &[u8; 32]) -> Self {
        // HMAC pads a short key with zeros to the hash's block (RFC 2104); done here, the key has the block's type.
        let mut block = [0; 64];
        block[..32].copy_from_slice(pepper);
        Self(Hmac::new(&block.into()))
    }

    pub(super) fn digest(&self, token: &[u8]) -> Digest {
        let mut mac = self.0.clone();
        mac.update(token);
        mac.finalize().into_bytes().into()
    }
}
