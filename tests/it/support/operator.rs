//! An operator at a router's admin port.

use serde_json::Value;

use super::{Caller, Reply, Router};

/// Asks the admin port of a router; `fields` are as they are, the host apart.
pub fn ask_as(
    router: &Router,
    method: &str,
    target: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> Reply {
    let host = router.admin_addr().to_string();
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    if !fields.iter().any(|(name, _)| *name == "Host") {
        text += &format!("Host: {host}\r\n");
    }
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text += "\r\n";
    text += body;
    let mut caller = Caller::connect(router.admin_addr());
    caller.send(text);
    if method == "HEAD" {
        caller.head().unwrap()
    } else {
        caller.reply()
    }
}

/// The same with the admin token.
pub fn ask(router: &Router, method: &str, target: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {}", router.admin_token());
    ask_as(router, method, target, &[("Authorization", &bearer)], body)
}

/// The JSON of an answer that has this status.
#[track_caller]
pub fn good(reply: Reply, status: u16) -> Value {
    assert_eq!(reply.status, status, "{}", reply.text());
    reply.json()
}
