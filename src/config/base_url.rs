//! Where a provider is: a base URL, taken apart once.
//!
//! Only `http` and `https`, a host, and a path: no user name, query or fragment, and no characters that could end a
//! request line or a header. What stands in a `BaseUrl` can be written into a request as it is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A provider's address and the prefix of its paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl {
    /// `https`.
    pub tls: bool,
    /// Name (lower case) or IP address, without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// For the `Host` field: brackets around IPv6, the scheme's own port left out.
    pub authority: String,
    /// `""` or `"/v1"`: a leading slash, no trailing one.
    pub path: String,
}

/// Why a text is no base URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseUrlError {
    /// Neither `http://` nor `https://`.
    Scheme,
    /// Nothing between the slashes, or no host name.
    Host,
    /// Not a number from 1 to 65535.
    Port,
    /// `user:password@`.
    UserInfo,
    /// `?…`.
    Query,
    /// `#…`.
    Fragment,
    /// Characters that no path has, or `.` and `..` as segments.
    Path,
}

impl fmt::Display for BaseUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "a base URL starts with https:// or http://",
            Self::Host => "a base URL needs a host name or an IP address",
            Self::Port => "the port of a base URL is a number from 1 to 65535",
            Self::UserInfo => "a base URL holds no user name or password",
            Self::Query => "a base URL holds no query (?…)",
            Self::Fragment => "a base URL holds no fragment (#…)",
            Self::Path => "the path of a base URL holds only plain, visible characters",
        })
    }
}

impl std::error::Error for BaseUrlError {}

impl BaseUrl {
    /// Takes `text` apart. The error never repeats it, because a password may stand in it.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let (tls, rest) = scheme(text).ok_or(BaseUrlError::Scheme)?;
        if rest.contains('#') {
            return Err(BaseUrlError::Fragment);
        }
        if rest.contains('?') {
            return Err(BaseUrlError::Query);
        }
        let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if place.contains('@') {
            return Err(BaseUrlError::UserInfo);
        }
        let (host, port) = host_and_port(place)?;
        let path = path.trim_end_matches('/');
        if !is_path(path) {
            return Err(BaseUrlError::Path);
        }
        let default_port = if tls { 443 } else { 80 };
        Ok(Self::new(
            tls,
            host,
            port.unwrap_or(default_port),
            path.to_owned(),
        ))
    }

    /// From parts that are known to be right.
    pub(super) fn new(tls: bool, host: String, port: u16, path: String) -> Self {
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let default_port = if tls { 443 } else { 80 };
        let authority = if port == default_port {
            shown
        } else {
            format!("{shown}:{port}")
        };
        Self {
            tls,
            host,
            port,
            authority,
            path,
        }
    }

    /// Takes a version segment off the end of the path, for providers whose dialects bring their own.
    pub(super) fn without_suffix(mut self, suffixes: &[&str]) -> Self {
        for suffix in suffixes {
            if let Some(prefix) = self.path.strip_suffix(suffix) {
                self.path.truncate(prefix.trim_end_matches('/').len());
                break;
            }
        }
        self
    }

    /// Whether it stays on this machine.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

fn scheme(text: &str) -> Option<(bool, &str)> {
    let (name, rest) = text.split_once("://")?;
    if name.eq_ignore_ascii_case("https") {
        Some((true, rest))
    } else if name.eq_ignore_ascii_case("http") {
        Some((false, rest))
    } else {
        None
    }
}

fn host_and_port(place: &str) -> Result<(String, Option<u16>), BaseUrlError> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(BaseUrlError::Host)?;
        let address: Ipv6Addr = host.parse().map_err(|_| BaseUrlError::Host)?;
        let port = match rest {
            "" => None,
            _ => Some(port(rest.strip_prefix(':').ok_or(BaseUrlError::Host)?)?),
        };
        return Ok((address.to_string(), port));
    }
    let (host, port) = match place.split_once(':') {
        Some((host, text)) => (host, Some(port(text)?)),
        None => (place, None),
    };
    if is_host_name(host) {
        Ok((host.to_ascii_lowercase(), port))
    } else {
        Err(BaseUrlError::Host)
    }
}

