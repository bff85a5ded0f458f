//! The store as its users see it, over real files.

mod damaged;
mod gone;
mod neighbours;

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use super::*;
use crate::clock;
use crate::memory::deletions::What;
use crate::memory::jobs::First;
use crate::memory::words::{Cursor, Delete, Exported, MemoryId, PAGE_BYTES, Role};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

fn settings(dir: &Path) -> MemorySettings {
    MemorySettings {
        path: dir.join("memory.redb"),
        hot_bytes: 64 << 20,
        retention: None,
        embeddings: None,
    }
}

fn open(dir: &Path) -> MemoryStore {
    MemoryStore::open(settings(dir)).unwrap()
}

/// A store whose file at `path` is damaged.
fn open_broken(path: &Path) -> MemoryStore {
    std::fs::write(path, [7; 9000]).unwrap();
    let store = open(path.parent().unwrap());
    eventually("the failure", || {
        matches!(store.status().state, StoreState::Failed(_))
    });
    store
}

fn vault(number: u8) -> VaultRef {
    VaultRef::new(&format!("vault-{number}"), [number; 32])
}

fn said(text: &str) -> NewMemory {
    NewMemory {
        text: text.into(),
        role: Role::User,
        at_ms: 1_700_000_000_000,
        session: None,
    }
}

fn said_in(session: &str, text: &str) -> NewMemory {
    NewMemory {
        session: Some(session.into()),
        ..said(text)
    }
}

fn add(store: &MemoryStore, vault: &VaultRef, texts: &[&str]) -> Added {
    let memories = texts.iter().map(|text| said(text)).collect();
    wait(store.add(vault, memories)).unwrap()
}

fn texts(store: &MemoryStore, vault: &VaultRef) -> Vec<String> {
    let mut export = wait(store.export(vault)).unwrap();
    let mut texts = Vec::new();
    loop {
        let page = wait(export.page()).unwrap();
        if page.is_empty() {
            return texts;
        }
        texts.extend(page.into_iter().map(|one| one.text));
    }
}

fn recalled(store: &MemoryStore, vault: &VaultRef, text: &str) -> Vec<String> {
    let query = Query {
        text,
        session: None,
        limit: 10,
        tokens_max: 1000,
        now_ms: 1_700_000_000_000,
        present: &|_| false,
    };
    let recalled = wait(store.recall(vault, &query)).unwrap();
    recalled.into_iter().map(|one| one.text).collect()
}

fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether any file below `dir` holds these bytes.
fn in_a_file(dir: &Path, needle: &[u8]) -> bool {
    let files = std::fs::read_dir(dir).unwrap();
    files.into_iter().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        memchr::memmem::find(&bytes, needle).is_some()
    })
}

#[test]
fn what_is_added_is_recalled_now_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let added = add(
        &store,
        &vault(1),
        &["The harbour is in Oslo", "Tea, no milk", "Tea, no milk"],
    );
    assert_eq!((added.stored, added.duplicates), (2, 1));
    assert_eq!(added.ids, [MemoryId(0), MemoryId(1)]);
    // The neighbour comes with it, behind it.
    let expected = ["The harbour is in Oslo", "Tea, no milk"];
    assert_eq!(
        recalled(&store, &vault(1), "where is the harbour"),
        expected
    );
    assert!(recalled(&store, &vault(2), "where is the harbour").is_empty());
    store.close();
    assert!(!in_a_file(dir.path(), b"harbour"));
    let store = open(dir.path());
    assert_eq!(
        recalled(&store, &vault(1), "where is the harbour"),
        expected
    );
    assert_eq!(add(&store, &vault(1), &["Tea, no milk"]).duplicates, 1);
    assert_eq!(store.status().loads, 1);
    let stats = wait(store.stats(&vault(1))).unwrap();
    assert_eq!((stats.memories, stats.sessions, stats.bytes), (2, 0, 34));
    assert_eq!(stats.oldest_ms, Some(1_700_000_000_000));
}

