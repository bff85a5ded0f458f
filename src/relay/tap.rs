//! Watches an answer's content without touching it.
//!
//! `relay` hands it every run of content; it keeps a bounded copy of what it needs (one event of a stream, the last
//! bytes of a plain answer, or all of one that is to be remembered) and can neither delay nor break the relay. What it
//! saw goes to `record`.

use super::sse::SseScanner;
use crate::provider::Dialect;
use crate::provider::answer::Observed;

/// The counts stand within the last bytes of a plain answer; Google's end with a few more fields.
const TAIL_BYTES: usize = 4 * 1024;

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
    /// The answer's text is wanted, and can still be had.
    with_text: bool,
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
            with_text,
            seen: Observed::default(),
        }
    }

    /// The next run of content.
    pub fn content(&mut self, bytes: &[u8]) {
        let Self {
            dialect,
            form,
            with_text,
            seen,
        } = self;
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
                keep_tail(tail, bytes);
            }
            Form::Opaque => {}
        }
    }

    /// What was seen, once the last byte has passed.
    pub fn finish(mut self) -> Observed {
        if let Form::Plain(kept) = &self.form {
            let tail = &kept[kept.len().saturating_sub(TAIL_BYTES)..];
            self.seen.tail(self.dialect, tail);
            if self.with_text {
                self.seen.whole(self.dialect, kept);
            }
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
            body.as_bytes()
                .chunks(step)
                .for_each(|piece| tap.content(piece));
            tap.finish()
        };
        for step in [1, 7, 100] {
            assert_eq!(text_of(&body("hi"), step).text, "hi");
        }
        // A long one in part, one that is too long not at all.
        let long = text_of(&body(&"é".repeat(200_000)), 9000).text;
        assert_eq!(long.len(), 256 * 1024);
        assert_eq!(text_of(&body(&"x".repeat(WHOLE_BYTES_MAX)), 9000).text, "");
        assert!(text_of("{\"error\":{\"message\":\"x\"}}", 9).error);
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
