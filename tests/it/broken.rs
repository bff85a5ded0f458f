//! Providers that break off, stall or send nonsense: the caller sees it for what it is.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Gate, PATIENCE, Provider, Router, Setup, Then, json};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;
const SSE: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A provider that sends `bytes` and then ends its connection.
fn dying(bytes: &str, reset: bool) -> Provider {
    let bytes = bytes.to_owned();
    Provider::start(move |_, wire| {
        wire.send(&bytes);
        if reset {
            // What was sent must be read before the reset overtakes it.
            thread::sleep(Duration::from_millis(20));
            Then::Reset
        } else {
            Then::Close
        }
    })
}

#[test]
fn a_provider_that_dies_before_its_answer_is_a_502() {
    let partial = [
        "",
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ];
    for bytes in partial {
        for reset in [false, true] {
            let provider = dying(bytes, reset);
            let reply = Router::start(&provider).post(CHAT, BODY);
            assert_eq!(reply.status, 502, "{bytes:?}");
            assert_eq!(
                reply.text(),
                r#"{"error": "Failed to reach provider: openai"}"#
            );
            assert_eq!(
                provider.count(),
                1,
                "a POST is not repeated on a new connection"
            );
        }
    }
}

#[test]
fn a_provider_that_dies_in_its_answer_leaves_an_incomplete_one() {
    let event = "10\r\ndata: {\"a\":\"b\"}\n\r\n1\r\n\n\r\n";
    let streams = [
        SSE.to_owned(),
        format!("{SSE}1"),
        format!("{SSE}10\r\n"),
        format!("{SSE}10\r\ndata: {{\"a"),
        format!("{SSE}10\r\ndata: {{\"a\":\"b\"}}\n"),
        format!("{SSE}{event}"),
        format!("{SSE}{event}0\r\n"),
        format!("{SSE}{event}0\r\nX-Trailer: "),
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123456789".into(),
    ];
    for bytes in streams {
        for reset in [false, true] {
            let provider = dying(&bytes, reset);
            let router = Router::start(&provider);
            let mut caller = router.connect();
            caller.send(router.request(CHAT, &[], BODY));
            let reply = caller.reply();
            assert_eq!((reply.status, reply.complete), (200, false), "{bytes:?}");
            assert!(!reply.raw_body.ends_with(b"0\r\n\r\n"), "{bytes:?}");
            let sent = bytes.split_once("\r\n\r\n").unwrap().1;
            assert!(
                sent.as_bytes().starts_with(&reply.raw_body),
                "{bytes:?}: {:?}",
                reply.raw_body
            );
            if !reset {
                assert_eq!(reply.raw_body, sent.as_bytes(), "all that came is relayed");
            }
            assert_eq!(caller.rest(), b"");
        }
    }
}

#[test]
fn malformed_answers_are_502_and_their_connection_is_not_used_again() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "{}\r\n\r\n",
    ];
    for answer in answers {
        let provider = Provider::answering(answer);
        let router = Router::start(&provider);
        let reply = router.post(CHAT, BODY);
        assert_eq!(reply.status, 502, "{answer:?}: {reply:?}");
        assert_eq!(
            reply.text(),
            r#"{"error": "Failed to reach provider: openai"}"#
        );
        assert_eq!(router.post(CHAT, BODY).status, 502);
        assert_eq!(provider.accepted(), 2, "{answer:?}");
    }
    let flood = format!(
        "HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\n{{}}",
        "X-Flood: 1\r\n".repeat(10_000)
    );
    assert_eq!(
        Router::start(&Provider::answering(flood))
            .post(CHAT, BODY)
            .status,
        502
    );
    for (interim, status) in [(100, 200), (2000, 502)] {
        let chain = format!(
            "{}{}",
            "HTTP/1.1 102 Processing\r\n\r\n".repeat(interim),
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        );
        assert_eq!(
            Router::start(&Provider::answering(chain))
                .post(CHAT, BODY)
                .status,
            status
        );
    }
    let chunks = Provider::answering(format!("{SSE}zz\r\n"));
    let reply = Router::start(&chunks).post(CHAT, BODY);
    assert!(reply.status == 502 || !reply.complete, "{reply:?}");
}

