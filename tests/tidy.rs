//! The rules that keep the source readable, held by a machine: who imports whom, how long a file may be, which words
//! are taken, where a crate comes in, and that no test is switched off.

#![allow(clippy::unwrap_used, reason = "a test may end where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module with all that it imports from others. Only what stands above a row may be in it, so there is no cycle.
#[rustfmt::skip] // A table reads by rows.
const IMPORTS: &[(&str, &str)] = &[
    ("error", ""),
    ("secret", ""),
    ("clock", ""),
    ("depth", ""),
    ("files", ""),
    ("audit", "clock files"),
    ("http", ""),
    ("memory", "clock depth files secret"),
    ("provider", "depth secret"),
    ("auth", "error http secret"),
    ("route", "provider"),
    ("respond", "error provider"),
    ("catalogue", "clock"),
    ("prices", "provider"),
    ("config", "catalogue files prices provider"),
    ("keys", "clock files secret"),
    ("limits", "clock error keys"),
    ("net", "files"),
    ("upstream", "http net"),
    ("relay", "http net provider upstream"),
    ("usage", "clock files prices"),
    ("traces", "net upstream"),
    ("record", "error provider relay traces usage"),
    ("plan", "config net provider upstream"),
    ("metrics", "error record"),
    ("worker", "config http keys limits memory metrics net plan record secret traces upstream usage"),
    ("exchange", "audit auth clock config depth error http keys limits memory metrics net plan provider record relay respond route secret traces upstream usage worker"),
    ("connection", "exchange http net worker"),
    ("server", "config connection error exchange keys memory metrics net plan secret traces upstream usage worker"),
    ("log", "config record"),
    ("admin", "audit clock config connection depth error exchange files http keys limits log memory metrics net provider secret server upstream usage worker"),
    ("demo", "clock depth http memory net"),
    ("cli", "admin audit clock config demo error exchange files http keys log memory net secret server usage"),
];

/// Crates and the file or folder that may name them; for one of them, the two tables that all cores share.
const DOORS: &[(&str, &str)] = &[
    ("aes_gcm_siv", "keys/seal.rs memory/seal.rs"),
    ("arc_swap", "keys/store.rs"),
    ("argon2", "keys/master.rs"),
    ("brotli_decompressor", "provider/coding.rs"),
    ("clap", "cli"),
    ("dashmap", "keys/snapshot.rs limits memory/core.rs"),
    (
        "fearless_simd",
        "http/head/end.rs provider/answer provider/json",
    ),
    ("flate2", "provider/coding.rs"),
    ("hdrhistogram", "metrics/timing.rs"),
    ("hkdf", "keys/seal.rs memory/seal.rs"),
    ("httparse", "http/head.rs"),
    ("io_uring", "net/runtime.rs"),
    ("listenfd", "server/handover.rs"),
    ("monoio", "net"),
    ("monoio_rustls", "net"),
    (
        "redb",
        "memory/change.rs memory/compact memory/log usage/ledger",
    ),
    ("rustix", "net/acknowledged.rs"),
    ("ruzstd", "provider/coding.rs"),
    ("rustls", "net/tls"),
    ("rustls_native_certs", "net/tls.rs"),
    ("sd_notify", "cli/serve.rs"),
    ("signal_hook", "cli/secret_input.rs cli/serve.rs"),
    ("socket2", "net/listener.rs net/stream.rs"),
    ("tracing_subscriber", "log.rs"),
    ("unicode_normalization", "memory/analyse"),
    ("ureq", "memory/embed/wire.rs"),
    ("waken_snowball", "memory/analyse/language.rs"),
];

/// Without tests, a file is read in one sitting; a few need a little more.
const LINES_MAX: usize = 415;
const HEADER_LINES_MAX: usize = 15;

/// Words that say nothing, or that mean something else here.
const BANNED_NAMES: &[&str] = &[
    "util", "utils", "helper", "helpers", "manager", "misc", "common", "types",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// All files below `dir` with this ending, with their text.
fn files(dir: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut todo = vec![root().join(dir)];
    while let Some(dir) = todo.pop() {
        // A folder that is not there yet holds nothing.
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !matches!(
                    name,
                    "target" | ".venv" | "node_modules" | "corpus" | "artifacts"
                ) {
                    todo.push(path);
                }
            } else if name.ends_with(ending) {
                let shown = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                // What is no text is no file of ours to read.
                if let Ok(text) = fs::read_to_string(&path) {
                    found.push((shown, text));
                }
            }
        }
    }
    found.sort();
    found
}

/// The product's own files, tests cut off.
fn sources() -> Vec<(String, String)> {
    let all = files("src", ".rs").into_iter();
    assert!(all.len() > 50, "the source is not where it was");
    let own = all.filter(|(path, _)| !path.ends_with("/tests.rs") && !path.contains("/tests/"));
    own.map(|(path, text)| {
        let end = text.find("\n#[cfg(test)]").unwrap_or(text.len());
        (path, text[..end].to_owned())
    })
    .collect()
}

