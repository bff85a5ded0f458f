use super::*;

fn usage(
    input: u64,
    output: u64,
    cached: Option<u64>,
    written: Option<u64>,
    reasoning: Option<u64>,
) -> Usage {
    Usage {
        input: Some(input),
        output: Some(output),
        cached,
        cache_written: written,
        cache_written_1h: None,
        reasoning,
        estimated: false,
    }
}

#[test]
fn plain_answers_of_every_dialect() {
    for (dialect, body, expected, text) in [
        (
            Dialect::OpenAi,
            r#"{"choices":[{"message":{"content":"say \"usage\": {}"}}],"usage":{"prompt_tokens":9,"completion_tokens":4,
               "total_tokens":13,"prompt_tokens_details":{"cached_tokens":2,"audio_tokens":0},
               "completion_tokens_details":{"reasoning_tokens":3}},"service_tier":"x"}"#,
            usage(9, 4, Some(2), None, Some(3)),
            "say \"usage\": {}",
        ),
        (
            Dialect::OpenAi,
            r#"{"output":[{"type":"reasoning"},{"type":"message","content":[{"type":"output_text","text":"hi"}]}],
               "usage":{"input_tokens":5,"input_tokens_details":{"cached_tokens":1},"output_tokens":2,
               "output_tokens_details":{"reasoning_tokens":0}}}"#,
            usage(5, 2, Some(1), None, Some(0)),
            "hi",
        ),
        (
            Dialect::Anthropic,
            r#"{"content":[{"type":"thinking","thinking":"x"},{"type":"text","text":"a"},{"type":"text","text":"b"}],
               "usage":{"input_tokens":10,"cache_creation_input_tokens":20,"cache_read_input_tokens":30,
               "output_tokens":7,"service_tier":"standard"}}"#,
            usage(60, 7, Some(30), Some(20), None),
            "ab",
        ),
        (
            Dialect::Gemini,
            r#"{"candidates":[{"content":{"parts":[{"text":"t","thought":true},{"text":"hi"}]}}],
               "usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":2,"thoughtsTokenCount":5,
               "cachedContentTokenCount":1},"modelVersion":"g"}"#,
            usage(4, 7, Some(1), None, Some(5)),
            "hi",
        ),
    ] {
        let mut seen = Observed::default();
        seen.tail(dialect, &body.as_bytes()[20..]);
        seen.whole(dialect, body.as_bytes());
        assert_eq!(
            (seen.usage, seen.text.as_str(), seen.error),
            (expected, text, false),
            "{body}"
        );
    }
}

