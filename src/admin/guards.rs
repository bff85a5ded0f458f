//! What every answer of this port says to browsers, and what of a provider's answer is passed on under it.
//!
//! Here a field is read as the dashboard's own: a provider's could clear its cookies, open it to other pages, or send
//! its reports elsewhere. So only fields that the playground has a use for pass, by name.

/// Nothing here is for anybody else's page, frame or log.
pub(super) const GUARDS: &str = "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'\r\n\
    x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\n\
    cross-origin-resource-policy: same-origin\r\ncross-origin-opener-policy: same-origin\r\n";

/// Framing, what the body is, and what tells of the exchange itself.
const RELAYED: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "request-id",
    "retry-after",
    "transfer-encoding",
    "x-request-id",
    "x-session-id",
];
const RELAYED_STARTS: [&str; 5] = [
    "x-mr-",
    "x-memory-",
    "x-ratelimit-",
    "anthropic-ratelimit-",
    "openai-",
];
/// Set by the playground itself, to tell its own answers from relayed ones.
const OWN: &str = "x-mr-playground";

/// A relayed head, all of it but the empty line, under this port's own guards.
pub(super) fn guarded(head: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + GUARDS.len());
    for (index, line) in head.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if index == 0 {
            out.extend_from_slice(line);
            out.extend_from_slice(GUARDS.as_bytes());
            out.extend_from_slice(b"cache-control: no-store\r\n");
        } else if passes(line) {
            out.extend_from_slice(line);
        }
    }
    out
}

fn passes(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return false;
    };
    let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
    let known = RELAYED.contains(&name.as_str())
        || RELAYED_STARTS.iter().any(|start| name.starts_with(start));
    known && name != OWN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_fields_do_nothing_to_the_dashboard() {
        for (line, relayed) in [
            ("Content-Type: text/event-stream", true),
            ("transfer-encoding: chunked", true),
            ("X-MR-Debug: {}", true),
            ("x-memory-mode: default", true),
            ("openai-processing-ms: 7", true),
            ("Set-Cookie: mr_session=x", false),
            ("Clear-Site-Data: \"*\"", false),
            ("access-control-allow-origin: *", false),
            ("NEL: {}", false),
            ("Report-To: {}", false),
            ("Alt-Svc: h3=\":443\"", false),
            ("Strict-Transport-Security: max-age=9", false),
            ("Refresh: 0; url=/", false),
            ("Cache-Control: max-age=9", false),
            ("X-MR-Playground: refused", false),
            ("no field", false),
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{line}\r\n");
            let out = String::from_utf8(guarded(head.as_bytes())).unwrap();
            assert!(out.starts_with("HTTP/1.1 200 OK\r\ncontent-security-policy: "));
            assert_eq!(out.matches("cache-control: ").count(), 1, "{out}");
            assert_eq!(out.contains(line), relayed, "{out}");
        }
    }
}