#[test]
fn each_timeout_is_its_own() {
    let silent = Provider::start(|_, wire| {
        wire.closed_after();
        Then::Close
    });
    let router = Setup::all(&silent)
        .toml("timeouts.first_byte = \"300ms\"")
        .start();
    let reply = router.post(CHAT, BODY);
    assert_eq!(reply.status, 504);
    assert_eq!(
        reply.text(),
        r#"{"error": "Provider timed out: openai", "hint": "No answer began in time (timeouts.first_byte)"}"#
    );

    // The second one would end with its connection, which the router closes.
    let until_close = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nhello";
    for begun in [format!("{SSE}5\r\nhello\r\n"), until_close.to_owned()] {
        let stalls = Provider::start(move |_, wire| {
            wire.send(&begun);
            wire.closed_after();
            Then::Close
        });
        let router = Setup::all(&stalls)
            .toml("timeouts.stream_idle = \"300ms\"")
            .start();
        let reply = router.post(CHAT, BODY);
        assert_eq!(
            (reply.status, reply.text(), reply.complete),
            (200, "hello", false)
        );
    }

    // A listener whose queue is full answers no SYN.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(
        &"127.0.0.1:0"
            .parse::<std::net::SocketAddr>()
            .unwrap()
            .into(),
    )
    .unwrap();
    full.listen(0).unwrap();
    let addr = full.local_addr().unwrap().as_socket().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(1)).ok();
    // As many as its queue holds.
    let _fill: Vec<_> = std::iter::from_fn(connect).collect();
    let setup = Setup::new().provider("openai", &format!("http://{addr}/v1"));
    let router = setup.toml("timeouts.connect = \"300ms\"").start();
    let reply = router.post(CHAT, BODY);
    assert_eq!(reply.status, 504, "{reply:?}");
    assert_eq!(
        reply.text(),
        r#"{"error": "Provider timed out: openai", "hint": "Connecting took too long (timeouts.connect)"}"#
    );
}

#[test]
fn slow_callers_are_let_go() {
    let provider = Provider::plain();
    let toml = "timeouts.head = \"1500ms\"\ntimeouts.body_idle = \"1500ms\"\ntimeouts.keepalive = \"1500ms\"";
    let router = Setup::all(&provider).toml(toml).start();
    let request = router.request(CHAT, &[], BODY);
    let mut idle = router.connect();
    assert_eq!(idle.exchange(&request).status, 200);
    let mut in_head = router.connect();
    in_head.send("POST /v1/chat/completions HTTP/1.1\r\nHost:");
    let mut in_body = router.connect();
    in_body.send(&request[..request.len() - 5]);
    let mut never = router.connect();
    for caller in [&mut idle, &mut in_head, &mut in_body, &mut never] {
        assert_eq!(caller.rest(), b"");
    }
    assert_eq!(provider.count(), 1);
    // A slow caller that keeps sending is none that stalls.
    let mut slow = router.connect();
    let (head, body) = request.split_at(request.len() - BODY.len());
    slow.send(head);
    // Longer in all than any of the limits.
    for piece in body.chunks(2) {
        slow.send(piece);
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(slow.reply().status, 200);
}

#[test]
fn a_caller_that_does_not_read_is_let_go_and_the_provider_with_it() {
    let provider = Provider::start(|_, wire| {
        wire.send(SSE);
        let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        let started = Instant::now();
        while wire.send(&piece) {
            assert!(
                started.elapsed() < PATIENCE,
                "sent without end to a caller that reads nothing"
            );
        }
        Then::Close
    });
    let router = Setup::all(&provider)
        .toml("timeouts.stream_idle = \"500ms\"")
        .start();
    let mut caller = router.connect();
    caller.send(router.request(CHAT, &[], BODY));
    crate::support::eventually("the provider let go", || {
        provider.accepted() == 1 && provider.open() == 0
    });
    drop(caller);
}

#[test]
fn the_provider_is_let_go_when_the_caller_leaves() {
    let took = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let record = took.clone();
    let provider = Provider::start(move |request, wire| {
        match request.fields.get("x-when").unwrap() {
            "before" => {}
            "stream" => _ = wire.send(format!("{SSE}5\r\nhello\r\n")),
            "plain" => _ = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello"),
            other => panic!("{other}"),
        }
        wire.closed_after();
        record.lock().unwrap().push(Instant::now());
        Then::Close
    });
    let router = Router::start(&provider);
    for (count, (when, reset)) in ["before", "stream", "plain"]
        .into_iter()
        .flat_map(|when| [(when, false), (when, true)])
        .enumerate()
    {
        let mut caller = router.connect();
        caller.send(router.request(CHAT, &[("X-When", when)], BODY));
        provider.wait_for(count + 1);
        if when != "before" {
            assert_eq!(caller.head().unwrap().status, 200);
        }
        // Long enough that the router waits for the provider in peace.
        thread::sleep(Duration::from_millis(20));
        let left = Instant::now();
        if reset {
            caller.reset();
        } else {
            drop(caller);
        }
        crate::support::eventually("upstream closed", || {
            took.lock().unwrap().len() == count + 1
        });
        let closed = took.lock().unwrap()[count];
        println!(
            "caller leaves {when}: upstream closed after {:?}",
            closed.duration_since(left)
        );
    }
}

#[test]
fn the_provider_is_let_go_when_a_caller_leaves_that_has_stopped_reading() {
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send(SSE);
        let piece = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while wire.send(&piece) {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        Then::Close
    });
    let router = Router::start(&provider);
    for (number, leave) in ["half-closes", "closes", "resets"].into_iter().enumerate() {
        let mut caller = router.connect();
        caller.send(router.request(CHAT, &[], BODY));
        // Until both sockets are full and the router waits for the caller.
        let mut before = 0;
        crate::support::eventually("the router waits", || {
            thread::sleep(Duration::from_millis(300));
            let now = sent.load(std::sync::atomic::Ordering::SeqCst);
            std::mem::replace(&mut before, now) == now && provider.accepted() == number + 1
        });
        assert_eq!(provider.open(), 1, "{leave}");
        let held = match leave {
            "half-closes" => {
                caller.half_close();
                Some(caller)
            }
            "closes" => {
                drop(caller);
                None
            }
            _ => {
                caller.reset();
                None
            }
        };
        crate::support::eventually(leave, || provider.open() == 0);
        drop(held);
    }
}