#[test]
fn a_capture_is_known_at_once_and_durable_soon() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Cold, then hot, then too long for a worker.
    store.capture(&vault(1), vec![said("the first harbour")], store.moment());
    assert_eq!(texts(&store, &vault(1)), ["the first harbour"]);
    store.capture(&vault(1), vec![said("the second harbour")], store.moment());
    assert_eq!(texts(&store, &vault(1)).len(), 2);
    let long = "the third harbour ".repeat(4000);
    store.capture(&vault(1), vec![said(&long)], store.moment());
    eventually("the long one", || texts(&store, &vault(1)).len() == 3);
    let started = Instant::now();
    eventually("durable", || store.status().stored == 3);
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(store.status().dropped, 0);
    store.close();
    assert_eq!(texts(&open(dir.path()), &vault(1)).len(), 3);
}

#[test]
fn sessions_are_scopes_and_go_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let memories = vec![
        said("the harbour of all"),
        said_in("a", "the harbour of a"),
        said_in("b", "the harbour of b"),
        said_in("a", "the harbour of all"),
    ];
    assert_eq!(wait(store.add(&vault(1), memories)).unwrap().stored, 4);
    assert_eq!(
        recalled(&store, &vault(1), "harbour"),
        ["the harbour of all"]
    );
    let browse = |text, session, limit, before| {
        let browse = Browse {
            text,
            session,
            limit,
            before,
            now_ms: 0,
        };
        let found = wait(store.search(&vault(1), &browse)).unwrap();
        found.into_iter().map(|one| one.id.0).collect::<Vec<_>>()
    };
    assert_eq!(browse("", None, 2, None), [3, 2]);
    let before = Cursor {
        at_ms: 1_700_000_000_000,
        id: MemoryId(2),
    };
    assert_eq!(browse("", None, 2, Some(before)), [1, 0]);
    assert_eq!(browse("", Some("a"), 9, None), [3, 1]);
    assert_eq!(browse("harbour", None, 9, None).len(), 4);
    assert_eq!(browse("harbour", Some("b"), 9, None), [2]);
    let gone = wait(store.delete(&vault(1), Delete::Session("a".into())));
    assert_eq!(gone, Ok(2));
    assert_eq!(wait(store.stats(&vault(1))).unwrap().sessions, 1);
    assert_eq!(
        wait(store.delete(&vault(1), Delete::One(MemoryId(9)))),
        Ok(0)
    );
    assert_eq!(
        wait(store.delete(&vault(1), Delete::One(MemoryId(0)))),
        Ok(1)
    );
    assert!(recalled(&store, &vault(1), "harbour").is_empty());
    store.close();
    let store = open(dir.path());
    assert_eq!(texts(&store, &vault(1)), ["the harbour of b"]);
    assert_eq!(wait(store.delete(&vault(1), Delete::All)), Ok(1));
    // Numbers are never used again.
    assert_eq!(add(&store, &vault(1), &["anew"]).ids, [MemoryId(4)]);
}

/// The sealed rows of the file, as they stand in it.
fn sealed_rows(dir: &Path) -> Vec<Vec<u8>> {
    use redb::{ReadableDatabase as _, ReadableTable as _};
    let database = crate::memory::log::open(&dir.join("memory.redb")).unwrap();
    let reading = database.begin_read().unwrap();
    let rows = reading.open_table(crate::memory::log::ROWS).unwrap();
    let all = rows.iter().unwrap();
    all.map(|row| row.unwrap().1.value().to_vec()).collect()
}

