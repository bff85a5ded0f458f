//! Bodies up to the limit pass, codings come off under it, and what is over it is told so early.

use std::io::Write;
use std::process::Stdio;

use memoryrouter::keys::{Limits, NewKey};

use crate::support::program::{Home, Served, command};
use crate::support::{Gate, Provider, Router, Setup, Then, contains, eventually, json, request};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn thirty_mebibytes_pass_by_default() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let body = format!(
        r#"{{"messages":["{}"],"model":"openai/gpt-4o"}}"#,
        "y".repeat(30 << 20)
    );
    assert_eq!(router.post(CHAT, &body).status, 200);
    assert!(provider.last().body == body.replace("openai/", "").as_bytes());
}

#[test]
fn as_many_fields_pass_as_the_configuration_allows() {
    let provider = Provider::plain();
    let router = Setup::all(&provider).toml("limits.headers = 1000").start();
    // Beside Host, Authorization, Content-Type and Content-Length.
    for (fields, status) in [(996, 200), (997, 431)] {
        let many = vec![("X-Many", "1"); fields];
        assert_eq!(
            router.post_with(CHAT, &many, BODY).status,
            status,
            "{fields}"
        );
    }
    assert_eq!(provider.only().fields.all("x-many").len(), 996);
}

#[test]
fn over_the_limit_is_told_from_the_head_alone() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let mut caller = router.connect();
    let head = |length: u64| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n",
            router.bearer()
        )
    };
    caller.send(head((32 << 20) + 1));
    let reply = caller.reply();
    assert_eq!(
        (reply.status, reply.field("connection")),
        (413, Some("close"))
    );
    assert_eq!(
        reply.json()["hint"],
        "At most 33554432 bytes (limits.body_bytes)"
    );
    assert_eq!(caller.rest(), b"");
    // At the limit it goes on.
    let mut caller = router.connect();
    caller.send(head(32 << 20));
    assert_eq!(caller.reply().status, 100);
    // Chunks are counted as they come.
    let router = Setup::all(&provider)
        .toml("limits.body_bytes = \"64KiB\"")
        .start();
    let mut caller = router.connect();
    caller.send(format!(
        "POST {CHAT} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        router.bearer()
    ));
    for _ in 0..17 {
        caller.send(format!("1000\r\n{}\r\n", " ".repeat(4096)));
    }
    assert_eq!(caller.reply().status, 413);
    assert_eq!(provider.count(), 0);
}

#[test]
fn an_expectation_is_met_or_refused() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let length = BODY.len().to_string();
    let mut caller = router.connect();
    let head = |extra: &str, key: &str| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nHost: a\r\nx-api-key: {key}\r\nContent-Length: {length}\r\n{extra}\r\n\r\n"
        )
    };
    caller.send(head("Expect: 100-continue", &router.key));
    assert_eq!(caller.reply().status, 100);
    assert_eq!(caller.exchange(BODY).status, 200);
    assert_eq!(provider.last().fields.get("expect"), None);
    // The body is already on its way: no interim answer.
    assert_eq!(
        caller
            .exchange(head("Expect: 100-Continue", &router.key) + BODY)
            .status,
        200
    );
    // There is no body to wait for.
    caller.send(format!(
        "POST {CHAT} HTTP/1.1\r\nHost: a\r\nx-api-key: {}\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
        router.key
    ));
    assert_eq!(caller.reply().status, 400);
    // Refused before the body is asked for.
    let mut caller = router.connect();
    caller.send(head("Expect: 100-continue", "mk_wrong"));
    assert_eq!(caller.reply().status, 401);
    assert_eq!(caller.rest(), b"");
    assert_eq!(
        router
            .connect()
            .exchange(head("Expect: something", &router.key))
            .status,
        417
    );
}

