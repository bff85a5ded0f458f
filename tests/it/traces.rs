//! Traces: a caller's goes on to the provider, spans reach the collector, and a collector that is away costs nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::operator::ask;
use crate::support::program::{Home, free_port};
use crate::support::{CHAT, Caller, Gate, Provider, Setup, Then, eventually, json, request};

const CALLERS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const CHAT_PATH: &str = "/v1/chat/completions";

fn spans(collector: &Provider) -> Vec<Value> {
    let mut all = Vec::new();
    for received in collector.received() {
        assert_eq!(received.target, "/v1/traces");
        assert_eq!(
            received.fields.get("content-type"),
            Some("application/json")
        );
        let body: Value = serde_json::from_slice(&received.body).unwrap();
        let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        all.extend(spans.as_array().unwrap().iter().cloned());
    }
    all
}

fn attributes(span: &Value) -> BTreeMap<String, String> {
    let all = span["attributes"].as_array().unwrap().iter();
    all.map(|attribute| {
        let value = attribute["value"]
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap();
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        (attribute["key"].as_str().unwrap().to_owned(), text)
    })
    .collect()
}

#[test]
fn a_trace_goes_through() {
    let provider = Provider::answering(json(
        200,
        r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
    ));
    let collector = Provider::answering(json(200, "{}"));
    let toml = format!("otlp.endpoint = \"{}\"", collector.url(""));
    let router = Setup::all(&provider).toml(&toml).start();
    let reply = router.post_with(CHAT_PATH, &[("traceparent", CALLERS)], CHAT);
    assert_eq!(reply.status, 200);
    let sent = provider.last();
    let sent = sent.fields.all("traceparent");
    assert_eq!(sent.len(), 1);
    let parts: Vec<&str> = sent[0].split('-').collect();
    assert_eq!(
        (parts[1], parts[3]),
        ("0af7651916cd43dd8448eb211c80319c", "01")
    );
    assert_ne!(parts[2], "b7ad6b7169203331");
    eventually("spans", || spans(&collector).len() == 2);
    let all = spans(&collector);
    let own = all.iter().find(|span| span["kind"] == 2).unwrap();
    let wait = all.iter().find(|span| span["kind"] == 3).unwrap();
    assert_eq!(own["traceId"], parts[1]);
    assert_eq!(own["parentSpanId"], "b7ad6b7169203331");
    assert_eq!(wait["parentSpanId"], own["spanId"]);
    assert_eq!(
        wait["spanId"], parts[2],
        "the provider's spans are parts of this one"
    );
    assert_eq!(own["name"], "POST /v1/chat/completions");
    let about = attributes(own);
    for (name, value) in [
        ("http.response.status_code", "200"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "gpt-4o"),
        ("gen_ai.usage.input_tokens", "3"),
        ("gen_ai.usage.output_tokens", "4"),
    ] {
        assert_eq!(about.get(name).map(String::as_str), Some(value), "{name}");
    }
    let nanos = |span: &Value, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(nanos(own, "startTimeUnixNano") <= nanos(wait, "startTimeUnixNano"));
    assert!(nanos(wait, "startTimeUnixNano") <= nanos(wait, "endTimeUnixNano"));
    let text = Value::from(all).to_string();
    assert!(!text.contains("mk_") && !text.contains("stored-") && !text.contains("\"hi\""));

    // Who does not want its trace kept is passed on, and not kept.
    let unsampled = CALLERS.replace("-01", "-00");
    router.post_with(CHAT_PATH, &[("traceparent", &unsampled)], CHAT);
    assert!(
        provider
            .last()
            .fields
            .get("traceparent")
            .unwrap()
            .ends_with("-00")
    );
    // Who brings none begins one here.
    router.post(CHAT_PATH, CHAT);
    let begun = provider
        .last()
        .fields
        .get("traceparent")
        .unwrap()
        .to_owned();
    eventually("the new trace", || spans(&collector).len() == 4);
    let last = spans(&collector).pop().unwrap();
    assert!(begun.contains(last["traceId"].as_str().unwrap()));
    assert_eq!(attributes(&last).get("memoryrouter.estimated"), None);
    let metrics = ask(&router, "GET", "/metrics", "");
    assert!(
        metrics
            .text()
            .contains("\nmemoryrouter_spans_sent_total 4\n")
    );
}

