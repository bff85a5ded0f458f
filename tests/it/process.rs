//! The router as a process: its log lines, its signals, and no secret anywhere.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::program::{Home, Served, command};
use crate::support::{CHAT as BODY, Provider, Then, eventually, json, request};

const CHAT: &str = "/v1/chat/completions";

/// The access lines of a JSON log.
fn access_lines(log: &str) -> Vec<serde_json::Value> {
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter(|line| line["target"] == "access").collect()
}

#[test]
fn one_line_a_request_with_both_ids_and_how_it_ended() {
    let provider = Provider::start(|request, wire| {
        let usage = r#"{"id":"c","usage":{"prompt_tokens":11,"completion_tokens":7,"cache_creation_input_tokens":5}}"#;
        let head = "HTTP/1.1 200 OK\r\nX-Request-Id: req_provider\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        match request.fields.get("x-case").unwrap() {
            "plain" => {
                let body = json(200, usage);
                let text = String::from_utf8(body).unwrap().replacen(
                    "\r\n",
                    "\r\nX-Request-Id: req_provider\r\n",
                    1,
                );
                wire.send(text);
            }
            "truncated" => {
                wire.send(format!("{head}5\r\ndata:"));
                return Then::Close;
            }
            "error" => {
                let event = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
                wire.send(format!("{head}{:x}\r\n{event}\r\n0\r\n\r\n", event.len()));
            }
            "refused" => _ = wire.send(json(429, "{}")),
            other => panic!("{other}"),
        }
        Then::Keep
    });
    let home = Home::new();
    let log = "log.format = \"json\"\nlog.level = \"info\"";
    let url = provider.url("/v1");
    home.configure(&format!(
        "{log}\nproviders.openai.base_url = \"{url}\"\nproviders.anthropic.base_url = \"{}\"",
        provider.url("")
    ));
    home.run_with(&["providers", "set", "openai"], "sk-stored-secret");
    home.run_with(&["providers", "set", "anthropic"], "sk-ant-stored-secret");
    let token = home.mint();
    let id = home.run(&["keys", "list", "--json"]).json()[0]["id"].clone();
    let served = home.serve();
    let mut ids = Vec::new();
    for (case, path, body) in [
        ("plain", CHAT, BODY),
        ("truncated", CHAT, BODY),
        (
            "error",
            "/v1/messages",
            r#"{"model":"claude-x","messages":[]}"#,
        ),
        ("refused", CHAT, BODY),
    ] {
        let reply = served.connect().exchange(request(
            "POST",
            path,
            &[("x-api-key", &token), ("X-Case", case)],
            body,
        ));
        ids.push(reply.field("x-mr-request-id").unwrap().to_owned());
    }
    let unknown =
        served
            .connect()
            .exchange(request("POST", CHAT, &[("x-api-key", "mk_wrong")], BODY));
    ids.push(unknown.field("x-mr-request-id").unwrap().to_owned());
    let models = request("GET", "/v1/models", &[("x-api-key", &token)], "");
    let models = served.connect().exchange(models);
    ids.push(models.field("x-mr-request-id").unwrap().to_owned());
    eventually("the log lines", || access_lines(&served.log()).len() == 6);
    let (code, log) = served.stop();
    assert_eq!(code, 0);
    let lines = access_lines(&log);
    let of = |index: usize| lines.iter().find(|line| line["id"] == ids[index]).unwrap();
    let plain = of(0);
    assert_eq!(
        (&plain["key"], &plain["provider"], &plain["model"]),
        (&id, &"openai".into(), &"gpt-4o".into())
    );
    assert_eq!(
        (&plain["status"], &plain["provider_id"], &plain["end"]),
        (&200.into(), &"req_provider".into(), &"complete".into())
    );
    assert_eq!(
        (&plain["input_tokens"], &plain["output_tokens"]),
        (&11.into(), &7.into())
    );
    assert_eq!(
        (&plain["estimated"], &of(1)["estimated"]),
        (&serde_json::Value::Null, &true.into())
    );
    assert_eq!(
        (&plain["route"], &plain["method"]),
        (&CHAT.into(), &"POST".into())
    );
    assert_eq!(plain["cache_written_tokens"], 5);
    assert!(
        plain["total_ms"].is_number()
            && plain["first_byte_ms"].is_number()
            && plain["overhead_ms"].is_number()
    );
    assert_eq!(
        (&of(1)["end"], &of(1)["provider_id"]),
        (&"provider_truncated".into(), &"req_provider".into())
    );
    assert_eq!(
        (&of(2)["end"], &of(2)["status"]),
        (&"provider_error".into(), &200.into())
    );
    assert_eq!(
        (&of(3)["end"], &of(3)["status"]),
        (&"provider_error".into(), &429.into())
    );
    assert_eq!(
        (&of(4)["end"], &of(4)["status"], &of(4)["key"]),
        (&"refused".into(), &401.into(), &serde_json::Value::Null)
    );
    assert_eq!(
        (&of(5)["end"], &of(5)["status"]),
        (&"answered".into(), &200.into())
    );
}