#[test]
fn compressed_bodies_are_decoded_and_sent_on_plain() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let plain = format!(
        r#"{{"messages":["{}"],"model":"openai/gpt-4o"}}"#,
        "zstd gzip br ".repeat(20_000)
    );
    let expected = plain.replace("openai/", "");
    let empty_brotli_window = [0x3b];
    for (coding, body) in [
        ("gzip", gzip(plain.as_bytes())),
        ("GZIP", gzip(plain.as_bytes())),
        ("x-gzip", gzip(plain.as_bytes())),
        ("zstd", zstd(plain.as_bytes())),
        ("gzip, zstd", zstd(&gzip(plain.as_bytes()))),
        ("identity", plain.clone().into_bytes()),
    ] {
        let reply = router.post_with(CHAT, &[("Content-Encoding", coding)], body);
        assert_eq!(reply.status, 200, "{coding}: {reply:?}");
        let request = provider.last();
        assert!(request.body == expected.as_bytes(), "{coding}");
        let label = request.fields.get("content-encoding");
        assert!(
            label.is_none() || label == Some("identity"),
            "{coding}: {label:?}"
        );
    }
    let before = provider.count();
    for (coding, body, status) in [
        ("gzip", b"not gzip".to_vec(), 400),
        ("zstd", b"not zstd".to_vec(), 400),
        ("br", empty_brotli_window.to_vec(), 400),
        ("gzip", gzip(plain.as_bytes())[..50].to_vec(), 400),
        (
            "gzip",
            [gzip(plain.as_bytes()), b"x".to_vec()].concat(),
            400,
        ),
        ("compress", plain.clone().into_bytes(), 415),
        ("gzip, nonsense", gzip(plain.as_bytes()), 415),
    ] {
        let reply = router.post_with(CHAT, &[("Content-Encoding", coding)], body);
        assert_eq!(reply.status, status, "{coding}: {reply:?}");
    }
    assert_eq!(provider.count(), before);
}

#[test]
fn a_bomb_is_refused_under_the_limit() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .toml("limits.body_bytes = \"1MiB\"")
        .start();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..256 {
        encoder.write_all(&[b' '; 1 << 20]).unwrap();
    }
    let gzip = encoder.finish().unwrap();
    // A zstd frame (RFC 8878 section 3.1.1) of 8,000 blocks that each say: 128 KiB of spaces.
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    for block in 0..8000u32 {
        let header = (0x20000 << 3) | (1 << 1) | u32::from(block == 7999);
        zstd.extend_from_slice(&header.to_le_bytes()[..3]);
        zstd.push(b' ');
    }
    for (coding, bomb) in [("gzip", gzip), ("zstd", zstd)] {
        assert!(bomb.len() < 1 << 19, "{coding}: {}", bomb.len());
        let reply = router.post_with(CHAT, &[("Content-Encoding", coding)], bomb);
        assert_eq!(reply.status, 413, "{coding}");
    }
    assert_eq!(provider.count(), 0);
}

#[test]
fn hostile_json_is_refused_at_once() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    for body in [
        "[".repeat(8 << 20),
        "{\"a\":".repeat(4 << 20),
        format!(r#"{{"model":"gpt-4o","messages":{}"#, "[".repeat(8 << 20)),
    ] {
        assert_eq!(router.post(CHAT, body).status, 400);
    }
    assert_eq!(provider.count(), 0);
}

#[test]
fn more_connections_than_allowed_are_told_to_come_again() {
    let provider = Provider::plain();
    let router = Setup::all(&provider).toml("limits.connections = 5").start();
    let mut held: Vec<_> = (0..5).map(|_| router.connect()).collect();
    for caller in &mut held {
        assert_eq!(caller.exchange(router.request(CHAT, &[], BODY)).status, 200);
    }
    let mut sixth = router.connect();
    let reply = sixth.reply();
    assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")));
    assert_eq!(reply.json()["error"], "Overloaded");
    assert_eq!(sixth.rest(), b"");
    drop(held);
    eventually("room again", || router.running().connections() == 0);
    assert_eq!(router.post(CHAT, BODY).status, 200);
}

