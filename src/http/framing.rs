//! How long a message's body is (RFC 9112 section 6.3), decided once from the head, and where its end is while it
//! passes.
//!
//! `exchange` asks for a request's framing and `relay` for a response's. What two hops could read differently is
//! refused here: both framings at once, repeated or odd lengths, any transfer coding but a single `chunked`.

use std::ops::Range;

use super::chunk::{ChunkError, ChunkScanner};
use super::field::Name;
use super::head::{Head, Method, RequestLine, StatusLine, Version};

/// Options that Connection may list. A handful have a meaning, and each is held against each field of the message.
const OPTIONS_MAX: usize = 64;

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection (responses only).
    UntilClose,
}

/// Why a head's framing is refused, in words for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramingError(pub &'static str);

impl Framing {
    /// The framing of a request.
    pub fn of_request(head: &Head<RequestLine>, bytes: &[u8]) -> Result<Self, FramingError> {
        if lists(head, bytes, |name| {
            matches!(
                name,
                Name::TransferEncoding | Name::ContentLength | Name::Host
            )
        }) {
            return Err(FramingError(
                "Connection lists a field that frames or routes the message",
            ));
        }
        Ok(declared(head, bytes, head.line.version)?.unwrap_or(Self::None))
    }

    /// The framing of the response to a request of `method`. Statuses without a body have none, whatever they declare.
    pub fn of_response(
        head: &Head<StatusLine>,
        bytes: &[u8],
        method: Method,
    ) -> Result<Self, FramingError> {
        let declared = declared(head, bytes, head.line.version)?;
        if method == Method::Head || matches!(head.line.status, 100..=199 | 204 | 304) {
            return Ok(Self::None);
        }
        Ok(declared.unwrap_or(Self::UntilClose))
    }
}

fn declared<L>(
    head: &Head<L>,
    bytes: &[u8],
    version: Version,
) -> Result<Option<Framing>, FramingError> {
    if head.has(Name::Connection) && options(head, bytes).nth(OPTIONS_MAX).is_some() {
        return Err(FramingError("Connection lists too many options"));
    }
    let mut lengths = head.all(Name::ContentLength);
    let mut codings = head.all(Name::TransferEncoding);
    let framing = match (lengths.next(), codings.next()) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(FramingError(
                "Content-Length and Transfer-Encoding exclude each other",
            ));
        }
        (Some(length), None) => Framing::Length(parse_length(length.value(bytes))?),
        (None, Some(_)) if version == Version::Http10 => {
            return Err(FramingError("Transfer-Encoding in an HTTP/1.0 message"));
        }
        (None, Some(coding)) if coding.value(bytes).eq_ignore_ascii_case(b"chunked") => {
            Framing::Chunked
        }
        (None, Some(_)) => return Err(FramingError("Transfer-Encoding is not chunked")),
    };
    if lengths.next().is_some() {
        return Err(FramingError("Content-Length stands twice"));
    }
    if codings.next().is_some() {
        return Err(FramingError("Transfer-Encoding stands twice"));
    }
    Ok(Some(framing))
}

