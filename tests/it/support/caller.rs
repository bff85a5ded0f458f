//! A caller: a raw connection to the router, and answers parsed strictly.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::PATIENCE;
use super::message::{BodyEnd, Broken, Fields, body_end, parse_head, read_body, read_head};

/// An answer as it arrived.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub fields: Fields,
    /// The content, framing taken off.
    pub body: Vec<u8>,
    /// The body as it came, framing included.
    pub raw_body: Vec<u8>,
    /// The head as it came.
    pub raw_head: Vec<u8>,
    /// Whether it came to its end.
    pub complete: bool,
}

impl Reply {
    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// A field's value.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }
}

/// A connection to the router.
pub struct Caller {
    stream: BufReader<TcpStream>,
}

impl Caller {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap()
    }

    pub fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends; returns false if the router has closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// Nothing more will be sent.
    pub fn half_close(&self) {
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }

    /// Leaves with a reset.
    pub fn reset(self) {
        socket2::SockRef::from(self.stream.get_ref())
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// The next answer, interim ones included.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.try_reply()
            .expect("the connection ended before an answer")
    }

    /// The next answer; None if the connection ended before its first byte.
    #[track_caller]
    pub fn try_reply(&mut self) -> Option<Reply> {
        let mut reply = self.head()?;
        let end = match reply.status {
            100..=199 | 204 | 304 => BodyEnd::Length(0),
            _ => body_end(&reply.fields).unwrap().unwrap_or(BodyEnd::Close),
        };
        self.body(&mut reply, end);
        Some(reply)
    }

    /// The next answer's head alone.
    #[track_caller]
    pub fn head(&mut self) -> Option<Reply> {
        let raw_head = match read_head(&mut self.stream) {
            Ok(head) => head,
            Err(Broken::End(0) | Broken::Reset) => return None,
            Err(why) => panic!("half a head: {why:?}"),
        };
        let (start, fields) = parse_head(&raw_head).unwrap();
        let status = start
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .expect(&start)
            .parse()
            .unwrap();
        Some(Reply {
            status,
            fields,
            body: Vec::new(),
            raw_body: Vec::new(),
            raw_head,
            complete: false,
        })
    }

    #[track_caller]
    fn body(&mut self, reply: &mut Reply, end: BodyEnd) {
        let (raw, content, result) = read_body(&mut self.stream, end);
        if let Err(Broken::Doubtful(what)) = &result {
            panic!("the router sent {what}");
        }
        (reply.raw_body, reply.body, reply.complete) = (raw, content, result.is_ok());
    }

    /// Reads the body of an answer whose head has been read.
    #[track_caller]
    pub fn finish(&mut self, reply: &mut Reply) {
        let end = body_end(&reply.fields).unwrap().unwrap_or(BodyEnd::Close);
        self.body(reply, end);
    }

    /// Exactly so many raw bytes.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Everything until the router closes; with a word of ours behind it if it does not.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => rest,
            Err(error) => [rest, format!("(still open: {error})").into()].concat(),
        }
    }

    /// One exchange.
    #[track_caller]
    pub fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.send(bytes);
        self.reply()
    }
}

/// A request with its length and a host; `fields` as they are.
pub fn request(
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Vec<u8> {
    let body = body.as_ref();
    let mut out = format!("{method} {target} HTTP/1.1\r\nHost: router.test\r\n");
    for (name, value) in fields {
        out += &format!("{name}: {value}\r\n");
    }
    if method == "POST" {
        out += &format!("Content-Length: {}\r\n", body.len());
    }
    out += "\r\n";
    [out.as_bytes(), body].concat()
}
