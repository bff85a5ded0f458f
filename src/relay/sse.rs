//! Server-sent events, scanned as they pass (WHATWG HTML, section 9.2.6).
//!
//! `tap` feeds it the content of a stream in whatever pieces it arrives; each event comes out once, with its name and
//! data, whatever the pieces were and whichever of CR, LF and CRLF ends the lines. It keeps at most one event.

/// An event larger than this is not looked at; it passes all the same.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// One event's fields as far as they matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The last `event:` line's value.
    pub name: &'a [u8],
    /// The `data:` lines, joined by LF.
    pub data: &'a [u8],
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
    too_large: bool,
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
            on_event(Event { name: b"", data });
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

    /// An event of one line of data that is all here, as most come: seen where it lies. And what is behind it.
    fn whole_event<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let idle =
            self.line.is_empty() && self.name.is_empty() && !self.has_data && !self.too_large;
        let value = bytes.strip_prefix(b"data: ").filter(|_| idle)?;
        let end = memchr::memchr2(b'\n', b'\r', value)?;
        let behind = value[end..].strip_prefix(b"\n\n")?;
        (end <= EVENT_BYTES_MAX).then_some((&value[..end], behind))
    }

    fn keep(&mut self, part: &[u8]) {
        if self.line.len() + part.len() > EVENT_BYTES_MAX {
            self.too_large = true;
            self.line.clear();
        } else if !self.too_large {
            self.line.extend_from_slice(part);
        }
    }

    fn take_line(&mut self, line: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        if line.is_empty() {
            // While an event is too large its lines are dropped, so an empty one may be the tail of a dropped line;
            // scanning goes on behind it either way.
            if self.has_data && !self.too_large {
                on_event(Event {
                    name: &self.name,
                    data: &self.data,
                });
            }
            self.name.clear();
            self.data.clear();
            self.has_data = false;
            self.too_large = false;
            return;
        }
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
            b"data" if self.data.len() + value.len() > EVENT_BYTES_MAX => self.too_large = true,
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
                self.has_data = true;
            }
            // Comments (an empty field name), ids, retry times.
            _ => {}
        }
    }
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
    fn an_unfinished_event_is_none() {
        assert_eq!(events(&[b"data: 1\n"]), []);
        assert_eq!(events(&[b"data: 1\n\ndata: 2"]).len(), 1);
    }

    #[test]
    fn a_huge_event_is_passed_over_and_the_next_one_seen() {
        let huge = vec![b'x'; EVENT_BYTES_MAX];
        let found = events(&[b"data: ", &huge, &huge, b"\n\ndata: next\n\n"]);
        assert_eq!(found, [(String::new(), "next".to_owned())]);
    }
}