/// `1*DIGIT` (RFC 9110 section 8.6). The standard parser would take a leading `+` too.
fn parse_length(value: &[u8]) -> Result<u64, FramingError> {
    // 18 digits cannot overflow, and no body is an exabyte long.
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(FramingError("Content-Length is not a number"));
    }
    Ok(value
        .iter()
        .fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// Whether a Connection field lists a name for which `of_interest` holds.
pub fn lists<L>(head: &Head<L>, bytes: &[u8], of_interest: impl Fn(Name) -> bool) -> bool {
    any_option(head, bytes, |option| of_interest(Name::of(option)))
}

/// Whether there is such an option in any Connection field, in the sender's spelling. Most messages have no such field.
pub fn any_option<L>(head: &Head<L>, bytes: &[u8], is_it: impl Fn(&[u8]) -> bool) -> bool {
    head.has(Name::Connection)
        && options(head, bytes).any(|option| !option.is_empty() && is_it(option))
}

/// All that stands between commas, nothing included.
fn options<'a, L>(head: &'a Head<L>, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    head.all(Name::Connection)
        .flat_map(|field| field.value(bytes).split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Whether the sender wants to keep the connection after this message (RFC 9112 section 9.3).
pub fn keeps_alive<L>(head: &Head<L>, bytes: &[u8], version: Version) -> bool {
    let has = |word: &[u8]| any_option(head, bytes, |option| option.eq_ignore_ascii_case(word));
    match version {
        Version::Http11 => !has(b"close"),
        Version::Http10 => has(b"keep-alive") && !has(b"close"),
    }
}

/// Follows an answer's body that passes by.
#[derive(Clone, Debug)]
pub enum Track {
    /// Bytes still to come.
    Length(u64),
    /// Somewhere inside the chunks.
    Chunked(Box<ChunkScanner>),
    /// All that comes belongs to it.
    UntilClose,
}

impl Track {
    /// A track for a body that has not begun.
    pub fn new(framing: Framing) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::new(ChunkScanner::of_answer())),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Takes the next bytes: how many of them belong to the body, naming each run of content in them.
    pub fn advance(
        &mut self,
        bytes: &[u8],
        mut content: impl FnMut(Range<usize>),
    ) -> Result<usize, ChunkError> {
        match self {
            Self::Length(remaining) => {
                let take = usize::try_from(*remaining).map_or(bytes.len(), |n| n.min(bytes.len()));
                *remaining -= take as u64;
                if take > 0 {
                    content(0..take);
                }
                Ok(take)
            }
            Self::Chunked(scanner) => scanner.scan(bytes, content),
            Self::UntilClose => {
                content(0..bytes.len());
                Ok(bytes.len())
            }
        }
    }

    /// Whether the body's last byte has passed.
    pub fn done(&self) -> bool {
        match self {
            Self::Length(remaining) => *remaining == 0,
            Self::Chunked(scanner) => scanner.done(),
            Self::UntilClose => false,
        }
    }

    /// The lines that follow the last chunk.
    pub fn trailer(&self) -> &[u8] {
        match self {
            Self::Chunked(scanner) => scanner.trailer(),
            Self::Length(_) | Self::UntilClose => &[],
        }
    }

    /// Whether the sender's end of connection is the proper end here.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self, Self::UntilClose)
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::{HeadLimits, request, response};
    use super::*;

    const LIMITS: HeadLimits = HeadLimits {
        head_bytes_max: 40_000,
        fields_max: 256,
        target_bytes_max: 512,
    };

    fn of_request(fields: &str, version: &str) -> Result<Framing, FramingError> {
        let bytes = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").into_bytes();
        Framing::of_request(&request(&bytes, &mut 0, &LIMITS).unwrap().unwrap(), &bytes)
    }

    #[test]
    fn requests() {
        for (fields, expected) in [
            ("", Framing::None),
            ("Content-Length: 0\r\n", Framing::Length(0)),
            ("content-length:  0069 \r\n", Framing::Length(69)),
            ("tRANSFER-eNCODING: cHuNkEd\r\n", Framing::Chunked),
        ] {
            assert_eq!(of_request(fields, "1.1"), Ok(expected), "{fields}");
        }
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: -1\r\n",
            "Content-Length: 0x1\r\n",
            "Content-Length: \r\n",
            "Content-Length: 1a\r\n",
            "Content-Length: 18446744073709551685\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, gzip\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: ,chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n",
            "Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            "Connection: content-length\r\nContent-Length: 1\r\n",
        ] {
            assert!(of_request(fields, "1.1").is_err(), "{fields}");
        }
        assert!(of_request("Transfer-Encoding: chunked\r\n", "1.0").is_err());
    }

    #[test]
    fn options_are_a_handful() {
        for (options, good) in [(OPTIONS_MAX, true), (OPTIONS_MAX + 1, false), (200, false)] {
            for separator in ["x,", ",", "x\r\nConnection: "] {
                let fields = format!("Connection: {}\r\n", separator.repeat(options - 1));
                assert_eq!(of_request(&fields, "1.1").is_ok(), good, "{fields}");
            }
        }
    }

    #[test]
    fn responses() {
        let of = |start: &str, fields: &str, method| {
            let bytes = format!("HTTP/{start}\r\n{fields}\r\n").into_bytes();
            Framing::of_response(
                &response(&bytes, &mut 0, &LIMITS).unwrap().unwrap(),
                &bytes,
                method,
            )
        };
        assert_eq!(of("1.1 200 OK", "", Method::Post), Ok(Framing::UntilClose));
        assert_eq!(
            of("1.1 204 No", "Content-Length: 4\r\n", Method::Post),
            Ok(Framing::None)
        );
        assert_eq!(
            of("1.1 200 OK", "Content-Length: 4\r\n", Method::Head),
            Ok(Framing::None)
        );
        assert_eq!(
            of("1.1 200 OK", "Content-Length: 4\r\n", Method::Get),
            Ok(Framing::Length(4))
        );
        assert!(
            of(
                "1.1 200 OK",
                "Content-Length: 2\r\nContent-Length: 40\r\n",
                Method::Post
            )
            .is_err()
        );
        assert!(of("1.0 200 OK", "Transfer-Encoding: chunked\r\n", Method::Post).is_err());
    }

    #[test]
    fn keeping_alive() {
        let keeps = |version: &str, fields: &str| {
            let bytes = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n").into_bytes();
            let head = request(&bytes, &mut 0, &LIMITS).unwrap().unwrap();
            keeps_alive(&head, &bytes, head.line.version)
        };
        assert!(keeps("1.1", ""));
        assert!(!keeps("1.1", "Connection: x, Close\r\n"));
        assert!(!keeps("1.0", ""));
        assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
    }
}
