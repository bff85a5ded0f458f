use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::usage::ledger::{Batch, Ledger, Pass};
use crate::usage::place::Place;

mod damaged;

const SETTINGS: Settings = Settings {
    compact_after: Duration::from_hours(24),
    retention: Duration::from_hours(240),
};

fn open(dir: &Path) -> UsageStore {
    UsageStore::open(SETTINGS, dir, Arc::default(), |_| {}).unwrap()
}

fn ask(store: &UsageStore, query: &Query) -> Result<Report, Unanswered> {
    answer(&store.0.shared, query)
}

fn event<'a>(key: &'a str, model: &'a str, tokens: u64) -> Event<'a> {
    Event {
        key,
        provider: "openai",
        route: "/v1/chat/completions",
        model,
        input: tokens,
        output: 1,
        provider_time: Some(Duration::from_millis(20)),
        costs: true,
        ..Event::default()
    }
}

fn all(by: &[By]) -> Query {
    Query {
        until: clock::unix_seconds() + 1,
        by: by.to_vec(),
        ..Query::default()
    }
}

#[track_caller]
fn eventually(mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_every_core_counts_is_written_and_read_from_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cores = [store.recorder(), store.recorder()];
    for round in 0..10 {
        cores[round % 2].record(&event("key_a", "gpt-4o", 10), clock::unix_seconds());
        cores[0].record(&event("key_b", "unheard-of", 5), clock::unix_seconds());
    }
    let written = || ask_file(dir.path(), &all(&[By::Key, By::Model])).unwrap();
    eventually(|| written().total.requests == 20);
    let report = written();
    assert_eq!(
        (report.total.input_tokens, report.total.output_tokens),
        (150, 20)
    );
    let [a, b] = &report.lines[..] else {
        panic!("{report:?}")
    };
    assert_eq!(
        (a.key.as_deref(), a.model.as_deref()),
        (Some("key_a"), Some("gpt-4o"))
    );
    // 100 tokens at 2.50 and 10 at 10.00 a million.
    assert!((a.figures.cost_usd - 0.00035).abs() < 1e-12, "{a:?}");
    assert_eq!(
        (a.figures.unpriced_requests, b.figures.unpriced_requests),
        (0, 10)
    );
    let p50 = a.figures.provider_latency_ms.p50.unwrap();
    assert!((18.0..22.0).contains(&p50), "{p50}");
    assert_eq!(ask(&store, &all(&[])).unwrap().total, report.total);
    let one = Query {
        key: Some("key_b".into()),
        ..all(&[])
    };
    assert_eq!(ask(&store, &one).unwrap().total.requests, 10);
    for (provider, model, requests) in [
        (Some("openai"), None, 20),
        (Some("anthropic"), None, 0),
        (None, Some("nothing"), 0),
    ] {
        let some = Query {
            provider: provider.map(str::to_owned),
            model: model.map(str::to_owned),
            ..all(&[])
        };
        assert_eq!(ask(&store, &some).unwrap().total.requests, requests);
    }
    let later = Query {
        since: clock::unix_seconds() + 3600,
        until: i64::MAX,
        ..all(&[])
    };
    assert_eq!(ask(&store, &later).unwrap().total.requests, 0);
    store.close();
}

#[test]
fn what_is_written_to_a_cache_for_an_hour_costs_more() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let written = Event {
        provider: "anthropic",
        input: 100,
        output: 0,
        cache_written: 100,
        cache_written_1h: 60,
        ..event("key_a", "claude-sonnet-4-5", 0)
    };
    store.recorder().record(&written, clock::unix_seconds());
    store.close();
    let report = ask_file(dir.path(), &all(&[])).unwrap();
    // 40 tokens at 3.75 and 60 at 6.00 a million.
    assert!(
        (report.total.cost_usd - 0.00051).abs() < 1e-12,
        "{report:?}"
    );
    assert_eq!(report.total.cache_written_tokens, 100);
}

#[test]
fn a_request_without_a_price_is_marked_whatever_comes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let recorder = store.recorder();
    let free = Event {
        costs: false,
        error: Some(Side::Provider),
        ..event("key_a", "unheard-of", 0)
    };
    // Alone or in one batch, and an answer that counts no tokens.
    for commits in 1..3 {
        for _ in 0..5 {
            recorder.record(&free, clock::unix_seconds());
        }
        let uncounted = Event {
            output: 0,
            ..event("key_a", "unheard-of", 0)
        };
        recorder.record(&uncounted, clock::unix_seconds());
        recorder.record(&event("key_a", "gpt-4o", 1), clock::unix_seconds());
        eventually(|| store.status().commits >= commits);
    }
    recorder.record(&free, clock::unix_seconds());
    store.close();
    let total = ask_file(dir.path(), &all(&[])).unwrap().total;
    assert_eq!((total.requests, total.unpriced_requests), (15, 2));
}