#[test]
fn a_span_says_of_the_provider_what_the_provider_said() {
    let provider = Provider::answering(
        "HTTP/1.1 400 Bad Request\r\nx-request-id: theirs-1\r\ncontent-length: 2\r\n\r\n{}",
    );
    let silent = Provider::start(|_, _| Then::Close);
    let collector = Provider::answering(json(200, "{}"));
    let toml = format!(
        "otlp.endpoint = \"{}\"\nproviders.groq.base_url = \"{}\"",
        collector.url(""),
        silent.url("/v1")
    );
    let router = Setup::all(&provider)
        .stored("groq", "gsk-x")
        .toml(&toml)
        .start();
    let of = |count: usize| -> [Value; 2] {
        eventually("two more spans", || spans(&collector).len() == count);
        let mut all = spans(&collector).split_off(count - 2);
        all.sort_by_key(|span| span["kind"].as_u64());
        all.try_into().unwrap()
    };
    let about = |span: &Value, name: &str| attributes(span).get(name).cloned();
    let status = "http.response.status_code";

    // An error to who asked, and none of the router's own.
    assert_eq!(router.post(CHAT_PATH, CHAT).status, 400);
    let [own, wait] = of(2);
    assert_eq!(
        (&own["status"]["code"], &wait["status"]["code"]),
        (&0.into(), &2.into())
    );
    assert_eq!(about(&wait, status).as_deref(), Some("400"));
    let id = about(&wait, "memoryrouter.provider_request_id");
    assert_eq!(id.as_deref(), Some("theirs-1"));
    assert_eq!(
        about(&wait, "gen_ai.response.id"),
        None,
        "that is the answer's own id"
    );

    // Who hangs up answers nothing.
    let unanswered = CHAT.replace("gpt-4o", "groq/llama");
    assert_eq!(router.post(CHAT_PATH, unanswered).status, 502);
    let [own, wait] = of(4);
    assert_eq!(
        (&own["status"]["code"], &wait["status"]["code"]),
        (&2.into(), &2.into())
    );
    assert_eq!(about(&own, status).as_deref(), Some("502"));
    assert_eq!(about(&wait, status), None);

    // What leads nowhere has no route.
    let bearer = router.bearer();
    let lost = router.ask("GET", "/v1/nowhere", &[("authorization", &bearer)]);
    assert_eq!(lost.status, 404);
    eventually("one more span", || spans(&collector).len() == 5);
    let lost = spans(&collector).pop().unwrap();
    assert_eq!(
        (&lost["name"], about(&lost, "http.route")),
        (&"GET".into(), None)
    );
}

#[test]
fn without_a_collector_a_callers_field_is_its_own() {
    let provider = Provider::plain();
    let router = Setup::all(&provider).start();
    router.post_with(
        CHAT_PATH,
        &[("traceparent", CALLERS), ("tracestate", "a=b")],
        CHAT,
    );
    let seen = provider.last();
    assert_eq!(seen.fields.get("traceparent"), Some(CALLERS));
    assert_eq!(seen.fields.get("tracestate"), Some("a=b"));
    router.post(CHAT_PATH, CHAT);
    assert_eq!(provider.last().fields.get("traceparent"), None);
}

#[test]
fn a_collector_that_is_away_costs_its_spans_only() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .toml("otlp.endpoint = \"http://127.0.0.1:1\"")
        .start();
    for _ in 0..20 {
        assert_eq!(router.post(CHAT_PATH, CHAT).status, 200);
    }
    eventually("the loss is counted", || {
        let metrics = ask(&router, "GET", "/metrics", "");
        metrics
            .text()
            .contains("\nmemoryrouter_spans_failed_total 40\n")
    });
}