#[test]
fn an_error_inside_a_stream_is_relayed() {
    let stream = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let provider = Provider::answering(format!("{SSE}{:x}\r\n{stream}\r\n0\r\n\r\n", stream.len()));
    let reply = Router::start(&provider).post(
        "/v1/messages",
        r#"{"model":"claude-x","messages":[],"stream":true}"#,
    );
    assert_eq!(
        (reply.status, reply.text(), reply.complete),
        (200, stream, true)
    );
}

#[test]
fn a_provider_that_answers_before_it_has_read_everything() {
    let provider = Provider::start(|_, _| Then::Keep);
    drop(provider);
    // A plain listener: reads the head only, answers, and closes.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serve = thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut socket, _) = listener.accept().unwrap();
        let mut some = [0; 2000];
        socket.read_exact(&mut some).unwrap();
        socket
            .write_all(&json(413, r#"{"error":"too much"}"#))
            .unwrap();
        // Reads on a while, as a server does that wants its answer to arrive.
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut rest = vec![0; 1 << 16];
        while socket.read(&mut rest).is_ok_and(|read| read > 0) {}
    });
    let router = Setup::new()
        .provider("openai", &format!("http://{addr}/v1"))
        .start();
    let body = format!(
        r#"{{"model":"gpt-4o","messages":["{}"]}}"#,
        "x".repeat(8 << 20)
    );
    let reply = router.post(CHAT, body);
    assert_eq!(
        (reply.status, reply.text()),
        (413, r#"{"error":"too much"}"#)
    );
    drop(router);
    serve.join().unwrap();
}

#[test]
fn an_answer_without_a_length_whose_provider_vanishes_is_no_whole_one() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let gate = Gate::default();
    let waits = gate.clone();
    let serve = thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut socket, _) = listener.accept().unwrap();
        socket.read_exact(&mut [0; 2000]).unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").unwrap();
        // BPF: no byte of any packet. What is still sent to it finds nobody.
        let nothing = [socket2::SockFilter::new(0x06, 0, 0, 0)];
        socket2::SockRef::from(&socket)
            .attach_filter(&nothing)
            .unwrap();
        // With room for more, the other side would go on sending.
        let mut room = vec![0; 1 << 20];
        socket.set_nonblocking(true).unwrap();
        while socket.read(&mut room).is_ok_and(|read| read > 0) {}
        waits.pass();
    });
    let router = Setup::new()
        .provider("openai", &format!("http://{addr}/v1"))
        .toml("timeouts.unacknowledged = \"1s\"")
        .start();
    let body = format!(
        r#"{{"model":"gpt-4o","messages":["{}"]}}"#,
        "x".repeat(30 << 20)
    );
    let reply = router.post(CHAT, body);
    assert_eq!(
        (reply.status, reply.text(), reply.complete),
        (200, "half", false)
    );
    gate.open();
    serve.join().unwrap();
}
