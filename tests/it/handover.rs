//! Handing over to the next process: what a failed one leaves alone, and what goes with it besides the callers' sockets.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::support::program::{Home, Served, free_port};
use crate::support::{CHAT, Caller, Gate, Provider, Router, Then, eventually, request};

const SAY: &str = r#"{"model":"demo/echo","messages":[{"role":"user","content":"hi"}]}"#;

fn home(toml: &str) -> (Home, String) {
    let home = Home::new();
    write(&home, "127.0.0.1:0", toml);
    let token = home.mint();
    (home, token)
}

/// Writes a configuration with the admin port at `admin`.
fn write(home: &Home, admin: &str, toml: &str) {
    let all = format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"{admin}\"\ndemo.enabled = true\n{toml}\n"
    );
    fs::write(home.file("memoryrouter.toml"), all).unwrap();
}

fn answers(router: &Served, token: &str) -> bool {
    let bytes = request("POST", "/v1/chat/completions", &[("x-api-key", token)], SAY);
    router.connect().exchange(bytes).status == 200
}

/// Asks for a handover that is to fail, and sees that the first router goes on.
fn fails(router: &Served, token: &str) {
    let count = |word| router.log().matches(word).count();
    let before = count("did not start");
    router.signal(Signal::SIGUSR2);
    eventually("the refusal", || count("did not start") > before);
    assert!(answers(router, token));
    assert_eq!(count("handed over"), 0, "{}", router.log());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_successor_without_its_admin_port_changes_nothing() {
    let (home, token) = home("");
    let socket = home.file("data.sock");
    let listen = format!(
        "server.listen = [\"127.0.0.1:0\", \"unix:{}\"]",
        socket.display()
    );
    let toml = fs::read_to_string(home.file("memoryrouter.toml")).unwrap();
    let toml = toml.replace("server.listen = [\"127.0.0.1:0\"]", &listen);
    fs::write(home.file("memoryrouter.toml"), &toml).unwrap();
    let router = home.serve();
    let secret = home.file("admin.token");
    set_mode(&secret, 0o644);
    fails(&router, &token);
    set_mode(&secret, 0o600);
    for admin in ["192.0.2.1:18401", "unix:nodir/a.sock"] {
        let wrong = toml.replace(
            "admin.listen = \"127.0.0.1:0\"",
            &format!("admin.listen = \"{admin}\""),
        );
        fs::write(home.file("memoryrouter.toml"), wrong).unwrap();
        fails(&router, &token);
    }
    assert!(UnixStream::connect(&socket).is_ok());
    fs::write(home.file("memoryrouter.toml"), toml).unwrap();
    let (code, log) = router.stop();
    assert_eq!(code, 0, "{log}");
    assert!(!socket.exists());
}

#[test]
fn check_reads_the_admin_token_too() {
    let (home, _) = home("");
    assert_eq!(home.run(&["check"]).code, 0);
    set_mode(&home.file("admin.token"), 0o644);
    let done = home.run(&["check"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("admin.token"), "{done:?}");
    fs::remove_file(home.file("admin.token")).unwrap();
    assert_eq!(home.run(&["check"]).code, 0);
}

/// A provider whose answer comes to its end once the gate is open.
fn held_back(gate: &Gate) -> Provider {
    let waits = gate.clone();
    Provider::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        waits.pass();
        wire.send("cd");
        Then::Keep
    })
}

/// The process that answers at an admin port, `unix:` or not; none if none does within a second.
fn pid_at(home: &Home, admin: &str) -> Option<u64> {
    match admin.strip_prefix("unix:") {
        Some(path) => ask_pid(home, UnixStream::connect(path).ok()?),
        None => ask_pid(home, TcpStream::connect(admin).ok()?),
    }
}

fn ask_pid(home: &Home, mut wire: impl Read + Write + AsFd) -> Option<u64> {
    let patience = TimeVal::seconds(1);
    setsockopt(&wire, sockopt::ReceiveTimeout, &patience).unwrap();
    let token = fs::read_to_string(home.file("admin.token")).unwrap();
    let head = format!(
        "GET /admin/v1/overview HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        token.trim()
    );
    wire.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    wire.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str::<serde_json::Value>(body).ok()?["pid"].as_u64()
}

