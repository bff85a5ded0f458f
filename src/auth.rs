//! Which keys a request carries: the memory key that says who calls, the provider key that pays.
//!
//! `exchange` asks right behind the head, before anything else is looked at. A credential is a memory key if and only
//! if it starts with `mk_` or `mk-`; everything else in a provider's credential slot is a provider key. Nothing is
//! guessed. Looking the key up is the snapshot's business.

use std::borrow::Cow;

use crate::error::Fault;
use crate::http::head::{Head, RequestLine};
use crate::http::token::{credential_carries_memory_key, percent_decoded};
use crate::http::{Field, Name};
use crate::secret::is_memory_key;

/// The default memory mode that a key's suffix asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeSuffix {
    /// `:read`
    Read,
    /// `:write`
    Write,
    /// `:off`
    Off,
}

/// What a request carries.
#[derive(Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// The memory key without its suffix; of several, the first carrier's.
    pub memory_key: Option<Cow<'a, [u8]>>,
    /// The suffix taken off it.
    pub mode: Option<ModeSuffix>,
    /// A key to pass through to the provider.
    pub provider_key: Option<Cow<'a, [u8]>>,
}

/// Gathers the credentials of a request. `query_key` is the decoded `key` of its query.
pub fn gather<'a>(
    head: &Head<RequestLine>,
    bytes: &'a [u8],
    query_key: Option<Cow<'a, [u8]>>,
) -> Result<Credentials<'a>, Fault> {
    // A request has one or two of the five.
    let single = |name, shown| match head.has(name) {
        true => single(head, bytes, name, shown),
        false => Ok(None),
    };
    let x_memory_key = single(Name::XMemoryKey, "X-Memory-Key")?;
    let x_provider_key = single(Name::XProviderKey, "X-Provider-Key")?;
    let slots = [
        single(Name::Authorization, "Authorization")?
            .and_then(bearer)
            .map(Cow::Borrowed),
        single(Name::XApiKey, "x-api-key")?.map(Cow::Borrowed),
        single(Name::XGoogApiKey, "x-goog-api-key")?.map(Cow::Borrowed),
        query_key,
    ];
    let mut memory_key = x_memory_key
        .filter(|key| is_memory_key(key))
        .map(Cow::Borrowed);
    let mut provider_key = x_provider_key
        .filter(|key| !is_memory_key(key) && !key.is_empty())
        .map(Cow::Borrowed);
    for credential in slots
        .into_iter()
        .flatten()
        .filter(|credential| !credential.is_empty())
    {
        let slot = if is_memory_key(&credential) {
            &mut memory_key
        } else {
            &mut provider_key
        };
        slot.get_or_insert(credential);
    }
    // A key from the query is decoded and could hold a line break; nothing but visible ASCII becomes a header.
    if provider_key
        .as_ref()
        .is_some_and(|key| !key.iter().all(u8::is_ascii_graphic))
    {
        return Err(Fault::UnusableProviderKey);
    }
    // As where quotes or a scheme were written around one. Without another it is no usable key, and refused as such.
    let misplaced = |key: &Cow<'_, [u8]>| credential_carries_memory_key(key);
    if memory_key.is_some() && provider_key.as_ref().is_some_and(misplaced) {
        return Err(Fault::MisplacedMemoryKey("provider key"));
    }
    let mut mode = None;
    if let Some(key) = &mut memory_key {
        mode = take_suffix(key);
    }
    Ok(Credentials {
        memory_key,
        mode,
        provider_key,
    })
}

/// The decoded `key` parameter of a query; several are held to each other like fields.
pub fn query_key(query: &str) -> Result<Option<Cow<'_, [u8]>>, Fault> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut keys = pairs
        .filter(|(name, _)| *percent_decoded(name.as_bytes()) == *b"key")
        .map(|(_, value)| percent_decoded(value.as_bytes()));
    let first = keys.next();
    if keys.any(|other| Some(other) != first) {
        return Err(Fault::ConflictingCredentials("?key"));
    }
    Ok(first)
}

/// The one value of a credential field. Two equal ones are a proxy's harmless doubling; two different ones could be
/// read differently by the next hop.
fn single<'a>(
    head: &Head<RequestLine>,
    bytes: &'a [u8],
    name: Name,
    shown: &'static str,
) -> Result<Option<&'a [u8]>, Fault> {
    let mut values = head.all(name).map(|field: &Field| field.value(bytes));
    let first = values.next();
    if values.any(|other| Some(other) != first) {
        return Err(Fault::ConflictingCredentials(shown));
    }
    Ok(first)
}

/// The token of a Bearer credential: the scheme in any case, one or more spaces.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(6)?;
    let token = rest.trim_ascii_start();
    (scheme.eq_ignore_ascii_case(b"bearer") && token.len() < rest.len()).then_some(token)
}

