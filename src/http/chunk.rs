//! The chunked transfer coding (RFC 9112 section 7.1) as a scanner that sees every byte once.
//!
//! `exchange` uses it to decode request bodies, `relay` to find the end of answers that pass as they came. It keeps a
//! few numbers and the trailer, works on any split of the input, and refuses everything that two parsers could read
//! differently: bare LF, white space around sizes (but for an answer's extensions), more than 16 hex digits, anything but CRLF behind the data.

use std::ops::Range;

/// Bytes of extensions allowed on one chunk line, and in a whole request, which is read before anything is done for it
/// (CVE-2023-39326). An answer may have some on each of its chunks, for as long as it goes on.
const EXTENSION_LINE_BYTES_MAX: u32 = 256;
const EXTENSION_REQUEST_BYTES_MAX: u64 = 8 * 1024;
/// Bytes of the trailer section.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// The chunk-size line is not hexadecimal digits, an optional extension, CRLF.
    Size,
    /// More digits than a length can have.
    SizeOverflow,
    /// An extension that is not `;name`, `;name=token` or `;name="text"`.
    Extension,
    /// More extension bytes than are allowed.
    ExtensionTooLong,
    /// Something else than CRLF behind a chunk's data.
    DataEnd,
    /// A malformed trailer line.
    Trailer,
    /// More trailer bytes than are allowed.
    TrailerTooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    SizeStart,
    /// Inside the digits.
    Size,
    /// Inside an extension.
    Extension(Part),
    /// Behind the CR of a size line.
    SizeLf,
    /// Inside a chunk's data.
    Data,
    /// Behind the data, before its CR.
    DataCr,
    /// Before its LF.
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    TrailerStart,
    /// Inside a trailer field's name.
    TrailerName,
    /// Inside its value.
    TrailerValue,
    /// Behind the CR of a trailer line.
    TrailerLf,
    /// Behind the CR of the last line.
    EndLf,
    /// The body is complete.
    Done,
}

/// Where in a chunk extension. White space stands in quotes; in an answer around `;` and `=` too (BWS of RFC 9112 section
/// 7.1.1, which recipients must take): whatever passes it by reads the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Behind the semicolon.
    NameStart,
    Name,
    /// In the white space behind it.
    NameEnd,
    /// Behind the equals sign.
    ValueStart,
    Value,
    Quoted,
    /// Behind a backslash in quotes.
    Escaped,
    /// Behind the closing quote.
    QuotedEnd,
    /// In the white space behind a value, or behind the size.
    End,
}

impl Part {
    /// The next place; none for a byte that cannot stand here. `spaced` allows white space.
    fn next(self, byte: u8, spaced: bool) -> Option<Self> {
        Some(match (self, byte) {
            (Self::NameStart | Self::ValueStart, b' ' | b'\t') if spaced => self,
            (Self::Name | Self::NameEnd, b' ' | b'\t') if spaced => Self::NameEnd,
            (Self::Value | Self::QuotedEnd | Self::End, b' ' | b'\t') if spaced => Self::End,
            (Self::Name | Self::NameEnd | Self::Value | Self::QuotedEnd | Self::End, b';') => {
                Self::NameStart
            }
            (Self::Name | Self::NameEnd, b'=') => Self::ValueStart,
            (Self::NameStart | Self::Name, _) if is_token(byte) => Self::Name,
            (Self::ValueStart, b'"') => Self::Quoted,
            (Self::ValueStart | Self::Value, _) if is_token(byte) => Self::Value,
            (Self::Quoted, b'"') => Self::QuotedEnd,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Self::Quoted,
            _ => return None,
        })
    }
}

/// Where in a chunked body we stand.
#[derive(Clone, Debug)]
pub struct ChunkScanner {
    state: State,
    /// The size being read, then the data bytes that are still to come.
    remaining: u64,
    digits: u8,
    line_extension_bytes: u32,
    /// How many more the body may have.
    extension_bytes_left: u64,
    /// Whether white space may stand in extensions.
    spaced: bool,
    trailer: Vec<u8>,
}

impl Default for ChunkScanner {
    fn default() -> Self {
        Self {
            state: State::SizeStart,
            remaining: 0,
            digits: 0,
            line_extension_bytes: 0,
            extension_bytes_left: EXTENSION_REQUEST_BYTES_MAX,
            spaced: false,
            trailer: Vec::new(),
        }
    }
}

impl ChunkScanner {
    /// A scanner for an answer.
    pub fn of_answer() -> Self {
        Self {
            extension_bytes_left: u64::MAX,
            spaced: true,
            ..Self::default()
        }
    }

