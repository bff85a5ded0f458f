use super::*;
use crate::memory::{MemoryId, Recalled, Role, Window};
use crate::provider::Dialect;
use crate::provider::answer::Observed;
use crate::relay::SseScanner;

fn ask(path: &str, body: &str) -> Reply {
    answer(path, "alt=sse", body.as_bytes(), 1_700_000_000)
}

/// What a reader of the dialect sees: the text and the counts.
fn read(dialect: Dialect, reply: &Reply) -> Observed {
    let mut seen = Observed::default();
    match &reply.content {
        Content::Json(body) => {
            seen.tail(dialect, body.as_bytes());
            seen.whole(dialect, body.as_bytes());
        }
        Content::Events(events) => {
            let mut scanner = SseScanner::default();
            for event in events {
                scanner.push(event.as_bytes(), |event| {
                    seen.event(dialect, event.name, event.data, true)
                });
            }
        }
    }
    seen
}

#[test]
fn every_dialect_echoes_plain_and_streamed_with_counts() {
    let messages = r#""messages":[{"role":"user","content":"old"},{"role":"assistant","content":"x"},
        {"role":"user","content":[{"type":"text","text":"hi there"},{"type":"image_url"}]}]"#;
    for (dialect, path, body) in [
        (Dialect::OpenAi, "/v1/chat/completions", format!("{{\"model\":\"echo\",{messages}")),
        (Dialect::OpenAi, "/v1/chat/completions", r#"{"model":"echo","input":"hi there""#.into()),
        (Dialect::OpenAi, "/v1/completions", r#"{"model":"echo","prompt":"hi there""#.into()),
        (Dialect::OpenAi, "/v1/responses", r#"{"model":"echo","input":"hi there""#.into()),
        (
            Dialect::OpenAi,
            "/v1/responses",
            r#"{"model":"echo","input":[{"role":"user","content":[{"type":"input_text","text":"hi there"}]}]"#.into(),
        ),
        (Dialect::Anthropic, "/v1/messages", format!("{{\"model\":\"echo\",{messages}")),
    ] {
        let streamed = format!("{body},\"stream\":true,\"stream_options\":{{\"include_usage\":true}}}}");
        for body in [format!("{body}}}"), streamed] {
            let seen = read(dialect, &ask(path, &body));
            assert_eq!(seen.text, "You said: hi there", "{path} {body}");
            let counted = path == "/v1/completions" && body.contains("stream") || seen.usage.output == Some(5);
            assert!(counted && !seen.error, "{path} {body} {seen:?}");
        }
    }
    let contents = r#"{"contents":[{"role":"user","parts":[{"text":"hi there"}]}]}"#;
    for method in ["generateContent", "streamGenerateContent"] {
        for query in ["", "alt=sse"] {
            let path = format!("/v1beta/models/echo:{method}");
            let seen = read(
                Dialect::Gemini,
                &answer(&path, query, contents.as_bytes(), 0),
            );
            assert_eq!(
                (seen.text.as_str(), seen.usage.output),
                ("You said: hi there", Some(5)),
                "{path}?{query}"
            );
        }
    }
}

#[test]
fn other_endpoints() {
    for (path, body, expected) in [
        (
            "/v1/embeddings",
            r#"{"model":"echo","input":["a","b"]}"#,
            "\"index\":1",
        ),
        (
            "/v1/embeddings",
            r#"{"model":"echo","input":"a","encoding_format":"base64"}"#,
            "AAAA",
        ),
        (
            "/v1/moderations",
            r#"{"model":"echo","input":"a"}"#,
            "\"flagged\":false",
        ),
        (
            "/v1/messages/count_tokens",
            r#"{"model":"echo","messages":[]}"#,
            "\"input_tokens\":1",
        ),
        (
            "/v1beta/models/echo:countTokens",
            r#"{"contents":[]}"#,
            "\"totalTokens\":1",
        ),
        (
            "/v1beta/models/echo:embedContent",
            r#"{"content":{"parts":[{"text":"a"}]}}"#,
            "\"values\"",
        ),
        (
            "/v1beta/models/echo:batchEmbedContents",
            r#"{"requests":[{"content":{}}]}"#,
            "\"embeddings\"",
        ),
    ] {
        let reply = ask(path, body);
        let Content::Json(text) = &reply.content else {
            panic!("{path} streams")
        };
        assert!(
            reply.status == 200 && text.contains(expected),
            "{path} {text}"
        );
    }
}

#[test]
fn what_it_has_not() {
    for (path, body, status) in [
        (
            "/v1/chat/completions",
            r#"{"model":"gpt","messages":[]}"#,
            404,
        ),
        ("/v1/audio/speech", r#"{"model":"echo"}"#, 404),
        ("/v1beta/models/gemini:generateContent", "{}", 404),
        ("/v1/chat/completions", "not json", 400),
    ] {
        assert_eq!(ask(path, body).status, status, "{path}");
    }
}

#[test]
fn it_tells_what_it_was_reminded_of() {
    let memory = |text: &str, role| Recalled {
        id: MemoryId(1),
        text: text.into(),
        role,
        at_ms: 0,
        session: None,
        score: 1.0,
        window: Window::Hot,
        tokens: 1,
    };
    let block = block::render(&[
        memory("My dog is called \"Rex\".", Role::User),
        memory("You said: My dog is called \"Rex\".", Role::Assistant),
        memory("I live in <Zürich>.", Role::User),
        memory(
            "I remember: a\nYou said: What is my dog called?",
            Role::Assistant,
        ),
        memory(
            "I remember: b\nYou said: Rex swims in cold lakes.",
            Role::Assistant,
        ),
    ]);
    let said = format!("What is my dog called?\n\n{}", block.unwrap());
    assert_eq!(
        echo(&said),
        "I remember: My dog is called \"Rex\". | I live in <Zürich>. | Rex swims in cold lakes.\n\
         You said: What is my dog called?"
    );
    assert_eq!(echo(""), "You said nothing.");
}
