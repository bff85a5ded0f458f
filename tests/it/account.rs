//! What a key can ask about itself and, if it may, about its account: usage, standing, other keys.

use std::thread;
use std::time::Duration;

use memoryrouter::keys::{self, KeyState, Limits, NewKey, Period};
use serde_json::Value;

use crate::support::operator::{ask, good};
use crate::support::{
    CHAT as BODY, Gate, Provider, Reply, Router, Setup, eventually, json, request,
};

const CHAT: &str = "/v1/chat/completions";
const USED: &str = r#"{"usage":{"prompt_tokens":60,"completion_tokens":40,"prompt_tokens_details":{"cached_tokens":10}}}"#;

fn get(router: &Router, key: &str, target: &str) -> Reply {
    router.ask("GET", target, &[("x-api-key", key)])
}

fn send(router: &Router, key: &str, method: &str, target: &str, body: &str) -> Reply {
    let fields = [("x-api-key", key)];
    router
        .connect()
        .exchange(request(method, target, &fields, body))
}

#[test]
fn a_key_sees_its_own_usage_and_nothing_else() {
    let provider = Provider::answering(json(200, USED));
    let router = Router::start(&provider);
    let other = router.mint(NewKey::default());
    for _ in 0..2 {
        assert_eq!(router.post(CHAT, BODY).status, 200);
    }
    // Another spelling of the same model.
    let prefixed = BODY.replace("gpt-4o", "openai/gpt-4o");
    assert_eq!(router.post(CHAT, prefixed).status, 200);
    let claude = r#"{"model":"claude-3-haiku","messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(router.post(CHAT, claude).status, 200);
    send(&router, &other, "POST", CHAT, BODY);
    assert_eq!(router.post(CHAT, "{").status, 400);
    let usage = || get(&router, &router.key, "/v1/account/usage").json();
    eventually("the counts", || usage()["summary"]["errors"] == 1);
    let usage = usage();
    let summary = &usage["summary"];
    // Those that asked for usage are requests too, but of other days' making none: count the tokens.
    assert_eq!(summary["input_tokens"], 240);
    assert_eq!(summary["output_tokens"], 160);
    assert_eq!(summary["total_tokens"], 400);
    assert_eq!(summary["cached_tokens"], 40);
    assert_eq!(summary["errors_caller"], 1);
    assert!(summary["cost_usd"].as_f64().unwrap() > 0.0);
    assert!(summary["router_latency_ms"]["p99"].as_f64().unwrap() > 0.0);
    assert!(usage["key"].as_str().unwrap().starts_with("key_"));
    let (start, end) = (&usage["period"]["start"], &usage["period"]["end"]);
    assert!(start.as_str().unwrap() < end.as_str().unwrap());
    assert_eq!(usage["daily"].as_array().unwrap().len(), 1);
    assert_eq!(&usage["daily"][0]["day"], end);
    let models = usage["by_model"].as_array().unwrap();
    let tokens = |model: &str| {
        let line = models.iter().find(|line| line["model"] == model).unwrap();
        line["total_tokens"].as_u64().unwrap()
    };
    assert_eq!((tokens("gpt-4o"), tokens("claude-3-haiku")), (300, 100));
    // Another span holds none of it.
    let past = get(
        &router,
        &router.key,
        "/v1/account/usage?start=2024-01-01&end=2024-01-31",
    )
    .json();
    assert_eq!(past["summary"]["requests"], 0);
    assert_eq!(past["period"]["end"], "2024-01-31");
    for wrong in [
        "start=yesterday",
        "end=2024-02-30",
        "start=2024-02-01Tgarbage",
        "start=2024-02-01&end=2024-01-01",
    ] {
        let reply = get(&router, &router.key, &format!("/v1/account/usage?{wrong}"));
        assert_eq!(reply.status, 400, "{wrong}");
        assert!(reply.json()["hint"].is_string());
    }
    assert_eq!(router.ask("GET", "/v1/account/usage", &[]).status, 401);
    let reply = send(&router, &other, "POST", "/v1/account/usage", "");
    assert_eq!(
        (reply.status, reply.field("allow")),
        (405, Some("GET, HEAD"))
    );
}