    /// Whether the last byte of the body was seen.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// The lines of the trailer section, as far as they came.
    pub fn trailer(&self) -> &[u8] {
        &self.trailer
    }

    /// Looks at the next bytes of the body and names each run of data in them. Returns how many bytes belong to the
    /// body; fewer than given only when it is done, and the rest is none of it.
    pub fn scan(
        &mut self,
        bytes: &[u8],
        mut data: impl FnMut(Range<usize>),
    ) -> Result<usize, ChunkError> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let take = usize::try_from(self.remaining)
                    .map_or(bytes.len() - at, |n| n.min(bytes.len() - at));
                data(at..at + take);
                at += take;
                self.remaining -= take as u64;
                if self.remaining == 0 {
                    self.state = State::DataCr;
                }
            } else if let Some((size, behind)) = self.plain_size(&bytes[at..]) {
                self.remaining = size;
                self.state = State::Data;
                at += behind;
            } else {
                self.state = self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    /// The size of a chunk that begins here, if its line is all here and nothing but two to four digits, and where its
    /// data starts: most are so, and a step for each byte costs more than everything else about a chunk.
    fn plain_size(&self, bytes: &[u8]) -> Option<(u64, usize)> {
        let line = bytes
            .first_chunk::<6>()
            .filter(|_| self.state == State::SizeStart)?;
        let digits = line.iter().position(|byte| *byte == b'\r')?;
        if digits < 2 || line.get(digits + 1) != Some(&b'\n') {
            return None;
        }
        let size = line[..digits]
            .iter()
            .try_fold(0, |size, digit| Some(size << 4 | u64::from(hex(*digit)?)))?;
        (size > 0).then_some((size, digits + 2))
    }

    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        Ok(match (self.state, byte) {
            (State::SizeStart, _) => {
                self.remaining = u64::from(hex(byte).ok_or(ChunkError::Size)?);
                self.digits = 1;
                self.line_extension_bytes = 0;
                State::Size
            }
            (State::Size, b'\r') => State::SizeLf,
            (State::Size, b';') => self.extension(Part::NameStart)?,
            (State::Size, b' ' | b'\t') if self.spaced => self.extension(Part::End)?,
            (State::Size, _) => {
                let digit = hex(byte).ok_or(ChunkError::Size)?;
                self.digits += 1;
                if self.digits > 16 || self.remaining >> 59 != 0 {
                    return Err(ChunkError::SizeOverflow);
                }
                self.remaining = self.remaining << 4 | u64::from(digit);
                State::Size
            }
            (State::Extension(Part::Name | Part::Value | Part::QuotedEnd), b'\r') => State::SizeLf,
            (State::Extension(part), _) => {
                let next = part.next(byte, self.spaced).ok_or(ChunkError::Extension)?;
                self.extension(next)?
            }
            (State::SizeLf, b'\n') if self.remaining == 0 => State::TrailerStart,
            (State::SizeLf, b'\n') => State::Data,
            (State::SizeLf, _) => return Err(ChunkError::Size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::SizeStart,
            (State::DataCr | State::DataLf, _) => return Err(ChunkError::DataEnd),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => {
                self.trails(byte, State::TrailerName)?
            }
            (State::TrailerName, b':') => self.trails(byte, State::TrailerValue)?,
            (State::TrailerValue, b'\r') => self.trails(byte, State::TrailerLf)?,
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                self.trails(byte, State::TrailerValue)?
            }
            (State::TrailerLf, b'\n') => self.trails(byte, State::TrailerStart)?,
            (State::EndLf, b'\n') | (State::Done, _) => State::Done,
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _)
            | (State::TrailerLf | State::EndLf | State::Data, _) => {
                return Err(ChunkError::Trailer);
            }
        })
    }

    fn extension(&mut self, part: Part) -> Result<State, ChunkError> {
        self.line_extension_bytes += 1;
        if self.line_extension_bytes > EXTENSION_LINE_BYTES_MAX || self.extension_bytes_left == 0 {
            return Err(ChunkError::ExtensionTooLong);
        }
        self.extension_bytes_left -= 1;
        Ok(State::Extension(part))
    }

    fn trails(&mut self, byte: u8, next: State) -> Result<State, ChunkError> {
        if self.trailer.len() == TRAILER_BYTES_MAX {
            return Err(ChunkError::TrailerTooLong);
        }
        self.trailer.push(byte);
        Ok(next)
    }
}

/// Appends `data` as one chunk; nothing for none, since an empty chunk ends the body.
pub fn put(out: &mut Vec<u8>, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let digits = (usize::BITS - data.len().leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let digit = (data.len() >> (4 * place)) as u32 & 0xf;
        out.extend(char::from_digit(digit, 16).map(|digit| digit as u8));
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
