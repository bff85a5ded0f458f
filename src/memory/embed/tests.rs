//! Vectors from an endpoint that answers, lies, fails and stalls.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::memory::{
    Delete, MemorySettings, MemoryStore, NewMemory, Query, Recalled, Role, VaultRef,
};

/// How an endpoint behaves.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Good,
    /// Takes no text above 600 bytes, and none about poison.
    Picky,
    /// Its vectors have a part more.
    Longer,
    /// Nothing about poison points anywhere.
    Pointless,
    Broken,
    Silent,
}

/// An endpoint that knows which words are of animals and which of money.
struct Stub {
    base_url: String,
    way: Arc<Mutex<Way>>,
    calls: Arc<AtomicUsize>,
}

const ANIMALS: &[&str] = &["cat", "kitten", "feline", "dog", "puppy", "pet"];
const MONEY: &[&str] = &["invoice", "budget", "salary", "pay", "euros"];

fn vector(text: &str, turned: bool) -> [f32; 3] {
    let of = |words: &[&str]| words.iter().filter(|word| text.contains(*word)).count() as f32;
    let (animals, money) = (of(ANIMALS), of(MONEY));
    if turned {
        [0.1, money, animals]
    } else {
        [animals, money, 0.1]
    }
}

impl Stub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (way, calls) = (
            Arc::new(Mutex::new(Way::Good)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (its_way, its_calls) = (way.clone(), calls.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (way, calls) = (its_way.clone(), its_calls.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &way, &calls));
            }
        });
        Self {
            base_url,
            way,
            calls,
        }
    }

    fn set(&self, way: Way) {
        *self.way.lock().unwrap() = way;
    }

    fn settings(&self, dir: &Path, model: &str, deadline: Duration) -> MemorySettings {
        MemorySettings {
            path: dir.join("memory.redb"),
            hot_bytes: 64 << 20,
            retention: None,
            embeddings: Some(EmbeddingSettings {
                base_url: self.base_url.clone(),
                model: model.to_owned(),
                key: Some(Secret::new(b"sk-embeddings".to_vec())),
                deadline,
            }),
        }
    }
}

fn serve(mut stream: TcpStream, way: &Mutex<Way>, calls: &AtomicUsize) {
    let mut received = Vec::new();
    loop {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).unwrap_or(0);
        if count == 0 {
            return;
        }
        received.extend_from_slice(&some[..count]);
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let lower = head.to_ascii_lowercase();
        let length = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < length.unwrap().trim().parse().unwrap() {
            continue;
        }
        assert!(head.starts_with("POST /v1/embeddings "), "{head}");
        assert!(
            lower.contains("authorization: bearer sk-embeddings"),
            "{head}"
        );
        calls.fetch_add(1, Ordering::Relaxed);
        let call: serde_json::Value = serde_json::from_str(body).unwrap();
        let turned = call["model"] == "turned";
        let behaves = *way.lock().unwrap();
        let inputs = call["input"].as_array().unwrap();
        let data: Vec<serde_json::Value> = inputs
            .iter()
            .enumerate()
            .map(|(index, text)| {
                let text = text.as_str().unwrap();
                let mut vector = vector(text, turned).to_vec();
                match behaves {
                    Way::Longer => vector.push(0.0),
                    Way::Pointless if text.contains("poison") => vector.fill(0.0),
                    _ => {}
                }
                serde_json::json!({"object": "embedding", "index": index, "embedding": vector})
            })
            .collect();
        let minds = |text: &str| text.len() > 600 || text.contains("poison");
        let refused = inputs.iter().any(|text| minds(text.as_str().unwrap()));
        let way = *way.lock().unwrap();
        let answer = serde_json::json!({"object": "list", "data": data}).to_string();
        let answer = match way {
            Way::Picky if refused => {
                "HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n".to_owned()
            }
            Way::Good | Way::Picky | Way::Longer | Way::Pointless => format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            ),
            Way::Broken => "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned(),
            Way::Silent => {
                std::thread::sleep(Duration::from_secs(60));
                return;
            }
        };
        stream.write_all(answer.as_bytes()).unwrap();
        received.clear();
    }
}

/// Waits for what wakes this thread.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::park();
    }
}

fn said(text: &str) -> NewMemory {
    NewMemory {
        text: text.to_owned(),
        role: Role::User,
        at_ms: 1_700_000_000_000,
        session: None,
    }
}

fn vault() -> VaultRef {
    VaultRef::new("v", [1; 32])
}

fn ask(store: &MemoryStore, text: &str) -> Vec<String> {
    ask_of(store, &vault(), text)
}

