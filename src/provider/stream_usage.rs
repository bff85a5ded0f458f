//! Counts of a stream that its caller did not ask for: how a provider is asked for them (OpenAI's `stream_options`), and
//! what of the answer came only for that.
//!
//! `exchange` splices the question into the request, `relay` takes the answer to it out of the stream again. Anything
//! in an odd form is left as it is: then nothing was asked, or nothing is taken out. Offsets in, offsets out. Pure.

use std::borrow::Cow;
use std::ops::Range;

use super::body::RequestBody;
use super::json::{self, Broken};

const OPTION: &[u8] = b"include_usage";

/// What makes a request ask: these bytes in the place of this range. None if it asks already, is no stream, is refused
/// if it asks, or says something about it that is not understood.
pub fn question(found: &RequestBody, body: &[u8]) -> Option<(Range<usize>, Vec<u8>)> {
    if found.stream != Some(true) || found.stream_options_repeated || found.has_data_sources {
        return None;
    }
    let Some(value) = found.stream_options.clone() else {
        // Something else stands in the object too, if only the `stream` that was found.
        let at = found.members_start..found.members_start;
        return Some((at, b"\"stream_options\":{\"include_usage\":true},".to_vec()));
    };
    let said = body.get(value.clone())?;
    if said == b"null" {
        return Some((value, b"{\"include_usage\":true}".to_vec()));
    }
    let members = members(said).ok()?;
    let mut asked = members
        .iter()
        .filter(|member| *member.name(said) == *OPTION);
    let at = |range: &Range<usize>| value.start + range.start..value.start + range.end;
    match (asked.next(), asked.next()) {
        (Some(member), None) => match &said[member.value.clone()] {
            b"false" | b"null" => Some((at(&member.value), b"true".to_vec())),
            _ => None,
        },
        (None, _) => {
            let comma = if members.is_empty() { "" } else { "," };
            let text = format!("\"include_usage\":true{comma}");
            Some((at(&(1..1)), text.into_bytes()))
        }
        (Some(_), Some(_)) => None,
    }
}

/// What of an event is there only because somebody asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extra {
    /// All of it: no choices, but counts.
    Event,
    /// These bytes of its data: the member that says that there are no counts yet.
    Bytes(Range<usize>),
}

/// Looks at the data of one event.
pub fn extra(data: &[u8]) -> Option<Extra> {
    let members = members(data).ok()?;
    let find = |name: &[u8]| {
        members
            .iter()
            .position(|member| *member.name(data) == *name)
    };
    let at = find(b"usage")?;
    let usage = &members[at];
    if members[at + 1..]
        .iter()
        .any(|member| *member.name(data) == *b"usage")
    {
        return None;
    }
    let said = &data[usage.value.clone()];
    if said == b"null" {
        // The comma goes with it: the one before it, else the one behind.
        return Some(Extra::Bytes(
            match (at.checked_sub(1), members.get(at + 1)) {
                (Some(before), _) => members[before].value.end..usage.value.end,
                (None, Some(next)) => usage.start..next.start,
                (None, None) => usage.start..usage.value.end,
            },
        ));
    }
    let choices = &data[members[find(b"choices")?].value.clone()];
    let empty = choices
        .strip_prefix(b"[")
        .is_some_and(|rest| rest.trim_ascii_start() == b"]");
    (said.starts_with(b"{") && empty && find(b"error").is_none()).then_some(Extra::Event)
}

/// A member of an object, by offsets.
struct Member {
    /// Its name's opening quote.
    start: usize,
    name: Range<usize>,
    name_escaped: bool,
    value: Range<usize>,
}

impl Member {
    /// However it is spelled.
    fn name<'d>(&self, data: &'d [u8]) -> Cow<'d, [u8]> {
        json::text_bytes(&data[self.name.clone()], self.name_escaped)
    }
}

