//! The endpoints on a key's own vault.

use memoryrouter::keys::NewKey;
use serde_json::{Value, json};

use crate::support::dialogue::{self, Way};
use crate::support::{Provider, Reply, Router, Setup, eventually, request};

/// Asks as this key.
#[track_caller]
fn ask(
    router: &Router,
    key: &str,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Reply {
    let body = body.as_ref();
    let bearer = format!("Bearer {key}");
    let mut all = vec![("Authorization", bearer.as_str())];
    all.extend_from_slice(fields);
    let length = body.len().to_string();
    if method != "POST" && !body.is_empty() {
        all.push(("Content-Length", &length));
    }
    let path = format!("/v1/memory{path}");
    router
        .connect()
        .exchange(request(method, &path, &all, body))
}

#[track_caller]
fn good(router: &Router, method: &str, path: &str, body: &str) -> Value {
    let reply = ask(router, &router.key, method, path, &[], body);
    assert_eq!(
        (reply.status, reply.complete),
        (200, true),
        "{path}: {reply:?}"
    );
    assert_eq!(reply.field("content-type"), Some("application/json"));
    reply.json()
}

fn lines(router: &Router, key: &str) -> Vec<Value> {
    let reply = ask(router, key, "GET", "/export", &[], "");
    assert_eq!((reply.status, reply.complete), (200, true));
    assert_eq!(reply.field("content-type"), Some("application/x-ndjson"));
    let lines = reply.text().lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn texts(found: &Value) -> Vec<&str> {
    let list = found["memories"].as_array().unwrap().iter();
    list.map(|memory| memory["content"].as_str().unwrap())
        .collect()
}

const FACTS: &str = r#"{"content":"My dog is called Rex.","timestamp":1700000000000}
{"content":"Rex likes carrots.","role":"assistant","timestamp":1700000001000,"session_id":"walks"}

{"content":"The boat leaves at nine.","role":"narrator","timestamp":1700000002000,"extra":[{}]}
{"content":"My dog is called Rex."}
"#;

#[test]
fn upload_look_search_export_and_delete() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let empty = good(&router, "GET", "/stats", "");
    assert_eq!(
        (&empty["memories"], &empty["oldest"], &empty["newest"]),
        (&json!(0), &Value::Null, &Value::Null)
    );
    assert_eq!(lines(&router, &router.key), Vec::<Value>::new());

    let uploaded = good(&router, "POST", "/upload", FACTS);
    assert_eq!(uploaded["status"], "complete");
    assert_eq!(uploaded["vault"], "core");
    assert_eq!(
        uploaded["stats"],
        json!({"total": 4, "processed": 4, "stored": 3, "duplicates": 1, "failed": 0})
    );
    assert!(uploaded["message"].is_string());

    let stats = good(&router, "GET", "/stats", "");
    assert_eq!(
        (&stats["memories"], &stats["sessions"]),
        (&json!(3), &json!(1))
    );
    assert_eq!(stats["oldest"], "2023-11-14T22:13:20Z");
    assert_eq!(stats["newest"], "2023-11-14T22:13:22Z");
    assert!(stats["totalTokens"].as_u64() > Some(0) && stats["bytes"].as_u64() > Some(0));
    let id = stats["key"].as_str().unwrap();
    assert!(!router.key.contains(id) && !id.starts_with("mk_"));
    assert_eq!(good(&router, "POST", "/warmup", "")["status"], "ready");

    let all = lines(&router, &router.key);
    assert_eq!(all.len(), 3);
    assert_eq!(all[0]["content"], "My dog is called Rex.");
    assert_eq!(
        (&all[1]["role"], &all[1]["timestamp"], &all[1]["session_id"]),
        (
            &json!("assistant"),
            &json!(1_700_000_001_000_i64),
            &json!("walks")
        )
    );
    assert_eq!(
        (&all[2]["role"], &all[2]["session_id"]),
        (&json!("narrator"), &Value::Null)
    );

    let found = good(
        &router,
        "POST",
        "/search",
        r#"{"query":"what is the dog called","limit":1}"#,
    );
    assert_eq!(texts(&found), ["My dog is called Rex."]);
    let memory = &found["memories"][0];
    assert_eq!(memory["id"], all[0]["id"]);
    assert_eq!(memory["window"], "archive");
    assert!(memory["score"].as_f64() > Some(0.0));

    // A vault elsewhere takes the export as it is.
    let other = router.mint(NewKey::default());
    let export = ask(&router, &router.key, "GET", "/export", &[], "");
    let taken = ask(&router, &other, "POST", "/upload", &[], &export.body);
    assert_eq!(taken.json()["stats"]["stored"], 3);
    let without_ids = |key: &str| {
        let mut all = lines(&router, key);
        all.iter_mut().for_each(|line| {
            line.as_object_mut().unwrap().remove("id");
        });
        all
    };
    assert_eq!(without_ids(&other), without_ids(&router.key));

    // One by its id, then a session, then all; and only what is one's own.
    let id = all[0]["id"].as_str().unwrap();
    let path = format!("/{id}");
    assert_eq!(good(&router, "DELETE", &path, ""), json!({"deleted": 1}));
    let again = ask(&router, &router.key, "DELETE", &path, &[], "");
    assert_eq!(
        (again.status, &again.json()["error"]),
        (404, &json!("Memory not found"))
    );
    for bad in ["/mem_", "/mem_zz", "/mem_ffffffffffffffff", "/other"] {
        assert_eq!(
            ask(&router, &router.key, "DELETE", bad, &[], "").status,
            404,
            "{bad}"
        );
    }
    let found = good(&router, "POST", "/search", r#"{"query":"dog called"}"#);
    assert!(!texts(&found).contains(&"My dog is called Rex."));
    let walks = [("X-Session-ID", "walks")];
    let session = ask(&router, &router.key, "DELETE", "", &walks, "");
    assert_eq!(session.json(), json!({"deleted": 1}));
    assert_eq!(lines(&router, &router.key).len(), 1);
    let in_body = ask(
        &router,
        &other,
        "DELETE",
        "",
        &[],
        r#"{"session_id":"walks"}"#,
    );
    assert_eq!(in_body.json(), json!({"deleted": 1}));
    assert_eq!(good(&router, "DELETE", "", ""), json!({"deleted": 1}));
    assert_eq!(good(&router, "GET", "/stats", "")["memories"], 0);
    assert_eq!(lines(&router, &other).len(), 2);
    assert_eq!(provider.count(), 0, "no provider was called");
}

#[test]
fn a_bad_upload_stores_nothing_and_names_the_line() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let good_line = r#"{"content":"good"}"#;
    for (line, what) in [
        ("{", "Invalid line 2: not a JSON object"),
        ("[]", "Invalid line 2: not a JSON object"),
        ("{\"role\":\"user\"}", "Invalid line 2: content is missing"),
        (
            "{\"content\":\"\u{0}\"}",
            "Invalid line 2: not a JSON object",
        ),
        (
            "{\"content\":\"a\",\"session_id\":\"a b\"}",
            "Invalid line 2: session_id is no session id",
        ),
    ] {
        let body = format!("{good_line}\n{line}\n{good_line}\n");
        let reply = ask(&router, &router.key, "POST", "/upload", &[], body);
        assert_eq!((reply.status, &reply.json()["error"]), (400, &json!(what)));
    }
    let bytes = [good_line.as_bytes(), b"\n{\"content\":\"\xff\"}"].concat();
    assert_eq!(
        ask(&router, &router.key, "POST", "/upload", &[], bytes).status,
        400
    );
    let many = |count: usize| {
        let lines = (0..count).map(|n| format!("{{\"content\":\"fact number {n}\"}}\n"));
        lines.collect::<String>()
    };
    let reply = ask(&router, &router.key, "POST", "/upload", &[], many(10_001));
    assert_eq!(
        (reply.status, &reply.json()["error"]),
        (413, &json!("Too many lines"))
    );
    let bad = [("X-Session-ID", "a/b")];
    assert_eq!(
        ask(&router, &router.key, "POST", "/upload", &bad, good_line).status,
        400
    );
    assert_eq!(good(&router, "GET", "/stats", "")["memories"], 0);
    // As many as there may be, into a session, and out again in pages.
    let session = [("X-Session-ID", "bulk")];
    let reply = ask(
        &router,
        &router.key,
        "POST",
        "/upload",
        &session,
        many(10_000),
    );
    assert_eq!(reply.json()["vault"], "session");
    assert_eq!(reply.json()["stats"]["stored"], 10_000);
    let all = lines(&router, &router.key);
    assert_eq!(all.len(), 10_000);
    for (n, line) in all.iter().enumerate() {
        assert_eq!(line["content"], format!("fact number {n}"));
        assert_eq!(line["session_id"], "bulk");
    }
    let again = ask(
        &router,
        &router.key,
        "POST",
        "/upload",
        &session,
        many(10_000),
    );
    assert_eq!(again.json()["stats"]["duplicates"], 10_000);
}

#[test]
fn prepare_tells_what_a_request_would_get_and_ingest_stores_what_was_said() {
    let provider = Provider::start(|request, wire| dialogue::answer(request, wire, "Yes."));
    let router = Router::start(&provider);
    let nothing = good(
        &router,
        "POST",
        "/prepare",
        r#"{"messages":[{"role":"user","content":"my dog?"}]}"#,
    );
    assert_eq!(nothing, json!({"context": "", "tokens": 0, "memories": []}));
    let stored = good(
        &router,
        "POST",
        "/ingest",
        r#"{"messages":[{"role":"system","content":"Secret"},{"role":"user","content":"My dog is Rex."}],"response":"A fine dog."}"#,
    );
    assert_eq!(
        stored,
        json!({"status": "complete", "stored": 2, "duplicates": 0})
    );
    let whole = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"My cat is Tom."}]}],
        "response":{"choices":[{"message":{"role":"assistant","content":"A fine cat."}}]}}"#;
    assert_eq!(good(&router, "POST", "/ingest", whole)["stored"], 2);
    let forgotten =
        r#"{"messages":[{"role":"user","content":"not this","memory":false}],"response":null}"#;
    assert_eq!(good(&router, "POST", "/ingest", forgotten)["stored"], 0);
    let said: Vec<String> = lines(&router, &router.key)
        .iter()
        .map(|line| line["content"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        said,
        [
            "My dog is Rex.",
            "A fine dog.",
            "My cat is Tom.",
            "A fine cat."
        ]
    );

    let body = r#"{"messages":[{"role":"user","content":"Which dog do I have?"}],"limit":2}"#;
    let prepared = good(&router, "POST", "/prepare", body);
    assert!(texts(&prepared).contains(&"My dog is Rex."), "{prepared}");
    assert!(prepared["tokens"].as_u64() > Some(0));
    for mode in ["off", "write"] {
        let body = body.replace("limit", &format!(r#"memory_mode":"{mode}","limit"#));
        assert_eq!(good(&router, "POST", "/prepare", &body), nothing, "{mode}");
    }
    // What a request gets is just that.
    let chat = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Which dog do I have?"}],"memory_limit":2,"memory":"read"}"#;
    router.post(Way::Chat.path(false), chat);
    let sent: Value = serde_json::from_str(provider.last().text()).unwrap();
    let sent = sent["messages"][0]["content"].as_str().unwrap();
    assert_eq!(
        sent,
        format!(
            "Which dog do I have?\n\n{}",
            prepared["context"].as_str().unwrap()
        )
    );
    for (path, body, error) in [
        ("/prepare", "{}", "Missing required field: messages"),
        ("/ingest", "{}", "Missing required field: messages"),
        ("/search", "{}", "Missing required field: query"),
        ("/search", r#"{"query":1}"#, "Invalid field: query"),
        (
            "/search",
            r#"{"query":"a","limit":"x"}"#,
            "Invalid field: limit",
        ),
        (
            "/prepare",
            r#"{"messages":[],"session_id":"a b"}"#,
            "Invalid session id",
        ),
        ("/prepare", "[1", "Invalid JSON body"),
        (
            "/ingest",
            r#"{"messages":[],"response":{"x":1}}"#,
            "Invalid field: response",
        ),
    ] {
        let reply = ask(&router, &router.key, "POST", path, &[], body);
        assert_eq!(
            (reply.status, &reply.json()["error"]),
            (400, &json!(error)),
            "{path} {body}"
        );
    }
}

#[test]
fn ingest_finds_the_answer_where_it_stands_and_keeps_what_was_asked() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let user = r#"{"role":"user","content":"asked"}"#;
    let responded = |response: &str| format!(r#"{{"messages":[{user}],"response":{response}}}"#);
    let replied = |reply: &str| format!(r#"{{"messages":[{user},{reply}]}}"#);
    #[rustfmt::skip] // Rows read by themselves.
    let rows = [
        (replied(r#"{"role":"assistant","content":"said"}"#), vec!["asked", "said"]),
        (replied(r#"{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"said"}]}"#), vec!["asked", "said"]),
        (replied(r#"{"role":"assistant","content":"said"}],"response":null,"x":["#), vec!["asked", "said"]),
        (replied(r#"{"role":"assistant","content":"said"}],"response":"told","x":["#), vec!["asked", "told"]),
        (replied(r#"{"role":"assistant","content":"said","memory":false}"#), vec!["asked"]),
        (replied(r#"{"role":"assistant","content":"I look","tool_calls":[{"id":"1"}]}"#), vec!["asked"]),
        (replied(r#"{"role":"assistant","content":[{"type":"text","text":"I look"},{"type":"tool_use","id":"1"}]}"#), vec!["asked"]),
        (format!(r#"{{"messages":[{{"role":"assistant","content":"before"}},{user}]}}"#), vec!["asked"]),
        (responded(r#"{"choices":[{"message":{"content":null,"refusal":"I cannot"}}]}"#), vec!["asked"]),
        (responded(r#"{"choices":[{"message":{"content":""}}]}"#), vec!["asked"]),
        (responded(r#"{"content":[],"stop_reason":"refusal"}"#), vec!["asked"]),
        (responded(r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#), vec!["asked"]),
        (responded(r#"[{"candidates":[{"content":{"parts":[{"text":"sa"}]}}]},{"candidates":[{"content":{"parts":[{"text":"id"}]}}]}]"#), vec!["asked", "said"]),
        (responded("\"\""), vec!["asked"]),
    ];
    for (body, stored) in rows {
        good(&router, "DELETE", "", "");
        assert_eq!(
            good(&router, "POST", "/ingest", &body)["stored"],
            stored.len()
        );
        let all = lines(&router, &router.key);
        let said: Vec<&str> = all
            .iter()
            .map(|line| line["content"].as_str().unwrap())
            .collect();
        assert_eq!(said, stored, "{body}");
    }
    good(&router, "DELETE", "", "");
    let body = responded("\"said\"");
    for (field, value) in [("X-Memory-Mode", "off"), ("X-Memory-Mode", "read")] {
        let reply = ask(
            &router,
            &router.key,
            "POST",
            "/ingest",
            &[(field, value)],
            &body,
        );
        assert_eq!(reply.json()["stored"], 0, "{field}: {value}");
    }
    let suffixed = format!("{}:read", router.key);
    let reply = ask(&router, &suffixed, "POST", "/ingest", &[], &body);
    assert_eq!(reply.json()["stored"], 0);
    let mode = body.replace("{\"messages\"", "{\"memory_mode\":\"off\",\"messages\"");
    assert_eq!(good(&router, "POST", "/ingest", &mode)["stored"], 0);
    let mode = [("X-Memory-Mode", "write")];
    let reply = ask(&router, &router.key, "POST", "/ingest", &mode, &body);
    assert_eq!(reply.json()["stored"], 2);
}

#[test]
fn an_upload_obeys_what_the_request_says_about_storing() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let line = r#"{"content":"the boat leaves at nine"}"#;
    let read = format!("{}:read", router.key);
    let plain = router.key.clone();
    for (key, path, fields, stored) in [
        (&read, "/upload", &[][..], 0),
        (&plain, "/upload?mode=off", &[], 0),
        (&plain, "/upload?store=false", &[], 0),
        (&plain, "/upload", &[("X-Memory-Mode", "off")], 0),
        (&read, "/upload?mode=write", &[], 1),
    ] {
        let reply = ask(&router, key, "POST", path, fields, line);
        assert_eq!(reply.json()["stats"]["stored"], stored, "{path} {fields:?}");
    }
    assert_eq!(lines(&router, &router.key).len(), 1);
}

#[test]
fn a_delete_that_says_what_nobody_knows_deletes_nothing() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    good(&router, "POST", "/upload", FACTS);
    let (id, walks) = ("mem_0000000000000001", ("X-Session-ID", "walks"));
    let (query, session) = ("Invalid parameter: query", "Invalid session id");
    let member = |name: &str| format!("Unknown field: {name}");
    #[rustfmt::skip] // Rows read by themselves.
    let rows = [
        ("", r#"{"sessionId":"walks"}"#.to_owned(), member("sessionId")),
        ("", format!(r#"{{"id":"{id}"}}"#), member("id")),
        ("", r#"{"session_id":"walks","all\u0021":true}"#.into(), member("all!")),
        ("", r#" { "Session_id" : "walks" } "#.into(), member("Session_id")),
        ("", format!(r#"{{"memory":"{id}"}}"#), member("memory")),
        ("", r#"{"memory_limit":1}"#.into(), member("memory_limit")),
        ("", r#"{"session_id":"walks","memory_mode":"on"}"#.into(), member("memory_mode")),
        ("", r#"{"session_id":null}"#.into(), session.into()),
        ("", r#"{"session_id":""}"#.into(), session.into()),
        ("", r#"{"session_id":"other","session_id":"walks"}"#.into(), session.into()),
        ("?session_id=walks&session_id=other", String::new(), query.into()),
        ("?session_id=walks&session_id=walks", String::new(), query.into()),
        ("?session_id=", String::new(), session.into()),
        ("?session_id", String::new(), session.into()),
        ("?memory=mem_0000000000000001", String::new(), query.into()),
        ("?limit=1", String::new(), query.into()),
        ("?mode=off", String::new(), query.into()),
        ("?key=x", String::new(), query.into()),
        ("?session_id=walks&debug=true", String::new(), query.into()),
    ];
    for (path, body, error) in rows {
        let reply = ask(&router, &router.key, "DELETE", path, &[], &body);
        let told = (reply.status, &reply.json()["error"]);
        assert_eq!(told, (400, &json!(error)), "{path} {body}");
        assert!(reply.json()["hint"].is_string(), "{path} {body}");
        assert_eq!(lines(&router, &router.key).len(), 3, "{path} {body}");
    }
    for (suffix, path) in [
        (":off", ""),
        (":read", ""),
        (":write", ""),
        (":read", "/mem_0000000000000000"),
    ] {
        let key = format!("{}{suffix}", router.key);
        let reply = ask(&router, &key, "DELETE", path, &[], "");
        let error = json!("Invalid parameter: key");
        assert_eq!(
            (reply.status, &reply.json()["error"]),
            (400, &error),
            "{suffix}"
        );
    }
    assert_eq!(lines(&router, &router.key).len(), 3);
    let none = "?session_id=other&";
    assert_eq!(good(&router, "DELETE", none, ""), json!({"deleted": 0}));
    let twice = ask(
        &router,
        &router.key,
        "DELETE",
        "?session%5Fid=walks",
        &[walks],
        "{}",
    );
    assert_eq!(twice.json(), json!({"deleted": 1}));
    assert_eq!(good(&router, "DELETE", "", "{}"), json!({"deleted": 2}));
}

#[test]
fn what_is_uploaded_without_times_comes_before_what_is_said_afterwards() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let lines_of = |count: usize| {
        let lines = (0..count).map(|n| format!("{{\"content\":\"fact number {n}\"}}\n"));
        lines.collect::<String>()
    };
    good(&router, "POST", "/upload", &lines_of(3000));
    let said = r#"{"messages":[{"role":"user","content":"fact number 7 is wrong"}]}"#;
    good(&router, "POST", "/ingest", said);
    let all = lines(&router, &router.key);
    assert_eq!(all.last().unwrap()["content"], "fact number 7 is wrong");
    for (n, line) in all[..3000].iter().enumerate() {
        assert_eq!(line["content"], format!("fact number {n}"));
    }
}

#[test]
fn the_key_comes_first_in_every_carrier() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    for carrier in ["X-Memory-Key", "x-api-key", "x-goog-api-key"] {
        let reply = router.ask("GET", "/v1/memory/stats", &[(carrier, &router.key)]);
        assert_eq!(reply.status, 200, "{carrier}");
    }
    for (method, path) in [
        ("GET", "/v1/memory/stats"),
        ("DELETE", "/v1/memory"),
        ("GET", "/v1/memory/export"),
        ("DELETE", "/v1/memory/mem_0000000000000001"),
        ("POST", "/v1/memory/upload"),
        ("GET", "/v1/memory/what"),
    ] {
        assert_eq!(router.ask(method, path, &[]).status, 401, "{path}");
        let wrong = [("Authorization", "Bearer mk_wrong")];
        assert_eq!(router.ask(method, path, &wrong).status, 401, "{path}");
    }
    let bearer = router.bearer();
    let auth = [("Authorization", bearer.as_str())];
    let method = router.ask("GET", "/v1/memory/upload", &auth);
    assert_eq!((method.status, method.field("allow")), (405, Some("POST")));
    let method = router.ask("POST", "/v1/memory", &auth);
    assert_eq!(
        (method.status, method.field("allow")),
        (405, Some("DELETE"))
    );
    let head = router.ask("HEAD", "/v1/memory/export", &auth);
    assert_eq!((head.status, head.body.len()), (200, 0));
    let old = format!("GET /v1/memory/export HTTP/1.0\r\nAuthorization: {bearer}\r\n\r\n");
    ask(&router, &router.key, "POST", "/upload", &[], FACTS);
    let mut caller = router.connect();
    caller.send(old);
    let reply = caller.reply();
    assert_eq!(reply.field("transfer-encoding"), None);
    assert_eq!(reply.text().lines().count(), 3);
}

#[test]
fn a_rotated_key_keeps_its_vault() {
    let provider = Provider::start(|request, wire| dialogue::answer(request, wire, "Yes."));
    let router = Setup::all(&provider).start();
    let old = router.mint(NewKey::default());
    ask(&router, &old, "POST", "/upload", &[], FACTS);
    let id = ask(&router, &old, "GET", "/stats", &[], "").json()["key"].clone();
    let (_, new) = router.edit(|editor| editor.rotate(id.as_str().unwrap(), 0));
    let new = String::from_utf8(new.expose().to_vec()).unwrap();
    eventually("the old token's end", || {
        ask(&router, &old, "GET", "/stats", &[], "").status == 401
    });
    let stats = ask(&router, &new, "GET", "/stats", &[], "").json();
    assert_eq!((&stats["memories"], &stats["key"]), (&json!(3), &id));
}
