//! What goes wrong around the files, and what the commands say then: runs that were cut, copies put back, damaged
//! exports, a port that somebody else has taken.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;

use serde_json::{Value, json};

use crate::support::program::{Home, Served, command, free_port};
use crate::support::{CHAT, Provider, request};

/// Configured with an admin port whose number is known.
fn operated(home: &Home, port: u16) {
    let toml = format!("server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:{port}\"\n");
    fs::write(home.file("memoryrouter.toml"), toml).unwrap();
}

#[test]
fn an_init_that_was_cut_is_completed_by_the_next() {
    for made in [
        &["memoryrouter.toml"][..],
        &["memoryrouter.toml", "admin.token", "master.key"],
    ] {
        let home = Home::new();
        fs::remove_file(home.file("keys.snapshot")).unwrap();
        for name in ["admin.token", "master.key"]
            .iter()
            .filter(|name| !made.contains(name))
        {
            fs::remove_file(home.file(name)).unwrap();
        }
        let kept: Vec<_> = made
            .iter()
            .map(|name| fs::read(home.file(name)).unwrap())
            .collect();
        let again = home.run(&["init"]);
        assert_eq!(again.code, 0, "{again:?}");
        let now: Vec<_> = made
            .iter()
            .map(|name| fs::read(home.file(name)).unwrap())
            .collect();
        assert_eq!(kept, now);
        home.mint();
        assert_eq!(home.run(&["check"]).code, 0);
    }
    // A snapshot that was in use is not begun anew by accident.
    let home = Home::new();
    home.configure("");
    home.serve().stop();
    fs::rename(home.file("keys.snapshot"), home.file("elsewhere")).unwrap();
    let refused = home.run(&["init"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("put it back"), "{refused:?}");
    fs::rename(home.file("elsewhere"), home.file("keys.snapshot")).unwrap();
    assert_eq!(home.serve().stop().0, 0);
}

#[test]
fn a_copy_put_back_is_told_before_a_start_refuses_it() {
    let home = Home::new();
    home.configure("");
    let file = home.file("keys.snapshot");
    let old = fs::read(&file).unwrap();
    home.mint();
    home.serve().stop();
    let new = fs::read(&file).unwrap();
    fs::write(&file, &old).unwrap();
    for command in [
        &["check"][..],
        &["snapshot", "verify"],
        &["keys", "create"],
        &["serve"],
    ] {
        let done = home.run(command);
        assert_eq!(done.code, 1, "{command:?}");
        assert!(done.stderr.contains("is older than"), "{done:?}");
    }
    // Elsewhere it is good as such, and none for use here.
    let copy = home.file("copy");
    fs::copy(&file, &copy).unwrap();
    let copy = copy.to_str().unwrap();
    assert_eq!(home.run(&["snapshot", "verify", copy]).code, 0);
    assert_eq!(home.run(&["snapshot", "verify", copy, "--for-use"]).code, 1);
    fs::write(&file, &new).unwrap();
    assert_eq!(home.run(&["check"]).code, 0);
}

#[test]
fn a_certificate_that_cannot_be_read_is_a_wrong_configuration() {
    let home = Home::new();
    for toml in [
        "server.tls = { cert = \"/nope\", key = \"/nope\" }",
        "admin.tls = { cert = \"/nope\", key = \"/nope\" }",
        "providers.openai.ca = \"/nope\"",
    ] {
        home.configure(toml);
        for word in ["check", "serve"] {
            let done = home.run(&[word]);
            assert_eq!(done.code, 78, "{word} {toml}: {done:?}");
            assert!(done.stderr.contains("/nope"), "{done:?}");
        }
    }
}

#[test]
fn a_damaged_export_changes_nothing_and_is_not_shown() {
    let home = Home::new();
    for _ in 0..6 {
        home.mint();
    }
    home.run_with(
        &["providers", "set", "openai"],
        "sk-canary-of-the-provider-1111",
    );
    let export = home.run(&["snapshot", "export", "--plain"]).json();
    let before = fs::read(home.file("keys.snapshot")).unwrap();
    let refused = |change: &dyn Fn(&mut Value), word: &str| {
        let mut export = export.clone();
        change(&mut export);
        let done = home.run_with(&["snapshot", "import"], &export.to_string());
        assert_eq!(done.code, 1, "{word}: {done:?}");
        assert!(done.stderr.contains(word), "{word}: {done:?}");
        assert!(!done.stderr.contains("canary"), "{done:?}");
        assert_eq!(fs::read(home.file("keys.snapshot")).unwrap(), before);
    };
    refused(
        &|export| {
            export["provider_keys"]["default"]["openai"] = json!("sk-canary-of-the-provider-1111")
        },
        "line 1, column",
    );
    refused(&|export| export["pepper"] = json!("0".repeat(64)), "pepper");
    refused(&|export| export["keys"][0]["id"] = json!("../x\n"), "id");
    refused(
        &|export| export["keys"][0]["account"] = json!("a/b"),
        "account",
    );
    refused(
        &|export| export["keys"][0]["tokens"] = json!([]),
        "no token",
    );
    refused(
        &|export| export["keys"][0]["tokens"][0]["digest"] = json!("+f".repeat(32)),
        "not hexadecimal",
    );
    refused(
        &|export| export["keys"][1] = export["keys"][0].clone(),
        "twice",
    );
    refused(
        &|export| export["keys"][1]["vault"] = export["keys"][0]["vault"].clone(),
        "another key's",
    );
    refused(
        &|export| {
            export["keys"][0]["tokens_per_day"] = json!(1);
            export["keys"][0]["tokens_per_month"] = json!(1);
        },
        "not both",
    );
    let one = &|export: &mut Value| export["keys"] = json!([export["keys"][0]]);
    refused(one, "--allow-shrink");
    let mut few = export.clone();
    one(&mut few);
    let done = home.run_with(&["snapshot", "import", "--allow-shrink"], &few.to_string());
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn a_change_that_cannot_be_audited_is_told() {
    let home = Home::new();
    fs::create_dir(home.file("audit.log")).unwrap();
    let done = home.run(&["keys", "create"]);
    assert_eq!(done.code, 0);
    assert!(
        done.stderr.contains("audit log cannot be written"),
        "{done:?}"
    );
}

#[test]
fn what_the_shell_changes_in_a_vault_is_audited_once() {
    let home = Home::new();
    operated(&home, free_port());
    let key = home.run(&["keys", "create", "--json"]).json();
    let key = key["id"].as_str().unwrap();
    let lines = |what: &str| {
        let audit = fs::read_to_string(home.file("audit.log")).unwrap();
        let lines = audit
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let about: Vec<Value> = lines.filter(|line: &Value| line["what"] == what).collect();
        assert!(about.iter().all(|line| line["key"] == key), "{audit}");
        about
    };
    for (round, who) in [(1, "cli"), (2, "admin token")] {
        let served = (round == 2).then(|| home.serve());
        let add = ["memory", "import", "--key", key];
        let text = "{\"content\":\"the cat is called Tom\"}\n";
        assert_eq!(home.run_with(&add, text).code, 0);
        assert_eq!(home.run(&["memory", "delete", "--key", key]).code, 0);
        for (what, name, count) in [
            ("memories imported", "lines", "1"),
            ("memories deleted", "deleted", "1"),
        ] {
            let lines = lines(what);
            assert_eq!(lines.len(), round, "{what}");
            let last = lines.last().unwrap();
            assert_eq!((&last["who"], &last[name]), (&json!(who), &json!(count)));
        }
        drop(served.map(Served::stop));
    }
}

#[test]
fn a_long_import_keeps_its_order_over_all_its_pieces() {
    let home = Home::new();
    operated(&home, free_port());
    let lines: String = (0..10_200)
        .map(|n| json!({"content": format!("fact {n}"), "role": "narrator"}).to_string() + "\n")
        .collect();
    for running in [true, false] {
        let key = home.run(&["keys", "create", "--json"]).json();
        let key = key["id"].as_str().unwrap();
        let served = running.then(|| home.serve());
        let import = home.run_with(&["memory", "import", "--key", key, "--json"], &lines);
        assert_eq!(import.json()["stored"], 10_200);
        let export = home.run(&["memory", "export", "--key", key]).stdout;
        for (n, line) in export.lines().enumerate() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["content"], format!("fact {n}"));
            assert_eq!(line["role"], "narrator");
        }
        drop(served.map(Served::stop));
    }
}

