//! Where a router listens, and which two of such places are one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::sections::path;

/// `sun_path` of unix(7), less its end mark.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// IP and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Listen {
    /// Reads an address; a relative path starts from the data directory.
    pub(super) fn parse(text: &str, dir: &Path) -> Result<Self, String> {
        if let Some(file) = text.strip_prefix("unix:") {
            let path = path(file, dir)?;
            if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
                return Err(format!(
                    "{} is longer than the {SOCKET_PATH_BYTES_MAX} bytes that a socket's path may have",
                    path.display()
                ));
            }
            return Ok(Self::Unix(path));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!(
                "{text:?} is no address; write \"127.0.0.1:8080\", \"[::1]:8080\", \
                 \"0.0.0.0:8080\" for every interface, or \"unix:/path\""
            )
        })
    }

    /// Whether both cannot be listened on at once: the same, or every interface and one of them.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) => {
                let every = one.ip().is_unspecified() || other.ip().is_unspecified();
                let alike = one.is_ipv4() == other.is_ipv4() && one.port() == other.port();
                alike && one.port() != 0 && (every || one.ip() == other.ip())
            }
            _ => self == other,
        }
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_listened_on_at_once() {
        let listen = |address: &str| Listen::Tcp(address.parse().unwrap());
        for (one, other, overlap) in [
            ("0.0.0.0:1", "[::]:1", false),
            ("0.0.0.0:1", "[::1]:1", false),
            ("0.0.0.0:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:0", "127.0.0.1:0", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:1", true),
        ] {
            let (one, other) = (listen(one), listen(other));
            assert_eq!(one.overlaps(&other), overlap, "{one} {other}");
            assert_eq!(other.overlaps(&one), overlap, "{one} {other}");
        }
    }
}
