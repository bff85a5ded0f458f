//! Restarts that lose nobody: handing over to the next process, sockets from a service manager, reloading in place.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::program::{Home, Served, command, free_port};
use crate::support::{
    CHAT as BODY, Caller, Gate, Provider, Setup, Then, eventually, json, request,
};

const CHAT: &str = "/v1/chat/completions";
const RESTARTS: usize = 20;
const CONNECTIONS_A_SECOND: u64 = 500;

/// Connects at a steady rate, one request each, until `done`; fails with the first that is not answered.
fn steady(addr: std::net::SocketAddr, bytes: &[u8], done: &AtomicBool, served: &AtomicUsize) {
    const THREADS: u64 = 4;
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut next = Instant::now();
                while !done.load(Ordering::Relaxed) {
                    let reply = Caller::connect(addr).exchange(bytes);
                    assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
                    served.fetch_add(1, Ordering::Relaxed);
                    next += Duration::from_micros(1_000_000 * THREADS / CONNECTIONS_A_SECOND);
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
    });
}

/// Ends the steady callers, also when a test fails before it says so.
struct EndsWith<'a>(&'a AtomicBool);

impl Drop for EndsWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn home(provider: &Provider, toml: &str) -> (Home, String) {
    let home = Home::new();
    home.configure(&format!(
        "providers.openai.base_url = \"{}\"\nlog.access = false\n{toml}",
        provider.url("/v1")
    ));
    home.run_with(&["providers", "set", "openai"], "sk-stored");
    let token = home.mint();
    (home, token)
}

#[test]
fn twenty_handovers_lose_no_connection() {
    let provider = Provider::plain();
    let (home, token) = home(&provider, "");
    let mut router = home.serve();
    let bytes = request("POST", CHAT, &[("x-api-key", &token)], BODY);
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let addr = router.addr;
    thread::scope(|scope| {
        let end = EndsWith(&done);
        scope.spawn(|| steady(addr, &bytes, &done, &served));
        for _ in 0..RESTARTS {
            let before = served.load(Ordering::Relaxed);
            router.hand_over();
            eventually("requests behind the handover", || {
                served.load(Ordering::Relaxed) > before + 50
            });
        }
        drop(end);
    });
    let (code, log) = router.stop();
    assert_eq!(code, 0, "{log}");
    assert_eq!(log.matches("handed over").count(), RESTARTS);
    println!(
        "{} connections over {RESTARTS} handovers, none lost",
        served.load(Ordering::Relaxed)
    );
}

#[test]
fn a_stream_outlives_the_handover() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        waits.pass();
        wire.send("cd");
        Then::Keep
    });
    let (home, token) = home(&provider, "");
    let mut router = home.serve();
    let mut caller = router.connect();
    caller.send(request("POST", CHAT, &[("x-api-key", &token)], BODY));
    let mut head = caller.head().unwrap();
    router.hand_over();
    assert_eq!(
        router
            .connect()
            .exchange(request("GET", "/ready", &[], ""))
            .status,
        200
    );
    gate.open();
    caller.finish(&mut head);
    assert_eq!((head.text(), head.complete), ("abcd", true));
    assert_eq!(router.stop().0, 0);
}

#[test]
fn a_successor_holds_none_of_the_connections_before_it() {
    const CALLERS: usize = 200;
    let provider = Provider::plain();
    let (home, token) = home(&provider, "");
    let mut router = home.serve();
    let bytes = request("POST", CHAT, &[("x-api-key", &token)], BODY);
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let mut caller = router.connect();
            assert_eq!(caller.exchange(&bytes).status, 200);
            caller
        })
        .collect();
    let open = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert!(open(router.pid()) > CALLERS);
    router.hand_over();
    assert!(open(router.pid()) < CALLERS);
    drop(callers);
    assert_eq!(router.connect().exchange(&bytes).status, 200);
    assert_eq!(router.stop().0, 0);
}

fn end(pid: u32) {
    kill(Pid::from_raw(pid as i32), Signal::SIGTERM).unwrap();
}

