//! JSON of others, read for what it says and never to be sent on: half a pair of UTF-16, a number beyond all bounds or a
//! thing that nests without end, anywhere in it, is no reason to lose the rest.
//!
//! What is in order costs no more than a strict parser takes.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use sonic_rs::Deserializer;

use super::json;
use crate::depth;

/// The whole document. What cannot be a text or a number stands for itself: U+FFFD, or a number that says nothing.
pub fn parse<T: DeserializeOwned>(document: &[u8]) -> Option<T> {
    let document = depth::pruned(document);
    let whole = |mut reader: Deserializer<sonic_rs::Read<'_>>| {
        let value = T::deserialize(&mut reader).ok()?;
        reader.end().ok().map(|()| value)
    };
    let strict = sonic_rs::from_slice(&document).ok();
    strict
        .or_else(|| whole(Deserializer::from_slice(&document).utf8_lossy()))
        .or_else(|| {
            whole(
                Deserializer::from_slice(&document)
                    .utf8_lossy()
                    .use_rawnumber(),
            )
        })
}

/// What a JSON string says; none of anything else.
pub fn text(raw: &str) -> Option<Cow<'_, str>> {
    let raw = raw.strip_prefix('"')?.strip_suffix('"')?;
    Some(json::decode(raw.as_bytes(), raw.contains('\\')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_in_one_place_is_read_in_the_others() {
        let deep = format!(
            "{{\"a\":{}{},\"b\":\"b\"}}",
            "[".repeat(200),
            "]".repeat(200)
        );
        for (document, says) in [
            (r#"{"b":"b"}"#, Some("b")),
            (
                r#"{"a":["\ud83d","\ude00"],"b":"b\ud83d"}"#,
                Some("b\u{fffd}"),
            ),
            (
                r#"{"a":1e999,"b":"b\udc00\ud83d"}"#,
                Some("b\u{fffd}\u{fffd}"),
            ),
            (r#"{"a":-1E400,"b":"\ud83d\ude00"}"#, Some("\u{1f600}")),
            (&deep, Some("b")),
            (r#"{"a":NaN,"b":"b"}"#, None),
            (r#"{"b":"b"}}"#, None),
            (r#"{"b":"b""#, None),
        ] {
            let value: Option<sonic_rs::Value> = parse(document.as_bytes());
            let found = value.map(|value| sonic_rs::to_string(&value["b"]).unwrap());
            let found = found.as_deref().and_then(text);
            assert_eq!(found.as_deref(), says, "{document:.60}");
        }
        assert_eq!(text("1"), None);
    }
}
