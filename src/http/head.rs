//! Message heads: request line or status line, then fields, as offsets into the received bytes.
//!
//! The one door to httparse. A search for the head's end (`end`) first makes sure of what httparse forgives (bare LF,
//! any number of empty lines in front); afterwards target, host and version are checked. Called by `connection` for
//! requests, by `upstream` for responses, and by the demo provider.

mod end;
mod spare;

use std::mem::MaybeUninit;
use std::ops::Range;

use super::field::{Field, Name, NameSet};
use super::target::{host, origin_form};
use end::find_end;

/// The most field lines that any configuration can allow; sets the parser's array on the stack.
pub const FIELDS_CEILING: usize = 1000;

/// `HTTP/1.1 200 `: where a reason phrase begins.
const STATUS_BYTES: usize = 13;

/// How much of a head is accepted.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Start line and fields together, in bytes.
    pub head_bytes_max: usize,
    /// Field lines, at most [`FIELDS_CEILING`].
    pub fields_max: usize,
    /// Bytes of the request target.
    pub target_bytes_max: usize,
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP/1.1 as the grammar has it; the text says what, in words for the sender.
    Syntax(&'static str),
    /// A version that is not 1.0 or 1.1.
    Version,
    /// More bytes than allowed.
    TooLarge,
    /// More field lines than allowed.
    TooManyFields,
    /// A longer target than allowed.
    TargetTooLong,
}

/// The methods the router has answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Other,
}

impl Method {
    fn of(text: &str) -> Self {
        match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// The method's name; `"?"` for one the router does not know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Other => "?",
        }
    }
}

/// HTTP/1.0 or HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.0: no chunked coding, connections close unless asked otherwise.
    Http10,
    /// 1.1.
    Http11,
}

/// A request's first line, its target already split.
#[derive(Clone, Debug)]
pub struct RequestLine {
    /// What is to be done.
    pub method: Method,
    /// The path, without scheme and authority; empty or `*` only where the grammar allows it.
    pub path_at: Range<usize>,
    /// What follows the first `?`.
    pub query_at: Option<Range<usize>>,
    /// The sender's version.
    pub version: Version,
}

/// A response's first line.
#[derive(Clone, Debug)]
pub struct StatusLine {
    /// 100 to 999.
    pub status: u16,
    /// The reason phrase, possibly empty.
    pub reason_at: Range<usize>,
    /// The sender's version.
    pub version: Version,
}

/// A parsed head over the buffer it was parsed from.
#[derive(Clone, Debug)]
pub struct Head<L> {
    /// The first line.
    pub line: L,
    /// The fields in the order they came.
    pub fields: Vec<Field>,
    /// Where the body starts.
    pub end: usize,
    /// Which names there are: most look-ups are for fields that did not come.
    names: NameSet,
}

impl<L> Head<L> {
    /// The fields of one name.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &Field> {
        let fields = match self.has(name) {
            true => self.fields.as_slice(),
            false => &[],
        };
        fields.iter().filter(move |field| field.name == name)
    }

    /// Whether there is a field of that name.
    pub fn has(&self, name: Name) -> bool {
        self.names.contains(name)
    }

    /// Whether there are fields of any of these names.
    pub fn has_any(&self, names: NameSet) -> bool {
        self.names.meets(names)
    }

    /// Lets go of a head that nobody needs any more: its list serves another.
    pub fn recycle(self) {
        spare::give_back(self.fields);
    }

    /// The first value of one name.
    pub fn first<'a>(&self, name: Name, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.all(name).next().map(|field| field.value(bytes))
    }
}

impl Head<RequestLine> {
    /// The path's bytes; none where an absolute target has none.
    pub fn path_bytes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.line.path_at.clone()]
    }

    /// The path; `/` where an absolute target has none.
    pub fn path<'a>(&self, bytes: &'a [u8]) -> &'a str {
        match std::str::from_utf8(self.path_bytes(bytes)) {
            Ok(path) if !path.is_empty() => path,
            _ => "/",
        }
    }

    /// The query without its `?`.
    pub fn query<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        self.line
            .query_at
            .clone()
            .and_then(|at| std::str::from_utf8(&bytes[at]).ok())
    }
}

