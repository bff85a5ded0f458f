//! What is deleted, too old, or said again meanwhile.

use super::*;

#[test]
fn retention_removes_what_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let now_ms = crate::clock::unix_seconds() * 1000;
    let day = Duration::from_hours(24);
    let kept = |days: i64| NewMemory {
        at_ms: now_ms - days * 86_400_000,
        ..said(&format!("{days} days ago"))
    };
    let store = open(dir.path());
    for number in [1, 2] {
        let memories = vec![kept(1), kept(9), kept(40)];
        wait(store.add(&vault(number), memories)).unwrap();
    }
    store.close();
    let store = MemoryStore::open(MemorySettings {
        retention: Some(10 * day),
        ..settings(dir.path())
    })
    .unwrap();
    assert_eq!(texts(&store, &vault(1)), ["9 days ago", "1 days ago"]);
    // One commit for the vault that was loaded, and one for the other, found by its days.
    eventually("both", || {
        store.status().commit_times.counts.iter().sum::<u64>() >= 2
    });
    store.close();
    // The vault that nobody asked for, too.
    assert_eq!(sealed_rows(dir.path()).len(), 4);
}

#[test]
fn what_is_too_old_is_neither_taken_nor_recalled() {
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::open(MemorySettings {
        retention: Some(Duration::from_hours(1)),
        ..settings(dir.path())
    })
    .unwrap();
    let now = crate::clock::unix_millis();
    let aged = |minutes: i64, text: &str| NewMemory {
        at_ms: now - minutes * 60_000,
        ..said(text)
    };
    let memories = vec![
        aged(61, "the harbour of old"),
        aged(59, "the harbour of now"),
    ];
    let added = wait(store.add(&vault(1), memories)).unwrap();
    assert_eq!((added.stored, added.expired), (1, 1));
    let hot = wait(store.hot(&vault(1))).unwrap();
    for (oldest, found) in [(now - 3_600_000, 1), (now, 0)] {
        let query = Query {
            text: "the harbour",
            session: None,
            limit: 10,
            tokens_max: 1000,
            now_ms: now,
            present: &|_| false,
        };
        assert_eq!(hot.read().recall(&query, None, oldest).len(), found);
    }
    let much = "x".repeat(queue::BYTES_MAX + 1);
    let refused = wait(store.add(&vault(1), vec![aged(0, &much)]));
    assert_eq!(refused, Err(MemoryError::TooLarge(queue::BYTES_MAX)));
}

#[test]
fn a_vault_without_a_key_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    add(&store, &vault(1), &["one"]);
    add(&store, &vault(2), &["two"]);
    let in_hand = wait(store.hot(&vault(1))).unwrap();
    assert_eq!(store.forget_vaults(&|id| id == "vault-2"), Ok(1));
    // Who still has it in hand counts it no more.
    let counted = store.status().hot_bytes;
    store.core().recount(&in_hand, 1 << 20);
    assert_eq!(store.status().hot_bytes, counted);
    drop(in_hand);
    assert!(texts(&store, &vault(1)).is_empty());
    assert_eq!(texts(&store, &vault(2)), ["two"]);
    wait(store.compact()).unwrap();
    store.close();
    assert_eq!(sealed_rows(dir.path()).len(), 1);
}

#[test]
fn what_was_said_before_a_deletion_is_not_stored_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let two = || vec![said_in("s", "in a session"), said("in none")];
    for (number, which, stored) in [
        (1, Delete::All, &[][..]),
        (2, Delete::Session("s".into()), &["in none"]),
        (3, Delete::One(MemoryId(1)), &["in a session"]),
    ] {
        let vault = vault(number);
        wait(store.add(&vault, two())).unwrap();
        let begun = store.moment();
        wait(store.delete(&vault, which)).unwrap();
        store.capture(&vault, two(), begun);
        assert_eq!(texts(&store, &vault), stored);
        // A job of an earlier turn that is done after the deletion.
        let hot = wait(store.hot(&vault)).unwrap();
        let new = store.core().without_twins(&hot, two(), By::Turn);
        let bytes = new.iter().map(Hashed::bytes).sum();
        store.core().queue.announce(bytes);
        loader::work(store.core(), Job::Capture(hot, new, begun));
        assert_eq!(texts(&store, &vault), stored);
        store.capture(&vault, vec![said("afterwards")], store.moment());
        assert!(texts(&store, &vault).contains(&"afterwards".into()));
    }
}

