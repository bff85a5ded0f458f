//! Watches an answer's content without touching it.
//!
//! `relay` hands it every run of content; it keeps a bounded copy of what it needs (one event of a stream, the last
//! bytes of a plain answer) and can neither delay nor break the relay. What it saw goes to `record`.

use super::sse::SseScanner;
use crate::provider::Dialect;
use crate::provider::answer::Observed;

/// The counts stand within the last bytes of a plain answer; Google's end with a few more fields.
const TAIL_BYTES: usize = 4 * 1024;

enum Form {
    Events(SseScanner),
    Plain(Vec<u8>),
    /// Compressed by a provider that was asked not to, or not text at all: relayed, not inspected.
    Opaque,
}

/// The tap on one answer.
pub struct Tap {
    dialect: Dialect,
    form: Form,
    seen: Observed,
}

impl Tap {
    /// A tap for an answer with these fields.
    pub fn new(dialect: Dialect, content_type: &[u8], content_encoding: Option<&[u8]>) -> Self {
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
            seen: Observed::default(),
        }
    }

    /// The next run of content.
    pub fn content(&mut self, bytes: &[u8]) {
        let Self {
            dialect,
            form,
            seen,
        } = self;
        match form {
            Form::Events(scanner) => {
                scanner.push(bytes, |event| {
                    seen.event(*dialect, event.name, event.data, false)
                });
            }
            Form::Plain(tail) => keep_tail(tail, bytes),
            Form::Opaque => {}
        }
    }

    /// What was seen, once the last byte has passed.
    pub fn finish(mut self) -> Observed {
        if let Form::Plain(tail) = &self.form {
            self.seen.tail(self.dialect, tail);
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
            let mut tap = Tap::new(Dialect::OpenAi, b"application/json; charset=utf-8", None);
            body.as_bytes()
                .chunks(step)
                .for_each(|piece| tap.content(piece));
            let usage = tap.finish().usage;
            assert_eq!((usage.input, usage.output), (Some(3), Some(2)), "{step}");
        }
    }

    #[test]
    fn what_is_compressed_is_left_alone() {
        let mut tap = Tap::new(Dialect::OpenAi, b"text/event-stream", Some(b"gzip"));
        tap.content(b"data: {\"error\":{}}\n\n");
        assert_eq!(tap.finish(), Observed::default());
        let mut tap = Tap::new(Dialect::OpenAi, b"Text/Event-Stream", Some(b"identity"));
        tap.content(b"data: {\"error\":{}}\n\n");
        assert!(tap.finish().error);
    }
}
