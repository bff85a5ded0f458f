use super::*;
use crate::keys::{self, KeyState, NewKey};

#[test]
fn versions_share_what_is_the_same_and_end_off_the_workers() {
    let dir = tempfile::tempdir().unwrap();
    let files = KeyFiles {
        snapshot: dir.path().join("keys.snapshot"),
        master: MasterSource::File(dir.path().join("master.key")),
    };
    keys::init(&files).unwrap();
    let add = || {
        let new = NewKey {
            account: "default".into(),
            ..NewKey::default()
        };
        keys::edit(&files, |editor| editor.add_key(new)).unwrap()
    };
    let [(kept, _), (changed, token), (removed, _)] = [(); 3].map(|()| add());
    let store = KeyStore::open(files.clone()).unwrap();
    let mut reader = store.reader();
    let (before, weak) = (store.current(), Arc::downgrade(&store.current()));
    keys::edit(&files, |editor| {
        editor.set_state(&changed.id, KeyState::Revoked)?;
        editor.remove_key(&removed.id)
    })
    .unwrap();
    store.reload();
    let now = store.current();
    let same = |id: &str| {
        let of = |snapshot: &Snapshot| snapshot.record(id).cloned();
        of(&before)
            .zip(of(&now))
            .map(|(one, other)| Arc::ptr_eq(&one, &other))
    };
    assert_eq!(same(&kept.id), Some(true));
    assert_eq!(same(&changed.id), Some(false));
    assert_eq!(same(&removed.id), None);
    let grant = |id: &str| now.record(id).unwrap().grant.clone();
    assert!(Arc::ptr_eq(&grant(&kept.id), &grant(&changed.id)));
    assert!(before.authenticate(token.expose(), 0).is_some());
    assert!(now.authenticate(token.expose(), 0).is_none());
    // As a worker does that serves its next request; it frees nothing.
    drop(before);
    store.let_go();
    drop(reader.get());
    assert!(weak.upgrade().is_some());
    store.let_go();
    assert!(weak.upgrade().is_none());
}
