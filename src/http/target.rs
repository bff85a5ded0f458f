//! What a request is aimed at: its Host and its target, held to their grammar and to each other.
//!
//! `head` calls in once a head's fields are known.

use super::field::{Field, Name};
use super::head::{HeadError, Method, Version};

/// What a host and port are spelled with (RFC 3986 section 3.2.2).
const HOST_BYTES: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        allowed[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~!$&'()*+,;=%[]:";
    let mut at = 0;
    while at < marks.len() {
        allowed[marks[at] as usize] = true;
        at += 1;
    }
    allowed
};

/// The one Host (RFC 9112 section 3.2); a request of version 1.0 may come without.
pub(super) fn host<'a>(
    fields: &[Field],
    bytes: &'a [u8],
    version: Version,
) -> Result<&'a [u8], HeadError> {
    let mut hosts = fields.iter().filter(|field| field.name == Name::Host);
    let Some(host) = hosts.next() else {
        return if version == Version::Http10 {
            Ok(b"")
        } else {
            Err(HeadError::Syntax("Host is missing"))
        };
    };
    if hosts.next().is_some() {
        return Err(HeadError::Syntax("Host stands twice"));
    }
    let host = host.value(bytes);
    if host.is_empty() || !host.iter().all(|byte| HOST_BYTES[usize::from(*byte)]) {
        return Err(HeadError::Syntax("Host is not a host and port"));
    }
    Ok(host)
}

/// Path and query of a target. An absolute target must name the same authority as Host: the router never routes by
/// either, so two opinions can only be an attack on something in front of it.
pub(super) fn origin_form<'a>(
    method: Method,
    target: &'a str,
    host: &[u8],
) -> Result<&'a str, HeadError> {
    let odd = |byte: u8| !(0x21..0x7f).contains(&byte) || byte == b'#';
    // To the end in any case, which vectors do faster than bytes are looked at one by one.
    if target.bytes().fold(false, |any, byte| any | odd(byte)) {
        return Err(HeadError::Syntax("the request target"));
    }
    if target.starts_with('/')
        || (target == "*" && method == Method::Options)
        || method == Method::Connect
    {
        return Ok(target);
    }
    let scheme_end = target
        .find("://")
        .ok_or(HeadError::Syntax("the request target"))?;
    if !matches!(
        target[..scheme_end].to_ascii_lowercase().as_str(),
        "http" | "https"
    ) {
        return Err(HeadError::Syntax("the request target"));
    }
    let rest = &target[scheme_end + 3..];
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if !authority.as_bytes().eq_ignore_ascii_case(host) {
        return Err(HeadError::Syntax(
            "request target and Host name different authorities",
        ));
    }
    Ok(path)
}
