//! Raw HTTP cases with their verdicts: each whole, in 1-byte writes, at every 2-way split, behind a good request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    CHAT, Caller, Provider, Reply, Router, Setup, Then, contains, eventually, json, request,
};

/// Where a case has more bytes than this, not every split is tried but as many, evenly spread.
const SPLITS_MAX: usize = 600;
/// Long enough that the first part is usually read by itself; the parser's own tests split without any chance.
const BETWEEN_PARTS: Duration = Duration::from_micros(300);

struct Case {
    name: String,
    raw: Vec<u8>,
    then: Option<Vec<u8>>,
    expect: String,
    must_close: bool,
    half_close: bool,
    upstream_raw: Option<Vec<u8>>,
    upstream_close: bool,
    upstream_must_not_contain: Vec<Vec<u8>>,
    upstream_must_contain: Vec<Vec<u8>>,
    client_must_not_contain: Vec<Vec<u8>>,
    discard: bool,
    one_response: bool,
}

/// How a case is written to the connection.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Whole,
    Bytes,
    Split(usize),
    Glued,
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

/// Replaces `${KEY}` and `${X*N}`.
fn expand(text: &str, key: &str) -> Vec<u8> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (what, behind) = after.split_once('}').unwrap();
        out += before;
        match what.rsplit_once('*') {
            Some((piece, count)) => out += &piece.repeat(count.parse().unwrap()),
            None => {
                assert_eq!(what, "KEY");
                out += key;
            }
        }
        rest = behind;
    }
    latin1(&(out + rest))
}

fn cases(key: &str) -> Vec<Case> {
    let file: Value = serde_json::from_str(include_str!("../data/http_cases.json")).unwrap();
    let read = |case: &Value| {
        let bytes = |name: &str| case[name].as_str().map(|text| expand(text, key));
        let list = |name: &str| -> Vec<Vec<u8>> {
            let items = case[name].as_array().cloned().unwrap_or_default();
            items
                .iter()
                .map(|item| expand(item.as_str().unwrap(), key))
                .collect()
        };
        Case {
            name: case["name"].as_str().unwrap().into(),
            raw: bytes("raw").unwrap(),
            then: bytes("then"),
            expect: case["expect"].as_str().unwrap().into(),
            must_close: case["close"] == "must",
            half_close: case["half_close"] == true,
            upstream_raw: bytes("upstream_raw"),
            upstream_close: case["upstream_close"] == true,
            upstream_must_not_contain: list("upstream_must_not_contain"),
            upstream_must_contain: list("upstream_must_contain"),
            client_must_not_contain: list("client_must_not_contain"),
            discard: case["upstream_conn"] == "discard",
            one_response: case["max_responses"] == 1,
        }
    };
    file["cases"].as_array().unwrap().iter().map(read).collect()
}

/// An answer, and whether the provider closes behind it.
type Scripted = (Vec<u8>, bool);

/// A router of one worker and its provider, which answers as the case says, or plainly.
struct Bench {
    router: Router,
    provider: Provider,
    scripted: Arc<Mutex<Option<Scripted>>>,
}

impl Bench {
    fn new() -> Self {
        let scripted = Arc::new(Mutex::new(None::<Scripted>));
        let script = scripted.clone();
        let provider = Provider::start(move |request, wire| {
            let script = script.lock().unwrap().clone();
            match script {
                // The good request in front of a glued case gets a good answer.
                Some((answer, close)) if !request.target.contains("good=1") => {
                    wire.send(answer);
                    if close { Then::Close } else { Then::Keep }
                }
                _ => {
                    wire.send(json(200, "{}"));
                    Then::Keep
                }
            }
        });
        let router = Setup::all(&provider)
            .toml("timeouts.body_idle = \"3s\"")
            .start();
        Self {
            router,
            provider,
            scripted,
        }
    }

    fn run(&self, case: &Case, manner: Manner) {
        let what = format!("{} {manner:?}", case.name);
        *self.scripted.lock().unwrap() = case
            .upstream_raw
            .clone()
            .map(|answer| (answer, case.upstream_close));
        let before = self.provider.count();
        let connections_before = self.provider.accepted();
        let mut caller = self.router.connect();
        match manner {
            Manner::Whole => _ = caller.send(&case.raw),
            Manner::Bytes => {
                for byte in case.raw.chunks(1) {
                    if !caller.send(byte) {
                        break;
                    }
                }
            }
            Manner::Split(at) => {
                caller.send(&case.raw[..at]);
                thread::sleep(BETWEEN_PARTS);
                caller.send(&case.raw[at..]);
            }
            Manner::Glued => {
                let good = self
                    .router
                    .request("/v1/chat/completions?good=1", &[], CHAT);
                caller.send([&good[..], &case.raw].concat());
                assert_eq!(caller.reply().status, 200, "{what}: the good request");
            }
        }
        if case.half_close {
            caller.half_close();
        }
        let glued = usize::from(matches!(manner, Manner::Glued));
        self.judge(case, &what, &mut caller);
        drop(caller);
        let received = self.provider.received();
        let expected = match case.expect.as_str() {
            "accept-200-x2" => 2,
            expect if expect.starts_with("accept") => 1,
            expect if expect.starts_with("reject") => 0,
            "bad-gateway-502" | "truncated" | "relay-307" | "no-connect-elsewhere" => 1,
            "no-smuggle" => 1,
            // Refused or served, as long as nothing leaks.
            "no-leak" => received.len() - before - glued,
            other => panic!("{what}: unknown verdict {other}"),
        };
        assert_eq!(
            received.len() - before - glued,
            expected,
            "{what}: requests upstream"
        );
        let upstream: Vec<u8> = received[before..]
            .iter()
            .flat_map(|request| request.raw.clone())
            .collect();
        for forbidden in &case.upstream_must_not_contain {
            assert!(
                !contains(&upstream, forbidden),
                "{what}: {forbidden:?} went upstream"
            );
        }
        assert!(
            !contains(&upstream, b"mk_"),
            "{what}: a memory key went upstream"
        );
        for needed in &case.upstream_must_contain {
            assert!(
                contains(&upstream, needed),
                "{what}: {needed:?} did not go upstream"
            );
        }
        if case.discard {
            *self.scripted.lock().unwrap() = None;
            let bad = received.last().unwrap().connection;
            assert_eq!(
                self.router.post("/v1/chat/completions", CHAT).text(),
                "{}",
                "{what}: poisoned"
            );
            assert_ne!(
                self.provider.last().connection,
                bad,
                "{what}: the connection was used again"
            );
            assert!(self.provider.accepted() > connections_before, "{what}");
        }
    }

