//! Heads on their way out: the request as the provider gets it, the response as the caller gets it.
//!
//! Fields pass in the sender's order and spelling. What is taken off is decided here once: fields of one connection
//! only, credentials, the router's own settings, a caller's claims about who forwarded. `exchange` and `relay` call in.

use std::ops::Range;
use std::time::Duration;

use super::field::{Field, Name};
use super::framing::{Framing, any_option};
use super::head::{Head, RequestLine, StatusLine};
use super::token;

/// The credential a provider is paid with, in its own form.
#[derive(Clone, Copy)]
pub struct CredentialLine<'a> {
    /// The field's name.
    pub name: &'static str,
    /// `"Bearer "` or nothing.
    pub scheme: &'static str,
    /// The key.
    pub key: &'a [u8],
}

/// What an upstream request's head is made of besides the caller's own fields.
pub struct UpstreamHead<'a> {
    /// Path and query, in two parts.
    pub target: [&'a str; 2],
    /// The configured authority: never the caller's.
    pub authority: &'a str,
    /// How the provider is paid; none for keyless ones.
    pub credential: Option<CredentialLine<'a>>,
    /// Fields to add where the caller did not send them.
    pub defaults: &'a [(Name, &'static str, &'static str)],
    /// This one in the place of the caller's `traceparent`; none leaves that as it is.
    pub traceparent: Option<&'a str>,
    /// The trace begins here: a `tracestate` would be another one's (W3C Trace Context, section 3.3).
    pub new_trace: bool,
    /// The body's length after all edits.
    pub body_bytes: usize,
    /// Whether the caller's content coding was taken off.
    pub decoded: bool,
}

/// Appends the head of the request to a provider.
pub fn upstream_request(
    out: &mut Vec<u8>,
    head: &Head<RequestLine>,
    bytes: &[u8],
    with: &UpstreamHead<'_>,
) {
    out.extend_from_slice(b"POST ");
    out.extend_from_slice(with.target[0].as_bytes());
    out.extend_from_slice(with.target[1].as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(out, b"host", with.authority.as_bytes());
    if let Some(credential) = &with.credential {
        out.extend_from_slice(credential.name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(credential.scheme.as_bytes());
        out.extend_from_slice(credential.key);
        out.extend_from_slice(b"\r\n");
    }
    let mut run = Run::default();
    for (at, field) in head.fields.iter().enumerate() {
        let dropped = match field.name {
            Name::Host | Name::ContentLength | Name::AcceptEncoding | Name::Expect => true,
            // The body goes up with its length, and no trailer with it.
            Name::Trailer => true,
            Name::ContentEncoding => with.decoded,
            Name::Traceparent => with.traceparent.is_some(),
            Name::Tracestate => with.new_trace,
            name => {
                name.hop_by_hop() || name.credential() || name.router_only() || name.forwarded()
            }
        };
        if dropped || listed(head, bytes, field) {
            continue;
        }
        if !run.takes(at, field, bytes) {
            run.end_without_keys(out, head, bytes);
            run = Run::of(at, field, bytes);
        }
    }
    run.end_without_keys(out, head, bytes);
    for (name, text, value) in with.defaults {
        let passes =
            |field: &Field| !listed(head, bytes, field) && !token::field_carries(field, bytes);
        if !head.all(*name).any(passes) {
            line(out, text.as_bytes(), value.as_bytes());
        }
    }
    if let Some(traceparent) = with.traceparent {
        line(out, b"traceparent", traceparent.as_bytes());
    }
    out.extend_from_slice(b"accept-encoding: identity\r\ncontent-length: ");
    decimal(out, with.body_bytes as u64);
    out.extend_from_slice(b"\r\n\r\n");
}

/// How a relayed body is framed for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// As the provider framed it.
    AsIs(Framing),
    /// In chunks made here, because the provider ends its body by closing and the caller must see whether it is whole.
    Chunked,
    /// Until we close: for callers of HTTP/1.0.
    UntilClose,
}

/// What the router itself says in an answer's head, besides what it says in all of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnFields {
    /// Which origin may read it: a browser takes no answer that says it twice.
    pub cors: bool,
    /// The session.
    pub session: bool,
}

