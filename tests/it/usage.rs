//! The usage store from outside: durable within a second, whole after a kill, patient with a store that cannot be
//! written, and remembered by limits.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memoryrouter::keys::{Limits, NewKey, Period};
use nix::sys::signal::Signal;

use crate::support::program::{Home, Served};
use crate::support::{
    CHAT as BODY, Caller, Provider, Random, Setup, count, eventually, json, request,
};

const CHAT: &str = "/v1/chat/completions";
const USED: &str = r#"{"usage":{"prompt_tokens":60,"completion_tokens":40}}"#;

fn home(provider: &Provider) -> (Home, String) {
    let home = Home::new();
    home.configure(&format!(
        "providers.openai.base_url = \"{}\"\nlog.access = false",
        provider.url("/v1")
    ));
    let set = ["providers", "set", "openai"];
    assert_eq!(home.run_with(&set, "sk-stored-provider-key").code, 0);
    let key = home.mint();
    (home, key)
}

fn ask(caller: &mut Caller, key: &str) -> u16 {
    let bytes = request("POST", CHAT, &[("x-api-key", key)], BODY);
    caller.exchange(bytes).status
}

fn requests(home: &Home) -> u64 {
    let json = home.run(&["usage", "--json", "--by", "model"]).json();
    json["total"]["requests"].as_u64().unwrap()
}

