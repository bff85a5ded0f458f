//! Secrets as a type: provider keys, memory keys, master keys, passphrases.
//!
//! A `Secret` never shows its bytes by accident: `Debug` and `Display` are masked, the bytes are zeroed when it is
//! dropped, and comparison takes the same time wherever the difference stands. `expose` is the one door to the
//! bytes, so every place where a secret leaves the process can be found by name.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes that must not be shown, logged or left behind in memory.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over; the caller keeps no copy. Spare room stays as it is: giving it back would move the bytes and
    /// leave the old ones behind.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves, for the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The last four characters, for lists a person reads; nothing at all of a secret shorter than 12 bytes, because
    /// four characters of a short secret are too much of it.
    pub fn last4(&self) -> String {
        if self.0.len() < 12 {
            return String::new();
        }
        String::from_utf8_lossy(&self.0[self.0.len() - 4..]).into_owned()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(****)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// Whether a credential is a memory key, and so meant for the router: whatever else stands in a credential's place is a
/// provider key.
pub fn is_memory_key(credential: &[u8]) -> bool {
    credential.starts_with(b"mk_") || credential.starts_with(b"mk-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_its_bytes() {
        let secret = Secret::new(*b"sk-canary-0123456789");
        let shown = format!("{secret:?} {secret} {:?}", Some(&secret));
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn bytes_with_room_to_spare_are_not_moved() {
        let mut bytes = Vec::with_capacity(4096);
        bytes.extend_from_slice(b"sk-canary");
        let at = bytes.as_ptr();
        let secret = Secret::new(bytes);
        assert_eq!((secret.0.as_ptr(), secret.0.capacity()), (at, 4096));
    }

    #[test]
    fn last4_only_of_long_secrets() {
        assert_eq!(Secret::new(*b"sk-canary-0123456789").last4(), "6789");
        assert_eq!(Secret::new(*b"short").last4(), "");
    }

    #[test]
    fn equality_is_by_content() {
        assert_eq!(Secret::new(*b"a"), Secret::new(*b"a"));
        assert_ne!(Secret::new(*b"a"), Secret::new(*b"b"));
        assert_ne!(Secret::new(*b"a"), Secret::new(*b"ab"));
    }
}
