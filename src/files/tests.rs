use super::*;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn reads_only_private_regular_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    assert!(matches!(read_private(&path, 10), Err(FileError::Io(_))));
    create_private(&path, b"hello").unwrap();
    assert_eq!(read_private(&path, 5).unwrap(), b"hello");
    assert!(matches!(read_private(&path, 4), Err(FileError::TooLarge)));
    assert!(matches!(
        create_private(&path, b"x"),
        Err(FileError::Exists)
    ));
    for mode in [0o610, 0o640, 0o604, 0o602] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(read_private(&path, 10), Err(FileError::Permissions(_))),
            "{mode:o}"
        );
    }
    assert!(matches!(
        read_private(dir.path(), 10),
        Err(FileError::NotRegular)
    ));
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    for read in [read_private(&pipe, 10), read_settings(&pipe)] {
        assert!(matches!(read, Err(FileError::NotRegular)));
    }
}

#[test]
fn what_is_too_long_is_not_read_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    create_private(&path, b"").unwrap();
    // No machine has memory for it, nor a disk: it is all holes.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    for read in [read_private(&path, 1 << 39), read_settings(&path)] {
        assert!(matches!(read, Err(FileError::TooLarge)));
    }
}

#[test]
fn a_second_name_follows_no_link_and_outlives_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["a", "other"] {
        create_private(&at(name), name.as_bytes()).unwrap();
    }
    std::os::unix::fs::symlink("a", at("link")).unwrap();
    std::os::unix::fs::symlink("other", at("kept")).unwrap();
    for _ in 0..2 {
        keep_as(&at("link"), &at("kept")).unwrap();
        assert_eq!(read_private(&at("other"), 10).unwrap(), b"other");
    }
    // Onto another file system, where this machine has one to write to.
    if let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") {
        let kept = elsewhere.path().join("kept");
        keep_as(&at("link"), &kept).unwrap();
        assert_eq!(read_private(&kept, 10).unwrap(), b"a");
    }
    replace_private(&at("link"), b"new").unwrap();
    assert_eq!(read_private(&at("kept"), 10).unwrap(), b"a");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
}

#[test]
fn root_replaces_no_file_that_another_users_link_leads_to() {
    // Whoever is not root has no more to lose than the link's owner.
    if !geteuid().is_root() {
        return;
    }
    let (theirs, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let give = |path: &Path| std::os::unix::fs::chown(path, Some(61_234), None).unwrap();
    give(theirs.path());
    let (link, file) = (theirs.path().join("keys"), ours.path().join("passwd"));
    create_private(&file, b"root").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    assert!(matches!(
        replace_private(&link, b"x"),
        Err(FileError::Owner)
    ));
    assert_eq!(read_private(&file, 10).unwrap(), b"root");
    let copy = theirs.path().join("copy");
    assert!(matches!(copy_new(&link, &copy), Err(FileError::Owner)));
    assert!(!copy.exists());
    // Their own, wherever it lies; and root's own links.
    give(&file);
    replace_private(&link, b"theirs").unwrap();
    assert_eq!(fs::metadata(&file).unwrap().uid(), 61_234);
    let own = ours.path().join("link");
    std::os::unix::fs::symlink(&file, &own).unwrap();
    replace_private(&own, b"ours").unwrap();
    assert_eq!(read_private(&file, 10).unwrap(), b"ours");
}

#[test]
fn leftovers_are_the_files_own_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.snapshot");
    let before = std::time::SystemTime::now() - 2 * LEFT_FOR_SURE;
    let names = [
        (".keys.snapshot.1.tmp", false, false),
        (".keys.snapshot.4194304.tmp", true, false),
        (".keys.snapshot.seen.1.tmp", false, true),
        (".keys.snapshot.seen.2.tmp", true, false),
        (".master.key.1.tmp", true, true),
        ("keys.snapshot", true, true),
    ];
    for (name, old, _) in names {
        let file = File::create(dir.path().join(name)).unwrap();
        if old {
            file.set_modified(before).unwrap();
        }
    }
    clear_leftovers(&path);
    for (name, _, stays) in names {
        assert_eq!(dir.path().join(name).exists(), stays, "{name}");
    }
}

#[test]
fn replaces_behind_a_link_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (path, link) = (dir.path().join("a"), dir.path().join("link"));
    create_private(&path, b"1").unwrap();
    std::os::unix::fs::symlink("a", &link).unwrap();
    replace_private(&link, b"2").unwrap();
    assert_eq!(read_private(&path, 10).unwrap(), b"2");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, PRIVATE);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_lock_is_the_files_that_a_link_leads_to_after_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, link, next] = ["a", "b", "link", "next"].map(|name| dir.path().join(name));
    for file in [&first, &second] {
        create_private(file, b"").unwrap();
    }
    std::os::unix::fs::symlink(&first, &link).unwrap();
    let held = lock(&first).unwrap();
    let (begun, begins) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            begun.send(()).unwrap();
            lock(&link).unwrap()
        });
        begins.recv().unwrap();
        // Long enough to be waiting by then; were it not, there would be nothing to see.
        std::thread::sleep(Duration::from_millis(100));
        std::os::unix::fs::symlink(&second, &next).unwrap();
        fs::rename(&next, &link).unwrap();
        drop(held);
        let _lock = waiting.join().unwrap();
        let file = open_shared(&dir.path().join("b.lock"), false).unwrap();
        assert!(Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err());
    });
}
