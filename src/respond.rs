//! The only place where an error becomes an answer, and where the router's own answers are put together.
//!
//! `connection` and `exchange` call it with what they know of the request; the result is the whole response as bytes,
//! ready to be written. Bodies are one JSON object with `error` and, where the caller can act, `hint`; with
//! `errors.format = "dialect"` the same facts stand in the envelope that the caller's SDK expects.

use crate::error::Fault;
use crate::provider::Dialect;

/// What an answer depends on besides its own content.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Our id of the exchange, in ASCII.
    pub request_id: &'a [u8],
    /// The dialect of the endpoint, as far as it is known.
    pub dialect: Option<Dialect>,
    /// Whether errors come in the dialect's own envelope.
    pub dialect_errors: bool,
    /// Whether the connection closes behind the answer.
    pub close: bool,
    /// Whether the request was HEAD: the same head, no body.
    pub head_only: bool,
    /// The origin that CORS lets read the answer.
    pub allowed_origin: Option<&'a str>,
}

/// The answer to a fault.
pub fn fault(fault: &Fault, context: &Context<'_>) -> Vec<u8> {
    let mut fields = Vec::new();
    let rate_names;
    if let Fault::LimitReached {
        quota,
        limit,
        resets_in,
    } = fault
    {
        rate_names = ["limit", "remaining", "reset"]
            .map(|what| format!("x-ratelimit-{what}-{}", quota.field_word()));
        let reset = format!("{}ms", resets_in.as_millis());
        let values = [limit.to_string(), "0".to_owned(), reset];
        fields.extend(rate_names.iter().map(String::as_str).zip(values));
    }
    if let Fault::MethodNotAllowed(allow) = fault {
        fields.push(("allow", (*allow).to_owned()));
    }
    if let Some(after) = fault.retry_after() {
        fields.push(("retry-after", after.as_secs().max(1).to_string()));
    }
    // The id once more under the name that the dialect's SDK reads and shows.
    let id_name = if context.dialect == Some(Dialect::Anthropic) {
        "request-id"
    } else {
        "x-request-id"
    };
    fields.push((
        id_name,
        String::from_utf8_lossy(context.request_id).into_owned(),
    ));
    let body = match context.dialect.filter(|_| context.dialect_errors) {
        Some(dialect) => envelope(fault, dialect),
        None => plain(fault),
    };
    json(fault.status(), body.as_bytes(), &fields, context)
}

