//! Two hundred vaults, one router: whatever is told to one is never heard in another.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use memoryrouter::keys::NewKey;

use crate::support::dialogue::{self, WAYS};
use crate::support::{Provider, Random, Setup, count, eventually, request};

const KEYS: usize = 200;

/// The canaries that stand in a text: the letters `canary` with the number of the vault that they belong to.
fn canaries(text: &str) -> HashSet<usize> {
    let numbers = text.match_indices("canary-").map(|(at, name)| {
        let digits = text[at + name.len()..].chars();
        let digits: String = digits.take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    });
    numbers.collect()
}

#[test]
fn canaries_in_two_hundred_vaults_never_cross() {
    let requests = count("ISOLATION_REQUESTS", 1600);
    // Says what it was told, so that answers carry canaries too; and remembers who was told what.
    let provider = Provider::start(|request, wire| {
        let text = request.text();
        let told = canaries(text);
        let mut all = told.into_iter().map(|n| format!("canary-{n}-said"));
        let said = format!("I heard {}.", all.next().unwrap_or_default());
        dialogue::answer(request, wire, &said)
    });
    let router = Setup::all(&provider).workers(2).start();
    let tokens = router.edit(|editor| {
        let new = || NewKey {
            account: "default".into(),
            ..NewKey::default()
        };
        (0..KEYS)
            .map(|_| Ok(editor.add_key(new())?.1))
            .collect::<Result<Vec<_>, _>>()
    });
    let tokens: Vec<String> = tokens
        .iter()
        .map(|token| String::from_utf8(token.expose().to_vec()).unwrap())
        .collect();
    let (next, recalled) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let crossed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for seed in 0..8 {
            let (next, recalled, crossed, tokens, router) =
                (&next, &recalled, &crossed, &tokens, &router);
            scope.spawn(move || {
                let mut random = Random(seed);
                let mut caller = router.connect();
                while next.fetch_add(1, Ordering::SeqCst) < requests {
                    let vault = random.below(KEYS as u64) as usize;
                    let way = WAYS[random.below(4) as usize];
                    let stream = random.below(2) == 0;
                    // All ask in the same words, so that every vault's memories would fit every request.
                    let (text, session) = match random.below(3) {
                        0 => (format!("My bird's name is canary-{vault}-a."), None),
                        1 => (format!("My bird's home is canary-{vault}-b."), Some("home")),
                        _ => (
                            "What is my bird's name, and where is its home?".into(),
                            Some("home"),
                        ),
                    };
                    let mut messages = vec![way.user(&text, random.below(2) == 0)];
                    if random.below(4) == 0 {
                        messages.extend(way.step(1, "nothing"));
                    }
                    let bearer = format!("Bearer {}", tokens[vault]);
                    let mut fields = vec![("Authorization", bearer.as_str())];
                    fields.extend(session.map(|session| ("X-Session-ID", session)));
                    let body = way.body(&messages, stream, "");
                    let bytes = request("POST", way.path(stream), &fields, body);
                    if random.below(6) == 0 {
                        caller.send(&bytes[..random.below(bytes.len() as u64 + 1) as usize]);
                        caller.reset();
                        caller = router.connect();
                        continue;
                    }
                    let reply = caller.exchange(bytes);
                    assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
                    if reply.field("x-memory-chunks-retrieved") != Some("0") {
                        recalled.fetch_add(1, Ordering::SeqCst);
                    }
                    if canaries(reply.text()).iter().any(|heard| *heard != vault) {
                        crossed
                            .lock()
                            .unwrap()
                            .push((vault, reply.text().to_owned()));
                    }
                }
            });
        }
    });
    assert_eq!(*crossed.lock().unwrap(), []);
    // What went up: of one vault each.
    for request in provider.received() {
        assert!(canaries(request.text()).len() <= 1, "{}", request.text());
    }
    assert!(
        recalled.load(Ordering::SeqCst) > requests / 8,
        "memory was at work"
    );
    // What lies there: each vault's own.
    let mut memories = 0;
    for (vault, token) in tokens.iter().enumerate() {
        let bearer = format!("Bearer {token}");
        eventually("the vault", || {
            let reply = router.ask("GET", "/v1/memory/export", &[("Authorization", &bearer)]);
            let found = canaries(reply.text());
            memories += reply.text().lines().count();
            assert!(
                found.iter().all(|n| *n == vault),
                "{vault}: {}",
                reply.text()
            );
            true
        });
    }
    println!(
        "{requests} requests of {KEYS} keys, {} with memories, {memories} memories kept, none crossed",
        recalled.load(Ordering::SeqCst)
    );
}