#[test]
fn what_was_used_before_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for _ in 0..3 {
        store
            .recorder()
            .record(&event("key_a", "m", 9), clock::unix_seconds());
    }
    store.close();
    drop(store);
    let told = Arc::new(Mutex::new(Vec::new()));
    let hears = told.clone();
    let store = UsageStore::open(SETTINGS, dir.path(), Arc::default(), move |carried| {
        lock(&hears).push(carried);
    });
    let store = store.unwrap();
    eventually(|| store.status().opened);
    store
        .recorder()
        .record(&event("key_a", "m", 9), clock::unix_seconds());
    eventually(|| store.status().commits == 1);
    let told = lock(&told).clone();
    let [carried] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((carried.day.1, carried.month.1), (30, 30));
    let minute = carried.minute.unwrap();
    assert_eq!((minute.requests, minute.tokens), (3, 30));
    assert_eq!(ask(&store, &all(&[])).unwrap().total.requests, 4);
}

#[test]
fn a_hand_over_loses_nothing_and_counts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path());
    let recorder = old.recorder();
    recorder.record(&event("key_a", "m", 1), clock::unix_seconds());
    eventually(|| old.status().commits == 1);
    // The next one is up before the file is free.
    let told = Arc::new(Mutex::new(0));
    let hears = told.clone();
    let new = UsageStore::open(SETTINGS, dir.path(), Arc::default(), move |carried| {
        *lock(&hears) += carried.minute.map_or(0, |minute| minute.requests);
    })
    .unwrap();
    eventually(|| new.status().failed.is_some());
    assert_eq!(ask(&new, &all(&[])).unwrap().total.requests, 1);
    new.recorder()
        .record(&event("key_a", "m", 1), clock::unix_seconds());
    recorder.record(&event("key_a", "m", 1), clock::unix_seconds());
    old.hand_over();
    let total = || ask(&old, &all(&[])).map(|report| report.total.requests);
    eventually(|| total().is_ok_and(|requests| (2..=3).contains(&requests)));
    for _ in 0..5 {
        recorder.record(&event("key_a", "m", 1), clock::unix_seconds());
        thread::sleep(Duration::from_millis(100));
    }
    recorder.record(&event("key_a", "m", 1), clock::unix_seconds());
    old.close();
    let total = || ask(&new, &all(&[])).map_or(0, |report| report.total.requests);
    eventually(|| total() == 9);
    eventually(|| spool::list(dir.path()).is_empty());
    assert_eq!(new.status().failed, None);
    // All but its own counts against limits here, and all of it for the one after it.
    assert_eq!(*lock(&told), 8);
    new.close();
    let reading = ledger::read_foreign(&file(dir.path())).unwrap().unwrap();
    assert_eq!(reading.minute("key_a").unwrap().unwrap().requests, 9);
    // A spool file that comes again, as after a kill between commit and removal, is not counted again.
    let mut tally = Tally::default();
    tally
        .rows
        .insert(b"k\0\0\0\0\x01o\0r\0m"[..].into(), Counts::default());
    let ledger_dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&file(ledger_dir.path())).unwrap();
    assert!(ledger.take_in("usage.spool.1", &tally).unwrap());
    assert!(!ledger.take_in("usage.spool.1", &tally).unwrap());
    ledger.tidy(&[], 0).unwrap();
    assert!(ledger.take_in("usage.spool.1", &tally).unwrap());
}

#[test]
fn a_store_that_cannot_be_written_heals() {
    let dir = tempfile::tempdir().unwrap();
    // A directory stands where the file is to be.
    std::fs::create_dir(file(dir.path())).unwrap();
    let store = open(dir.path());
    let recorder = store.recorder();
    for _ in 0..7 {
        recorder.record(&event("key_a", "m", 1), clock::unix_seconds());
    }
    eventually(|| store.status().failed.is_some() && store.status().pending == 1);
    std::fs::remove_dir(file(dir.path())).unwrap();
    eventually(|| store.status().failed.is_none());
    let total = || ask_file(dir.path(), &all(&[])).unwrap().total.requests;
    eventually(|| total() == 7);
    assert_eq!(store.status().dropped, 0);
}

#[test]
fn models_beyond_the_bound_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let recorder = store.recorder();
    let models: Vec<String> = (0..200).map(|number| format!("made-up-{number}")).collect();
    for round in 0..2 {
        for model in &models {
            recorder.record(&event("key_a", model, 1), clock::unix_seconds());
        }
        eventually(|| store.status().commits > round);
    }
    let total = || ask(&store, &all(&[By::Model])).unwrap();
    eventually(|| total().total.requests == 400);
    let lines = total().lines;
    assert!(lines.len() <= 66, "{}", lines.len());
    assert!(
        lines
            .iter()
            .any(|line| line.model.as_deref() == Some(OTHER_MODEL))
    );
    // What it cost is known all the same.
    recorder.record(&event("key_a", "gpt-4o", 1_000_000), clock::unix_seconds());
    eventually(|| total().total.requests == 401);
    let report = total();
    assert_eq!(report.lines.len(), lines.len());
    assert_eq!(report.total.unpriced_requests, 400);
    assert_eq!(report.total.cost_usd, 2.50001);
}

