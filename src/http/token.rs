//! Memory keys in text: what carries one never leaves for a provider, whatever it was meant as.
//!
//! `encode` asks for a request's fields, `exchange` for its target and model; `auth` decodes with it. A key is found
//! at the start of a word, percent-encoded too: that is how it stands in the address of a page or of a script.

use std::borrow::Cow;

use super::field::Field;

/// Whether a memory key can stand in a text: the one look that most texts get.
pub(super) fn can_carry(text: &[u8]) -> bool {
    memchr::memchr2_iter(b'k', b'%', text).any(|at| text[at] == b'%' || is_key_at(text, at))
}

/// Whether a memory key stands in a field.
pub(super) fn field_carries(field: &Field, bytes: &[u8]) -> bool {
    let (name, value) = (field.spelled(bytes), field.value(bytes));
    carries_memory_key(name)
        || carries_memory_key(value)
            && !(name.eq_ignore_ascii_case(b"accept-language") && names_languages(value))
}

/// Whether a memory key stands anywhere in `text`, as it is or percent-encoded.
pub fn carries_memory_key(text: &[u8]) -> bool {
    let in_words = |text: &[u8]| memchr::memchr_iter(b'k', text).any(|at| is_key_at(text, at));
    can_carry(text) && (in_words(text) || in_words(&percent_decoded(text)))
}

/// Whether a memory key stands in a provider's key. Those are of letters, digits, `-` and `_` themselves, so nothing
/// begins behind one of these.
pub fn credential_carries_memory_key(credential: &[u8]) -> bool {
    let begins = |text: &[u8], k: usize| {
        let before = k.checked_sub(2).and_then(|before| text.get(before));
        is_key_at(text, k) && !matches!(before, Some(b'-' | b'_'))
    };
    let stands = |text: &[u8]| memchr::memchr_iter(b'k', text).any(|k| begins(text, k));
    stands(credential) || stands(&percent_decoded(credential))
}

/// Whether a key's `k` stands at a place, at the start of a word.
fn is_key_at(text: &[u8], k: usize) -> bool {
    let starts_word = |before: &[u8]| !before.last().is_some_and(u8::is_ascii_alphanumeric);
    matches!(text.get(k + 1), Some(b'_' | b'-'))
        && matches!(text[..k].split_last(), Some((b'm', before)) if starts_word(before))
}

/// Whether all that looks like a key is `mk-MK`, Macedonian as spoken in North Macedonia. A key that short would be
/// guessed in no time.
fn names_languages(value: &[u8]) -> bool {
    let is_macedonian =
        |tag: &[u8]| matches!(tag, [b'm', b'k', b'-', region @ ..] if region.len() == 2);
    value
        .split(|byte| matches!(byte, b',' | b';'))
        .map(<[u8]>::trim_ascii)
        .all(|tag| is_macedonian(tag) || !carries_memory_key(tag))
}

/// What a text says; a `%` without two hex digits means itself.
pub fn percent_decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let mut byte = *first;
        if let (b'%', [high, low, behind @ ..]) = (byte, tail)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            byte = (high << 4 | low) as u8;
            rest = behind;
        }
        decoded.push(byte);
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::super::head::{HeadLimits, request};
    use super::*;

    #[test]
    fn memory_keys_in_text() {
        for (text, found) in [
            ("mk_a", true),
            ("a=mk-b", true),
            ("/mk_", true),
            ("amk_b", false),
            ("mk", false),
            ("mkb", false),
            ("mk_", true),
            ("k_", false),
            ("xk_mk", false),
            ("kmk_", false),
            ("a b.mk-", true),
            ("mk%5Fa", true),
            ("https://a.test/?key=%6d%6b%2Da&b", true),
            ("%20mk_", true),
            ("a%6dk_", false),
            ("mk%5", false),
            ("mk%zz_", false),
            ("100%", false),
        ] {
            assert_eq!(carries_memory_key(text.as_bytes()), found, "{text}");
            assert!(can_carry(text.as_bytes()) || !found, "{text}");
        }
        assert!(!can_carry(b"User-Agent: mkfs kiosk k_k\r\nX-K: k-k\r\n"));
    }

    #[test]
    fn memory_keys_in_credentials() {
        for (credential, found) in [
            ("mk_a", true),
            ("\"mk_a\"", true),
            ("key=mk-a", true),
            ("Bearer:mk_a", true),
            ("+mk_a", true),
            ("%6Dk_a", true),
            ("%22mk%5fa", true),
            ("sk-proj-mk_a", false),
            ("sk_mk-a", false),
            ("sk-xmk_a", false),
            ("AIzaSyA", false),
        ] {
            let carries = credential_carries_memory_key(credential.as_bytes());
            assert_eq!(carries, found, "{credential}");
        }
    }

    #[test]
    fn memory_keys_in_fields() {
        for (line, found) in [
            ("mk_a: 1", true),
            ("X-mk-a: 1", true),
            ("Xmk-a: 1", false),
            ("Referer: https://a.test/?key=mk%5Fa", true),
            ("Accept-Language: mk", false),
            ("accept-language: mk-MK,mk;q=0.9, mk-AL;q=0.5", false),
            ("Accept-Language: mk_abcdef", true),
            ("Accept-Language: mk-abcdef", true),
            ("Accept-Language: mk-MK, mk_abcdef;q=1", true),
            ("Accept-Language: mk-MK-mk_abcdef", true),
            ("Content-Language: mk-MK", true),
        ] {
            let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n").into_bytes();
            let limits = HeadLimits {
                head_bytes_max: 4096,
                fields_max: 8,
                target_bytes_max: 512,
            };
            let head = request(&bytes, &mut 0, &limits).unwrap().unwrap();
            assert_eq!(field_carries(&head.fields[1], &bytes), found, "{line}");
        }
    }
}