fn ask_of(store: &MemoryStore, vault: &VaultRef, text: &str) -> Vec<String> {
    let query = Query {
        text,
        session: None,
        limit: 1,
        tokens_max: 1000,
        now_ms: 1_700_000_000_000,
        present: &|_| false,
    };
    let recalled: Vec<Recalled> = wait(store.recall(vault, &query)).unwrap();
    recalled.into_iter().map(|memory| memory.text).collect()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

const LONG: Duration = Duration::from_secs(5);
const TEXTS: [&str; 4] = [
    "My kitten is called Minka.",
    "The invoice was paid in March.",
    "We walked along the river.",
    "The train to Porto was late.",
];

/// All at once, so that where one has its vector all have.
fn fill(store: &MemoryStore) {
    let all = TEXTS.iter().map(|text| said(text)).collect();
    wait(store.add(&vault(), all)).unwrap();
}

#[test]
fn what_is_meant_is_found_without_its_words() {
    let (stub, dir) = (Stub::start(), tempfile::tempdir().unwrap());
    let store = MemoryStore::open(stub.settings(dir.path(), "m", LONG)).unwrap();
    fill(&store);
    eventually("vectors", || {
        ask(&store, "Which feline pet do I have?") == TEXTS[..1]
    });
    assert_eq!(
        ask(&store, "What about the budget and my salary?"),
        TEXTS[1..2]
    );
    // Words still count.
    assert_eq!(ask(&store, "Was the train to Porto on time?"), TEXTS[3..]);
    assert_eq!(wait(store.delete(&vault(), Delete::All)).unwrap(), 4);
    assert!(ask(&store, "Which feline pet do I have?").is_empty());
    // What is said afterwards has its vector, too.
    wait(store.add(&vault(), vec![said("A puppy followed me.")])).unwrap();
    eventually("a new one", || {
        !ask(&store, "Which feline pet do I have?").is_empty()
    });
}

#[test]
fn vectors_are_kept_and_made_anew_for_another_model() {
    let (stub, dir) = (Stub::start(), tempfile::tempdir().unwrap());
    let found = |store: &MemoryStore| ask(store, "Which feline pet do I have?") == TEXTS[..1];
    let store = MemoryStore::open(stub.settings(dir.path(), "m", LONG)).unwrap();
    fill(&store);
    eventually("vectors", || found(&store));
    wait(store.compact()).unwrap();
    store.close();
    let file = std::fs::read(dir.path().join("memory.redb")).unwrap();
    assert!(!file.windows(6).any(|window| window == b"kitten"));
    // Only the query is asked for: the others come from the log.
    let calls = stub.calls.load(Ordering::Relaxed);
    let store = MemoryStore::open(stub.settings(dir.path(), "m", LONG)).unwrap();
    assert!(found(&store));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(stub.calls.load(Ordering::Relaxed), calls + 1);
    store.close();
    let store = MemoryStore::open(stub.settings(dir.path(), "turned", LONG)).unwrap();
    eventually("those of the other model", || found(&store));
}

#[test]
fn a_stalled_or_failing_endpoint_costs_its_deadline_and_no_recall() {
    let (stub, dir) = (Stub::start(), tempfile::tempdir().unwrap());
    let deadline = Duration::from_millis(50);
    let store = MemoryStore::open(stub.settings(dir.path(), "m", deadline)).unwrap();
    fill(&store);
    eventually("vectors", || {
        ask(&store, "Which feline pet do I have?") == TEXTS[..1]
    });
    for way in [Way::Silent, Way::Broken] {
        stub.set(way);
        let mut waited = Vec::new();
        for _ in 0..20 {
            let started = Instant::now();
            assert_eq!(ask(&store, "Was the train to Porto on time?"), TEXTS[3..]);
            waited.push(started.elapsed());
        }
        waited.sort_unstable();
        // A machine under load is slow to wake whom it should.
        assert!(waited[19] < deadline * 8, "{waited:?}");
        // After a few it is left alone.
        assert!(waited[10] < deadline, "{waited:?}");
        // Writing goes on, and what has no vector is found by its words.
        let text = format!("The ferry number {} sank.", waited.len());
        wait(store.add(&vault(), vec![said(&text)])).unwrap();
        assert_eq!(ask(&store, "Which ferry sank?"), [text]);
    }
    stub.set(Way::Good);
    eventually("it heals", || {
        ask(&store, "Which feline pet do I have?") == TEXTS[..1]
    });
}

#[test]
fn many_stalled_queries_wait_no_longer_than_one() {
    let (stub, dir) = (Stub::start(), tempfile::tempdir().unwrap());
    let deadline = Duration::from_millis(100);
    let store = MemoryStore::open(stub.settings(dir.path(), "m", deadline)).unwrap();
    fill(&store);
    eventually("vectors", || {
        ask(&store, "Which feline pet do I have?") == TEXTS[..1]
    });
    stub.set(Way::Silent);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| assert_eq!(ask(&store, "Was the train to Porto on time?"), TEXTS[3..]));
        }
    });
    assert!(started.elapsed() < deadline * 6, "{:?}", started.elapsed());
}

