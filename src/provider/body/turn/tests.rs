use super::super::{scan, scan_conversation};
use super::*;
use crate::provider::Dialect;

fn operation(task: Task) -> Operation<'static> {
    let dialect = match task {
        Task::Messages => Dialect::Anthropic,
        Task::Generate { .. } => Dialect::Gemini,
        _ => Dialect::OpenAi,
    };
    Operation {
        dialect,
        task,
        version: "/v1",
        path: "/x",
        model: None,
    }
}

const CHAT: Task = Task::ChatCompletions;
const RESPONSES: Task = Task::Responses;
const MESSAGES: Task = Task::Messages;
const GENERATE: Task = Task::Generate { stream: false };

fn turn(body: &str, task: Task) -> Option<Turn> {
    let operation = operation(task);
    scan_conversation(body.as_bytes(), operation.dialect)
        .unwrap_or_else(|error| panic!("{body}: {error:?}"))
        .turn(body.as_bytes(), &operation)
}

/// The body with `text` put in, all edits made.
fn with(body: &str, task: Task, text: &str) -> String {
    let operation = operation(task);
    let found = scan_conversation(body.as_bytes(), operation.dialect).unwrap();
    let mut splices = found.edits(body.as_bytes(), "").unwrap();
    let turn = found.turn(body.as_bytes(), &operation).unwrap();
    let (at, bytes) = turn.insertion(text);
    splices.insert(at, bytes).unwrap();
    String::from_utf8(splices.apply(body.as_bytes())).unwrap()
}