#[test]
fn one_signal_after_a_handover_cuts_no_answer() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        waits.pass();
        wire.send("cd");
        Then::Keep
    });
    let (home, token) = home(&provider, "");
    let mut router = home.serve();
    let first = router.pid();
    let mut caller = router.connect();
    caller.send(request("POST", CHAT, &[("x-api-key", &token)], BODY));
    let mut head = caller.head().unwrap();
    router.hand_over();
    let before = router.log().matches("draining\n").count();
    end(first);
    eventually("the signal", || {
        router.log().matches("draining\n").count() > before
    });
    gate.open();
    caller.finish(&mut head);
    assert_eq!((head.text(), head.complete), ("abcd", true));
    assert_eq!(router.stop().0, 0);
}

#[test]
fn an_end_does_not_wait_for_a_successor_that_hangs() {
    let provider = Provider::plain();
    let (home, _) = home(&provider, "");
    let program = home.file("router");
    fs::copy(command(&[]).get_program(), &program).unwrap();
    let mut called = std::process::Command::new(&program);
    called.args(["serve", "--dir"]).arg(home.path()).env_clear();
    let router = Served::start(called.stdin(Stdio::null()).stderr(Stdio::piped()));
    let hangs = home.file("hangs");
    fs::write(&hangs, "#!/bin/sh\nexec /bin/sleep 600\n").unwrap();
    fs::set_permissions(&hangs, fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(hangs, program).unwrap();
    let children = || {
        let pid = router.pid();
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children"));
        let all: String = tasks.filter_map(|task| of(task.ok()?).ok()).collect();
        all.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    router.signal(Signal::SIGUSR2);
    eventually("a successor", || !children().is_empty());
    let successors = children();
    let (code, log) = router.stop();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("did not start"), "{log}");
    for pid in successors {
        assert!(!std::path::Path::new("/proc").join(pid).exists());
    }
}

#[test]
fn a_pipe_in_a_files_place_holds_up_no_signal() {
    let provider = Provider::plain();
    let (home, _) = home(&provider, "providers.openai.ca = \"ca.pem\"");
    let root = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(home.file("ca.pem"), root.cert.pem()).unwrap();
    let router = home.serve();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    for name in ["ca.pem", "prices.toml", "models.toml", "memoryrouter.toml"] {
        let (file, kept) = (home.file(name), fs::read(home.file(name)).ok());
        let _ = fs::remove_file(&file);
        // Nobody writes into it.
        nix::unistd::mkfifo(&file, mode).unwrap();
        let refused = || {
            let log = router.log();
            let lines = log.lines().filter(|line| line.contains("ERROR"));
            lines
                .filter(|line| line.contains(&format!("{name}: ")))
                .count()
        };
        for times in 1..3 {
            router.signal(Signal::SIGHUP);
            eventually("the refusal", || refused() == times);
        }
        assert_eq!(home.run(&["check"]).code, 78, "{name}");
        fs::remove_file(&file).unwrap();
        if let Some(kept) = kept {
            fs::write(file, kept).unwrap();
        }
    }
    assert_eq!(router.stop().0, 0);
}

#[test]
fn a_successor_that_does_not_start_changes_nothing() {
    let provider = Provider::plain();
    let (home, token) = home(&provider, "");
    let router = home.serve();
    let good = fs::read(home.file("memoryrouter.toml")).unwrap();
    fs::write(home.file("memoryrouter.toml"), "nonsense = 1").unwrap();
    router.signal(Signal::SIGUSR2);
    eventually("the refusal", || router.log().contains("did not start"));
    let reply = router
        .connect()
        .exchange(request("POST", CHAT, &[("x-api-key", &token)], BODY));
    assert_eq!((reply.status, reply.field("connection")), (200, None));
    fs::write(home.file("memoryrouter.toml"), good).unwrap();
    assert_eq!(router.stop().0, 0);
}

#[test]
fn a_successor_runs_what_stands_where_the_program_was_called() {
    let provider = Provider::plain();
    let (home, token) = home(&provider, "");
    let [first, second] = ["releases-1", "releases-2"].map(|name| home.file(name));
    for release in [&first, &second] {
        fs::create_dir(release).unwrap();
        fs::copy(command(&[]).get_program(), release.join("router")).unwrap();
    }
    let current = home.file("current");
    std::os::unix::fs::symlink(&first, &current).unwrap();
    let mut called = std::process::Command::new(current.join("router"));
    called.args(["serve", "--dir"]).arg(home.path()).env_clear();
    called
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let mut router = Served::start(&mut called);
    // The link leads to the next release, and the first one is gone.
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink(&second, &current).unwrap();
    fs::remove_dir_all(&first).unwrap();
    router.hand_over();
    // The file is moved away for a newer one.
    let (file, old) = (second.join("router"), second.join("router.old"));
    fs::rename(&file, &old).unwrap();
    fs::copy(&old, &file).unwrap();
    fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    router.hand_over();
    let reply = router
        .connect()
        .exchange(request("POST", CHAT, &[("x-api-key", &token)], BODY));
    assert_eq!(reply.status, 200);
    router.stop();
}

/// A router that gets `listener` as a service manager hands sockets in: descriptor 3, LISTEN_FDS and LISTEN_PID.
fn activated(home: &Home, listener: &impl AsFd) -> Served {
    let lent = fcntl(listener, FcntlArg::F_DUPFD(100)).unwrap();
    let line = format!("LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\" 3<&{lent} {lent}<&-");
    let mut shell = std::process::Command::new("/bin/bash");
    shell
        .args(["-c", &line, "bash"])
        .arg(command(&[]).get_program())
        .args(["serve", "--dir"])
        .arg(home.path());
    shell
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let served = Served::start(&mut shell);
    nix::unistd::close(lent).unwrap();
    served
}

#[test]
fn twenty_restarts_on_a_service_managers_socket_lose_no_connection() {
    let provider = Provider::plain();
    let (home, token) = home(&provider, "");
    // The test holds the socket, as systemd does.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let bytes = request("POST", CHAT, &[("x-api-key", &token)], BODY);
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let end = EndsWith(&done);
        let mut router = activated(&home, &listener);
        assert_eq!(router.addr, addr);
        scope.spawn(|| steady(addr, &bytes, &done, &served));
        for _ in 0..RESTARTS {
            let before = served.load(Ordering::Relaxed);
            eventually("requests", || served.load(Ordering::Relaxed) > before + 50);
            let (code, log) = router.stop();
            assert_eq!(code, 0, "{log}");
            router = activated(&home, &listener);
        }
        drop(end);
        assert_eq!(router.stop().0, 0);
    });
    println!(
        "{} connections over {RESTARTS} restarts, none lost",
        served.load(Ordering::Relaxed)
    );
}

