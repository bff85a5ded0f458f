//! Watches an answer's content without touching it.
//!
//! `relay` hands it every run of content; it keeps a bounded copy of what it needs (one event of a stream, the last
//! bytes of a plain answer, or all of one that is to be remembered) and can neither delay nor break the relay. What it
//! saw goes to `record`.

use super::sse::SseScanner;
use crate::net;
use crate::provider::Dialect;
use crate::provider::answer::{Observed, Usage};

/// The counts stand within the last bytes of a plain answer; Google's end with a few more fields.
const TAIL_BYTES: usize = 4 * 1024;

/// Within the first bytes stand those of providers that count before they answer (Mistral).
const HEAD_BYTES: usize = 1024;

/// A plain answer that is larger is not remembered.
const WHOLE_BYTES_MAX: usize = 1024 * 1024;

enum Form {
    Events(SseScanner),
    /// The last bytes; or all of them.
    Plain(Vec<u8>),
    /// Compressed by a provider that was asked not to, or not text at all: relayed, not inspected.
    Opaque,
}

/// The tap on one answer.
pub struct Tap {
    dialect: Dialect,
    form: Form,
    /// The first bytes of a plain answer of which only the end is kept.
    head: Vec<u8>,
    /// The answer's text is wanted, and can still be had.
    with_text: bool,
    /// The counts of a plain answer have been looked for.
    counted: bool,
    seen: Observed,
}

impl Tap {
    /// A tap for an answer with these fields; `with_text` gathers what it says.
    pub fn new(
        dialect: Dialect,
        content_type: &[u8],
        content_encoding: Option<&[u8]>,
        with_text: bool,
    ) -> Self {
        let starts = |text: &str| {
            content_type
                .get(..text.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
        };
        let encoded =
            content_encoding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        let form = match () {
            () if encoded => Form::Opaque,
            () if starts("text/event-stream") => Form::Events(SseScanner::default()),
            () if starts("application/json") => Form::Plain(Vec::new()),
            () => Form::Opaque,
        };
        Self {
            dialect,
            form,
            head: Vec::new(),
            with_text,
            counted: false,
            seen: Observed::default(),
        }
    }

    /// All of the content at once, if it is a plain answer's of 4 KiB at most: nothing of it is copied then, and it is
    /// read before it is relayed, which takes a few microseconds. Returns whether it was.
    pub fn whole(&mut self, bytes: &[u8]) -> bool {
        let short =
            bytes.len() <= TAIL_BYTES && matches!(&self.form, Form::Plain(kept) if kept.is_empty());
        if short {
            self.form = Form::Opaque;
            self.seen.tail(self.dialect, bytes);
            if self.with_text {
                self.seen.whole(self.dialect, bytes);
            }
        }
        short
    }

    /// The next run of content.
    pub fn content(&mut self, bytes: &[u8]) {
        let Self {
            dialect,
            form,
            head,
            with_text,
            seen,
            ..
        } = self;
        if let Form::Plain(kept) = form
            && kept.capacity() == 0
        {
            *kept = net::buffer(TAIL_BYTES);
        }
        match form {
            Form::Events(scanner) => {
                scanner.push(bytes, |event| {
                    seen.event(*dialect, event.name, event.data, *with_text)
                });
            }
            Form::Plain(kept) if *with_text && kept.len() + bytes.len() <= WHOLE_BYTES_MAX => {
                kept.extend_from_slice(bytes);
            }
            Form::Plain(tail) => {
                *with_text = false;
                if head.is_empty() && tail.len() + bytes.len() > TAIL_BYTES {
                    let first = tail.iter().chain(bytes).take(HEAD_BYTES);
                    head.extend(first);
                }
                keep_tail(tail, bytes);
            }
            Form::Opaque => {}
        }
    }

    /// What was seen but for an answer's text, which takes longer to read, once the last byte is here.
    pub fn counted(&mut self) -> &Observed {
        if let Form::Plain(kept) = &self.form
            && !std::mem::replace(&mut self.counted, true)
        {
            let tail = &kept[kept.len().saturating_sub(TAIL_BYTES)..];
            self.seen.tail(self.dialect, tail);
            let before = kept.len() - tail.len();
            let head = match self.head.as_slice() {
                [] => &kept[..before.min(HEAD_BYTES)],
                head => head,
            };
            if self.seen.usage == Usage::default() && !head.is_empty() {
                self.seen.tail(self.dialect, head);
            }
        }
        &self.seen
    }

    /// What was seen, once the last byte has passed.
    pub fn finish(mut self) -> Observed {
        self.counted();
        if let Form::Plain(kept) = self.form {
            if self.with_text {
                self.seen.whole(self.dialect, &kept);
            }
            net::recycle(kept);
        }
        self.seen
    }
}

fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
    let surplus = (tail.len() + last.len()).saturating_sub(TAIL_BYTES);
    tail.drain(..surplus);
    tail.extend_from_slice(last);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_a_plain_answer_in_any_pieces() {
        let mut body = format!(
            "{{\"choices\":[{{\"message\":{{\"content\":\"{}\"}}}}],",
            "x".repeat(9000)
        );
        body += "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}";
        for step in [1, 7, 1000, 4096, 5000, body.len()] {
            let mut tap = Tap::new(
                Dialect::OpenAi,
                b"application/json; charset=utf-8",
                None,
                false,
            );
            body.as_bytes()
                .chunks(step)
                .for_each(|piece| tap.content(piece));
            let usage = tap.finish().usage;
            assert_eq!((usage.input, usage.output), (Some(3), Some(2)), "{step}");
        }
    }

    #[test]
    fn the_text_of_a_plain_answer_in_any_pieces() {
        let body =
            |text: &str| format!("{{\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}]}}");
        let text_of = |body: &str, step: usize| {
            let mut tap = Tap::new(Dialect::Anthropic, b"application/json", None, true);
            if step < body.len() || !tap.whole(body.as_bytes()) {
                let pieces = body.as_bytes().chunks(step);
                pieces.for_each(|piece| tap.content(piece));
            }
            tap.finish()
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
                let mut tap = Tap::new(dialect, content_type.as_bytes(), None, false);
                if pieces.len() > 1 || !tap.whole(bytes) {
                    pieces.iter().for_each(|piece| tap.content(piece));
                }
                let Usage {
                    input,
                    output,
                    cached,
                    cache_written,
                    reasoning,
                    estimated,
                } = tap.finish().usage;
                let found = [input, output, cached, cache_written, reasoning];
                assert_eq!((found, estimated), (expected, false), "{body}");
            }
        }
    }

    #[test]
    fn what_is_compressed_is_left_alone() {
        let mut tap = Tap::new(Dialect::OpenAi, b"text/event-stream", Some(b"gzip"), true);
        tap.content(b"data: {\"error\":{}}\n\n");
        assert_eq!(tap.finish(), Observed::default());
        let mut tap = Tap::new(
            Dialect::OpenAi,
            b"Text/Event-Stream",
            Some(b"identity"),
            false,
        );
        tap.content(b"data: {\"error\":{}}\n\n");
        assert!(tap.finish().error);
    }
}
