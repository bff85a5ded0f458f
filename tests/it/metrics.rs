//! `/metrics`: well-formed, moving with what happens, bounded, and what the dashboards and alerts are written for.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::operator::ask_as;
use crate::support::{CHAT, Provider, Router, Setup, Then, eventually, json};

/// Every sample of a page by name and labels, after the page was read as a strict reader would.
fn samples(router: &Router) -> BTreeMap<String, f64> {
    let reply = ask_as(router, "GET", "/metrics", &[], "");
    assert_eq!(reply.status, 200);
    assert!(
        reply
            .field("content-type")
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    let mut family = String::new();
    let mut all = BTreeMap::new();
    for line in reply.text().lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(
                !families.contains_key(&family),
                "{family} stands there twice"
            );
            assert!(rest.len() > family.len() + 1, "{family} has no help");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            families.insert(name.to_owned(), kind.to_owned());
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            continue;
        }
        let (place, value) = line.rsplit_once(' ').unwrap();
        let name = place.split('{').next().unwrap();
        let base = match families[&family].as_str() {
            "histogram" => ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap(),
            _ => name,
        };
        assert_eq!(base, family, "a sample outside its family");
        let value: f64 = value.parse().unwrap();
        assert!(
            all.insert(place.to_owned(), value).is_none(),
            "{place} stands there twice"
        );
    }
    check_histograms(&all);
    all
}

/// Buckets grow with their bounds and end with the count.
fn check_histograms(all: &BTreeMap<String, f64>) {
    let mut by_series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (place, value) in all.iter().filter(|(place, _)| place.contains("_bucket{")) {
        let (before, rest) = place.split_once("le=\"").unwrap();
        let (bound, _) = rest.split_once('"').unwrap();
        let bound = bound.replace("+Inf", "inf").parse().unwrap();
        by_series
            .entry(before.to_owned())
            .or_default()
            .push((bound, *value));
    }
    assert!(!by_series.is_empty());
    for (series, mut buckets) in by_series {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(
            buckets.is_sorted_by(|a, b| a.1 <= b.1),
            "{series}: {buckets:?}"
        );
        let labels = series.replace("_bucket", "_count");
        let labels = labels.trim_end_matches([',', '{']);
        let count = all.get(labels).or_else(|| all.get(&format!("{labels}}}")));
        assert_eq!(
            buckets.last().map(|bucket| bucket.1),
            count.copied(),
            "{series}"
        );
    }
}

fn get(samples: &BTreeMap<String, f64>, place: &str) -> f64 {
    samples
        .get(&format!("memoryrouter_{place}"))
        .copied()
        .unwrap_or(0.0)
}