#[test]
fn no_secret_is_in_the_log_the_answers_or_the_process() {
    let provider =
        Provider::start(|request, wire| {
            match request.fields.get("x-case") {
                Some("dies") => return Then::Close,
                Some("nonsense") => _ = wire.send(
                    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: canary-answer\r\n\r\n",
                ),
                Some("cut") => {
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncanary-answer");
                    return Then::Close;
                }
                _ => {
                    // It calls its answer by the key.
                    let key = request.fields.get("authorization").unwrap_or_default();
                    let named = format!("\r\nX-Request-Id: {key}\r\nContent-Type");
                    let answer = json(500, r#"{"error":{"message":"canary-answer"}}"#);
                    let answer = String::from_utf8(answer).unwrap();
                    wire.send(answer.replace("\r\nContent-Type", &named));
                }
            }
            Then::Keep
        });
    let home = Home::new();
    let url = provider.url("/v1");
    home.configure(&format!(
        "log.level = \"trace\"\nlog.format = \"json\"\nproviders.openai.base_url = \"{url}\"\nproviders.groq.base_url = \"http://127.0.0.1:9/v1\"\n\
         providers.google.base_url = \"{}\"\nlimits.body_bytes = \"64KiB\"",
        provider.url("")
    ));
    home.run_with(&["providers", "set", "openai"], "sk-canary-stored");
    home.run_with(&["keys", "create", "--import"], "mk_canary_memory");
    let master = fs::read_to_string(home.file("master.key"))
        .unwrap()
        .trim()
        .to_owned();
    let served = home.serve();
    let mut answers = String::new();
    let body = r#"{"model":"gpt-4o","messages":[{"content":"canary-prompt"}],"session_id":"canary-session"}"#;
    let groq = body.replace("gpt-4o", "groq/x");
    let nowhere = body.replace("gpt-4o", "mistral/x");
    let big = format!(
        r#"{{"model":"gpt-4o","messages":["{}"]}}"#,
        "canary-prompt".repeat(10_000)
    );
    let own = ("X-Provider-Key", "sk-canary-passed");
    let key = ("X-Memory-Key", "mk_canary_memory");
    let bad = ("X-Memory-Key", "mk_canary_unknown");
    let session = ("X-Session-ID", "canary-session");
    let gemini = "/v1beta/models/gemini-x:generateContent?key=canary-query-key";
    let requests = [
        request("POST", CHAT, &[key, session], body),
        request("POST", CHAT, &[key, own, session], body),
        request("POST", CHAT, &[bad, own], body),
        request(
            "POST",
            CHAT,
            &[own, ("Authorization", "Bearer canary-bearer")],
            body,
        ),
        request(
            "POST",
            CHAT,
            &[key, own, ("x-api-key", "a"), ("x-api-key", "canary-twice")],
            body,
        ),
        request("POST", CHAT, &[key, ("X-Case", "dies")], body),
        request("POST", CHAT, &[key, ("X-Case", "nonsense")], body),
        request("POST", CHAT, &[key, own], &groq),
        request("POST", CHAT, &[key], &nowhere),
        request("POST", CHAT, &[key], &big),
        request("POST", CHAT, &[key], "{canary-prompt"),
        request(
            "POST",
            CHAT,
            &[key, ("Content-Encoding", "gzip")],
            "canary-prompt",
        ),
        request("POST", gemini, &[key], "{}"),
        request(
            "POST",
            &gemini.replace("canary-query-key", "mk_canary_query"),
            &[],
            "{}",
        ),
        request("GET", "/v1/canary-path?key=mk_canary_memory", &[key], ""),
        b"GET /x HTTP/1.1\r\nX-Memory-Key: mk_canary_memory\r\nHost: a\nb\r\n\r\n".to_vec(),
        b"GET /x HTTP/1.1\r\nHost: a\r\nX-Memory-Key : mk_canary_memory\r\n\r\n".to_vec(),
    ];
    for bytes in &requests {
        let mut caller = served.connect();
        caller.send(bytes);
        if let Some(reply) = caller.try_reply() {
            let mine = !reply.text().contains("canary-answer");
            assert!(mine || reply.status == 500, "{reply:?}");
            if mine {
                // A 404 names the path that was asked for; that is no secret.
                answers += &format!(
                    "{}{}",
                    String::from_utf8_lossy(&reply.raw_head),
                    reply.text().replace("canary-path", "")
                );
            }
        }
    }
    // A caller that is cut off in its answer, and one that leaves.
    let mut caller = served.connect();
    caller.send(request("POST", CHAT, &[key, ("X-Case", "cut")], body));
    assert!(!caller.reply().complete);
    let mut caller = served.connect();
    caller.send(request("POST", CHAT, &[key, own], body));
    drop(caller);
    eventually("all is logged", || {
        access_lines(&served.log()).len() >= requests.len() + 2
    });
    let pid = served.pid();
    for file in ["cmdline", "environ"] {
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert!(
            !crate::support::contains(&text, b"canary")
                && !crate::support::contains(&text, master.as_bytes())
        );
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    let (code, log) = served.stop();
    assert_eq!(code, 0);
    for canary in ["canary", master.as_str()] {
        for (what, text) in [("log", &log), ("answers", &answers)] {
            let line = text.lines().find(|line| line.contains(canary));
            assert_eq!(line, None, "{what}");
        }
    }
    assert!(access_lines(&log).len() >= requests.len());
}

#[test]
fn signals_reload_drain_and_end() {
    let provider = Provider::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        std::thread::sleep(Duration::from_millis(500));
        wire.send("cd");
        Then::Keep
    });
    let (home, token) = Home::paying(&provider, "");
    let served = home.serve();
    served.signal(Signal::SIGHUP);
    eventually("the look at the snapshot", || {
        served.log().contains("key snapshot unchanged")
    });
    let second = home.mint();
    eventually("the second key", || {
        served
            .connect()
            .exchange(request("GET", "/v1/models", &[("x-api-key", &second)], ""))
            .status
            == 200
    });
    let mut caller = served.connect();
    caller.send(request("POST", CHAT, &[("x-api-key", &token)], BODY));
    let mut head = caller.head().unwrap();
    let (code, log) = served.stop();
    caller.finish(&mut head);
    assert_eq!(
        (code, head.text(), head.complete),
        (0, "abcd", true),
        "{log}"
    );
    assert!(log.contains("draining") && log.contains("stopped"), "{log}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.configure(&format!(
        "server.workers = 1\n[timeouts]\nhead = \"1s\"\n# {}",
        taken.local_addr().unwrap()
    ));
    let busy = fs::read_to_string(home.file("memoryrouter.toml")).unwrap();
    let busy = busy.replacen("127.0.0.1:0", &taken.local_addr().unwrap().to_string(), 1);
    fs::write(home.file("memoryrouter.toml"), busy).unwrap();
    let done = home.run(&["serve"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("cannot listen on"), "{done:?}");
}

