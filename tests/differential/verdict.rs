//! Reads request streams from stdin (a little-endian u32 length before each) and prints what the router's parsers make
//! of each: `refused`, `incomplete`, or `taken`, the target, the bytes used, and the body in hexadecimal.

use std::error::Error;
use std::io::{self, BufWriter, Read, Write};

use memoryrouter::http::head;
use memoryrouter::http::{ChunkScanner, Framing, HeadLimits};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    fields_max: 100,
    target_bytes_max: 16 * 1024,
};

enum Verdict {
    Refused,
    Incomplete,
    Taken {
        target: String,
        used: usize,
        body: Vec<u8>,
    },
}

fn judge(stream: &[u8]) -> Verdict {
    let head = match head::request(stream, &mut 0, &LIMITS) {
        Err(_) => return Verdict::Refused,
        Ok(None) => return Verdict::Incomplete,
        Ok(Some(head)) => head,
    };
    let Ok(framing) = Framing::of_request(&head, stream) else {
        return Verdict::Refused;
    };
    let rest = &stream[head.end..];
    let query = head.query(stream).map(|query| format!("?{query}"));
    let target = head.path(stream).to_owned() + &query.unwrap_or_default();
    match framing {
        Framing::None => Verdict::Taken {
            target,
            used: head.end,
            body: Vec::new(),
        },
        Framing::Length(length) => {
            match rest.get(..usize::try_from(length).unwrap_or(usize::MAX)) {
                None => Verdict::Incomplete,
                Some(body) => Verdict::Taken {
                    target,
                    used: head.end + body.len(),
                    body: body.to_vec(),
                },
            }
        }
        Framing::Chunked => {
            let mut scanner = ChunkScanner::default();
            let mut body = Vec::new();
            match scanner.scan(rest, |range| body.extend_from_slice(&rest[range])) {
                Err(_) => Verdict::Refused,
                Ok(_) if !scanner.done() => Verdict::Incomplete,
                Ok(used) => Verdict::Taken {
                    target,
                    used: head.end + used,
                    body,
                },
            }
        }
        Framing::UntilClose => Verdict::Refused,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut rest = &input[..];
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (stream, next) = behind
            .split_at_checked(u32::from_le_bytes(*length) as usize)
            .ok_or("a stream is cut off")?;
        rest = next;
        match judge(stream) {
            Verdict::Refused => writeln!(out, "refused")?,
            Verdict::Incomplete => writeln!(out, "incomplete")?,
            Verdict::Taken { target, used, body } => {
                write!(out, "taken {target} {used} ")?;
                for byte in body {
                    write!(out, "{byte:02x}")?;
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}
