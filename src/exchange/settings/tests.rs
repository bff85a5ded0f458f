use std::time::Duration;

use super::*;
use crate::http::{HeadLimits, head};
use crate::provider::Dialect;
use crate::provider::body::scan;

fn config(enabled: bool) -> config::Memory {
    config::Memory {
        enabled,
        path: "memory.redb".into(),
        hot_bytes: 0,
        recall_timeout: Duration::ZERO,
        retention: None,
        tokens_max: 1000,
        limit: 30,
        embeddings: None,
    }
}

fn with(
    query: &str,
    fields: &str,
    body: &str,
    suffix: Option<ModeSuffix>,
) -> Result<Settings, Fault> {
    let bytes = format!("POST /v1/x{query} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes();
    let limits = HeadLimits {
        head_bytes_max: 4096,
        fields_max: 32,
        target_bytes_max: 512,
    };
    let head = head::request(&bytes, &mut 0, &limits).unwrap().unwrap();
    let sources = Sources {
        head: &head,
        bytes: &bytes,
        suffix,
        config: &config(true),
    };
    let body = scan(body.as_bytes(), Dialect::OpenAi).unwrap();
    sources.with(Some(&body.settings))
}

fn good(query: &str, fields: &str, body: &str, suffix: Option<ModeSuffix>) -> Settings {
    with(query, fields, body, suffix).unwrap()
}

#[test]
fn every_spelling_of_a_mode() {
    for (word, mode) in [
        ("on", Mode::On),
        ("default", Mode::On),
        ("auto", Mode::On),
        ("all", Mode::On),
        ("true", Mode::On),
        ("off", Mode::Off),
        ("none", Mode::Off),
        ("false", Mode::Off),
        ("read", Mode::Read),
        ("selective", Mode::Read),
        ("write", Mode::Write),
        ("SeLective", Mode::Read),
    ] {
        // Nothing but the word itself can have led here.
        let other = Some(match mode {
            Mode::Off => ModeSuffix::Read,
            _ => ModeSuffix::Off,
        });
        for (query, fields, body) in [
            (format!("?mode={word}"), String::new(), "{}".to_owned()),
            (format!("?x=1&memory={word}"), String::new(), "{}".into()),
            (
                String::new(),
                format!("X-Memory-Mode: {word}\r\n"),
                "{}".into(),
            ),
            (
                String::new(),
                String::new(),
                format!(r#"{{"memory_mode":"{word}"}}"#),
            ),
            (
                String::new(),
                String::new(),
                format!(r#"{{"memory":" {word} "}}"#),
            ),
        ] {
            assert_eq!(
                good(&query, &fields, &body, other).mode,
                mode,
                "{query}{fields}{body}"
            );
        }
    }
    assert_eq!(
        good("", "", r#"{"memory":true}"#, Some(ModeSuffix::Off)).mode,
        Mode::On
    );
    assert_eq!(good("", "", r#"{"memory":false}"#, None).mode, Mode::Off);
    assert_eq!(good("", "", "{}", None).mode, Mode::On);
}

#[test]
fn body_over_header_over_query_over_suffix() {
    let suffix = Some(ModeSuffix::Write);
    let header = "X-Memory-Mode: off\r\n";
    for (query, fields, body, mode) in [
        ("", "", "{}", Mode::Write),
        ("?mode=read", "", "{}", Mode::Read),
        ("?mode=read", header, "{}", Mode::Off),
        ("?mode=read", header, r#"{"memory":"on"}"#, Mode::On),
        (
            "?mode=read",
            header,
            r#"{"memory":"on","memory_mode":"read"}"#,
            Mode::Read,
        ),
        ("?memory=off&mode=read", "", "{}", Mode::Read),
        // A word that means nothing is passed over.
        (
            "?mode=read",
            header,
            r#"{"memory":{"a":1},"memory_mode":"what"}"#,
            Mode::Off,
        ),
        ("?mode=read", "X-Memory-Mode: what\r\n", "{}", Mode::Read),
        ("?mode=what", "", "{}", Mode::Write),
        ("?mode=", "", r#"{"memory":null}"#, Mode::Write),
        ("?%6Dode=o%66f", "", "{}", Mode::Off),
    ] {
        assert_eq!(
            good(query, fields, body, suffix).mode,
            mode,
            "{query} {fields} {body}"
        );
    }
}

#[test]
fn what_is_stored() {
    for (query, fields, body, store, answer) in [
        ("", "", "{}", true, true),
        ("?store=false", "", "{}", false, true),
        ("?store_response=false", "", "{}", true, false),
        ("", "X-Memory-Store: false\r\n", "{}", false, true),
        ("", "X-Store-Input: FALSE\r\n", "{}", false, true),
        ("", "X-Memory-Store-Response: false\r\n", "{}", true, false),
        ("", "X-Store-Response: false\r\n", "{}", true, false),
        ("", "", r#"{"memory_store":false}"#, false, true),
        ("", "", r#"{"memory_store_response":"false"}"#, true, false),
        ("?store=false", "X-Memory-Store: true\r\n", "{}", true, true),
        (
            "",
            "X-Memory-Store: false\r\n",
            r#"{"memory_store":true}"#,
            true,
            true,
        ),
        (
            "?store=no",
            "X-Store-Other: false\r\n",
            r#"{"memory_store":0}"#,
            true,
            true,
        ),
    ] {
        let found = good(query, fields, body, None);
        assert_eq!(
            (found.store, found.store_answer),
            (store, answer),
            "{query} {fields} {body}"
        );
    }
}

#[test]
fn how_many() {
    for (query, fields, body, limit) in [
        ("", "", "{}", 30),
        ("?limit=3", "", "{}", 3),
        ("?limit=3", "X-Context-Limit: 4\r\n", "{}", 4),
        (
            "?limit=3",
            "X-Memory-Context-Limit: 5\r\nX-Context-Limit: 4\r\n",
            "{}",
            5,
        ),
        (
            "?limit=3",
            "X-Context-Limit: 4\r\n",
            r#"{"memory_limit":0}"#,
            0,
        ),
        ("", "", r#"{"memory_limit":"7"}"#, 7),
        ("", "", r#"{"memory_limit":1000}"#, 1000),
        ("", "", r#"{"memory_limit":99999999999999999999999}"#, 1000),
        ("?limit=9", "", r#"{"memory_limit":-1}"#, 9),
        ("?limit=many", "", r#"{"memory_limit":1.5}"#, 30),
    ] {
        assert_eq!(
            good(query, fields, body, None).limit,
            limit,
            "{query} {fields} {body}"
        );
    }
}

#[test]
fn sessions() {
    let claude = "x-claude-code-session-id: c\r\n";
    for (fields, body, session) in [
        ("".to_owned(), "{}", None),
        ("X-Session-ID: a.B_1:@-\r\n".into(), "{}", Some("a.B_1:@-")),
        (claude.into(), "{}", Some("c")),
        (format!("{claude}X-Session-ID: a\r\n"), "{}", Some("a")),
        (
            "X-Session-ID: a\r\n".into(),
            r#"{"session_id":"b"}"#,
            Some("b"),
        ),
        (
            "X-Session-ID: a\r\n".into(),
            r#"{"session_id":null}"#,
            Some("a"),
        ),
        (String::new(), r#"{"session_id":42}"#, Some("42")),
    ] {
        assert_eq!(
            good("", &fields, body, None).session.as_deref(),
            session,
            "{fields} {body}"
        );
    }
    let long = |n: usize| format!("X-Session-ID: {}\r\n", "s".repeat(n));
    assert_eq!(good("", &long(128), "{}", None).session.unwrap().len(), 128);
    for (fields, body) in [
        (long(129), "{}"),
        ("X-Session-ID: a b\r\n".into(), "{}"),
        ("X-Session-ID: a/b\r\n".into(), "{}"),
        ("X-Session-ID:\r\n".into(), "{}"),
        ("x-claude-code-session-id: é\r\n".into(), "{}"),
        (String::new(), r#"{"session_id":""}"#),
        (String::new(), r#"{"session_id":{"a":1}}"#),
        (String::new(), r#"{"session_id":"a\nb"}"#),
    ] {
        assert_eq!(
            with("", &fields, body, None),
            Err(Fault::InvalidSessionId),
            "{fields} {body}"
        );
    }
}

#[test]
fn one_that_stands_twice_says_the_same_twice() {
    for (fields, conflict) in [
        ("X-Session-ID: a\r\nX-Session-ID: a\r\n", None),
        (
            "X-Session-ID: a\r\nX-Session-ID: b\r\n",
            Some("x-session-id"),
        ),
        ("X-Memory-Mode: on\r\nX-Memory-Mode: on\r\n", None),
        (
            "X-Memory-Mode: on\r\nx-memory-mode: off\r\n",
            Some("x-memory-mode"),
        ),
    ] {
        let found = with("", fields, r#"{"session_id":"c","memory":"read"}"#, None).err();
        assert_eq!(found, conflict.map(Fault::ConflictingFields), "{fields}");
    }
}

#[test]
fn debug_and_switched_off() {
    assert!(good("?debug=true", "", "{}", None).debug);
    assert!(good("", "X-Debug: True\r\n", "{}", None).debug);
    assert!(!good("?debug=true", "X-Debug: false\r\n", "{}", None).debug);
    assert!(!good("?debug=1", "", "{}", None).debug);
    let on = good("", "", "{}", None);
    assert!(on.recalls() && on.remembers());
    let none = good("?limit=0&store=false", "", "{}", None);
    assert!(!none.recalls() && !none.remembers());
    let read = good("?mode=read", "", "{}", None);
    assert!(read.recalls() && !read.remembers());
    let write = good("?mode=write", "", "{}", None);
    assert!(!write.recalls() && write.remembers());
}

#[test]
fn a_router_without_memory_has_it_off_whatever_is_asked() {
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nX-Memory-Mode: on\r\n\r\n";
    let limits = HeadLimits {
        head_bytes_max: 4096,
        fields_max: 32,
        target_bytes_max: 512,
    };
    let head = head::request(bytes, &mut 0, &limits).unwrap().unwrap();
    let sources = Sources {
        head: &head,
        bytes,
        suffix: None,
        config: &config(false),
    };
    assert_eq!(sources.with(None).unwrap().mode, Mode::Off);
}
