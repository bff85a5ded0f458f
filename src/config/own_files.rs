//! The files that a configuration names, each with those that the router makes beside it: no two of them may be one, or a
//! store would be written over by what is not its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Config;

/// A file, and what for.
struct Claim {
    /// None where nobody chooses it.
    setting: Option<&'static str>,
    what: String,
    path: PathBuf,
}

/// One file for two things: the settings that say so, and what is wrong.
pub(super) struct Clash {
    pub(super) settings: [Option<&'static str>; 2],
    pub(super) what: String,
}

/// Told by the names alone: no file is looked at.
pub(super) fn clashes(config: &Config) -> Vec<Clash> {
    let claims = claims(config);
    let mut clashes = Vec::new();
    for (at, second) in claims.iter().enumerate() {
        let first = claims[..at].iter().find(|first| first.path == second.path);
        let name = second
            .path
            .strip_prefix(&config.dir)
            .unwrap_or(Path::new(""));
        let is_spool = second.setting == Some(&*second.what)
            && name.to_string_lossy().starts_with("usage.spool.");
        let (setting, first) = match first {
            Some(first) => (first.setting, &*first.what),
            None if is_spool => (None, "a spool of usage"),
            None => continue,
        };
        let path = second.path.display();
        clashes.push(Clash {
            settings: [second.setting, setting],
            what: format!("{path} is {first} as well as {}", second.what),
        });
    }
    clashes
}

fn claims(config: &Config) -> Vec<Claim> {
    let fixed = |what: &str, name: &str| Claim {
        setting: None,
        what: what.to_owned(),
        path: config.dir.join(name),
    };
    let mut claims = vec![
        fixed("the audit log", "audit.log"),
        fixed("the usage store", "usage.redb"),
        fixed("the admin token", "admin.token"),
    ];
    let (keys, memory) = (&config.keys, &config.memory.path);
    let spool = memory.with_extension("spool");
    let mut bad = OsString::from("bad.");
    bad.push(spool.file_name().unwrap_or_default());
    let set = [
        (
            "keys.snapshot",
            &keys.snapshot,
            vec![
                ("the old snapshot", behind(&keys.snapshot, ".before")),
                ("the lock", behind(&keys.snapshot, ".lock")),
                ("the generation", behind(&keys.snapshot, ".seen")),
            ],
        ),
        ("keys.master_key", &keys.master_key, Vec::new()),
        ("usage.prices", &config.usage.prices, Vec::new()),
        (
            "memory.path",
            memory,
            vec![
                ("the damaged spool", spool.with_file_name(bad)),
                ("the spool", spool),
                ("the new file", behind(memory, ".new")),
            ],
        ),
    ];
    for (setting, path, beside) in set {
        let claim = |what, path| Claim {
            setting: Some(setting),
            what,
            path,
        };
        claims.push(claim(setting.to_owned(), path.clone()));
        let beside = beside.into_iter();
        claims.extend(beside.map(|(what, path)| claim(format!("{what} of {setting}"), path)));
    }
    claims
}

fn behind(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}
