//! Recall with an embedding model beside it: by meaning while that answers, and by words whatever it does.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gate, Provider, Reply, Router, Setup, Then, eventually, json as answer};

const FACT: &str = r#"{"content":"The kitten is called Minka."}"#;

/// For this long no answer comes before the gate is opened.
const STALLED: u64 = u64::MAX;

/// An endpoint for which all that is about cats is one thing; it takes as long as it is told to.
fn embedder(delay_ms: &Arc<AtomicU64>, gate: &Gate) -> Provider {
    let (delay_ms, gate) = (delay_ms.clone(), gate.clone());
    Provider::start(move |received, wire| {
        let call: Value = serde_json::from_str(received.text()).unwrap();
        let about_cats = |text: &Value| {
            let text = text.as_str().unwrap();
            f32::from(text.contains("kitten") || text.contains("feline"))
        };
        let vector = |(index, text)| json!({"index": index, "embedding": [about_cats(text), 0.1]});
        let inputs = call["input"].as_array().unwrap().iter().enumerate();
        let data: Vec<Value> = inputs.map(vector).collect();
        match delay_ms.load(Ordering::Relaxed) {
            STALLED => gate.pass(),
            delay_ms => thread::sleep(Duration::from_millis(delay_ms)),
        }
        wire.send(answer(200, &json!({ "data": data }).to_string()));
        Then::Keep
    })
}

fn toml(embedder: &Provider, deadline: &str) -> String {
    let url = embedder.url("/v1");
    format!(
        "memory.embeddings = {{ base_url = \"{url}\", model = \"m\", deadline = \"{deadline}\" }}"
    )
}

fn ask(router: &Router, text: &str) -> Reply {
    let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]});
    let fields = [("X-Memory-Mode", "read"), ("X-Debug", "true")];
    router.post_with("/v1/chat/completions", &fields, body.to_string())
}

fn finds(reply: &Reply) -> bool {
    reply.field("x-memory-chunks-retrieved") == Some("1")
}

#[test]
fn the_wait_for_a_vector_is_as_long_as_its_own_deadline_says() {
    let (provider, delay_ms) = (Provider::plain(), Arc::new(AtomicU64::new(0)));
    let embedder = embedder(&delay_ms, &Gate::default());
    let setup = Setup::all(&provider).toml("memory.recall_timeout = \"150ms\"");
    let router = setup.toml(&toml(&embedder, "5s")).start();
    assert_eq!(router.post("/v1/memory/upload", FACT).status, 200);
    eventually("the vector", || finds(&ask(&router, "Which feline is it?")));
    delay_ms.store(300, Ordering::Relaxed);
    assert!(finds(&ask(&router, "Which feline do I have?")));
}

#[test]
fn an_embedder_that_stalls_takes_nothing_that_words_find() {
    let (provider, delay_ms) = (Provider::plain(), Arc::new(AtomicU64::new(0)));
    let gate = Gate::default();
    let embedder = embedder(&delay_ms, &gate);
    let setup = Setup::all(&provider).toml("memory.recall_timeout = \"1s\"");
    let router = setup.toml(&toml(&embedder, "200ms")).start();
    assert_eq!(router.post("/v1/memory/upload", FACT).status, 200);
    eventually("the vector", || finds(&ask(&router, "Which feline is it?")));
    let file = router.dir.path().join("memoryrouter.toml");
    let short = fs::read_to_string(&file)
        .unwrap()
        .replace("\"1s\"", "\"10ms\"");
    fs::write(&file, short).unwrap();
    router.reload().unwrap();
    delay_ms.store(STALLED, Ordering::Relaxed);
    let missed = || router.running().control().memory().status().without_vector;
    let before = missed();
    let reply = ask(&router, "What is the kitten called?");
    assert_eq!(missed(), before + 1);
    let summary = reply.field("x-mr-debug").unwrap();
    assert!(summary.contains("\"failed\":false"), "{summary}");
    assert!(finds(&reply), "{summary}");
    // For the query, and for what else may have asked meanwhile.
    for _ in 0..8 {
        gate.open();
    }
}