#[test]
fn files_of_unix_sockets_go_with_the_last_router_that_bound_them_and_a_service_managers_stay() {
    let provider = Provider::plain();
    let (home, _) = home(&provider, "");
    let (theirs, ours) = (home.file("theirs.sock"), home.file("ours.sock"));
    let toml = format!(
        "server.listen = [\"127.0.0.1:0\", \"unix:{}\", \"unix:{}\"]\nadmin.listen = \"off\"",
        theirs.display(),
        ours.display()
    );
    fs::write(home.file("memoryrouter.toml"), toml).unwrap();
    let listener = UnixListener::bind(&theirs).unwrap();
    let mut router = activated(&home, &listener);
    router.hand_over();
    assert!(UnixStream::connect(&ours).is_ok());
    assert_eq!(router.stop().0, 0);
    assert!(!ours.exists());
    assert!(UnixStream::connect(&theirs).is_ok());
}

#[test]
fn a_router_that_goes_down_leaves_the_next_ones_unix_socket_alone() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        waits.pass();
        wire.send("cd");
        Then::Keep
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("router.sock");
    let listen = format!("[\"127.0.0.1:0\", \"unix:{}\"]", path.display());
    let first = Setup::all(&provider).listen(&listen).start();
    let mut caller = first.connect();
    caller.send(first.request(CHAT, &[], BODY));
    let mut head = caller.head().unwrap();
    first.running().drain();
    eventually("nobody listens", || UnixStream::connect(&path).is_err());
    let _second = Setup::all(&provider).listen(&listen).start();
    gate.open();
    caller.finish(&mut head);
    assert_eq!((head.text(), head.complete), ("abcd", true));
    drop(caller);
    first.stop();
    assert!(UnixStream::connect(&path).is_ok());
}