/// Appends a provider's response head for the caller, up to and without the empty line. What the router says in its own
/// words is left out of it: the provider may be a router too, and its words are about another hop.
pub fn downstream_response(
    out: &mut Vec<u8>,
    head: &Head<StatusLine>,
    bytes: &[u8],
    relayed: Relayed,
    own: OwnFields,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let digit = |of: u16| b'0' + (head.line.status / of % 10) as u8;
    out.extend_from_slice(&[digit(100), digit(10), digit(1), b' ']);
    out.extend_from_slice(&bytes[head.line.reason_at.clone()]);
    out.extend_from_slice(b"\r\n");
    let chunked = matches!(relayed, Relayed::AsIs(Framing::Chunked) | Relayed::Chunked);
    let mut run = Run::default();
    for (at, field) in head.fields.iter().enumerate() {
        let dropped = match field.name {
            // A length on a bodiless answer (HEAD, 304) is information; on 204 and 1xx it is an error of the sender.
            Name::ContentLength => {
                !matches!(relayed, Relayed::AsIs(Framing::Length(_) | Framing::None))
                    || head.line.status == 204
            }
            Name::XMrRequestId | Name::XMr | Name::XMemoryMode => true,
            Name::XMemorySetting => tells_recall(field, bytes),
            Name::XSessionId => own.session,
            Name::Trailer => !chunked,
            Name::Other if own.cors && says_cors(field, bytes) => true,
            name => name.hop_by_hop(),
        };
        // The length of a body that passes as it is passes with it, whatever Connection says.
        if dropped || field.name != Name::ContentLength && listed(head, bytes, field) {
            continue;
        }
        if !run.takes(at, field, bytes) {
            run.end(out, head, bytes);
            run = Run::of(at, field, bytes);
        }
    }
    run.end(out, head, bytes);
    if chunked {
        line(out, b"transfer-encoding", b"chunked");
    }
}

/// Appends a number in decimal digits.
pub fn decimal(out: &mut Vec<u8>, number: u64) {
    // Half of what an answer counts is nothing or little.
    if let digit @ 0..10 = number {
        return out.push(b'0' + digit as u8);
    }
    // As many as the largest number has.
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a time in milliseconds, with three decimals.
pub fn millis(out: &mut Vec<u8>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    decimal(out, micros / 1000);
    let rest = micros % 1000;
    let digit = |of: u64| b'0' + (rest / of % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Fields that pass and follow each other: one look for all of them, and one copy where they stand as they are to be
/// written.
#[derive(Default)]
struct Run {
    fields: Range<usize>,
    /// Their lines, if they do.
    lines: Range<usize>,
}

impl Run {
    /// The field at a place, alone.
    fn of(at: usize, field: &Field, bytes: &[u8]) -> Self {
        Self {
            fields: at..at + 1,
            lines: written(field, bytes).unwrap_or_default(),
        }
    }

    /// One more, if its line stands right behind the last one's.
    fn takes(&mut self, at: usize, field: &Field, bytes: &[u8]) -> bool {
        let line = written(field, bytes).filter(|line| line.start == self.lines.end);
        if let Some(line) = &line {
            self.fields.end = at + 1;
            self.lines.end = line.end;
        }
        line.is_some()
    }

    /// Writes them.
    fn end<L>(&self, out: &mut Vec<u8>, head: &Head<L>, bytes: &[u8]) {
        if !self.lines.is_empty() {
            out.extend_from_slice(&bytes[self.lines.clone()]);
            return;
        }
        for field in &head.fields[self.fields.clone()] {
            line(out, field.spelled(bytes), field.value(bytes));
        }
    }

    /// Writes those that carry no memory key.
    fn end_without_keys<L>(&self, out: &mut Vec<u8>, head: &Head<L>, bytes: &[u8]) {
        if !self.lines.is_empty() && !token::can_carry(&bytes[self.lines.clone()]) {
            out.extend_from_slice(&bytes[self.lines.clone()]);
            return;
        }
        for field in &head.fields[self.fields.clone()] {
            if !token::field_carries(field, bytes) {
                line(out, field.spelled(bytes), field.value(bytes));
            }
        }
    }
}

/// The whole line of a field, if it stands as it would be written.
fn written(field: &Field, bytes: &[u8]) -> Option<Range<usize>> {
    let name = field.name_at.start as usize..field.name_at.end as usize;
    let value = field.value_at.start as usize..field.value_at.end as usize;
    let end = value.end + 2;
    let as_written = value.start == name.end + 2
        && bytes.get(name.end..value.start) == Some(b": ")
        && bytes.get(value.end..end) == Some(b"\r\n");
    as_written.then_some(name.start..end)
}

/// Whether a field has the name of one that each answer of a provider gets of the router.
fn tells_recall(field: &Field, bytes: &[u8]) -> bool {
    let own: [&[u8]; 2] = [b"x-memory-chunks-retrieved", b"x-memory-tokens-retrieved"];
    let name = field.spelled(bytes);
    own.iter().any(|own| name.eq_ignore_ascii_case(own))
}

fn says_cors(field: &Field, bytes: &[u8]) -> bool {
    const START: &[u8] = b"access-control-";
    let start = field.spelled(bytes).get(..START.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(START))
}

/// Whether Connection declares this field to be of one hop.
fn listed<L>(head: &Head<L>, bytes: &[u8], field: &Field) -> bool {
    let name = field.spelled(bytes);
    any_option(head, bytes, |option| option.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
