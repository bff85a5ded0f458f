//! Why a JSON body is refused: by the name of a member and what was expected there, never by what stood there, which may
//! be a secret.

use serde::de::DeserializeOwned;

/// Of a name that is told, and of what a parser says: whoever sends longer ones knows what was sent.
const NAME_CHARACTERS_MAX: usize = 64;
const SAID_CHARACTERS_MAX: usize = 256;
/// No body that is taken apart here goes deeper.
const DEPTH_MAX: usize = 3;

/// What is wrong with a body that did not become a `T`, where that can be said.
pub fn json_reason<T: DeserializeOwned>(body: &[u8], error: &sonic_rs::Error) -> Option<String> {
    let text = error.to_string();
    let about = said(&text);
    // Only names stand in these.
    if ["unknown field", "missing field", "duplicate field"]
        .iter()
        .any(|start| about.starts_with(start))
    {
        return Some(about.chars().take(SAID_CHARACTERS_MAX).collect());
    }
    odd_member::<T>(std::str::from_utf8(body).ok()?, &mut Vec::new())
}

/// Tries each member alone, with what it stands in, and tells of the first that does not do.
fn odd_member<T: DeserializeOwned>(object: &str, path: &mut Vec<String>) -> Option<String> {
    for member in sonic_rs::to_object_iter(object) {
        let (name, value) = member.ok()?;
        let value = value.as_raw_str();
        path.push(name.to_string());
        let alone = path.iter().rev().fold(value.to_owned(), |inner, name| {
            let name = sonic_rs::to_string(name).unwrap_or_default();
            format!("{{{name}:{inner}}}")
        });
        let error = sonic_rs::from_str::<T>(&alone)
            .err()
            .map(|error| error.to_string());
        let wrong = error.filter(|text| !text.starts_with("missing field"));
        if let Some(text) = wrong {
            let deeper = path.len() < DEPTH_MAX && value.trim_start().starts_with('{');
            let inner = if deeper {
                odd_member::<T>(value, path)
            } else {
                None
            };
            return inner.or_else(|| Some(told(path, &text)));
        }
        path.pop();
    }
    None
}

/// What a parser says, without the place and the picture of it.
fn said(text: &str) -> &str {
    let first = text.lines().next().unwrap_or_default();
    first
        .rsplit_once(" at line ")
        .map_or(first, |(said, _)| said)
}

fn told(path: &[String], text: &str) -> String {
    let name: String = path.join(".").chars().take(NAME_CHARACTERS_MAX).collect();
    // Behind this word stands what the type takes, and nothing of the body.
    let expected = said(text)
        .rsplit_once("expected ")
        .map(|(_, expected)| expected);
    let expected = match expected {
        Some("u32") => "a whole number up to 4294967295",
        Some("u64" | "usize") => "a whole number up to 18446744073709551615",
        Some("a sequence") => "a list",
        Some(word) if word.starts_with("struct ") => "an object",
        Some(word) => word,
        None => "another value",
    };
    format!("{name}: {expected}")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Wish {
        name: String,
        count: Option<u32>,
        days: u64,
        models: Vec<String>,
        limits: Limits,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        rpm: Option<u32>,
        span: Option<Span>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Span {
        Day,
        Month,
    }

    #[test]
    fn a_refusal_names_the_member_and_quotes_nothing() {
        let whole = "a whole number up to";
        for (body, expected) in [
            (r#"{"name":7}"#, "name: a string"),
            (r#"{"days":-1}"#, &*format!("days: {whole} {}", u64::MAX)),
            (r#"{"days":1.5}"#, &format!("days: {whole} {}", u64::MAX)),
            (
                r#"{"days":18446744073709551616}"#,
                &format!("days: {whole} {}", u64::MAX),
            ),
            (
                r#"{"count":4294967296}"#,
                &format!("count: {whole} {}", u32::MAX),
            ),
            (
                r#"{"name":"sk","count":"sk-secret, expected sk at line 1"}"#,
                &format!("count: {whole} {}", u32::MAX),
            ),
            (r#"{"name":"sk-secret","models":[3]}"#, "models: a string"),
            (r#"{"name":"sk-secret","models":"x"}"#, "models: a list"),
            (
                r#"{"limits":{"rpm":"9"},"name":"x"}"#,
                &format!("limits.rpm: {whole} {}", u32::MAX),
            ),
            (r#"{"limits":7}"#, "limits: an object"),
            (
                r#"{"limits":{"span":"sk-week"}}"#,
                "limits.span: `day` or `month`",
            ),
            (
                r#"{"limits":{"rmp":9}}"#,
                "unknown field `rmp`, expected `rpm` or `span`",
            ),
        ] {
            let error = sonic_rs::from_str::<Wish>(body).unwrap_err();
            let told = json_reason::<Wish>(body.as_bytes(), &error);
            assert_eq!(told.as_deref(), Some(expected), "{body}");
        }
        let twice = r#"{"name":"sk-a","name":"sk-b"}"#;
        let error = sonic_rs::from_str::<Wish>(twice).unwrap_err();
        let told = json_reason::<Wish>(twice.as_bytes(), &error);
        assert_eq!(told.as_deref(), Some("duplicate field `name`"));
        for broken in [r#"{"name":"x""#, r#"{"name":tru}"#, "{"] {
            let error = sonic_rs::from_str::<Wish>(broken).unwrap_err();
            assert_eq!(json_reason::<Wish>(broken.as_bytes(), &error), None);
        }
    }
}