#[test]
fn counts_move_with_requests() {
    let provider = Provider::answering(json(
        200,
        r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
    ));
    let router = Setup::all(&provider)
        .provider("mistral", "http://127.0.0.1:1/v1")
        .toml("metrics.keys = true\ntimeouts.connect = \"200ms\"")
        .start();
    assert_eq!(
        samples(&router).get("memoryrouter_key_requests_total"),
        None
    );
    let mut caller = router.connect();
    for _ in 0..3 {
        let request = router.request("/v1/chat/completions", &[], CHAT);
        assert_eq!(caller.exchange(request).status, 200);
    }
    let nowhere = CHAT.replace("gpt-4o", "mistral/x");
    assert_eq!(router.post("/v1/chat/completions", nowhere).status, 502);
    // What a provider refuses for what was asked is the caller's fault here as it is in the usage.
    let refusing = Provider::answering(json(400, r#"{"error":{"message":"no"}}"#));
    let refused = Router::start(&refusing);
    assert_eq!(refused.post("/v1/chat/completions", CHAT).status, 400);
    eventually("the refusal counted", || {
        let samples = samples(&refused);
        get(&samples, r#"request_failures_total{side="caller"}"#) == 1.0
            && get(&samples, r#"request_failures_total{side="provider"}"#) == 0.0
    });
    assert_eq!(router.ask("GET", "/v1/nope", &[]).status, 401);
    assert_eq!(router.ask("GET", "/health", &[]).status, 200);
    let chat = |provider: &str, status: u16| {
        format!(
            r#"requests_total{{route="/v1/chat/completions",provider="{provider}",status="{status}"}}"#
        )
    };
    eventually("all requests counted", || {
        get(&samples(&router), "worker_requests_total{worker=\"0\"}") == 6.0
    });
    let after = samples(&router);
    let is = |place: &str, value: f64| assert_eq!(get(&after, place), value, "{place}");
    is(&chat("openai", 200), 3.0);
    is(&chat("mistral", 502), 1.0);
    is(
        r#"requests_total{route="/health",provider="none",status="200"}"#,
        1.0,
    );
    is(
        r#"requests_total{route="-",provider="none",status="401"}"#,
        1.0,
    );
    is(r#"request_failures_total{side="caller"}"#, 1.0);
    is(r#"request_failures_total{side="provider"}"#, 1.0);
    is(r#"first_byte_seconds_count{provider="openai"}"#, 3.0);
    is(r#"tokens_total{provider="openai",direction="input"}"#, 9.0);
    is("router_seconds_count", 3.0);
    is("upstream_reused_total", 2.0);
    is("upstream_dialled_total", 1.0);
    is("upstream_dial_failures_total", 1.0);
    is("requests_in_flight", 0.0);
    is("streams_live", 0.0);
    is("snapshot_keys", 1.0);
    is("snapshot_refused", 0.0);
    is("panics_total", 0.0);
    assert!(get(&after, "worker_connections{worker=\"0\"}") >= 1.0);
    assert!(get(&after, "open_fds") > 5.0);
    assert!(get(&after, "max_fds") > get(&after, "open_fds"));
    assert!(get(&after, "resident_memory_bytes") > 1e6);
    assert!(get(&after, "router_seconds_sum") > 0.0);
    let id = router.store.current().records()[0].id.clone();
    is(&format!("key_requests_total{{key=\"{id}\"}}"), 4.0);
    drop(caller);
    eventually("the callers have gone", || {
        get(&samples(&router), "worker_connections{worker=\"0\"}") == 0.0
    });
}

#[test]
fn whatever_callers_send_adds_no_series() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let all = |router: &Router| -> BTreeSet<String> { samples(router).into_keys().collect() };
    router.post("/v1/chat/completions", CHAT);
    router.ask("GET", "/v1/nope", &[]);
    let count = |router: &Router| get(&samples(router), "worker_requests_total{worker=\"0\"}");
    eventually("two requests", || count(&router) == 2.0);
    let before = all(&router);
    for index in 0..50 {
        let body = CHAT.replace("gpt-4o", &format!("gpt-{index}"));
        assert_eq!(router.post("/v1/chat/completions", body).status, 200);
        router.ask(
            "GET",
            &format!("/v1/nope{index}"),
            &[("X-Memory-Key", &format!("mk_{index}"))],
        );
    }
    eventually("all requests", || count(&router) == 102.0);
    assert_eq!(all(&router), before, "no model, path or key is a label");
    assert!(
        !before
            .iter()
            .any(|place| place.contains("gpt") || place.contains("key_"))
    );
}

#[test]
fn dashboards_and_alerts_ask_for_what_there_is() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    assert_eq!(router.post("/v1/chat/completions", CHAT).status, 200);
    eventually("a request", || {
        get(&samples(&router), "router_seconds_count") == 1.0
    });
    let known: BTreeSet<String> = samples(&router)
        .into_keys()
        .map(|place| place.split('{').next().unwrap().to_owned())
        .collect();
    for file in ["grafana.json", "alerts.yml"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("scripts/monitoring")
            .join(file);
        let text = std::fs::read_to_string(path).unwrap();
        if file.ends_with(".json") {
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(parsed["panels"].as_array().unwrap().len() > 20);
        }
        let mut asked = 0;
        for (at, _) in text.match_indices("memoryrouter_") {
            let name: String = text[at..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_' || c.is_ascii_digit())
                .collect();
            assert!(known.contains(&name), "{file} asks for {name}");
            asked += 1;
        }
        assert!(asked > 10, "{file}");
    }
}

#[test]
fn only_heads_of_answers_have_a_time() {
    let provider = Provider::start(|request, wire| {
        match request.fields.get("x-case") {
            Some("closes") => return Then::Close,
            Some("malformed") => wire.send("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
            _ => wire.send(json(200, "{}")),
        };
        Then::Keep
    });
    let router = Setup::all(&provider).start();
    for (case, status) in [("closes", 502), ("malformed", 502), ("good", 200)] {
        let reply = router.post_with("/v1/chat/completions", &[("X-Case", case)], CHAT);
        assert_eq!(reply.status, status, "{case}");
    }
    // One that waits for nobody's answer.
    let waits = crate::support::Gate::default();
    let opens = waits.clone();
    let silent = Provider::start(move |_, _| {
        waits.pass();
        Then::Close
    });
    let leaves = Setup::all(&silent).start();
    let mut caller = leaves.connect();
    caller.send(leaves.request("/v1/chat/completions", &[], CHAT));
    silent.wait_for(1);
    drop(caller);
    eventually("the caller's leaving", || {
        get(&samples(&leaves), "worker_requests_total{worker=\"0\"}") == 1.0
    });
    opens.open();
    let count = r#"first_byte_seconds_count{provider="openai"}"#;
    eventually("all requests counted", || {
        get(&samples(&router), "worker_requests_total{worker=\"0\"}") == 3.0
    });
    assert_eq!(get(&samples(&router), count), 1.0);
    assert_eq!(get(&samples(&leaves), count), 0.0);
}