#[test]
fn whether_an_answer_is_over() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    #[rustfmt::skip] // Rows read by themselves.
    let rows = [
        (OpenAi, r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#, false, true),
        (OpenAi, r#"{"choices":[{"delta":{}, "finish_reason" : "length"}]}"#, false, true),
        (OpenAi, r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#, false, false),
        (OpenAi, r#"{"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}"#, false, false),
        (OpenAi, r#"{"choices":[{"delta":{"content":"\"finish_reason\":\"stop\""}}]}"#, false, false),
        (OpenAi, "[DONE]", true, false),
        (OpenAi, r#"{"type":"response.completed","response":{}}"#, true, true),
        (OpenAi, r#"{"sequence_number": 3, "type": "response.incomplete", "response": {}}"#, false, true),
        (OpenAi, r#"{"type": "response.output_text.delta", "delta": "\"response.completed\""}"#, false, false),
        (Anthropic, r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#, false, false),
        (Anthropic, r#"{"type":"message_stop"}"#, true, false),
        (Gemini, r#"{"candidates":[{"finishReason":"STOP"}]}"#, true, false),
    ];
    for (dialect, data, ended, finished) in rows {
        let mut seen = Observed::default();
        seen.event(dialect, b"", data.as_bytes(), true);
        assert_eq!((seen.ended, seen.finished), (ended, finished), "{data}");
    }
    for (body, ended) in [
        (r#"{"choices":[{"message":{"content":"a"}}]}"#, true),
        (r#"{"choices":[{"message":{"content":"a"}}]"#, false),
    ] {
        let mut seen = Observed::default();
        seen.whole(OpenAi, body.as_bytes());
        assert_eq!(seen.ended, ended, "{body}");
    }
}

#[test]
fn of_several_choices_the_one_that_is_first_by_its_number_counts() {
    let of = |choices: &str| {
        let mut seen = Observed::default();
        let body = format!("{{\"choices\":[{choices}]}}");
        seen.whole(Dialect::OpenAi, body.as_bytes());
        seen.text
    };
    let second = r#"{"index":1,"message":{"content":"b"}}"#;
    let first = r#"{"index":0,"message":{"content":"a"}}"#;
    assert_eq!(of(&format!("{second},{first}")), "a");
    assert_eq!(of(&format!("{first},{second}")), "a");
    assert_eq!(of(second), "b");
    assert_eq!(of(""), "");
}

#[test]
fn streams_of_every_dialect() {
    let run = |dialect, events: &[(&str, &str)]| {
        let mut seen = Observed::default();
        for (name, data) in events {
            seen.event(dialect, name.as_bytes(), data.as_bytes(), true);
        }
        seen
    };
    let chat = run(
        Dialect::OpenAi,
        &[
            (
                "",
                r#"{"choices":[{"delta":{"role":"assistant","content":"He"}}],"usage":null}"#,
            ),
            (
                "",
                r#"{"choices":[{"delta":{"content":"y"}}],"usage":null}"#,
            ),
            (
                "",
                r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#,
            ),
            ("", "[DONE]"),
        ],
    );
    assert_eq!(
        (chat.text.as_str(), chat.usage, chat.error),
        ("Hey", usage(3, 2, None, None, None), false)
    );
    let responses = run(
        Dialect::OpenAi,
        &[
            (
                "response.output_text.delta",
                r#"{"type":"response.output_text.delta","delta":"ok"}"#,
            ),
            (
                "response.completed",
                r#"{"type":"response.completed","response":{"error":null,"usage":{"input_tokens":1,"output_tokens":2}}}"#,
            ),
        ],
    );
    assert_eq!(
        (responses.text.as_str(), responses.usage),
        ("ok", usage(1, 2, None, None, None))
    );
    assert!(!responses.error);
    let messages = run(
        Dialect::Anthropic,
        &[
            (
                "message_start",
                r#"{"type":"message_start","message":{"usage":{"input_tokens":5,"cache_read_input_tokens":2,"output_tokens":1}}}"#,
            ),
            (
                "content_block_delta",
                r#"{"delta":{"type":"thinking_delta","thinking":"no"}}"#,
            ),
            (
                "content_block_delta",
                r#"{"delta":{"type":"text_delta","text":"yes"}}"#,
            ),
            (
                "message_delta",
                r#"{"delta":{},"usage":{"output_tokens":9}}"#,
            ),
        ],
    );
    assert_eq!(
        (messages.text.as_str(), messages.usage),
        ("yes", usage(7, 9, Some(2), None, None))
    );
}

#[test]
fn what_is_broken_in_one_place_of_an_answer_costs_none_of_its_text() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    let run = |dialect, name: &str, events: &[&str]| {
        let mut seen = Observed::default();
        for data in events {
            seen.event(dialect, name.as_bytes(), data.as_bytes(), true);
        }
        seen.text
    };
    let chat = |pieces: &[&str]| {
        let event =
            |piece: &&str| format!(r#"{{"choices":[{{"delta":{{"content":"{piece}"}}}}]}}"#);
        let events: Vec<String> = pieces.iter().map(event).collect();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        run(OpenAi, "", &events)
    };
    #[rustfmt::skip] // Rows read by themselves.
    let rows = [
        (vec![r"a\ud83d", r"\ude00b"], "a\u{1f600}b"),
        (vec![r"a", r"\uD83D", "", r"\uDE00", r" b"], "a\u{1f600} b"),
        (vec![r"a \ud83d here", " b"], "a \u{fffd} here b"),
        (vec![r"a\ud83d", "b"], "a\u{fffd}b"),
        (vec![r"a\\ud83d", r"\ude00"], "a\\ud83d\u{fffd}"),
        (vec![r"a\\\ud83d", r"\ude00"], "a\\\u{1f600}"),
        (vec![r"\ud83d\ude00", "b"], "\u{1f600}b"),
    ];
    for (pieces, text) in rows {
        assert_eq!(chat(&pieces), text, "{pieces:?}");
    }
    let said = [r#"{"delta":"a\ud83d"}"#, r#"{"delta":"\ude00"}"#];
    assert_eq!(
        run(OpenAi, "response.output_text.delta", &said),
        "a\u{1f600}"
    );
    let said = [
        r#"{"delta":{"text":"a\ud83d"}}"#,
        r#"{"delta":{"text":"\ude00"}}"#,
    ];
    assert_eq!(run(Anthropic, "content_block_delta", &said), "a\u{1f600}");
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for odd in [r#""\ud83d""#, "1e999", "-1e400", &deep] {
        for (dialect, body) in [
            (
                OpenAi,
                r#"{"x":ODD,"choices":[{"logprobs":ODD,"message":{"content":"it"}}]}"#,
            ),
            (
                OpenAi,
                r#"{"x":ODD,"output":[{"type":"message","content":[{"type":"output_text","text":"it"}]}]}"#,
            ),
            (
                Anthropic,
                r#"{"x":ODD,"content":[{"type":"text","text":"it","citations":ODD}]}"#,
            ),
            (
                Gemini,
                r#"{"x":ODD,"candidates":[{"content":{"parts":[{"text":"it"}]}}]}"#,
            ),
        ] {
            let mut seen = Observed::default();
            seen.whole(dialect, body.replace("ODD", odd).as_bytes());
            assert_eq!(
                (seen.text.as_str(), seen.ended),
                ("it", true),
                "{body} {odd:.20}"
            );
        }
        let event = r#"{"x":ODD,"choices":[{"delta":{"content":"it"},"logprobs":ODD}]}"#;
        assert_eq!(
            run(OpenAi, "", &[&event.replace("ODD", odd)]),
            "it",
            "{odd:.20}"
        );
        let event = r#"{"x":ODD,"candidates":[{"content":{"parts":[{"text":"it"}]}}]}"#;
        assert_eq!(
            run(Gemini, "", &[&event.replace("ODD", odd)]),
            "it",
            "{odd:.20}"
        );
    }
}

#[test]
fn what_stands_between_two_texts_divides_them() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    #[rustfmt::skip] // Rows read by themselves.
    let rows = [
        (Anthropic, r#"{"content":[{"type":"text","text":"I look"},{"type":"server_tool_use"},{"type":"text","text":"It is"},{"type":"text","text":" six"}]}"#, "I look\nIt is six"),
        (Anthropic, r#"{"content":[{"type":"thinking","thinking":"x"},{"type":"text","text":"a\n"},{"type":"x"},{"type":"text","text":"b"}]}"#, "a\nb"),
        (OpenAi, r#"{"output":[{"type":"message","content":[{"type":"output_text","text":"one"}]},{"type":"web_search_call"},{"type":"message","content":[{"type":"output_text","text":"two"}]}]}"#, "one\ntwo"),
        (Gemini, r#"{"candidates":[{"content":{"parts":[{"text":"before"},{"executableCode":{}},{"text":"after"}]}}]}"#, "before\nafter"),
    ];
    for (dialect, body, text) in rows {
        let mut seen = Observed::default();
        seen.whole(dialect, body.as_bytes());
        assert_eq!(seen.text, text, "{body}");
    }
    let mut seen = Observed::default();
    for (name, data) in [
        (
            "content_block_start",
            r#"{"content_block":{"type":"text"}}"#,
        ),
        ("content_block_delta", r#"{"delta":{"text":"I look"}}"#),
        (
            "content_block_start",
            r#"{"content_block":{"type":"server_tool_use"}}"#,
        ),
        (
            "content_block_start",
            r#"{"content_block":{"type":"text"}}"#,
        ),
        ("content_block_delta", r#"{"delta":{"text":"It is"}}"#),
        (
            "content_block_start",
            r#"{"content_block":{"type":"text"}}"#,
        ),
        ("content_block_delta", r#"{"delta":{"text":"six"}}"#),
    ] {
        seen.event(Anthropic, name.as_bytes(), data.as_bytes(), true);
    }
    assert_eq!(seen.text, "I look\nIt issix");
}

#[test]
fn what_is_written_to_a_cache_for_an_hour_is_known_apart() {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_creation_input_tokens":100,
        "cache_read_input_tokens":1000,"cache_creation":{"ephemeral_5m_input_tokens":40,"ephemeral_1h_input_tokens":60},
        "output_tokens":1}}}"#;
    let end = r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":25}}"#;
    let mut seen = Observed::default();
    for event in [start, end] {
        seen.event(Dialect::Anthropic, b"", event.as_bytes(), false);
    }
    let expected = Usage {
        cache_written_1h: Some(60),
        ..usage(1110, 25, Some(1000), Some(100), None)
    };
    assert_eq!(seen.usage, expected);
}

#[test]
fn errors_inside_a_good_status() {
    for (name, data, error) in [
        (
            "error",
            r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
            true,
        ),
        ("", r#"{"error":{"message":"x"}}"#, true),
        ("", r#"{"type": "error"}"#, true),
        ("", r#"{"error":null,"choices":[]}"#, false),
        (
            "",
            r#"{"choices":[{"delta":{"content":"\"error\""}}]}"#,
            false,
        ),
        ("response.failed", "{}", true),
        (
            "",
            r#"{"type":"response.failed","response":{"error":{"code":"x"}}}"#,
            true,
        ),
        (
            "",
            r#"{"type":"response.completed","response":{"error":null}}"#,
            false,
        ),
    ] {
        let mut seen = Observed::default();
        seen.event(Dialect::OpenAi, name.as_bytes(), data.as_bytes(), false);
        assert_eq!(seen.error, error, "{name} {data}");
    }
}

#[test]
fn nonsense_is_no_count() {
    for tail in [
        "\"usage\"",
        "\"usage\":{",
        "\"usage\":{\"prompt_tokens\":\"x\"}",
        "\"usage\":[1]",
        "\"usage\":{\"a\":\"}\"}",
    ] {
        let mut seen = Observed::default();
        seen.tail(Dialect::OpenAi, tail.as_bytes());
        assert_eq!(seen.usage, Usage::default(), "{tail}");
    }
}

#[test]
fn what_events_say_is_measured_in_every_dialect() {
    for (data, expected) in [
        (
            r#"{"choices":[{"index":0,"delta":{"content":"four"}}],"sent":1}"#,
            4,
        ),
        (
            r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
            0,
        ),
        (r#"{"choices":[{"delta":{"content":null}}]}"#, 0),
        // As it is spelled, and quotes in it end nothing.
        (r#"{"choices":[{"delta":{"content":"a\"text\":\"b"}}]}"#, 13),
        (
            r#"{"choices":[{"delta":{"reasoning_content":"why","content":"so"}}]}"#,
            5,
        ),
        (
            r#"{"choices":[{"delta":{"content":"","reasoning":"why"}}]}"#,
            3,
        ),
        (r#"{"choices":[{"delta":{"refusal":"I must not"}}]}"#, 10),
        (
            r#"{"choices":[{"delta":{"audio":{"id":"a","transcript":"four"}}}]}"#,
            4,
        ),
        // The same thoughts under several names, beside what is no thought.
        (
            r#"{"choices":[{"delta":{"reasoning":"why","reasoning_details":[{"type":"reasoning.text","text":"why?"}],"content":"so"}}]}"#,
            6,
        ),
        (
            r#"{"choices":[{"delta":{"reasoning_details":[{"text":"why"}],"reasoning_content":"why","reasoning":"why"}}]}"#,
            3,
        ),
        (
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}"#,
            2,
        ),
        (
            r#"{"choices":[{"delta":{"content":"one"}},{"delta":{"content":"two"}}]}"#,
            6,
        ),
        (
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"four"}}"#,
            4,
        ),
        (
            r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}"#,
            1,
        ),
        (
            r#"{"type":"content_block_delta","delta" : {"thinking" : "hm"}}"#,
            2,
        ),
        (r#"{"type":"response.output_text.delta","delta":"four"}"#, 4),
        // What repeats it adds nothing.
        (r#"{"type":"response.output_text.done","text":"four"}"#, 0),
        (
            r#"{"type":"response.content_part.done","part":{"type":"output_text","text":"four"}}"#,
            0,
        ),
        (
            r#"{"type":"response.output_item.done","item":{"content":[{"type":"output_text","text":"four"}]}}"#,
            0,
        ),
        (r#"{"type":"transcript.text.done","text":"four"}"#, 0),
        (r#"{"choices":[{"index":0,"text":"four"}]}"#, 4),
        (
            r#"{"candidates":[{"content":{"parts":[{"text":"four"}],"role":"model"}}]}"#,
            4,
        ),
        (r#"{"type":"message_start","message":{"content":[]}}"#, 0),
        // An event that is cut off, and one that only speaks of such members.
        (r#"{"choices":[{"delta":{"content":"fou"#, 3),
        (r#"{"choices":[{"delta":{"content":"#, 0),
        (r#"{"choices":[{"delta":{"name":"content"}}]}"#, 0),
        ("[DONE]", 0),
    ] {
        let mut seen = Observed::default();
        let dialect = match data.contains("candidates") {
            true => Dialect::Gemini,
            false => Dialect::OpenAi,
        };
        seen.event(dialect, b"", data.as_bytes(), false);
        assert_eq!(seen.said_bytes, expected, "{data}");
    }
}

#[test]
fn counts_that_came_are_not_estimated_wherever_a_stream_ends() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    let chat = r#"{"choices":[{"delta":{"content":"twelve bytes"}}],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#;
    let start =
        r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}"#;
    let delta = r#"{"type":"content_block_delta","delta":{"text":"twelve bytes"}}"#;
    let end = r#"{"type":"message_delta","usage":{"output_tokens":2}}"#;
    let error = r#"{"type":"error","error":{"type":"overloaded_error"}}"#;
    let gemini = r#"{"candidates":[{"content":{"parts":[{"text":"twelve bytes"}]}}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2}}"#;
    let uncounted = r#"{"choices":[{"delta":{"content":"twelve bytes"}}]}"#;
    for (dialect, events, caller_left, tokens, estimated) in [
        (OpenAi, &[chat][..], true, (9, 2), false),
        (OpenAi, &[chat], false, (9, 2), false),
        (OpenAi, &[uncounted], false, (40, 3), true),
        (OpenAi, &[uncounted], true, (40, 3), true),
        (Anthropic, &[start, delta], true, (9, 3), true),
        (Anthropic, &[start, delta, end], true, (9, 2), false),
        (Anthropic, &[start], true, (9, 1), false),
        // A provider that ends its stream by an error event, and one that never counts what it said.
        (Anthropic, &[start, delta, error], false, (9, 3), true),
        (Anthropic, &[start, delta], false, (9, 3), true),
        (Gemini, &[gemini], true, (9, 2), false),
        (OpenAi, &[], true, (40, 0), true),
        (OpenAi, &[], false, (0, 0), false),
    ] {
        let mut seen = Observed::default();
        for event in events {
            seen.event(dialect, b"", event.as_bytes(), false);
        }
        seen.estimate(|| 40, caller_left);
        let Usage { input, output, .. } = seen.usage;
        let found = (input.unwrap_or(0), output.unwrap_or(0));
        assert_eq!(
            (found, seen.usage.estimated),
            (tokens, estimated),
            "{events:?} {caller_left}"
        );
    }
}

#[test]
fn a_plain_answer_is_measured_by_its_texts_or_by_its_length() {
    for (body, kept_from, said) in [
        (
            r#"{"choices":[{"message":{"content":"twelve bytes"}}],"usage":null}"#,
            0,
            12,
        ),
        (r#"{"choices":[{"message":{"content":"twelve by"#, 0, 9),
        (
            r#"[{"candidates":[{"content":{"parts":[{"text":"four"}]}}]}"#,
            0,
            4,
        ),
        (
            r#"{"output":[{"content":[{"type":"output_text","text":"four"}]}]}"#,
            0,
            4,
        ),
        (
            r#"{"content":[{"type":"tool_use","name":"f","input":{"a":1}}]}"#,
            0,
            60,
        ),
        (
            r#"{"choices":[{"message":{"content":"twelve bytes"}}]}"#,
            40,
            52,
        ),
        (
            r#"{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":1,"completion_tokens":0}}"#,
            0,
            0,
        ),
        (r#"{"error":{"message":"no"}}"#, 0, 0),
    ] {
        for billed in [true, false] {
            let mut seen = Observed {
                billed,
                ..Observed::default()
            };
            let kept = &body.as_bytes()[kept_from..];
            seen.tail(Dialect::OpenAi, kept);
            seen.measure(kept, body.len());
            let said = if billed { said } else { 0 };
            assert_eq!(
                (seen.said_bytes, seen.is_counted()),
                (said, said == 0),
                "{body}"
            );
        }
    }
}

#[test]
fn a_billed_answer_without_a_known_text_costs_what_was_asked() {
    let odd = r#"{"choices":[{"delta":{"muse":"twelve bytes"}}]}"#;
    let error = r#"{"error":{"message":"x"}}"#;
    for (billed, event, tokens) in [
        (true, odd, Some(40)),
        (false, odd, None),
        (true, error, None),
    ] {
        let mut seen = Observed {
            billed,
            ..Observed::default()
        };
        seen.event(Dialect::OpenAi, b"", event.as_bytes(), false);
        seen.estimate(|| 40, false);
        let found = (seen.usage.input, seen.usage.estimated);
        assert_eq!(found, (tokens, tokens.is_some()), "{event}");
    }
}

#[test]
fn the_last_word_of_a_stream() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    for (dialect, name, data, last) in [
        (OpenAi, "", "[DONE]", true),
        (
            OpenAi,
            "",
            r#"{"choices":[{"finish_reason":"stop"}]}"#,
            false,
        ),
        (OpenAi, "response.completed", "{}", true),
        (OpenAi, "response.output_text.done", "{}", false),
        (
            OpenAi,
            "",
            r#"{"type":"response.completed","response":{}}"#,
            true,
        ),
        (
            OpenAi,
            "",
            r#"{"type":"response.in_progress","response":{}}"#,
            false,
        ),
        (Anthropic, "message_stop", "{}", true),
        (Anthropic, "", r#"{"type":"message_stop"}"#, true),
        (
            Anthropic,
            "message_delta",
            r#"{"delta":{"stop_reason":"end_turn"}}"#,
            false,
        ),
        (
            Gemini,
            "",
            r#"{"candidates":[{"finishReason" : "STOP"}]}"#,
            true,
        ),
        (
            Gemini,
            "",
            r#"{"candidates":[{"finishReason":null}]}"#,
            false,
        ),
        (Gemini, "", r#"{"candidates":[]}"#, false),
    ] {
        let mut seen = Observed::default();
        seen.event(dialect, name.as_bytes(), data.as_bytes(), false);
        assert_eq!(seen.ended, last, "{name} {data}");
    }
}
