mod faults;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::keys::{KeyRecord, KeyState, KeyStore, NewKey, Reload, Snapshot};

struct Dir {
    dir: tempfile::TempDir,
}

impl Dir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let it = Self { dir };
        init(&it.files()).unwrap();
        it
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn files(&self) -> KeyFiles {
        KeyFiles {
            snapshot: self.path("keys.snapshot"),
            master: MasterSource::File(self.path("master.key")),
        }
    }

    fn add(&self, name: &str) -> (Arc<KeyRecord>, Secret) {
        let new = NewKey {
            name: name.into(),
            account: "default".into(),
            ..NewKey::default()
        };
        edit(&self.files(), |editor| editor.add_key(new)).unwrap()
    }

    fn open(&self) -> KeyStore {
        KeyStore::open(self.files()).unwrap()
    }
}

fn works(snapshot: &Snapshot, token: &Secret) -> bool {
    snapshot
        .authenticate(token.expose(), clock::unix_seconds())
        .is_some()
}

#[test]
fn init_overwrites_nothing_and_makes_private_files() {
    let dir = Dir::new();
    let before = fs::read(dir.path("keys.snapshot")).unwrap();
    assert!(init(&dir.files()).is_err());
    assert_eq!(fs::read(dir.path("keys.snapshot")).unwrap(), before);
    for name in ["keys.snapshot", "master.key"] {
        assert_eq!(
            fs::metadata(dir.path(name)).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert_eq!(dir.open().status().keys, 0);
}

#[test]
fn keys_are_made_revoked_enabled_and_rotated() {
    let dir = Dir::new();
    let (record, token) = dir.add("app");
    let store = dir.open();
    assert!(works(&store.current(), &token));
    edit(&dir.files(), |editor| {
        editor.set_state(&record.id, KeyState::Revoked)
    })
    .unwrap();
    assert!(matches!(store.reload(), Reload::Taken { .. }));
    assert!(!works(&store.current(), &token));
    edit(&dir.files(), |editor| {
        editor.set_state(&record.id, KeyState::Active)
    })
    .unwrap();
    let until = clock::unix_seconds() + 3600;
    let (rotated, new_token) =
        edit(&dir.files(), |editor| editor.rotate(&record.id, until)).unwrap();
    store.reload();
    assert!(works(&store.current(), &token) && works(&store.current(), &new_token));
    assert_eq!(
        (&rotated.vault, &rotated.vault_key),
        (&record.vault, &record.vault_key)
    );
    assert!(
        store
            .current()
            .authenticate(token.expose(), until)
            .is_none(),
        "grace is over"
    );
    let (_, third) = edit(&dir.files(), |editor| {
        editor.rotate(&record.id, clock::unix_seconds())
    })
    .unwrap();
    store.reload();
    assert_eq!(
        (
            works(&store.current(), &new_token),
            works(&store.current(), &third)
        ),
        (false, true)
    );
    assert!(
        edit(&dir.files(), |editor| editor
            .set_state("key_none", KeyState::Active))
        .is_err()
    );
}

#[test]
fn imported_tokens_work_once() {
    let dir = Dir::new();
    let import = |token: &str| {
        let token = Some(Secret::new(token.as_bytes()));
        let new = NewKey {
            account: "default".into(),
            token,
            ..NewKey::default()
        };
        edit(&dir.files(), |editor| editor.add_key(new))
    };
    let (_, token) = import("mk_app1_xxx").unwrap();
    assert!(works(&dir.open().current(), &token));
    assert!(matches!(import("mk_app1_xxx"), Err(EditError::TokenExists)));
    assert!(matches!(import("sk-app1"), Err(EditError::Token(_))));
}

#[test]
fn provider_keys_come_back_in_turn_and_never_in_the_file() {
    let dir = Dir::new();
    let add = |key: &str| {
        edit(&dir.files(), |editor| {
            editor.add_provider_key("default", "openai", &Secret::new(key.as_bytes()))
        })
    };
    add("sk-canary-first-0001").unwrap();
    let second = add("sk-canary-second-0002").unwrap();
    assert_eq!((second.id.as_str(), second.last4.as_str()), ("2", "0002"));
    for bad in ["", "mk_abc", "two words", "line\nbreak", "\u{e9}"] {
        assert!(add(bad).is_err(), "{bad:?}");
    }
    let snapshot = dir.open().current();
    let keys = snapshot.provider_keys("default", "openai").unwrap();
    let order = || keys.in_turn().map(|key| key.id.clone()).collect::<Vec<_>>();
    assert_eq!(
        [order(), order(), order()].map(|ids| ids.concat()),
        ["12", "21", "12"]
    );
    assert!(snapshot.provider_keys("default", "anthropic").is_none());
    assert!(snapshot.provider_keys("other", "openai").is_none());
    for name in ["keys.snapshot", "master.key"] {
        let bytes = fs::read(dir.path(name)).unwrap();
        assert!(
            !bytes.windows(6).any(|window| window == b"canary"),
            "{name}"
        );
    }
    let remove = |id| {
        edit(&dir.files(), |editor| {
            editor.remove_provider_keys("default", "openai", id)
        })
    };
    assert_eq!(remove(Some("1")).unwrap(), 1);
    assert!(remove(Some("1")).is_err());
    assert_eq!(remove(None).unwrap(), 1);
}

#[test]
fn a_provider_key_moved_to_another_place_is_refused() {
    let dir = Dir::new();
    edit(&dir.files(), |editor| {
        editor.add_provider_key("default", "openai", &Secret::new(*b"sk-1"))
    })
    .unwrap();
    let store = dir.open();
    edit(&dir.files(), |editor| {
        let moved = editor
            .contents
            .provider_keys
            .values()
            .next()
            .unwrap()
            .clone();
        editor
            .contents
            .provider_keys
            .insert(("evil".into(), "openai".into()), moved);
        Ok(())
    })
    .unwrap();
    assert!(matches!(
        store.reload(),
        Reload::Refused(Refusal::ProviderKey)
    ));
}

#[test]
fn two_hundred_writers_lose_nothing() {
    let dir = Dir::new();
    let tokens: Vec<Secret> = std::thread::scope(|scope| {
        let add = |number| {
            scope.spawn({
                let dir = &dir;
                move || dir.add(&format!("n{number}")).1
            })
        };
        let threads: Vec<_> = (0..200).map(add).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let store = dir.open();
    assert_eq!((store.status().keys, store.status().generation), (200, 201));
    assert!(tokens.iter().all(|token| works(&store.current(), token)));
    let names: Vec<_> = fs::read_dir(dir.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".tmp")),
        "{names:?}"
    );
}

#[test]
fn rekey_keeps_everything_and_a_running_store_follows() {
    let dir = Dir::new();
    let (_, token) = dir.add("app");
    edit(&dir.files(), |editor| {
        editor.add_provider_key("default", "openai", &Secret::new(*b"sk-secret-1234"))
    })
    .unwrap();
    let store = dir.open();
    let old_master = fs::read(dir.path("master.key")).unwrap();
    rekey(&dir.files(), None).unwrap();
    let new_master = fs::read(dir.path("master.key")).unwrap();
    assert!(old_master != new_master && new_master.len() == 65);
    assert!(matches!(store.reload(), Reload::Taken { .. }));
    assert!(works(&store.current(), &token));
    let snapshot = store.current();
    let key = snapshot
        .provider_keys("default", "openai")
        .unwrap()
        .in_turn()
        .next()
        .unwrap();
    assert_eq!(key.secret.expose(), b"sk-secret-1234");
    fs::write(dir.path("master.key"), old_master).unwrap();
    assert!(matches!(
        KeyStore::open(dir.files()),
        Err(Refusal::Seal(SealError::WrongKey))
    ));
}

/// Each way of being bad: what is done to the file, and a word of the reason.
#[test]
fn bad_files_are_refused_and_the_old_keys_serve() {
    let dir = Dir::new();
    let (_, token) = dir.add("a");
    let old = fs::read(dir.path("keys.snapshot")).unwrap();
    for name in ["b", "c", "d"] {
        dir.add(name);
    }
    let store = dir.open();
    let path = dir.path("keys.snapshot");
    let good = fs::read(&path).unwrap();
    let foreign = Dir::new();
    foreign.add("x");
    let foreign = fs::read(foreign.path("keys.snapshot")).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let write = |bytes: &[u8], mode: u32| {
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for (bytes, mode, word) in [
        (&b""[..], 0o600, "not a sealed file"),
        (b"garbage", 0o600, "not a sealed file"),
        (&good[..100], 0o600, "truncated"),
        (&flipped, 0o600, "damaged"),
        (&foreign, 0o600, "another master key"),
        (&old, 0o600, "older"),
        (&good, 0o640, "chmod"),
    ] {
        write(bytes, mode);
        let Reload::Refused(refusal) = store.reload() else {
            panic!("{word}: taken")
        };
        assert!(refusal.to_string().contains(word), "{refusal}");
        assert!(works(&store.current(), &token));
        assert!(store.status().last_refusal.is_some());
    }
    assert_eq!(store.status().refusals, 7);
    // What lies outside the file's contents is looked at again and again, and told once.
    assert!(matches!(store.reload(), Reload::Refused(Refusal::File(_))));
    assert_eq!(store.status().refusals, 7);
    fs::remove_file(&path).unwrap();
    assert!(matches!(store.reload(), Reload::Refused(Refusal::File(_))));
    write(&good, 0o600);
    assert!(matches!(store.reload(), Reload::Unchanged));
    assert_eq!(store.status().last_refusal, None);
    write(&old, 0o600);
    assert!(
        matches!(KeyStore::open(dir.files()), Err(Refusal::RolledBack { .. })),
        "after a restart too"
    );
    assert!(matches!(
        edit(&dir.files(), |editor| editor
            .set_state("x", KeyState::Active)),
        Err(EditError::Refused(Refusal::RolledBack { .. }))
    ));
}

#[test]
fn another_file_of_the_same_generation_is_refused() {
    let dir = Dir::new();
    let fork = fs::read(dir.path("keys.snapshot")).unwrap();
    dir.add("a");
    let store = dir.open();
    let ours = fs::read(dir.path("keys.snapshot")).unwrap();
    fs::write(dir.path("keys.snapshot"), fork).unwrap();
    fs::remove_file(dir.path("keys.snapshot.seen")).unwrap();
    dir.add("b");
    assert!(matches!(
        store.reload(),
        Reload::Refused(Refusal::Forked(2))
    ));
    fs::write(dir.path("keys.snapshot"), ours).unwrap();
    assert!(matches!(store.reload(), Reload::Unchanged));
}

#[test]
fn a_sudden_loss_of_keys_wants_to_be_said() {
    let dir = Dir::new();
    for name in ["a", "b", "c"] {
        dir.add(name);
    }
    let store = dir.open();
    let (_, mut contents) = inspect(&dir.files()).unwrap();
    contents.keys.truncate(1);
    replace(&dir.files(), contents.clone(), false, |_| Ok(())).unwrap();
    assert!(matches!(
        store.reload(),
        Reload::Refused(Refusal::Shrunk {
            before: 3,
            after: 1
        })
    ));
    replace(&dir.files(), contents, true, |_| Ok(())).unwrap();
    assert!(matches!(store.reload(), Reload::Taken { keys: 1, .. }));
}

fn within_two_seconds(mut done: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

#[test]
fn a_watched_file_is_taken_by_rename_in_place_and_by_link() {
    let dir = Dir::new();
    let store = dir.open();
    let _watch = store.watch(|_| ()).unwrap();
    let mut reader = store.reader();
    let mut taken = |token: &Secret| within_two_seconds(|| works(&reader.get(), token));
    let (_, renamed) = dir.add("rename");
    assert!(taken(&renamed));
    let elsewhere = Dir::new();
    for name in ["master.key", "keys.snapshot"] {
        fs::copy(dir.path(name), elsewhere.path(name)).unwrap();
    }
    let (_, in_place) = elsewhere.add("in place");
    fs::write(
        dir.path("keys.snapshot"),
        fs::read(elsewhere.path("keys.snapshot")).unwrap(),
    )
    .unwrap();
    assert!(taken(&in_place));
    let (_, linked) = elsewhere.add("link");
    std::os::unix::fs::symlink(elsewhere.path("keys.snapshot"), dir.path("next")).unwrap();
    fs::rename(dir.path("next"), dir.path("keys.snapshot")).unwrap();
    assert!(taken(&linked));
}

#[test]
fn the_last_key_can_be_taken_out_while_it_is_in_use() {
    let dir = Dir::new();
    let (record, token) = dir.add("only");
    let store = dir.open();
    let gone = edit(&dir.files(), |editor| editor.remove_key(&record.id)).unwrap();
    assert_eq!(gone, record);
    assert!(matches!(store.reload(), Reload::Taken { keys: 0, .. }));
    assert!(!works(&store.current(), &token));
    let again = edit(&dir.files(), |editor| editor.remove_key(&record.id));
    assert!(matches!(again, Err(EditError::NotFound(_))));
}
