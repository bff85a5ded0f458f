//! Limits of a key: exact however many come at once, on every core, in every dialect.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use memoryrouter::keys::{Limits, NewKey, Period};

use crate::support::{CHAT as BODY, Gate, Provider, Reply, Router, Setup, Then, json, request};

const CHAT: &str = "/v1/chat/completions";
const USED: &str = r#"{"usage":{"prompt_tokens":60,"completion_tokens":40}}"#;

fn limited(router: &Router, limits: Limits) -> String {
    router.mint(NewKey {
        limits,
        ..NewKey::default()
    })
}

fn ask(router: &Router, key: &str) -> Reply {
    router
        .connect()
        .exchange(request("POST", CHAT, &[("x-api-key", key)], BODY))
}

#[test]
fn two_hundred_at_once_on_a_limit_of_ten_admit_ten() {
    let provider = Provider::answering(json(200, USED));
    let router = Setup::all(&provider).workers(2).start();
    for limits in [
        Limits {
            requests_per_minute: Some(10),
            ..Limits::default()
        },
        // Each is counted as 100 tokens by its provider, and as a few before it is.
        Limits {
            requests_per_minute: Some(10),
            tokens_per_minute: Some(1_000_000),
            ..Limits::default()
        },
    ] {
        let key = limited(&router, limits);
        let before = provider.count();
        let (admitted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..200 {
                scope.spawn(|| match ask(&router, &key).status {
                    200 => admitted.fetch_add(1, Ordering::SeqCst),
                    429 => refused.fetch_add(1, Ordering::SeqCst),
                    other => panic!("{other}"),
                });
            }
        });
        assert_eq!((admitted.into_inner(), refused.into_inner()), (10, 190));
        assert_eq!(provider.count(), before + 10);
    }
}

#[test]
fn the_answer_says_which_limit_and_when_to_come_again() {
    let provider = Provider::answering(json(200, USED));
    let router = Router::start(&provider);
    let key = limited(
        &router,
        Limits {
            requests_per_minute: Some(1),
            ..Limits::default()
        },
    );
    assert_eq!(ask(&router, &key).status, 200);
    let reply = ask(&router, &key);
    assert_eq!(reply.status, 429);
    let after: u64 = reply.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    assert_eq!(reply.field("x-ratelimit-limit-requests"), Some("1"));
    assert_eq!(reply.field("x-ratelimit-remaining-requests"), Some("0"));
    assert!(reply.field("x-ratelimit-reset-requests").is_some());
    let expected = format!(
        r#"{{"error": "Rate limit exceeded", "hint": "This key has 1 requests a minute; there is room again in {after} s"}}"#
    );
    assert_eq!(reply.text(), expected);
    // A new snapshot forgets nothing, and other keys have their own count.
    router.mint(NewKey::default());
    assert_eq!(ask(&router, &key).status, 429);
    assert_eq!(ask(&router, &router.key).status, 200);
    // What asks no provider is not counted.
    assert_eq!(
        router
            .ask("GET", "/v1/models", &[("x-api-key", &key)])
            .status,
        200
    );
    assert_eq!(provider.count(), 2);
}

#[test]
fn a_budget_is_settled_with_what_the_provider_counted() {
    let provider = Provider::answering(json(200, USED));
    let router = Router::start(&provider);
    for (limits, error) in [
        (
            Limits {
                tokens_per_minute: Some(250),
                ..Limits::default()
            },
            "Rate limit exceeded",
        ),
        (
            Limits {
                token_budget: Some((250, Period::Day)),
                ..Limits::default()
            },
            "Budget exhausted",
        ),
        (
            Limits {
                token_budget: Some((250, Period::Month)),
                ..Limits::default()
            },
            "Budget exhausted",
        ),
    ] {
        let key = limited(&router, limits);
        // 100 tokens each: two fit, and a third is let in for its 15 estimated ones.
        for _ in 0..3 {
            assert_eq!(ask(&router, &key).status, 200, "{error}");
        }
        let reply = ask(&router, &key);
        assert_eq!(
            (reply.status, reply.json()["error"].as_str()),
            (429, Some(error))
        );
        assert!(reply.field("retry-after").is_some());
    }
    // Errors of the provider's cost nothing.
    let failing = Provider::answering(json(500, "{}"));
    let router = Router::start(&failing);
    let key = limited(
        &router,
        Limits {
            tokens_per_minute: Some(20),
            ..Limits::default()
        },
    );
    for _ in 0..5 {
        assert_eq!(ask(&router, &key).status, 500);
    }
}

#[test]
fn guessing_keys_is_braked_and_costs_nobody_else() {
    let provider = Provider::answering(json(200, USED));
    let setup = Setup::all(&provider).workers(2);
    let router = setup.toml("limits.auth_failures = 5").start();
    for _ in 0..5 {
        assert_eq!(ask(&router, "mk_guess").status, 401);
    }
    // From here on it costs the connection, whichever core it is on.
    for _ in 0..10 {
        let reply = ask(&router, "mk_guess");
        assert_eq!(reply.status, 429);
        assert_eq!(reply.field("connection"), Some("close"));
        let after: u64 = reply.field("retry-after").unwrap().parse().unwrap();
        assert!((1..=12).contains(&after), "{after}");
        assert_eq!(reply.json()["error"], "Too many invalid memory keys");
    }
    // The same address with a good key, and without any, is told as ever.
    assert_eq!(ask(&router, &router.key).status, 200);
    assert_eq!(
        router
            .connect()
            .exchange(request("POST", CHAT, &[], BODY))
            .status,
        401
    );
    assert_eq!(provider.count(), 1);
}

#[test]
fn requests_at_once_are_counted_while_they_run() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        waits.pass();
        wire.send(json(200, "{}"));
        Then::Keep
    });
    let router = Setup::all(&provider).workers(2).start();
    let key = limited(
        &router,
        Limits {
            concurrent: Some(2),
            ..Limits::default()
        },
    );
    let bytes = request("POST", CHAT, &[("x-api-key", &key)], BODY);
    let mut busy: Vec<_> = (0..2).map(|_| router.connect()).collect();
    for (count, caller) in busy.iter_mut().enumerate() {
        caller.send(&bytes);
        provider.wait_for(count + 1);
    }
    assert_eq!(ask(&router, &key).status, 429);
    // One leaves before its answer: its place is free again while the other goes on.
    drop(busy.pop());
    let mut third = router.connect();
    crate::support::eventually("a free place", || {
        let before = provider.count();
        third.send(&bytes);
        thread::sleep(std::time::Duration::from_millis(50));
        provider.count() > before || {
            third = router.connect();
            false
        }
    });
    for _ in 0..50 {
        gate.open();
    }
    assert_eq!(busy[0].reply().status, 200);
    assert_eq!(third.reply().status, 200);
    // An answer's last byte is with its caller a moment before its place is free for another connection.
    crate::support::eventually("all places free", || ask(&router, &key).status == 200);
}
