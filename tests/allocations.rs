//! What the path allocates, to the piece: allocations of a worker's own thread, counted by a global allocator.
//!
//! A budget that may only fall. Caller and provider stand on threads of their own, which count for themselves.

#![allow(unsafe_code, reason = "a global allocator is unsafe to write")]
#![allow(
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "what this binary shares with the other one, it does not use whole"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may end where it stands"
)]

#[path = "it/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use support::{CHAT, Caller, Gate, Provider, Router, Setup, Then, json};

/// Allocations of one kept-alive exchange with memory off, behind another without a pause: the answer's box, which
/// outlives a stage. Buffers and lists are those of an exchange before, the model's name is one of those named before.
const EXCHANGE: u64 = 1;
/// Of a refused key: the answer is put together from texts.
const REFUSAL: u64 = 14;
/// Of a relayed event of a stream.
const CHUNK: u64 = 0;
/// Bytes that a connection holds between two requests, apart from what the allocator adds. Callers that come over a longer
/// time, as on a busy machine, stand at more of the wheel's ticks: up to 50 bytes of these.
const IDLE_BYTES: u64 = 1150;
/// The same of a connection that was busy before: the read in flight may have room for a whole request.
const PAUSED_BYTES: u64 = IDLE_BYTES + 4096;

/// After this long a caller counts as one that pauses, and its exchanges' box has gone.
const PAUSE: Duration = Duration::from_millis(1500);

const WARM_UP: u64 = 50;
const RUNS: u64 = 1000;

/// Threads that can be told apart; far more than the test starts.
const THREADS_MAX: usize = 256;

struct Thread {
    id: AtomicI32,
    allocations: AtomicU64,
    /// Bytes that are allocated, by this thread less those it freed.
    bytes: AtomicU64,
}

static THREADS: [Thread; THREADS_MAX] = [const {
    Thread {
        id: AtomicI32::new(0),
        allocations: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    }
}; THREADS_MAX];
static STARTED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn own() -> Option<&'static Thread> {
    // A thread at its very end has no such cell any more.
    let index = INDEX
        .try_with(|index| {
            if index.get() == usize::MAX {
                let next = STARTED.fetch_add(1, Ordering::Relaxed);
                index.set(next);
                if let Some(thread) = THREADS.get(next) {
                    let id = nix::unistd::gettid().as_raw();
                    thread.id.store(id, Ordering::Relaxed);
                }
            }
            index.get()
        })
        .ok()?;
    THREADS.get(index)
}

struct Counting;

// SAFETY: everything is the system allocator's; what is added touches atomics and a cell that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some(thread) = own() {
            thread.allocations.fetch_add(1, Ordering::Relaxed);
            thread
                .bytes
                .fetch_add(layout.size() as u64, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(thread) = own() {
            thread
                .bytes
                .fetch_sub(layout.size() as u64, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if let Some(thread) = own() {
            thread.allocations.fetch_add(1, Ordering::Relaxed);
            thread.bytes.fetch_add(size as u64, Ordering::Relaxed);
            thread
                .bytes
                .fetch_sub(layout.size() as u64, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The thread of the one worker.
fn worker() -> &'static Thread {
    let name = |thread: &&Thread| {
        let id = thread.id.load(Ordering::Relaxed);
        let path = format!("/proc/self/task/{id}/comm");
        std::fs::read_to_string(path).is_ok_and(|name| name.trim() == "worker-0")
    };
    THREADS.iter().find(name).expect("no worker runs")
}

/// How many allocations each of many runs of `run` costs the worker.
#[track_caller]
fn each(mut run: impl FnMut()) -> u64 {
    // What is allocated once: buffers that grow, tables, pools.
    for _ in 0..WARM_UP {
        run();
    }
    let thread = worker();
    let before = thread.allocations.load(Ordering::Relaxed);
    for _ in 0..RUNS {
        run();
    }
    // The last one's end may still be under way.
    sleep(Duration::from_millis(50));
    let spent = thread.allocations.load(Ordering::Relaxed) - before;
    // The loop's timers allocate a little by themselves: less than one in so many runs, so it falls out here.
    spent / RUNS
}

fn events(count: usize) -> Vec<u8> {
    let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n";
    format!("{:x}\r\n{event}\r\n", event.len())
        .repeat(count)
        .into_bytes()
}

#[test]
fn budgets() {
    let answer = json(
        200,
        r#"{"choices":[{"message":{"role":"assistant","content":"hello"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
    );
    let gate = Gate::default();
    let steps = gate.clone();
    let provider = Provider::start(move |received, wire| {
        if received.target.ends_with("/completions") && received.body.ends_with(b"true}") {
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..WARM_UP + RUNS {
                steps.pass();
                wire.send(events(1));
            }
            wire.send("0\r\n\r\n");
        } else {
            wire.send(&answer);
        }
        Then::Keep
    });
    let router = Setup::all(&provider)
        .toml("log.access = false\nmemory.enabled = false")
        .start();

    let mut caller = router.connect();
    let request = router.request("/v1/chat/completions", &[], CHAT);
    let exchange = each(|| {
        assert!(caller.send(&request));
        assert_eq!(caller.reply().status, 200);
    });

    let unknown = support::request(
        "POST",
        "/v1/chat/completions",
        &[("Authorization", "Bearer mk_unknown")],
        // Without a body, so that the connection can go on.
        "",
    );
    let mut refused = router.connect();
    let refusal = each(|| {
        refused.send(&unknown);
        assert_eq!(refused.reply().status, 401);
    });

    let mut streaming = router.connect();
    let body = CHAT.strip_suffix('}').unwrap().to_owned() + ",\"stream\":true}";
    streaming.send(router.request("/v1/chat/completions", &[], body));
    streaming.head().unwrap();
    let mut left = events(1).len();
    let chunk = each(|| {
        gate.open();
        streaming.bytes(left);
        left = events(1).len();
    });

    let idle_bytes = idle(&router, 1);
    let paused_bytes = idle(&router, 3);
    let found = format!(
        "exchange {exchange}, refusal {refusal}, chunk {chunk}, idle {idle_bytes} bytes, paused {paused_bytes} bytes"
    );
    eprintln!("{found}");
    assert_eq!(
        (exchange, refusal, chunk),
        (EXCHANGE, REFUSAL, CHUNK),
        "{found}"
    );
    assert!(idle_bytes <= IDLE_BYTES, "{found}");
    assert!(paused_bytes <= PAUSED_BYTES, "{found}");
}

/// The bytes that a connection holds which has served so many requests, one behind the other, and waits for the next.
fn idle(router: &Router, requests: usize) -> u64 {
    const COUNT: u64 = 1000;
    let request = router.request("/v1/chat/completions", &[], CHAT);
    let connect = |count| -> Vec<Caller> {
        let open = |_| {
            let mut caller = router.connect();
            for _ in 0..requests {
                caller.send(&request);
                caller.reply();
            }
            caller
        };
        (0..count).map(open).collect()
    };
    let held = || {
        sleep(PAUSE);
        worker().bytes.load(Ordering::Relaxed)
    };
    let _warm = connect(COUNT / 2);
    let before = held();
    let _idle = connect(COUNT);
    (held() - before) / COUNT
}
