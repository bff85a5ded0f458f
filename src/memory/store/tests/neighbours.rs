//! What goes from one process to the next, and what must not.

use super::*;

#[test]
fn late_captures_go_to_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path());
    add(&old, &vault(1), &["before"]);
    old.close();
    let new = open(dir.path());
    add(&new, &vault(1), &["meanwhile"]);
    // What it holds may have been deleted since, and have other ids.
    assert_eq!(wait(old.stats(&vault(1))), Err(MemoryError::Closed));
    let query = Query {
        text: "before",
        session: None,
        limit: 5,
        tokens_max: 1000,
        now_ms: 1_700_000_000_000,
        present: &|_| false,
    };
    assert_eq!(
        wait(old.recall(&vault(1), &query)),
        Err(MemoryError::Closed)
    );
    old.capture(&vault(1), vec![said("late, hot")], old.moment());
    old.capture(&vault(2), vec![said("late, cold")], old.moment());
    old.close();
    assert_eq!(
        wait(old.add(&vault(1), vec![said("no")])),
        Err(MemoryError::Closed)
    );
    assert!(!in_a_file(dir.path(), b"late"));
    // Hot there, and cold there.
    eventually("the spool", || texts(&new, &vault(1)).len() == 3);
    eventually("the spool", || texts(&new, &vault(2)).len() == 1);
    assert_eq!(new.status().dropped + old.status().dropped, 0);
    assert!(!dir.path().join("memory.spool").exists());
    new.close();
    let new = open(dir.path());
    assert_eq!(texts(&new, &vault(1)), ["before", "meanwhile", "late, hot"]);
    assert_eq!(texts(&new, &vault(2)), ["late, cold"]);
}

#[test]
fn waits_for_a_process_that_is_on_its_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path());
    add(&old, &vault(1), &["before"]);
    let new = open(dir.path());
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(texts(&new, &vault(1)), ["before"]));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(new.status().state, StoreState::Opening);
        old.close();
    });
    assert_eq!(new.status().state, StoreState::Open);
}

#[test]
fn what_another_process_left_from_before_a_deletion_is_not_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path());
    add(&old, &vault(1), &["before"]);
    old.close();
    let begun = old.moment();
    let new = open(dir.path());
    assert_eq!(wait(new.delete(&vault(1), Delete::All)), Ok(1));
    // An answer begins later than its turn does, which is what counts.
    let now_ms = crate::clock::unix_millis();
    let answer = |text: &str| NewMemory {
        at_ms: now_ms + 60_000,
        ..said(text)
    };
    let late = vec![said("late"), answer("late answer")];
    old.capture(&vault(1), late, begun);
    let mut later = old.moment();
    later.at_ms = now_ms + 50_000;
    old.capture(&vault(1), vec![answer("later")], later);
    old.close();
    eventually("the spool", || !texts(&new, &vault(1)).is_empty());
    assert_eq!(texts(&new, &vault(1)), ["later"]);
}

#[test]
fn what_was_deleted_before_a_handover_does_not_come_back_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path());
    add(&old, &vault(1), &["before"]);
    let begun = old.moment();
    assert_eq!(wait(old.delete(&vault(1), Delete::All)), Ok(1));
    // Its vault may have left RAM by the time when a turn ends.
    old.core().let_go("vault-1", true);
    old.close();
    old.capture(&vault(1), vec![said("late")], begun);
    old.capture(&vault(1), vec![said("later")], old.moment());
    old.close();
    let new = open(dir.path());
    eventually("the spool", || !texts(&new, &vault(1)).is_empty());
    assert_eq!(texts(&new, &vault(1)), ["later"]);
}

#[test]
fn what_another_process_left_comes_into_a_vault_that_was_just_being_read() {
    let dir = tempfile::tempdir().unwrap();
    let core = Core::new(settings(dir.path()));
    core.log.open().unwrap();
    assert!(matches!(core.find(&vault(1)), Ok(Found::Coming(_))));
    let sealer = Arc::new(seal::Sealer::new(&vault(1)));
    // What it holds has been read, and then comes more.
    let hot = Arc::new(Hot::new(
        sealer.clone(),
        crate::memory::vault::Vault::default(),
    ));
    let row = crate::memory::row::Row::new(said("late")).encode();
    let sealed = sealer.seal(seal::Place::Spool, [1; seal::NONCE_BYTES], &row);
    let left = Op::Spool {
        id: "vault-1".into(),
        sealed: sealed.unwrap(),
    };
    core.log.commit(&[left]).unwrap();
    loader::work(&core, Job::TakeIn("vault-1".into()));
    core.arrived(&vault(1), Ok(hot.clone()));
    core.jobs.push(Job::Evict);
    assert!(matches!(
        core.jobs.next(First::Loads, || false),
        Some(Job::Load(_))
    ));
    let Some(job @ Job::TakeIn(_)) = core.jobs.next(First::Loads, || false) else {
        panic!("nothing is taken in");
    };
    loader::work(&core, job);
    assert_eq!(hot.read().stats().memories, 1);
}

#[test]
fn what_waits_for_a_log_that_never_opens_is_left_for_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.redb");
    let store = open_broken(&path);
    store.capture(&vault(1), vec![said("kept")], store.moment());
    let started = Instant::now();
    store.close();
    assert!(started.elapsed() < CLOSE_PATIENCE);
    drop(store);
    std::fs::remove_file(&path).unwrap();
    let store = open(dir.path());
    eventually("the spool", || texts(&store, &vault(1)) == ["kept"]);
}
