//! The operator's port against strangers, careless scripts and hostile providers.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::support::operator::{ask, ask_as, good};
use crate::support::{Caller, Provider, Router, Setup};

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
        (format!("{providers}?id=2"), 400),
        (format!("{providers}/2?acount=a"), 400),
        (
            format!("/admin/v1/keys/{}?for_ever=true", key_of(&router)),
            400,
        ),
        (format!("/admin/v1/keys/{}/", key_of(&router)), 404),
    ] {
        let reply = ask(&router, "DELETE", &target, "");
        assert_eq!(reply.status, status, "{target}: {}", reply.text());
    }
    let import = format!("{root}/import?session=");
    assert_eq!(ask(&router, "POST", &import, lines).status, 400);
    let import = format!("{root}/import?session_id=s");
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
fn what_changes_something_takes_no_unknown_parameter() {
    let (_provider, router) = router();
    let key = format!("/admin/v1/keys/{}", key_of(&router));
    for (method, target) in [
        ("POST", "/admin/v1/keys"),
        ("PATCH", key.as_str()),
        ("POST", &format!("{key}/rotate")),
        ("POST", &format!("{key}/memories/import")),
        ("POST", "/admin/v1/accounts/default/providers/openai"),
        ("POST", "/admin/v1/accounts/default/providers/openai/test"),
        ("POST", "/admin/v1/reload"),
        ("PUT", "/admin/v1/log"),
        ("POST", "/admin/v1/playground"),
    ] {
        let reply = ask(&router, method, &format!("{target}?dry_run=1"), "{}");
        assert_eq!(reply.status, 400, "{method} {target}: {}", reply.text());
        assert!(reply.text().contains("arameters"), "{}", reply.text());
    }
    assert_eq!(ask(&router, "GET", &format!("{key}?x=1"), "").status, 200);
}

#[test]
fn a_provider_key_is_stored_once_and_where_one_is_needed() {
    let (_provider, router) = router();
    let openai = "/admin/v1/accounts/default/providers/openai";
    let key = r#"{"key":"sk-more-0123456789"}"#;
    let stored = good(ask(&router, "POST", openai, key), 201);
    let again = good(ask(&router, "POST", openai, key), 409);
    assert_eq!(
        again["hint"],
        format!("Its id is {}", stored["id"].as_str().unwrap())
    );
    let other = "/admin/v1/accounts/other/providers/openai";
    assert_eq!(ask(&router, "POST", other, key).status, 201);
    let keyless = "/admin/v1/accounts/default/providers/ollama";
    let refused = good(ask(&router, "POST", keyless, key), 400);
    assert_eq!(refused["error"], "ollama needs no key");
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
        for end in ["", "0\r\n\r\n"] {
            let mut caller = Caller::connect(router.admin_addr());
            caller.send(format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1400\r\n{}\r\n{end}",
                "x".repeat(0x1400)
            ));
            assert_eq!(caller.reply().status, 413, "{path}");
        }
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
    // Whoever is not let in is told so by the router, not by a provider.
    let stranger = ask_as(&router, "POST", "/admin/v1/playground", &[], "{}");
    assert_eq!(stranger.status, 401);
    assert_eq!(stranger.field("x-mr-playground"), Some("refused"));
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
    caller.send(asking("GET", "/admin/v1/log", "Expect: 100-continue\r\n"));
    assert_eq!(caller.head().unwrap().status, 200, "nothing to go on with");
    let refused = ask_as(&router, "HEAD", "/admin/v1/keys", &[], "");
    assert_eq!((refused.status, refused.body.len()), (401, 0));
}