#[test]
fn what_is_said_again_while_old_rows_are_removed_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = MemoryStore::open(MemorySettings {
        retention: Some(Duration::from_hours(48)),
        ..settings(dir.path())
    });
    let store = store.unwrap();
    let at = |at_ms, text: &str| NewMemory {
        at_ms,
        ..said(text)
    };
    let (now, old) = (clock::unix_millis(), said("").at_ms);
    // Of a vault in RAM and of one that is not.
    for number in [1, 2] {
        let two = ["again", "never again"].map(|text| at(old, text));
        wait(store.add(&vault(number), two.into())).unwrap();
    }
    store.core().let_go("vault-2", true);
    // On its way into the log when the rows are looked for.
    store.capture(&vault(1), vec![at(now, "again")], store.moment());
    loader::work(store.core(), Job::Retain);
    assert_eq!(texts(&store, &vault(1)), ["again"]);
    store.close();
    let store = open(dir.path());
    assert_eq!(texts(&store, &vault(1)), ["again"]);
    assert_eq!(texts(&store, &vault(2)), [""; 0]);
}

#[test]
fn what_may_have_been_deleted_is_dropped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let begun = store.moment();
    for text in 0..1000 {
        let tag = seal::tag("vault-1");
        store.core().deletions.note(&tag, What::Text(text), 0);
    }
    for (number, dropped) in [(2, 0), (1, 2)] {
        let two = vec![said("one"), said("two")];
        store.capture(&vault(number), two, begun);
        let held = texts(&store, &vault(number)).len() as u64;
        assert_eq!((held, store.status().dropped), (2 - dropped, dropped));
    }
}

#[test]
fn what_is_said_again_holds_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let [elm, oak] = ["I live in Elm Street now", "I live in Oak Street now"];
    let at = |text: &str, role: Role, at_ms: i64| NewMemory {
        at_ms,
        role,
        ..said(text)
    };
    let user = |text: &str, at_ms| at(text, Role::User, at_ms);
    let store = open(dir.path());
    let say = |memory: NewMemory, order: [&str; 2]| {
        store.capture(&vault(1), vec![memory], store.moment());
        assert_eq!(texts(&store, &vault(1)), order);
    };
    let told = vec![user(elm, 100_000), user(oak, 200_000)];
    assert_eq!(wait(store.add(&vault(1), told)).unwrap().stored, 2);
    say(user(elm, 109_999), [elm, oak]);
    // Nor what is put in.
    assert_eq!(
        wait(store.add(&vault(1), vec![user(elm, 900_000)]))
            .unwrap()
            .duplicates,
        1
    );
    // Nor what was said before, nor what a model repeats.
    say(user(elm, 250_000), [oak, elm]);
    say(user(oak, 150_000), [oak, elm]);
    say(at(oak, Role::Assistant, 900_000), [oak, elm]);
    say(user(oak, 300_000), [elm, oak]);
    let later = vec![user(elm, 400_000)];
    assert_eq!(
        wait(store.add_turn(&vault(1), later)).unwrap().duplicates,
        1
    );
    assert_eq!(texts(&store, &vault(1)), [oak, elm]);
    let seen = |store: &MemoryStore| {
        let browse = Browse {
            limit: 10,
            ..Browse::default()
        };
        let found = wait(store.search(&vault(1), &browse)).unwrap();
        let seen = found.iter().map(|one| (one.id.0, one.at_ms));
        (seen.collect::<Vec<_>>(), store.status().stored)
    };
    assert!(store.flush());
    assert_eq!(seen(&store), (vec![(0, 400_000), (1, 300_000)], 2));
    wait(store.compact()).unwrap();
    store.close();
    let store = open(dir.path());
    assert_eq!(seen(&store).0, [(0, 400_000), (1, 300_000)]);
    assert_eq!(
        wait(store.delete(&vault(1), Delete::One(MemoryId(0)))),
        Ok(1)
    );
    assert_eq!(texts(&store, &vault(1)), [oak]);
}
