//! What the tap sees of answers of every dialect, in whatever pieces they come.

use super::*;
use crate::provider::answer::Usage;

#[test]
fn counts_of_a_plain_answer_in_any_pieces() {
    let mut body = format!(
        "{{\"choices\":[{{\"message\":{{\"content\":\"{}\"}}}}],",
        "x".repeat(9000)
    );
    body += "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}";
    for step in [1, 7, 1000, 4096, 5000, body.len()] {
        let mut tap = Tap::new(Dialect::OpenAi, b"application/json; charset=utf-8", false);
        body.as_bytes()
            .chunks(step)
            .for_each(|piece| tap.content(piece));
        let usage = tap.finish().usage;
        assert_eq!((usage.input, usage.output), (Some(3), Some(2)), "{step}");
    }
}

#[test]
fn the_text_of_a_plain_answer_in_any_pieces() {
    let body = |text: &str| format!("{{\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}]}}");
    let text_of = |body: &str, step: usize| {
        let mut tap = Tap::new(Dialect::Anthropic, b"application/json", true);
        if step < body.len() || !tap.whole(body.as_bytes()) {
            let pieces = body.as_bytes().chunks(step);
            pieces.for_each(|piece| tap.content(piece));
        }
        std::mem::take(tap.finish())
    };
    for step in [1, 7, 100] {
        assert_eq!(text_of(&body("hi"), step).text, "hi");
    }
    // A long one in part, one that is too long not at all.
    let long = text_of(&body(&"é".repeat(200_000)), 9000).text;
    assert_eq!(long.len(), 256 * 1024);
    assert_eq!(text_of(&body(&"x".repeat(WHOLE_BYTES_MAX)), 9000).text, "");
    for step in [9, 100] {
        assert!(text_of("{\"error\":{\"message\":\"x\"}}", step).error);
    }
}

#[test]
fn counts_far_from_the_end_and_of_what_is_never_all_here() {
    let metadata = vec![format!("\"{}\":\"{}\"", "k".repeat(64), "漢".repeat(512)); 16].join(",");
    let counts = r#""usage":{"input_tokens":100,"output_tokens":50}"#;
    let nested = r#""parts":[{"usage":{"input_tokens":1,"output_tokens":2}}]"#;
    let picture = "A".repeat(1_500_000);
    let (json, sse) = ("application/json", "text/event-stream");
    for (content_type, body) in [
        (json, format!("{{{counts},\"metadata\":{{{metadata}}}}}")),
        (
            json,
            format!("{{\"output\":\"{picture}\",{counts},\"metadata\":{{{metadata}}}}}"),
        ),
        (
            json,
            format!("{{\"id\":1,{counts},\"output\":\"{picture}\",{nested}}}"),
        ),
        (
            json,
            format!("{{\"output\":\"{picture}\",{counts},{nested}}}"),
        ),
        (
            sse,
            format!(
                "event: response.completed\ndata: {{\"response\":{{\"output\":\"{picture}\",{counts},\"metadata\":{{{metadata}}}}}}}\n\n"
            ),
        ),
        (
            sse,
            format!("data: {{\"b64_json\":\"{picture}\",{counts}}}\n\ndata: [DONE]\n\n"),
        ),
    ] {
        for (step, with_text) in [(8192, false), (262_144, true), (body.len(), false)] {
            let mut tap = Tap::new(Dialect::OpenAi, content_type.as_bytes(), with_text);
            body.as_bytes()
                .chunks(step)
                .for_each(|piece| tap.content(piece));
            let usage = tap.finish().usage;
            assert_eq!(
                (usage.input, usage.output),
                (Some(100), Some(50)),
                "{}",
                &body[..60]
            );
        }
    }
}

