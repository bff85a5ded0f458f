//! Server-sent events, scanned as they pass (WHATWG HTML, section 9.2.6).
//!
//! `tap` feeds it the content of a stream in whatever pieces it arrives; each event comes out once, with its name and
//! data, whatever the pieces were and whichever of CR, LF and CRLF ends the lines. It keeps at most one event, and of
//! one with a picture in it the end, where the counts stand.

use super::{MARK, TAIL_BYTES};

/// Of an event larger than this only the end is kept; it passes all the same.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Of a line that is too long this start is kept, in which its field's name stands.
const LINE_START_BYTES: usize = 16;

/// One event's fields as far as they matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The last `event:` line's value.
    pub name: &'a [u8],
    /// The `data:` lines, joined by LF.
    pub data: &'a [u8],
    /// It was too large: `data` is the end of it.
    pub end_only: bool,
}

/// The scanner.
#[derive(Default)]
pub struct SseScanner {
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was CR: an LF right behind it ends no second line.
    after_cr: bool,
    /// The event is too large: its middle has been dropped.
    end_only: bool,
}

impl SseScanner {
    /// Takes the next bytes and hands each event that is complete to `on_event`.
    pub fn push(&mut self, bytes: &[u8], mut on_event: impl FnMut(Event<'_>)) {
        let mut rest = bytes;
        if self.after_cr && rest.first() == Some(&b'\n') {
            rest = &rest[1..];
        }
        self.after_cr = self.after_cr && bytes.is_empty();
        while let Some((data, behind)) = self.whole_event(rest) {
            on_event(Event {
                name: b"",
                data,
                end_only: false,
            });
            rest = behind;
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
            if self.line.is_empty() {
                self.take_line(&rest[..end], &mut on_event);
            } else {
                self.keep(&rest[..end]);
                let line = std::mem::take(&mut self.line);
                self.take_line(&line, &mut on_event);
                self.line = line;
                self.line.clear();
            }
            let mut next = end + 1;
            if rest[end] == b'\r' {
                match rest.get(next) {
                    Some(b'\n') => next += 1,
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            rest = &rest[next..];
        }
        self.keep(rest);
    }

    /// The stream is over: what has come of an event is all of it.
    pub fn finish(&mut self, mut on_event: impl FnMut(Event<'_>)) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.take_line(&line, &mut on_event);
        }
        self.take_line(b"", &mut on_event);
    }

    /// An event of one line of data that is all here, as most come: seen where it lies. And what is behind it.
    fn whole_event<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let idle = self.line.is_empty() && self.name.is_empty() && !self.has_data && !self.end_only;
        let value = bytes.strip_prefix(b"data: ").filter(|_| idle)?;
        let end = memchr::memchr2(b'\n', b'\r', value)?;
        let behind = value[end..].strip_prefix(b"\n\n")?;
        (end <= EVENT_BYTES_MAX).then_some((&value[..end], behind))
    }

    fn keep(&mut self, part: &[u8]) {
        self.line.extend_from_slice(part);
        self.end_only |= bound(&mut self.line, LINE_START_BYTES);
    }

    fn take_line(&mut self, line: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        if line.is_empty() {
            if self.has_data {
                on_event(Event {
                    name: &self.name,
                    data: &self.data,
                    end_only: self.end_only,
                });
            }
            self.name.clear();
            self.data.clear();
            self.has_data = false;
            self.end_only = false;
            return;
        }
        let line = line.strip_prefix(MARK).unwrap_or(line);
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => {
                self.name.clear();
                self.name.extend_from_slice(value);
            }
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.end_only |= bound(&mut self.data, 0);
                self.has_data = true;
            }
            // Comments (an empty field name), ids, retry times.
            _ => {}
        }
    }
}

