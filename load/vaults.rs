//! What memory costs: prints load times of a cold vault, RAM per memory and per idle vault, the footprint of many vaults,
//! and what a commit costs alone and in company. Takes the number of vaults; writes into a directory of its own.

#![allow(clippy::expect_used, reason = "a measurement may end where it stands")]

use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use memoryrouter::memory::{MemorySettings, MemoryStore, NewMemory, Query, Role, VaultRef};
use memoryrouter::net;

const NOW_MS: i64 = 1_700_000_000_000;
const LARGE: usize = 10_000;
const PER_VAULT: usize = 3;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }

    /// A few sentences of words that are as unevenly common as those of a language.
    fn text(&mut self) -> String {
        let words = 12 + self.below(40);
        let word = |random: &mut Self| {
            let rank = (1u64 << random.below(14)) + random.below(64);
            format!("w{:x}ord", rank.wrapping_mul(2654435761) % 50_000)
        };
        let all: Vec<String> = (0..words).map(|_| word(self)).collect();
        all.join(" ")
    }

    fn memories(&mut self, count: usize) -> Vec<NewMemory> {
        let memory = |n: usize| NewMemory {
            text: format!("{n} {}", self.text()),
            role: Role::User,
            at_ms: NOW_MS + n as i64 * 60_000,
            session: None,
        };
        (0..count).map(memory).collect()
    }
}

fn vault(number: usize) -> VaultRef {
    let mut key = [7; 32];
    key[..8].copy_from_slice(&number.to_le_bytes());
    VaultRef::new(&format!("vault-{number}"), key)
}

fn open(dir: &Path, hot_bytes: usize) -> MemoryStore {
    let settings = MemorySettings {
        path: dir.join("memory.redb"),
        hot_bytes,
        retention: None,
        embeddings: None,
    };
    MemoryStore::open(settings).expect("threads")
}

fn rss_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.expect("VmRSS") << 10
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    net::run(future).expect("a runtime")
}

fn file_bytes(dir: &Path) -> u64 {
    fs::metadata(dir.join("memory.redb"))
        .expect("the log")
        .len()
}

fn recall_micros(
    store: &MemoryStore,
    vault: &VaultRef,
    random: &mut Random,
    rounds: usize,
) -> [u128; 2] {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let text = random.text();
        let query = Query {
            text: &text,
            session: None,
            limit: 30,
            tokens_max: 1000,
            now_ms: NOW_MS,
            present: &|_| false,
        };
        let started = Instant::now();
        // A hot vault is never waited for.
        let _ = futures_now(store.recall(vault, &query));
        times.push(started.elapsed().as_micros());
    }
    times.sort_unstable();
    [times[rounds / 2], times[rounds * 99 / 100]]
}

fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

fn main() {
    let vaults: usize = std::env::args()
        .nth(1)
        .map_or(100_000, |text| text.parse().expect("a number"));
    let dir = tempfile::tempdir().expect("a directory");
    let mut random = Random(1);

    let store = open(dir.path(), 256 << 20);
    let memories = random.memories(LARGE);
    let text_bytes: usize = memories.iter().map(|memory| memory.text.len()).sum();
    let started = Instant::now();
    let added = wait(store.add(&vault(0), memories)).expect("stored");
    println!(
        "add {} memories at once: {:.0?}, durable",
        added.stored,
        started.elapsed()
    );
    println!(
        "text per memory: {} B; file per memory: {} B",
        text_bytes / LARGE,
        file_bytes(dir.path()) / LARGE as u64
    );
    for (count, rounds) in [(1, 50), (100, 20)] {
        let started = Instant::now();
        for round in 0..rounds {
            let adds = (0..count).map(|n| {
                let (store, vault) = (store.clone(), vault(1));
                let memory = NewMemory {
                    text: format!("{count} {round} {n}"),
                    role: Role::User,
                    at_ms: NOW_MS,
                    session: None,
                };
                async move { store.add(&vault, vec![memory]).await.expect("stored") }
            });
            wait(all(adds.collect()));
        }
        let each = started.elapsed() / (count * rounds);
        println!("a durable write in groups of {count}: {each:.1?} each");
    }
    store.close();
    drop(store);

    for _ in 0..3 {
        let before = rss_bytes();
        let store = open(dir.path(), 256 << 20);
        wait(store.stats(&vault(1))).expect("open");
        let started = Instant::now();
        wait(store.stats(&vault(0))).expect("loaded");
        let took = started.elapsed();
        let counted = store.status().hot_bytes / LARGE;
        println!(
            "cold load of {LARGE}: {took:.1?}; RAM per memory: {counted} B counted, {} B of RSS",
            rss_bytes().saturating_sub(before) / LARGE
        );
        store.close();
    }

    let store = open(dir.path(), 64 << 20);
    let started = Instant::now();
    for first in (0..vaults).step_by(64) {
        let adds = (first..vaults.min(first + 64)).map(|number| {
            let (store, vault, memories) = (
                store.clone(),
                vault(10 + number),
                random.memories(PER_VAULT),
            );
            async move { store.add(&vault, memories).await.expect("stored") }
        });
        wait(all(adds.collect()));
    }
    let status = store.status();
    println!(
        "{vaults} vaults of {PER_VAULT} under a budget of 64 MiB: {:.1?}; hot {} vaults, {} MiB counted ({} B each), RSS {} MiB, file {} MiB",
        started.elapsed(),
        status.hot_vaults,
        status.hot_bytes >> 20,
        status.hot_bytes / status.hot_vaults.max(1),
        rss_bytes() >> 20,
        file_bytes(dir.path()) >> 20,
    );
    store.close();
    drop(store);
    let started = Instant::now();
    let store = open(dir.path(), 64 << 20);
    wait(store.stats(&vault(1))).expect("open");
    println!(
        "opened with {vaults} vaults in {:.1?}; RSS {} MiB",
        started.elapsed(),
        rss_bytes() >> 20
    );

    wait(store.stats(&vault(0))).expect("loaded");
    let alone = recall_micros(&store, &vault(0), &mut random, 3000);
    let mut times = [0; 2];
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            for number in 0..vaults.min(20_000) {
                let started = Instant::now();
                wait(store.stats(&vault(10 + number))).expect("loaded");
                longest = longest.max(started.elapsed());
            }
            longest
        });
        while !loading.is_finished() {
            times = recall_micros(&store, &vault(0), &mut random, 3000);
        }
        println!(
            "longest cold load of a small vault: {:.1?}",
            loading.join().expect("loads")
        );
    });
    println!(
        "hot recall in {LARGE}: p50 {} µs, p99 {} µs; while others load: {} µs, {} µs",
        alone[0], alone[1], times[0], times[1]
    );
}

/// Runs all of them together.
async fn all<F: Future + 'static>(futures: Vec<F>) {
    let left = std::rc::Rc::new(std::cell::Cell::new(futures.len()));
    for future in futures {
        let left = left.clone();
        net::spawn(async move {
            future.await;
            left.set(left.get() - 1);
        });
    }
    while left.get() > 0 {
        net::sleep(Duration::from_micros(50)).await;
    }
}
