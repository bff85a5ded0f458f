//! What of a provider's answers is remembered, whatever form they have and however they end.

use serde_json::Value;

use crate::support::dialogue::{self, WAYS, Way};
use crate::support::{Gate, Provider, Router, Then, eventually};

/// Waits until so many memories lie in the vault, and returns all: role and text, oldest first.
#[track_caller]
fn holds(router: &Router, count: usize) -> Vec<(String, String)> {
    let bearer = router.bearer();
    let mut kept = Vec::new();
    eventually(&format!("{count} memories"), || {
        let reply = router.ask("GET", "/v1/memory/export", &[("Authorization", &bearer)]);
        let memories = reply.text().lines().map(|line| {
            let memory: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| memory[name].as_str().unwrap().to_owned();
            (text("role"), text("content"))
        });
        kept = memories.collect();
        kept.len() >= count
    });
    kept
}

#[test]
fn a_caller_that_leaves_behind_the_last_word_has_the_answer() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |request, wire| {
        let events = dialogue::events(Way::of(&request.target), "All of it.").concat();
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.send(format!("{:x}\r\n{events}\r\n", events.len()));
        waits.pass();
        Then::Close
    });
    // Gemini's streams have no last word.
    for (way, answers) in WAYS.map(|way| (way, usize::from(way != Way::Gemini))) {
        let router = Router::start(&provider);
        let body = way.body(&[way.user("My boat is blue.", false)], true, "");
        let mut caller = router.connect();
        caller.send(router.request(way.path(true), &[], body));
        caller.head().unwrap();
        let events = dialogue::events(way, "All of it.");
        let last = events.last().unwrap().trim_end().as_bytes();
        let mut got = Vec::new();
        while !got.ends_with(last) {
            got.extend(caller.bytes(1));
        }
        drop(caller);
        let kept = holds(&router, 1 + answers);
        let said = kept.iter().filter(|(role, _)| role == "assistant").count();
        assert_eq!((kept.len(), said), (1 + answers, answers), "{way:?}");
        gate.open();
    }
}
