//! Bodies made at random, with router members sprinkled in, against what another parser makes of them.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// One member, with white space around its tokens and its name written plainly or with an escape.
fn member(
    name: &'static str,
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    let space = "[ \n\r\t]{0,2}";
    let parts = (space, space, space, value, any::<bool>());
    parts.prop_map(move |(a, b, c, value, escape)| {
        let first = u32::from(name.as_bytes()[0]);
        let escaped = format!("\\u{first:04x}{}", &name[1..]);
        let name = if escape { escaped.as_str() } else { name };
        format!("{a}\"{name}\"{b}:{c}{value}{a}")
    })
}

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,8})",
        "\"([a-z{}\\[\\],:é漢😀]|\\\\[\"\\\\/bfnrt]|\\\\u00[0-9a-f]{2})*\"",
    ]
}

fn nested() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => scalar(),
        1 => scalar().prop_map(|inner| format!("{{\"memory\": {inner},\"model\":\"demo/x\"}}")),
        1 => scalar().prop_map(|inner| format!("[{inner}, {{ \"session_id\":1 }}]")),
    ]
}

fn object(members: Vec<String>) -> String {
    format!("{{{}}}", members.join(","))
}

fn message() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        member("memory", nested()),
        member("role", scalar()),
        member("content", nested()),
        member("session_id", scalar()),
    ];
    proptest::collection::vec(one, 0..5).prop_map(object)
}

fn messages() -> impl Strategy<Value = String> {
    let element = prop_oneof![4 => message(), 1 => scalar()];
    let elements = proptest::collection::vec(element, 0..4);
    elements.prop_map(|elements| format!("[ {} ]", elements.join(" , ")))
}

fn body() -> impl Strategy<Value = String> {
    let one = prop_oneof![
        member("memory", nested()),
        member("memory_mode", scalar()),
        member("memory_store", nested()),
        member("memory_limit", scalar()),
        member("session_id", scalar()),
        member("model", scalar()),
        member("model", Just("\"demo/m\"".to_owned())),
        member("messages", messages()),
        member("messages", nested()),
        member("other", nested()),
        member("stream", scalar()),
    ];
    proptest::collection::vec(one, 0..9).prop_map(object)
}

/// What the provider is to understand: the same without the router's members and without the prefix.
fn expected(mut body: Value) -> Value {
    let Value::Object(top) = &mut body else {
        panic!("{body} is no object");
    };
    for (name, _) in ROUTER_FIELDS {
        top.remove(name);
    }
    if let Some(Value::String(model)) = top.get_mut("model") {
        *model = model.strip_prefix("demo/").unwrap_or(model).to_owned();
    }
    if let Some(Value::Array(messages)) = top.get_mut("messages") {
        for message in messages.iter_mut().filter_map(Value::as_object_mut) {
            message.remove("memory");
        }
    }
    body
}

proptest! {
    #[test]
    fn the_provider_understands_the_same_without_router_members(body in body()) {
        let found = scanned(&body, Dialect::OpenAi);
        let splices = found.edits(body.as_bytes(), "demo/").unwrap();
        let sent = String::from_utf8(splices.apply(body.as_bytes())).unwrap();
        let parsed: Value = serde_json::from_str(&sent)
            .unwrap_or_else(|error| panic!("{error}: {body} → {sent}"));
        prop_assert_eq!(parsed, expected(serde_json::from_str(&body).unwrap()));

        // Nothing but the cuts is gone: taking them out by hand, from the end, gives the same bytes.
        let unprefixed = found.edits(body.as_bytes(), "").unwrap().apply(body.as_bytes());
        let mut naive = body.clone();
        for range in found.cuts.iter().rev() {
            naive.replace_range(range.clone(), "");
        }
        prop_assert_eq!(unprefixed, naive.into_bytes());
        prop_assert!(found.cuts.is_sorted_by(|a, b| a.end < b.start));
        // And a second pass finds nothing more to do.
        let again = scan(sent.as_bytes(), Dialect::OpenAi).unwrap();
        prop_assert!(again.cuts.is_empty());
        prop_assert_eq!(again.settings, Settings::default());
    }

    #[test]
    fn accepts_what_another_parser_accepts(
        body in body(),
        at in any::<prop::sample::Index>(),
        byte in 0u8..128,
        len in any::<prop::sample::Index>(),
    ) {
        let body = body.into_bytes();
        let mut damaged = body.clone();
        damaged[at.index(body.len())] = byte;
        let truncated = body[..len.index(body.len())].to_vec();
        for bytes in [body, damaged, truncated] {
            let Ok(text) = std::str::from_utf8(&bytes) else { continue };
            let parsed = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            let object = parsed && text.trim_start().starts_with('{');
            for dialect in DIALECTS {
                prop_assert_eq!(scan(&bytes, dialect).is_ok(), object, "{}", text);
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for dialect in DIALECTS {
            let _ = scan(&bytes, dialect);
            let _ = scan(&[b"{\"messages\":[{", &bytes[..]].concat(), dialect);
        }
    }
}
