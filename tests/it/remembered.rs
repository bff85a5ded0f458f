//! What the memory log survives: kill -9, a full disk, a broken file, a hand-over; and a vault from the shell.

use std::collections::HashSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::program::{Home, Served, command};
use crate::support::{Caller, Gate, Provider, Random, Reply, Then, count, eventually, request};

const CHAT: &str = "/v1/chat/completions";
/// What a capture may still lose.
const SOON: Duration = Duration::from_secs(1);

fn home(provider: &Provider, toml: &str) -> (Home, String, String) {
    let home = Home::new();
    home.configure(&format!(
        "providers.openai.base_url = \"{}\"\nlog.access = false\n{toml}",
        provider.url("/v1")
    ));
    home.run_with(&["providers", "set", "openai"], "sk-stored");
    let made = home.run(&["keys", "create", "--json"]).json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (home, text("token"), text("id"))
}

fn chat(text: &str) -> String {
    json!({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}).to_string()
}

fn post(caller: &mut Caller, token: &str, path: &str, body: impl AsRef<[u8]>) -> Reply {
    caller.exchange(request("POST", path, &[("x-api-key", token)], body))
}

/// The texts in a vault, through the router.
#[track_caller]
fn texts(router: &Served, token: &str) -> Vec<String> {
    let bytes = request("GET", "/v1/memory/export", &[("x-api-key", token)], "");
    let reply = router.connect().exchange(bytes);
    assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
    contents(reply.text())
}

fn contents(lines: &str) -> Vec<String> {
    let content = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["content"].as_str().unwrap().to_owned()
    };
    lines.lines().map(content).collect()
}

/// Whether any file in the directory holds these bytes.
fn in_a_file(home: &Home, needle: &str) -> bool {
    let files = fs::read_dir(home.path()).unwrap();
    files.into_iter().any(|file| {
        let file = file.unwrap();
        // A socket holds nothing, and a file that is gone by now neither.
        let bytes = match file.file_type().unwrap().is_file() {
            true => fs::read(file.path()),
            false => return false,
        };
        match bytes {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            bytes => crate::support::contains(&bytes.unwrap(), needle.as_bytes()),
        }
    })
}

#[test]
fn kill_9_loses_no_acknowledged_write_and_no_capture_but_the_last() {
    let kills = count("MEMORY_KILLS", 6);
    let provider = Provider::plain();
    let (home, token, _) = home(&provider, "");
    let mut random = Random(11);
    let (mut acknowledged, mut captured) = (HashSet::new(), Vec::new());
    let mut number = 0;
    for _ in 0..kills {
        let router = home.serve();
        let end = Instant::now() + Duration::from_millis(random.below(1500));
        let first = number;
        let (router, token) = (&router, &token);
        thread::scope(|scope| {
            let uploads = scope.spawn(move || {
                let mut caller = router.connect();
                let (mut sent, mut stored) = (0, Vec::new());
                while Instant::now() < end {
                    let all: Vec<String> = (0..3)
                        .map(|part| format!("upload {first} {sent} {part}"))
                        .collect();
                    let lines: Vec<String> = all
                        .iter()
                        .map(|text| json!({ "content": text }).to_string())
                        .collect();
                    let reply = post(&mut caller, token, "/v1/memory/upload", lines.join("\n"));
                    assert_eq!(reply.status, 200, "{reply:?}");
                    stored.extend(all);
                    sent += 1;
                }
                stored
            });
            let mut caller = router.connect();
            while Instant::now() < end {
                number += 1;
                let text = format!("said {number}");
                assert_eq!(post(&mut caller, token, CHAT, chat(&text)).status, 200);
                captured.push((text, Instant::now()));
                thread::sleep(Duration::from_millis(5));
            }
            acknowledged.extend(uploads.join().unwrap());
        });
        router.signal(Signal::SIGKILL);
        let killed = Instant::now();
        // Those that were lost rightly are not asked for again.
        captured.retain(|(_, at)| killed.duration_since(*at) > SOON);
    }
    let router = home.serve();
    let found: HashSet<String> = texts(&router, &token).into_iter().collect();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let lost: Vec<_> = captured
        .iter()
        .filter(|(text, _)| !found.contains(text))
        .collect();
    assert!(lost.is_empty(), "captured and lost: {lost:?}");
    println!(
        "{kills} kills: {} acknowledged, {} captured a second before, none lost",
        acknowledged.len(),
        captured.len()
    );
    assert_eq!(router.stop().0, 0);
}

#[test]
fn an_end_asked_for_loses_nothing() {
    let provider = Provider::plain();
    let (home, token, _) = home(&provider, "");
    let router = home.serve();
    let mut caller = router.connect();
    assert_eq!(
        post(&mut caller, &token, CHAT, chat("the last word")).status,
        200
    );
    drop(caller);
    let (code, log) = router.stop();
    assert_eq!(code, 0, "{log}");
    let router = home.serve();
    assert!(texts(&router, &token).contains(&"the last word".to_owned()));
}