#[test]
fn a_second_router_does_not_take_half_of_the_callers() {
    let provider = Provider::plain();
    let (first, _) = home(&provider, "");
    let router = first.serve();
    let (second, _) = home(&provider, "");
    let toml = fs::read_to_string(second.file("memoryrouter.toml")).unwrap();
    fs::write(
        second.file("memoryrouter.toml"),
        toml.replacen("127.0.0.1:0", &router.addr.to_string(), 1),
    )
    .unwrap();
    let done = second.run(&["serve"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("cannot listen on"), "{done:?}");
}

#[test]
fn a_start_right_behind_a_killed_router_gets_its_port() {
    let home = Home::new();
    let toml = format!(
        "server.listen = [\"127.0.0.1:{}\"]\nadmin.listen = \"127.0.0.1:{}\"",
        free_port(),
        free_port()
    );
    fs::write(home.file("memoryrouter.toml"), toml).unwrap();
    for _ in 0..10 {
        // Killed when dropped.
        drop(home.serve());
    }
}

#[test]
fn sighup_takes_configuration_over_without_dropping_anyone() {
    let (one, two) = (Provider::plain(), Provider::answering(json(200, "\"two\"")));
    let (home, token) = home(&one, "limits.body_bytes = \"2KiB\"");
    let router = home.serve();
    let bytes = request("POST", CHAT, &[("x-api-key", &token)], BODY);
    let mut kept = router.connect();
    assert_eq!(kept.exchange(&bytes).text(), "{}");
    let reload = |toml: &str, word: &str| {
        home.configure(&format!("log.access = false\n{toml}"));
        let before = router.log().matches(word).count();
        router.signal(Signal::SIGHUP);
        eventually(word, || router.log().matches(word).count() > before);
    };
    let big = format!(
        r#"{{"model":"gpt-4o","messages":["{}"]}}"#,
        "x".repeat(3000)
    );
    let big = request("POST", CHAT, &[("x-api-key", &token)], big);
    assert_eq!(router.connect().exchange(&big).status, 413);
    let new = format!("providers.openai.base_url = \"{}\"", two.url("/v1"));
    reload(&new, "read anew");
    // Each worker hears of it for itself.
    eventually("the new provider", || {
        (0..20).all(|_| router.connect().exchange(&bytes).text() == "\"two\"")
    });
    assert_eq!(router.connect().exchange(&big).status, 200);
    // An open connection goes on once more as it was, and ends with that.
    let last = kept.exchange(&bytes);
    assert_eq!(
        (last.text(), last.field("connection")),
        ("{}", Some("close"))
    );
    reload("providers.openai.base_url = 7", "configuration refused");
    assert_eq!(router.connect().exchange(&bytes).text(), "\"two\"");
    reload(&format!("{new}\nserver.workers = 1"), "needs a restart");
    assert_eq!(router.connect().exchange(&bytes).text(), "\"two\"");
    assert_eq!(router.stop().0, 0);
}

#[test]
fn a_reload_that_fails_changes_nothing_of_the_log_either() {
    let home = Home::new();
    home.configure("");
    let router = home.serve();
    home.configure("log.access = false\nserver.tls = { cert = \"nope\", key = \"nope\" }");
    router.signal(Signal::SIGHUP);
    eventually("the refusal", || router.log().contains("not reloaded"));
    router
        .connect()
        .exchange(request("GET", "/health", &[], ""));
    eventually("the line", || router.log().contains("/health"));
    assert_eq!(router.stop().0, 0);
}

#[test]
fn sighup_turns_the_demo_on_and_off_and_warns_of_what_is_new() {
    let provider = Provider::plain();
    let (home, token) = home(&provider, "");
    let router = home.serve();
    let say = r#"{"model":"demo/echo","messages":[{"role":"user","content":"hi"}]}"#;
    let bytes = request("POST", CHAT, &[("x-api-key", &token)], say);
    let reload = |toml: &str| {
        home.configure(toml);
        let count = || router.log().matches("read anew").count();
        let before = count();
        router.signal(Signal::SIGHUP);
        eventually("the reload", || count() > before);
    };
    let on = "demo.enabled = true\nproviders.far.base_url = \"http://198.51.100.1/v1\"";
    // Each worker hears of it for itself.
    let everywhere = |status| (0..20).all(|_| router.connect().exchange(&bytes).status == status);
    for _ in 0..2 {
        reload(on);
        eventually("the demo", || everywhere(200));
        reload("");
        eventually("its end", || everywhere(400));
    }
    let (code, log) = router.stop();
    assert_eq!(code, 0);
    assert!(
        log.contains("providers.far.base_url") && log.contains("unencrypted"),
        "{log}"
    );
    assert!(!log.contains("needs a restart"), "{log}");
}

#[test]
fn the_service_manager_hears_what_goes_on() {
    let provider = Provider::plain();
    let (home, _) = home(&provider, "");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(crate::support::PATIENCE))
        .unwrap();
    let heard = || {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length])
            .trim()
            .to_owned()
    };
    let mut serve = command(&["serve", "--dir"]);
    let mut router = Served::start(serve.arg(home.path()).env("NOTIFY_SOCKET", &path));
    assert_eq!(heard(), "READY=1");
    router.hand_over();
    let mut said = vec![heard(), heard()];
    said.sort();
    // The successor is ready for itself, and its predecessor names it as the one that counts.
    assert_eq!(
        said,
        [format!("MAINPID={}", router.pid()), "READY=1".to_owned()]
    );
    assert_eq!(router.stop().0, 0);
    assert_eq!(heard(), "STOPPING=1");
}