/// Content type, body, and input, output, cached, written, reasoning.
type Counted = (Dialect, &'static str, String, [Option<u64>; 5]);

fn counted() -> Vec<Counted> {
    let long = "x".repeat(3000);
    let sse = "text/event-stream";
    let json = "application/json";
    vec![
        (
            Dialect::OpenAi,
            json,
            format!(r#"{{"id":"m","model":"mistral-small","usage":{{"prompt_tokens":9,"completion_tokens":4}},"choices":[{{"message":{{"content":"{long}{long}"}}}}]}}"#),
            [Some(9), Some(4), None, None, None],
        ),
        (
            Dialect::OpenAi,
            json,
            r#"{"object":"list","data":[],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}"#.into(),
            [Some(8), None, None, None, None],
        ),
        (
            Dialect::OpenAi,
            json,
            r#"{"text":"hi","usage":{"type":"tokens","total_tokens":9,"input_tokens":7,"input_token_details":{"audio_tokens":7},"output_tokens":2}}"#.into(),
            [Some(7), Some(2), None, None, None],
        ),
        (
            Dialect::OpenAi,
            json,
            format!(r#"{{"created":1,"data":[{{"b64_json":"{long}"}}],"usage":{{"total_tokens":9,"input_tokens":5,"output_tokens":4,"input_tokens_details":{{"text_tokens":5}}}}}}"#),
            [Some(5), Some(4), None, None, None],
        ),
        (
            Dialect::OpenAi,
            json,
            r#"{"choices":[],"usage":{"prompt_tokens":17,"completion_tokens":9,"prompt_cache_hit_tokens":6,"prompt_cache_miss_tokens":11}}"#.into(),
            [Some(17), Some(9), Some(6), None, None],
        ),
        // Both spellings at once, and members that are no counts.
        (
            Dialect::OpenAi,
            json,
            r#"{"usage":{"prompt_tokens":6,"input_tokens":6,"completion_tokens":2,"output_tokens":2,"cost":0.001,"note":"a \"usage\": {","cached_tokens":null,"reasoning":true}}"#.into(),
            [Some(6), Some(2), None, None, None],
        ),
        // Parts of the sum, before it and behind it.
        (
            Dialect::OpenAi,
            json,
            r#"{"steps":[{"usage":{"prompt_tokens":1,"completion_tokens":1}}],"usage":{"prompt_tokens":3000,"completion_tokens":900,"total_tokens":3900},"usage_breakdown":{"models":[{"usage":{"prompt_tokens":2900,"completion_tokens":880}},{"usage":{"prompt_tokens":100,"completion_tokens":20}}]},"x_groq":{"id":"r"}}"#.into(),
            [Some(3000), Some(900), None, None, None],
        ),
        // Reasoning that is in the total alone.
        (
            Dialect::OpenAi,
            json,
            r#"{"usage":{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"completion_tokens_details":{"reasoning_tokens":94}}}"#.into(),
            [Some(32), Some(103), None, None, Some(94)],
        ),
        (
            Dialect::OpenAi,
            sse,
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":10,\"total_tokens\":315}}\n\n".into(),
            [Some(5), Some(310), None, None, None],
        ),
        (
            Dialect::Gemini,
            json,
            r#"{"candidates":[],"usageMetadata":{"promptTokenCount":27,"candidatesTokenCount":45,"totalTokenCount":10431,"toolUsePromptTokenCount":10309,"thoughtsTokenCount":50}}"#.into(),
            [Some(10336), Some(95), None, None, Some(50)],
        ),
        (
            Dialect::OpenAi,
            json,
            r#"{"usage":{"prompt_tokens":7.0,"completion_tokens":3.00,"total_tokens":10.5}}"#.into(),
            [Some(7), Some(3), None, None, None],
        ),
        (
            Dialect::OpenAi,
            json,
            r#"{"object":"list","data":[],"model":"voyage-3","usage":{"total_tokens":10}}"#.into(),
            [Some(10), None, None, None, None],
        ),
        (
            Dialect::OpenAi,
            json,
            r#"{"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":5}}"#.into(),
            [None, Some(5), None, None, None],
        ),
        // What is no whole number is unknown; the rest counts.
        (
            Dialect::OpenAi,
            json,
            r#"{"usage" : { "prompt_tokens" : -1, "completion_tokens" : 5, "prompt_tokens_details" : { "cached_tokens" : 1.5 }, "completion_tokens_details" : null } }"#.into(),
            [None, Some(5), None, None, None],
        ),
        (
            Dialect::OpenAi,
            sse,
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"x_groq\":{\"id\":\"r\"}}\n\ndata: {\"choices\":[{\"delta\":{}}],\"x_groq\":{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}}\n\ndata: [DONE]\n\n".into(),
            [Some(3), Some(2), None, None, None],
        ),
        (
            Dialect::OpenAi,
            sse,
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\nevent: response.incomplete\ndata: {\"type\":\"response.incomplete\",\"response\":{\"usage\":{\"input_tokens\":5,\"input_tokens_details\":{\"cached_tokens\":1},\"output_tokens\":4,\"output_tokens_details\":{\"reasoning_tokens\":3}},\"user\":null}}\n\n".into(),
            [Some(5), Some(4), Some(1), None, Some(3)],
        ),
        (
            Dialect::Anthropic,
            sse,
            "event: message_start\r\ndata: {\"message\":{\"usage\":{\"input_tokens\":1,\"cache_creation_input_tokens\":20,\"cache_read_input_tokens\":30,\"output_tokens\":1}}}\r\n\r\nevent: message_delta\r\ndata: {\"delta\":{},\"usage\":{\"input_tokens\":1,\"cache_creation_input_tokens\":20,\"cache_read_input_tokens\":30,\"output_tokens\":9}}\r\n\r\n".into(),
            [Some(51), Some(9), Some(30), Some(20), None],
        ),
        (
            Dialect::Gemini,
            sse,
            "data: {\"candidates\":[],\"usageMetadata\":{\"promptTokenCount\":4,\"thoughtsTokenCount\":2}}\n\ndata: {\"candidates\":[],\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":3,\"thoughtsTokenCount\":5,\"cachedContentTokenCount\":1}}\n\n".into(),
            [Some(4), Some(8), Some(1), None, Some(5)],
        ),
        (
            Dialect::Gemini,
            json,
            format!("[{{\"candidates\":[{{\"x\":\"{long}\"}}],\"usageMetadata\":{{\"promptTokenCount\":4}}}},\n{{\"candidates\":[],\"usageMetadata\":{{\"promptTokenCount\":4,\"candidatesTokenCount\":3}},\"modelVersion\":\"g\"}}]"),
            [Some(4), Some(3), None, None, None],
        ),
    ]
}

#[test]
fn counts_of_every_dialect_at_every_cut() {
    for (dialect, content_type, body, expected) in counted() {
        let bytes = body.as_bytes();
        // Inside a long text one cut is like another.
        let cuts = (0..=bytes.len()).filter(|cut| *cut < 700 || *cut + 700 > bytes.len());
        let halves = cuts.map(|cut| vec![&bytes[..cut], &bytes[cut..]]);
        for pieces in halves.chain([bytes.chunks(1).collect(), vec![bytes]]) {
            let mut tap = Tap::new(dialect, content_type.as_bytes(), false);
            if pieces.len() > 1 || !tap.whole(bytes) {
                pieces.iter().for_each(|piece| tap.content(piece));
            }
            let Usage {
                input,
                output,
                cached,
                cache_written,
                cache_written_1h: _,
                reasoning,
                estimated,
            } = tap.finish().usage;
            let found = [input, output, cached, cache_written, reasoning];
            assert_eq!((found, estimated), (expected, false), "{body}");
        }
    }
}

#[test]
fn errors_under_a_good_status_with_and_without_text() {
    let array = |last: &str| {
        format!(
            "[{{\"candidates\":[{{\"x\":\"\\\"error\\\":1\"}}],\"usageMetadata\":{{\"promptTokenCount\":4}}}}\n,\n{last}\n]\n"
        )
    };
    let failed = r#"{"status":"failed","error":{"code":"server_error","error":"x"},"usage":null}"#;
    for (dialect, content_type, body, error) in [
        (
            Dialect::OpenAi,
            "application/json",
            r#"{"error":{"code":502,"error":{"error":1}}}"#.to_owned(),
            true,
        ),
        (Dialect::OpenAi, "application/json", failed.to_owned(), true),
        (
            Dialect::OpenAi,
            "application/json",
            format!("{failed}{}", " ".repeat(5000)),
            true,
        ),
        (
            Dialect::OpenAi,
            "application/json",
            failed.replace("{\"code\":\"server_error\",\"error\":\"x\"}", "null"),
            false,
        ),
        (
            Dialect::OpenAi,
            "application/json",
            r#"{"results":[{"error":{"code":1}},{"text":"\"error\":{}"}]}"#.to_owned(),
            false,
        ),
        (
            Dialect::Anthropic,
            "application/json",
            r#"{"type":"error","error":{"type":"overloaded_error"}}"#.to_owned(),
            true,
        ),
        (
            Dialect::Gemini,
            "application/json",
            array(r#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#),
            true,
        ),
        (
            Dialect::Gemini,
            "application/json",
            array(r#"{"candidates":[{"error":{"code":503}}]}"#),
            false,
        ),
        (
            Dialect::OpenAi,
            "text/event-stream",
            format!("data: {{\"type\":\"response.failed\",\"response\":{failed}}}\n\n"),
            true,
        ),
        (
            Dialect::OpenAi,
            "text/event-stream",
            "data: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n".to_owned(),
            false,
        ),
    ] {
        for (step, with_text) in [
            (1, false),
            (body.len(), false),
            (1, true),
            (body.len(), true),
        ] {
            let mut tap = Tap::new(dialect, content_type.as_bytes(), with_text);
            if step == 1 || !tap.whole(body.as_bytes()) {
                body.as_bytes()
                    .chunks(step)
                    .for_each(|piece| tap.content(piece));
            }
            assert_eq!(tap.finish().error, error, "{step} {with_text} {body}");
        }
    }
}

#[test]
fn what_is_of_no_known_type_is_left_alone() {
    for (content_type, read) in [
        ("", false),
        ("application/x-ndjson", false),
        ("audio/mpeg", false),
        ("Text/Event-Stream", true),
        ("text/event-stream; charset=utf-8", true),
    ] {
        let mut tap = Tap::new(Dialect::OpenAi, content_type.as_bytes(), true);
        tap.content(b"data: {\"error\":{}}\n\n");
        assert_eq!(tap.finish().error, read, "{content_type}");
    }
}

#[test]
fn what_cannot_be_read_of_a_models_text_weighs_what_it_has_bytes() {
    for (content_type, expects, said_bytes) in [
        ("", true, 10),
        ("text/plain", true, 10),
        ("", false, 0),
        ("application/json", true, 10),
    ] {
        let mut tap = Tap::new(Dialect::OpenAi, content_type.as_bytes(), false);
        if expects {
            tap.bills();
        }
        assert!(!expects || !tap.whole(b"1234567890") || content_type == "application/json");
        if content_type != "application/json" {
            tap.content(b"123");
            tap.content(b"4567890");
        }
        assert_eq!(tap.input_uncounted(), said_bytes > 0);
        let seen = tap.finish();
        assert_eq!(
            (seen.said_bytes, seen.is_counted()),
            (said_bytes, said_bytes == 0)
        );
        seen.estimate(|| 7, false);
        let estimate = (said_bytes > 0).then_some(3);
        assert_eq!(
            (seen.usage.output, seen.usage.estimated),
            (estimate, estimate.is_some())
        );
    }
}

#[test]
fn counts_of_an_event_whose_end_is_missing() {
    for end in ["", "\n"] {
        let event =
            format!("data: {{\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":2}}}}{end}");
        let mut tap = Tap::new(Dialect::OpenAi, b"text/event-stream", false);
        tap.content(event.as_bytes());
        assert_eq!(tap.counted().usage.output, None);
        tap.content_ends();
        assert_eq!(tap.counted().usage.output, Some(2));
    }
}

#[test]
fn a_plain_answer_without_counts_is_measured_in_any_pieces() {
    let body = |text: usize| format!("{{\"content\":\"{}\"}}", "x".repeat(text));
    for (body, said) in [
        (body(9), 9),
        (body(9000), 9000),
        // Not all of it is kept.
        (body(100_000), 100_014),
    ] {
        for step in [1000, body.len()] {
            let mut tap = Tap::new(Dialect::Anthropic, b"application/json", false);
            tap.bills();
            if step < body.len() || !tap.whole(body.as_bytes()) {
                let pieces = body.as_bytes().chunks(step);
                pieces.for_each(|piece| tap.content(piece));
            }
            assert!(!tap.counted().is_counted());
            assert!(tap.input_uncounted());
            assert_eq!(tap.finish().said_bytes, said, "{step}");
        }
    }
}
