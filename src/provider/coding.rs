//! Request bodies that come compressed: `gzip`, `zstd`, `br`, and lists of them.
//!
//! `exchange` decodes before anything looks at the body, and sends it on plain. However little comes in, no more than
//! the caller's limit and one block comes out (besides a decoder's window, at most 16 MiB); however much is read, a part
//! of it comes out; and a body that is not exactly what its label says is refused: truncated, damaged, or with anything
//! behind its end. Others have their turn between two blocks.

use std::io::{self, BufRead, Read};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::GzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// No application nests them deeper.
const CODINGS_MAX: usize = 3;
/// What has been compressed hardly shrinks again. Without this bound each layer would multiply the work that a small
/// body can cause.
const LAYER_GROWTH_MAX: usize = 2;
const LAYER_BYTES: usize = 64 * 1024;
/// Members of a gzip body, frames of a zstd body. Each costs a decoder's set-up, so their number bounds what a body of
/// empty ones costs.
const MEMBERS_MAX: usize = 256;
/// What RFC 9659 lets a `zstd` content coding ask of its receiver.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;
const BLOCK_BYTES: usize = 16 * 1024;
/// As much is read by a decoder in one go.
const READ_BYTES: usize = 4 * 1024;
/// So much may be read before anything comes out. With gzip that is far more than the tables of a block; a block of
/// nothing else takes a microsecond a byte. The others may keep a whole window, and take less.
const GZIP_IDLE_BYTES: usize = 16 * 1024;
const ZSTD_IDLE_BYTES: usize = ZSTD_WINDOW_BYTES_MAX as usize + BLOCK_HEAD_BYTES;
const BROTLI_IDLE_BYTES: usize = 16 * 1024 * 1024 + BLOCK_HEAD_BYTES;
/// Tables for 256 contexts, or the literals of a block, which come first.
const BLOCK_HEAD_BYTES: usize = 256 * 1024;
/// What comes out may have been longer before by one in so many bytes: what is flushed piece by piece is.
const OVERHEAD_SHARE: usize = 8;

/// Why a body cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodingError {
    /// A coding that is none of ours, or too many of them.
    Unsupported,
    /// The bytes are not what the label says.
    Broken,
    /// More than the limit comes out.
    TooLarge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Zstd,
    Brotli,
}

/// The codings of a request, in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codings(Vec<Coding>);

impl Codings {
    /// Reads a Content-Encoding value.
    pub fn parse(value: &[u8]) -> Result<Self, CodingError> {
        let mut codings = Vec::new();
        for name in value.split(|b| *b == b',') {
            let coding = match name.trim_ascii().to_ascii_lowercase().as_slice() {
                b"" | b"identity" => continue,
                b"gzip" | b"x-gzip" => Coding::Gzip,
                b"zstd" => Coding::Zstd,
                b"br" => Coding::Brotli,
                _ => return Err(CodingError::Unsupported),
            };
            if codings.len() == CODINGS_MAX {
                return Err(CodingError::Unsupported);
            }
            codings.push(coding);
        }
        Ok(Self(codings))
    }

    /// The body is as it stands.
    pub fn is_identity(&self) -> bool {
        self.0.is_empty()
    }

    /// Decodes a whole body, the coding applied last first. `turn` is awaited after each block, some tens of
    /// milliseconds of work at worst.
    pub async fn decode(
        &self,
        body: &[u8],
        bytes_max: usize,
        mut turn: impl AsyncFnMut(),
    ) -> Result<Vec<u8>, CodingError> {
        let mut decoded: Option<Vec<u8>> = None;
        for (at, coding) in self.0.iter().enumerate().rev() {
            let bytes = decoded.as_deref().unwrap_or(body);
            let layer_bytes_max = LAYER_GROWTH_MAX * bytes.len() + LAYER_BYTES;
            let mut out = Output {
                bytes: Vec::new(),
                bytes_max: match at {
                    0 => bytes_max,
                    _ => bytes_max.min(layer_bytes_max),
                },
            };
            match coding {
                Coding::Gzip => gzip(bytes, &mut out, &mut turn).await?,
                Coding::Zstd => zstd(bytes, &mut out, &mut turn).await?,
                Coding::Brotli => brotli(bytes, &mut out, &mut turn).await?,
            }
            decoded = Some(out.bytes);
        }
        match decoded {
            Some(decoded) => Ok(decoded),
            None if body.len() > bytes_max => Err(CodingError::TooLarge),
            None => Ok(body.to_vec()),
        }
    }
}

async fn gzip(
    bytes: &[u8],
    out: &mut Output,
    turn: &mut impl AsyncFnMut(),
) -> Result<(), CodingError> {
    let mut encoded = Encoded::new(bytes, GZIP_IDLE_BYTES);
    for _ in 0..MEMBERS_MAX {
        let mut member = GzDecoder::new(encoded);
        while let Some(len) = out.take(&mut member)? {
            member.get_mut().gave(len);
            turn().await;
        }
        encoded = member.into_inner();
        if encoded.rest.is_empty() {
            return Ok(());
        }
    }
    Err(CodingError::Broken)
}

