//! Request bodies that come compressed: `gzip`, `zstd`, `br`, and lists of them.
//!
//! `exchange` decodes before anything looks at the body, and sends it on plain. However little comes in, no more than
//! the caller's limit and one block comes out (besides a decoder's window, at most 16 MiB), and a body that is not
//! exactly what its label says is refused: truncated, damaged, or with anything behind its end.

use std::io::Read;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::GzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// No application nests them deeper, and each layer multiplies the work that a small body can cause.
const CODINGS_MAX: usize = 3;
/// Members of a gzip body, frames of a zstd body. Each costs a decoder's set-up, so their number bounds what a body of
/// empty ones costs.
const MEMBERS_MAX: usize = 256;
/// What RFC 9659 lets a `zstd` content coding ask of its receiver.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;
const BLOCK_BYTES: usize = 16 * 1024;

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

    /// Decodes a whole body, the coding applied last first. Takes time in proportion to `bytes_max` at worst.
    pub fn decode(&self, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, CodingError> {
        let mut decoded: Option<Vec<u8>> = None;
        for coding in self.0.iter().rev() {
            let encoded = decoded.as_deref().unwrap_or(body);
            let mut out = Output {
                bytes: Vec::new(),
                bytes_max,
            };
            match coding {
                Coding::Gzip => gzip(encoded, &mut out)?,
                Coding::Zstd => zstd(encoded, &mut out)?,
                Coding::Brotli => brotli(encoded, &mut out)?,
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

fn gzip(mut encoded: &[u8], out: &mut Output) -> Result<(), CodingError> {
    for _ in 0..MEMBERS_MAX {
        let mut member = GzDecoder::new(encoded);
        out.take_all(&mut member)?;
        encoded = member.into_inner();
        if encoded.is_empty() {
            return Ok(());
        }
    }
    Err(CodingError::Broken)
}

fn zstd(mut encoded: &[u8], out: &mut Output) -> Result<(), CodingError> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
    for _ in 0..MEMBERS_MAX {
        if let Some(behind) = behind_skippable_frame(encoded)? {
            encoded = behind;
        } else {
            let frame = StreamingDecoder::new_with_decoder(&mut encoded, &mut decoder);
            out.take_all(&mut frame.map_err(|_| CodingError::Broken)?)?;
            let stated = decoder.get_checksum_from_data();
            if stated.is_some() && stated != decoder.get_calculated_checksum() {
                return Err(CodingError::Broken);
            }
        }
        if encoded.is_empty() {
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

fn brotli(encoded: &[u8], out: &mut Output) -> Result<(), CodingError> {
    let alloc = StandardAlloc::default;
    // Strict: large windows are no part of the `br` coding, and may ask for a gigabyte.
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut block = [0; BLOCK_BYTES];
    let (mut left, mut read, mut total) = (encoded.len(), 0, 0);
    loop {
        let (mut free, mut written) = (block.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut read,
            encoded,
            &mut free,
            &mut written,
            &mut block,
            &mut total,
            &mut state,
        );
        out.push(&block[..written])?;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if left == 0 => return Ok(()),
            _ => return Err(CodingError::Broken),
        }
    }
}

struct Output {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Output {
    fn take_all(&mut self, decoder: &mut impl Read) -> Result<(), CodingError> {
        let mut block = [0; BLOCK_BYTES];
        loop {
            let len = decoder.read(&mut block).map_err(|_| CodingError::Broken)?;
            if len == 0 {
                return Ok(());
            }
            self.push(&block[..len])?;
        }
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
