//! Watches an answer's content without touching it.
//!
//! `relay` hands it every run of content; it keeps a bounded copy of what it needs (one event of a stream, the last
//! bytes of a plain answer, or all of one that is to be remembered) and can neither delay nor break the relay. What it
//! saw goes to `record`.

use super::TAIL_BYTES;
use super::sse::{Event, SseScanner};
use crate::net;
use crate::provider::Dialect;
use crate::provider::answer::Observed;

/// A plain answer that is no longer is looked at where it lies.
const SHORT_BYTES: usize = 4 * 1024;

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
    /// The same where a model's text was asked for: what it says is taken to be as long.
    Unread,
}

/// The tap on one answer.
pub struct Tap {
    dialect: Dialect,
    form: Form,
    /// The first bytes of a plain answer of which only the end is kept.
    head: Vec<u8>,
    /// How long it is so far.
    plain_bytes: usize,
    /// The answer's text is wanted, and can still be had.
    with_text: bool,
    /// The counts of a plain answer have been looked for.
    counted: bool,
    seen: Observed,
}

impl Tap {
    /// A tap for an answer of this type, which is empty for one that is encoded; `with_text` gathers what it says.
    pub fn new(dialect: Dialect, content_type: &[u8], with_text: bool) -> Self {
        let starts = |text: &str| {
            content_type
                .get(..text.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
        };
        let form = match () {
            () if starts("text/event-stream") => Form::Events(SseScanner::default()),
            () if starts("application/json") => Form::Plain(Vec::new()),
            () => Form::Opaque,
        };
        Self {
            dialect,
            form,
            head: Vec::new(),
            plain_bytes: 0,
            with_text,
            counted: false,
            seen: Observed::default(),
        }
    }

    /// What went in is taken to be so many tokens, unless the answer counts it.
    pub fn presume(&mut self, input: u64) {
        self.seen.usage.input = Some(input);
        self.seen.usage.estimated = true;
    }

    /// What it does not count is to be estimated: tokens are paid for it. A form in which it cannot be read is no reason
    /// to count none.
    pub fn bills(&mut self) {
        self.seen.billed = true;
        if let Form::Opaque = self.form {
            self.form = Form::Unread;
        }
    }

    /// All of the content at once, if it is a plain answer's of 4 KiB at most: nothing of it is copied then, and it is
    /// read before it is relayed, which takes a few microseconds. Returns whether it was.
    pub fn whole(&mut self, bytes: &[u8]) -> bool {
        let short = bytes.len() <= SHORT_BYTES
            && matches!(&self.form, Form::Plain(kept) if kept.is_empty());
        if short {
            self.form = Form::Opaque;
            self.seen.tail(self.dialect, bytes);
            self.seen.measure(bytes, bytes.len());
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
            plain_bytes,
            with_text,
            seen,
            ..
        } = self;
        if let Form::Plain(kept) = form {
            *plain_bytes += bytes.len();
            if kept.capacity() == 0 {
                *kept = net::buffer(SHORT_BYTES);
            }
        }
        match form {
            Form::Events(scanner) => {
                scanner.push(bytes, |event| see(seen, *dialect, event, *with_text));
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
            Form::Unread => seen.said_bytes += bytes.len() as u64,
        }
    }

    /// The content is over, properly: an event whose end is missing counts too.
    pub(super) fn content_ends(&mut self) {
        let Self {
            dialect,
            form,
            with_text,
            seen,
            ..
        } = self;
        if let Form::Events(scanner) = form {
            scanner.finish(|event| see(seen, *dialect, event, *with_text));
        }
    }

    /// What was seen but for an answer's text, which takes longer to read, once the last byte is here.
    pub fn counted(&mut self) -> &Observed {
        if let Form::Plain(kept) = &self.form
            && !std::mem::replace(&mut self.counted, true)
        {
            if !self.seen.head(self.dialect, &self.head) {
                self.seen.tail(self.dialect, kept);
            }
            self.seen.measure(kept, self.plain_bytes);
        }
        &self.seen
    }

    /// Whether a stream has said its last word, behind which nothing comes but the body's end. Gemini's have none: some
    /// say in every event why they would end.
    pub(super) fn has_last_word(&self) -> bool {
        self.seen.ended && self.dialect != Dialect::Gemini
    }

    /// Whether an answer says nothing of what was asked: that is to be estimated.
    pub(super) fn input_uncounted(&self) -> bool {
        !self.seen.is_counted() && self.seen.usage.input.is_none()
    }

    /// What was seen, once the last byte has passed.
    pub fn finish(&mut self) -> &mut Observed {
        self.counted();
        if let Form::Plain(kept) = &mut self.form {
            if self.with_text {
                self.seen.whole(self.dialect, kept);
            }
            net::recycle(std::mem::take(kept));
        }
        &mut self.seen
    }
}

fn see(seen: &mut Observed, dialect: Dialect, event: Event<'_>, with_text: bool) {
    match event.end_only {
        false => seen.event(dialect, event.name, event.data, with_text),
        true => seen.event_end(dialect, event.name, event.data),
    }
}

/// Keeps at least the last bytes. Twice as many are there at most, so that few of them are moved more than once.
fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
    if tail.len() + last.len() > 2 * TAIL_BYTES {
        tail.drain(..tail.len() + last.len() - TAIL_BYTES);
    }
    tail.extend_from_slice(last);
}

#[cfg(test)]
mod tests;
