//! The lines of an upload: one memory each, all of them good or none taken.

use std::time::Duration;

use serde::Deserialize;

use crate::error::Fault;
use crate::exchange::settings::is_session_id;
use crate::memory::{NewMemory, Role};
use crate::net;
use crate::provider::body::scan;
use crate::provider::{Dialect, lossy};

/// In one upload.
pub const LINES_MAX: usize = 10_000;

/// After so many lines other requests of the core get their turn.
const LINES_AT_ONCE: usize = 200;

/// A byte order mark, which some editors and shells put before the first line.
const MARK: &[u8] = b"\xEF\xBB\xBF";

/// 9999-12-31T23:59:59.999Z
const AT_MS_MAX: i64 = 253_402_300_799_999;

/// What a line holds; members of other names are left alone, so that an export can be uploaded as it is.
#[derive(Deserialize)]
struct Line {
    content: Option<String>,
    role: Option<String>,
    timestamp: Option<i64>,
    session_id: Option<String>,
}

/// Reads all lines. One that names no session is of `session`. One without a time was said a millisecond before the line
/// behind it, and the last one now: the order of an upload is the order of what was said, and nothing is said later
/// than what comes after the upload.
pub async fn read(
    body: &[u8],
    session: Option<&str>,
    now_ms: i64,
) -> Result<Vec<NewMemory>, Fault> {
    let mut memories = Vec::new();
    let body = body.strip_prefix(MARK).unwrap_or(body);
    let mut behind = memchr::memchr_iter(b'\n', body).count() as i64;
    for (index, bytes) in body.split(|byte| *byte == b'\n').enumerate() {
        let at_ms = now_ms - behind;
        behind -= 1;
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        if memories.len() == LINES_MAX {
            return Err(Fault::TooManyLines(LINES_MAX));
        }
        let read = memory(bytes, session, at_ms);
        memories.push(read.map_err(|what| Fault::InvalidLine(index + 1, what))?);
        if memories.len() % LINES_AT_ONCE == 0 {
            net::sleep(Duration::ZERO).await;
        }
    }
    Ok(memories)
}

fn memory(bytes: &[u8], session: Option<&str>, now_ms: i64) -> Result<NewMemory, &'static str> {
    // Checked by our own lexer first, which no depth of nesting can overflow.
    scan(bytes, Dialect::OpenAi).map_err(|_| "not a JSON object")?;
    let line: Line = lossy::parse(bytes).ok_or("a member has the wrong type")?;
    let content = line.content.ok_or("content is missing")?;
    let text = content.trim();
    if text.is_empty() {
        return Err("content is empty");
    }
    let role = match &line.role {
        Some(role) => Role::parse(role).ok_or("role is no role")?,
        None => Role::default(),
    };
    let at_ms = line.timestamp.unwrap_or(now_ms);
    if !(0..=AT_MS_MAX).contains(&at_ms) {
        return Err("timestamp is no time in milliseconds");
    }
    let session = line.session_id.as_deref().or(session);
    if session.is_some_and(|session| !is_session_id(session)) {
        return Err("session_id is no session id");
    }
    Ok(NewMemory {
        text: text.to_owned(),
        role,
        at_ms,
        session: session.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn reads(body: &str, session: Option<&str>) -> Result<Vec<NewMemory>, Fault> {
        net::run(async { read(body.as_bytes(), session, NOW_MS).await }).unwrap()
    }

    #[test]
    fn lines_with_what_they_say_and_what_stands_in_for_it() {
        let body = "{\"content\":\"a\"}\r\n\n{\"content\":\" b \",\"role\":\"assistant\",\"timestamp\":5,\
            \"session_id\":\"s2\",\"id\":\"mem_1\",\"x\":[1]}\n{\"content\":\"c\",\"role\":null}";
        let memory = |text: &str, role, at_ms, session: &str| NewMemory {
            text: text.into(),
            role,
            at_ms,
            session: Some(session.into()),
        };
        assert_eq!(
            reads(body, Some("s1")).unwrap(),
            [
                memory("a", Role::User, NOW_MS - 3, "s1"),
                memory("b", Role::Assistant, 5, "s2"),
                memory("c", Role::User, NOW_MS, "s1"),
            ]
        );
        let odd = reads(r#"{"content":"a\ud83d","x":[1e999,"\udc00"]}"#, None);
        assert_eq!(odd.unwrap()[0].text, "a\u{fffd}");
        assert_eq!(reads("{\"content\":\"a\"}", None).unwrap()[0].session, None);
        assert_eq!(reads("\n \n", None).unwrap(), []);
        let marked = "\u{feff}{\"content\":\"a\"}\n{\"content\":\"c\"}";
        assert_eq!(reads(marked, None).unwrap().len(), 2);
    }

    #[test]
    fn a_bad_line_is_named() {
        let deep = format!("{{\"content\":\"a\",\"x\":{}", "[".repeat(100_000));
        for (line, what) in [
            ("what", "not a JSON object"),
            ("[1]", "not a JSON object"),
            ("{\"content\":\"a\"} {}", "not a JSON object"),
            (deep.as_str(), "not a JSON object"),
            ("{}", "content is missing"),
            ("{\"content\":1}", "a member has the wrong type"),
            ("{\"content\":\" \"}", "content is empty"),
            ("{\"content\":\"a\",\"role\":\"\"}", "role is no role"),
            (
                "{\"content\":\"a\",\"timestamp\":-1}",
                "timestamp is no time in milliseconds",
            ),
            (
                "{\"content\":\"a\",\"timestamp\":\"now\"}",
                "a member has the wrong type",
            ),
            (
                "{\"content\":\"a\",\"session_id\":\"a b\"}",
                "session_id is no session id",
            ),
        ] {
            let body = format!("{{\"content\":\"good\"}}\n\n{line}\n{{\"content\":\"good\"}}");
            assert_eq!(
                reads(&body, None),
                Err(Fault::InvalidLine(3, what)),
                "{line:.40}"
            );
        }
    }

    #[test]
    fn as_many_as_there_may_be() {
        let body = "{\"content\":\"a\"}\n".repeat(LINES_MAX);
        let read = reads(&body, None).unwrap();
        assert_eq!(read.len(), LINES_MAX);
        let in_order = |pair: &[NewMemory]| pair[0].at_ms < pair[1].at_ms;
        assert!(read.windows(2).all(in_order));
        assert!(read.iter().all(|memory| memory.at_ms <= NOW_MS));
        let more = body + "{\"content\":\"a\"}";
        assert_eq!(reads(&more, None), Err(Fault::TooManyLines(LINES_MAX)));
    }
}