async fn zstd(
    bytes: &[u8],
    out: &mut Output,
    turn: &mut impl AsyncFnMut(),
) -> Result<(), CodingError> {
    let mut encoded = Encoded::new(bytes, ZSTD_IDLE_BYTES);
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
    for _ in 0..MEMBERS_MAX {
        if let Some(behind) = behind_skippable_frame(encoded.rest)? {
            encoded.rest = behind;
        } else {
            let frame = StreamingDecoder::new_with_decoder(&mut encoded, &mut decoder);
            let mut frame = frame.map_err(|_| CodingError::Broken)?;
            while let Some(len) = out.take(&mut frame)? {
                frame.get_mut().gave(len);
                turn().await;
            }
            let stated = decoder.get_checksum_from_data();
            if stated.is_some() && stated != decoder.get_calculated_checksum() {
                return Err(CodingError::Broken);
            }
        }
        if encoded.rest.is_empty() {
            return Ok(());
        }
    }
    Err(CodingError::Broken)
}

/// RFC 8878, section 3.1.2: sixteen magic numbers, a length, and as many bytes that mean nothing.
fn behind_skippable_frame(encoded: &[u8]) -> Result<Option<&[u8]>, CodingError> {
    let [0x50..=0x5F, 0x2A, 0x4D, 0x18, rest @ ..] = encoded else {
        return Ok(None);
    };
    let (len, rest) = rest.split_first_chunk::<4>().ok_or(CodingError::Broken)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| CodingError::Broken)?;
    rest.get(len..).map(Some).ok_or(CodingError::Broken)
}

async fn brotli(
    bytes: &[u8],
    out: &mut Output,
    turn: &mut impl AsyncFnMut(),
) -> Result<(), CodingError> {
    let mut encoded = Encoded::new(bytes, BROTLI_IDLE_BYTES);
    let alloc = StandardAlloc::default;
    // Strict: large windows are no part of the `br` coding, and may ask for a gigabyte.
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut block = [0; BLOCK_BYTES];
    let mut total = 0;
    loop {
        let some = encoded.fill_buf().map_err(|_| CodingError::Broken)?;
        let (mut left, mut read) = (some.len(), 0);
        let (mut free, mut written) = (block.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            some,
            &mut free,
            &mut written,
            &mut block,
            &mut total,
            &mut state,
        );
        let nothing_read = some.is_empty();
        encoded.consume(read);
        encoded.gave(written);
        out.push(&block[..written])?;
        match result {
            BrotliResult::NeedsMoreInput if !nothing_read => {}
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if encoded.rest.is_empty() => return Ok(()),
            _ => return Err(CodingError::Broken),
        }
        turn().await;
    }
}

/// A body that is being decoded. It refuses to be read on and on while nothing comes out.
struct Encoded<'a> {
    rest: &'a [u8],
    /// So much may be read before something comes out.
    left: usize,
    left_max: usize,
}

impl<'a> Encoded<'a> {
    fn new(rest: &'a [u8], idle_bytes_max: usize) -> Self {
        Self {
            rest,
            left: idle_bytes_max,
            left_max: idle_bytes_max,
        }
    }

    /// So much came out of it.
    fn gave(&mut self, len: usize) {
        self.left = (self.left + len + len / OVERHEAD_SHARE).min(self.left_max);
    }
}

impl BufRead for Encoded<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 && !self.rest.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(&self.rest[..self.rest.len().min(self.left).min(READ_BYTES)])
    }

    fn consume(&mut self, len: usize) {
        self.rest = &self.rest[len..];
        self.left = self.left.saturating_sub(len);
    }
}

impl Read for Encoded<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let some = self.fill_buf()?;
        let len = some.len().min(into.len());
        into[..len].copy_from_slice(&some[..len]);
        self.consume(len);
        Ok(len)
    }
}

struct Output {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Output {
    /// Takes a block; none at the end.
    fn take(&mut self, decoder: &mut impl Read) -> Result<Option<usize>, CodingError> {
        let mut block = [0; BLOCK_BYTES];
        let len = decoder.read(&mut block).map_err(|_| CodingError::Broken)?;
        self.push(&block[..len])?;
        Ok((len > 0).then_some(len))
    }

    /// Grows by doubling, but never beyond the limit.
    fn push(&mut self, block: &[u8]) -> Result<(), CodingError> {
        let needed = self.bytes.len() + block.len();
        if needed > self.bytes_max {
            return Err(CodingError::TooLarge);
        }
        if needed > self.bytes.capacity() {
            let capacity = (self.bytes.capacity() * 2).clamp(needed, self.bytes_max);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(block);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