/// Lines of code, comments left out.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim_start)
        .filter(|line| !line.starts_with("//"))
}

fn module_of(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap();
    path.split(['/', '.']).next().unwrap()
}

/// Identifiers behind each `prefix`.
fn names_behind<'a>(line: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(prefix).map(move |(at, _)| {
        let rest = &line[at + prefix.len()..];
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

#[test]
fn imports_go_down_only() {
    let mut above = BTreeSet::new();
    let mut allowed = BTreeMap::new();
    for (module, imports) in IMPORTS {
        let imports: BTreeSet<&str> = imports.split_whitespace().collect();
        for import in &imports {
            assert!(
                above.contains(import),
                "{module} imports {import}, which does not stand above it"
            );
        }
        above.insert(*module);
        allowed.insert(*module, imports);
    }
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let sources = sources();
    for (path, text) in &sources {
        let module = module_of(path);
        if matches!(module, "lib" | "main") {
            continue;
        }
        let imports = found.entry(module).or_default();
        for name in code(text).flat_map(|line| names_behind(line, "crate::")) {
            // A name in capitals is a macro's or an item's of the crate's root: there are none.
            if name != module && !name.is_empty() {
                imports.insert(name.to_owned());
            }
        }
    }
    for (module, imports) in &found {
        let allowed: BTreeSet<String> = allowed
            .get(module)
            .into_iter()
            .flatten()
            .map(|name| (*name).to_owned())
            .collect();
        assert_eq!(
            *imports, allowed,
            "what {module} imports; the table is to say just that"
        );
    }
    assert_eq!(
        found.len(),
        IMPORTS.len(),
        "a module is missing, or gone: {:?}",
        found.keys()
    );
}

#[test]
fn each_crate_has_one_door() {
    for (path, text) in sources() {
        let below = path.strip_prefix("src/").unwrap();
        for line in code(&text) {
            for (name, door) in DOORS {
                let used = line.match_indices(&format!("{name}::")).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
                });
                assert!(
                    !used || door.split(' ').any(|door| below.starts_with(door)),
                    "{path} names {name}, whose door is {door}: {line}"
                );
            }
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines");
        let header = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .count();
        assert!(
            (1..=HEADER_LINES_MAX).contains(&header),
            "{path} has a header of {header} lines"
        );
    }
    for dir in ["tests", "benches", "load"] {
        if root().join(dir).is_dir() {
            for (path, text) in files(dir, ".rs") {
                assert!(
                    text.starts_with("//!") || text.starts_with("#!"),
                    "{path} does not say what it is"
                );
                assert!(text.lines().count() <= 700, "{path} is too long");
            }
        }
    }
}

#[test]
fn names_say_something() {
    for (path, text) in files("src", ".rs") {
        let parts = path.trim_end_matches(".rs").split(['/', '_']);
        for part in parts {
            assert!(!BANNED_NAMES.contains(&part), "{path}");
        }
        for line in code(&text) {
            for prefix in ["mod ", "struct ", "enum ", "trait "] {
                for name in names_behind(line, prefix) {
                    let name = name.to_ascii_lowercase();
                    assert!(
                        !BANNED_NAMES.iter().any(|banned| name.ends_with(banned)),
                        "{path}: {line}"
                    );
                }
            }
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not hold them.
    let words = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X:"],
        ["unimpl", "emented!"],
        ["#[ign", "ore"],
        ["dbg", "!("],
    ];
    for dir in ["src", "tests"] {
        for (path, text) in files(dir, ".rs") {
            for word in &words {
                assert!(
                    !text.contains(&word.concat()),
                    "{path} holds {}",
                    word.concat()
                );
            }
        }
    }
    for (path, text) in sources() {
        for word in ["panic!(", ".unwrap()", ".expect(", "unsafe "] {
            let found = code(&text).find(|line| line.contains(word));
            assert_eq!(found, None, "{path}");
        }
    }
}

#[test]
fn no_file_names_a_machine() {
    let words = [
        ["/ho", "me/"],
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["/Us", "ers/"],
    ];
    for dir in ["src", "tests", "scripts", ".ci", "benches", "load"] {
        for (path, text) in files(dir, "") {
            for word in &words {
                assert!(
                    !text.contains(&word.concat()),
                    "{path} holds {}",
                    word.concat()
                );
            }
        }
    }
}

#[test]
fn modules_are_declared_in_the_order_of_a_request() {
    let text = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let order: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let way = [
        "server",
        "connection",
        "exchange",
        "http",
        "auth",
        "route",
        "provider",
        "upstream",
        "relay",
        "record",
    ];
    let met: Vec<&str> = order
        .iter()
        .copied()
        .filter(|name| way.contains(name))
        .collect();
    assert_eq!(met, way);
    assert_eq!(order.len(), IMPORTS.len());
}