#[test]
fn a_command_shows_what_a_running_router_counts() {
    let provider = Provider::answering(json(200, USED));
    let (home, key) = home(&provider);
    assert_eq!(requests(&home), 0);
    let router = home.serve();
    let mut caller = router.connect();
    for _ in 0..5 {
        assert_eq!(ask(&mut caller, &key), 200);
    }
    eventually("the counts", || requests(&home) == 5);
    let done = home.run(&["usage", "--by", "model,day"]);
    let text = &done.stdout;
    assert!(
        text.contains("gpt-4o") && text.contains("TOTAL") && text.contains("300"),
        "{text}"
    );
    assert!(
        text.contains("ABORTED") && !text.contains(" 0  0\n"),
        "{text}"
    );
    let id = home.run(&["keys", "list", "--json"]).json();
    let id = id["keys"][0]["id"]
        .as_str()
        .or(id[0]["id"].as_str())
        .unwrap()
        .to_owned();
    let one = home
        .run(&["usage", "--json", "--key", &id, "--by", "key"])
        .json();
    assert_eq!(one["lines"][0]["output_tokens"], 200);
    let none = home.run(&["usage", "--json", "--key", "key_nobody"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert_eq!(home.run(&["usage", "--by", "colour"]).code, 2);
    let (code, _) = router.stop();
    assert_eq!(code, 0);
    assert_eq!(requests(&home), 5);
}

/// What was answered more than a second before a kill is counted once; what came later at most once.
#[test]
fn kills_lose_nothing_old_and_count_nothing_twice() {
    let provider = Provider::answering(json(200, USED));
    let (home, key) = home(&provider);
    let mut random = Random(7);
    let (mut answered, mut old) = (0, 0);
    for _ in 0..count("MR_USAGE_KILLS", 3) {
        let router = home.serve();
        let mut caller = router.connect();
        let length = Duration::from_millis(50 + random.below(1500));
        let started = Instant::now();
        let mut at = Vec::new();
        while started.elapsed() < length {
            assert_eq!(ask(&mut caller, &key), 200);
            at.push(Instant::now());
            thread::sleep(Duration::from_millis(random.below(20)));
        }
        router.signal(Signal::SIGKILL);
        let killed = Instant::now();
        drop(router);
        let counted = requests(&home);
        answered += at.len() as u64;
        let safe = at
            .iter()
            .filter(|at| killed.duration_since(**at) > Duration::from_secs(1))
            .count() as u64;
        assert!(
            (old + safe..=answered).contains(&counted),
            "{counted} counted, {answered} answered, {safe} of them older than a second"
        );
        // What is lost is lost for good; what is counted stays.
        (answered, old) = (counted, counted);
    }
}

#[test]
fn a_hand_over_counts_every_request_once() {
    let provider = Provider::answering(json(200, USED));
    let (home, key) = home(&provider);
    let mut router: Served = home.serve();
    let mut sent = 0;
    for _ in 0..2 {
        // A connection of the old process goes on for one answer more.
        let mut old = router.connect();
        for _ in 0..10 {
            assert_eq!(ask(&mut old, &key), 200);
        }
        router.hand_over();
        let bytes = request("POST", CHAT, &[("x-api-key", &key)], BODY);
        old.send(&bytes);
        sent += 10 + u64::from(old.try_reply().is_some_and(|reply| reply.status == 200));
        for _ in 0..10 {
            assert_eq!(ask(&mut router.connect(), &key), 200);
        }
        sent += 10;
    }
    eventually("every count", || requests(&home) == sent);
    router.stop();
    assert_eq!(requests(&home), sent);
    let spools = std::fs::read_dir(home.path()).unwrap().flatten();
    let names = spools.map(|entry| entry.file_name().to_string_lossy().into_owned());
    // One of memory may wait for the next start: its writer looks once a second.
    let left: Vec<String> = names.filter(|name| name.contains("usage.spool")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn requests_flow_while_the_store_cannot_be_written() {
    let provider = Provider::answering(json(200, USED));
    let (home, key) = home(&provider);
    // A directory where the file is to be: root writes through permissions.
    std::fs::create_dir(home.file("usage.redb")).unwrap();
    let router = home.serve();
    let mut caller = router.connect();
    for _ in 0..20 {
        assert_eq!(ask(&mut caller, &key), 200);
    }
    eventually("the reason", || {
        router.log().contains("usage store cannot be used")
    });
    std::fs::remove_dir(home.file("usage.redb")).unwrap();
    eventually("the counts", || requests(&home) == 20);
    eventually("the end of it", || router.log().contains("written again"));
    router.stop();
}

/// A router whose files can be limited: those beyond fail like those on a full disk, for a process that the signal does
/// not end.
fn serve_limited(home: &Home) -> Served {
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "trap '' XFSZ; exec \"$0\" serve --dir \"$1\""])
        .arg(env!("CARGO_BIN_EXE_memoryrouter"))
        .arg(home.path())
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Served::start(&mut shell)
}

fn limit_files(router: &Served, bytes: &str) {
    let limited = std::process::Command::new("prlimit")
        .args([
            "--pid",
            &router.pid().to_string(),
            &format!("--fsize={bytes}:unlimited"),
        ])
        .status();
    assert!(limited.unwrap().success());
}

#[test]
fn a_full_disk_stops_no_request_and_heals() {
    let provider = Provider::answering(json(200, USED));
    let (home, key) = home(&provider);
    let router = serve_limited(&home);
    let mut caller = router.connect();
    assert_eq!(ask(&mut caller, &key), 200);
    eventually("the first count", || requests(&home) == 1);
    let file_size = |limit| limit_files(&router, limit);
    file_size("4096");
    for _ in 0..30 {
        assert_eq!(ask(&mut caller, &key), 200);
        thread::sleep(Duration::from_millis(20));
    }
    eventually("the reason", || {
        router.log().contains("usage store cannot be used")
    });
    assert_eq!(requests(&home), 1);
    assert!(!router.log().contains("usage store is written again"));
    file_size("unlimited");
    eventually("the counts", || requests(&home) == 31);
    eventually("the end of it", || {
        router.log().contains("usage store is written again")
    });
    assert_eq!(router.stop().0, 0);
    assert_eq!(requests(&home), 31);
}

#[test]
fn what_is_lost_on_a_disk_that_stays_full_is_told() {
    let provider = Provider::answering(json(200, USED));
    let (home, key) = home(&provider);
    let router = serve_limited(&home);
    limit_files(&router, "0");
    for _ in 0..7 {
        assert_eq!(ask(&mut router.connect(), &key), 200);
    }
    let (code, log) = router.stop();
    assert_eq!(code, 0, "{log}");
    let told: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("counted nowhere"))
        .collect();
    assert!(
        matches!(told[..], [line] if line.contains("ERROR") && line.contains("requests=7")),
        "{log}"
    );
}

#[test]
fn a_restart_begins_no_budget_anew() {
    let provider = Provider::answering(json(200, USED));
    let (home, _) = home(&provider);
    for limit in [
        ["--budget-tokens", "250/day"],
        ["--budget-tokens", "250/month"],
        ["--rpm", "3"],
    ] {
        let made = home
            .run(&[&["keys", "create", "--json"][..], &limit].concat())
            .json();
        let key = made["token"].as_str().unwrap();
        let router = home.serve();
        for _ in 0..2 {
            assert_eq!(ask(&mut router.connect(), key), 200, "{limit:?}");
        }
        // A limit is on what a provider is asked.
        for _ in 0..5 {
            let listed = request("GET", "/v1/models", &[("x-api-key", key)], "");
            assert_eq!(router.connect().exchange(listed).status, 200);
        }
        assert_eq!(router.stop().0, 0);
        let router = home.serve();
        let mut served = 0;
        for _ in 0..4 {
            served += usize::from(ask(&mut router.connect(), key) == 200);
        }
        // 2 of 3 requests are used, or 200 of 250 tokens: one more is let in by its estimate. Anew, it would be three.
        assert_eq!(served, 1, "{limit:?}");
        router.stop();
    }
}

#[test]
fn a_hand_over_lets_nobody_in_who_has_used_all() {
    let provider = Provider::answering(json(200, USED));
    let (home, _) = home(&provider);
    let mut sent = 0;
    for limit in [["--budget-tokens", "200/month"], ["--rpm", "2"]] {
        let made = home
            .run(&[&["keys", "create", "--json"][..], &limit].concat())
            .json();
        let key = made["token"].as_str().unwrap();
        let mut router: Served = home.serve();
        for _ in 0..2 {
            assert_eq!(ask(&mut router.connect(), key), 200, "{limit:?}");
        }
        sent += 2;
        eventually("the counts in the file", || requests(&home) == sent);
        let (addr, over) = (router.addr, AtomicBool::new(false));
        let bytes = request("POST", CHAT, &[("x-api-key", key)], BODY);
        thread::scope(|scope| {
            let asks = scope.spawn(|| {
                let mut statuses = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let mut caller = Caller::connect(addr);
                    caller.send(&bytes);
                    statuses.extend(caller.try_reply().map(|reply| reply.status));
                }
                statuses
            });
            router.hand_over();
            over.store(true, Ordering::Relaxed);
            let statuses = asks.join().unwrap();
            sent += statuses.len() as u64;
            assert!(
                statuses.len() > 1 && statuses.iter().all(|it| *it == 429),
                "{statuses:?}"
            );
        });
        router.stop();
    }
}

