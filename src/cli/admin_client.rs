//! The command line's side of the admin port: for commands about what a running router holds open.
//!
//! `memory` asks here first. Nobody listening means that no router runs, and the command opens the files itself.
//! Blocking, one connection a request, over the product's own HTTP core. The token goes to nobody but the router's
//! user: over TLS the certificate must be the configured one, without it the listening socket must be that user's.

mod owner;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::Deserialize;

use super::Failure;
use crate::admin;
use crate::config::{Config, Listen};
use crate::http::head::{self, HeadLimits};
use crate::http::{ChunkScanner, Framing, Method};
use crate::net::connect_pinned;
use crate::secret::Secret;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 64 * 1024,
    fields_max: 100,
    target_bytes_max: 0,
};
const READ_BYTES: usize = 64 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two pieces: a large import is synced to disk meanwhile.
const STALL_TIMEOUT: Duration = Duration::from_secs(120);

/// A running router's admin port.
pub(crate) struct AdminClient {
    listen: Listen,
    /// The certificate that it must show.
    certificate: Option<PathBuf>,
    /// Who runs it: whose file the token is.
    user: u32,
    token: Secret,
}

trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    hint: Option<String>,
}

impl AdminClient {
    /// The admin port of this configuration's router; none if no router runs.
    pub(crate) fn find(config: &Config) -> Result<Option<Self>, Failure> {
        let Some(listen) = config.admin.listen.clone() else {
            return Ok(None);
        };
        if dial(&listen).is_err() {
            return Ok(None);
        }
        let certificate = config.admin.tls.as_ref().map(|files| files.cert.clone());
        let token = admin::read_token(&config.dir).map_err(Failure::failed)?;
        let file = config.dir.join(admin::TOKEN_FILE_NAME);
        let user = std::fs::metadata(file).map_err(Failure::failed)?.uid();
        Ok(Some(Self {
            listen,
            certificate,
            user,
            token,
        }))
    }

    /// The body of a good answer.
    pub(crate) fn get(&self, target: &str) -> Result<Vec<u8>, Failure> {
        self.ask("GET", target, "", b"")
    }

    /// The same for a request with a body.
    pub(crate) fn ask(
        &self,
        method: &str,
        target: &str,
        media: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let mut answer = Vec::new();
        self.ask_into(method, target, media, body, &mut answer)?;
        Ok(answer)
    }

    /// Writes the body of a good answer to `out` as it comes; any other answer is a failure with its reason.
    pub(crate) fn ask_into(
        &self,
        method: &str,
        target: &str,
        media: &str,
        body: &[u8],
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut wire = self.connect()?;
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer "
        )
        .into_bytes();
        request.extend_from_slice(self.token.expose());
        request.extend_from_slice(b"\r\n");
        if !media.is_empty() {
            request.extend_from_slice(
                format!(
                    "content-type: {media}\r\ncontent-length: {}\r\n",
                    body.len()
                )
                .as_bytes(),
            );
        }
        request.extend_from_slice(b"\r\n");
        let sent = wire.write_all(&request).and_then(|()| wire.write_all(body));
        zeroize::Zeroize::zeroize(&mut request);
        // A router that refuses early answers although not everything was read.
        if let Err(error) = sent
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(broken(error));
        }
        let mut refused = Vec::new();
        let mut unwritten = None;
        let received = receive(&mut *wire, &mut |status, bytes| match status {
            200..300 => out.write_all(bytes).map_err(|error| {
                let kind = error.kind();
                unwritten = Some(error);
                kind.into()
            }),
            _ => refused.write_all(bytes),
        });
        match unwritten {
            // A reader that has gone (`| head`) has what it wanted.
            Some(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Some(error) => return Err(Failure::failed(format!("cannot write: {error}"))),
            None => {}
        }
        let status = received.map_err(broken)?;
        match status {
            200..300 => Ok(()),
            _ => Err(Failure::failed(reason(status, &refused))),
        }
    }

    fn connect(&self) -> Result<Box<dyn Wire>, Failure> {
        match (dial(&self.listen).map_err(broken)?, &self.certificate) {
            (Dialled::Tcp(stream), Some(certificate)) => {
                let stream = connect_pinned(stream, certificate).map_err(|error| {
                    Failure::failed(format!(
                        "the router's admin port does not show the certificate of admin.tls, {}: {error}; \
                         one that was renewed is taken with SIGHUP",
                        certificate.display()
                    ))
                })?;
                Ok(Box::new(stream))
            }
            (Dialled::Tcp(stream), None) => {
                let address = stream.peer_addr().map_err(broken)?;
                refuse_stranger(self.user, &owner::listeners(address), &address)?;
                Ok(Box::new(stream))
            }
            (Dialled::Unix(stream), _) => {
                let listener = getsockopt(&stream, PeerCredentials).map_err(Failure::failed)?;
                refuse_stranger(self.user, &[listener.uid()], &self.listen)?;
                Ok(Box::new(stream))
            }
        }
    }
}

fn broken(error: io::Error) -> Failure {
    Failure::failed(format!("the router's admin port: {error}"))
}

/// What the router says, in its own words.
fn reason(status: u16, body: &[u8]) -> String {
    match sonic_rs::from_slice::<Refusal>(body) {
        Ok(Refusal { error, hint: None }) => error,
        Ok(Refusal {
            error,
            hint: Some(hint),
        }) => format!("{error}: {hint}"),
        Err(_) => format!("the router's admin port answered {status}"),
    }
}