fn port(text: &str) -> Result<u16, BaseUrlError> {
    let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if all_digits && port > 0 => Ok(port),
        _ => Err(BaseUrlError::Port),
    }
}

/// Letters, digits, `-`, `_`, `.`: DNS names, IPv4 addresses, and the underscores of container networks.
fn is_host_name(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !host.is_empty() && host.len() <= 253 && !host.starts_with('.') && host.bytes().all(allowed)
}

fn is_path(path: &str) -> bool {
    let forbidden = b"\"<>\\^`{|}";
    let plain = |byte: u8| byte.is_ascii_graphic() && !forbidden.contains(&byte);
    path.bytes().all(plain) && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_ones() {
        // text, tls, host, port, authority, path
        #[rustfmt::skip] // A table reads by rows.
        let cases = [
            ("https://api.openai.com/v1", true, "api.openai.com", 443, "api.openai.com", "/v1"),
            ("https://api.openai.com/v1/", true, "api.openai.com", 443, "api.openai.com", "/v1"),
            ("HTTPS://API.OpenAI.com", true, "api.openai.com", 443, "api.openai.com", ""),
            ("https://a.b:443/", true, "a.b", 443, "a.b", ""),
            ("https://a.b:80/x/y//", true, "a.b", 80, "a.b:80", "/x/y"),
            ("http://127.0.0.1:11434/v1", false, "127.0.0.1", 11434, "127.0.0.1:11434", "/v1"),
            ("http://localhost", false, "localhost", 80, "localhost", ""),
            ("http://[::1]:8000/v1", false, "::1", 8000, "[::1]:8000", "/v1"),
            ("https://[2001:DB8::1]", true, "2001:db8::1", 443, "[2001:db8::1]", ""),
            ("http://my_engine:1/a%20b", false, "my_engine", 1, "my_engine:1", "/a%20b"),
        ];
        for (text, tls, host, port, authority, path) in cases {
            let expected = BaseUrl {
                tls,
                host: host.into(),
                port,
                authority: authority.into(),
                path: path.into(),
            };
            assert_eq!(BaseUrl::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn wrong_ones() {
        use BaseUrlError::{Fragment, Host, Path, Port, Query, Scheme, UserInfo};
        let cases = [
            ("", Scheme),
            ("api.openai.com", Scheme),
            ("ftp://a", Scheme),
            ("unix:/run/x", Scheme),
            ("https://", Host),
            ("https:///v1", Host),
            ("https://:443", Host),
            ("https://a b", Host),
            ("https://exämple.com", Host),
            ("https://.com", Host),
            ("https://a\r\nx", Host),
            ("http://[::1", Host),
            ("http://[::g]", Host),
            ("http://[::1]8080", Host),
            ("http://::1:80", Port),
            ("https://a:0", Port),
            ("https://a:", Port),
            ("https://a:+1", Port),
            ("https://a:65536", Port),
            ("https://user:pass@a", UserInfo),
            ("https://user@a/v1", UserInfo),
            ("https://a?key=1", Query),
            ("https://a/v1?key=1", Query),
            ("https://a/v1#x", Fragment),
            ("https://a/v 1", Path),
            ("https://a/v1\r\nx: y", Path),
            ("https://a/../b", Path),
            ("https://a/ü", Path),
        ];
        for (text, error) in cases {
            assert_eq!(BaseUrl::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn shown_as_written() {
        for text in ["https://a.b/v1", "http://[::1]:8000", "http://a:1"] {
            assert_eq!(BaseUrl::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn loopback() {
        for (text, loopback) in [
            ("http://127.0.0.1:1", true),
            ("http://127.9.9.9", true),
            ("http://[::1]", true),
            ("http://localhost:1", true),
            ("http://x.localhost", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(
                BaseUrl::parse(text).unwrap().is_loopback(),
                loopback,
                "{text}"
            );
        }
    }
}
