//! Lines on their way into a vault and out of one, with a word now and then about how far they are.
//!
//! An import goes in pieces. The times of lines that have none are told here, over all pieces: each piece for itself
//! would take them from when it arrives, and a later one could come before an earlier one.

use std::fs::File;
use std::io::{self, Read as _, Write};

use super::vault::{Added, Vault, wait};
use crate::cli::Failure;
use crate::clock::unix_millis;
use crate::error::Fault;
use crate::exchange::{LINES_MAX, read_lines};
use crate::memory::NewMemory;

/// Bytes of lines sent at once, about: half of what the admin port takes.
const PIECE_BYTES: usize = 16 << 20;
/// How many lines go by between two words about the progress.
const TOLD_EVERY: u64 = 10_000;

/// Counts lines on their way and tells of them.
pub(super) struct Told<W> {
    out: W,
    what: &'static str,
    pub(super) lines: u64,
    pub(super) told: u64,
}

impl<W> Told<W> {
    pub(super) fn new(out: W, what: &'static str) -> Self {
        Self {
            out,
            what,
            lines: 0,
            told: 0,
        }
    }

    pub(super) fn count(&mut self, lines: u64) {
        self.lines += lines;
        if self.lines - self.told >= TOLD_EVERY {
            self.told = self.lines;
            tell(&format!("{} {}", self.lines, self.what));
        }
    }
}

/// Progress is no result: it goes to stderr, and nothing is lost if nobody reads it.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "memoryrouter: {text}");
}

impl<W: Write> Write for Told<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        let lines = bytes[..written].iter().filter(|byte| **byte == b'\n');
        let lines = lines.count() as u64;
        self.count(lines);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What the pieces of an import say.
pub(super) struct Lines(Vec<Vec<NewMemory>>);

impl Lines {
    pub(super) fn read(file: Option<&std::path::Path>) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        let read = match file {
            Some(path) => File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
            None => io::stdin().lock().read_to_end(&mut bytes),
        };
        read.map_err(|error| {
            let name = file.map_or("stdin".into(), |path| path.display().to_string());
            Failure::failed(format!("cannot read {name}: {error}"))
        })?;
        let pieces = Self::of(&bytes, unix_millis())?;
        Ok(Self(pieces))
    }

    /// Reads and judges all pieces.
    fn of(bytes: &[u8], now_ms: i64) -> Result<Vec<Vec<NewMemory>>, Failure> {
        let mut pieces = Vec::new();
        let (mut rest, mut line) = (bytes, 1);
        while !rest.is_empty() {
            let (piece, count) = piece(rest);
            rest = &rest[piece.len()..];
            let behind = memchr::memchr_iter(b'\n', rest).count() as i64;
            let memories = wait(read_lines(piece, None, now_ms - behind))?;
            let memories = memories.map_err(|fault| {
                let what = match fault {
                    Fault::InvalidLine(at, what) => format!("line {}: {what}", line + at - 1),
                    fault => fault.error(),
                };
                Failure::failed(format!("nothing was imported: {what}"))
            })?;
            pieces.push(memories);
            line += count;
        }
        Ok(pieces)
    }

    pub(super) fn add_to(self, vault: &Vault) -> Result<Added, Failure> {
        let mut all = Added::default();
        let mut told = Told::new((), "memories imported");
        for memories in self.0 {
            if memories.is_empty() {
                continue;
            }
            let added = vault.add(memories).map_err(|failure| {
                Failure::failed(format!(
                    "{failure}; {} memories were imported before",
                    all.total
                ))
            })?;
            all.total += added.total;
            all.stored += added.stored;
            all.duplicates += added.duplicates;
            told.count(added.total);
        }
        Ok(all)
    }
}

/// Some whole lines from the start, and how many.
pub(super) fn piece(bytes: &[u8]) -> (&[u8], usize) {
    let (mut end, mut count) = (0, 0);
    while end < bytes.len() && count < LINES_MAX && end < PIECE_BYTES {
        let line = memchr::memchr(b'\n', &bytes[end..]);
        end = line.map_or(bytes.len(), |at| end + at + 1);
        count += 1;
    }
    (&bytes[..end], count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_up_over_all_pieces_and_end_now() {
        let line = "{\"content\":\"a\"}\n";
        let pieces = Lines::of(line.repeat(2 * LINES_MAX + 5).as_bytes(), 1 << 40).unwrap();
        assert_eq!(pieces.len(), 3);
        let times: Vec<i64> = pieces.iter().flatten().map(|new| new.at_ms).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(times.last(), Some(&((1 << 40) - 1)));
    }

    #[test]
    fn pieces_are_whole_lines() {
        let text = b"a\n".repeat(LINES_MAX + 2);
        let (first, count) = piece(&text);
        assert_eq!((first.len(), count), (2 * LINES_MAX, LINES_MAX));
        assert_eq!(piece(b"a\nb"), (&b"a\nb"[..], 2));
        let long = vec![b'x'; 2 * PIECE_BYTES];
        assert_eq!(piece(&long).0.len(), long.len());
    }
}
