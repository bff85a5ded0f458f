//! A parser of HTTP/1.1 messages that accepts nothing doubtful: the judge of what the router writes, on both sides.

use std::io::{self, Read};

/// Field lines in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of the only field of that name; None if there is none.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands more than once: {all:?}");
        all.first().copied()
    }

    /// All values of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self
            .0
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    Length(u64),
    Chunked,
    Close,
}

/// What is wrong with a message, or with the connection that it came over.
#[derive(Debug)]
pub enum Broken {
    /// The connection ended, after this many bytes of the message.
    End(usize),
    /// It was reset, or stalled for too long.
    Reset,
    /// It is no message that everyone reads alike.
    Doubtful(String),
}

impl Broken {
    fn of(error: io::Error, read: usize) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::End(read),
            _ => Self::Reset,
        }
    }
}

/// Reads one message's head, byte for byte: up to and with the empty line.
pub fn read_head(stream: &mut impl Read) -> Result<Vec<u8>, Broken> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .map_err(|error| Broken::of(error, head.len()))?;
        head.push(byte[0]);
        if head.len() > 1 << 20 {
            return Err(Broken::Doubtful("a head without end".into()));
        }
    }
    Ok(head)
}

/// Start line and fields. Any byte that some parser reads otherwise is refused.
pub fn parse_head(head: &[u8]) -> Result<(String, Fields), Broken> {
    let doubtful = |what: &str| {
        Err(Broken::Doubtful(format!(
            "{what} in {:?}",
            String::from_utf8_lossy(head)
        )))
    };
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text[..text.len() - 4].split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    if start.is_empty() || start.chars().any(|c| c.is_control()) {
        return doubtful("start line");
    }
    let mut fields = Vec::new();
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            return doubtful("a line without a colon");
        };
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            return doubtful("field name");
        }
        if value.chars().any(|c| c != '\t' && (c < ' ' || c == '\x7f')) {
            return doubtful("field value");
        }
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
    Ok((start, Fields(fields)))
}

/// How the body of a message with these fields ends; None where no length is stated.
pub fn body_end(fields: &Fields) -> Result<Option<BodyEnd>, Broken> {
    let lengths = fields.all("content-length");
    let codings = fields.all("transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([length], []) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(Some(BodyEnd::Length(length.parse().unwrap())))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(BodyEnd::Chunked)),
        _ => Err(Broken::Doubtful(format!("framing: {fields:?}"))),
    }
}

/// Reads a body to its end. Returns the bytes as they came and the content; on an error what came until then.
pub fn read_body(stream: &mut impl Read, end: BodyEnd) -> (Vec<u8>, Vec<u8>, Result<(), Broken>) {
    let mut raw = Vec::new();
    let mut content = Vec::new();
    let result = match end {
        BodyEnd::Length(length) => {
            let result = read_exactly(stream, length as usize, &mut raw);
            content = raw.clone();
            result
        }
        BodyEnd::Close => {
            let result = stream
                .read_to_end(&mut raw)
                .map(drop)
                .map_err(|error| Broken::of(error, raw.len()));
            content = raw.clone();
            result
        }
        BodyEnd::Chunked => read_chunks(stream, &mut raw, &mut content),
    };
    (raw, content, result)
}

fn read_exactly(stream: &mut impl Read, count: usize, raw: &mut Vec<u8>) -> Result<(), Broken> {
    let start = raw.len();
    let mut piece = [0; 64 * 1024];
    while raw.len() - start < count {
        let want = (count - (raw.len() - start)).min(piece.len());
        match stream.read(&mut piece[..want]) {
            Ok(0) => return Err(Broken::End(raw.len())),
            Ok(read) => raw.extend_from_slice(&piece[..read]),
            // A read with a timeout is not taken up again by the kernel.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Broken::of(error, raw.len())),
        }
    }
    Ok(())
}

fn read_line(stream: &mut impl Read, raw: &mut Vec<u8>) -> Result<String, Broken> {
    let start = raw.len();
    while !raw[start..].ends_with(b"\r\n") {
        read_exactly(stream, 1, raw)?;
    }
    Ok(raw[start..raw.len() - 2]
        .iter()
        .map(|byte| char::from(*byte))
        .collect())
}

fn read_chunks(
    stream: &mut impl Read,
    raw: &mut Vec<u8>,
    content: &mut Vec<u8>,
) -> Result<(), Broken> {
    loop {
        let line = read_line(stream, raw)?;
        let digits = line.split(';').next().unwrap_or_default();
        let hex = !digits.is_empty()
            && digits.len() <= 15
            && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex || line.contains(['\n', '\r']) {
            return Err(Broken::Doubtful(format!("chunk size {line:?}")));
        }
        let size = usize::from_str_radix(digits, 16).unwrap();
        if size == 0 {
            while !read_line(stream, raw)?.is_empty() {}
            return Ok(());
        }
        let from = raw.len();
        read_exactly(stream, size, raw)?;
        content.extend_from_slice(&raw[from..]);
        let from = raw.len();
        read_exactly(stream, 2, raw)?;
        if &raw[from..] != b"\r\n" {
            return Err(Broken::Doubtful("chunk terminator".into()));
        }
    }
}

/// The content of a whole chunked body.
#[track_caller]
pub fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let (_, content, result) = read_body(&mut raw, BodyEnd::Chunked);
    result.unwrap();
    content
}

/// Start line and fields of a head that every parser reads alike; else what is doubtful in it.
pub fn doubtless(stream: &mut impl Read) -> Result<(String, Fields), String> {
    let head = read_head(stream).map_err(|why| format!("{why:?}"))?;
    parse_head(&head).map_err(|why| format!("{why:?}"))
}
