//! The command line as it is built: files, exit codes, texts, and what is never shown.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt as _;

use nix::sys::signal::Signal;

use crate::support::eventually;
use crate::support::program::{Home, Served, command, finish};

#[test]
fn init_makes_a_directory_and_overwrites_nothing() {
    let home = Home::new();
    for (name, mode) in [("master.key", 0o600), ("keys.snapshot", 0o600)] {
        let found = fs::metadata(home.file(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
    let before: Vec<_> = ["memoryrouter.toml", "master.key", "keys.snapshot"]
        .map(|name| fs::read(home.file(name)).unwrap())
        .into();
    let again = home.run(&["init"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("exists already"), "{again:?}");
    let after: Vec<_> = ["memoryrouter.toml", "master.key", "keys.snapshot"]
        .map(|name| fs::read(home.file(name)).unwrap())
        .into();
    assert_eq!(before, after);
    assert_eq!(home.run(&["check"]).code, 0);
    assert!(
        !String::from_utf8(before[0].clone())
            .unwrap()
            .contains("enabled = true\n[demo]")
    );
}

#[test]
fn init_of_what_is_missing_goes_by_the_configuration() {
    let home = Home::new();
    let made = |home: &Home| {
        let done = home.run(&["init", "--if-missing"]);
        assert_eq!(done.code, 0, "{done:?}");
        !done.stdout.is_empty()
    };
    assert!(!made(&home));
    // A snapshot of another name, which is not there yet; that of the usual one is another router's by now.
    home.configure("keys.snapshot = \"own.snapshot\"");
    assert!(made(&home));
    assert!(home.file("own.snapshot").exists());
    assert!(!made(&home));
    home.configure("keys.snapshop = \"own.snapshot\"");
    assert_eq!(home.run(&["init", "--if-missing"]).code, 78);
}

#[test]
fn a_token_in_the_place_of_an_id_is_not_printed() {
    let home = Home::new();
    let token = home.mint();
    for args in [
        &["keys", "revoke", &token][..],
        &["keys", "enable", &token],
        &["keys", "rotate", &token],
        &["keys", "delete", &token],
        &["keys", "delete", "mk-short"],
        &["memory", "stats", "--key", &token],
        &["usage", "--key", &token],
    ] {
        let done = home.run(args);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.code, 1, "{said}");
        assert!(
            said.contains("no such key") && said.contains("key_"),
            "{said}"
        );
        assert!(
            !said.contains(&token[..8]) && !said.contains("mk-short"),
            "{said}"
        );
    }
}

#[test]
fn exit_codes_say_what_kind_of_failure_it_was() {
    let none = finish(&mut command(&[]), "");
    assert_eq!(none.code, 0);
    for word in ["init", "serve", "check", "keys", "providers", "snapshot"] {
        assert!(none.stdout.contains(word), "{word}");
    }
    assert_eq!(finish(&mut command(&["nonsense"]), "").code, 2);
    assert_eq!(
        finish(&mut command(&["keys", "create", "--nonsense"]), "").code,
        2
    );
    assert_eq!(
        finish(&mut command(&["--version"]), "").stdout,
        format!("memoryrouter {}\n", env!("CARGO_PKG_VERSION"))
    );
    let home = Home::new();
    assert_eq!(home.run(&["keys", "revoke", "key_nobody"]).code, 1);
    for [option, value] in [
        ["--account", "a b"],
        ["--name", "a\nb"],
        ["--models", "a b"],
    ] {
        let odd = home.run(&["keys", "create", option, value]);
        assert_eq!(odd.code, 2, "{odd:?}");
    }
    let odd = home.run_with(&["keys", "create", "--import"], "sk-no-memory-key");
    assert_eq!(odd.code, 2, "{odd:?}");
    assert_eq!(home.run(&["usage", "--key", "key_nobody"]).code, 1);
    let missing = finish(
        command(&["check", "--config"]).arg(home.file("none.toml")),
        "",
    );
    assert_eq!(missing.code, 78, "{missing:?}");
    for words in [["keys", "list"], ["keys", "create"], ["providers", "list"]] {
        let nothing = finish(command(&words).arg("--dir").arg(home.file("nowhere")), "");
        assert_eq!(nothing.code, 1);
        for said in ["nowhere", "memoryrouter init"] {
            assert!(nothing.stderr.contains(said), "{nothing:?}");
        }
    }
    home.configure("usage.prices = \"gone.toml\"");
    for word in ["check", "serve"] {
        let gone = home.run(&[word]);
        assert!(
            gone.code == 78 && gone.stderr.contains("gone.toml"),
            "{gone:?}"
        );
    }
    home.configure("[limits]\nbody_bites = \"1MiB\"\n[timeouts]\nhead = \"soon\"");
    let wrong = home.run(&["serve"]);
    assert_eq!(wrong.code, 78);
    let file = home.file("memoryrouter.toml").display().to_string();
    assert!(
        wrong.stderr.contains(&format!("{file}:4")),
        "{}",
        wrong.stderr
    );
    assert!(
        wrong.stderr.contains("limits.body_bites") && wrong.stderr.contains("body_bytes"),
        "{}",
        wrong.stderr
    );
    assert!(
        wrong.stderr.contains(&format!("{file}:6")) && wrong.stderr.contains("timeouts.head"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn an_option_keeps_the_variables_out() {
    let (home, other) = (Home::new(), Home::new());
    let checked = |args: &[&str]| {
        let mut command = command(args);
        command.env("MEMORYROUTER_DIR", other.path());
        finish(&mut command, "").json()["dir"].clone()
    };
    let (own, config) = (home.path(), home.file("memoryrouter.toml"));
    let own = own.to_str().unwrap();
    let config = ["check", "--json", "--config", config.to_str().unwrap()];
    assert_eq!(checked(&config), own);
    assert_eq!(checked(&["check", "--json", "--dir", own]), own);
    assert_eq!(
        checked(&["check", "--json"]),
        other.path().to_str().unwrap()
    );
    let help = finish(&mut command(&["serve", "--help"]), "").stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = help.matches("where neither --dir nor --config is given");
    assert_eq!(said.count(), 2, "{help}");
}

#[test]
fn keys_are_made_listed_and_ended() {
    let home = Home::new();
    let args = [
        "keys",
        "create",
        "--json",
        "--name",
        "app",
        "--account",
        "acme",
        "--expires",
        "30d",
        "--models",
        "openai/*,claude*",
    ];
    let over = home.run(&["keys", "create", "--expires", "0s"]);
    assert_eq!(over.code, 2, "{over:?}");
    let made = home.run(&args).json();
    let members: Vec<&String> = made.as_object().unwrap().keys().collect();
    for member in [
        "id",
        "token",
        "name",
        "account",
        "vault",
        "created_at",
        "expires_at",
    ] {
        assert!(
            members.iter().any(|name| *name == member),
            "{member}: {made}"
        );
    }
    let token = made["token"].as_str().unwrap();
    assert!(
        token.starts_with("mk_") && token.len() == 3 + 43 + 6,
        "{token}"
    );
    assert!(token[3..].bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let id = made["id"].as_str().unwrap();
    let listed = home.run(&["keys", "list"]);
    assert!(
        listed.stdout.contains(id) && listed.stdout.contains("acme"),
        "{listed:?}"
    );
    assert!(!listed.stdout.contains(token));
    assert!(listed.stdout.contains(&token[token.len() - 4..]));
    let rotated = home
        .run(&["keys", "rotate", id, "--grace", "1h", "--json"])
        .json();
    assert_ne!(rotated["token"], made["token"]);
    assert_eq!(
        (&rotated["id"], &rotated["vault"]),
        (&made["id"], &made["vault"])
    );
    let state = || home.run(&["keys", "list", "--json"]).json()[0]["state"].clone();
    assert_eq!(state(), "active");
    assert_eq!(home.run(&["keys", "revoke", id]).code, 0);
    assert_eq!(state(), "revoked");
    assert_eq!(home.run(&["keys", "enable", id]).code, 0);
    assert_eq!(state(), "active");
    let other = home.run(&["keys", "create", "--json"]).json();
    let other = other["id"].as_str().unwrap();
    assert_eq!(home.run(&["keys", "delete", other]).code, 0);
    assert_eq!(home.run(&["keys", "delete", other]).code, 1);
    let left = home.run(&["keys", "list"]).stdout;
    assert!(left.contains(id) && !left.contains(other), "{left}");
    let imported = home
        .run_with(&["keys", "create", "--import", "--json"], "mk_app1_xxx\n")
        .json();
    assert_eq!(imported["token"], "mk_app1_xxx");
    assert_eq!(
        home.run_with(&["keys", "create", "--import"], "mk_app1_xxx\n")
            .code,
        1,
        "twice"
    );
    assert_ne!(
        home.run_with(&["keys", "create", "--import"], "sk-no-memory-key\n")
            .code,
        0
    );
}

#[test]
fn provider_keys_come_on_stdin_and_are_shown_by_their_end() {
    let home = Home::new();
    for key in ["sk-first-secret-1111\n", "sk-second-secret-2222"] {
        let set = home.run_with(&["providers", "set", "openai"], key);
        assert_eq!(set.code, 0, "{set:?}");
        assert!(!set.stdout.contains("secret"));
    }
    let list = home.run(&["providers", "list"]);
    assert!(
        list.stdout.contains("1111")
            && list.stdout.contains("2222")
            && !list.stdout.contains("secret"),
        "{list:?}"
    );
    let again = home.run_with(&["providers", "set", "openai"], "sk-first-secret-1111");
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("stored already"), "{again:?}");
    let keyless = home.run_with(&["providers", "set", "ollama"], "sk-first-secret-1111");
    assert_eq!(keyless.code, 1);
    assert!(keyless.stderr.contains("needs no key"), "{keyless:?}");
    let rows = home.run(&["providers", "list", "--json"]).json();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    let typo = home.run_with(&["providers", "set", "opanai"], "sk-x-1234567890");
    assert_ne!(typo.code, 0);
    assert!(typo.stderr.contains("openai"), "{typo:?}");
    assert_ne!(home.run_with(&["providers", "set", "openai"], "").code, 0);
    assert_ne!(
        home.run_with(&["providers", "set", "openai"], "mk_a_memory_key")
            .code,
        0
    );
    assert_eq!(
        home.run(&[
            "providers",
            "remove",
            "openai",
            rows[0]["id"].as_str().unwrap()
        ])
        .code,
        0
    );
    assert_eq!(
        home.run(&["providers", "list", "--json"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(home.run(&["providers", "remove", "openai"]).code, 0);
    assert_ne!(home.run(&["providers", "remove", "openai"]).code, 0);
}

#[test]
fn a_person_is_asked_for_a_secret_and_what_is_typed_is_not_shown() {
    let home = Home::new();
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut terminal = std::fs::File::from(pty.master);
    let mut set = command(&["providers", "set", "openai", "--dir"]);
    set.arg(home.path())
        .stdin(std::process::Stdio::from(pty.slave));
    let mut child = set.spawn().unwrap();
    drop(set);
    let mut asked = vec![0; "provider key: ".len()];
    let stderr = child.stderr.as_mut().unwrap();
    std::io::Read::read_exact(stderr, &mut asked).unwrap();
    assert_eq!(asked, b"provider key: ");
    std::io::Write::write_all(&mut terminal, b"sk-typed-0123456789\n").unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).contains("6789"));
    let mut shown = Vec::new();
    // The terminal's end is an error, once nobody has it open any more.
    let _ = std::io::Read::read_to_end(&mut terminal, &mut shown);
    assert!(
        !String::from_utf8_lossy(&shown).contains("typed"),
        "{shown:?}"
    );
}

#[test]
fn a_snapshot_moves_whole() {
    let home = Home::new();
    let token = home.mint();
    home.run_with(&["providers", "set", "openai"], "sk-moving-secret-1111");
    let file = home.file("keys.snapshot");
    let verify = home
        .run(&["snapshot", "verify", file.to_str().unwrap(), "--json"])
        .json();
    assert_eq!(verify["generation"], 3, "{verify}");
    assert_ne!(
        home.run(&["snapshot", "export"]).code,
        0,
        "only with --plain"
    );
    let export = home.run(&["snapshot", "export", "--plain"]);
    assert_eq!(export.code, 0);
    assert!(
        export.stdout.contains("sk-moving-secret-1111") && !export.stdout.contains(&token),
        "keys are hashes"
    );
    let other = Home::new();
    let import = other.run_with(&["snapshot", "import"], &export.stdout);
    assert_eq!(import.code, 0, "{import:?}");
    assert_eq!(
        other.run(&["keys", "list", "--json"]).json(),
        home.run(&["keys", "list", "--json"]).json()
    );
    let before = fs::read(home.file("master.key")).unwrap();
    assert_eq!(home.run(&["snapshot", "rekey"]).code, 0);
    assert_ne!(fs::read(home.file("master.key")).unwrap(), before);
    assert_eq!(home.run(&["snapshot", "verify"]).code, 0);
    fs::write(home.file("master.key"), before).unwrap();
    assert_eq!(
        home.run(&["snapshot", "verify"]).code,
        1,
        "the old key opens nothing any more"
    );
}

#[test]
fn a_weak_or_open_master_key_is_refused_with_its_reason() {
    let home = Home::new();
    let path = home.file("master.key");
    let good = fs::read_to_string(&path).unwrap();
    let zeros = format!("{}\n", "0".repeat(64));
    for (text, mode, word) in [
        (good.as_str(), 0o640, "chmod 600"),
        (good.as_str(), 0o604, "chmod 600"),
        (&good[..40], 0o600, ""),
        (zeros.as_str(), 0o600, "all zeros"),
        ("", 0o600, ""),
        (
            "not hexadecimal at all, and long enough to be taken for a key of 64 digits\n",
            0o600,
            "",
        ),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for args in [&["check"][..], &["serve"], &["keys", "create"]] {
            let done = home.run(args);
            assert_eq!(done.code, 1, "{text:?} {mode:o}: {done:?}");
            assert!(
                done.stderr.contains("master") && done.stderr.contains(word),
                "{text:?} {mode:o}: {}",
                done.stderr
            );
            assert!(!done.stderr.contains(good.trim()));
        }
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(home.run(&["serve"]).code, 1);
    fs::write(&path, &good).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(home.run(&["check"]).code, 0);
}

#[test]
fn the_master_key_can_lie_elsewhere() {
    let home = Home::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("memoryrouter.master-key");
    fs::rename(home.file("master.key"), &moved).unwrap();
    let check = |name: &str, value: &std::path::Path| {
        let mut check = command(&["check", "--dir"]);
        check.arg(home.path()).env(name, value);
        finish(&mut check, "").code
    };
    assert_eq!(home.run(&["check"]).code, 1);
    assert_eq!(check("MEMORYROUTER_MASTER_KEY_FILE", &moved), 0);
    // What a service manager keeps may be readable to a group, and nothing else.
    let credential = elsewhere.path().join("master.key");
    fs::rename(&moved, &credential).unwrap();
    fs::set_permissions(&credential, fs::Permissions::from_mode(0o440)).unwrap();
    assert_eq!(check("CREDENTIALS_DIRECTORY", elsewhere.path()), 0);
    fs::rename(&credential, home.file("master.key")).unwrap();
    assert_eq!(check("CREDENTIALS_DIRECTORY", std::path::Path::new("")), 1);
}

#[test]
fn init_says_how_the_next_commands_find_what_it_made() {
    let outer = tempfile::tempdir().unwrap();
    let mut init = command(&["init"]);
    init.env("MEMORYROUTER_CONFIG", outer.path().join("own.toml"))
        .env("MEMORYROUTER_DIR", outer.path().join("data"));
    let done = finish(&mut init, "");
    assert_eq!(done.code, 0, "{done:?}");
    let (_, next) = done.stdout.split_once("Next: memoryrouter ").unwrap();
    let (create, serve) = next.trim().split_once(", then memoryrouter ").unwrap();
    for line in [create, &serve.replace("serve", "check")] {
        let args: Vec<&str> = line.split(' ').chain(["--json"]).collect();
        let done = finish(&mut command(&args), "");
        assert_eq!(done.code, 0, "{done:?}");
        if line.starts_with("check") {
            assert_eq!(done.json()["config"], args[4], "{args:?}");
        }
    }
}

#[test]
fn a_token_that_could_not_be_shown_is_told_of() {
    let home = Home::new();
    let made = home.run(&["keys", "create", "--json"]).json();
    let id = made["id"].as_str().unwrap();
    for args in [&["keys", "create"][..], &["keys", "rotate", id]] {
        for stdout in [full().into(), left()] {
            let mut lost = command(args);
            lost.arg("--dir").arg(home.path()).stdout(stdout);
            let done = finish(&mut lost, "");
            assert_eq!(done.code, 1, "{done:?}");
            assert!(done.stderr.contains("the token of key_"), "{done:?}");
        }
    }
    // What can be asked for again is nobody's loss.
    let mut list = command(&["keys", "list", "--dir"]);
    let done = finish(list.arg(home.path()).stdout(left()), "");
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

#[test]
fn a_first_key_that_could_not_be_shown_is_told_of() {
    for stdout in [full().into(), left()] {
        let home = Home::empty();
        // A directory without a configuration would be served at the usual ports.
        let config = home.path().with_file_name("own.toml");
        fs::write(
            &config,
            "server.listen = \"127.0.0.1:0\"\nadmin.listen = \"off\"",
        )
        .unwrap();
        let mut serve = command(&["serve", "--config"]);
        serve.arg(config).arg("--dir").arg(home.path());
        let router = Served::start(serve.stdout(stdout));
        eventually("the word", || {
            router
                .log()
                .contains("`memoryrouter keys create` makes another")
        });
        assert_eq!(router.stop().0, 0);
    }
}

/// A stdout that takes nothing.
fn full() -> fs::File {
    fs::File::options().write(true).open("/dev/full").unwrap()
}

/// A stdout whose reader has gone.
fn left() -> OwnedFd {
    std::io::pipe().unwrap().1.into()
}

#[test]
fn a_command_that_waits_for_another_says_so() {
    let home = Home::new();
    let lock = fs::File::create(home.file("keys.snapshot.lock")).unwrap();
    lock.lock().unwrap();
    let mut create = command(&["keys", "create", "--dir"]);
    let mut create = create.arg(home.path()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(create.stderr.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    assert!(
        said.contains("keys.snapshot is being changed by another process"),
        "{said}"
    );
    assert_eq!(create.try_wait().unwrap(), None);
    drop(lock);
    assert!(create.wait().unwrap().success());
}

#[test]
fn places_come_from_flags_or_the_environment() {
    let home = Home::new();
    let mut by_dir = command(&["check", "--json"]);
    by_dir.env("MEMORYROUTER_DIR", home.path());
    assert_eq!(
        finish(&mut by_dir, "").json()["dir"],
        home.path().display().to_string()
    );
    let mut by_file = command(&["check", "--json"]);
    by_file.env("MEMORYROUTER_CONFIG", home.file("memoryrouter.toml"));
    assert_eq!(
        finish(&mut by_file, "").json()["dir"],
        home.path().display().to_string()
    );
    let file = home.file("memoryrouter.toml");
    let flag = finish(
        command(&["check", "--json", "--config"])
            .arg(&file)
            .env("MEMORYROUTER_DIR", "/nonexistent"),
        "",
    );
    assert_eq!(flag.json()["config"], file.display().to_string());
}

#[test]
fn two_writers_at_once_lose_nothing() {
    let home = Home::new();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let home = &home;
            scope.spawn(move || {
                for round in 0..5 {
                    let name = format!("w{writer}-{round}");
                    assert_eq!(home.run(&["keys", "create", "--name", &name]).code, 0);
                }
            });
        }
    });
    let list = home.run(&["keys", "list", "--json"]).json();
    assert_eq!(list.as_array().unwrap().len(), 40);
}

#[test]
fn a_passphrase_can_take_the_master_keys_place() {
    let home = Home::empty();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("passphrase");
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let run = |args: &[&str], input: &str| {
        let mut run = command(args);
        run.arg("--dir")
            .arg(home.path())
            .env("MEMORYROUTER_PASSPHRASE_FILE", &file);
        finish(&mut run, input)
    };
    write("too short");
    let short = run(&["init"], "");
    assert_eq!(short.code, 1);
    assert!(short.stderr.contains("12 characters"), "{short:?}");
    assert!(!home.path().exists());
    write("correct horse battery staple\n");
    assert_eq!(run(&["init"], "").code, 0);
    assert!(!home.file("master.key").exists());
    assert_eq!(run(&["keys", "create"], "").code, 0);
    assert_eq!(
        run(&["providers", "set", "openai"], "sk-1234567890").code,
        0
    );
    assert_eq!(run(&["check"], "").code, 0);
    assert_eq!(home.run(&["check"]).code, 1, "not without the passphrase");
    let sealed = fs::read(home.file("keys.snapshot")).unwrap();
    assert_eq!(run(&["snapshot", "rekey"], "another passphrase\n").code, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "another passphrase\n");
    assert_ne!(fs::read(home.file("keys.snapshot")).unwrap(), sealed);
    assert!(
        run(&["snapshot", "export", "--plain"], "")
            .stdout
            .contains("sk-1234567890")
    );
    write("correct horse battery staple\n");
    assert_eq!(
        run(&["check"], "").code,
        1,
        "the old passphrase opens nothing any more"
    );
    // What stands behind the words is a part of the passphrase, in a file and on stdin alike.
    write("another passphrase\n");
    assert_eq!(run(&["snapshot", "rekey"], "with two blanks  \r\n").code, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "with two blanks  \n");
    assert_eq!(run(&["check"], "").code, 0);
    write("with two blanks\n");
    assert_eq!(run(&["check"], "").code, 1);
}

#[test]
fn a_first_run_that_is_refused_leaves_nothing_behind() {
    let home = Home::empty();
    let elsewhere = tempfile::tempdir().unwrap();
    let at = |name: &str| elsewhere.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("deep.toml"), "keys.snapshot = \"deep/keys\"").unwrap();
    fs::write(at("master.toml"), "keys.master_key = \"deep/key\"").unwrap();
    for config in ["nowhere/x.toml", "deep.toml", "master.toml"] {
        let done = home.run(&["serve", "--config", &at(config)]);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.stderr.contains("no directory"), "{done:?}");
        assert!(!home.path().exists(), "{config}");
    }
    fs::write(at("short"), "too short").unwrap();
    let mut serve = command(&["serve", "--dir"]);
    serve
        .arg(home.path())
        .env("MEMORYROUTER_PASSPHRASE_FILE", at("short"));
    assert_eq!(finish(&mut serve, "").code, 1);
    assert!(!home.path().exists());
}

#[test]
fn whoever_leaves_a_hidden_prompt_sees_again_what_is_typed() {
    let home = Home::new();
    let terminal = nix::pty::openpty(None, None).unwrap();
    let shows = || {
        let now = nix::sys::termios::tcgetattr(&terminal.slave).unwrap();
        now.local_flags
            .contains(nix::sys::termios::LocalFlags::ECHO)
    };
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut set = command(&["providers", "set", "openai", "--dir"]);
        set.arg(home.path());
        let mut set = set
            .stdin(terminal.slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        eventually("the prompt", || !shows());
        let pid = nix::unistd::Pid::from_raw(set.id() as i32);
        nix::sys::signal::kill(pid, signal).unwrap();
        let ended = set.wait().unwrap().signal();
        assert_eq!((ended, shows()), (Some(signal as i32), true));
    }
}
