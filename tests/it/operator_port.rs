//! The operator's port against strangers, careless scripts and hostile providers.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::operator::{ask, ask_as, good};
use crate::support::{Caller, Provider, Router};

fn router() -> (Provider, Router) {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    (provider, router)
}

/// The id of the router's only key.
fn key_of(router: &Router) -> String {
    let keys = good(ask(router, "GET", "/admin/v1/keys", ""), 200);
    keys["keys"][0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_selector_that_is_empty_deletes_nothing() {
    let (_provider, router) = router();
    let root = format!("/admin/v1/keys/{}/memories", key_of(&router));
    let lines = "{\"content\":\"one\"}\n{\"content\":\"two\",\"session_id\":\"s\"}\n";
    assert_eq!(
        ask(&router, "POST", &format!("{root}/import"), lines).status,
        200
    );
    let providers = "/admin/v1/accounts/default/providers/openai";
    let stored = ask(
        &router,
        "POST",
        providers,
        r#"{"key":"sk-more-0123456789"}"#,
    );
    assert_eq!(stored.status, 201);
    for (target, status) in [
        (format!("{root}?session="), 400),
        (format!("{root}?session"), 400),
        (format!("{root}?session=no%20such"), 400),
        (format!("{root}?session={}", "x".repeat(129)), 400),
        (format!("{root}?session=s&session=t"), 400),
        (format!("{root}?sesion=s"), 400),
        (format!("{root}/"), 404),
        (format!("{root}//"), 404),
        (format!("{providers}/"), 404),
        (format!("/admin/v1/keys/{}/", key_of(&router)), 404),
    ] {
        let reply = ask(&router, "DELETE", &target, "");
        assert_eq!(reply.status, status, "{target}: {}", reply.text());
    }
    let import = format!("{root}/import?session=");
    assert_eq!(ask(&router, "POST", &import, lines).status, 400);
    let kept = good(ask(&router, "GET", &format!("{root}/?session="), ""), 200);
    assert_eq!(kept["stats"]["memories"], 2);
    let kept = good(
        ask(&router, "GET", "/admin/v1/accounts/default/providers", ""),
        200,
    );
    let openai = kept["providers"].as_array().unwrap().iter();
    let openai = openai.clone().find(|row| row["provider"] == "openai");
    assert_eq!(openai.unwrap()["keys"].as_array().unwrap().len(), 2);
    let one = good(
        ask(&router, "DELETE", &format!("{root}?session=s"), ""),
        200,
    );
    assert_eq!(one["deleted"], 1);
}

#[test]
fn a_stranger_sends_little_and_not_for_long() {
    let (_provider, router) = router();
    for path in ["/admin/v1/login", "/nope"] {
        let length = [
            ("Content-Length", "5000"),
            ("Content-Type", "application/json"),
        ];
        let refused = ask_as(&router, "POST", path, &length, "");
        assert_eq!(refused.status, 413, "{path}");
        let mut caller = Caller::connect(router.admin_addr());
        caller.send(format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1400\r\n{}\r\n",
            "x".repeat(0x1400)
        ));
        assert_eq!(caller.reply().status, 413, "{path}");
    }
    let mut slow = Caller::connect(router.admin_addr());
    let mut silent = Caller::connect(router.admin_addr());
    slow.send("POST /admin/v1/login HTTP/1.1\r\nHost: localhost\r\nX: ");
    // Far more bytes than a whole head's time has room for; the port ends it before they are all sent.
    let ended = (0..120).any(|_| {
        thread::sleep(Duration::from_millis(250));
        !slow.send("a")
    });
    assert!(ended, "a byte now and then keeps a place");
    assert!(silent.try_reply().is_none());
}

#[test]
fn a_provider_has_no_say_about_the_dashboard() {
    let provider = Provider::answering(
        "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nClear-Site-Data: \"*\"\r\n\
         X-MR-Playground: refused\r\nAccess-Control-Allow-Origin: *\r\nNEL: {}\r\nAlt-Svc: clear\r\n\
         Cache-Control: max-age=60\r\nx-request-id: req_7\r\nContent-Length: 2\r\n\r\n{}",
    );
    let router = Router::start(&provider);
    let wish = json!({
        "key_id": key_of(&router), "path": "/v1/chat/completions",
        "body": { "model": "gpt-4o", "messages": [] },
    });
    let reply = ask(&router, "POST", "/admin/v1/playground", &wish.to_string());
    assert_eq!((reply.status, reply.text()), (401, "{}"));
    for name in [
        "clear-site-data",
        "x-mr-playground",
        "access-control-allow-origin",
        "nel",
        "alt-svc",
    ] {
        assert_eq!(reply.field(name), None, "{name}");
    }
    assert_eq!(reply.field("cache-control"), Some("no-store"));
    assert_eq!(reply.field("x-request-id"), Some("req_7"));
    assert!(reply.field("x-mr-request-id").is_some());
}

#[test]
fn an_answer_in_pieces_obeys_its_request() {
    let (_provider, router) = router();
    let id = key_of(&router);
    let bearer = format!("Authorization: Bearer {}", router.admin_token());
    let asking = |method: &str, target: &str, more: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n{more}\r\n")
    };
    let export = format!("/admin/v1/keys/{id}/memories/export");
    let lines = "{\"content\":\"one\"}";
    let import = ask(&router, "POST", &export.replace("export", "import"), lines);
    assert_eq!(import.status, 200);
    let mut caller = Caller::connect(router.admin_addr());
    caller.send(asking("HEAD", &export, ""));
    assert_eq!(caller.head().unwrap().status, 200);
    // Had a body come, it would stand before this answer.
    let whole = caller.exchange(asking("GET", &export, "Connection: close\r\n"));
    assert_eq!((whole.status, whole.complete), (200, true));
    assert_eq!(whole.field("connection"), Some("close"));
    assert!(caller.try_reply().is_none());

    let mut caller = Caller::connect(router.admin_addr());
    caller.send(asking("HEAD", &format!("/admin/v1/models?key={id}"), ""));
    assert_eq!(caller.head().unwrap().status, 200);
    assert!(caller.try_reply().is_none(), "a body behind the head");
    let refused = ask_as(&router, "HEAD", "/admin/v1/keys", &[], "");
    assert_eq!((refused.status, refused.body.len()), (401, 0));
}
