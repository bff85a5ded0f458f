//! Several keys, several addresses, several providers: what is tried, in which order, and what the caller gets.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::support::{Gate, Provider, Router, Setup, Then, contains, json};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

/// Answers by the key that comes: `sk-STATUS-…` gets that status.
fn by_key() -> Provider {
    Provider::start(|request, wire| {
        let key = request
            .fields
            .get("authorization")
            .or(request.fields.get("x-api-key"))
            .unwrap();
        let status = key.split('-').nth(1).unwrap().parse().unwrap();
        wire.send(json(status, &format!(r#"{{"paid":"{key}"}}"#)));
        Then::Keep
    })
}

fn keys(provider: &Provider, keys: &[&str]) -> Router {
    let mut setup = Setup::all(provider).without_stored();
    for key in keys {
        setup = setup.stored("openai", key);
    }
    setup.start()
}

#[test]
fn stored_keys_are_used_in_turn() {
    let provider = by_key();
    let router = keys(&provider, &["sk-200-a", "sk-200-b", "sk-200-c"]);
    for _ in 0..9 {
        assert_eq!(router.post(CHAT, BODY).status, 200);
    }
    for key in ["a", "b", "c"] {
        let key = format!("Bearer sk-200-{key}");
        let used = provider
            .received()
            .iter()
            .filter(|r| r.fields.get("authorization") == Some(&key))
            .count();
        assert_eq!(used, 3, "{key}");
    }
}

#[test]
fn a_key_that_is_refused_gives_way_to_the_next() {
    for status in [401, 403, 429, 500, 502, 503, 529] {
        let provider = by_key();
        let bad = format!("sk-{status}-bad");
        let router = keys(&provider, &[&bad, "sk-200-good"]);
        for _ in 0..4 {
            let reply = router.post(CHAT, BODY);
            assert_eq!(
                (reply.status, reply.text()),
                (200, r#"{"paid":"Bearer sk-200-good"}"#),
                "{status}"
            );
        }
        assert!(provider.count() > 4, "{status}: the bad key was tried");
    }
    for status in [400, 404, 413, 422] {
        let provider = by_key();
        let key = format!("sk-{status}-x");
        let router = keys(&provider, &[&key, &key]);
        assert_eq!(router.post(CHAT, BODY).status, status);
        assert_eq!(
            provider.count(),
            1,
            "{status} is the caller's fault, whatever the key"
        );
    }
}

#[test]
fn attempts_are_bounded_and_the_last_answer_comes_as_it_came() {
    let provider = by_key();
    let all = ["sk-500-a", "sk-429-b", "sk-503-c", "sk-401-d", "sk-200-e"];
    let mut setup = Setup::all(&provider)
        .without_stored()
        .toml("routing.attempts = 3");
    for key in all {
        setup = setup.stored("openai", key);
    }
    let router = setup.start();
    let reply = router.post(CHAT, BODY);
    let first: Vec<String> = provider
        .received()
        .iter()
        .map(|r| r.fields.get("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(first.len(), 3);
    assert_eq!(reply.text(), format!(r#"{{"paid":"{}"}}"#, first[2]));
    assert_eq!(reply.fields.get("content-type"), Some("application/json"));
}

#[test]
fn a_large_refusal_that_is_held_can_still_be_given() {
    // Larger than any buffer, so it is still under way while the next key is tried.
    let large = format!(r#"{{"error":"{}"}}"#, "x".repeat(3 << 20));
    let answer = json(429, &large);
    let provider = Provider::start(move |request, wire| {
        match request
            .fields
            .get("authorization")
            .unwrap()
            .contains("large")
        {
            true => wire.send(&answer),
            false => return Then::Close,
        };
        Then::Keep
    });
    let router = keys(&provider, &["large", "closing"]);
    for _ in 0..2 {
        let reply = router.post(CHAT, BODY);
        // Whichever key's turn was first: an answer is better than none.
        assert!(
            reply.status == 429 && reply.body == large.as_bytes() || reply.status == 502,
            "{}",
            reply.status
        );
    }
}

#[test]
fn a_refusal_that_came_before_the_body_was_read_is_an_answer_too() {
    let gate = Gate::default();
    let hold = gate.clone();
    // A plain listener: reads the head only, and refuses.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.read_exact(&mut [0; 2000]).unwrap();
        let answer = json(429, r#"{"error":"slow down"}"#);
        socket.write_all(&answer).unwrap();
        // Nothing is read on: all of it cannot have been sent.
        hold.pass();
    });
    let router = Setup::new()
        .without_stored()
        .provider("openai", &format!("http://{addr}/v1"))
        .provider("groq", "http://127.0.0.1:9/v1")
        .stored("openai", "sk-one")
        .stored("groq", "sk-two")
        .toml("routing.fallback = [\"groq\"]")
        .start();
    let large = BODY.replace("[]", &format!("[\"{}\"]", "x".repeat(8 << 20)));
    let reply = router.post(CHAT, large);
    assert_eq!(
        (reply.status, reply.text()),
        (429, r#"{"error":"slow down"}"#)
    );
    gate.open();
    serve.join().unwrap();
}

#[test]
fn fallback_providers_get_their_own_keys_and_the_same_body() {
    let first = by_key();
    let second = by_key();
    let setup = |toml: &str| {
        Setup::new()
            .without_stored()
            .provider("openai", &first.url("/v1"))
            .provider("groq", &second.url("/v1"))
            .provider("anthropic", &second.url(""))
            .stored("openai", "sk-500-one")
            .stored("groq", "sk-200-two")
            .toml(toml)
            .start()
    };
    let router = setup("routing.fallback = [\"groq\"]");
    let reply = router.post(
        CHAT,
        r#"{"model":"openai/gpt-4o","messages":[],"session_id":"s"}"#,
    );
    assert_eq!(
        (reply.status, reply.text()),
        (200, r#"{"paid":"Bearer sk-200-two"}"#)
    );
    assert_eq!(second.last().text(), r#"{"model":"gpt-4o","messages":[]}"#);
    assert!(
        !contains(&second.all_bytes(), b"sk-500-one"),
        "a key goes to its own provider only"
    );
    // A passed-through key pays the named provider alone.
    let before = second.count();
    let reply = router.post_with(CHAT, &[("X-Provider-Key", "sk-503-mine")], BODY);
    assert_eq!((reply.status, second.count()), (503, before));
    assert!(!contains(&second.all_bytes(), b"sk-503-mine"));
    // Even where that one takes no key.
    let keyless = by_key_or_none();
    let router = Setup::new()
        .without_stored()
        .provider("ollama", &keyless.url("/v1"))
        .provider("groq", &second.url("/v1"))
        .stored("groq", "sk-200-two")
        .toml("routing.fallback = [\"groq\"]")
        .start();
    let body = BODY.replace("gpt-4o", "ollama/llama3");
    let reply = router.post_with(CHAT, &[("X-Provider-Key", "sk-200-mine")], &body);
    assert_eq!((reply.status, second.count()), (503, before));
    assert_eq!(router.post(CHAT, &body).status, 200, "with no key passed");
    assert!(!contains(&second.all_bytes(), b"sk-200-mine"));
    let before = second.count();
    // One without a key, or of another dialect, is passed over.
    let router = setup("routing.fallback = [\"mistral\", \"anthropic\"]");
    let reply = router.post(CHAT, BODY);
    assert_eq!(
        (reply.status, reply.text()),
        (500, r#"{"paid":"Bearer sk-500-one"}"#)
    );
    assert_eq!(second.count(), before);
    // Unreachable counts too.
    drop(first);
    let router = setup_dead(&second);
    assert_eq!(
        router.post(CHAT, BODY).text(),
        r#"{"paid":"Bearer sk-200-two"}"#
    );
}

/// Refuses whatever comes without a key.
fn by_key_or_none() -> Provider {
    Provider::start(|request, wire| {
        assert!(request.fields.get("authorization").is_none());
        wire.send(json(503, "{}"));
        Then::Keep
    })
}

fn setup_dead(second: &Provider) -> Router {
    Setup::new()
        .without_stored()
        .provider("openai", "http://127.0.0.1:9/v1")
        .provider("groq", &second.url("/v1"))
        .stored("openai", "sk-200-one")
        .stored("groq", "sk-200-two")
        .toml("routing.fallback = [\"groq\"]")
        .start()
}

#[test]
fn several_addresses_share_the_work_and_stand_in_for_each_other() {
    let (one, two) = (Provider::plain(), Provider::plain());
    let urls = format!(
        "providers.openai.base_url = [\"{}\", \"{}\"]",
        one.url("/a/v1"),
        two.url("/b/v1")
    );
    let router = Setup::new().toml(&urls).start();
    for _ in 0..10 {
        assert_eq!(router.post(CHAT, BODY).status, 200);
    }
    assert_eq!((one.count(), two.count()), (5, 5));
    assert_eq!(
        (one.last().target.as_str(), two.last().target.as_str()),
        ("/a/v1/chat/completions", "/b/v1/chat/completions")
    );
    let dead = one.addr;
    drop(one);
    let urls = format!(
        "providers.openai.base_url = [\"http://{dead}/v1\", \"{}\"]",
        two.url("/b/v1")
    );
    let router = Setup::new().toml(&urls).start();
    for _ in 0..4 {
        assert_eq!(router.post(CHAT, BODY).status, 200);
    }
    assert_eq!(two.count(), 9);
}

#[test]
fn another_address_stands_in_for_one_that_ends_its_kept_connections() {
    let one = Provider::start(|request, wire| {
        if request.fields.get("x-die").is_some() {
            return Then::Close;
        }
        wire.send(json(200, "{}"));
        Then::Keep
    });
    let two = Provider::plain();
    let urls = format!(
        "providers.openai.base_url = [\"{}\", \"{}\"]",
        one.url("/v1"),
        two.url("/v1")
    );
    let router = Setup::new().toml(&urls).start();
    for _ in 0..2 {
        assert_eq!(router.post(CHAT, BODY).status, 200);
    }
    one.refuse_new();
    let reply = router.post_with(CHAT, &[("X-Die", "1")], BODY);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!((one.count(), two.count()), (2, 2));
    assert_eq!(one.last().body, two.last().body);
}

#[test]
fn keys_of_a_provider_that_does_not_answer_are_no_tries() {
    // A provider that is away, and one that closes without a word.
    let closing = Provider::start(|_, _| Then::Close);
    for first in ["http://127.0.0.1:9/v1".to_owned(), closing.url("/v1")] {
        for (keys, attempts, status) in [(2, 2, 200), (3, 3, 200), (5, 2, 200), (5, 1, 502)] {
            let second = by_key();
            let mut setup = Setup::new()
                .without_stored()
                .provider("openai", &first)
                .provider("groq", &second.url("/v1"))
                .stored("groq", "sk-200-two")
                .toml(&format!(
                    "routing.fallback = [\"groq\"]\nrouting.attempts = {attempts}"
                ));
            for key in 0..keys {
                setup = setup.stored("openai", &format!("sk-200-{key}"));
            }
            let router = setup.start();
            let reply = router.post(CHAT, BODY);
            let seen = format!("{first}: {keys} keys, {attempts} attempts");
            assert_eq!(reply.status, status, "{seen}");
            assert_eq!(second.count(), usize::from(status == 200), "{seen}");
        }
    }
    // The last try's answer is the caller's, whatever is left behind it.
    let second = by_key();
    let router = Setup::new()
        .without_stored()
        .provider("openai", "http://127.0.0.1:9/v1")
        .provider("groq", &second.url("/v1"))
        .stored("openai", "sk-200-one")
        .stored("openai", "sk-200-two")
        .stored("groq", "sk-500-a")
        .stored("groq", "sk-500-b")
        .toml("routing.fallback = [\"groq\"]\nrouting.attempts = 2")
        .start();
    assert_eq!(router.post(CHAT, BODY).status, 500);
    assert_eq!(second.count(), 1);
}
