//! Who changed what, and when: one JSON line for each change, in a file that only grows.
//!
//! The admin port, the command line and the endpoints with which a key mints others write here, after the change is
//! made. No secrets: ids, names of actions, and who asked. Blocks: never called on a worker.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::clock;
use crate::files::open_shared;

/// The file's name in the data directory.
pub const FILE_NAME: &str = "audit.log";

/// Who asked for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever holds the admin token.
    AdminToken,
    /// Somebody who logged in to the dashboard.
    Dashboard,
    /// The command line.
    Cli,
    /// A memory key, by its id.
    Key(String),
}

impl Who {
    fn as_text(&self) -> String {
        match self {
            Self::AdminToken => "admin token".to_owned(),
            Self::Dashboard => "dashboard".to_owned(),
            Self::Cli => "cli".to_owned(),
            Self::Key(id) => format!("key {id}"),
        }
    }
}

/// Writes one line for `what`, with what it was done to. A line that cannot be written is told in the log: the change
/// is made already.
pub fn append(dir: &Path, who: &Who, what: &str, about: &[(&str, &str)]) {
    let line = line(who, what, about, clock::unix_seconds());
    if let Err(error) = write(dir, &line) {
        tracing::error!(%error, what, "the audit log cannot be written");
    }
}

fn write(dir: &Path, line: &str) -> io::Result<()> {
    let mut file = open_shared(&dir.join(FILE_NAME), true)?;
    // One call, so that lines of two processes do not mix.
    match is_torn(&file)? {
        true => file.write_all(format!("\n{line}").as_bytes())?,
        false => file.write_all(line.as_bytes())?,
    }
    file.sync_data()
}

/// Whether the last line was cut, by a full disk or a crash: it is to spoil no other.
fn is_torn(file: &File) -> io::Result<bool> {
    let Some(last) = file.metadata()?.len().checked_sub(1) else {
        return Ok(false);
    };
    let mut end = [b'\n'];
    file.read_at(&mut end, last)?;
    Ok(end != *b"\n")
}

fn line(who: &Who, what: &str, about: &[(&str, &str)], now: i64) -> String {
    let mut line = format!(
        "{{\"time\":{},\"who\":{},\"what\":{}",
        quoted(&clock::rfc3339(now)),
        quoted(&who.as_text()),
        quoted(what)
    );
    for (name, value) in about {
        line += &format!(",{}:{}", quoted(name), quoted(value));
    }
    line + "}\n"
}

/// A JSON string literal. Text always has one.
fn quoted(text: &str) -> String {
    sonic_rs::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn lines_are_added_to_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let who = Who::Key("key_a".into());
        append(dir.path(), &Who::Cli, "key made", &[("key", "key_b")]);
        append(dir.path(), &who, "key \"x\"\nmade", &[]);
        let file = dir.path().join(FILE_NAME);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["who"], "cli");
        assert_eq!(lines[0]["key"], "key_b");
        assert_eq!(lines[1]["who"], "key key_a");
        assert_eq!(lines[1]["what"], "key \"x\"\nmade");
    }

    #[test]
    fn a_line_that_was_cut_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE_NAME);
        append(dir.path(), &Who::Cli, "one", &[]);
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{whole}{}", &whole[..20])).unwrap();
        append(dir.path(), &Who::Cli, "two", &[]);
        append(dir.path(), &Who::Cli, "three", &[]);
        let text = std::fs::read_to_string(&file).unwrap();
        let good: Vec<bool> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
            .collect();
        assert_eq!(good, [true, false, true, true], "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_written_stops_nothing() {
        append(Path::new("/nowhere"), &Who::Dashboard, "key made", &[]);
    }
}