#[test]
fn whoever_listens_on_the_admin_port_while_no_router_runs_is_told_nothing() {
    let home = Home::new();
    let key = home.run(&["keys", "create", "--json"]).json();
    let key = key["id"].as_str().unwrap();
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    operated(&home, stranger.local_addr().unwrap().port());
    stranger.set_nonblocking(true).unwrap();
    let stats = home.run(&["memory", "stats", "--key", key, "--json"]);
    assert_eq!(stats.json()["memories"], 0, "{stats:?}");
    let heard = stranger.accept().map(|(mut stream, _)| {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes
    });
    assert_eq!(heard.unwrap_or_default(), b"");
}

#[test]
fn a_reader_that_leaves_an_export_is_no_fault_of_the_router() {
    let home = Home::new();
    operated(&home, free_port());
    let key = home.run(&["keys", "create", "--json"]).json();
    let key = key["id"].as_str().unwrap();
    let lines: String = (0..2000)
        .map(|n| json!({"content": format!("{n} {}", "x".repeat(200))}).to_string() + "\n")
        .collect();
    let served = home.serve();
    let import = home.run_with(&["memory", "import", "--key", key], &lines);
    assert_eq!(import.code, 0, "{import:?}");
    let mut export = command(&["memory", "export", "--key", key, "--dir"]);
    let mut export = export.arg(home.path()).spawn().unwrap();
    drop(export.stdout.take());
    let mut said = String::new();
    export
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(export.wait().unwrap().code(), Some(0), "{said}");
    assert!(!said.contains("admin port"), "{said}");
    assert_eq!(served.stop().0, 0);
}

#[test]
fn usage_of_a_directory_that_is_not_there_is_no_table_of_zeros() {
    let home = Home::empty();
    let done = home.run(&["usage"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("no data directory"), "{done:?}");
}

#[test]
fn files_that_may_not_grow_cost_no_request() {
    let provider = Provider::plain();
    let (home, token) = Home::paying(&provider, "");
    // Less than any store begins with.
    let mut shell = std::process::Command::new("/bin/bash");
    shell
        .args(["-c", "ulimit -f 16; exec \"$@\"", "bash"])
        .arg(command(&[]).get_program())
        .args(["serve", "--dir"])
        .arg(home.path());
    shell
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let served = Served::start(&mut shell);
    let bytes = request(
        "POST",
        "/v1/chat/completions",
        &[("x-api-key", &token)],
        CHAT,
    );
    crate::support::eventually("a store that fails", || {
        assert_eq!(served.connect().exchange(&bytes).status, 200);
        thread::yield_now();
        served.log().contains("cannot be")
    });
    assert_eq!(served.stop().0, 0);
}