/// Drops the middle of what is too long, behind so much of its start; says whether it was.
fn bound(kept: &mut Vec<u8>, start: usize) -> bool {
    let too_long = kept.len() > EVENT_BYTES_MAX;
    if too_long {
        kept.drain(start..kept.len() - TAIL_BYTES);
    }
    too_long
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut scanner = SseScanner::default();
        let mut found = Vec::new();
        for piece in pieces {
            scanner.push(piece, |event| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                found.push((text(event.name), text(event.data)));
            });
        }
        found
    }

    #[test]
    fn same_events_at_every_cut_and_line_end() {
        let lf = ": hello\nevent: a\ndata: {\"x\":\"é😀\"}\n\ndata:1\ndata: 2\nid: 7\n\n\nevent: lost\n\ndata: [DONE]\n\n";
        let expected: Vec<(String, String)> =
            [("a", "{\"x\":\"é😀\"}"), ("", "1\n2"), ("", "[DONE]")]
                .map(|(name, data)| (name.to_owned(), data.to_owned()))
                .into();
        for text in [
            lf.to_owned(),
            lf.replace('\n', "\r\n"),
            lf.replace('\n', "\r"),
        ] {
            let bytes = text.as_bytes();
            for cut in 0..=bytes.len() {
                assert_eq!(
                    events(&[&bytes[..cut], &bytes[cut..]]),
                    expected,
                    "cut {cut} of {text:?}"
                );
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(events(&single), expected);
        }
    }

    #[test]
    fn a_byte_order_mark_hides_no_event() {
        let bytes = "\u{feff}data: 1\n\ndata: 2\n\n".as_bytes();
        for cut in 0..bytes.len() {
            let found = events(&[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(found.len(), 2, "{cut}");
            assert_eq!(found[0].1, "1");
        }
    }

    #[test]
    fn an_unfinished_event_is_none() {
        assert_eq!(events(&[b"data: 1\n"]), []);
        assert_eq!(events(&[b"data: 1\n\ndata: 2"]).len(), 1);
    }

    #[test]
    fn at_the_end_of_the_stream_it_is_one() {
        for end in ["", "\n", "\r", "\r\n", "\n\n"] {
            let text = format!("data: 1\n\nevent: a\ndata: 2{end}");
            for cut in 0..=text.len() {
                let mut scanner = SseScanner::default();
                let mut found = Vec::new();
                let mut keep =
                    |event: Event<'_>| found.push((event.name.to_vec(), event.data.to_vec()));
                scanner.push(&text.as_bytes()[..cut], &mut keep);
                scanner.push(&text.as_bytes()[cut..], &mut keep);
                scanner.finish(&mut keep);
                scanner.finish(&mut keep);
                let expected = [(&b""[..], &b"1"[..]), (b"a", b"2")];
                assert!(
                    found
                        .iter()
                        .map(|(name, data)| (&name[..], &data[..]))
                        .eq(expected),
                    "{end:?} {cut}"
                );
            }
        }
    }

    #[test]
    fn of_a_huge_event_the_end_is_seen_and_the_next_one_whole() {
        let huge = "x".repeat(EVENT_BYTES_MAX);
        let many = format!("data: {}\n", "y".repeat(1000)).repeat(2000);
        for (text, name, end) in [
            (format!("data: {huge}{huge}-end"), "", "-end"),
            (format!("event: a\ndata:{huge}{huge}-end"), "a", "-end"),
            (format!("{many}data: -end"), "", "y\n-end"),
        ] {
            let text = format!("{text}\n\ndata: next\n\n");
            for step in [997, 100_000, text.len()] {
                let mut scanner = SseScanner::default();
                let (mut seen, mut held) = (Vec::new(), 0);
                for piece in text.as_bytes().chunks(step) {
                    scanner.push(piece, |event| {
                        let data = String::from_utf8(event.data.to_vec()).unwrap();
                        seen.push((event.name.to_vec(), data, event.end_only));
                    });
                    held = held.max(scanner.line.len() + scanner.data.len());
                }
                assert!(held <= 2 * EVENT_BYTES_MAX);
                let [(first, data, true), (_, next, false)] = &seen[..] else {
                    panic!("{} events", seen.len());
                };
                assert!(data.len() <= EVENT_BYTES_MAX && data.ends_with(end));
                assert_eq!((first.as_slice(), next.as_str()), (name.as_bytes(), "next"));
            }
        }
    }
}