#[test]
fn what_the_drain_cuts_is_not_the_callers_doing() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        waits.pass();
        Then::Close
    });
    let (home, token) = home(&provider, "timeouts.drain = \"200ms\"\n");
    let router = home.serve();
    let mut caller = router.connect();
    caller.send(request("POST", CHAT, &[("x-api-key", &token)], BODY));
    caller.head().unwrap();
    let (code, log) = router.stop();
    assert_eq!(code, 0, "{log}");
    let usage = home.run(&["usage", "--json"]).json();
    let total = &usage["total"];
    let counted = ["errors_router", "aborted"].map(|name| total[name].as_u64());
    assert_eq!(counted, [Some(1), Some(0)], "{usage}");
    gate.open();
}

#[test]
fn what_comes_last_before_a_handover_has_its_own_time() {
    let gates: [Gate; 3] = Default::default();
    let waits = gates.clone();
    let provider = Provider::start(move |request, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        let gate: usize = request.fields.get("x-gate").unwrap().parse().unwrap();
        waits[gate].pass();
        wire.send("cd");
        Then::Keep
    });
    let (home, token) = home(&provider, "timeouts.drain = \"5s\"\n");
    let mut router = home.serve();
    let ask = |gate: &str| {
        request(
            "POST",
            CHAT,
            &[("x-api-key", &token), ("X-Gate", gate)],
            BODY,
        )
    };
    let (mut kept, mut other) = (router.connect(), router.connect());
    kept.send(ask("0"));
    let mut first = kept.head().unwrap();
    other.send(ask("1"));
    let mut never = other.head().unwrap();
    router.hand_over();
    gates[0].open();
    kept.finish(&mut first);
    kept.send(ask("2"));
    let mut last = kept.head().unwrap();
    assert_eq!(
        (first.text(), last.field("connection")),
        ("abcd", Some("close"))
    );
    // The time of what began before the handover is over.
    other.finish(&mut never);
    assert_eq!((never.text(), never.complete), ("ab", false));
    gates[2].open();
    kept.finish(&mut last);
    assert_eq!((last.text(), last.complete), ("abcd", true));
    gates[1].open();
    assert_eq!(router.stop().0, 0);
}