#[test]
fn a_change_of_a_key_changes_what_it_names() {
    let (_provider, router) = router();
    let wish = json!({ "name": "app", "limits": { "rpm": 100, "tpm": u64::MAX } });
    let made = good(
        ask(&router, "POST", "/admin/v1/keys", &wish.to_string()),
        201,
    );
    let target = format!("/admin/v1/keys/{}", made["id"].as_str().unwrap());
    let change = |patch: &str, status| good(ask(&router, "PATCH", &target, patch), status);
    let changed = change(r#"{"limits":{"concurrent":3}}"#, 200);
    assert_eq!(
        (&changed["limits"]["rpm"], &changed["limits"]["tpm"]),
        (&json!(100), &json!(u64::MAX))
    );
    assert_eq!(changed["limits"]["concurrent"], 3);
    let changed = change(r#"{"limits":{"rpm":null}}"#, 200);
    assert_eq!(changed["limits"]["rpm"], json!(null));
    change(r#"{"limits":{"budget_tokens":5}}"#, 400);
    let both = change(r#"{"expires_at":null,"expires_in_s":500}"#, 400);
    assert!(both["error"].as_str().unwrap().contains("one of them"));
    let wrong = change(r#"{"name":"sk-secret","limits":{"rpm":"sk-secret"}}"#, 400);
    assert_eq!(wrong["hint"], "limits.rpm: a whole number up to 4294967295");
    assert!(!wrong.to_string().contains("sk-secret"));
    assert_eq!(change("{}", 200)["limits"]["concurrent"], 3);
    assert_eq!(
        change(r#"{"limits":null}"#, 200)["limits"]["tpm"],
        json!(null)
    );
}

#[test]
fn what_changes_nothing_writes_nothing_and_null_is_left_out() {
    let (_provider, router) = router();
    let key = format!("/admin/v1/keys/{}", key_of(&router));
    let generation = || {
        good(ask(&router, "GET", "/admin/v1/overview", ""), 200)["snapshot"]["generation"].clone()
    };
    let before = generation();
    assert_eq!(ask(&router, "PATCH", &key, "{}").status, 200);
    assert_eq!(ask(&router, "PATCH", &key, r#"{"name":null}"#).status, 200);
    assert_eq!(generation(), before);
    let nulls = r#"{"name":null,"account":null,"models":null,"limits":null,"manage_keys":null,"expires_at":null}"#;
    let made = good(ask(&router, "POST", "/admin/v1/keys", nulls), 201);
    assert_eq!(
        (&made["name"], &made["account"]),
        (&json!(""), &json!("default"))
    );
    for (end, status) in [("Z", 201), ("ZZ", 400), ("Zulu", 400)] {
        let wish = format!(r#"{{"expires_at":"2100-01-01T00:00:00{end}"}}"#);
        let reply = ask(&router, "POST", "/admin/v1/keys", &wish);
        assert_eq!(reply.status, status, "{end}");
    }
}

#[test]
fn the_audit_log_says_who_changed_what() {
    let (_provider, router) = router();
    let wish = json!({ "manage_keys": true }).to_string();
    let made = good(ask(&router, "POST", "/admin/v1/keys", &wish), 201);
    let id = made["id"].as_str().unwrap();
    let patch = r#"{"name":"n","models":["a*","b"],"limits":{"rpm":5},"expires_at":null}"#;
    good(
        ask(&router, "PATCH", &format!("/admin/v1/keys/{id}"), patch),
        200,
    );
    good(
        ask(
            &router,
            "PUT",
            "/admin/v1/log",
            r#"{"sample":5,"access":false}"#,
        ),
        200,
    );
    let as_key = |path: &str| {
        let wish = json!({ "key_id": id, "path": path, "body": { "query": "x" } });
        ask(&router, "POST", "/admin/v1/playground", &wish.to_string())
    };
    for path in ["/v1/keys", "/v1/v1/keys", "/v1/keys?x"] {
        let refused = as_key(path);
        assert_eq!(refused.status, 400, "{path}");
        assert_eq!(refused.field("x-mr-playground"), Some("refused"));
    }
    assert_eq!(as_key("/v1/memory/search").status, 200);
    let audit = std::fs::read_to_string(router.dir.path().join("audit.log")).unwrap();
    let lines = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<serde_json::Value> = lines.collect();
    let line = |what: &str| {
        let found = lines.iter().find(|line| line["what"] == what);
        let found = found.unwrap_or_else(|| panic!("{what}: {audit}"));
        assert_eq!(found["who"], "admin token");
        found
    };
    let changed = line("key changed");
    assert_eq!(changed["key"], id);
    assert_eq!(changed["name"], "n");
    assert_eq!(changed["models"], "a*,b");
    assert_eq!(changed["expires_at"], "never");
    assert!(changed["limits"].as_str().unwrap().contains("\"rpm\":5"));
    assert_eq!(changed.get("manage_keys"), None);
    let log = line("log changed");
    assert_eq!(
        (&log["access"], &log["sample"]),
        (&json!("false"), &json!("5"))
    );
    let used = line("memory endpoint used as a key");
    assert_eq!(
        (&used["key"], &used["path"]),
        (&json!(id), &json!("/v1/memory/search"))
    );
}

#[test]
fn keys_are_found_by_their_state() {
    let (_provider, router) = router();
    let made = good(ask(&router, "POST", "/admin/v1/keys", "{}"), 201);
    let id = made["id"].as_str().unwrap();
    good(
        ask(&router, "DELETE", &format!("/admin/v1/keys/{id}"), ""),
        200,
    );
    for (state, count) in [("active", 1), ("revoked", 1), ("expired", 0), ("all", 2)] {
        let target = format!("/admin/v1/keys?state={state}");
        let found = good(ask(&router, "GET", &target, ""), 200);
        assert_eq!(found["keys"].as_array().unwrap().len(), count, "{state}");
    }
}

#[test]
fn routers_at_two_ports_of_a_host_keep_their_sessions() {
    let (_provider, router) = router();
    let login = json!({ "token": router.admin_token() }).to_string();
    let cookie = |host: &str| {
        let fields = [("Host", host), ("Content-Type", "application/json")];
        let entered = ask_as(&router, "POST", "/admin/v1/login", &fields, &login);
        assert_eq!(entered.status, 200);
        let cookie = entered.field("set-cookie").unwrap();
        cookie.split(';').next().unwrap().to_owned()
    };
    let (one, other) = (cookie("localhost:9090"), cookie("localhost:9091"));
    assert!(one.starts_with("mr_session_9090="), "{one}");
    assert!(other.starts_with("mr_session_9091="), "{other}");
    assert!(cookie("localhost").starts_with("mr_session="));
    // A browser sends both to either.
    let both = format!("{one}; {other}");
    for host in ["localhost:9090", "localhost:9091"] {
        let fields = [("Host", host), ("Cookie", both.as_str())];
        let session = ask_as(&router, "GET", "/admin/v1/session", &fields, "");
        assert_eq!(session.json()["authenticated"], true, "{host}");
    }
}

#[test]
fn a_proxy_in_front_may_speak_tls() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .toml("admin.hosts = [\"admin.example.com\"]")
        .start();
    let login = json!({ "token": router.admin_token() }).to_string();
    let log_in = |origin: &str| {
        let fields = [
            ("Host", "admin.example.com"),
            ("Origin", origin),
            ("Sec-Fetch-Site", "same-origin"),
            ("Content-Type", "application/json"),
        ];
        ask_as(&router, "POST", "/admin/v1/login", &fields, &login)
    };
    for (origin, secure) in [
        ("https://admin.example.com", true),
        ("http://admin.example.com", false),
    ] {
        let entered = log_in(origin);
        assert_eq!(entered.status, 200, "{origin}");
        let cookie = entered.field("set-cookie").unwrap();
        assert_eq!(cookie.ends_with("; Secure"), secure, "{cookie}");
    }
    for origin in [
        "https://admin.example.com.evil.example",
        "https://evil.example",
        "https://admin.example.com:8443",
        "ws://admin.example.com",
    ] {
        assert_eq!(log_in(origin).status, 403, "{origin}");
    }
    // Whoever reaches the proxy is not on this machine.
    for (host, status) in [
        ("localhost", 200),
        ("127.0.0.1:9090", 200),
        ("[::1]", 200),
        ("admin.example.com", 401),
    ] {
        let metrics = ask_as(&router, "GET", "/metrics", &[("Host", host)], "");
        assert_eq!(metrics.status, status, "{host}");
    }
}

#[test]
fn what_a_key_may_use_is_looked_up_without_counting_for_it() {
    let (_provider, router) = router();
    let id = key_of(&router);
    let models = || {
        good(
            ask(&router, "GET", &format!("/admin/v1/models?key={id}"), ""),
            200,
        )
    };
    let own = router.ask("GET", "/v1/models", &[("Authorization", &router.bearer())]);
    assert_eq!(models(), own.json());
    let revoked = json!({ "state": "revoked" }).to_string();
    good(
        ask(&router, "PATCH", &format!("/admin/v1/keys/{id}"), &revoked),
        200,
    );
    assert_eq!(models(), own.json());
    let last = good(ask(&router, "GET", "/admin/v1/requests", ""), 200);
    assert_eq!(last["requests"].as_array().unwrap().len(), 1, "{last}");
    let unnamed = ask(&router, "GET", "/admin/v1/models", "");
    assert_eq!(unnamed.status, 400);
}
