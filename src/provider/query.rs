//! A request's query string on its way upstream: the router's parameters and every memory key come off, the rest
//! stays as it was written and in its order.
//!
//! Names and values are judged by what they say after percent-decoding, because that is what a provider reads.

use std::borrow::Cow;

/// Parameters that speak to the router. `key` is a Gemini credential, which leaves as a header.
const ROUTER_PARAMETERS: [&str; 7] = [
    "key",
    "mode",
    "memory",
    "store",
    "store_response",
    "limit",
    "debug",
];

/// Names a session on the vault's endpoints. Elsewhere a parameter of this name is the provider's.
pub const SESSION: &str = "session_id";

/// The query to send, without its question mark; `None` if nothing is left.
pub fn clean_query(query: &str) -> Option<Cow<'_, str>> {
    if query.split('&').all(|piece| !is_ours(piece)) {
        return (!query.is_empty()).then_some(Cow::Borrowed(query));
    }
    let kept: Vec<&str> = query.split('&').filter(|piece| !is_ours(piece)).collect();
    (!kept.is_empty()).then(|| Cow::Owned(kept.join("&")))
}

/// What a query says for `name`, decoded; of several the last.
pub fn parameter<'q>(query: &'q str, name: &str) -> Option<Cow<'q, [u8]>> {
    query
        .split('&')
        .filter_map(|pair| {
            let (named, value) = pair.split_once('=').unwrap_or((pair, ""));
            (*percent_decode(named) == *name.as_bytes()).then_some(value)
        })
        .next_back()
        .map(percent_decode)
}

/// A piece between two `&`. Some providers split at `;` as well, so each part must be harmless by itself.
fn is_ours(piece: &str) -> bool {
    piece.split(';').any(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let name = percent_decode(name);
        ROUTER_PARAMETERS
            .iter()
            .any(|ours| ours.as_bytes() == name.as_ref())
            || is_memory_key(&name)
            || is_memory_key(&percent_decode(value))
    })
}

/// Starts like a memory key, behind `Bearer` too.
fn is_memory_key(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let text = match text.split_at_checked(6) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer") => token.trim_ascii_start(),
        _ => text,
    };
    text.starts_with(b"mk_") || text.starts_with(b"mk-")
}

/// A form-encoded text's bytes; a `%` without two hex digits means itself.
pub fn percent_decode(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        decoded.push(match (first, behind) {
            (b'%', [high, low, tail @ ..]) => match (hex_value(*high), hex_value(*low)) {
                (Some(high), Some(low)) => {
                    rest = tail;
                    high << 4 | low
                }
                _ => b'%',
            },
            (b'+', _) => b' ',
            _ => first,
        });
    }
    Cow::Owned(decoded)
}

/// What one hex digit stands for.
pub(crate) fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(query: &str) -> Option<String> {
        clean_query(query).map(Cow::into_owned)
    }

    #[test]
    fn router_parameters_come_off_and_the_rest_stays_as_written() {
        for (query, expected) in [
            ("", None),
            ("beta=true", Some("beta=true")),
            ("alt=sse&key=AIzaSy", Some("alt=sse")),
            ("key=AIza&alt=sse", Some("alt=sse")),
            (
                "mode=off&memory=read&store=false&store_response=false&limit=3&debug=true&key=x",
                None,
            ),
            ("a=%20+x&mode=off&&b&a=2&=", Some("a=%20+x&&b&a=2&=")),
            ("%6Dode=off&x=1", Some("x=1")),
            ("model=x&models=y&Mode=z", Some("model=x&models=y&Mode=z")),
            ("limit", None),
            ("a=1;key=secret&b=2", Some("b=2")),
            ("x=%zz&y=%", Some("x=%zz&y=%")),
        ] {
            assert_eq!(cleaned(query).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn a_memory_key_never_goes_on() {
        for query in [
            "token=mk_abc",
            "token=mk-abc",
            "token=%6Dk_abc",
            "token=mk%5fabc",
            "mk_abc",
            "mk_abc=1",
            "token=%20mk_abc",
            "token=+mk_abc",
            "token=Bearer%20mk_abc",
            "token=bearer+mk_abc",
            "a=1;token=mk_abc",
        ] {
            assert_eq!(cleaned(query), None, "{query}");
            let among = format!("x=1&{query}&y=2");
            assert_eq!(cleaned(&among).as_deref(), Some("x=1&y=2"), "{query}");
        }
        assert_eq!(cleaned("token=mkabc").as_deref(), Some("token=mkabc"));
    }
}