/// Refuses a port that a stranger has taken, who would be handed the token.
fn refuse_stranger(user: u32, listeners: &[u32], place: &dyn fmt::Display) -> Result<(), Failure> {
    match stranger(listeners, user) {
        Some(stranger) => Err(Failure::failed(format!(
            "the router's admin port {place} is held by user {stranger}, not by the router's user {user}: \
             the admin token is not sent there"
        ))),
        None => Ok(()),
    }
}

/// Nobody's files are those of a service with a dynamic user, whose directory systemd maps for it (since version 257).
const NOBODY: u32 = 65_534;
/// The users that systemd gives out for the life of a service.
const DYNAMIC_USERS: RangeInclusive<u32> = 61_184..=65_519;

fn stranger(listeners: &[u32], user: u32) -> Option<u32> {
    // Root's: a socket that systemd has opened for the router.
    let trusted = |listener: &u32| {
        *listener == user || *listener == 0 || user == NOBODY && DYNAMIC_USERS.contains(listener)
    };
    listeners
        .iter()
        .copied()
        .find(|listener| !trusted(listener))
}

/// Where a listener of all addresses is reached from this machine.
fn reached_at(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

enum Dialled {
    Tcp(TcpStream),
    Unix(UnixStream),
}

fn dial(listen: &Listen) -> io::Result<Dialled> {
    Ok(match listen {
        Listen::Tcp(address) => {
            let stream = TcpStream::connect_timeout(&reached_at(*address), CONNECT_TIMEOUT)?;
            stream.set_read_timeout(Some(STALL_TIMEOUT))?;
            stream.set_write_timeout(Some(STALL_TIMEOUT))?;
            Dialled::Tcp(stream)
        }
        Listen::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(STALL_TIMEOUT))?;
            stream.set_write_timeout(Some(STALL_TIMEOUT))?;
            Dialled::Unix(stream)
        }
    })
}

/// Reads one answer whole; hands its content to `take` piece by piece and returns its status.
fn receive(
    wire: &mut dyn Wire,
    take: &mut dyn FnMut(u16, &[u8]) -> io::Result<()>,
) -> io::Result<u16> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a malformed answer");
    let mut bytes = Vec::new();
    let mut scanned = 0;
    let head = loop {
        match head::response(&bytes, &mut scanned, &LIMITS) {
            Ok(Some(head)) => break head,
            Ok(None) => more(wire, &mut bytes)?,
            Err(_) => return Err(malformed()),
        }
    };
    let status = head.line.status;
    let framing = Framing::of_response(&head, &bytes, Method::Get).map_err(|_| malformed())?;
    let mut rest = bytes.split_off(head.end);
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            let mut left = length;
            loop {
                left = left.checked_sub(rest.len() as u64).ok_or_else(malformed)?;
                take(status, &rest)?;
                rest.clear();
                if left == 0 {
                    break;
                }
                more(wire, &mut rest)?;
            }
        }
        Framing::Chunked => {
            let mut scanner = ChunkScanner::default();
            loop {
                let mut taken = Ok(());
                scanner
                    .scan(&rest, |range| {
                        if taken.is_ok() {
                            taken = take(status, &rest[range]);
                        }
                    })
                    .map_err(|_| malformed())?;
                taken?;
                if scanner.done() {
                    break;
                }
                rest.clear();
                more(wire, &mut rest)?;
            }
        }
        Framing::UntilClose => loop {
            take(status, &rest)?;
            rest.clear();
            if more(wire, &mut rest).is_err() {
                break;
            }
        },
    }
    Ok(status)
}

/// Reads on; an end before the answer's own is an error.
fn more(wire: &mut dyn Wire, bytes: &mut Vec<u8>) -> io::Result<()> {
    let start = bytes.len();
    bytes.resize(start + READ_BYTES, 0);
    let count = loop {
        match wire.read(&mut bytes[start..]) {
            // A ring of this process had something to say.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    bytes.truncate(start + count);
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn received(answer: &str) -> io::Result<(u16, String)> {
        let mut text = Vec::new();
        let mut wire = Cursor::new(answer.as_bytes().to_vec());
        let status = receive(&mut wire, &mut |_, bytes| text.write_all(bytes))?;
        Ok((status, String::from_utf8(text).unwrap()))
    }

    #[test]
    fn answers_are_taken_whole_or_not_at_all() {
        let length = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(received(length).unwrap(), (200, "hello".into()));
        let chunked =
            "HTTP/1.1 404 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
        assert_eq!(received(chunked).unwrap(), (404, "hello".into()));
        let empty = "HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(received(empty).unwrap(), (204, String::new()));
        for whole in [length, chunked, empty] {
            for end in 0..whole.len() {
                assert!(received(&whole[..end]).is_err(), "{:?}", &whole[..end]);
            }
        }
    }

    #[test]
    fn the_token_is_kept_from_other_users() {
        for (listeners, user, expected) in [
            (&[998][..], 998, None),
            (&[0], 998, None),
            (&[1000], 998, Some(1000)),
            (&[998, 1000], 998, Some(1000)),
            (&[1000], 0, Some(1000)),
            (&[], 998, None),
            (&[62_345], 65_534, None),
            (&[1000], 65_534, Some(1000)),
            (&[62_345], 998, Some(62_345)),
        ] {
            assert_eq!(stranger(listeners, user), expected, "{listeners:?}");
        }
    }

    #[test]
    fn refusals_are_told_in_the_routers_words() {
        assert_eq!(reason(404, br#"{"error":"no such key"}"#), "no such key");
        assert_eq!(
            reason(400, br#"{"error":"odd","hint":"even"}"#),
            "odd: even"
        );
        assert!(reason(500, b"<html>").contains("500"));
    }
}
