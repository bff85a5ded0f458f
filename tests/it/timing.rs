//! What the time of an answer tells about a key: measured and printed, judged by a person.
//!
//! A key that is known, revoked or unknown takes one way through the look-up, so the three should be told apart no
//! better than by guessing.

use std::time::Instant;

use memoryrouter::keys::{KeyState, NewKey};

use crate::support::{Provider, Random, Router, count};

/// Mean and standard error, the slowest hundredth left out: interruptions are not the look-up.
fn mean(mut nanos: Vec<f64>) -> (f64, f64) {
    nanos.sort_by(f64::total_cmp);
    nanos.truncate(nanos.len() * 99 / 100);
    let mean = nanos.iter().sum::<f64>() / nanos.len() as f64;
    let variance = nanos.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (nanos.len() - 1) as f64;
    (mean, (variance / nanos.len() as f64).sqrt())
}

#[test]
fn known_revoked_and_unknown_keys() {
    let rounds = count("TIMING_ROUNDS", 20_000);
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let (revoked, unknown) = router.edit(|editor| {
        let (record, token) = editor.add_key(NewKey {
            account: "default".into(),
            ..NewKey::default()
        })?;
        editor.set_state(&record.id, KeyState::Revoked)?;
        // A well-formed key of nobody: minted, and its record taken out again.
        let (_, unknown) = editor.add_key(NewKey {
            account: "default".into(),
            ..NewKey::default()
        })?;
        editor.contents.keys.pop();
        Ok((token, unknown))
    });
    let snapshot = router.store.current();
    let kinds = [router.key.as_bytes(), revoked.expose(), unknown.expose()];
    let mut nanos: [Vec<f64>; 3] = Default::default();
    let mut random = Random(3);
    for _ in 0..rounds * 3 {
        let kind = random.below(3) as usize;
        let started = Instant::now();
        let found = std::hint::black_box(snapshot.authenticate(kinds[kind], 1));
        let elapsed = started.elapsed();
        assert_eq!(found.is_some(), kind == 0);
        nanos[kind].push(elapsed.as_nanos() as f64);
    }
    let [known, revoked, unknown] = nanos.map(mean);
    for (name, other) in [("revoked", revoked), ("unknown", unknown)] {
        let difference = other.0 - known.0;
        let error = known.1.hypot(other.1);
        println!(
            "known {:.1} ns, {name} {:.1} ns: difference {difference:+.2} ns, t = {:+.2}",
            known.0,
            other.0,
            difference / error
        );
    }
}