#[test]
fn the_demo_provider_takes_the_whole_path_in_every_dialect() {
    let home = Home::new();
    home.configure("demo.enabled = true");
    let token = home.mint();
    let served = home.serve();
    let post = |path: &str, body: &str| {
        let reply =
            served
                .connect()
                .exchange(request("POST", path, &[("x-api-key", &token)], body));
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply
    };
    let messages = r#""messages":[{"role":"user","content":"Hello there"}]"#;
    let chat = post(CHAT, &format!(r#"{{"model":"demo/echo",{messages}}}"#)).json();
    assert!(
        chat["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .contains("Hello there"),
        "{chat}"
    );
    let anthropic = post(
        "/v1/messages",
        &format!(r#"{{"model":"demo/echo","max_tokens":9,{messages}}}"#),
    )
    .json();
    assert!(
        anthropic["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("Hello there"),
        "{anthropic}"
    );
    let contents = r#"{"contents":[{"role":"user","parts":[{"text":"Hello there"}]}]}"#;
    let gemini = post("/v1beta/models/demo/echo:generateContent", contents).json();
    let text = &gemini["candidates"][0]["content"]["parts"][0]["text"];
    assert!(text.as_str().unwrap().contains("Hello there"), "{gemini}");
    for (path, body) in [
        (
            CHAT,
            format!(r#"{{"model":"demo/echo","stream":true,{messages}}}"#),
        ),
        (
            "/v1/messages",
            format!(r#"{{"model":"demo/echo","max_tokens":9,"stream":true,{messages}}}"#),
        ),
        (
            "/v1beta/models/demo/echo:streamGenerateContent?alt=sse",
            contents.to_owned(),
        ),
    ] {
        let reply = post(path, &body);
        assert!(
            reply.complete
                && reply
                    .field("content-type")
                    .unwrap()
                    .starts_with("text/event-stream")
        );
        assert!(reply.text().contains("data: "), "{path}");
    }
    let unknown = served.connect().exchange(request(
        "POST",
        CHAT,
        &[("x-api-key", &token)],
        r#"{"model":"demo/none","messages":[]}"#,
    ));
    assert_eq!(unknown.status, 404);
    assert!(
        served.log().contains("demo.enabled"),
        "it says that it is on"
    );
}

/// Remote addresses of a process's sockets, TCP and UDP alike.
fn remotes(pid: u32) -> Vec<String> {
    let mut inodes = std::collections::HashSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path())
            .unwrap_or_default()
            .display()
            .to_string();
        if let Some(inode) = target
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
        {
            inodes.insert(inode.to_owned());
        }
    }
    let mut remotes = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        for line in fs::read_to_string(format!("/proc/{pid}/net/{table}"))
            .unwrap_or_default()
            .lines()
            .skip(1)
        {
            let columns: Vec<&str> = line.split_whitespace().collect();
            if inodes.contains(columns[9]) {
                remotes.push(columns[2].to_owned());
            }
        }
    }
    remotes
}

#[test]
fn nobody_is_dialled_but_the_provider_that_a_request_names() {
    let provider = Provider::plain();
    let home = Home::new();
    home.configure(&format!(
        "server.workers = 1\nproviders.openai.base_url = \"{}\"",
        provider.url("/v1").replace("localhost", "127.0.0.1")
    ));
    home.run_with(&["providers", "set", "openai"], "sk-stored");
    let token = home.mint();
    let served = home.serve();
    let local = |remote: &String| {
        remote.starts_with("0100007F:")
            || remote.starts_with("00000000:")
            || remote.starts_with("00000000000000000000000")
    };
    for _ in 0..50 {
        let mut caller = served.connect();
        assert_eq!(
            caller
                .exchange(request("POST", CHAT, &[("x-api-key", &token)], BODY))
                .status,
            200
        );
        let remotes = remotes(served.pid());
        assert!(
            !remotes.is_empty() && remotes.iter().all(local),
            "{remotes:?}"
        );
        let upstream = format!("0100007F:{:04X}", provider.addr.port());
        assert!(remotes.contains(&upstream), "{remotes:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        provider.accepted(),
        1,
        "no ping, no probe, no second connection"
    );
}

/// Ends a connection whatever becomes of the test.
struct ShutDown<'a>(&'a TcpStream);

impl Drop for ShutDown<'_> {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_caller_that_never_pauses_keeps_nobody_else_waiting() {
    let home = Home::new();
    home.configure("server.workers = 1\nlog.access = false");
    // With epoll, where nothing waits that need not.
    let mut serve = command(&["serve", "--dir"]);
    serve
        .arg(home.path())
        .env("MONOIO_FORCE_LEGACY_DRIVER", "1");
    let served = Served::start(&mut serve);
    let many = request("GET", "/health", &[], "").repeat(2000);
    let busy = TcpStream::connect(served.addr).unwrap();
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        let _end = ShutDown(&busy);
        scope.spawn(|| while (&busy).write_all(&many).is_ok() {});
        scope.spawn(|| {
            let mut bytes = vec![0; 1 << 16];
            while (&busy).read(&mut bytes).is_ok_and(|read| read > 0) {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 1..=20 {
            let before = answered.load(Ordering::Relaxed);
            eventually("it is served", || answered.load(Ordering::Relaxed) > before);
            let reply = served
                .connect()
                .exchange(request("GET", "/health", &[], ""));
            assert_eq!(reply.status, 200, "round {round}");
        }
    });
    assert_eq!(served.stop().0, 0);
}

#[test]
fn where_io_uring_is_blocked_it_runs_on_epoll_and_says_so_once() {
    let provider = Provider::plain();
    let (home, token) = Home::paying(&provider, "");
    let mut serve = command(&["serve", "--dir"]);
    serve
        .arg(home.path())
        .env("MONOIO_FORCE_LEGACY_DRIVER", "1");
    let served = Served::start(&mut serve);
    for _ in 0..10 {
        assert_eq!(
            served
                .connect()
                .exchange(request("POST", CHAT, &[("x-api-key", &token)], BODY))
                .status,
            200
        );
    }
    let (code, log) = served.stop();
    assert_eq!(
        (code, log.matches("running on epoll").count()),
        (0, 1),
        "{log}"
    );
}