#[test]
fn after_compaction_no_file_holds_what_was_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let many: Vec<String> = (0..3000)
        .map(|n| format!("the harbour number {n}"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    add(&store, &vault(1), &many);
    add(&store, &vault(2), &["what stays"]);
    store.close();
    let before = sealed_rows(dir.path());
    assert_eq!(before.len(), 3001);
    let store = open(dir.path());
    for id in (0..3000).step_by(2) {
        store.core().jobs.push(Job::Delete(
            wait(store.hot(&vault(1))).unwrap(),
            Delete::One(MemoryId(id)),
            oneshot::channel().0,
        ));
    }
    eventually("the deletes", || texts(&store, &vault(1)).len() == 1500);
    // Commits go on meanwhile.
    std::thread::scope(|scope| {
        scope.spawn(|| wait(store.compact()).unwrap());
        for n in 0..20 {
            add(&store, &vault(3), &[&format!("meanwhile {n}")]);
        }
    });
    assert_eq!(texts(&store, &vault(3)).len(), 20);
    let hot = texts(&store, &vault(1));
    store.close();
    let left = sealed_rows(dir.path());
    assert_eq!(left.len(), 1521);
    for row in &before {
        assert_eq!(in_a_file(dir.path(), row), left.contains(row));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let store = open(dir.path());
    assert_eq!(texts(&store, &vault(1)), hot);
    assert_eq!(texts(&store, &vault(3)).len(), 20);
    assert_eq!(wait(store.delete(&vault(1), Delete::All)), Ok(1500));
    wait(store.compact()).unwrap();
    store.close();
    assert_eq!(sealed_rows(dir.path()).len(), 21);
    let small = std::fs::metadata(dir.path().join("memory.redb"))
        .unwrap()
        .len();
    assert!(small < 200 << 10, "{small}");
}

#[test]
fn rows_do_not_open_elsewhere() {
    use crate::memory::log::{ROWS, key};
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for number in 1..=2 {
        let text = format!("the harbour of {number}");
        add(&store, &vault(number), &[&text, "something else"]);
    }
    store.close();
    {
        // Whoever can write the file swaps rows of two vaults, and two of one.
        let database = crate::memory::log::open(&dir.path().join("memory.redb")).unwrap();
        let writing = database.begin_write().unwrap();
        let mut rows = writing.open_table(ROWS).unwrap();
        let place = |vault, seq| key(&seal::tag(&format!("vault-{vault}")), seq);
        let mut take = |key| rows.remove(&key).unwrap().unwrap().value().to_vec();
        let (one, two) = (take(place(1, 0)), take(place(2, 0)));
        let other = take(place(2, 1));
        rows.insert(&place(1, 0), two.as_slice()).unwrap();
        rows.insert(&place(2, 0), other.as_slice()).unwrap();
        rows.insert(&place(2, 1), one.as_slice()).unwrap();
        drop(rows);
        writing.commit().unwrap();
    }
    let store = open(dir.path());
    assert_eq!(texts(&store, &vault(1)), ["something else"]);
    assert!(texts(&store, &vault(2)).is_empty());
    assert_eq!(store.status().damaged, 3);
    // Nor does a vault open under another key, hot or cold.
    let stranger = VaultRef::new("vault-1", [9; 32]);
    assert_eq!(wait(store.stats(&stranger)), Err(MemoryError::Foreign));
    eventually("an idle vault", || store.core().let_go("vault-1", false));
    assert!(texts(&store, &stranger).is_empty());
}

#[test]
fn the_budget_holds_and_costs_nothing_but_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::open(MemorySettings {
        hot_bytes: 1 << 20,
        ..settings(dir.path())
    })
    .unwrap();
    let long = "harbour ".repeat(400);
    for number in 0..=255 {
        for n in 0..8 {
            store.capture(
                &vault(number),
                vec![said(&format!("{n} {long}"))],
                store.moment(),
            );
        }
        texts(&store, &vault(number));
    }
    eventually("room", || {
        assert_eq!(store.status().dropped, 0);
        store.core().evict();
        store.status().hot_bytes <= 1 << 20
    });
    assert!(store.status().evictions > 100);
    for number in 0..=255 {
        assert_eq!(texts(&store, &vault(number)).len(), 8, "{number}");
    }
}

#[test]
fn concurrent_loads_of_a_vault_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    add(&store, &vault(1), &["the harbour"]);
    store.close();
    let store = open(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                store.capture(
                    &vault(1),
                    vec![said(&format!("from {thread}"))],
                    store.moment(),
                );
                assert!(texts(store, &vault(1)).contains(&format!("from {thread}")));
            });
        }
    });
    assert_eq!(store.status().loads, 1);
    assert_eq!(texts(&store, &vault(1)).len(), 9);
}

#[test]
fn a_broken_file_heals_when_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.redb");
    let store = open_broken(&path);
    for text in ["kept", "kept, too"] {
        store.capture(&vault(1), vec![said(text)], store.moment());
    }
    let failed = wait(store.add(&vault(1), vec![said("refused")]));
    assert!(matches!(failed, Err(MemoryError::Unavailable(_))));
    std::fs::remove_file(&path).unwrap();
    eventually("healing", || store.status().state == StoreState::Open);
    eventually("what was kept", || {
        texts(&store, &vault(1)) == ["kept", "kept, too"]
    });
    assert_eq!(store.status().dropped, 0);
    add(&store, &vault(1), &["stored"]);
    // Taken away under a running store: noticed, and a new one made.
    std::fs::remove_file(&path).unwrap();
    eventually("the failure", || store.status().failures >= 2);
    eventually("healing", || store.status().state == StoreState::Open);
    eventually("a vault that is what its file is", || {
        texts(&store, &vault(1)).is_empty()
    });
    add(&store, &vault(1), &["stored again"]);
    store.close();
    assert_eq!(texts(&open(dir.path()), &vault(1)), ["stored again"]);
}

