//! Mixed traffic for a while: nothing fails, and neither memory nor descriptors grow.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::program::Home;
use crate::support::{Provider, Random, Then, count, eventually, json, request};

const CHAT: &str = "/v1/chat/completions";
/// More than fit into RAM at once, so that vaults come and go.
const VAULTS: u64 = 64;
const NOUNS: [&str; 8] = [
    "garden", "river", "train", "piano", "recipe", "winter", "doctor", "island",
];

/// Resident memory of a process in KiB.
fn resident_kib(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn provider() -> Provider {
    Provider::start(|request, wire| {
        match request.fields.get("x-kind").unwrap_or("plain") {
            "stream" => {
                wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
                for _ in 0..20 {
                    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"word \"}}]}\n\n";
                    if !wire.send(format!("{:x}\r\n{event}\r\n", event.len())) {
                        return Then::Close;
                    }
                }
                wire.send("0\r\n\r\n");
            }
            "large" => _ = wire.send(json(200, &format!("\"{}\"", "x".repeat(300_000)))),
            "error" => _ = wire.send(json(500, "{}")),
            "dies" => return Then::Close,
            _ => {
                let answer = r#"{"choices":[{"message":{"content":"noted, and so on"}}],"usage":{"prompt_tokens":9,"completion_tokens":4}}"#;
                wire.send(json(200, answer));
            }
        }
        Then::Keep
    })
    .forgetful()
}

#[test]
fn mixed_traffic_neither_fails_nor_grows() {
    let seconds = count("SOAK_SECONDS", 6);
    let provider = provider();
    let home = Home::new();
    home.configure(&format!(
        "providers.openai.base_url = \"{}\"\nlog.access = false\nmemory.hot_bytes = \"1MiB\"",
        provider.url("/v1")
    ));
    home.run_with(&["providers", "set", "openai"], "sk-stored");
    let tokens: Vec<String> = (0..VAULTS).map(|_| home.mint()).collect();
    let served = home.serve();
    // A long history, as agents send it, before something new.
    let body = |history: usize, said: u64| {
        format!(
            r#"{{"model":"openai/gpt-4o","messages":[{{"role":"system","content":"{}"}},{{"role":"user","content":"Note {said}: the {} of {} is {}."}}]}}"#,
            "y".repeat(history),
            NOUNS[said as usize % NOUNS.len()],
            NOUNS[said as usize / 7 % NOUNS.len()],
            said % 1000,
        )
    };
    let (requests, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    // Buffers, pools and allocator reach their size in the first third; from there on nothing grows.
    let started = Instant::now();
    let end = started + Duration::from_secs(seconds as u64);
    let measure = || (resident_kib(served.pid()), descriptors(served.pid()));
    let mut warm = measure();
    thread::scope(|scope| {
        for seed in 0..6 {
            let (requests, failures, served, tokens, body) =
                (&requests, &failures, &served, &tokens, &body);
            scope.spawn(move || {
                let mut random = Random(seed);
                let mut caller = served.connect();
                while Instant::now() < end {
                    let (kind, expected) = match random.below(20) {
                        0..10 => ("plain", 200),
                        10..14 => ("stream", 200),
                        14..16 => ("large", 200),
                        16 => ("error", 500),
                        17 => ("dies", 502),
                        _ => ("leave", 0),
                    };
                    let history = if random.below(8) == 0 { 400_000 } else { 500 };
                    let key = ("x-api-key", tokens[random.below(VAULTS) as usize].as_str());
                    let said = body(history, random.below(1 << 40));
                    let bytes = match (kind, random.below(20)) {
                        ("plain", 0) => request("GET", "/v1/memory/stats", &[key], ""),
                        ("plain", 1) => {
                            let query = r#"{"query":"What is the garden of the river?"}"#;
                            request("POST", "/v1/memory/search", &[key], query)
                        }
                        ("plain", 2) => request("DELETE", "/v1/memory", &[key], ""),
                        _ => request("POST", CHAT, &[key, ("X-Kind", kind)], &said),
                    };
                    requests.fetch_add(1, Ordering::Relaxed);
                    if kind == "leave" {
                        caller.send(&bytes[..random.below(bytes.len() as u64) as usize]);
                        caller = served.connect();
                        continue;
                    }
                    let reply = caller.exchange(bytes);
                    if reply.status != expected || !reply.complete {
                        failures
                            .lock()
                            .unwrap()
                            .push(format!("{kind}: {} {}", reply.status, reply.complete));
                    }
                    if random.below(10) == 0 || reply.field("connection") == Some("close") {
                        caller = served.connect();
                    }
                }
            });
        }
        thread::sleep(Duration::from_secs(seconds as u64) / 3);
        warm = measure();
    });
    let failures = failures.into_inner().unwrap();
    eventually("callers gone", || descriptors(served.pid()) < warm.1 + 5);
    let last = measure();
    println!(
        "{seconds} s: {} requests, {} failures; resident {} KiB after a third, {} KiB at the end; descriptors {} and {}",
        requests.load(Ordering::Relaxed),
        failures.len(),
        warm.0,
        last.0,
        warm.1,
        last.1
    );
    assert!(failures.is_empty(), "{failures:?}");
    assert!(
        last.0 < warm.0 + warm.0 / 2 + 16 * 1024,
        "memory grows: {warm:?} then {last:?}"
    );
    assert_eq!(served.stop().0, 0);
}