#[test]
fn what_is_kept_is_as_old_as_the_settings_say_and_a_whole_month_for_its_budgets() {
    // Noon of the 20th of January and of the 2nd of March 1970, by days since the first of January.
    for (day, compact_after, retention, kept) in [
        (19, 7, 400, (12, 0)),
        (60, 7, 30, (53, 30)),
        (60, 7, 1, (59, 59)),
        (19, 7, 3, (16, 0)),
        (19, 30, 10, (9, 0)),
    ] {
        let days = |count: u64| Duration::from_hours(24 * count);
        let settings = Settings {
            compact_after: days(compact_after),
            retention: days(retention),
        };
        let now = day * clock::DAY_SECONDS + clock::DAY_SECONDS / 2;
        let (hour, day) = keeper::kept_from(&settings, now);
        assert_eq!((hour / 24, day), kept, "{now} {settings:?}");
    }
}

#[test]
fn hours_become_days_and_old_days_go() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&file(dir.path())).unwrap();
    let mut tally = Tally::default();
    let mut counts = Counts::default();
    counts.add(Meter::Requests, 1);
    // Ten days, each hour, two models, three keys.
    for key in ["a", "b", "c"] {
        for time in 0..240 {
            for model in ["x", "y"] {
                let mut place = Vec::new();
                Place {
                    key,
                    time,
                    provider: "p",
                    route: "r",
                    model,
                }
                .write(&mut place);
                tally.rows.insert(place.into(), counts.clone());
            }
        }
    }
    ledger
        .write(&Batch {
            id: 7,
            tally: &tally,
            minutes: &[],
        })
        .unwrap();
    assert_eq!(ledger.last_batch().unwrap(), Some(7));
    let ask = |since: i64, until: i64, by: &[By]| {
        let query = Query {
            since: since * 3600,
            until: until * 3600,
            by: by.to_vec(),
            ..Query::default()
        };
        query::answer(&query, Some(&ledger.read().unwrap()), None).unwrap()
    };
    assert_eq!(ask(0, 240, &[]).total.requests, 1440);
    let mut pass = Some(Pass::new());
    let mut steps = 0;
    while let Some(at) = pass {
        // Days before the fifth are joined, those before the second go.
        pass = ledger.compact(at, 120, 2, 50).unwrap();
        steps += 1;
        assert!(steps < 1000);
    }
    assert_eq!(ask(0, 240, &[]).total.requests, 1440 - 2 * 144);
    assert_eq!(ask(0, 120, &[By::Hour]).lines.len(), 3);
    assert_eq!(ask(0, 240, &[By::Day, By::Key]).lines.len(), 8 * 3);
    assert_eq!(ask(130, 131, &[]).total.requests, 6);
    assert_eq!(ledger.read().unwrap().keys().unwrap(), ["a", "b", "c"]);
}

#[test]
fn the_file_does_not_grow_with_commits() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(&file(dir.path())).unwrap();
    let mut tally = Tally::default();
    let mut counts = Counts::default();
    counts.add(Meter::Requests, 1);
    for model in 0..50u8 {
        let mut place = Vec::new();
        let model = format!("m{model}");
        Place {
            key: "key_a",
            time: 7,
            provider: "p",
            route: "r",
            model: &model,
        }
        .write(&mut place);
        tally.rows.insert(place.into(), counts.clone());
    }
    let size = || std::fs::metadata(file(dir.path())).unwrap().len();
    let mut after = Vec::new();
    for round in 0..300 {
        let batch = Batch {
            id: round,
            tally: &tally,
            minutes: &[],
        };
        ledger.write(&batch).unwrap();
        if round % 100 == 99 {
            after.push(size());
        }
    }
    assert!(after[2] <= after[0] && after[2] < 4 << 20, "{after:?}");
}

#[test]
fn a_store_is_made_where_the_file_system_has_no_links() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    let refused = |number| move |_: &Path| Err(std::io::Error::from_raw_os_error(number));
    // EPERM is what such a file system says; EACCES is another matter.
    assert!(Ledger::open_by(&path, refused(13)).is_err());
    assert!(!path.exists());
    drop(Ledger::open_by(&path, refused(1)).unwrap());
    assert_eq!(ask_file(dir.path(), &all(&[])).unwrap().total.requests, 0);
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 1, "nothing but the store");
}

#[test]
fn who_reads_while_a_store_is_made_finds_none_or_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        let dir = dir.path().join(round.to_string());
        std::fs::create_dir(&dir).unwrap();
        let path = file(&dir);
        thread::scope(|scope| {
            let maker = scope.spawn(|| drop(Ledger::open(&path).unwrap()));
            while !path.exists() {
                ask_file(&dir, &all(&[])).unwrap();
            }
            maker.join().unwrap();
        });
        assert_eq!(ask_file(&dir, &all(&[])).unwrap().total.requests, 0);
        let left = std::fs::read_dir(&dir).unwrap().count();
        assert_eq!(left, 1, "nothing but the store");
    }
}
