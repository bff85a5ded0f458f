//! Bodies made at random, with router members sprinkled in, against what another parser makes of them.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::provider::operation::{Operation, Task};

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

fn chat() -> Operation<'static> {
    Operation {
        dialect: Dialect::OpenAi,
        task: Task::ChatCompletions,
        version: "/v1",
        path: "/chat/completions",
        model: None,
    }
}

/// Whatever there is to find is found without a panic.
fn look(found: &RequestBody, bytes: &[u8]) {
    let _ = found.turn(bytes, &chat());
    found.said(bytes, &chat()).holds("a");
}

fn part() -> impl Strategy<Value = String> {
    let text = "\"([a-z{}\\[\\],:é漢😀]|\\\\[\"\\\\/bfnrt]|\\\\u00[0-9a-f]{2})*\"";
    prop_oneof![
        text.prop_map(|text| format!("{{\"type\":\"text\", \"text\" :{text}}}")),
        scalar().prop_map(|url| format!(
            "{{ \"type\":\"image_url\",\"image_url\":{{\"url\":{url}}} }}"
        )),
        text.prop_map(|text| text),
    ]
}

/// A message with a role, a content of either form, and members in any order.
fn said() -> impl Strategy<Value = String> {
    let role = prop_oneof![
        3 => Just("\"user\"".to_owned()),
        1 => Just("\"us\\u0065r\"".to_owned()),
        2 => Just("\"assistant\"".to_owned()),
        1 => Just("\"tool\"".to_owned()),
        1 => scalar(),
    ];
    let parts = proptest::collection::vec(part(), 0..4);
    let parts = parts.prop_map(|parts| format!("[ {} ]", parts.join(" ,")));
    let content = prop_oneof![2 => parts, 3 => scalar()];
    let members = (
        member("role", role),
        member("content", content),
        member("memory", scalar()),
        any::<(bool, bool)>(),
    );
    members.prop_map(|(role, content, memory, (turned, with))| {
        let mut members = if turned {
            vec![content, role]
        } else {
            vec![role, content]
        };
        if with {
            members.insert(1, memory);
        }
        object(members)
    })
}

/// Whether a content has no text in it.
fn is_silent(content: &Value) -> bool {
    let silent = |text: &Value| text.as_str().is_none_or(str::is_empty);
    match content {
        Value::Array(parts) => parts
            .iter()
            .all(|part| silent(part) && silent(&part["text"])),
        other => silent(other),
    }
}

/// Where the newest user message stands: what is silent behind a tool's is an agent's.
fn newest_of(messages: &[Value]) -> Option<usize> {
    let (mut newest, mut behind_tool) = (None, false);
    for (at, message) in messages.iter().enumerate() {
        let content = &message["content"];
        match message["role"].as_str() {
            Some("user") if behind_tool && is_silent(content) => {}
            Some("user") if content.is_string() || content.is_array() => {
                (newest, behind_tool) = (Some(at), false);
            }
            Some("tool") => behind_tool = true,
            Some("assistant") | None => behind_tool = false,
            Some(_) => {}
        }
    }
    newest
}

/// What another parser and a plain reading of the rules make of it: the text goes to the newest user message.
fn with_text(mut body: Value, text: &str) -> Option<Value> {
    let messages = body.get_mut("messages")?.as_array_mut()?;
    let at = newest_of(messages)?;
    let newest = messages.get_mut(at)?;
    match &mut newest["content"] {
        Value::String(said) => *said += &format!("\n\n{text}"),
        Value::Array(parts) => parts.push(serde_json::json!({"type": "text", "text": text})),
        _ => {}
    }
    Some(body)
}

proptest! {
    #[test]
    fn a_text_goes_to_the_newest_user_message_and_nowhere_else(
        messages in proptest::collection::vec(said(), 0..6),
        text in "[a-z\"\\\\\n\u{1}é😀<>]{1,20}",
        front in any::<bool>(),
    ) {
        let list = format!("\"messages\" : [{}]", messages.join(", "));
        let model = "\"model\": \"demo/m\"";
        let body = if front { format!("{{{model},{list}}}") } else { format!("{{{list} ,{model} }}") };
        let found = scan_conversation(body.as_bytes(), Dialect::OpenAi).unwrap();
        let understood = expected(serde_json::from_str(&body).unwrap());
        let turn = found.turn(body.as_bytes(), &chat());
        let wanted = with_text(understood, &text);
        prop_assert_eq!(turn.is_some(), wanted.is_some(), "{}", body);
        if let (Some(turn), Some(wanted)) = (turn, wanted) {
            let mut splices = found.edits(body.as_bytes(), "demo/").unwrap();
            let (at, bytes) = turn.insertion(&text);
            splices.insert(at, bytes).unwrap();
            let sent = splices.apply(body.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), wanted, "{}", body);
        }
    }

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
                let with = scan_conversation(&bytes, dialect);
                prop_assert_eq!(with.is_ok(), object, "{}", text);
                if let Ok(found) = with {
                    look(&found, &bytes);
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        for dialect in DIALECTS {
            let _ = scan(&bytes, dialect);
            let bytes = [b"{\"messages\":[{\"content\":[{", &bytes[..]].concat();
            let _ = scan(&bytes, dialect);
            let _ = scan_conversation(&bytes, dialect);
        }
    }
}