#[test]
fn a_text_that_is_refused_stands_in_nobodys_way() {
    let (stub, dir) = (Stub::start(), tempfile::tempdir().unwrap());
    stub.set(Way::Picky);
    let store = MemoryStore::open(stub.settings(dir.path(), "m", LONG)).unwrap();
    let long = format!(
        "A puppy followed me. {}",
        "And then it rained. ".repeat(100)
    );
    let other = VaultRef::new("w", [2; 32]);
    let mut texts: Vec<String> = (0..70).map(|n| format!("Walk {n} was long.")).collect();
    texts.insert(5, "Nothing about poison can be read.".into());
    texts.insert(40, long.clone());
    texts.push(TEXTS[1].into());
    let memories = texts.iter().map(|text| said(text)).collect();
    wait(store.add(&vault(), memories)).unwrap();
    wait(store.add(&other, vec![said(TEXTS[0])])).unwrap();
    // By its beginning, those behind it, and those of another vault.
    eventually("the long one", || {
        ask(&store, "Did any dog come along?") == [&*long]
    });
    eventually("one behind it", || {
        ask(&store, "What about the budget?") == TEXTS[1..2]
    });
    eventually("another's", || {
        ask_of(&store, &other, "Which feline do I have?") == TEXTS[..1]
    });
    // Queries that are refused do not keep others from being asked.
    for n in 0..FAILURES_MAX {
        ask(&store, &format!("poison {n}"));
    }
    assert_eq!(ask(&store, "What about the budget?"), TEXTS[1..2]);
    // Where it refuses everything, it is tried again.
    stub.set(Way::Broken);
    wait(store.add(&vault(), vec![said("Pet food, in the budget.")])).unwrap();
    let calls = stub.calls.load(Ordering::Relaxed);
    eventually("a try", || stub.calls.load(Ordering::Relaxed) > calls + 1);
    stub.set(Way::Good);
    eventually("healing", || {
        ask(&store, "A feline on my salary?") == ["Pet food, in the budget."]
    });
}

#[test]
fn trouble_is_told_of_once_however_early_it_begins() {
    let embedder = Embedder::new(EmbeddingSettings {
        base_url: "http://127.0.0.1:1/v1".into(),
        model: "m".into(),
        key: None,
        deadline: Duration::from_millis(1),
    });
    for (at_ms, told) in [
        (100, true),
        (5_100, false),
        (60_000, false),
        (119_000, false),
        (180_000, true),
        (180_001, false),
    ] {
        assert_eq!(embedder.pause(at_ms), told, "{at_ms}");
        assert!(embedder.paused_until.load(Ordering::Relaxed) > at_ms);
    }
}

#[test]
fn vectors_of_another_length_take_the_place_of_all_others_once() {
    let (stub, dir) = (Stub::start(), tempfile::tempdir().unwrap());
    let found = |store: &MemoryStore| ask(store, "Which feline pet do I have?") == TEXTS[..1];
    let store = MemoryStore::open(stub.settings(dir.path(), "m", LONG)).unwrap();
    fill(&store);
    eventually("vectors", || found(&store));
    stub.set(Way::Longer);
    wait(store.add(&vault(), vec![said("We had soup and bread.")])).unwrap();
    // A query's vector can be compared once the others are as long.
    eventually("longer ones", || found(&store));
    // Back again within one process would be without end.
    stub.set(Way::Good);
    wait(store.add(&vault(), vec![said("It rained on Monday.")])).unwrap();
    wait(store.add(&vault(), vec![said("It rained on Tuesday.")])).unwrap();
    stub.set(Way::Longer);
    let settled = || {
        let calls = stub.calls.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(300));
        stub.calls.load(Ordering::Relaxed) == calls
    };
    eventually("an end of asking", settled);
    assert!(found(&store));
    store.close();
    let store = MemoryStore::open(stub.settings(dir.path(), "m", LONG)).unwrap();
    eventually("those of the file", || found(&store));
    eventually("an end of asking", settled);
}

#[test]
fn what_no_vector_is_to_be_had_for_is_asked_for_once() {
    for way in [Way::Picky, Way::Pointless] {
        let (stub, dir) = (Stub::start(), tempfile::tempdir().unwrap());
        stub.set(way);
        let store = MemoryStore::open(stub.settings(dir.path(), "m", LONG)).unwrap();
        wait(store.add(&vault(), vec![said("Nothing about poison.")])).unwrap();
        fill(&store);
        let found = |store: &MemoryStore| ask(store, "Which feline pet do I have?") == TEXTS[..1];
        eventually("vectors", || found(&store));
        store.close();
        let calls = stub.calls.load(Ordering::Relaxed);
        let store = MemoryStore::open(stub.settings(dir.path(), "m", LONG)).unwrap();
        assert!(found(&store));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(stub.calls.load(Ordering::Relaxed), calls + 1);
    }
}