#[test]
fn an_answer_in_a_coding_that_nobody_asked_for_is_relayed_untouched() {
    let body = gzip(br#"{"usage":{"prompt_tokens":1}}"#);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let provider = Provider::answering([head.as_bytes(), &body].concat());
    let reply = Router::start(&provider).post(CHAT, BODY);
    assert_eq!(
        (reply.field("content-encoding"), &reply.body),
        (Some("gzip"), &body)
    );
    assert!(contains(
        &provider.only().raw.to_ascii_lowercase(),
        b"accept-encoding: identity"
    ));
}

#[test]
fn more_requests_at_once_than_allowed_are_told_to_come_again() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        waits.pass();
        wire.send(json(200, "{}"));
        Then::Keep
    });
    let router = Setup::all(&provider).toml("limits.in_flight = 2").start();
    let mut busy: Vec<_> = (0..2).map(|_| router.connect()).collect();
    for (count, caller) in busy.iter_mut().enumerate() {
        caller.send(router.request(CHAT, &[], BODY));
        provider.wait_for(count + 1);
    }
    let reply = router.post(CHAT, BODY);
    assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")));
    assert_eq!(
        reply.json()["hint"],
        "Too many requests at once (limits.in_flight)"
    );
    // What needs no provider is answered all the same.
    assert_eq!(router.ask("GET", "/ready", &[]).status, 200);
    gate.open();
    gate.open();
    for caller in &mut busy {
        assert_eq!(caller.reply().status, 200);
    }
    gate.open();
    assert_eq!(router.post(CHAT, BODY).status, 200);
}

