use super::*;
use crate::usage::ledger::Ledger;

#[test]
fn what_may_not_have_arrived_waits_too_and_the_file_is_good_once_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let tally = || {
        let mut tally = Tally::default();
        let place = b"k\0\0\0\0\x01o\0r\0m"[..].into();
        tally.rows.insert(place, Counts::default());
        tally
    };
    let shared = Arc::new(Shared {
        settings: Settings {
            compact_after: Duration::from_hours(24),
            retention: Duration::from_hours(240),
        },
        dir: dir.path().to_owned(),
        recorders: Mutex::default(),
        prices: Mutex::default(),
        state: Mutex::default(),
    });
    let path = dir.path().join(FILE_NAME);
    std::fs::create_dir(&path).unwrap();
    let mut keeper = Keeper::new(shared.clone(), Box::new(|_| {}));
    lock(&shared.state).doubtful = Some((7, tally()));
    keeper.round();
    let status = lock(&shared.state).status.clone();
    assert!(status.failed.is_some());
    assert_eq!(status.pending, 1);
    // That it opens says nothing of what is written.
    std::fs::remove_dir(&path).unwrap();
    let mut state = lock(&shared.state);
    assert!(keeper.ready(&mut state));
    assert!(state.status.failed.is_some());
    drop(state);
    keeper.round();
    let status = lock(&shared.state).status.clone();
    assert_eq!((status.failed, status.pending), (None, 0));
    lock(&shared.state).ledger = None;
    assert!(Ledger::open(&path).unwrap().last_batch().unwrap().is_some());
}