#[test]
fn what_ends_after_a_handover_is_remembered_by_the_successor() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |received, wire| {
        if crate::support::contains(&received.body, b"slow") {
            waits.pass();
        }
        let answer =
            r#"{"choices":[{"message":{"role":"assistant","content":"a word of the provider"}}]}"#;
        wire.send(crate::support::json(200, answer));
        Then::Keep
    });
    let (home, token, _) = home(&provider, "");
    let mut router = home.serve();
    let mut caller = router.connect();
    caller.send(request(
        "POST",
        CHAT,
        &[("x-api-key", &token)],
        chat("a slow word"),
    ));
    eventually("the request", || !provider.received().is_empty());
    router.hand_over();
    // The successor has the log, and what was remembered before.
    eventually("the log", || {
        post(
            &mut router.connect(),
            &token,
            "/v1/memory/upload",
            r#"{"content":"first"}"#,
        )
        .status
            == 200
    });
    gate.open();
    assert_eq!(caller.reply().status, 200);
    eventually("what the old process heard", || {
        let found = texts(&router, &token);
        ["a slow word", "a word of the provider"]
            .iter()
            .all(|text| found.iter().any(|found| found == text))
    });
    let (_, log) = router.stop();
    assert!(!log.contains("cannot be stored"), "{log}");
    assert!(!home.file("memory.spool").exists());
}

/// Raises or lowers how large a file may get for a running process.
fn allow_file_size(pid: u32, bytes: &str) {
    let done = Command::new("prlimit")
        .args(["--pid", &pid.to_string(), &format!("--fsize={bytes}:")])
        .status();
    assert!(done.unwrap().success());
}

