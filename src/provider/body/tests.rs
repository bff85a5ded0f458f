use super::*;

mod generated;
mod refusals;

const DIALECTS: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];

fn scanned(body: &str, dialect: Dialect) -> RequestBody {
    scan(body.as_bytes(), dialect).unwrap_or_else(|error| panic!("{body}: {error:?}"))
}

fn sent(body: &str, dialect: Dialect, prefix: &str) -> String {
    let splices = scanned(body, dialect)
        .edits(body.as_bytes(), prefix)
        .unwrap();
    String::from_utf8(splices.apply(body.as_bytes())).unwrap()
}

/// Cut on OpenAI's paths, with no prefix.
fn cut(body: &str) -> String {
    sent(body, Dialect::OpenAi, "")
}

fn model(body: &str, dialect: Dialect) -> Option<String> {
    let found = scanned(body, dialect);
    found
        .model
        .map(|model| model.decode(body.as_bytes()).into_owned())
}

fn setting(body: &str, field: RouterField) -> Option<Setting> {
    scanned(body, Dialect::OpenAi).settings.get(field).cloned()
}

fn value(text: &str) -> Option<Setting> {
    Some(Setting::Value(text.to_owned()))
}

#[test]
fn router_members_go_with_one_comma_wherever_they_stand() {
    for (body, expected) in [
        (r#"{"memory":1}"#, r#"{}"#),
        (r#"{ "memory" : {"x":[1,2]} }"#, r#"{  }"#),
        (r#"{"memory":1,"a":2}"#, r#"{"a":2}"#),
        (r#"{"a":2,"memory":1}"#, r#"{"a":2}"#),
        (r#"{"a":2, "memory":1 , "b":3}"#, r#"{"a":2 , "b":3}"#),
        (r#"{ "memory": 1, "b": 3 }"#, r#"{ "b": 3 }"#),
        (r#"{"memory":1,"session_id":"s"}"#, r#"{}"#),
        (r#"{"memory":1,"session_id":"s","a":0}"#, r#"{"a":0}"#),
        (r#"{"a":0,"memory":1,"session_id":"s"}"#, r#"{"a":0}"#),
        (
            r#"{"memory":1,"a":0,"memory":2,"memory_limit":3,"b":1,"memory":9}"#,
            r#"{"a":0,"b":1}"#,
        ),
        ("{\n  \"memory\": 1,\n  \"a\": 2\n}", "{\n  \"a\": 2\n}"),
        ("{\n  \"a\": 2,\n  \"memory\": 1\n}", "{\n  \"a\": 2\n}"),
        (
            r#"{"memory":"},\"a\":[{","a":"memory"}"#,
            r#"{"a":"memory"}"#,
        ),
        (
            r#"{"m\u0065mory":1,"\u0073ession_id":2,"a":3}"#,
            r#"{"a":3}"#,
        ),
    ] {
        for dialect in DIALECTS {
            assert_eq!(sent(body, dialect, ""), expected, "{body}");
        }
    }
    for (name, _) in ROUTER_FIELDS {
        assert_eq!(
            cut(&format!(r#"{{"a":1,"{name}":null,"b":2}}"#)),
            r#"{"a":1,"b":2}"#
        );
    }
}

#[test]
fn memory_leaves_each_message_and_nothing_deeper() {
    for (list, dialect) in [
        ("messages", Dialect::OpenAi),
        ("input", Dialect::OpenAi),
        ("messages", Dialect::Anthropic),
        ("contents", Dialect::Gemini),
    ] {
        let with = |messages: &str| format!(r#"{{"x":0,"{list}":{messages},"y":0}}"#);
        for (messages, expected) in [
            (r#"[{"memory":false}]"#, r#"[{}]"#),
            (
                r#"[{"role":"user","memory":false,"content":"a"}]"#,
                r#"[{"role":"user","content":"a"}]"#,
            ),
            (
                r#"[{"a":1},{"memory":0,"memory":1},{"memory":2,"b":2}]"#,
                r#"[{"a":1},{},{"b":2}]"#,
            ),
            (
                r#" [ {"m\u0065mory":0 , "b":1} , "x", 3, [ {"memory":1} ] ]"#,
                r#" [ {"b":1} , "x", 3, [ {"memory":1} ] ]"#,
            ),
            (
                r#"[{"content":[{"memory":1}],"tool":{"memory":2}}]"#,
                r#"[{"content":[{"memory":1}],"tool":{"memory":2}}]"#,
            ),
            (
                r#"[{"session_id":1,"memory_mode":2}]"#,
                r#"[{"session_id":1,"memory_mode":2}]"#,
            ),
            (r#"[]"#, r#"[]"#),
            match dialect {
                Dialect::Gemini => (r#"{"memory":1}"#, r#"{}"#),
                _ => (r#"{"memory":1}"#, r#"{"memory":1}"#),
            },
            (r#""memory""#, r#""memory""#),
        ] {
            assert_eq!(
                sent(&with(messages), dialect, ""),
                with(expected),
                "{list} {messages}"
            );
        }
        let twice = format!(r#"{{"{list}":[{{"memory":1}}],"{list}":[{{"memory":1,"a":2}}]}}"#);
        assert_eq!(
            sent(&twice, dialect, ""),
            format!(r#"{{"{list}":[{{}}],"{list}":[{{"a":2}}]}}"#)
        );
    }
    // Other dialects' lists, and lists elsewhere, are the provider's own.
    for (body, dialect) in [
        (r#"{"contents":[{"memory":1}]}"#, Dialect::OpenAi),
        (r#"{"input":[{"memory":1}]}"#, Dialect::Anthropic),
        (r#"{"messages":[{"memory":1}]}"#, Dialect::Gemini),
        (
            r#"{"x":{"messages":[{"memory":1}],"memory":2}}"#,
            Dialect::OpenAi,
        ),
    ] {
        assert_eq!(sent(body, dialect, ""), body);
    }
}

#[test]
fn the_model_is_found_wherever_and_however_it_stands() {
    for (body, expected) in [
        (r#"{"model":"gpt-4o"}"#, Some("gpt-4o")),
        (r#" { "mod\u0065l" : "gpt-4o" } "#, Some("gpt-4o")),
        (r#"{"model":"a","model":"b"}"#, Some("b")),
        (
            r#"{"model":"open\u0061i\/gpt\u002d4o"}"#,
            Some("openai/gpt-4o"),
        ),
        (r#"{"model":""}"#, Some("")),
        (r#"{"model":"é漢😀\ud83d\ude00"}"#, Some("é漢😀😀")),
        (r#"{"model":null}"#, None),
        (r#"{"model":"a","model":5}"#, None),
        (r#"{"Model":"a"}"#, None),
        (
            r#"{"messages":[{"model":"a"}],"metadata":{"model":"b"}}"#,
            None,
        ),
        (r#"{}"#, None),
    ] {
        assert_eq!(model(body, Dialect::OpenAi).as_deref(), expected, "{body}");
    }
    let long = format!(
        r#"{{"messages":[{{"content":"{}"}}],"model":"gpt-4o"}}"#,
        "x\\n é".repeat(400_000)
    );
    assert_eq!(model(&long, Dialect::OpenAi).as_deref(), Some("gpt-4o"));
}

#[test]
fn a_prefix_comes_off_every_statement_of_the_model() {
    for (body, expected) in [
        (r#"{"model":"openai/gpt-4o"}"#, r#"{"model":"gpt-4o"}"#),
        (r#"{"model":"OpenAI/gpt-4o"}"#, r#"{"model":"gpt-4o"}"#),
        (r#"{"model":"openai\/gpt-4o"}"#, r#"{"model":"gpt-4o"}"#),
        (
            r#"{"model":"op\u0065nai/gpt\u002d4o"}"#,
            r#"{"model":"gpt\u002d4o"}"#,
        ),
        (r#"{"model":"openai/"}"#, r#"{"model":""}"#),
        (r#"{"model":"openai/openai/x"}"#, r#"{"model":"openai/x"}"#),
        (
            r#"{"model":"openai/a","x":1,"model":"openai/b"}"#,
            r#"{"model":"a","x":1,"model":"b"}"#,
        ),
        (
            r#"{"model":"openai/a","memory":1,"model":"azure/b"}"#,
            r#"{"model":"a","model":"azure/b"}"#,
        ),
        (
            r#"{"memory":1,"model":"openai/a","session_id":"openai/"}"#,
            r#"{"model":"a"}"#,
        ),
        (
            r#"{"model":"a","user":"openai/x","messages":[{"model":"openai/a"}]}"#,
            r#"{"model":"a","user":"openai/x","messages":[{"model":"openai/a"}]}"#,
        ),
        (r#"{"model":"openai"}"#, r#"{"model":"openai"}"#),
        (
            r#"{"model":"opena\u0069é/"}"#,
            r#"{"model":"opena\u0069é/"}"#,
        ),
    ] {
        assert_eq!(sent(body, Dialect::OpenAi, "openai/"), expected, "{body}");
    }
    let twice = r#"{"model":"openai/a","model":"b"}"#;
    let found = scanned(twice, Dialect::OpenAi);
    assert_eq!(found.model_repeats.len(), 1);
    assert_eq!(found.model_repeats[0].decode(twice.as_bytes()), "openai/a");
}

#[test]
fn gemini_bodies_repeat_the_model() {
    for (body, expected) in [
        (
            r#"{"model":"models/demo/echo","contents":[]}"#,
            r#"{"model":"models/echo","contents":[]}"#,
        ),
        (
            r#"{"model":"models\/demo\/echo"}"#,
            r#"{"model":"models\/echo"}"#,
        ),
        (r#"{"model":"demo/echo"}"#, r#"{"model":"echo"}"#),
        (
            r#"{"requests":[{"model":"models/demo/e","content":{"model":"models/demo/x"}},{"model":"models/demo/f"},7]}"#,
            r#"{"requests":[{"model":"models/e","content":{"model":"models/demo/x"}},{"model":"models/f"},7]}"#,
        ),
        (
            r#"{"generateContentRequest":{"contents":[],"model":"models/demo/e"},"memory":1}"#,
            r#"{"generateContentRequest":{"contents":[],"model":"models/e"}}"#,
        ),
        (
            r#"{"requests":{"model":"models/demo/x"}}"#,
            r#"{"requests":{"model":"models/demo/x"}}"#,
        ),
        (
            r#"{"tools":[{"model":"models/demo/x"}]}"#,
            r#"{"tools":[{"model":"models/demo/x"}]}"#,
        ),
        (
            r#"{"model":"models/other/echo"}"#,
            r#"{"model":"models/other/echo"}"#,
        ),
    ] {
        assert_eq!(sent(body, Dialect::Gemini, "demo/"), expected, "{body}");
    }
    let elsewhere = r#"{"requests":[{"model":"demo/x"}]}"#;
    assert_eq!(sent(elsewhere, Dialect::OpenAi, "demo/"), elsewhere);
}

#[test]
fn what_is_no_conversation_keeps_what_it_holds() {
    let body =
        br#"{"model":"m","memory":1,"input":[{"memory":null,"x":1}],"messages":[{"memory":0}]}"#;
    let found = scan_without_messages(body).unwrap();
    let splices = found.edits(body, "").unwrap();
    let expected = r#"{"model":"m","input":[{"memory":null,"x":1}],"messages":[{"memory":0}]}"#;
    assert_eq!(splices.apply(body), expected.as_bytes());
}

#[test]
fn bodies_without_router_members_are_untouched() {
    let odd = [
        "{}",
        "\r\n\t {\t\"model\"\n:\r\"gpt-4o\" , \"messages\" : [ ] }  \n",
        r#"{"model":"gpt-4o","seed":123456789012345678901234567890,"t":1.0e-0,"u":-0.0,"v":1E+400}"#,
        r#"{"a":1,"a":2,"a":{"a":3,"a":[]},"":0,"unknown":{"deep":[[[[{"memory":1}]]]]}}"#,
        r#"{"messages":[{"role":"user","content":"\u00e9\ud83d\ude00 é漢😀 \ud800 \udc00\u0000"}]}"#,
        "{\"x\":\"\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}\u{2028}\u{feff}\"}",
        r#"{"model":"gpt-4o","messages":[{"content":"{\"model\":\"openai/x\",\"memory\":true}"}]}"#,
        r#"{"memories":1,"Memory":2,"memory ":3,"session-id":4,"memory_modes":5}"#,
    ];
    for body in odd {
        for dialect in DIALECTS {
            let found = scanned(body, dialect);
            assert!(
                found.edits(body.as_bytes(), "").unwrap().is_empty(),
                "{body}"
            );
            assert_eq!(sent(body, dialect, "openai/"), body);
        }
    }
}

#[test]
fn settings_read_like_headers_do() {
    for (text, expected) in [
        (r#""off""#, value("off")),
        (r#""o\u0066f""#, value("off")),
        ("false", value("false")),
        ("true", value("true")),
        ("30", value("30")),
        ("-1.5e3", value("-1.5e3")),
        ("null", None),
        ("{}", Some(Setting::Unusable)),
        ("[1]", Some(Setting::Unusable)),
    ] {
        let body = format!(r#"{{"memory": {text} , "x":1}}"#);
        assert_eq!(setting(&body, RouterField::Memory), expected, "{text}");
        assert_eq!(setting(&body, RouterField::SessionId), None);
    }
    let long = format!(r#"{{"session_id":"{}"}}"#, "x".repeat(300));
    assert_eq!(
        setting(&long, RouterField::SessionId),
        Some(Setting::Unusable)
    );
    let twice = r#"{"memory_mode":"on","memory_mode":"off"}"#;
    assert_eq!(setting(twice, RouterField::MemoryMode), value("off"));
    for (index, (name, field)) in ROUTER_FIELDS.into_iter().enumerate() {
        assert_eq!(field as usize, index);
        assert_eq!(
            setting(&format!(r#"{{"{name}":"{name}"}}"#), field),
            value(name)
        );
    }
}

#[test]
fn what_stands_there_is_noted() {
    for (body, messages, input, stream) in [
        ("{}", false, false, None),
        (r#"{"messages":[],"stream":true}"#, true, false, Some(true)),
        (
            r#"{"messages":null,"input":"x","stream":false}"#,
            true,
            true,
            Some(false),
        ),
        (r#"{"input":[],"stream":"true"}"#, false, true, None),
        (
            r#"{"stream":true,"stream":false,"x":{"messages":1,"input":2,"stream":true}}"#,
            false,
            false,
            Some(false),
        ),
    ] {
        let found = scanned(body, Dialect::OpenAi);
        assert_eq!(
            (found.has_messages, found.has_input, found.stream),
            (messages, input, stream),
            "{body}"
        );
    }
}

#[test]
fn many_small_edits_stay_linear() {
    let message = r#"{"memory":0},"#;
    let model = r#""model":"demo/m","#;
    let body = format!(
        r#"{{"messages":[{}{{}}],{}"x":0}}"#,
        message.repeat(100_000),
        model.repeat(MODELS_MAX)
    );
    let expected = body.replace(r#""memory":0"#, "").replace("demo/", "");
    assert_eq!(sent(&body, Dialect::OpenAi, "demo/"), expected);
}
