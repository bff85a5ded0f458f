//! Bodies: what another JSON parser refuses is refused, and the edits take the router's fields off and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memoryrouter::provider::Dialect;
use memoryrouter::provider::body;
use serde_json::Value;

const ROUTER_FIELDS: [&str; 6] = [
    "memory",
    "memory_mode",
    "memory_store",
    "memory_store_response",
    "memory_limit",
    "session_id",
];

/// Takes the router's field off every message that any dialect could mean.
fn forget_messages(body: &mut Value) {
    for list in ["messages", "input", "contents"] {
        if let Some(Value::Array(messages)) = body.get_mut(list) {
            for message in messages.iter_mut().filter_map(Value::as_object_mut) {
                message.remove("memory");
            }
        }
    }
    if let Some(inner @ Value::Object(_)) = body.get_mut("generateContentRequest") {
        forget_messages(inner);
    }
    if let Some(Value::Array(requests)) = body.get_mut("requests") {
        requests.iter_mut().for_each(forget_messages);
    }
}

fuzz_target!(|bytes: &[u8]| {
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
        let Ok(scanned) = body::scan(bytes, dialect) else {
            continue;
        };
        let other: Value = match serde_json::from_slice(bytes) {
            Ok(other) => other,
            Err(error) => {
                // Its own bounds, on depth, numbers and lone surrogates, which the grammar (RFC 8259) does not have.
                let said = error.to_string();
                let bounds = ["recursion", "out of range", "surrogate", "hex escape"];
                assert!(
                    bounds.iter().any(|bound| said.contains(bound)),
                    "taken, but it is no JSON: {said}"
                );
                continue;
            }
        };
        let Value::Object(mut expected) = other else {
            panic!("taken, but it is no object");
        };
        let edited = scanned
            .edits(bytes, "")
            .expect("edits of one scan overlap")
            .apply(bytes);
        let Ok(Value::Object(result)) = serde_json::from_slice::<Value>(&edited) else {
            panic!("the edits broke it: {:?}", String::from_utf8_lossy(&edited));
        };
        for field in ROUTER_FIELDS {
            expected.remove(field);
            assert!(!result.contains_key(field), "{field} is still there");
        }
        let (mut result, mut expected) = (Value::Object(result), Value::Object(expected));
        // Which list holds the messages is the dialect's affair; what else stands in any of them stays.
        forget_messages(&mut result);
        forget_messages(&mut expected);
        assert_eq!(result, expected);
        if let Some(model) = &scanned.model {
            let _ = model.decode(bytes);
        }
        let again = body::scan(&edited, dialect).expect("what was edited is taken again");
        assert!(
            again.edits(&edited, "").expect("no overlap").is_empty(),
            "nothing is left to take off"
        );
    }
});