#[test]
fn lists_go_by_time_and_pages_by_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let large = "x".repeat(PAGE_BYTES / 3);
    // What was said last came first, in reverse but for one at the same time.
    let memories = [40, 30, 20, 20, 10].into_iter().enumerate();
    let memories = memories.map(|(n, at_ms)| NewMemory {
        at_ms,
        ..said(&format!("{n} {large}"))
    });
    wait(store.add(&vault(1), memories.collect())).unwrap();
    let ids = |page: Vec<Exported>| page.into_iter().map(|one| one.id.0).collect::<Vec<_>>();
    let mut export = wait(store.export(&vault(1))).unwrap();
    assert_eq!(ids(wait(export.page()).unwrap()), [4, 2, 3]);
    // What is gone by its turn is passed over.
    assert_eq!(
        wait(store.delete(&vault(1), Delete::One(MemoryId(1)))),
        Ok(1)
    );
    assert_eq!(ids(wait(export.page()).unwrap()), [0]);
    assert_eq!(wait(export.page()), Ok(vec![]));
    let mut before = None;
    let mut pages = Vec::new();
    loop {
        let browse = Browse {
            limit: 10,
            before,
            ..Browse::default()
        };
        let found = wait(store.search(&vault(1), &browse)).unwrap();
        let Some(last) = found.last() else { break };
        // Its last is gone before the list goes on.
        before = Some(last.cursor());
        wait(store.delete(&vault(1), Delete::One(last.id))).unwrap();
        pages.push(found.iter().map(|one| one.id.0).collect::<Vec<_>>());
    }
    assert_eq!(pages, [vec![0, 3, 2], vec![4]]);
}

#[test]
fn all_sessions_are_one_order_for_who_looks_through_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let memories = (0..50).map(|n| {
        let more = if n == 7 {
            "harbour tower, harbour wall"
        } else {
            "boats, birds, nets and ropes"
        };
        said_in(&format!("s{n}"), &format!("the harbour of {n}: {more}"))
    });
    wait(store.add(&vault(1), memories.collect())).unwrap();
    let browse = Browse {
        text: "harbour tower",
        limit: 3,
        ..Browse::default()
    };
    let found = wait(store.search(&vault(1), &browse)).unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found[0].session.as_deref(), Some("s7"));
    assert!(found[1].score < found[0].score * 0.5, "{found:?}");
}

#[test]
fn what_is_captured_while_the_log_closes_takes_nobodys_place() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let store = open(dir.path());
        let before = texts(&store, &vault(1));
        assert_eq!(before.len(), round * 50, "{before:?}");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..50 {
                    let text = format!("{round} {n}");
                    store.capture(&vault(1), vec![said(&text)], store.moment());
                }
            });
            store.hand_over();
        });
        store.close();
        drop(store);
        let store = open(dir.path());
        eventually("the spool", || {
            texts(&store, &vault(1)).len() == (round + 1) * 50
        });
        store.close();
    }
}

#[test]
fn what_waits_for_a_vault_or_for_a_thread_has_bounds_too() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody works for it.
    let store = MemoryStore(Arc::new(Handle(Arc::new(Core::new(settings(dir.path()))))));
    let large = |n: u8| vec![said(&String::from(char::from(n)).repeat(20 << 20))];
    let capture = |numbers: std::ops::Range<u8>| {
        for n in numbers {
            store.capture(&vault(n), large(n), store.moment());
        }
        let MemoryStatus {
            queued_bytes,
            dropped,
            ..
        } = store.status();
        (queued_bytes >> 20, dropped)
    };
    assert_eq!(capture(b'a'..b'f'), (60, 2));
    // It is kept while the log cannot be read, and takes no more room then.
    let unread = || Err(MemoryError::Unavailable("unreadable".into()));
    store.core().arrived(&vault(b'a'), unread());
    assert_eq!(capture(b'f'..b'g'), (60, 3));
    let sealer = Arc::new(seal::Sealer::new(&vault(b'a')));
    let hot = Hot::new(sealer, crate::memory::vault::Vault::default());
    store.core().arrived(&vault(b'a'), Ok(Arc::new(hot)));
    assert_eq!(capture(0..0), (60, 3));
    assert_eq!(capture(b'g'..b'k'), (60, 7));
}

