use super::*;
use crate::keys::{self, KeyState, NewKey};

#[test]
fn versions_share_what_is_the_same() {
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
    let before = store.current();
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
    assert!(before.authenticate(token.expose(), 0).is_some());
    assert!(now.authenticate(token.expose(), 0).is_none());
}