#[test]
fn the_admin_port_is_the_successors_while_answers_run() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", dir.path().join("admin.sock").display());
    for admin in [format!("127.0.0.1:{}", free_port()), socket] {
        let gate = Gate::default();
        let provider = held_back(&gate);
        let (home, token) = home("");
        let url = format!("providers.openai.base_url = \"{}\"", provider.url("/v1"));
        write(&home, &admin, &url);
        home.run_with(&["providers", "set", "openai"], "sk-stored");
        let mut router = home.serve();
        let first = u64::from(router.pid());
        eventually("the admin port", || pid_at(&home, &admin) == Some(first));
        let mut kept = admin.parse().ok().map(Caller::connect);
        let ask = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        if let Some(kept) = &mut kept {
            assert_eq!(kept.exchange(ask).field("connection"), None);
        }
        let mut caller = router.connect();
        let fields = [("x-api-key", token.as_str())];
        caller.send(request("POST", "/v1/chat/completions", &fields, CHAT));
        let mut head = caller.head().unwrap();
        router.hand_over();
        // Asked over a connection of before, the first one still answers.
        if let Some(kept) = &mut kept {
            assert_eq!(kept.exchange(ask).field("connection"), Some("close"));
        }
        let successor = u64::from(router.pid());
        eventually("the successor", || pid_at(&home, &admin) == Some(successor));
        assert!(Path::new(&format!("/proc/{first}")).exists());
        let stats = || home.run(&["memory", "stats", "--key", &key_of(&home)]);
        eventually("the vaults", || stats().code == 0);
        gate.open();
        caller.finish(&mut head);
        assert_eq!((head.text(), head.complete), ("abcd", true));
        assert_eq!(router.stop().0, 0);
    }
}

#[test]
fn a_vault_is_asked_for_once_more_behind_a_handover() {
    let (home, token) = home("");
    let mut router = home.serve();
    let ask = || request("GET", "/v1/memory/stats", &[("x-api-key", &token)], "");
    let mut kept = router.connect();
    assert_eq!(kept.exchange(ask()).status, 200);
    router.hand_over();
    // The vaults are with the successor, and a new connection leads there. On a machine that is very busy the old one has
    // ended by now.
    kept.send(ask());
    if let Some(reply) = kept.try_reply() {
        let fields = ["connection", "retry-after"].map(|name| reply.field(name));
        assert_eq!((reply.status, fields), (503, [Some("close"), Some("1")]));
    }
    eventually("the vault", || {
        router.connect().exchange(ask()).status == 200
    });
    assert_eq!(router.stop().0, 0);
}

#[test]
fn answers_say_that_a_successor_is_there_before_the_drain_begins() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    assert_eq!(
        router
            .post("/v1/chat/completions", CHAT)
            .field("connection"),
        None
    );
    router.running().control().shared().successor.arrives();
    let reply = router.post("/v1/chat/completions", CHAT);
    assert_eq!(
        (reply.status, reply.field("connection")),
        (200, Some("close"))
    );
}