#[test]
fn running_out_of_descriptors_is_no_end() {
    let provider = Provider::plain();
    let (home, token) = Home::paying(&provider, "server.workers = 1\ntimeouts.head = \"1m\"");
    let mut shell = std::process::Command::new("/bin/bash");
    shell
        .args(["-c", "ulimit -n 100; exec \"$@\"", "bash"])
        .arg(command(&[]).get_program());
    shell
        .args(["serve", "--dir"])
        .arg(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let served = Served::start(&mut shell);
    assert!(
        served.log().contains("there are descriptors for fewer"),
        "{}",
        served.log()
    );
    let bytes = request("POST", CHAT, &[("x-api-key", &token)], BODY);
    // From here on somebody at least needs no new connection to the provider, and nobody a name.
    assert_eq!(served.connect().exchange(&bytes).status, 200);
    for _ in 0..3 {
        // More than there are descriptors for, and each of them busy.
        let mut callers: Vec<_> = (0..300).map(|_| served.connect()).collect();
        let mut statuses = std::collections::BTreeMap::new();
        for caller in &mut callers {
            caller.send(&bytes);
        }
        for caller in &mut callers {
            let status = caller.try_reply().map_or(0, |reply| reply.status);
            *statuses.entry(status).or_insert(0) += 1;
        }
        // Served or told so; a caller that is turned away before its request is read may see a reset.
        assert!(
            statuses.keys().all(|status| [0, 200, 503].contains(status)),
            "{statuses:?}"
        );
        assert!(statuses[&200] > 0 && statuses[&503] > 0, "{statuses:?}");
        drop(callers);
        // Most of the 25 that there is room for: the next round comes while the last of these are still closing.
        eventually("service again", || {
            let mut callers: Vec<_> = (0..15).map(|_| served.connect()).collect();
            for caller in &mut callers {
                caller.send(&bytes);
            }
            let mut replies = callers.iter_mut().map(|caller| caller.try_reply());
            replies.all(|reply| reply.is_some_and(|reply| reply.status == 200))
        });
    }
    let (code, log) = served.stop();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn a_name_that_cannot_be_looked_up_for_want_of_descriptors_is_not_unknown() {
    let provider = Provider::plain();
    let (home, token) = Home::paying(&provider, "");
    let served = home.serve();
    let limit = |descriptors: &str| {
        let mut prlimit = std::process::Command::new("prlimit");
        prlimit.arg(format!("--nofile={descriptors}:"));
        let done = prlimit.arg(format!("--pid={}", served.pid())).status();
        assert!(done.unwrap().success());
    };
    let bytes = request("POST", CHAT, &[("x-api-key", &token)], BODY);
    let mut caller = served.connect();
    let health = request("GET", "/health", &[], "");
    assert_eq!(caller.exchange(&health).status, 200);
    // Fewer than are open.
    limit("4");
    let reply = caller.exchange(&bytes);
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.json()["error"], "Overloaded");
    limit("1000");
    assert_eq!(served.connect().exchange(&bytes).status, 200);
    assert_eq!(served.stop().0, 0);
}

#[test]
fn a_body_that_does_not_decode_takes_nothing_of_the_next_request() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let key = router.mint(NewKey {
        manage_keys: true,
        ..NewKey::default()
    });
    let targets = [
        CHAT,
        "/v1/messages",
        "/v1beta/models/gemini-2.0-flash:generateContent",
        "/v1/memory/search",
        "/v1/memory/upload",
        "/v1/memory/prepare",
        "/v1/keys",
    ];
    let codings = ["gzip", "zstd", "br", "gzip, br", "compress"];
    let bodies = [
        "\r\n",
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 4\r\n\r\nnone",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ];
    for target in targets {
        for coding in codings {
            for body in bodies {
                let refused = format!(
                    "POST {target} HTTP/1.1\r\nHost: a\r\nx-api-key: {key}\r\nContent-Encoding: {coding}\r\n{body}"
                );
                let case = format!("{target} {coding} {body:?}");
                // An unknown coding is refused before a body is read, and one that is not read ends its connection.
                let read = coding != "compress" || !body.contains(['4', 'T']);
                let next = [
                    router.request(CHAT, &[], BODY),
                    request("GET", "/health", &[], ""),
                ];
                let mut glued = router.connect();
                glued.send([refused.as_bytes(), &next[0], &next[1]].concat());
                let mut apart = router.connect();
                apart.send(&refused);
                let replies = [glued.reply(), apart.reply()];
                apart.send(next.concat());
                for (mut caller, reply) in [glued, apart].into_iter().zip(replies) {
                    let status = if coding == "compress" { 415 } else { 400 };
                    assert_eq!(reply.status, status, "{case}");
                    if read {
                        assert_eq!(reply.field("connection"), None, "{case}");
                        assert_eq!((caller.reply().status, caller.reply().status), (200, 200));
                    } else {
                        assert_eq!(reply.field("connection"), Some("close"), "{case}");
                        assert_eq!(caller.rest(), b"", "{case}");
                    }
                }
            }
        }
    }
    for sent in provider.received() {
        assert_eq!(sent.text(), BODY);
    }
}

#[test]
fn a_caller_that_sends_all_before_it_reads_gets_its_refusal() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .toml("limits.body_bytes = \"12MiB\"")
        .start();
    let limited = router.mint(NewKey {
        limits: Limits {
            requests_per_minute: Some(1),
            ..Limits::default()
        },
        ..NewKey::default()
    });
    let send = |key: &str, target: &str, body: &str| {
        let mut caller = router.connect();
        let sent = caller.send(request("POST", target, &[("x-api-key", key)], body));
        (sent, caller)
    };
    assert_eq!(send(&limited, CHAT, BODY).1.reply().status, 200);
    // More than both sockets' buffers hold.
    let large = " ".repeat(12 << 20);
    let larger = " ".repeat(20 << 20);
    for (key, target, body, status) in [
        ("mk_wrong", CHAT, &large, 401),
        ("sk-none", CHAT, &large, 401),
        ("mk_wrong", "/v1/memory/upload", &large, 401),
        (&limited, CHAT, &large, 429),
        (&router.key, CHAT, &larger, 413),
        (&router.key, "/v1/memory/upload", &larger, 413),
        (&router.key, "/v1/none", &large, 404),
    ] {
        let (sent, mut caller) = send(key, target, body);
        assert!(sent, "{status}");
        let reply = caller.reply();
        assert_eq!((reply.status, reply.complete), (status, true));
        assert_eq!(reply.field("connection"), Some("close"));
        assert_eq!(caller.rest(), b"");
    }
    assert_eq!(provider.count(), 1);
}

#[test]
fn a_refused_body_without_end_is_not_read_for_ever() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .toml("limits.body_bytes = \"64KiB\"")
        .start();
    let mut caller = router.connect();
    caller.send("POST /v1/messages HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    // Far more than is read and both sockets' buffers hold.
    let sent = (0..64).take_while(|_| caller.send(&chunk)).count();
    assert!(sent < 64);
}
