//! Changes that come in bursts, fail half-way, are killed, or are made by somebody else than the router's user.

use std::os::unix::fs::{MetadataExt as _, chown};

use super::*;

fn delete(dir: &Dir, id: &str) {
    edit(&dir.files(), |editor| editor.remove_key(id)).unwrap();
}

fn names(dir: &Dir) -> Vec<String> {
    let entries = fs::read_dir(dir.dir.path()).unwrap();
    let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
    let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

#[test]
fn keys_deleted_in_one_go_are_gone_whatever_is_written_behind() {
    let dir = Dir::new();
    let made: Vec<_> = (0..10).map(|n| dir.add(&n.to_string())).collect();
    let store = dir.open();
    for (record, _) in &made[1..] {
        delete(&dir, &record.id);
    }
    let (_, late) = dir.add("late");
    rekey(&dir.files(), None).unwrap();
    assert!(matches!(store.reload(), Reload::Taken { keys: 2, .. }));
    let snapshot = store.current();
    assert!(works(&snapshot, &late) && works(&snapshot, &made[0].1));
    assert!(!works(&snapshot, &made[1].1));
    // Once it is in use, a loss wants to be said again.
    dir.add("later");
    assert!(!inspect(&dir.files()).unwrap().0.shrinks);
}

#[test]
fn failed_rekeys_change_nothing_however_many() {
    let dir = Dir::new();
    let (_, token) = dir.add("app");
    let before = fs::read(dir.path("master.key")).unwrap();
    // No room for the new snapshot.
    let temporary = dir.path(&format!(".keys.snapshot.{}.tmp", std::process::id()));
    fs::create_dir(&temporary).unwrap();
    for _ in 0..12 {
        let error = rekey(&dir.files(), None).unwrap_err();
        assert!(error.to_string().contains("keys.snapshot"), "{error}");
        assert_eq!(fs::read(dir.path("master.key")).unwrap(), before);
    }
    fs::remove_dir(&temporary).unwrap();
    // What killed ones have left is neither kept nor added to.
    for _ in 0..12 {
        let lines = fs::read(dir.path("master.key")).unwrap();
        let other = "00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100\n";
        let both = [other.as_bytes(), &lines].concat();
        fs::write(dir.path("master.key"), both).unwrap();
        fs::write(dir.path(".master.key.1.tmp"), &lines).unwrap();
        fs::write(dir.path(".keys.snapshot.1.tmp"), b"x").unwrap();
        rekey(&dir.files(), None).unwrap();
        assert_eq!(fs::read(dir.path("master.key")).unwrap().len(), 65);
    }
    assert!(works(&dir.open().current(), &token));
    assert_eq!(
        names(&dir),
        [
            "keys.snapshot",
            "keys.snapshot.lock",
            "keys.snapshot.seen",
            "master.key"
        ]
    );
}

#[test]
fn a_passphrase_that_could_not_be_read_again_is_refused_before_anything_changes() {
    let dir = tempfile::tempdir().unwrap();
    let phrases = dir.path().join("phrases");
    let files = KeyFiles {
        snapshot: dir.path().join("keys.snapshot"),
        master: MasterSource::Passphrase(phrases.clone()),
    };
    files::create_private(&phrases, b"correct horse battery\n").unwrap();
    init(&files).unwrap();
    for bad in [
        "x9".repeat(2500),
        "x9".repeat(513),
        "short".into(),
        "two\rlines of it".into(),
    ] {
        assert!(rekey(&files, Some(&Secret::new(bad.as_bytes()))).is_err());
        assert_eq!(fs::read(&phrases).unwrap(), b"correct horse battery\n");
        inspect(&files).unwrap();
    }
    for good in ["x9".repeat(512), "y8".repeat(512)] {
        rekey(&files, Some(&Secret::new(good.as_bytes()))).unwrap();
        inspect(&files).unwrap();
    }
}

#[test]
fn two_names_of_one_file_lose_no_change() {
    let dir = Dir::new();
    let other = tempfile::tempdir().unwrap();
    let link = |name: &str| {
        let at = other.path().join(name);
        std::os::unix::fs::symlink(dir.path(name), &at).unwrap();
        at
    };
    let linked = KeyFiles {
        snapshot: link("keys.snapshot"),
        master: MasterSource::File(link("master.key")),
    };
    let own = dir.files();
    std::thread::scope(|scope| {
        for files in [&own, &linked] {
            scope.spawn(move || {
                for _ in 0..20 {
                    let new = NewKey {
                        account: "default".into(),
                        ..NewKey::default()
                    };
                    edit(files, |editor| editor.add_key(new)).unwrap();
                }
            });
        }
    });
    assert_eq!(inspect(&linked).unwrap().1.keys.len(), 40);
    rekey(&linked, None).unwrap();
    assert_eq!(inspect(&dir.files()).unwrap().1.keys.len(), 40);
}

#[test]
fn what_root_writes_stays_the_services() {
    // Whoever is not root can only be the service itself.
    let user = nix::unistd::geteuid();
    let service = if user.is_root() {
        61_234
    } else {
        user.as_raw()
    };
    let dir = Dir::new();
    let give = |path: &std::path::Path| chown(path, Some(service), None).unwrap();
    give(dir.dir.path());
    for name in ["keys.snapshot", "master.key"] {
        give(&dir.path(name));
    }
    dir.add("app");
    dir.open();
    rekey(&dir.files(), None).unwrap();
    crate::audit::append(dir.dir.path(), &crate::audit::Who::Cli, "key made", &[]);
    for name in names(&dir) {
        assert_eq!(
            fs::metadata(dir.path(&name)).unwrap().uid(),
            service,
            "{name}"
        );
    }
    assert_eq!(names(&dir).len(), 5);
}

#[test]
fn an_init_that_failed_leaves_nothing_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let files = KeyFiles {
        snapshot: dir.path().join("elsewhere/keys.snapshot"),
        master: MasterSource::File(dir.path().join("master.key")),
    };
    let error = init(&files).unwrap_err().to_string();
    assert!(
        error.contains("elsewhere/keys.snapshot cannot be made"),
        "{error}"
    );
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    // The key that it made is used.
    init(&files).unwrap();
    inspect(&files).unwrap();
    // A key file that leads nowhere is named itself.
    let dangling = dir.path().join("dangling");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    let files = KeyFiles {
        snapshot: dir.path().join("other.snapshot"),
        master: MasterSource::File(dangling),
    };
    let error = init(&files).unwrap_err().to_string();
    assert!(error.contains("dangling exists already"), "{error}");
}
