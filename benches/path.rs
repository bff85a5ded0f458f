//! Single steps of the path: `cargo bench --bench path`

#![allow(clippy::expect_used, reason = "a benchmark may end where it stands")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[path = "../load/steps.rs"]
mod steps;

fn path(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    for mut step in steps::steps(100_000) {
        if step.bytes > 0 {
            group.throughput(Throughput::Bytes(step.bytes as u64));
        } else {
            group.throughput(Throughput::Elements(1));
        }
        group.bench_function(&step.name, |b| b.iter(|| (step.run)()));
    }
    group.finish();
}

criterion_group!(benches, path);
criterion_main!(benches);