#[test]
fn a_collector_that_is_away_is_told_of_once() {
    let provider = Provider::plain();
    let home = Home::new();
    let admin = format!("127.0.0.1:{}", free_port());
    let toml = format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"{admin}\"\nlog.access = false\n\
         otlp.endpoint = \"http://127.0.0.1:1\"\nproviders.openai.base_url = \"{}\"\n",
        provider.url("/v1")
    );
    std::fs::write(home.file("memoryrouter.toml"), toml).unwrap();
    home.run_with(&["providers", "set", "openai"], "sk-stored");
    let token = home.mint();
    let router = home.serve();
    for failed in [2, 4] {
        let fields = [("x-api-key", token.as_str())];
        let asked = request("POST", CHAT_PATH, &fields, CHAT);
        assert_eq!(router.connect().exchange(asked).status, 200);
        let sample = format!("\nmemoryrouter_spans_failed_total {failed}\n");
        eventually("a batch is lost", || {
            let mut operator = Caller::connect(admin.parse().unwrap());
            let metrics = operator.exchange("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
            metrics.text().contains(&sample)
        });
    }
    assert_eq!(router.log().matches("not reachable").count(), 1);
    router.stop();
}

#[test]
fn a_state_goes_with_its_trace() {
    let provider = Provider::plain();
    let collector = Provider::plain();
    let toml = format!("otlp.endpoint = \"{}\"", collector.url(""));
    let router = Setup::all(&provider).toml(&toml).start();
    for (parent, state) in [
        (Some(CALLERS), Some("a=b")),
        (Some("00-x"), None),
        (None, None),
    ] {
        let mut fields = vec![("tracestate", "a=b")];
        fields.extend(parent.map(|parent| ("traceparent", parent)));
        assert_eq!(router.post_with(CHAT_PATH, &fields, CHAT).status, 200);
        let seen = provider.last();
        assert!(seen.fields.get("traceparent").is_some());
        assert_eq!(seen.fields.get("tracestate"), state, "{parent:?}");
    }
    // Two parents are none.
    let other = CALLERS.replacen('0', "1", 4).replacen('1', "0", 2);
    let fields = [
        ("traceparent", CALLERS),
        ("traceparent", other.as_str()),
        ("tracestate", "a=b"),
    ];
    assert_eq!(router.post_with(CHAT_PATH, &fields, CHAT).status, 200);
    let seen = provider.last();
    let trace = |parent: &str| parent.split('-').nth(1).map(str::to_owned);
    let sent = trace(seen.fields.get("traceparent").unwrap());
    assert!(sent != trace(CALLERS) && sent != trace(&other), "{sent:?}");
    assert_eq!(seen.fields.get("tracestate"), None);
}

#[test]
fn the_last_spans_are_sent_before_the_end() {
    let provider = Provider::plain();
    let collector = Provider::answering(json(200, "{}"));
    let toml = format!("otlp.endpoint = \"{}\"", collector.url(""));
    let router = Setup::all(&provider).toml(&toml).start();
    for _ in 0..3 {
        assert_eq!(router.post(CHAT_PATH, CHAT).status, 200);
    }
    router.stop();
    assert_eq!(spans(&collector).len(), 6);
    // One that takes everything and answers nothing does not keep the router.
    let (gate, waits) = (Gate::default(), Gate::default());
    let opens = gate.clone();
    let came = waits.clone();
    let stuck = Provider::start(move |_, _| {
        came.open();
        gate.pass();
        Then::Close
    });
    let toml = format!("otlp.endpoint = \"{}\"", stuck.url(""));
    let router = Setup::all(&provider).toml(&toml).start();
    assert_eq!(router.post(CHAT_PATH, CHAT).status, 200);
    router.stop();
    waits.pass();
    opens.open();
}