/// The members of the one object that `data` is.
fn members(data: &[u8]) -> Result<Vec<Member>, Broken> {
    let mut found = Vec::new();
    let mut at = json::skip_space(data, json::take(data, 0, b'{')?);
    let mut end = at + 1;
    if data.get(at) != Some(&b'}') {
        loop {
            if data.get(at) != Some(&b'"') {
                return Err(Broken);
            }
            let (name_end, name_escaped) = json::skip_string(data, at + 1)?;
            let value = json::skip_space(data, json::take(data, name_end, b':')?);
            let value_end = json::skip_value(data, value, 1)?;
            found.push(Member {
                start: at,
                name: at + 1..name_end - 1,
                name_escaped,
                value: value..value_end,
            });
            at = json::skip_space(data, value_end);
            match data.get(at) {
                Some(b',') => at = json::skip_space(data, at + 1),
                Some(b'}') => break,
                _ => return Err(Broken),
            }
        }
        end = at + 1;
    }
    match json::skip_space(data, end) == data.len() {
        true => Ok(found),
        false => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::body::scan;
    use crate::provider::splice::Splices;

    fn asked(body: &str) -> Option<String> {
        let found = scan(body.as_bytes(), Dialect::OpenAi).unwrap();
        let (range, bytes) = question(&found, body.as_bytes())?;
        let mut splices = Splices::default();
        splices.replace(range, bytes).unwrap();
        Some(String::from_utf8(splices.apply(body.as_bytes())).unwrap())
    }

    #[test]
    fn questions() {
        for (body, expected) in [
            (
                r#"{"model":"m","stream":true}"#,
                Some(r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#),
            ),
            (
                r#" { "stream" : true }"#,
                Some(r#" {"stream_options":{"include_usage":true}, "stream" : true }"#),
            ),
            (
                r#"{"stream":true,"stream_options":{}}"#,
                Some(r#"{"stream":true,"stream_options":{"include_usage":true}}"#),
            ),
            (
                r#"{"stream":true,"stream_options":{ "x" : 1 }}"#,
                Some(r#"{"stream":true,"stream_options":{"include_usage":true, "x" : 1 }}"#),
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage": false}}"#,
                Some(r#"{"stream":true,"stream_options":{"include_usage": true}}"#),
            ),
            (
                r#"{"stream_options":null,"stream":true}"#,
                Some(r#"{"stream_options":{"include_usage":true},"stream":true}"#),
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
                None,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":1}}"#,
                None,
            ),
            (
                r#"{"stream":true,"stream_options":{"include\u005fusage":true}}"#,
                None,
            ),
            (
                r#"{"stream":true,"stream_options":{"include\u005fusage":false}}"#,
                Some(r#"{"stream":true,"stream_options":{"include\u005fusage":true}}"#),
            ),
            (r#"{"stream":true,"stream_options":"x"}"#, None),
            (r#"{"stream":true,"data_sources":[{}]}"#, None),
            (
                r#"{"stream":true,"stream_options":null,"dataSources":[]}"#,
                None,
            ),
            (
                r#"{"stream":true,"stream_options":{},"stream_options":{}}"#,
                None,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":false,"include_usage":false}}"#,
                None,
            ),
            (r#"{"stream":false}"#, None),
            (r#"{"model":"m"}"#, None),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(asked(body), expected, "{body}");
            if let Some(asks) = expected {
                assert_eq!(asked(&asks), None, "{asks}");
            }
        }
    }

    #[test]
    fn extras() {
        let event = Some(Extra::Event);
        for (data, expected, rest) in [
            (
                r#"{"id":"1","choices":[],"usage":{"prompt_tokens":1}}"#,
                event.clone(),
                "",
            ),
            (r#"{"usage":{},"choices":[ ]}"#, event, ""),
            (r#"{"choices":[{}],"usage":{"prompt_tokens":1}}"#, None, ""),
            (r#"{"choices":[],"prompt_filter_results":[]}"#, None, ""),
            (r#"{"choices":[],"usage":{},"error":{}}"#, None, ""),
            (r#"{"usage":{}}"#, None, ""),
            (r#"{"choices":[{"usage":null}]}"#, None, ""),
            (
                r#"{"a":1,"usage":null}"#,
                Some(Extra::Bytes(6..19)),
                r#"{"a":1}"#,
            ),
            (
                r#"{"a": 1, "usage": null, "b": 2}"#,
                Some(Extra::Bytes(7..22)),
                r#"{"a": 1, "b": 2}"#,
            ),
            (
                r#"{"usage":null,"b":2}"#,
                Some(Extra::Bytes(1..14)),
                r#"{"b":2}"#,
            ),
            (r#"{"usage":null}"#, Some(Extra::Bytes(1..13)), "{}"),
            (r#"{"usage":null,"usage":null}"#, None, ""),
            (r#"{"a":"\"usage\":null"}"#, None, ""),
            ("[DONE]", None, ""),
            (r#"{"usage":null"#, None, ""),
        ] {
            let found = extra(data.as_bytes());
            assert_eq!(found, expected, "{data}");
            if let Some(Extra::Bytes(range)) = found {
                assert_eq!([&data[..range.start], &data[range.end..]].concat(), rest);
            }
        }
    }
}