#[test]
fn every_route_and_every_end_is_counted() {
    let provider = Provider::start(|request, wire| {
        let (status, body) = match request.target.as_str() {
            "/v1/embeddings" => (
                200,
                r#"{"data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            ),
            "/v1/responses" => (
                200,
                r#"{"output":[],"usage":{"input_tokens":5,"output_tokens":2}}"#,
            ),
            "/v1/messages" => (
                200,
                r#"{"content":[],"usage":{"input_tokens":1,"cache_read_input_tokens":2,"cache_creation_input_tokens":3,"output_tokens":4}}"#,
            ),
            "/v1/completions" => (429, r#"{"error":{}}"#),
            "/v1/moderations" => (400, r#"{"error":{}}"#),
            _ => (
                200,
                r#"{"candidates":[],"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":1,"thoughtsTokenCount":2}}"#,
            ),
        };
        wire.send(json(status, body));
        crate::support::Then::Keep
    });
    let router = Setup::all(&provider).toml("routing.attempts = 1").start();
    for (path, body) in [
        (
            "/v1/embeddings",
            r#"{"model":"text-embedding-3-small","input":"x"}"#,
        ),
        ("/v1/responses", r#"{"model":"gpt-4o","input":"x"}"#),
        (
            "/v1/messages",
            r#"{"model":"claude-sonnet-4-5","messages":[]}"#,
        ),
        ("/v1/completions", r#"{"model":"gpt-4o","prompt":"x"}"#),
        (
            "/v1/moderations",
            r#"{"model":"openai/omni-moderation-latest","input":"x"}"#,
        ),
        ("/v1beta/models/gemini-2.5-pro:generateContent", "{}"),
        ("/v1/chat/completions", r#"{"model":"gpt-4o"}"#),
    ] {
        router.post(path, body);
    }
    router.ask("GET", "/v1/models", &[("Authorization", &router.bearer())]);
    let key = router.mint(NewKey {
        limits: Limits {
            token_budget: Some((1, Period::Day)),
            ..Limits::default()
        },
        ..NewKey::default()
    });
    for _ in 0..2 {
        router.connect().exchange(request(
            "POST",
            "/v1/messages",
            &[("x-api-key", &key)],
            r#"{"model":"claude-sonnet-4-5","messages":[]}"#,
        ));
    }
    let report = || {
        let query = memoryrouter::usage::Query {
            until: i64::MAX,
            by: vec![memoryrouter::usage::By::Route],
            ..Default::default()
        };
        router.used(&query).unwrap()
    };
    eventually("the counts", || report().total.requests == 10);
    let report = report();
    let of = |route: &str| {
        let line = report
            .lines
            .iter()
            .find(|line| line.route.as_deref() == Some(route));
        let figures = &line
            .unwrap_or_else(|| panic!("{route}: {report:?}"))
            .figures;
        (
            figures.input_tokens,
            figures.output_tokens,
            figures.errors_caller,
            figures.errors_provider,
        )
    };
    assert_eq!(of("/v1/embeddings"), (8, 0, 0, 0));
    assert_eq!(of("/v1/responses"), (5, 2, 0, 0));
    // Twice, and once refused by its budget.
    assert_eq!(of("/v1/messages"), (12, 8, 1, 0));
    assert_eq!(of("/v1/completions"), (0, 0, 0, 1));
    assert_eq!(of("/v1/moderations"), (0, 0, 1, 0));
    assert_eq!(of("/v1beta/models:generateContent"), (7, 3, 0, 0));
    assert_eq!(of("/v1/chat/completions"), (0, 0, 1, 0));
    assert_eq!(of("/v1/models"), (0, 0, 0, 0));
    assert_eq!(report.total.unpriced_requests, 0);
}