/// The status in an answer that was put together here.
pub fn status_of(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// How long the body of such an answer is.
pub fn body_bytes(answer: &[u8]) -> u64 {
    let head_end = memchr::memmem::find(answer, b"\r\n\r\n");
    head_end.map_or(0, |end| (answer.len() - end - 4) as u64)
}

/// An answer with a JSON body.
pub fn json(status: u16, body: &[u8], fields: &[(&str, String)], context: &Context<'_>) -> Vec<u8> {
    let mut out = start(status, fields, context, body.len() + 256);
    out.extend_from_slice(b"content-type: application/json\r\ncontent-length: ");
    out.extend_from_slice(body.len().to_string().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    if !context.head_only {
        out.extend_from_slice(body);
    }
    out
}

/// An answer without a body (204).
pub fn empty(fields: &[(&str, String)], context: &Context<'_>) -> Vec<u8> {
    let mut out = start(204, fields, context, 256);
    out.extend_from_slice(b"\r\n");
    out
}

/// The head of an answer whose length nobody knows yet.
pub fn stream(content_type: &str, chunked: bool, context: &Context<'_>) -> Vec<u8> {
    let mut fields = vec![("content-type", content_type.to_owned())];
    if chunked {
        fields.push(("transfer-encoding", "chunked".to_owned()));
    }
    let mut out = start(200, &fields, context, 256);
    out.extend_from_slice(b"\r\n");
    out
}

fn start(
    status: u16,
    fields: &[(&str, String)],
    context: &Context<'_>,
    capacity: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        line(&mut out, name, value);
    }
    common(&mut out, context);
    out
}

/// The fields that every response of the router carries, relayed ones too.
pub fn common(out: &mut Vec<u8>, context: &Context<'_>) {
    out.extend_from_slice(b"x-mr-request-id: ");
    out.extend_from_slice(context.request_id);
    out.extend_from_slice(b"\r\n");
    if let Some(origin) = context.allowed_origin {
        line(out, "access-control-allow-origin", origin);
        line(out, "access-control-expose-headers", "*");
        line(out, "vary", "origin");
    }
    if context.close {
        line(out, "connection", "close");
    }
}

fn line(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn plain(fault: &Fault) -> String {
    close(format!("{{\"error\": {}", quoted(&fault.error())), fault)
}

/// What stands beside the error, in whatever form that is told.
fn close(mut body: String, fault: &Fault) -> String {
    if let Fault::NotFound { path, .. } = fault {
        body += &format!(", \"path\": {}", quoted(path));
    }
    if let Some(hint) = fault.hint() {
        body += &format!(", \"hint\": {}", quoted(&hint));
    }
    body.push('}');
    body
}

fn envelope(fault: &Fault, dialect: Dialect) -> String {
    let message = quoted(&fault.error());
    let status = fault.status();
    let body = match dialect {
        Dialect::OpenAi => {
            let kind = match status {
                401 => "authentication_error",
                403 => "permission_error",
                429 => "rate_limit_error",
                500.. => "server_error",
                _ => "invalid_request_error",
            };
            let code = match fault {
                Fault::NoMemoryKey | Fault::UnknownMemoryKey => "\"invalid_api_key\"",
                Fault::ModelNotAllowed { .. } => "\"model_not_allowed\"",
                _ => "null",
            };
            let param = match fault {
                Fault::MissingField(name) => quoted(name),
                _ => "null".into(),
            };
            format!(
                "{{\"error\": {{\"message\": {message}, \"type\": \"{kind}\", \"param\": {param}, \"code\": {code}}}"
            )
        }
        Dialect::Anthropic => {
            let kind = match status {
                401 => "authentication_error",
                403 => "permission_error",
                404 => "not_found_error",
                413 => "request_too_large",
                429 => "rate_limit_error",
                503 => "overloaded_error",
                504 => "timeout_error",
                500.. => "api_error",
                _ => "invalid_request_error",
            };
            format!(
                "{{\"type\": \"error\", \"error\": {{\"type\": \"{kind}\", \"message\": {message}}}"
            )
        }
        Dialect::Gemini => {
            let kind = match status {
                401 => "UNAUTHENTICATED",
                403 => "PERMISSION_DENIED",
                404 => "NOT_FOUND",
                405 => "UNIMPLEMENTED",
                429 => "RESOURCE_EXHAUSTED",
                504 => "DEADLINE_EXCEEDED",
                500.. => "UNAVAILABLE",
                _ => "INVALID_ARGUMENT",
            };
            format!(
                "{{\"error\": {{\"code\": {status}, \"message\": {message}, \"status\": \"{kind}\"}}"
            )
        }
    };
    close(body, fault)
}

/// A JSON string literal (RFC 8259 section 7).
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The reason phrases of the statuses that the router itself uses.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: Context<'_> = Context {
        request_id: b"0f",
        dialect: Some(Dialect::OpenAi),
        dialect_errors: false,
        close: false,
        head_only: false,
        allowed_origin: None,
    };

    fn text(fault_: &Fault, context: &Context<'_>) -> String {
        String::from_utf8(fault(fault_, context)).unwrap()
    }

    #[test]
    fn the_three_exact_bodies() {
        for (fault, body) in [
            (
                Fault::NoMemoryKey,
                r#"{"error": "Missing or invalid authentication", "hint": "Use: Authorization: Bearer mk_xxx"}"#,
            ),
            (
                Fault::UnknownMemoryKey,
                r#"{"error": "Invalid or inactive memory key", "hint": "Memory keys start with mk_"}"#,
            ),
            (
                Fault::NoProviderKey("openai".into()),
                r#"{"error": "No API key configured for provider: openai", "hint": "Add your openai API key in settings, or pass X-Provider-Key header"}"#,
            ),
        ] {
            let answer = text(&fault, &CONTEXT);
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
            assert!(
                answer.contains(&format!("\r\ncontent-length: {}\r\n", body.len())),
                "{answer}"
            );
            assert!(
                answer.contains("\r\nx-mr-request-id: 0f\r\n")
                    && answer.contains("\r\nx-request-id: 0f\r\n")
            );
        }
    }

    #[test]
    fn envelopes_are_json_with_the_hint_beside() {
        for (dialect, pointer) in [
            (Dialect::OpenAi, "/error/message"),
            (Dialect::Anthropic, "/error/message"),
            (Dialect::Gemini, "/error/message"),
        ] {
            let context = Context {
                dialect: Some(dialect),
                dialect_errors: true,
                ..CONTEXT
            };
            let fault = Fault::NotFound {
                path: "/x\"\u{1}".into(),
                nearest: vec!["/v1/messages"],
            };
            let answer = text(&fault, &context);
            let body: serde_json::Value =
                serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
            assert_eq!(body.pointer(pointer).unwrap(), "Not Found");
            assert_eq!(body["hint"], "Did you mean: /v1/messages");
        }
    }

    #[test]
    fn heads_only_and_closing() {
        let context = Context {
            head_only: true,
            close: true,
            ..CONTEXT
        };
        let answer = text(&Fault::MethodNotAllowed("GET, HEAD"), &context);
        assert!(
            answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\nallow: GET, HEAD\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
        assert!(text(&Fault::Draining, &CONTEXT).contains("\r\nretry-after: 1\r\n"));
    }
}
