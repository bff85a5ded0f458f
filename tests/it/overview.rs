//! What the operator's port shows and tries out: overview, last requests, usage, playground, tests of provider keys.

use serde_json::{Value, json};

use crate::support::operator::{ask, ask_as, good};
use crate::support::{CHAT, Caller, Gate, Provider, Router, Setup, Then, eventually};

fn router() -> (Provider, Router) {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    (provider, router)
}

#[test]
fn the_overview_and_the_last_requests_tell_what_happened() {
    let (provider, router) = router();
    for _ in 0..3 {
        assert_eq!(router.post("/v1/chat/completions", CHAT).status, 200);
    }
    assert_eq!(router.ask("GET", "/v1/nope", &[]).status, 401);
    drop(provider);
    // An answer arrives a moment before it is counted.
    eventually("four requests", || {
        ask(&router, "GET", "/admin/v1/overview", "").json()["counts"]["requests"] == 4
    });
    let overview = good(ask(&router, "GET", "/admin/v1/overview", ""), 200);
    assert_eq!(overview["counts"]["requests"], 4);
    assert_eq!(overview["counts"]["errors"], 1);
    assert_eq!(overview["errors"]["caller"], 1);
    assert_eq!(overview["counts"]["keys_active"], 1);
    assert_eq!(overview["data_url"], format!("http://{}", router.addr()));
    assert!(overview["latency_ms"]["router"]["p50"].as_f64().unwrap() > 0.0);
    let openai = overview["by_provider"].as_array().unwrap().iter();
    let openai = openai
        .clone()
        .find(|row| row["provider"] == "openai")
        .unwrap();
    assert_eq!(openai["requests"], 3);
    let recent = good(ask(&router, "GET", "/admin/v1/requests?limit=2", ""), 200);
    let rows = recent["requests"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0]["status"], &rows[0]["side"]),
        (&json!(401), &json!("caller"))
    );
    assert_eq!(rows[1]["route"], "/v1/chat/completions");
    assert_eq!(rows[1]["model"], "gpt-4o");
    assert!(rows[1]["total_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(rows[1]["estimated"], true, "nobody counted");
    let config = good(ask(&router, "GET", "/admin/v1/config", ""), 200);
    assert_eq!(config["sections"]["timeouts"]["head"], "10s");
    assert_eq!(config["sections"]["timeouts"]["keepalive"], "75s");
    assert_eq!(config["sections"]["usage"]["retention"], "400d");
    assert_eq!(config["sections"]["admin"]["listen"], "127.0.0.1:0");
    assert_eq!(config["sections"]["providers"]["openai"]["kind"], "openai");
}

#[test]
fn a_reload_says_what_it_found() {
    let (_provider, router) = router();
    let unchanged = good(ask(&router, "POST", "/admin/v1/reload", ""), 200);
    assert_eq!(unchanged["result"], "unchanged");
    let snapshot = router.files.snapshot.clone();
    let kept = std::fs::read(&snapshot).unwrap();
    std::fs::write(&snapshot, &kept[..kept.len() - 1]).unwrap();
    let refused = good(ask(&router, "POST", "/admin/v1/reload", ""), 200);
    assert_eq!(refused["result"], "refused");
    assert!(refused["reason"].is_string());
    let metrics = ask_as(&router, "GET", "/metrics", &[], "");
    assert!(
        metrics
            .text()
            .contains("\nmemoryrouter_snapshot_refused 1\n")
    );
    std::fs::write(&snapshot, &kept).unwrap();
    let back = good(ask(&router, "POST", "/admin/v1/reload", ""), 200);
    assert_eq!(back["result"], "unchanged");
}

#[test]
fn the_playground_is_a_request_of_the_keys_own() {
    let provider = Provider::answering(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nSet-Cookie: mr_session=x\r\nx-request-id: req_7\r\n\
         Content-Length: 45\r\n\r\n{\"usage\":{\"prompt_tokens\":3,\"total_tokens\":3}}",
    );
    let router = Router::start(&provider);
    let keys = good(ask(&router, "GET", "/admin/v1/keys", ""), 200);
    let id = keys["keys"][0]["id"].as_str().unwrap().to_owned();
    // Spelled so that a parser and a writer in between would show.
    let body = "{\"model\": \"gpt-4o\",\"n\":1.0e0, \"messages\":[]}";
    let wish = format!(
        r#"{{"key_id":"{id}","path":"/v1/chat/completions","headers":{{"X-Memory-Mode":"off"}},"body":{body}}}"#
    );
    let reply = ask(&router, "POST", "/admin/v1/playground", &wish);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.field("x-mr-request-id").is_some());
    assert_eq!(reply.field("set-cookie"), None);
    assert_eq!(reply.field("x-content-type-options"), Some("nosniff"));
    let seen = provider.last();
    assert_eq!(seen.text(), body);
    assert_eq!(
        seen.fields.get("authorization"),
        Some("Bearer stored-openai-key")
    );
    assert!(!String::from_utf8_lossy(&seen.raw).contains("mk_"));
    eventually("the request is counted", || {
        let recent = ask(&router, "GET", "/admin/v1/requests", "").json();
        recent["requests"][0]["key"] == id.as_str()
            && recent["requests"][0]["provider_id"] == "req_7"
    });
    let models = ask(&router, "GET", &format!("/admin/v1/models?key={id}"), "");
    assert_eq!(models.json()["object"], "list");
    let with = |from: &str, to: &str| wish.replacen(from, to, 1);
    for (odd, status) in [
        (with("X-Memory-Mode", "X-Memory-Key"), 400),
        (with("X-Memory-Mode", "Authorization"), 400),
        (with("X-Memory-Mode", "X-Provider-Key"), 400),
        (with("\"off\"", "\"a\\r\\nb: c\""), 400),
        (with("/v1/chat", "/chat"), 400),
        (with("/v1/chat/completions", "/v1/x y"), 400),
        (with("/v1/chat/completions", "/v1/x\\r\\nHost: y"), 400),
        (with(&id, "key_nope"), 404),
        (format!(r#"{{"key_id":"{id}","path":"/v1/models"}}"#), 400),
    ] {
        let refused = ask(&router, "POST", "/admin/v1/playground", &odd);
        assert_eq!(refused.status, status, "{odd}: {}", refused.text());
        assert_eq!(refused.field("x-mr-playground"), Some("refused"));
    }
    good(
        ask(&router, "DELETE", &format!("/admin/v1/keys/{id}"), ""),
        200,
    );
    assert_eq!(
        ask(&router, "POST", "/admin/v1/playground", &wish).status,
        403
    );
    assert_eq!(provider.count(), 1);
}

#[test]
fn a_streamed_answer_of_the_playground_comes_as_it_is_made() {
    let gate = Gate::default();
    let script = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.send("8\r\ndata: 1\n\r\n");
        script.pass();
        wire.send("8\r\ndata: 2\n\r\n0\r\n\r\n");
        Then::Keep
    });
    let router = Router::start(&provider);
    let keys = good(ask(&router, "GET", "/admin/v1/keys", ""), 200);
    let wish = json!({
        "key_id": keys["keys"][0]["id"], "path": "/v1/chat/completions",
        "body": { "model": "gpt-4o", "messages": [], "stream": true },
    });
    let bearer = format!("Bearer {}", router.admin_token());
    let mut caller = Caller::connect(router.admin_addr());
    let body = wish.to_string();
    caller.send(format!(
        "POST /admin/v1/playground HTTP/1.1\r\nHost: localhost\r\nAuthorization: {bearer}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let mut reply = caller.head().unwrap();
    assert_eq!(reply.status, 200);
    eventually("a live stream", || {
        ask(&router, "GET", "/admin/v1/overview", "").json()["counts"]["streams"] == 1
    });
    gate.open();
    caller.finish(&mut reply);
    assert_eq!(reply.text(), "data: 1\ndata: 2\n");
}

#[test]
fn a_provider_key_is_tried_without_telling_where() {
    let provider = Provider::start(|received, wire| {
        let key = received
            .fields
            .get("authorization")
            .or(received.fields.get("x-api-key"));
        let status = match key {
            Some("Bearer stored-openai-key" | "stored-anthropic-key") => "200 OK",
            Some("Bearer stored-openrouter-key") => "500 Oops",
            _ => "401 No",
        };
        wire.send(format!(
            "HTTP/1.1 {status}\r\nContent-Length: 6\r\n\r\nsecret"
        ));
        Then::Keep
    });
    let router = Setup::all(&provider)
        .stored("openai", "sk-another-0123456789")
        .provider("mistral", "http://127.0.0.1:1/v1")
        .start();
    let test = |path: &str| {
        let target = format!("/admin/v1/accounts/default/providers/{path}/test");
        let reply = ask(&router, "POST", &target, "");
        assert!(!reply.text().contains("127.0.0.1") && !reply.text().contains("secret"));
        reply
    };
    let works = |path: &str| good(test(path), 200)["works"].clone();
    assert_eq!(works("openai"), true);
    assert_eq!(provider.last().target, "/v1/models");
    assert_eq!(works("openai/1"), true);
    assert_eq!(works("openai/2"), false);
    assert_eq!(works("anthropic"), true);
    assert_eq!(provider.last().target, "/v1/models?limit=1");
    assert_eq!(works("openrouter"), Value::Null);
    assert_eq!(provider.last().target, "/api/v1/key");
    let unreachable = good(test("mistral"), 200);
    assert_eq!(unreachable["reason"], "Failed to reach provider: mistral");
    assert_eq!(test("openai/9").status, 404);
    assert_eq!(test("nope").status, 404);
}

#[test]
fn usage_is_told_by_day_key_and_model() {
    let provider = Provider::answering(crate::support::json(
        200,
        r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
    ));
    let router = Router::start(&provider);
    assert_eq!(router.post("/v1/chat/completions", CHAT).status, 200);
    let target = "/admin/v1/usage?by=day,key,model,provider&since=1d";
    eventually("usage", || {
        ask(&router, "GET", target, "").json()["total"]["requests"] == 1
    });
    let usage = good(ask(&router, "GET", target, ""), 200);
    let row = &usage["rows"][0];
    assert_eq!(
        (&row["model"], &row["provider"]),
        (&json!("gpt-4o"), &json!("openai"))
    );
    assert_eq!(
        (&row["input_tokens"], &row["output_tokens"]),
        (&json!(3), &json!(4))
    );
    assert!(row["key"].as_str().unwrap().starts_with("key_") && row["day"].is_string());
    for name in [
        "errors",
        "errors_caller",
        "errors_router",
        "errors_provider",
        "truncated",
    ] {
        assert_eq!(row[name], 0, "{name}");
    }
    let twice = good(ask(&router, "GET", "/admin/v1/usage?by=key,key", ""), 200);
    assert_eq!(twice["by"], json!(["key"]));
    let csv = ask(&router, "GET", &format!("{target}&format=csv"), "");
    assert_eq!(csv.field("content-type"), Some("text/csv; charset=utf-8"));
    let lines: Vec<&str> = csv.text().lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("day,key,model,provider,requests,"));
    assert!(lines[0].ends_with(",errors_provider,truncated,key_name"));
    assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
    let total = ask(&router, "GET", "/admin/v1/usage?by=none&format=csv", "");
    let lines: Vec<&str> = total.text().lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("requests,errors,") && lines[1].starts_with("1,0,"));
    for odd in [
        "by=nope",
        "since=x",
        "until=2026-02-30",
        "format=xml",
        "since=2026-02-01&until=2026-01-01",
    ] {
        assert_eq!(
            ask(&router, "GET", &format!("/admin/v1/usage?{odd}"), "").status,
            400,
            "{odd}"
        );
    }
}

#[test]
fn a_vault_is_looked_through_exported_and_emptied() {
    use memoryrouter::memory::{NewMemory, Role, VaultRef};
    let (_provider, router) = router();
    let record = router.store.current().records()[0].clone();
    let vault = VaultRef::new(&record.vault, record.vault_key);
    let memory = |index: i64| NewMemory {
        text: format!("fact number {index} about zebras"),
        role: Role::User,
        at_ms: 1_700_000_000_000 + index,
        session: (index % 3 == 0).then(|| "s1".to_owned()),
    };
    let store = router.running().control().memory().clone();
    let all: Vec<NewMemory> = (0..1200).map(memory).collect();
    let added = memoryrouter::net::run(async move { store.add(&vault, all).await }).unwrap();
    assert_eq!(added.unwrap().stored, 1200);

    let root = format!("/admin/v1/keys/{}/memories", record.id);
    let page = good(ask(&router, "GET", &format!("{root}?limit=2"), ""), 200);
    assert_eq!(
        page["memories"][0]["content"],
        "fact number 1199 about zebras"
    );
    assert_eq!(page["stats"]["memories"], 1200);
    let next = page["next"].as_str().unwrap();
    let page = good(
        ask(&router, "GET", &format!("{root}?limit=2&cursor={next}"), ""),
        200,
    );
    assert_eq!(
        page["memories"][0]["content"],
        "fact number 1197 about zebras"
    );
    let found = good(
        ask(
            &router,
            "GET",
            &format!("{root}?query=fact+number+77&limit=3"),
            "",
        ),
        200,
    );
    assert_eq!(
        found["memories"][0]["content"],
        "fact number 77 about zebras"
    );
    assert_eq!(found["next"], Value::Null);
    let session = good(
        ask(&router, "GET", &format!("{root}?session=s1&limit=500"), ""),
        200,
    );
    assert_eq!(session["memories"].as_array().unwrap().len(), 400);
    let sessions = good(
        ask(&router, "GET", &root.replace("memories", "sessions"), ""),
        200,
    );
    assert_eq!(sessions["sessions"][0]["memories"], 400);
    assert_eq!(sessions["left_out"], 0);

    let export = ask(&router, "GET", &format!("{root}/export"), "");
    assert!(export.complete);
    assert_eq!(export.text().lines().count(), 1200);
    let first: Value = serde_json::from_str(export.text().lines().next().unwrap()).unwrap();
    assert_eq!(first["content"], "fact number 0 about zebras");
    assert_eq!(first["session_id"], "s1");

    for (session, lines) in [("s1", 400), ("s2", 0)] {
        let target = format!("{root}/export?session={session}");
        let of_session = ask(&router, "GET", &target, "");
        assert!(of_session.complete, "{session}");
        assert_eq!(of_session.text().lines().count(), lines, "{session}");
    }

    let import = format!("{root}/import");
    let lines = format!("{}{{\"content\":\"new\"}}\n", export.text());
    let imported = ask(&router, "POST", &import, &lines);
    assert_eq!((imported.status, imported.complete), (200, true));
    let said: Vec<Value> = imported
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (&said[0]["processed"], &said[0]["total"]),
        (&json!(500), &json!(1201))
    );
    let stats = &said.last().unwrap()["stats"];
    assert_eq!(
        (&stats["stored"], &stats["duplicates"]),
        (&json!(1), &json!(1200))
    );
    let refused = ask(&router, "POST", &import, "{\"content\":\"a\"}\nnope");
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains('2'), "{}", refused.text());

    let id = found["memories"][0]["id"].as_str().unwrap();
    let one = format!("{root}/{id}");
    assert_eq!(good(ask(&router, "DELETE", &one, ""), 200)["deleted"], 1);
    assert_eq!(ask(&router, "DELETE", &one, "").status, 404);
    assert_eq!(
        good(
            ask(&router, "DELETE", &format!("{root}?session=s1"), ""),
            200
        )["deleted"],
        400
    );
    assert_eq!(good(ask(&router, "DELETE", &root, ""), 200)["deleted"], 800);
    let empty = good(ask(&router, "GET", &root, ""), 200);
    assert_eq!(empty["stats"]["memories"], 0);
    for (target, status) in [
        ("/admin/v1/keys/key_nope/memories", 404),
        (&*format!("{root}?cursor=x"), 400),
        (&*format!("{root}?limit=0"), 400),
        (&*format!("{root}/nope"), 405),
    ] {
        assert_eq!(ask(&router, "GET", target, "").status, status, "{target}");
    }
    let audit = std::fs::read_to_string(router.dir.path().join("audit.log")).unwrap();
    assert!(
        audit.contains("\"memories deleted\"") && !audit.contains("zebras"),
        "{audit}"
    );
}
