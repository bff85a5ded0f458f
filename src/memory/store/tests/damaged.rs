//! A page of the file that cannot be read: what it held is gone, and nothing else is.

use memchr::memmem;

use super::*;
use crate::memory::compact::{Compaction, Lost};
use crate::memory::log::{Key, Log};
use crate::memory::row::Row;

const ROWS: usize = 400;
const PAGE_BYTES: usize = 4096;
/// What redb writes first on a page that holds entries.
const LEAF: u8 = 1;
/// In front of where its values end; built for tests, redb looks at it as it opens a file.
const HEAD_BYTES: usize = 4;

/// Two vaults in a file, and of the first one a page that cannot be read.
fn damaged(dir: &Path) {
    damaged_by(dir, |page, _| {
        let pairs = usize::from(u16::from_le_bytes([page[2], page[3]]));
        page[HEAD_BYTES..][..pairs * size_of::<u32>()].fill(0xff);
    });
}

/// The same where `damage` is done to the page, on which the first key stands there.
fn damaged_by(dir: &Path, damage: impl Fn(&mut [u8], usize)) {
    let store = open(dir);
    for number in 1..=2 {
        let texts: Vec<String> = (0..ROWS).map(|n| format!("the harbour {n}")).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        add(&store, &vault(number), &texts);
    }
    store.close();
    let path = dir.join("memory.redb");
    let good = std::fs::read(&path).unwrap();
    let tags = [1, 2].map(|number| seal::tag(&format!("vault-{number}")));
    let holds = |page: &[u8], tag: &[u8]| memmem::find_iter(page, tag).count();
    for at in (0..good.len()).step_by(PAGE_BYTES) {
        let page = &good[at..at + PAGE_BYTES];
        if page[0] != LEAF || holds(page, &tags[0]) < 5 || holds(page, &tags[1]) > 0 {
            continue;
        }
        let mut bad = good.clone();
        let first_key = memmem::find(page, &tags[0]).unwrap();
        damage(&mut bad[at..at + PAGE_BYTES], first_key);
        std::fs::write(&path, bad).unwrap();
        let log = Log::new(path.clone());
        log.open().unwrap();
        // It may be one that is not in use any more.
        if log
            .read(&tags[0], |_, _, _| {})
            .is_err_and(|error| error.damaged)
        {
            return;
        }
    }
    panic!("no page of the vault's");
}

fn memories(store: &MemoryStore, number: u8) -> Result<usize, MemoryError> {
    wait(store.stats(&vault(number))).map(|stats| stats.memories as usize)
}

#[test]
fn what_is_left_of_a_vault_comes_back_and_no_other_one_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    let store = open(dir.path());
    store.capture(&vault(1), vec![said("said meanwhile")], store.moment());
    assert_eq!(memories(&store, 2), Ok(ROWS));
    eventually("the vault", || memories(&store, 1).is_ok());
    let left = memories(&store, 1).unwrap();
    assert!((ROWS / 2..ROWS).contains(&left), "{left}");
    assert!(texts(&store, &vault(1)).contains(&"said meanwhile".into()));
    let lost = (ROWS + 1 - left) as u64;
    assert_eq!(add(&store, &vault(1), &["a new one"]).stored, 1);
    let status = store.status();
    // The vault is counted as well.
    assert_eq!((status.damaged, status.failures), (lost + 1, 0));
    store.close();
    let store = open(dir.path());
    assert_eq!(
        (memories(&store, 1), memories(&store, 2)),
        (Ok(left + 1), Ok(ROWS))
    );
    assert_eq!(store.status().damaged, 0);
}

#[test]
fn a_damaged_key_is_no_end_of_a_vault() {
    // Of the keys on the page, which lie one behind the other, the fifth is another vault's: in front of this, behind it.
    for byte in [0, 0xff] {
        let dir = tempfile::tempdir().unwrap();
        damaged_by(dir.path(), |page, first_key| {
            page[first_key + 4 * size_of::<Key>()] = byte;
        });
        let store = open(dir.path());
        assert_eq!(memories(&store, 2), Ok(ROWS));
        eventually("the vault", || memories(&store, 1).is_ok());
        assert_eq!(memories(&store, 1), Ok(ROWS - 1), "{byte}");
        // The vault, and the memory.
        eventually("the count", || store.status().damaged == 2);
        assert_eq!(store.status().failures, 0);
    }
}

#[test]
fn a_vault_that_cannot_be_read_can_be_emptied() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    let store = open(dir.path());
    assert!(wait(store.delete(&vault(1), Delete::All)).is_ok());
    assert_eq!(
        (memories(&store, 1), memories(&store, 2)),
        (Ok(0), Ok(ROWS))
    );
    assert_eq!(store.status().failures, 0);
}

#[test]
fn what_is_to_be_changed_where_nothing_can_be_read_is_changed_in_another_file() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    let log = Log::new(dir.path().join("memory.redb"));
    log.open().unwrap();
    let tag = seal::tag("vault-1");
    let clear = [Op::Clear { tag }];
    assert!(log.commit(&clear).unwrap_err().damaged);
    let mut compaction = Compaction::start(&log).unwrap();
    while compaction.step(&log).unwrap() {}
    let lost = compaction.finish(&log).unwrap();
    let [Lost { vault, rows }] = &lost[..] else {
        panic!("{lost:?}");
    };
    let mut left = 0;
    log.read(&tag, |_, _, _| left += 1).unwrap();
    assert_eq!(
        (vault.as_deref(), left + rows),
        (Some("vault-1"), ROWS as u64)
    );
    log.commit(&clear).unwrap();
    assert_eq!(
        log.read(&tag, |_, _, _| panic!("a row")).unwrap().next_seq,
        ROWS as u64
    );
}

#[test]
fn what_a_new_vault_is_told_while_the_file_is_rewritten_past_damage_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    damaged(dir.path());
    let log = Log::new(dir.path().join("memory.redb"));
    log.open().unwrap();
    let mut compaction = Compaction::start(&log).unwrap();
    // Up to the damage.
    assert!(compaction.step(&log).unwrap());
    let tag = |number: u8| seal::tag(&format!("vault-{number}"));
    // One that is still to be copied.
    let new = (3..).find(|n| tag(*n) > tag(1).max(tag(2))).unwrap();
    let puts = [Op::Put {
        sealer: Arc::new(seal::Sealer::new(&vault(new))),
        seq: 0,
        day: 0,
        record: Row::new(said("said meanwhile")).encode(),
        new: true,
    }];
    log.commit(&puts).unwrap();
    compaction.follow(&puts).unwrap();
    while compaction.step(&log).unwrap() {}
    compaction.finish(&log).unwrap();
    let mut rows = 0;
    log.read(&tag(new), |_, _, _| rows += 1).unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn what_waits_in_the_file_for_a_vault_has_a_bound() {
    use crate::memory::spool;
    let dir = tempfile::tempdir().unwrap();
    let record = |id: &str, mib: usize| (id.to_owned(), vec![7; mib << 20]);
    let left = [
        record("vault-1", 20),
        record("vault-1", 20),
        record("vault-2", 1),
    ];
    // It would grow with every restart.
    for (dropped, there) in [(1, 20), (2, 20)] {
        spool::append(&dir.path().join("memory.spool"), &left).unwrap();
        let store = open(dir.path());
        let waits = || store.core().log.spooled_bytes(&seal::tag("vault-1"));
        eventually("the spool", || {
            waits().is_ok_and(|bytes| bytes >> 20 == there) && store.status().dropped == dropped
        });
        store.close();
    }
}