/// Looks for a request head at the start of `bytes`. `scanned` keeps, over calls with more and more bytes, how far the
/// search has come; it starts at 0. `Ok(None)` wants more bytes.
pub fn request(
    bytes: &[u8],
    scanned: &mut usize,
    limits: &HeadLimits,
) -> Result<Option<Head<RequestLine>>, HeadError> {
    let start = leading_empty_line(bytes);
    let found = find_end(bytes, start, scanned);
    // Told early, so that a caller who sends a target without end gets its answer while still sending.
    let line_bytes_max = limits.target_bytes_max + 64;
    if !matches!(found, Ok(Some(end)) if end - start <= line_bytes_max) {
        let line = &bytes[start..bytes.len().min(start + limits.head_bytes_max)];
        if memchr::memchr(b'\n', line).unwrap_or(line.len()) > line_bytes_max {
            return Err(HeadError::TargetTooLong);
        }
    }
    let Some(end) = bounded(found?, bytes.len(), start, limits)? else {
        return Ok(None);
    };
    let mut array = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
    let mut parsed = httparse::Request::new(&mut []);
    parsed
        .parse_with_uninit_headers(
            &bytes[start..end],
            &mut array[..limits.fields_max.min(FIELDS_CEILING)],
        )
        .map_err(syntax)?;
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(HeadError::Syntax("incomplete request line"));
    };
    if target.len() > limits.target_bytes_max {
        return Err(HeadError::TargetTooLong);
    }
    let (fields, names) = fields(parsed.headers, bytes);
    let method = Method::of(method);
    let version = if version == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    let host = host(&fields, bytes, version)?;
    let path_and_query = origin_form(method, target, host)?;
    let at = offset(path_and_query.as_bytes(), bytes);
    let (path_at, query_at) = match memchr::memchr(b'?', path_and_query.as_bytes()) {
        Some(mark) => (
            at..at + mark,
            Some(at + mark + 1..at + path_and_query.len()),
        ),
        None => (at..at + path_and_query.len(), None),
    };
    Ok(Some(Head {
        line: RequestLine {
            method,
            path_at,
            query_at,
            version,
        },
        fields,
        end,
        names,
    }))
}

/// Looks for a response head at the start of `bytes`; see [`request`].
pub fn response(
    bytes: &[u8],
    scanned: &mut usize,
    limits: &HeadLimits,
) -> Result<Option<Head<StatusLine>>, HeadError> {
    let Some(end) = bounded(find_end(bytes, 0, scanned)?, bytes.len(), 0, limits)? else {
        return Ok(None);
    };
    let mut array = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
    let mut parsed = httparse::Response::new(&mut []);
    httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(
            &mut parsed,
            &bytes[..end],
            &mut array[..limits.fields_max.min(FIELDS_CEILING)],
        )
        .map_err(syntax)?;
    let (Some(status), Some(version)) = (parsed.code, parsed.version) else {
        return Err(HeadError::Syntax("incomplete status line"));
    };
    let reason = parsed.reason.unwrap_or("").as_bytes();
    let reason_at = if reason.is_empty() {
        // The parser gives none that is not ASCII, though such bytes may stand in it (RFC 9112 section 4).
        let line_end = memchr::memchr(b'\r', &bytes[..end]).unwrap_or(end);
        STATUS_BYTES..line_end.max(STATUS_BYTES)
    } else {
        offset(reason, bytes)..offset(reason, bytes) + reason.len()
    };
    let version = if version == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    if status < 100 {
        return Err(HeadError::Syntax("status code"));
    }
    let (fields, names) = fields(parsed.headers, bytes);
    Ok(Some(Head {
        line: StatusLine {
            status,
            reason_at,
            version,
        },
        fields,
        end,
        names,
    }))
}

/// RFC 9112 section 2.2 wants one empty line in front of a request forgiven. One, not any number.
fn leading_empty_line(bytes: &[u8]) -> usize {
    if bytes.starts_with(b"\r\n") { 2 } else { 0 }
}

fn bounded(
    end: Option<usize>,
    received: usize,
    start: usize,
    limits: &HeadLimits,
) -> Result<Option<usize>, HeadError> {
    if end.unwrap_or(received) - start > limits.head_bytes_max {
        return Err(HeadError::TooLarge);
    }
    Ok(end)
}

fn syntax(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::Syntax("a field name"),
        httparse::Error::HeaderValue => HeadError::Syntax("a field value"),
        httparse::Error::NewLine => HeadError::Syntax("a line end"),
        httparse::Error::Status => HeadError::Syntax("the status line"),
        httparse::Error::Token => HeadError::Syntax("the request line"),
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version => HeadError::Version,
    }
}

/// Where `part`, a slice of `bytes`, stands in it.
fn offset(part: &[u8], bytes: &[u8]) -> usize {
    part.as_ptr() as usize - bytes.as_ptr() as usize
}

/// A value without the white space around it, which hardly any has.
fn trimmed(value: &[u8]) -> &[u8] {
    match (value.first(), value.last()) {
        (Some(b'!'..), Some(b'!'..)) => value,
        _ => value.trim_ascii(),
    }
}

fn fields(parsed: &[httparse::Header<'_>], bytes: &[u8]) -> (Vec<Field>, NameSet) {
    let range = |part: &[u8]| {
        let start = offset(part, bytes) as u32;
        start..start + part.len() as u32
    };
    let mut names = NameSet::default();
    let field = |header: &httparse::Header<'_>| {
        let name = Name::of(header.name.as_bytes());
        names.insert(name);
        let value = trimmed(header.value);
        Field {
            name,
            name_at: range(header.name.as_bytes()),
            value_at: if value.is_empty() { 0..0 } else { range(value) },
        }
    };
    let mut fields = spare::list(parsed.len());
    fields.extend(parsed.iter().map(field));
    (fields, names)
}

#[cfg(test)]
mod tests;