fn take_suffix(key: &mut Cow<'_, [u8]>) -> Option<ModeSuffix> {
    let suffixes: [(&[u8], ModeSuffix); 3] = [
        (b":read", ModeSuffix::Read),
        (b":write", ModeSuffix::Write),
        (b":off", ModeSuffix::Off),
    ];
    let (length, mode) = suffixes
        .iter()
        .find(|(suffix, _)| key.ends_with(suffix))
        .map(|(suffix, mode)| (key.len() - suffix.len(), *mode))?;
    match key {
        Cow::Borrowed(bytes) => *bytes = &bytes[..length],
        Cow::Owned(bytes) => bytes.truncate(length),
    }
    Some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeadLimits, head};

    fn with(
        fields: &str,
        query_key: Option<&str>,
    ) -> Result<(String, String, Option<ModeSuffix>), Fault> {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
        let limits = HeadLimits {
            head_bytes_max: 4096,
            fields_max: 32,
            target_bytes_max: 512,
        };
        let head = head::request(&bytes, &mut 0, &limits).unwrap().unwrap();
        let found = gather(
            &head,
            &bytes,
            query_key.map(|key| Cow::Owned(key.as_bytes().to_vec())),
        )?;
        let text = |key: Option<Cow<'_, [u8]>>| {
            String::from_utf8(key.unwrap_or_default().into_owned()).unwrap()
        };
        Ok((text(found.memory_key), text(found.provider_key), found.mode))
    }

    #[test]
    fn carriers_in_their_order() {
        for (fields, query_key, memory, provider) in [
            ("", None, "", ""),
            ("Authorization: Bearer mk_a\r\n", None, "mk_a", ""),
            ("Authorization: bEaReR   mk-a\r\n", None, "mk-a", ""),
            ("Authorization: mk_a\r\n", None, "", ""),
            ("Authorization: Basic mk_a\r\n", None, "", ""),
            ("Authorization: Bearermk_a\r\n", None, "", ""),
            ("x-api-key: mk_a\r\n", None, "mk_a", ""),
            ("x-goog-api-key: mk_a\r\n", None, "mk_a", ""),
            ("", Some("mk_a"), "mk_a", ""),
            (
                "X-Memory-Key: mk_a\r\nAuthorization: Bearer sk-p\r\n",
                None,
                "mk_a",
                "sk-p",
            ),
            (
                "X-Memory-Key: mk_a\r\nAuthorization: Bearer mk_b\r\n",
                None,
                "mk_a",
                "",
            ),
            (
                "X-Memory-Key: sk-p\r\nAuthorization: Bearer mk_b\r\n",
                None,
                "mk_b",
                "",
            ),
            (
                "x-api-key: mk_b\r\nAuthorization: Bearer mk_a\r\n",
                Some("mk_c"),
                "mk_a",
                "",
            ),
            (
                "x-api-key: sk-x\r\nAuthorization: Bearer mk_a\r\n",
                Some("g"),
                "mk_a",
                "sk-x",
            ),
            (
                "X-Provider-Key: sk-1\r\nAuthorization: Bearer sk-2\r\nx-api-key: mk_a\r\n",
                None,
                "mk_a",
                "sk-1",
            ),
            (
                "X-Provider-Key: mk_b\r\nAuthorization: Bearer mk_a\r\n",
                None,
                "mk_a",
                "",
            ),
            ("Authorization: Bearer MK_a\r\n", None, "", "MK_a"),
            (
                "Authorization: Bearer \r\nx-api-key: mk_a\r\n",
                None,
                "mk_a",
                "",
            ),
        ] {
            let (found_memory, found_provider, _) = with(fields, query_key).unwrap();
            assert_eq!(
                (found_memory.as_str(), found_provider.as_str()),
                (memory, provider),
                "{fields}"
            );
        }
    }

    #[test]
    fn keys_in_the_query() {
        for (query, key) in [
            ("alt=sse&key=mk_a", Some("mk_a")),
            ("key=mk%5Fa%2", Some("mk_a%2")),
            ("key=a&x=1&key=a", Some("a")),
            ("key=%61&key=a", Some("a")),
            ("%6Bey=a", Some("a")),
            ("monkey=a", None),
            ("key", None),
        ] {
            let found = query_key(query).unwrap();
            assert_eq!(found.as_deref(), key.map(str::as_bytes), "{query}");
        }
        for query in [
            "key=a&key=b",
            "key=mk_a&key=AIza",
            "key=a&key=",
            "key=a&k%65y=b",
        ] {
            let conflict = Err(Fault::ConflictingCredentials("?key"));
            assert_eq!(query_key(query), conflict, "{query}");
        }
    }

    #[test]
    fn suffixes() {
        for (key, bare, mode) in [
            ("mk_a:read", "mk_a", Some(ModeSuffix::Read)),
            ("mk_a:write", "mk_a", Some(ModeSuffix::Write)),
            ("mk_a:off", "mk_a", Some(ModeSuffix::Off)),
            ("mk_a:on", "mk_a:on", None),
            ("mk_a:read:off", "mk_a:read", Some(ModeSuffix::Off)),
        ] {
            let (found, _, found_mode) = with(&format!("x-api-key: {key}\r\n"), None).unwrap();
            assert_eq!((found.as_str(), found_mode), (bare, mode));
        }
    }

    #[test]
    fn conflicts_and_unusable_keys() {
        let twice = |a: &str, b: &str| with(&format!("x-api-key: {a}\r\nX-API-Key: {b}\r\n"), None);
        assert_eq!(
            twice("mk_a", "mk_b"),
            Err(Fault::ConflictingCredentials("x-api-key"))
        );
        assert_eq!(twice("mk_a", "mk_a").unwrap().0, "mk_a");
        assert_eq!(with("", Some("a\r\nX: y")), Err(Fault::UnusableProviderKey));
        assert_eq!(
            with("X-Provider-Key: a b\r\n", None),
            Err(Fault::UnusableProviderKey)
        );
    }
}