#[test]
fn what_waits_for_one_vault_leaves_room_for_what_waits_for_others() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody works for it.
    let store = MemoryStore(Arc::new(Handle(Arc::new(Core::new(settings(dir.path()))))));
    for n in 0..10 {
        let text = format!("{n}{}", "x".repeat(1 << 20));
        store.capture(&vault(1), vec![said(&text)], store.moment());
    }
    let status = store.status();
    assert_eq!((status.queued_bytes >> 20, status.dropped), (3, 7));
    store.capture(&vault(2), vec![said("kept")], store.moment());
    assert_eq!(store.status().dropped, 7);
    // What cannot be read can be emptied all the same.
    assert!(!store.core().hold(&vault(1)));
    store.core().arrived(&vault(1), Err(MemoryError::Closed));
    assert!(store.core().hold(&vault(1)) && !store.core().hold(&vault(1)));
    assert_eq!(store.status().queued_bytes, 4);
}

#[test]
fn a_capture_tells_the_tokens_that_were_taken() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let capture = |texts: &[&str]| {
        let memories = texts.iter().map(|text| said(text)).collect();
        store.capture(&vault(1), memories, store.moment())
    };
    let tokens = |text: &str| u64::from(analyse::tokens(text));
    // A vault that is not here takes what it is given.
    let (cat, dog) = ("the cat is called Tom", "the dog is called Rex");
    assert_eq!(capture(&[cat]), tokens(cat));
    wait(store.warmup(&vault(1))).unwrap();
    assert_eq!(capture(&[cat, dog, dog]), tokens(dog));
    let long = "harbour ".repeat(4000);
    assert_eq!(capture(&[&long, cat]), tokens(&long));
    assert_eq!(capture(&[]), 0);
    let begun = store.moment();
    wait(store.delete(&vault(1), Delete::All)).unwrap();
    assert_eq!(store.capture(&vault(1), vec![said(cat)], begun), 0);
}

#[test]
fn an_end_waits_for_what_is_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let long = |n: usize| format!("{n} {}", "harbour ".repeat(80_000));
    // Into a vault that is there, and into one that is not.
    wait(store.warmup(&vault(1))).unwrap();
    for number in [1, 2] {
        store.capture(&vault(number), vec![said(&long(0))], store.moment());
        store.capture(&vault(number), vec![said(&long(1))], store.moment());
    }
    store.close();
    drop(store);
    let store = open(dir.path());
    for number in [1, 2] {
        eventually("the spool", || texts(&store, &vault(number)).len() == 2);
    }
}

#[test]
fn signs_that_are_no_words_are_looked_for_as_they_stand() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let all = ["We won the cup 🏆", "The unicorn 🦄🌈", "Plain words"];
    add(&store, &vault(1), &all);
    let found = |text: &str| -> Vec<String> {
        let browse = Browse {
            text,
            session: None,
            limit: 10,
            before: None,
            now_ms: 0,
        };
        let found = wait(store.search(&vault(1), &browse)).unwrap();
        found.into_iter().map(|memory| memory.text).collect()
    };
    assert_eq!(found(" 🦄 "), all[1..2]);
    assert_eq!(found("🌈🌈"), Vec::<String>::new());
    assert_eq!(found(" ").len(), 3);
}

#[test]
fn a_large_memory_counts_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let many: Vec<NewMemory> = (0..100).map(|n| said(&format!("small {n}"))).collect();
    wait(store.add(&vault(1), many)).unwrap();
    let before = store.status().hot_bytes;
    for n in 0..3 {
        wait(store.add(
            &vault(1),
            vec![said(&format!("{n} {}", "large ".repeat(50_000)))],
        ))
        .unwrap();
    }
    let grown = store.status().hot_bytes - before;
    assert!(grown >= 900_000, "{grown}");
}