fn key_of(home: &Home) -> String {
    let keys = home.run(&["keys", "list", "--json"]).json();
    keys[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn nobody_is_served_by_a_router_without_its_admin_port() {
    let (home, _) = home("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    write(&home, &taken.local_addr().unwrap().to_string(), "");
    let done = home.run(&["serve"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("(admin.listen)"), "{done:?}");
    assert!(!done.stderr.contains("listening on"), "{done:?}");
    // Nor is a socket's file left behind by one that does not start.
    let socket = home.file("admin.sock");
    let data = taken.local_addr().unwrap();
    let toml = format!(
        "server.listen = \"{data}\"\nadmin.listen = \"unix:{}\"",
        socket.display()
    );
    fs::write(home.file("memoryrouter.toml"), toml).unwrap();
    assert_eq!(home.run(&["serve"]).code, 1);
    assert!(!socket.exists());
}

#[test]
fn an_admin_port_that_somebody_else_has_is_told_of() {
    let (home, _) = home("");
    let mut router = home.serve();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    write(&home, &addr, "");
    router.hand_over();
    eventually("the warning", || router.log().contains("still trying"));
    drop(taken);
    let successor = u64::from(router.pid());
    eventually("the port", || pid_at(&home, &addr) == Some(successor));
    let (code, log) = router.stop();
    assert_eq!((code, log.matches("still trying").count()), (0, 1), "{log}");
}

#[test]
fn a_configuration_file_that_has_gone_is_not_taken_for_none() {
    let (home, token) = home("");
    let mut router = home.serve();
    let (file, moved) = (home.file("memoryrouter.toml"), home.file("moved"));
    for _ in 0..2 {
        fs::rename(&file, &moved).unwrap();
        let count = |word| router.log().matches(word).count();
        let before = (count("configuration refused"), count("did not start"));
        router.signal(Signal::SIGHUP);
        eventually("the refusal", || count("configuration refused") > before.0);
        router.signal(Signal::SIGUSR2);
        eventually("the failure", || count("did not start") > before.1);
        assert!(answers(&router, &token));
        assert_eq!(count("read anew"), 0, "{}", router.log());
        fs::rename(&moved, &file).unwrap();
        router.hand_over();
    }
    // Nor is a directory that has gone the place of a first run.
    let away = home.path().with_file_name("away");
    fs::rename(home.path(), &away).unwrap();
    let before = router.log().matches("did not start").count();
    router.signal(Signal::SIGUSR2);
    eventually("the failure", || {
        router.log().matches("did not start").count() > before
    });
    assert!(!home.path().exists());
    fs::rename(&away, home.path()).unwrap();
    assert_eq!(router.stop().0, 0);
}

#[test]
fn files_of_sockets_that_the_successor_has_no_use_for_go() {
    let (home, token) = home("");
    let dir = tempfile::tempdir().unwrap();
    let [gone, kept, admin, next] =
        ["gone", "kept", "admin", "next"].map(|name| dir.path().join(name));
    let configure = |data: &[&PathBuf], admin: &Path| {
        let data = data
            .iter()
            .map(|file| format!(", \"unix:{}\"", file.display()));
        let toml = format!(
            "server.listen = [\"127.0.0.1:0\"{}]\nadmin.listen = \"unix:{}\"\ndemo.enabled = true",
            data.collect::<String>(),
            admin.display()
        );
        fs::write(home.file("memoryrouter.toml"), toml).unwrap();
    };
    configure(&[&gone, &kept], &admin);
    let mut router = home.serve();
    let path = format!("unix:{}", admin.display());
    eventually("the admin port", || pid_at(&home, &path).is_some());
    // Somebody else's by now.
    fs::remove_file(&kept).unwrap();
    let _other = UnixListener::bind(&kept).unwrap();
    configure(&[], &next);
    router.hand_over();
    eventually("both files are gone", || !gone.exists() && !admin.exists());
    assert!(answers(&router, &token));
    assert!(next.exists());
    let (code, log) = router.stop();
    assert_eq!(code, 0, "{log}");
    assert_eq!([kept.exists(), next.exists()], [true, false], "{log}");
}

#[test]
fn little_locked_memory_is_no_reason_not_to_start_or_to_hand_over() {
    // In KiB: less than one ring takes, enough for some of the workers, and for all of one process only.
    for limit in [64, 192, 640] {
        let (home, token) = home("server.workers = 2");
        let limit = format!("--memlock={0}:{0}", limit * 1024);
        // Root may lock any amount, unless the capability for it is gone.
        let mut limited = Command::new("setpriv");
        match nix::unistd::geteuid().is_root() {
            true => limited.args(["--bounding-set", "-ipc_lock", "prlimit"]),
            false => limited.arg("prlimit"),
        };
        limited
            .arg(limit)
            .arg(env!("CARGO_BIN_EXE_memoryrouter"))
            .args(["serve", "--dir"])
            .arg(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut router = Served::start(&mut limited);
        assert!(answers(&router, &token));
        router.hand_over();
        assert!(answers(&router, &token));
        let (code, log) = router.stop();
        assert_eq!(code, 0, "{log}");
    }
}
