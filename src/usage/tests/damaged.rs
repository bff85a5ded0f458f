//! A store whose file somebody damaged: redb may panic over it, and nothing else may end with that.

use super::*;
use crate::usage::ledger::LedgerError;

const PAGE_BYTES: usize = 4096;

/// A file with some hours, days and minutes in it.
fn whole(dir: &Path, keys: usize) -> Vec<u8> {
    let ledger = Ledger::open(&file(dir)).unwrap();
    let minute = Minute {
        started: clock::unix_seconds(),
        requests: 1,
        tokens: 1,
    };
    let now = hour_of(clock::unix_seconds());
    for round in 0..4u32 {
        let keys: Vec<String> = (0..keys).map(|number| format!("key_{number}")).collect();
        let minutes: Vec<_> = keys.iter().map(|key| (key.clone(), minute)).collect();
        let tally = tally(keys.iter().map(|key| (key.as_str(), now - 24 * round)));
        let batch = Batch {
            id: u128::from(round),
            tally: &tally,
            minutes: &minutes,
        };
        ledger.write(&batch).unwrap();
        ledger
            .take_in(&format!("usage.spool.{round}"), &tally)
            .unwrap();
        ledger.compact(Pass::new(), now - 30, 0, 20).unwrap();
    }
    drop(ledger);
    std::fs::read(file(dir)).unwrap()
}

fn tally<'a>(places: impl Iterator<Item = (&'a str, u32)>) -> Tally {
    let mut tally = Tally::default();
    let mut counts = Counts::default();
    counts.add(Meter::Requests, 1);
    for (key, time) in places {
        let mut place = Vec::new();
        Place {
            key,
            time,
            provider: "p",
            route: "r",
            model: "m",
        }
        .write(&mut place);
        tally.rows.insert(place.into(), counts.clone());
    }
    tally
}

/// The same file with each page in turn made of one byte.
fn damages<'a>(whole: &'a [u8], bytes: &'a [u8]) -> impl Iterator<Item = Vec<u8>> + 'a {
    let pages = (0..whole.len()).step_by(PAGE_BYTES);
    let used = pages.filter(|at| whole[*at..*at + PAGE_BYTES].iter().any(|byte| *byte != 0));
    used.flat_map(move |at| {
        bytes.iter().map(move |byte| {
            let mut damaged = whole.to_vec();
            damaged[at..at + PAGE_BYTES].fill(*byte);
            damaged
        })
    })
}

/// All that a keeper does to a file.
fn work(path: &Path) -> Result<(), LedgerError> {
    guarded(|| {
        let ledger = Ledger::open(path)?;
        ledger.last_batch()?;
        before::read(&ledger.read()?, clock::unix_seconds())?;
        let now = hour_of(clock::unix_seconds());
        ledger.write(&Batch {
            id: 7,
            tally: &tally([("key_7", now)].into_iter()),
            minutes: &[],
        })?;
        ledger.compact(Pass::new(), now, 0, 1000)?;
        ledger.tidy(&[], 0)
    })
}

#[test]
fn no_damage_ends_more_than_the_work_on_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, path) = (whole(dir.path(), 30), file(dir.path()));
    let mut panics = 0;
    for damaged in damages(&whole, &[0, 0xFF]) {
        std::fs::write(&path, &damaged).unwrap();
        let asked = ask_file(dir.path(), &all(&[By::Key]));
        std::fs::write(&path, &damaged).unwrap();
        let panicked = matches!(work(&path), Err(LedgerError::Damaged));
        panics += usize::from(panicked);
        assert!(panicked || asked.is_ok() || Ledger::open(&path).is_err());
    }
    assert!(panics > 0, "redb is robust by now: is `guarded` needed?");
}

#[test]
fn counts_wait_until_a_damaged_file_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, path) = (whole(dir.path(), 30), file(dir.path()));
    let before = ask_file(dir.path(), &all(&[])).unwrap().total.requests;
    let panics = |damaged: &Vec<u8>| {
        std::fs::write(&path, damaged).unwrap();
        matches!(work(&path), Err(LedgerError::Damaged))
    };
    let damaged = damages(&whole, &[0xFF]).find(panics).unwrap();
    std::fs::write(&path, &damaged).unwrap();

    let store = open(dir.path());
    let recorder = store.recorder();
    let count = || recorder.record(&event("key_7", "m", 1), clock::unix_seconds());
    count();
    let waits = || store.status().pending == 1;
    eventually(|| store.status().failed.is_some() && waits());
    let status = store.status();
    assert_eq!(status.failed.as_deref(), Some("it is damaged"));
    count();
    let asked = ask(&store, &all(&[])).unwrap_err();
    assert!(asked.to_string().ends_with("it is damaged"), "{asked}");
    store.close();
    drop(store);
    assert_eq!(
        spool::list(dir.path()).len(),
        1,
        "what it could not take waits"
    );

    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = told.clone();
    let store = UsageStore::open(SETTINGS, dir.path(), Arc::default(), move |carried| {
        lock(&hears).push(carried);
    });
    let store = store.unwrap();
    let recorder = store.recorder();
    recorder.record(&event("key_7", "m", 1), clock::unix_seconds());
    eventually(|| store.status().failed.is_some());
    // A copy of before takes its place.
    let copy = dir.path().join("copy");
    std::fs::write(&copy, &whole).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    let total = || {
        let asked = ask(&store, &all(&[]));
        asked.map_or(0, |report| report.total.requests)
    };
    eventually(|| total() == before + 3);
    eventually(|| store.status().failed.is_none());
    assert_eq!(store.status().dropped, 0);
}

#[test]
fn a_damaged_name_of_a_key_leads_nobody_round_in_circles() {
    let dir = tempfile::tempdir().unwrap();
    let (keys, name) = (200, b"key_");
    let (whole, path) = (whole(dir.path(), keys), file(dir.path()));
    let mut found = 0;
    for at in (0..whole.len()).step_by(PAGE_BYTES) {
        let page = &whole[at..at + PAGE_BYTES];
        // The first one on the page: what a search for the place behind the page before comes to, unseen.
        let Some(first) = page.windows(name.len()).position(|bytes| bytes == name) else {
            continue;
        };
        let mut damaged = whole.clone();
        damaged[at + first] = 1;
        std::fs::write(&path, &damaged).unwrap();
        match guarded(|| Ledger::open(&path)?.read()?.keys()) {
            Ok(all) => assert!(all.len() <= keys + 1, "{all:?}"),
            Err(error) => found += usize::from(error.is_damage()),
        }
    }
    assert!(found > 0);
}
