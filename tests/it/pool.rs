//! Connections to providers are used again, but never one that could answer wrongly.

use std::thread;
use std::time::Duration;

use crate::support::{Gate, Provider, Router, Setup, Then, eventually, json};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

#[test]
fn one_connection_serves_one_request_after_another() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    for _ in 0..50 {
        assert_eq!(router.post(CHAT, BODY).status, 200);
    }
    assert_eq!(provider.accepted(), 1);
}

#[test]
fn idle_connections_that_the_provider_ends_cost_no_request() {
    for reset in [false, true] {
        let provider = Provider::plain();
        let router = Router::start(&provider);
        for round in 1..=20 {
            assert_eq!(router.post(CHAT, BODY).status, 200, "round {round}");
            provider.close_all(reset);
            if round % 2 == 0 {
                // Noticed before the next request, or met by it.
                thread::sleep(Duration::from_millis(5));
            }
        }
        assert_eq!(provider.count(), 20, "each request arrived once");
    }
}

#[test]
fn a_connection_that_dies_silently_is_tried_once_more_if_no_byte_came() {
    // The second request over a connection meets a provider that closes without a word.
    let provider = Provider::start(|request, wire| {
        if request.fields.get("x-die").is_some() && request.connection == 0 {
            return Then::Close;
        }
        wire.send(json(200, "{}"));
        Then::Keep
    });
    let router = Router::start(&provider);
    assert_eq!(router.post(CHAT, BODY).status, 200);
    assert_eq!(router.post_with(CHAT, &[("X-Die", "1")], BODY).status, 200);
    assert_eq!((provider.accepted(), provider.count()), (2, 3));
    assert_eq!(
        provider.received()[1].raw,
        provider.received()[2].raw,
        "the same bytes again"
    );
}

#[test]
fn a_machine_that_vanished_is_noticed_in_time_and_cost_no_request() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .toml("timeouts.unacknowledged = \"1s\"")
        .start();
    assert_eq!(router.post(CHAT, BODY).status, 200);
    provider.vanish();
    assert_eq!(router.post(CHAT, BODY).status, 200);
    assert_eq!((provider.accepted(), provider.count()), (2, 2));
}

#[test]
fn what_a_provider_may_have_worked_on_is_not_sent_again() {
    let provider = Provider::start(|request, wire| {
        if request.fields.get("x-die").is_some() {
            // Longer than any sign of an end that came before the request.
            thread::sleep(Duration::from_millis(1500));
            return Then::Close;
        }
        wire.send(json(200, "{}"));
        Then::Keep
    });
    let router = Router::start(&provider);
    assert_eq!(router.post(CHAT, BODY).status, 200);
    assert_eq!(router.post_with(CHAT, &[("X-Die", "1")], BODY).status, 502);
    assert_eq!((provider.accepted(), provider.count()), (1, 2));
}

#[test]
fn nothing_is_repeated_once_a_byte_of_the_answer_came() {
    let provider = Provider::start(|request, wire| {
        if request.fields.get("x-die").is_some() {
            wire.send("H");
            return Then::Close;
        }
        wire.send(json(200, "{}"));
        Then::Keep
    });
    let router = Router::start(&provider);
    assert_eq!(router.post(CHAT, BODY).status, 200);
    assert_eq!(router.post_with(CHAT, &[("X-Die", "1")], BODY).status, 502);
    assert_eq!(provider.count(), 2);
}

#[test]
fn a_connection_is_given_back_only_after_a_clean_exchange() {
    #[rustfmt::skip] // A table reads by rows.
    let unclean = [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}x",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
    ];
    for answer in unclean {
        let provider = Provider::answering(answer);
        let router = Router::start(&provider);
        let mut caller = router.connect();
        for _ in 0..3 {
            let reply = caller.exchange(router.request(CHAT, &[], BODY));
            assert_eq!((reply.status, reply.text()), (200, "{}"), "{answer:?}");
        }
        assert_eq!(provider.accepted(), 3, "{answer:?}");
    }
    // Bytes that come while the connection is idle answer nothing.
    let [idle, there] = [Gate::default(), Gate::default()];
    let (waits, tells) = (idle.clone(), there.clone());
    let provider = Provider::start(move |_, wire| {
        wire.send(json(200, "{}"));
        waits.pass();
        wire.send(json(200, "\"EVIL\""));
        wire.acknowledged();
        tells.open();
        Then::Keep
    });
    let router = Router::start(&provider);
    for _ in 0..3 {
        assert_eq!(router.post(CHAT, BODY).text(), "{}");
        idle.open();
        there.pass();
    }
    assert_eq!(provider.accepted(), 3);
}

#[test]
fn idle_connections_end_after_their_time_and_beyond_their_number() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        waits.pass();
        wire.send(json(200, "{}"));
        Then::Keep
    });
    let toml = "limits.upstream_idle = 3\ntimeouts.upstream_idle = \"3s\"";
    let router = Setup::all(&provider).toml(toml).start();
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(router.post(CHAT, BODY).status, 200));
        }
        provider.wait_for(10);
        (0..10).for_each(|_| gate.open());
    });
    assert_eq!(provider.accepted(), 10);
    eventually("the surplus closed", || provider.open() == 3);
    eventually("the idle closed", || provider.open() == 0);
    gate.open();
    assert_eq!(router.post(CHAT, BODY).status, 200);
}

#[test]
fn idle_connections_of_before_a_reload_end_after_their_time_too() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |request, wire| {
        if request.fields.get("x-wait").is_some() {
            waits.pass();
        }
        wire.send(json(200, "{}"));
        Then::Keep
    });
    let router = Setup::all(&provider)
        .toml("timeouts.upstream_idle = \"3s\"")
        .start();
    let mut waiting = router.connect();
    waiting.send(router.request(CHAT, &[("X-Wait", "1")], BODY));
    provider.wait_for(1);
    assert_eq!(router.post(CHAT, BODY).status, 200);
    assert_eq!(provider.open(), 2);
    router.reload().unwrap();
    eventually("the idle one ends", || provider.open() == 1);
    gate.open();
    assert_eq!(waiting.reply().status, 200);
}

#[test]
fn an_interim_answer_is_a_byte_of_one() {
    let provider = Provider::start(|request, wire| {
        if request.fields.get("x-die").is_some() {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
            return Then::Close;
        }
        wire.send(json(200, "{}"));
        Then::Keep
    });
    let router = Router::start(&provider);
    assert_eq!(router.post(CHAT, BODY).status, 200);
    assert_eq!(router.post_with(CHAT, &[("X-Die", "1")], BODY).status, 502);
    assert_eq!(provider.count(), 2);
}