#[test]
fn a_key_sees_how_it_stands() {
    let provider = Provider::answering(json(200, USED));
    let router = Router::start(&provider);
    let key = router.mint(NewKey {
        name: "app".into(),
        models: vec!["gpt*".into()],
        limits: Limits {
            token_budget: Some((1000, Period::Month)),
            ..Limits::default()
        },
        ..NewKey::default()
    });
    assert_eq!(send(&router, &key, "POST", CHAT, BODY).status, 200);
    let stats = || get(&router, &key, "/v1/me/stats").json();
    eventually("the counts", || stats()["today"]["total_tokens"] == 100);
    let stats = stats();
    assert_eq!(stats["month"]["total_tokens"], 100);
    assert_eq!(
        (&stats["name"], &stats["state"]),
        (&"app".into(), &"active".into())
    );
    assert_eq!(stats["limits"]["budget_tokens"], 1000);
    assert_eq!(stats["limits"]["budget_period"], "month");
    assert!(!stats.to_string().contains(&key));
}

#[test]
fn a_key_with_the_capability_mints_lists_and_revokes() {
    let provider = Provider::answering(json(200, USED));
    let router = Router::start(&provider);
    let foreign = router.edit(|editor| {
        let new = NewKey {
            account: "other".into(),
            ..NewKey::default()
        };
        Ok(editor.add_key(new)?.0.id.clone())
    });
    let boss = router.mint(NewKey {
        manage_keys: true,
        limits: Limits {
            requests_per_minute: Some(100),
            ..Limits::default()
        },
        ..NewKey::default()
    });
    for (method, target) in [
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("DELETE", "/v1/keys/key_x"),
    ] {
        let reply = send(&router, &router.key, method, target, "");
        assert_eq!(reply.status, 403, "{method}");
        assert_eq!(send(&router, "mk_nobody", method, target, "").status, 401);
    }
    let wish = r#"{"name":"child","limits":{"rpm":1},"models":["gpt*"],"expires_in_s":3600}"#;
    let reply = send(&router, &boss, "POST", "/v1/keys", wish);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let made = reply.json();
    let (id, child) = (
        made["id"].as_str().unwrap(),
        made["token"].as_str().unwrap(),
    );
    assert_eq!(
        (&made["account"], &made["limits"]["rpm"]),
        (&"default".into(), &1.into())
    );
    assert!(made["expires_at"].is_string());
    // In use at once, within its limits, and without the capability.
    assert_eq!(send(&router, child, "POST", CHAT, BODY).status, 200);
    assert_eq!(send(&router, child, "POST", CHAT, BODY).status, 429);
    assert_eq!(get(&router, child, "/v1/keys").status, 403);
    let list = get(&router, &boss, "/v1/keys");
    assert!(!list.text().contains(child) && !list.text().contains(&*foreign));
    let listed = list.json();
    let listed = listed["keys"].as_array().unwrap();
    assert_eq!(listed.len(), 3);
    assert!(
        listed
            .iter()
            .any(|key: &Value| key["id"] == id && key["name"] == "child")
    );
    for (wrong, error) in [
        (r#"{"limits":{"rpm":101}}"#, "Invalid key"),
        (r#"{"account":"other"}"#, "Invalid key"),
        (r#"{"expires_in_s":0}"#, "Invalid key"),
        // A list is no object, though its members could be told by their order.
        (r#"{"limits":[1,2]}"#, "Invalid key"),
        (r#"["svc",60]"#, "Invalid JSON body"),
        ("[]", "Invalid JSON body"),
        ("[", "Invalid JSON body"),
        ("{", "Invalid JSON body"),
        ("nope", "Invalid JSON body"),
        ("1", "Invalid JSON body"),
    ] {
        let reply = send(&router, &boss, "POST", "/v1/keys", wrong);
        assert_eq!(reply.status, 400, "{wrong}");
        assert_eq!(reply.json()["error"], error, "{wrong}");
    }
    assert_eq!(
        send(&router, &boss, "DELETE", &format!("/v1/keys/{foreign}"), "").status,
        404
    );
    let reply = send(&router, &boss, "DELETE", &format!("/v1/keys/{id}"), "");
    assert_eq!(
        (reply.status, &reply.json()["state"]),
        (200, &"revoked".into())
    );
    assert_eq!(send(&router, child, "POST", CHAT, BODY).status, 401);
    let foreign_state = router.edit(|editor| Ok(editor.key(&foreign)?.state));
    assert_eq!(foreign_state, KeyState::Active);
    let audit = std::fs::read_to_string(router.dir.path().join("audit.log")).unwrap();
    assert_eq!(audit.lines().count(), 2);
    assert!(audit.contains("key made") && audit.contains("key revoked") && !audit.contains(child));
}

#[test]
fn a_mints_body_is_counted() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let key = router.mint(NewKey {
        manage_keys: true,
        ..NewKey::default()
    });
    let body = r#"{"name":"child"}"#;
    assert_eq!(send(&router, &key, "POST", "/v1/keys", body).status, 201);
    let row = || {
        let all = good(ask(&router, "GET", "/admin/v1/requests", ""), 200);
        let rows = all["requests"].as_array().unwrap();
        rows.iter()
            .find(|row| row["route"] == "/v1/keys" && row["status"] == 201)
            .cloned()
    };
    eventually("the request is listed", || row().is_some());
    assert_eq!(row().unwrap()["request_bytes"], body.len());
}

#[test]
fn minting_listing_and_revoking_are_requests_of_the_keys_minute() {
    let provider = Provider::plain();
    let router = Setup::all(&provider).start();
    let manager = router.mint(NewKey {
        manage_keys: true,
        limits: Limits {
            requests_per_minute: Some(4),
            ..Limits::default()
        },
        ..NewKey::default()
    });
    let ask = |method: &str, path: &str| send(&router, &manager, method, path, "");
    let minted = ask("POST", "/v1/keys").json();
    let id = minted["id"].as_str().unwrap();
    assert_eq!(ask("GET", "/v1/keys").status, 200);
    assert_eq!(ask("GET", "/v1/me/stats").status, 200, "not one of these");
    assert_eq!(ask("DELETE", &format!("/v1/keys/{id}")).status, 200);
    let chat = || request("POST", CHAT, &[("x-api-key", &manager)], BODY);
    assert_eq!(router.connect().exchange(chat()).status, 200);
    let as_any_other = router.connect().exchange(chat());
    assert_eq!(as_any_other.status, 429);
    let before = router.store.status().generation;
    for (method, path) in [("POST", "/v1/keys"), ("GET", "/v1/keys")] {
        let refused = ask(method, path);
        assert_eq!(refused.status, 429);
        assert_eq!(refused.json()["error"], "Rate limit exceeded");
        for field in ["retry-after", "x-ratelimit-limit-requests"] {
            assert_eq!(
                refused.field(field).is_some(),
                as_any_other.field(field).is_some()
            );
        }
        assert!(refused.field("retry-after").is_some());
    }
    assert_eq!(router.store.status().generation, before);
}

#[test]
fn a_request_that_came_in_time_may_take_longer_than_a_head() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .toml("timeouts.head = \"500ms\"")
        .start();
    let manager = router.mint(NewKey {
        manage_keys: true,
        ..NewKey::default()
    });
    let minted = send(&router, &manager, "POST", "/v1/keys", "").json();
    let id = minted["id"].as_str().unwrap();
    let (locked, release) = (Gate::default(), Gate::default());
    thread::scope(|scope| {
        // Somebody else is changing the sealed file.
        scope.spawn(|| {
            keys::edit(&router.files, |_| {
                locked.open();
                release.pass();
                Ok(())
            })
        });
        locked.pass();
        let mut caller = router.connect();
        let revoke = format!("/v1/keys/{id}");
        caller.send(request("DELETE", &revoke, &[("x-api-key", &manager)], ""));
        // Until a head would have been too late.
        thread::sleep(Duration::from_secs(1));
        release.open();
        assert_eq!(caller.reply().json()["state"], "revoked");
    });
}
