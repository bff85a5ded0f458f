//! The key snapshot while the router runs: taken on every core without a lost request, or refused without harm.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use memoryrouter::keys::{self, KeyFiles, KeyState, MasterSource, NewKey};

use crate::support::{Provider, Router, Setup, eventually, request};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

fn status_with(router: &Router, key: &str) -> u16 {
    router
        .connect()
        .exchange(request("POST", CHAT, &[("X-Memory-Key", key)], BODY))
        .status
}

/// Every core answers so: connections spread over the cores by themselves, so many of them reach all.
fn everywhere(router: &Router, key: &str, status: u16) -> bool {
    (0..40).all(|_| status_with(router, key) == status)
}

/// Changes a copy of the snapshot elsewhere, and returns the copy's bytes with a new token.
fn changed_copy(router: &Router) -> (Vec<u8>, String) {
    let dir = tempfile::tempdir().unwrap();
    let copy = KeyFiles {
        snapshot: dir.path().join("copy"),
        master: router.files.master.clone(),
    };
    fs::copy(&router.files.snapshot, &copy.snapshot).unwrap();
    let new = NewKey {
        account: "default".into(),
        ..NewKey::default()
    };
    let (_, token) = keys::edit(&copy, |editor| editor.add_key(new)).unwrap();
    let token = String::from_utf8(token.expose().to_vec()).unwrap();
    (fs::read(&copy.snapshot).unwrap(), token)
}

#[test]
fn a_new_file_is_taken_however_it_comes() {
    let provider = Provider::plain();
    let router = Setup::all(&provider).workers(2).start();
    let path = router.files.snapshot.clone();
    let place = |bytes: &[u8], name: &str| {
        let file = router.dir.path().join(name);
        fs::write(&file, bytes).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        file
    };
    // By rename.
    let (bytes, token) = changed_copy(&router);
    assert!(everywhere(&router, &token, 401));
    fs::rename(place(&bytes, "new"), &path).unwrap();
    eventually("the renamed file", || everywhere(&router, &token, 200));
    // In place.
    let (bytes, token) = changed_copy(&router);
    fs::write(&path, &bytes).unwrap();
    eventually("the overwritten file", || everywhere(&router, &token, 200));
    // By a symbolic link to another file.
    let (bytes, token) = changed_copy(&router);
    let target = place(&bytes, "target");
    let link = router.dir.path().join("link");
    symlink(&target, &link).unwrap();
    fs::rename(&link, &path).unwrap();
    eventually("the linked file", || everywhere(&router, &token, 200));
    // And by the link's change.
    let (bytes, token) = changed_copy(&router);
    let target = place(&bytes, "target2");
    symlink(&target, &link).unwrap();
    fs::rename(&link, &path).unwrap();
    eventually("the swapped link", || everywhere(&router, &token, 200));
    assert_eq!(router.store.status().refusals, 0);
}

#[test]
fn what_was_replaced_is_held_by_no_idle_worker() {
    let provider = Provider::plain();
    let router = Setup::all(&provider).workers(2).start();
    let before = Arc::downgrade(&router.store.current());
    let (bytes, _) = changed_copy(&router);
    fs::write(&router.files.snapshot, &bytes).unwrap();
    eventually("the keys before to be gone", || before.upgrade().is_none());
}

