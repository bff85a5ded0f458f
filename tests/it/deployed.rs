//! Files that are exchanged from outside: what the router would refuse is not put in the place of what it has.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::program::{Done, Home, finish};
use crate::support::request;

/// What the page tells operators to run.
fn replaced(new: &Path, home: &Home) -> Done {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/replace-snapshot");
    let program = Path::new(env!("CARGO_BIN_EXE_memoryrouter"));
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let mut command = Command::new(script);
    command.arg(new).arg(home.path()).env_clear();
    command.env("PATH", path);
    command.stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::piped());
    finish(&mut command, "")
}

/// Another directory with the same master key and so many keys.
fn beside(home: &Home, keys: usize) -> Home {
    let other = Home::new();
    fs::remove_file(other.file("keys.snapshot")).unwrap();
    fs::copy(home.file("master.key"), other.file("master.key")).unwrap();
    assert_eq!(other.run(&["init"]).code, 0);
    for _ in 0..keys {
        other.mint();
    }
    other
}

fn generation(home: &Home) -> u64 {
    let report = home.run(&["snapshot", "verify", "--json"]).json();
    report["generation"].as_u64().unwrap()
}

#[test]
fn what_a_router_would_refuse_takes_no_files_place() {
    let home = Home::new();
    for _ in 0..6 {
        home.mint();
    }
    let file = home.file("keys.snapshot");
    let there = fs::read(&file).unwrap();
    // Most keys are missing, and nobody said that they should.
    let small = beside(&home, 2);
    for number in 0..6 {
        let key = format!("sk-012345678{number}");
        let provider = small.run_with(&["providers", "set", "openai"], &key);
        assert_eq!(provider.code, 0, "{provider:?}");
    }
    // Older and as old as what lies there, which no router has met yet.
    let (older, same) = (beside(&home, 5), beside(&home, 6));
    assert_eq!(generation(&same), generation(&home));
    for (other, why) in [
        (&small, "where 6 were in use"),
        (&older, "is older"),
        (&same, "another file"),
    ] {
        let new = other.file("keys.snapshot");
        let done = replaced(&new, &home);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.stderr.contains(why), "{done:?}");
        let looked = home.run(&["snapshot", "verify", new.to_str().unwrap(), "--for-use"]);
        assert!(looked.stderr.contains(why), "{looked:?}");
        assert_eq!(fs::read(&file).unwrap(), there);
    }
    assert!(!home.file("keys.snapshot.before").exists());
    // Deleted on purpose, in a copy.
    let copy = home.file("copy");
    fs::create_dir(&copy).unwrap();
    for name in ["keys.snapshot", "master.key"] {
        fs::copy(home.file(name), copy.join(name)).unwrap();
    }
    let at = ["--dir", copy.to_str().unwrap()];
    let run = |args: &[&str]| {
        finish(
            &mut crate::support::program::command(&[args, &at].concat()),
            "",
        )
    };
    for row in run(&["keys", "list", "--json"]).json().as_array().unwrap() {
        let id = row["id"].as_str().unwrap();
        assert_eq!(run(&["keys", "delete", id]).code, 0);
    }
    let done = replaced(&copy.join("keys.snapshot"), &home);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(fs::read(home.file("keys.snapshot.before")).unwrap(), there);
    assert_eq!(home.run(&["keys", "list", "--json"]).stdout.trim(), "[]");
    let audit = fs::read_to_string(home.file("audit.log")).unwrap();
    assert!(audit.contains("snapshot replaced"), "{audit}");
}

#[test]
fn a_loss_that_the_router_refused_is_refused_by_the_next_start_and_by_every_change() {
    let home = Home::new();
    home.configure("");
    for _ in 0..6 {
        home.mint();
    }
    home.serve().stop();
    let file = home.file("keys.snapshot");
    let good = fs::read(&file).unwrap();
    let small = beside(&home, 2);
    for number in 0..6 {
        let key = format!("sk-012345678{number}");
        small.run_with(&["providers", "set", "openai"], &key);
    }
    fs::copy(small.file("keys.snapshot"), &file).unwrap();
    for command in [
        &["serve"][..],
        &["check"],
        &["snapshot", "verify"],
        &["keys", "create"],
    ] {
        let done = home.run(command);
        assert_eq!(done.code, 1, "{command:?}");
        assert!(done.stderr.contains("where 6 were in use"), "{done:?}");
    }
    // Whoever means it can say so.
    let export = home.run(&["snapshot", "export", "--plain"]);
    let import = home.run_with(&["snapshot", "import", "--allow-shrink"], &export.stdout);
    assert_eq!(import.code, 0, "{import:?}");
    let (code, log) = home.serve().stop();
    assert_eq!(code, 0, "{log}");
    // And who does not puts the good one back, which is older by now.
    fs::write(&file, good).unwrap();
    assert!(home.run(&["serve"]).stderr.contains("is older"));
    fs::remove_file(home.file("keys.snapshot.seen")).unwrap();
    let (code, log) = home.serve().stop();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn a_file_is_put_where_the_configuration_has_it_and_for_one_that_is_broken() {
    let home = Home::new();
    home.configure("keys.snapshot = \"elsewhere/keys\"");
    fs::create_dir(home.file("elsewhere")).unwrap();
    fs::rename(home.file("keys.snapshot"), home.file("elsewhere/keys")).unwrap();
    let other = beside(&home, 3);
    let new = other.file("keys.snapshot");
    let bytes = fs::read(&new).unwrap();
    let kept = home.file("new");
    fs::copy(&new, &kept).unwrap();
    assert_eq!(replaced(&kept, &home).code, 0);
    assert_eq!(fs::read(home.file("elsewhere/keys")).unwrap(), bytes);
    assert!(home.file("elsewhere/keys.before").exists());
    fs::write(home.file("elsewhere/keys"), "broken").unwrap();
    assert_eq!(replaced(&kept, &home).code, 0);
    assert_eq!(fs::read(home.file("elsewhere/keys")).unwrap(), bytes);
}

#[test]
fn what_a_router_of_roots_makes_is_the_services() {
    // Whoever is not root can only be the service itself.
    let user = nix::unistd::geteuid();
    let service = if user.is_root() {
        61_234
    } else {
        user.as_raw()
    };
    let home = Home::new();
    home.configure("demo.enabled = true");
    let key = home.mint();
    let give = |path: &Path| std::os::unix::fs::chown(path, Some(service), None).unwrap();
    for entry in fs::read_dir(home.path()).unwrap() {
        give(&entry.unwrap().path());
    }
    give(&home.path());
    let router = home.serve();
    let say = r#"{"model":"demo/echo","messages":[{"role":"user","content":"hi"}]}"#;
    let fields = [("x-api-key", key.as_str())];
    let bytes = request("POST", "/v1/chat/completions", &fields, say);
    assert_eq!(router.connect().exchange(bytes).status, 200);
    let delete = request("DELETE", "/v1/memory", &fields, "");
    assert_eq!(router.connect().exchange(delete).status, 200);
    assert_eq!(router.stop().0, 0);
    for entry in fs::read_dir(home.path()).unwrap() {
        let entry = entry.unwrap();
        let owner = entry.metadata().unwrap().uid();
        assert_eq!(owner, service, "{:?}", entry.file_name());
    }
    assert!(home.file("usage.redb").exists() && home.file("memory.redb").exists());
}
