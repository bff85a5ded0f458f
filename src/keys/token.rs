//! The form of memory keys: minted ones and imported ones. Pure; randomness comes in.
//!
//! A minted key is `mk_`, 43 base62 characters (256 bits of randomness) and 6 more of CRC-32 over all that stands
//! before, so that a mistyped key can be told from an unknown one without asking anybody.

use std::borrow::Cow;

use crate::secret::{Secret, is_memory_key};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_DIGITS: usize = 43;
const CHECK_DIGITS: usize = 6;
const MINTED_BYTES: usize = 3 + RANDOM_DIGITS + CHECK_DIGITS;

/// Bounds of any memory key, so that looking one up costs the same whatever is sent.
const TOKEN_BYTES_MIN: usize = 4;
pub(super) const TOKEN_BYTES_MAX: usize = 256;

/// Why a token cannot be a memory key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It does not start with `mk_` or `mk-`.
    Prefix,
    /// Shorter than 4 or longer than 256 bytes.
    Length,
    /// Something else than visible ASCII.
    Characters,
    /// It ends like a mode (`:read`, `:write`, `:off`), which is taken off before look-up.
    Suffix,
}

impl std::fmt::Display for TokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prefix => "a memory key starts with mk_ or mk-",
            Self::Length => "a memory key has 4 to 256 characters",
            Self::Characters => "a memory key holds visible ASCII characters only",
            Self::Suffix => "a memory key cannot end in :read, :write or :off",
        })
    }
}

/// Makes a key out of 32 random bytes.
pub fn mint(random: [u8; 32]) -> Secret {
    // Of the whole length at once: growing would leave a part of it behind.
    let mut token = Vec::with_capacity(MINTED_BYTES);
    token.extend(b"mk_");
    token.extend(base62::<RANDOM_DIGITS>(random));
    let check = crc32fast::hash(&token);
    let mut bytes = [0; 32];
    bytes[28..].copy_from_slice(&check.to_be_bytes());
    token.extend(base62::<CHECK_DIGITS>(bytes));
    Secret::new(token)
}

/// The last `N` base62 digits of a big-endian number. 62^43 is more than 2^256 and 62^6 more than 2^32, so none is lost.
fn base62<const N: usize>(mut number: [u8; 32]) -> [u8; N] {
    let mut digits = [ALPHABET[0]; N];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder << 8 | u32::from(*byte);
            *byte = (value / 62) as u8;
            remainder = value % 62;
        }
        *digit = ALPHABET[remainder as usize];
    }
    digits
}

/// A key's id as it is told back to whoever gave it. Of a token, which is taken for one at times, no more than its end.
pub fn told_id(id: &str) -> Cow<'_, str> {
    if !is_memory_key(id.as_bytes()) {
        return id.into();
    }
    let end = Secret::new(id.as_bytes()).last4();
    format!("a token that ends in \"{end}\"; its id (key_…) is wanted, as `keys list` shows it")
        .into()
}

/// Whether `token` may be looked up: right prefix and length.
pub(super) fn has_form(token: &[u8]) -> bool {
    is_memory_key(token) && (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len())
}

/// Checks a token made elsewhere.
pub fn check_imported(token: &[u8]) -> Result<(), TokenError> {
    if !is_memory_key(token) {
        return Err(TokenError::Prefix);
    }
    if !has_form(token) {
        return Err(TokenError::Length);
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(TokenError::Characters);
    }
    let suffixes: [&[u8]; 3] = [b":read", b":write", b":off"];
    if suffixes.iter().any(|suffix| token.ends_with(suffix)) {
        return Err(TokenError::Suffix);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_form() {
        for random in [[0; 32], [255; 32], std::array::from_fn(|at| at as u8 * 7)] {
            let token = mint(random);
            let token = token.expose();
            assert_eq!((token.len(), &token[..3]), (3 + 43 + 6, &b"mk_"[..]));
            assert!(token[3..].iter().all(u8::is_ascii_alphanumeric));
            // The check digits are the CRC of what stands before, in base 62.
            let value = token[46..].iter().fold(0u64, |value, digit| {
                value * 62 + ALPHABET.iter().position(|known| known == digit).unwrap() as u64
            });
            assert_eq!(value, u64::from(crc32fast::hash(&token[..46])));
            assert_eq!(check_imported(token), Ok(()));
        }
        assert_ne!(mint([1; 32]), mint([2; 32]));
        assert_eq!(
            &mint([255; 32]).expose()[3..6],
            b"yhj",
            "2^256-1 in base 62"
        );
    }

    #[test]
    fn imported_forms() {
        for (token, expected) in [
            ("mk_app1_xxx", Ok(())),
            ("mk-1", Ok(())),
            ("mk_", Err(TokenError::Length)),
            ("sk-abc", Err(TokenError::Prefix)),
            ("MK_abc", Err(TokenError::Prefix)),
            ("mk_a b", Err(TokenError::Characters)),
            ("mk_\u{e9}", Err(TokenError::Characters)),
            ("mk_a:read", Err(TokenError::Suffix)),
        ] {
            assert_eq!(check_imported(token.as_bytes()), expected, "{token}");
        }
        assert_eq!(
            check_imported(&[b"mk_".as_slice(), &[b'a'; 254]].concat()),
            Err(TokenError::Length)
        );
    }
}