#[test]
fn a_bad_file_is_refused_and_the_old_keys_keep_serving() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let path = router.files.snapshot.clone();
    let original = fs::read(&path).unwrap();
    let (newer, token) = changed_copy(&router);
    let foreign = {
        let other = Router::start(&provider);
        fs::read(&other.files.snapshot).unwrap()
    };
    let flipped = |at: usize| {
        let mut bytes = newer.clone();
        bytes[at] ^= 1;
        bytes
    };
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("noise", vec![7; 5000]),
        ("text", b"hello, this is no snapshot\n".to_vec()),
        ("truncated", newer[..newer.len() - 1].to_vec()),
        ("half", newer[..newer.len() / 2].to_vec()),
        ("header only", newer[..64].to_vec()),
        ("one byte more", [&newer[..], b"x"].concat()),
        ("flipped magic", flipped(0)),
        ("flipped header", flipped(40)),
        ("flipped payload", flipped(newer.len() - 20)),
        ("foreign", foreign),
    ];
    let good = fs::metadata(&path).unwrap().permissions();
    for (count, (what, bytes)) in bad.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        eventually(what, || router.store.status().refusals == count as u64 + 1);
        assert_eq!(status_with(&router, &router.key), 200, "{what}");
        assert_eq!(status_with(&router, &token), 401, "{what}");
        let ready = router.ask("GET", "/ready", &[]).json();
        assert_eq!(ready["snapshot"]["refusals"], count as u64 + 1, "{what}");
        assert!(
            ready["snapshot"]["last_refusal"].is_string(),
            "{what}: {ready}"
        );
    }
    let mut refusals = bad.len() as u64;
    // Readable by others.
    fs::remove_file(&path).unwrap();
    fs::write(&path, &newer).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    refusals += 1;
    eventually("readable by the group", || {
        router.store.status().refusals >= refusals
    });
    assert_eq!(status_with(&router, &token), 401);
    // The good one at last; and then the first one again is a rollback.
    fs::set_permissions(&path, good).unwrap();
    eventually("the good file", || status_with(&router, &token) == 200);
    assert!(router.ask("GET", "/ready", &[]).json()["snapshot"]["last_refusal"].is_null());
    let refusals = router.store.status().refusals;
    fs::write(&path, &original).unwrap();
    eventually("the rollback", || router.store.status().refusals > refusals);
    assert_eq!(status_with(&router, &token), 200);
    assert!(
        keys::KeyStore::open(router.files.clone()).is_err(),
        "after a restart too"
    );
}

#[test]
fn losing_most_keys_at_once_needs_a_word() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    router.edit(|editor| {
        for _ in 0..9 {
            editor.add_key(NewKey {
                account: "default".into(),
                ..NewKey::default()
            })?;
        }
        Ok(())
    });
    // Whoever takes keys out by the editor means it; a file made elsewhere may be a mistake.
    let (_, mut contents) = keys::inspect(&router.files).unwrap();
    contents.keys.truncate(1);
    keys::replace(&router.files, contents, false, |_| Ok(())).unwrap();
    eventually("the refusal", || router.store.status().refusals > 0);
    assert_eq!(router.store.status().keys, 10);
    assert_eq!(status_with(&router, &router.key), 200);
}

#[test]
fn revoking_reaches_every_core_and_rotation_keeps_both_tokens_for_its_grace() {
    let provider = Provider::plain();
    let router = Setup::all(&provider).workers(2).start();
    let id = router.store.current();
    let id = id
        .authenticate(router.key.as_bytes(), 0)
        .unwrap()
        .id
        .clone();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    let (_, second) = router.edit(|editor| editor.rotate(&id, now + 3600));
    let second = String::from_utf8(second.expose().to_vec()).unwrap();
    assert!(everywhere(&router, &router.key, 200) && everywhere(&router, &second, 200));
    let (_, third) = router.edit(|editor| editor.rotate(&id, now - 1));
    let third = String::from_utf8(third.expose().to_vec()).unwrap();
    assert!(everywhere(&router, &router.key, 401) && everywhere(&router, &second, 401));
    assert!(everywhere(&router, &third, 200));
    router.edit(|editor| editor.set_state(&id, KeyState::Revoked));
    assert!(everywhere(&router, &third, 401));
    router.edit(|editor| editor.set_state(&id, KeyState::Active));
    assert!(everywhere(&router, &third, 200));
}

#[test]
fn no_request_is_lost_while_files_change_and_the_master_key_with_them() {
    let provider = Provider::plain();
    let router = Setup::all(&provider).workers(2).start();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut served = 0;
                    let mut caller = router.connect();
                    while !done.load(Ordering::Relaxed) {
                        assert_eq!(caller.exchange(router.request(CHAT, &[], BODY)).status, 200);
                        served += 1;
                    }
                    served
                })
            })
            .collect();
        for round in 0..6 {
            if round % 2 == 0 {
                keys::rekey(&router.files, None).unwrap();
            } else {
                let good = fs::read(&router.files.snapshot).unwrap();
                let refusals = router.store.status().refusals;
                fs::write(&router.files.snapshot, b"half a copy").unwrap();
                eventually("the refusal", || router.store.status().refusals > refusals);
                fs::write(&router.files.snapshot, good).unwrap();
                eventually("the good file", || {
                    router.store.status().last_refusal.is_none()
                });
            }
            let generation = keys::inspect(&router.files).unwrap().0.generation;
            eventually("the change", || {
                router.store.status().generation == generation
            });
            router.mint(NewKey::default());
        }
        done.store(true, Ordering::Relaxed);
        for caller in callers {
            assert!(caller.join().unwrap() > 0);
        }
    });
    assert!(matches!(router.files.master, MasterSource::File(_)));
}