    /// Reads the answers and holds them against the verdict.
    fn judge(&self, case: &Case, what: &str, caller: &mut Caller) {
        let statuses: Vec<u16> = case
            .expect
            .split('-')
            .filter_map(|word| word.parse().ok())
            .collect();
        let mut seen = Vec::new();
        let mut take = |reply: &Reply| seen.extend([&reply.raw_head[..], &reply.raw_body].concat());
        match case.expect.as_str() {
            "reject-4xx-or-close" | "reject-4xx-or-501" => match caller.try_reply() {
                Some(reply) => {
                    let fine = (400..500).contains(&reply.status)
                        || reply.status == 501 && case.expect.ends_with("501");
                    assert!(fine, "{what}: {reply:?}");
                    assert_eq!(caller.rest(), b"", "{what}: behind the refusal");
                }
                None => assert!(case.expect.ends_with("close"), "{what}: no answer"),
            },
            expect if expect.starts_with("reject") => {
                let reply = caller.reply();
                assert!(statuses.contains(&reply.status), "{what}: {reply:?}");
                assert!(reply.complete, "{what}: {reply:?}");
                assert!(reply.json()["error"].is_string(), "{what}: {reply:?}");
                // Not all of them have to, but what comes next on a refused connection is never a second answer.
                if case.must_close || case.one_response {
                    assert_eq!(reply.field("connection"), Some("close"), "{what}");
                    assert_eq!(caller.rest(), b"", "{what}: behind the refusal");
                }
            }
            "accept-200-x2" => {
                for _ in 0..2 {
                    assert_eq!(caller.reply().status, 200, "{what}");
                }
            }
            "accept-200-close" => {
                let reply = caller.reply();
                assert_eq!(
                    (reply.status, reply.field("connection")),
                    (200, Some("close")),
                    "{what}"
                );
                assert_eq!(caller.rest(), b"", "{what}: behind the answer");
            }
            "accept-100-200" => {
                assert_eq!(caller.reply().status, 100, "{what}");
                caller.send(case.then.as_ref().unwrap());
                assert_eq!(caller.reply().status, 200, "{what}");
            }
            "truncated" => {
                let reply = caller.reply();
                take(&reply);
                assert!(reply.status == 502 || !reply.complete, "{what}: {reply:?}");
            }
            "no-smuggle" => {
                let reply = caller.reply();
                assert_ne!(reply.status, 101, "{what}");
                take(&reply);
            }
            "no-leak" | "no-connect-elsewhere" => take(&caller.reply()),
            expect if expect.starts_with("accept") || statuses.len() == 1 => {
                let reply = caller.reply();
                assert_eq!(reply.status, statuses[0], "{what}: {reply:?}");
                assert!(reply.complete, "{what}: {reply:?}");
                take(&reply);
                if case.must_close {
                    assert_eq!(caller.rest(), b"", "{what}: behind the answer");
                }
            }
            other => panic!("{what}: unknown verdict {other}"),
        }
        for forbidden in &case.client_must_not_contain {
            assert!(
                !contains(&seen, forbidden),
                "{what}: {forbidden:?} reached the caller"
            );
        }
    }
}

/// Runs `manners` of every case on four routers side by side.
fn run_all(manners: impl Fn(&Case) -> Vec<Manner> + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let bench = Bench::new();
                let cases = cases(&bench.router.key);
                assert!(cases.len() >= 70, "the case file lost cases");
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    for manner in manners(case) {
                        bench.run(case, manner);
                    }
                }
                eventually("all connections closed", || {
                    bench.router.running().connections() == 0
                });
            });
        }
    });
}

#[test]
fn whole_in_single_bytes_and_behind_a_good_request() {
    run_all(|case| {
        // An early end of sending belongs to the whole connection, and so cannot stand behind another request's answer.
        let bytes = (case.raw.len() < 10_000).then_some(Manner::Bytes);
        [Manner::Whole, Manner::Glued]
            .into_iter()
            .chain(bytes)
            .collect()
    });
}

#[test]
fn at_every_split() {
    run_all(|case| {
        let step = case.raw.len().div_ceil(SPLITS_MAX);
        (1..case.raw.len())
            .step_by(step)
            .map(Manner::Split)
            .collect()
    });
}

#[test]
fn a_request_behind_a_refused_one_is_never_served() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    for (field, value) in [("Content-Length", "5"), ("Transfer-Encoding", "chunked")] {
        let mut caller = router.connect();
        let refused = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nHost: a\r\n{field}: {value}\r\n\r\n"
        );
        let next = request("GET", "/health", &[], "");
        caller.send([refused.as_bytes(), &next].concat());
        assert_eq!(caller.reply().status, 400);
        assert_eq!(caller.rest(), b"");
    }
    assert_eq!(provider.count(), 0);
}
