//! Recall in a warm vault, adding to it, and reading text: `cargo bench --bench recall`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use memoryrouter::memory::Query;
use memoryrouter::memory::analyse::{analyse, tokens};
use memoryrouter::memory::index::Entry;
use memoryrouter::memory::rank::rank;
use memoryrouter::memory::select::select;

#[path = "../load/vault.rs"]
mod vault;

fn recall(c: &mut Criterion) {
    let mut group = c.benchmark_group("recall");
    for size in [1_000, 10_000, 100_000] {
        let (index, texts) = vault::vault(size);
        let mut dice = vault::Dice(11);
        let questions: Vec<String> = (0..256)
            .map(|_| vault::question(&texts, &mut dice))
            .collect();
        let mut next = questions.iter().cycle();
        group.bench_function(BenchmarkId::new("rank", size), |b| {
            b.iter(|| {
                next.next()
                    .map(|question| rank(&index, &analyse(question), None, 30))
            });
        });
        group.bench_function(BenchmarkId::new("request", size), |b| {
            b.iter(|| {
                let query = Query {
                    text: next.next()?,
                    session: None,
                    limit: 30,
                    tokens_max: 1000,
                    now_ms: i64::MAX / 2,
                    present: &|_| false,
                };
                Some(select(&index, &query, |seq| texts.get(seq as usize)).len())
            });
        });
    }
    group.finish();
}

fn remember(c: &mut Criterion) {
    let mut dice = vault::Dice(3);
    let text: String = (0..80).map(|_| dice.turn()).collect();
    let mut group = c.benchmark_group("remember");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("analyse", |b| b.iter(|| analyse(&text)));
    group.throughput(Throughput::Elements(1));
    let (mut index, texts) = vault::vault(10_000);
    let mut seq = texts.len() as u64;
    group.bench_function("add", |b| {
        b.iter(|| {
            let text = &texts[seq as usize % texts.len()];
            let analysed = analyse(text);
            let (at_ms, tokens) = (seq as i64 * 60_000, tokens(text));
            index.add(&Entry {
                seq,
                at_ms,
                session: None,
                tokens,
                analysed: &analysed,
            });
            seq += 1;
        });
    });
    group.finish();
}

criterion_group!(benches, recall, remember);
criterion_main!(benches);
