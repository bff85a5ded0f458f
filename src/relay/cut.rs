//! Takes the counts that only the router asked for out of a stream again.
//!
//! `relay` pushes content through it where `exchange` has asked. An event is held until its end, which is all that can
//! be known earlier, but for comments in front of it, by which some providers keep a connection alive; what holds no
//! counts leaves as it came. Works on any split and whichever line ends there are.

use super::MARK;
use crate::provider::answer::names_counts;
use crate::provider::stream_usage::{Extra, extra};

/// An event larger than this passes as it is: one with counts is a few hundred bytes.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// The cut through one stream.
#[derive(Default)]
pub struct UsageCut {
    /// The event that is under way.
    held: Vec<u8>,
    /// Up to here, no end of it was found.
    scanned: usize,
    /// The current line has bytes before `scanned`.
    in_line: bool,
    /// The last byte was CR: an LF right behind it ends no second line.
    after_cr: bool,
    /// The last event was taken out, and so is that LF.
    dropped: bool,
}

impl UsageCut {
    /// Takes the next content and appends what the caller gets of it.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        if let Some(first) = bytes.first()
            && std::mem::take(&mut self.after_cr)
            && *first == b'\n'
        {
            rest = &bytes[1..];
            if !self.held.is_empty() {
                self.held.push(b'\n');
                self.scanned += 1;
            } else if !self.dropped {
                out.push(b'\n');
            }
        }
        // Mostly whole events come, with nothing in them to take out.
        if self.held.is_empty() && rest.ends_with(b"\n\n") && !names_counts(rest) {
            out.extend_from_slice(rest);
            self.in_line = false;
            self.dropped = false;
            return;
        }
        self.held.extend_from_slice(rest);
        let mut start = 0;
        while let Some(end) = self.event_end() {
            self.dropped = pass(&self.held[start..end], out);
            start = end;
        }
        let comments = comments(&self.held[start..]);
        if comments > 0 {
            out.extend_from_slice(&self.held[start..start + comments]);
            start += comments;
            self.dropped = false;
        }
        self.held.drain(..start);
        self.scanned -= start;
        if self.held.len() > EVENT_BYTES_MAX {
            self.give_up(out);
        }
    }

    /// The stream is over: what has come of an event is all of it.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        pass(&self.held, out);
        self.held.clear();
        self.scanned = 0;
        self.dropped = false;
    }

    /// The stream broke off, or goes on in an event too large to hold: what is held leaves as it came.
    pub fn give_up(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.scanned = 0;
        self.dropped = false;
    }

    /// Where the next event ends: behind an empty line.
    fn event_end(&mut self) -> Option<usize> {
        while let Some(at) = memchr::memchr2(b'\n', b'\r', &self.held[self.scanned..]) {
            let empty = at == 0 && !self.in_line;
            let at = self.scanned + at;
            self.in_line = false;
            self.scanned = at + 1;
            if self.held[at] == b'\r' {
                match self.held.get(at + 1) {
                    Some(b'\n') => self.scanned += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            if empty {
                return Some(self.scanned);
            }
        }
        self.in_line |= self.held.len() > self.scanned;
        self.scanned = self.held.len();
        None
    }
}

/// Appends what the caller gets of one event, and says whether that is nothing.
fn pass(event: &[u8], out: &mut Vec<u8>) -> bool {
    let mark = if event.starts_with(MARK) { MARK } else { b"" };
    let event = &event[mark.len()..];
    let (comments, event) = event.split_at(comments(event));
    out.extend_from_slice(mark);
    out.extend_from_slice(comments);
    let data = match names_counts(event) {
        true => only_data(event),
        false => None,
    };
    let cut = data.and_then(|start| {
        let line = &event[start..];
        let end = memchr::memchr2(b'\n', b'\r', line).unwrap_or(line.len());
        Some((start, extra(&line[..end])?))
    });
    match cut {
        Some((_, Extra::Event)) => return true,
        Some((start, Extra::Bytes(range))) => {
            out.extend_from_slice(&event[..start + range.start]);
            out.extend_from_slice(&event[start + range.end..]);
        }
        None => out.extend_from_slice(event),
    }
    false
}

/// How long the whole lines are that an event begins with and that say nothing.
fn comments(event: &[u8]) -> usize {
    let mut end = 0;
    while event.get(end) == Some(&b':')
        && let Some(line) = memchr::memchr2(b'\n', b'\r', &event[end..])
    {
        end += line + 1;
        if event[end - 1..].starts_with(b"\r\n") {
            end += 1;
        }
    }
    end
}

/// Where the value of the only `data:` line starts.
fn only_data(event: &[u8]) -> Option<usize> {
    let mut found = None;
    let mut start = 0;
    for line in event.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if line.starts_with(b"data:") && found.replace(start + b"data:".len()).is_some() {
            return None;
        }
        start += line.len() + 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What streams are made of, where it is delicate.
    const FRAGMENTS: [&str; 14] = [
        "data: ",
        "data:",
        "event: x",
        ":",
        "\n",
        "\n\n",
        "\r",
        "\r\n",
        "{\"usage\":null}",
        "{\"choices\":[],\"usage\":{}}",
        "{\"a\":1,\"usage\":null,\"b\":2}",
        "{",
        "\"usage\"",
        "x",
    ];

    proptest! {
        #[test]
        fn any_stream_at_any_cut(parts in prop::collection::vec(prop::sample::select(&FRAGMENTS), 0..40), at in any::<u16>()) {
            let text = parts.concat();
            let bytes = text.as_bytes();
            let at = usize::from(at) % (bytes.len() + 1);
            let whole = cut(&[bytes]);
            prop_assert_eq!(&whole, &cut(&[&bytes[..at], &bytes[at..]]));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&whole, &cut(&single));
            if !text.contains("\"usage\"") {
                prop_assert_eq!(&whole, &text);
            }
        }
    }

    #[test]
    fn a_comment_leaves_with_its_line() {
        for line_end in ["\n", "\r\n", "\r"] {
            let (mut cut, mut out) = (UsageCut::default(), Vec::new());
            let mut sent = String::new();
            for _ in 0..3 {
                let line = format!(": ping{line_end}");
                for byte in line.as_bytes() {
                    cut.push(&[*byte], &mut out);
                }
                sent += &line;
                assert_eq!(String::from_utf8_lossy(&out), sent);
            }
            let event = "data: {\"usage\":null}\n\n".replace('\n', line_end);
            cut.push(event.as_bytes(), &mut out);
            sent += &"data: {}\n\n".replace('\n', line_end);
            assert_eq!(String::from_utf8_lossy(&out), sent);
            // Behind other lines of an event it stays where it is.
            let line = format!("event: x{line_end}: ping{line_end}");
            cut.push(line.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), sent);
        }
    }

    #[test]
    fn comments_stay_where_an_event_is_taken_out() {
        let text = ": a\n: b\ndata: {\"choices\":[],\"usage\":{}}\n\n: c\n\ndata: x\n\n";
        let expected = ": a\n: b\n: c\n\ndata: x\n\n";
        for line_end in ["\n", "\r\n", "\r"] {
            let text = text.replace('\n', line_end);
            let expected = expected.replace('\n', line_end);
            for at in 0..=text.len() {
                let (one, two) = text.as_bytes().split_at(at);
                assert_eq!(cut(&[one, two]), expected, "{at}");
            }
            let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(cut(&single), expected);
        }
    }

    #[test]
    fn a_last_event_without_its_end_is_judged_where_the_stream_is_over() {
        for end in ["", "\n", "\r\n"] {
            for (event, expected) in [
                ("data: {\"choices\":[],\"usage\":{}}", None),
                ("data: {\"a\":1,\"usage\":null}", Some("data: {\"a\":1}")),
                ("data: {\"usage\":nu", Some("data: {\"usage\":nu")),
            ] {
                let text = format!("data: x\n\n{event}{end}");
                let expected = expected.map(|event| format!("{event}{end}"));
                let expected = format!("data: x\n\n{}", expected.unwrap_or_default());
                for at in 0..=text.len() {
                    let (one, two) = text.as_bytes().split_at(at);
                    assert_eq!(cut(&[one, two]), expected, "{at}");
                }
                let (mut broken, mut out) = (UsageCut::default(), Vec::new());
                broken.push(text.as_bytes(), &mut out);
                broken.give_up(&mut out);
                assert_eq!(String::from_utf8_lossy(&out), text, "it broke off");
            }
        }
    }

    /// A stream with counts and the same without, event by event.
    fn streams() -> (String, String) {
        let with = [
            ": hello\n\n",
            "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"h\u{e9} \\\"usage\\\":null\"}}],\"usage\":null}\n\n",
            "data: {\"id\":\"1\", \"usage\": null, \"choices\": [{}]}\n\n",
            "event: x\ndata: {\"usage\":null}\nid: 7\n\n",
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n\n",
            "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}\n\n",
            "data: {\"a\":1,\ndata: \"usage\":null}\n\n",
            "data: [DONE]\n\n",
            "data: {\"usage\":null}",
        ];
        let without = [
            ": hello\n\n",
            "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"h\u{e9} \\\"usage\\\":null\"}}]}\n\n",
            "data: {\"id\":\"1\", \"choices\": [{}]}\n\n",
            "event: x\ndata: {}\nid: 7\n\n",
            "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n\n",
            "data: {\"a\":1,\ndata: \"usage\":null}\n\n",
            "data: [DONE]\n\n",
            "data: {}",
        ];
        (with.concat(), without.concat())
    }

    fn cut(pieces: &[&[u8]]) -> String {
        let (mut cut, mut out) = (UsageCut::default(), Vec::new());
        for piece in pieces {
            cut.push(piece, &mut out);
        }
        cut.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_callers_stream_at_every_cut_and_line_end() {
        let (with, without) = streams();
        for line_end in ["\n", "\r\n", "\r"] {
            let (with, without) = (
                with.replace('\n', line_end),
                without.replace('\n', line_end),
            );
            let bytes = with.as_bytes();
            for at in 0..=bytes.len() {
                assert_eq!(cut(&[&bytes[..at], &bytes[at..]]), without, "cut {at}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(cut(&single), without);
            let three: Vec<&[u8]> = bytes.chunks(3).collect();
            assert_eq!(cut(&three), without);
        }
    }

    #[test]
    fn a_byte_order_mark_stays_and_hides_no_counts() {
        for (event, expected) in [
            ("data: {\"usage\":null}\n\n", "data: {}\n\n"),
            ("data: {\"choices\":[],\"usage\":{}}\n\n", ""),
        ] {
            let text = format!("\u{feff}{event}data: x\n\n");
            let expected = format!("\u{feff}{expected}data: x\n\n");
            for at in 0..text.len() {
                let (one, two) = text.as_bytes().split_at(at);
                assert_eq!(cut(&[one, two]), expected, "{at}");
            }
        }
    }

    #[test]
    fn an_event_leaves_with_its_last_byte() {
        let (mut cut, mut out) = (UsageCut::default(), Vec::new());
        cut.push(b"data: 1\n\ndata: 2\n", &mut out);
        assert_eq!(out, b"data: 1\n\n");
        cut.push(b"\n", &mut out);
        assert_eq!(out, b"data: 1\n\ndata: 2\n\n");
        cut.push(b"data: 3\r\n\r", &mut out);
        assert!(out.ends_with(b"data: 3\r\n\r"));
        cut.push(b"\ndata: 4", &mut out);
        assert!(out.ends_with(b"data: 3\r\n\r\n"));
    }

    #[test]
    fn a_huge_event_passes_and_the_next_one_is_cut() {
        let huge = "x".repeat(EVENT_BYTES_MAX);
        let head = format!("data: {{\"usage\":null,\"x\":\"{huge}");
        let text = format!("{head}{huge}\"}}\n\ndata: {{\"usage\":null}}\n\n");
        let expected = format!("{head}{huge}\"}}\n\ndata: {{}}\n\n");
        let pieces: Vec<&[u8]> = text.as_bytes().chunks(100_000).collect();
        assert_eq!(cut(&pieces), expected);
    }
}