#[test]
fn a_full_disk_costs_memory_and_no_request_and_heals() {
    let provider = Provider::plain();
    let (home, token, _) = home(&provider, "");
    // The signal that comes with the limit is ignored, so that writes fail like on a full disk.
    let mut shell = Command::new("sh");
    shell
        .env_clear()
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(command(&[]).get_program())
        .args(["serve", "--dir"])
        .arg(home.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let router = Served::start(&mut shell);
    let upload = |text: &str| {
        let line = json!({"content": text.repeat(2000)}).to_string();
        post(&mut router.connect(), &token, "/v1/memory/upload", line).status
    };
    assert_eq!(upload("before "), 200);
    let size = fs::metadata(home.file("memory.redb")).unwrap().len();
    allow_file_size(router.pid(), &size.to_string());
    let mut n = 0;
    eventually("a full disk", || {
        n += 1;
        upload(&format!("full {n} ")) != 200
    });
    for n in 0..20 {
        let reply = post(
            &mut router.connect(),
            &token,
            CHAT,
            chat(&format!("flows {n}")),
        );
        assert_eq!(reply.status, 200, "requests flow");
    }
    allow_file_size(router.pid(), "unlimited");
    eventually("healing", || upload("after ") == 200);
    // What was said meanwhile was kept, and is there now.
    eventually("what was said", || {
        texts(&router, &token).contains(&"flows 19".to_owned())
    });
    let (_, log) = router.stop();
    assert_eq!(log.matches("memories cannot be stored").count(), 1, "{log}");
    assert_eq!(log.matches("memories are stored again").count(), 1, "{log}");
    let router = home.serve();
    let found = texts(&router, &token);
    for n in 0..20 {
        assert!(found.contains(&format!("flows {n}")), "{n}");
    }
}

#[test]
fn a_broken_log_costs_memory_and_no_request_and_heals() {
    let provider = Provider::plain();
    let (home, token, _) = home(&provider, "");
    fs::write(home.file("memory.redb"), vec![0x5a; 100_000]).unwrap();
    let router = home.serve();
    let ask = || post(&mut router.connect(), &token, CHAT, chat("flows")).status;
    assert_eq!(ask(), 200);
    eventually("the log to say so", || {
        router.log().contains("memories cannot be stored")
    });
    assert_eq!(ask(), 200);
    fs::remove_file(home.file("memory.redb")).unwrap();
    eventually("healing", || router.log().contains("stored again"));
    assert_eq!(ask(), 200);
    eventually("memory", || !texts(&router, &token).is_empty());
}

#[test]
fn a_vault_from_the_shell() {
    let provider = Provider::plain();
    let (home, token, key) = home(&provider, "");
    let lines = [
        json!({"content": "the harbour is in Oslo", "role": "user", "timestamp": 1_700_000_000_000_i64}),
        json!({"content": "so it is", "role": "assistant", "timestamp": 1_700_000_000_001_i64, "session_id": "s1"}),
    ]
    .map(|line| line.to_string() + "\n")
    .concat();
    let on = |home: &Home, word: &str, more: &[&str], input: &str| {
        let args = [&["memory", word, "--key", &key], more].concat();
        home.run_with(&args, input)
    };
    let long = "x".repeat(500);
    let no_session_deletes = |home: &Home| {
        for session in ["", "no such", &long] {
            let refused = on(home, "delete", &["--session", session], "");
            assert_eq!(refused.code, 2, "{refused:?}");
        }
    };
    // First without a router, then through one.
    let bad = on(
        &home,
        "import",
        &[],
        "{\"content\":\"a\"}\n{\"content\":\"\"}\n",
    );
    assert_eq!(bad.code, 1);
    assert!(bad.stderr.contains("line 2"), "{bad:?}");
    let added = on(&home, "import", &["--json"], &lines).json();
    assert_eq!(added, json!({"total": 2, "stored": 2, "duplicates": 0}));
    let exported = on(&home, "export", &[], "");
    assert_eq!(contents(&exported.stdout).len(), 2, "{exported:?}");
    no_session_deletes(&home);
    // Without an admin port nobody can be asked, and the log is taken.
    let router = home.serve();
    let taken = on(&home, "stats", &[], "");
    assert_eq!(taken.code, 1);
    assert!(
        taken.stderr.contains("another process has it open"),
        "{taken:?}"
    );
    router.stop();
    let listen = "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"unix:admin.sock\"\n";
    fs::write(home.file("memoryrouter.toml"), listen).unwrap();
    let router = home.serve();
    no_session_deletes(&home);
    assert_eq!(on(&home, "export", &[], "").stdout, exported.stdout);
    let stats = on(&home, "stats", &["--json"], "").json();
    assert_eq!(
        (&stats["memories"], &stats["sessions"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(stats["key"], json!(key));
    assert_eq!(stats["oldest"], json!("2023-11-14T22:13:20Z"));
    let again = on(&home, "import", &["--json"], &exported.stdout).json();
    assert_eq!(again, json!({"total": 2, "stored": 0, "duplicates": 2}));
    assert_eq!(
        texts(&router, &token),
        ["the harbour is in Oslo", "so it is"]
    );
    let gone = on(&home, "delete", &["--session", "s1", "--json"], "").json();
    assert_eq!(gone, json!({"deleted": 1}));
    assert_eq!(
        on(&home, "delete", &["--memory", "mem_00000000000000ff"], "").code,
        1
    );
    router.stop();
    // Into another vault, and it is the same.
    let other = home.run(&["keys", "create", "--json"]).json();
    let other = other["id"].as_str().unwrap();
    home.run_with(&["memory", "import", "--key", other], &exported.stdout);
    assert_eq!(
        home.run(&["memory", "export", "--key", other]).stdout,
        exported.stdout
    );
    assert_eq!(
        on(&home, "delete", &["--json"], "").json(),
        json!({"deleted": 1})
    );
    assert!(on(&home, "export", &[], "").stdout.is_empty());
    assert!(!in_a_file(&home, "harbour"));
    assert_eq!(
        home.run(&["memory", "stats", "--key", "key_nobody"]).code,
        1
    );
}

#[test]
fn a_deleted_key_takes_its_memories_along_and_a_replaced_snapshot_takes_none() {
    let home = Home::new();
    home.configure("");
    let made: Vec<Value> = (0..2)
        .map(|_| home.run(&["keys", "create", "--json"]).json())
        .collect();
    let [gone, stays] = [0, 1].map(|at| made[at]["id"].as_str().unwrap());
    for key in [gone, stays] {
        let line = "{\"content\":\"the harbour is in Oslo\"}\n";
        let done = home.run_with(&["memory", "import", "--key", key], line);
        assert_eq!(done.code, 0, "{done:?}");
    }
    let held = |key: &str| {
        let stats = home
            .run(&["memory", "stats", "--json", "--key", key])
            .json();
        stats["memories"].clone()
    };
    let old = fs::read(home.file("keys.snapshot")).unwrap();
    let done = home.run(&["keys", "delete", gone]);
    assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
    let new = fs::read(home.file("keys.snapshot")).unwrap();
    let put = |snapshot: &[u8]| {
        let _ = fs::remove_file(home.file("keys.snapshot.seen"));
        fs::write(home.file("keys.snapshot"), snapshot).unwrap();
    };
    // The old keys come back, and what they said does not.
    put(&old);
    assert_eq!((held(gone), held(stays)), (json!(0), json!(1)));
    // A snapshot without the key takes nothing along.
    let line = "{\"content\":\"the ferry is late\"}\n";
    home.run_with(&["memory", "import", "--key", gone], line);
    put(&new);
    let router = home.serve();
    eventually("the log is open", || {
        memoryrouter::memory::is_held(&home.file("memory.redb"))
    });
    router.stop();
    put(&old);
    assert_eq!(held(gone), json!(1));
}

#[test]
fn a_key_is_deleted_also_where_its_memories_cannot_be_reached() {
    let home = Home::new();
    let toml = "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"off\"\n";
    fs::write(home.file("memoryrouter.toml"), toml).unwrap();
    let made = home.run(&["keys", "create", "--json"]).json();
    let key = made["id"].as_str().unwrap();
    let router = home.serve();
    let held = || memoryrouter::memory::is_held(&home.file("memory.redb"));
    eventually("the log is open", held);
    let done = home.run(&["keys", "delete", key]);
    assert_eq!(done.code, 0, "{done:?}");
    for said in [
        "stay in the log",
        "admin.listen is off",
        made["vault"].as_str().unwrap(),
    ] {
        assert!(done.stderr.contains(said), "{done:?}");
    }
    assert_eq!(home.run(&["keys", "list", "--json"]).json(), json!([]));
    router.stop();
}