#[test]
fn the_newest_user_message_of_every_dialect_and_shape() {
    #[rustfmt::skip] // Rows read by themselves: body, text, index, loops.
    let rows = [
        (CHAT, r#"{"messages":[{"role":"user","content":"a"}]}"#, "a", 0, false),
        (CHAT, r#"{"messages":[{"content":"caf\u00e9\n","role":"user"}]}"#, "café\n", 0, false),
        (CHAT, r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}"#, "c", 3, false),
        (CHAT, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{}]},{"role":"tool","content":"r"}]}"#, "a", 0, true),
        (CHAT, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"{"}]}"#, "a", 0, false),
        (CHAT, r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:x"}},{"text":"b","type":"text"}]}]}"#, "a\nb", 0, false),
        (CHAT, r#"{"messages":[{"role":"user","content":["a","b"]}]}"#, "a\nb", 0, false),
        (CHAT, r#"{"messages":[{"role":"user","content":[]}]}"#, "", 0, false),
        (CHAT, r#"{"messages":[{"role":"user","content":"a"}],"messages":[{"role":"user","content":"b"}]}"#, "b", 0, false),
        (CHAT, r#"{"input":"a"}"#, "a", 0, false),
        (CHAT, r#"{"input":"a","messages":[{"role":"user","content":"b"}]}"#, "b", 0, false),
        (RESPONSES, r#"{"input":"a"}"#, "a", 0, false),
        (RESPONSES, r#"{"input":"a","messages":[{"role":"user","content":"b"}]}"#, "a", 0, false),
        (RESPONSES, r#"{"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image","image_url":"x"}]},{"type":"reasoning","summary":[]},{"type":"function_call","name":"f"},{"type":"function_call_output","output":"o"}]}"#, "a", 0, true),
        (RESPONSES, r#"{"input":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"output_text","text":"b"}]}]}"#, "a", 0, false),
        (MESSAGES, r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]}"#, "a", 0, false),
        (MESSAGES, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"t"}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"user text"}]}]}"#, "a", 0, true),
        (MESSAGES, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"t"}]},{"role":"user","content":[{"type":"tool_result","content":"x"},{"type":"text","text":"b"}]}]}"#, "b", 2, false),
        (MESSAGES, r#"{"messages":[{"role":"user","content":[{"type":"text","text":"<system-reminder>\nread CLAUDE.md"},{"type":"text","text":"a"}]}]}"#, "a", 0, false),
        (MESSAGES, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"t"}]},{"role":"user","content":[{"type":"tool_result","content":"x"},{"type":"text","text":"\u003csystem-reminder>b"}]}]}"#, "a", 0, true),
        // What a tool made may stand beside its result, or behind it in a message of its own.
        (MESSAGES, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"t"}]},{"role":"user","content":[{"type":"tool_result","content":"x"},{"type":"image","source":{"type":"base64"}}]}]}"#, "a", 0, true),
        (MESSAGES, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"t"}]},{"role":"user","content":[{"type":"document","source":{"type":"text","data":"d"}},{"type":"text","text":"<system-reminder>"},{"type":"tool_result","content":"x"},{"type":"text","text":""}]}]}"#, "a", 0, true),
        (MESSAGES, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":[{"type":"image","source":{}}]}]}"#, "", 2, false),
        (CHAT, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{}]},{"role":"tool","content":"r"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:x"}}]},{"content":[{"type":"image_url"}],"role":"user"}]}"#, "a", 0, true),
        (CHAT, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{}]},{"role":"tool","content":"r"},{"role":"user","content":["b",{"type":"image_url"}]}]}"#, "b", 3, false),
        (RESPONSES, r#"{"input":[{"role":"user","content":"a"},{"type":"function_call","name":"f"},{"type":"function_call_output","output":"o"},{"role":"user","content":[{"type":"input_image"}]}]}"#, "a", 0, true),
        (GENERATE, r#"{"contents":[{"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[{"functionCall":{}}]},{"role":"user","parts":[{"functionResponse":{"name":"f"}},{"inlineData":{"data":"x"}}]}]}"#, "a", 0, true),
        // What the caller puts behind by itself is no step of the model's.
        (CHAT, r#"{"messages":[{"role":"user","content":"a"},{"role":"system","content":"s"},{"role":"developer","content":"d"}]}"#, "a", 0, false),
        (CHAT, r#"{"messages":[{"role":"user","content":"a"},{"role":"system","content":"s"},{"role":"assistant","content":"{"}]}"#, "a", 0, false),
        (CHAT, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{}]},{"role":"system","content":"s"},{"role":"tool","content":"r"}]}"#, "a", 0, true),
        (GENERATE, r#"{"contents":[{"parts":[{"text":"a"}]}]}"#, "a", 0, false),
        (GENERATE, r#"{"contents":[{"role":"user","parts":[{"text":"a"},{"inlineData":{"data":"x"}}]},{"role":"model","parts":[{"functionCall":{}}]},{"role":"user","parts":[{"functionResponse":{"name":"f"}}]}]}"#, "a", 0, true),
        (GENERATE, r#"{"contents":[{"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[{"functionCall":{}}]},{"role":"function","parts":[{"function_response":{}}]}]}"#, "a", 0, true),
        (GENERATE, r#"{"contents":{"parts":{"text":"a"}}}"#, "a", 0, false),
        (GENERATE, r#"{"contents":{"role":"user","parts":[{"text":"a"},{"text":"b"}]}}"#, "a\nb", 0, false),
        (GENERATE, r#"{"contents":[{"parts":{"text":"a"}},{"role":"model","parts":{"functionCall":{}}},{"parts":{"functionResponse":{}}}]}"#, "a", 0, true),
    ];
    for (task, body, text, index, loops) in rows {
        let found = turn(body, task).unwrap_or_else(|| panic!("{body}"));
        assert_eq!(
            (found.text.as_str(), found.index, found.loops),
            (text, index, loops),
            "{body}"
        );
        assert!(found.remembered);
    }
    for (task, body) in [
        (CHAT, r#"{"messages":[]}"#),
        (CHAT, r#"{"messages":[{"role":"system","content":"s"}]}"#),
        (CHAT, r#"{"messages":"x"}"#),
        (CHAT, r#"{"messages":[1,"a",{}]}"#),
        (MESSAGES, r#"{"messages":[{"content":"a"}]}"#),
        (
            RESPONSES,
            r#"{"input":[{"type":"function_call_output","output":"o"}]}"#,
        ),
        (
            GENERATE,
            r#"{"contents":{"role":"model","parts":{"text":"a"}}}"#,
        ),
        (GENERATE, r#"{"contents":{"parts":{"inlineData":{}}}}"#),
        (
            MESSAGES,
            r#"{"messages":{"role":"user","content":{"text":"a"}}}"#,
        ),
        (Task::Embeddings, r#"{"input":"a"}"#),
        (
            Task::CountTokens,
            r#"{"messages":[{"role":"user","content":"a"}]}"#,
        ),
        (
            Task::GeminiCountTokens,
            r#"{"contents":[{"parts":[{"text":"a"}]}]}"#,
        ),
    ] {
        assert_eq!(turn(body, task), None, "{body}");
    }
}

#[test]
fn a_loop_is_known_by_what_the_model_did_first() {
    let step = |rest: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"a"}},{rest}]}}"#);
        let turn = turn(&body, CHAT).unwrap();
        let (step, _) = turn.first_step(body.as_bytes())?;
        Some(String::from_utf8(step.into_owned()).unwrap())
    };
    let call = r#"{"role":"assistant","tool_calls":[{"id":"x","t":"\"cache_control\":1"}]}"#;
    let tool = r#"{"role":"tool","content":"r"}"#;
    assert_eq!(step(call), None);
    for rest in [
        format!("{call},{tool}"),
        format!("{call},{tool},{call},{tool}"),
        format!(r#"{{"role":"system","content":"s"}},{call} ,{tool}"#),
        // The marks of a cache come and go.
        format!(
            "{},{tool}",
            call.replace(r#""x""#, r#""x" , "cache_control" : {"type":"ephemeral"}"#)
        ),
        format!(
            "{},{tool}",
            call.replace(r#""id""#, r#""cache_control":{}, "id""#)
        ),
        format!(
            "{},{tool}",
            call.replace(r#"}]"#, r#","cache_control":null}],"cache_control":[]"#)
        ),
    ] {
        assert_eq!(step(&rest).as_deref(), Some(call), "{rest}");
    }
    // What only looks like one stays.
    let value = call.replace(r#""x""#, r#"["cache_control"]"#);
    assert_eq!(step(&format!("{value},{tool}")), Some(value));
    let long = format!(
        r#"{{"role":"assistant","content":"{}"}}"#,
        "y".repeat(50_000)
    );
    let found = step(&format!("{long},{tool}")).unwrap();
    assert_eq!(found, long[..STEP_BYTES_MAX]);
}

#[test]
fn a_result_says_which_call_it_is_of() {
    #[rustfmt::skip] // Rows read by themselves.
    let rows = [
        (CHAT, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","tool_calls":[{"id":"x"},{"id":"y"}]},{"tool_call_id":"\u0078","role":"tool","content":"r"},{"role":"tool","tool_call_id":"y"}]}"#, "x"),
        (CHAT, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","function_call":{}},{"role":"function","tool_call_id":null}]}"#, ""),
        (RESPONSES, r#"{"input":[{"role":"user","content":"a"},{"type":"reasoning","id":"r"},{"type":"function_call","id":"f","call_id":"w"},{"call_id":"x","type":"function_call_output","output":"o"}]}"#, "x"),
        (MESSAGES, r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"x"}]},{"role":"user","content":[{"type":"text","text":"<system-reminder>"},{"type":"tool_result","tool_use_id":"x","content":"r"},{"type":"tool_result","tool_use_id":"y"}]}]}"#, "x"),
        (GENERATE, r#"{"contents":[{"parts":[{"text":"a"}]},{"role":"model","parts":[{"functionCall":{}}]},{"parts":[{"functionResponse":{}}]}]}"#, ""),
    ];
    for (task, body, call) in rows {
        let turn = turn(body, task).unwrap();
        let (_, found) = turn.first_step(body.as_bytes()).unwrap();
        assert_eq!(found, call, "{body}");
    }
}

#[test]
fn a_message_can_ask_not_to_be_remembered() {
    for (said, remembered) in [
        ("false", false),
        ("\"false\"", false),
        ("\"False\"", false),
        ("true", true),
        ("null", true),
        ("0", true),
    ] {
        let body = format!(r#"{{"messages":[{{"memory":{said},"role":"user","content":"a"}}]}}"#);
        assert_eq!(turn(&body, CHAT).unwrap().remembered, remembered, "{said}");
    }
}

#[test]
fn a_text_goes_in_at_the_end_and_nothing_else_changes() {
    #[rustfmt::skip] // Pairs read by rows.
    let rows = [
        (CHAT, r#"{"messages":[{"role":"user","content":"a"}],"x":1.0}"#,
            r#"{"messages":[{"role":"user","content":"a\n\n\"B\"\n\\"}],"x":1.0}"#),
        (CHAT, r#"{"messages":[{"role":"user","content":"","memory":true} ]}"#,
            r#"{"messages":[{"role":"user","content":"\n\n\"B\"\n\\"} ]}"#),
        (CHAT, r#"{"messages":[{"role":"user","content":[ {"type":"text","text":"a"} ] }]}"#,
            r#"{"messages":[{"role":"user","content":[ {"type":"text","text":"a"},{"type":"text","text":"\"B\"\n\\"} ] }]}"#),
        (CHAT, r#"{"messages":[{"memory":1,"role":"user","content":[ ]}]}"#,
            r#"{"messages":[{"role":"user","content":[ {"type":"text","text":"\"B\"\n\\"}]}]}"#),
        (CHAT, r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]}]}"#,
            r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"\"B\"\n\\"}]}]}"#),
        (RESPONSES, r#"{"input":"a","memory":"on"}"#, r#"{"input":"a\n\n\"B\"\n\\"}"#),
        (MESSAGES, r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"text","text":"\"B\"\n\\"}]}]}"#),
        (GENERATE, r#"{"contents":[{"parts":[{"text":"a"},{"inlineData":{}}],"role":"user"}]}"#,
            r#"{"contents":[{"parts":[{"text":"a"},{"inlineData":{}},{"text":"\"B\"\n\\"}],"role":"user"}]}"#),
        (GENERATE, r#"{"contents":{"memory":1,"parts":{ "text":"a" , "x":{} } , "role":"user"},"y":0}"#,
            r#"{"contents":{"parts":{ "text":"a\n\n\"B\"\n\\" , "x":{} } , "role":"user"},"y":0}"#),
    ];
    for (task, body, expected) in rows {
        assert_eq!(with(body, task, "\"B\"\n\\"), expected);
    }
}

#[test]
fn texts_that_stand_in_the_request_are_found_again() {
    let long = "x".repeat(100);
    let body = format!(
        r#"{{"messages":[{{"role":"user","content":" A\ud83d\ude42\n"}},{{"role":"assistant","content":"{long}y"}},
            {{"role":"system","content":"secret"}},
            {{"role":"user","content":[{{"type":"text","text":"one"}},{{"type":"text","text":"two"}}]}}]}}"#
    );
    let operation = operation(CHAT);
    let found = scan_conversation(body.as_bytes(), Dialect::OpenAi).unwrap();
    let said = found.said(body.as_bytes(), &operation);
    for (text, holds) in [
        ("A🙂", true),
        ("A🙂 ", true),
        ("A", false),
        (&format!("{long}y"), true),
        (&format!("{long}z"), false),
        ("one\ntwo", true),
        ("one", false),
        ("secret", false),
        ("", false),
    ] {
        assert_eq!(said.holds(text), holds, "{text}");
    }
}

#[test]
fn texts_are_found_in_whatever_stands_in_the_request() {
    let fact = "My dog is called Rex and is six.";
    let other = "My dog is called Max and is six.";
    #[rustfmt::skip] // Rows read by themselves.
    let rows = [
        (CHAT, r#"{"messages":[{"role":"system","content":"FACT"},{"role":"user","content":"a"}]}"#),
        (CHAT, r#"{"messages":[{"role":"user","content":"a"},{"role":"tool","content":"FACT"}]}"#),
        (CHAT, r#"{"messages":[{"role":"user","content":"Hi. FACT\nOk?"},{"role":"user","content":"a"}]}"#),
        (RESPONSES, r#"{"instructions":"Be kind. FACT","input":"a"}"#),
        (MESSAGES, r#"{"system":"FACT","messages":[{"role":"user","content":"a"}]}"#),
        (MESSAGES, r#"{"messages":[{"role":"user","content":"a"}],"system":[{"type":"text","text":"FACT"}]}"#),
        (GENERATE, r#"{"systemInstruction":{"parts":[{"text":"Known: FACT"}]},"contents":[{"parts":[{"text":"a"}]}]}"#),
    ];
    for (task, body) in rows {
        let body = body.replace("FACT", fact);
        let operation = operation(task);
        let found = scan_conversation(body.as_bytes(), operation.dialect).unwrap();
        let said = found.said(body.as_bytes(), &operation);
        assert!(said.holds(fact) && !said.holds(other), "{body}");
    }
}

#[test]
fn without_a_conversation_asked_for_none_is_kept() {
    let body = br#"{"messages":[{"role":"user","content":"a"}],"input":"b"}"#;
    let found = scan(body, Dialect::OpenAi).unwrap();
    assert_eq!(found.turn(body, &operation(CHAT)), None);
    assert_eq!(found.messages, Messages::default());
    assert_eq!(found.input, Messages::default());
}
