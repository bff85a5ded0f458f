//! `memoryrouter memory`: a vault from the shell.
//!
//! A running router holds the log, and is asked over its admin port; without one the log is opened here. An export is
//! what an import takes back, line by line; long ones tell on stderr how far they are.

mod forget;
mod lines;
mod vault;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::table::count;
use super::{Failure, Global};
use crate::exchange::is_session_id;
use crate::memory::{Delete, MemoryId, NewMemory};
pub(crate) use forget::forget;
pub(crate) use lines::tell;
use lines::{Lines, Told};
use vault::{Listed, Vault, read, wait};

#[derive(Subcommand)]
pub(crate) enum MemoryCommand {
    /// Tell what a key's vault holds, in numbers
    Stats(Of),
    /// Write all memories of a key's vault to stdout, one JSON object a line, oldest first
    Export(Of),
    /// Add memories to a key's vault: lines as `export` writes them
    Import(Import),
    /// Delete all memories of a key's vault, or some
    Delete(Gone),
}

#[derive(Args)]
pub(crate) struct Of {
    /// The key's id, as `keys list` shows it
    #[arg(long, value_name = "ID")]
    key: String,
}

#[derive(Args)]
pub(crate) struct Import {
    #[command(flatten)]
    of: Of,
    /// A file of lines [default: stdin]
    file: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Gone {
    #[command(flatten)]
    of: Of,
    /// Only those of this session
    #[arg(long, value_name = "ID", conflicts_with = "memory", value_parser = session_id)]
    session: Option<String>,
    /// Only this one
    #[arg(long, value_name = "ID", value_parser = memory_id)]
    memory: Option<MemoryId>,
}

fn memories(number: u64) -> String {
    count(number, "memory", "memories")
}

fn memory_id(text: &str) -> Result<MemoryId, String> {
    MemoryId::parse(text).ok_or_else(|| "no memory's id; those start with mem_".into())
}

/// An unset variable is no session: without one, all memories would be meant.
fn session_id(text: &str) -> Result<String, String> {
    let refused = || "no session's id; those are 1 to 128 of A-Z a-z 0-9 . _ : @ -".into();
    is_session_id(text)
        .then(|| text.to_owned())
        .ok_or_else(refused)
}

/// Runs the command.
pub(crate) fn run(command: MemoryCommand, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    match command {
        MemoryCommand::Stats(of) => stats(&Vault::find(&config, of.key)?, global),
        MemoryCommand::Export(of) => export(&Vault::find(&config, of.key)?),
        MemoryCommand::Import(import) => {
            // All lines are read and judged before the first is stored.
            let lines = Lines::read(import.file.as_deref())?;
            let vault = Vault::find(&config, import.of.key)?;
            let added = lines.add_to(&vault)?;
            let lines = [("lines", added.total.to_string())];
            vault.write_down(&config.dir, "memories imported", &lines);
            global.show(
                || &added,
                || {
                    format!(
                        "{}: {} stored, {} there already",
                        memories(added.total),
                        added.stored,
                        added.duplicates
                    )
                },
            )
        }
        MemoryCommand::Delete(gone) => {
            let which = match (gone.session, gone.memory) {
                (Some(session), _) => Delete::Session(session),
                (None, Some(id)) => Delete::One(id),
                (None, None) => Delete::All,
            };
            let vault = Vault::find(&config, gone.of.key)?;
            let deleted = vault.delete(&which)?;
            let mut about = vec![("deleted", deleted.deleted.to_string())];
            match &which {
                Delete::All => {}
                Delete::One(id) => about.push(("memory", id.to_string())),
                Delete::Session(session) => about.push(("session", session.clone())),
            }
            vault.write_down(&config.dir, "memories deleted", &about);
            if deleted.deleted == 0 && matches!(which, Delete::One(_)) {
                return Err(Failure::failed("no such memory"));
            }
            global.show(
                || &deleted,
                || format!("{} deleted", memories(deleted.deleted)),
            )
        }
    }
}

/// The names are those of the endpoint for callers.
#[derive(Serialize)]
struct ShownStats<'a> {
    key: &'a str,
    memories: u64,
    #[serde(rename = "totalTokens")]
    total_tokens: u64,
    oldest: Option<&'a str>,
    newest: Option<&'a str>,
    sessions: u64,
    bytes: u64,
}

fn stats(vault: &Vault, global: &Global) -> Result<(), Failure> {
    let stats = match vault {
        Vault::Running { router, key } => {
            let listed = router.get(&format!("{}?limit=1", Vault::target(key)))?;
            read::<Listed>(&listed)?.stats
        }
        Vault::Here { store, vault, .. } => {
            wait(store.stats(vault))?.map_err(Failure::failed)?.into()
        }
    };
    let shown = || ShownStats {
        key: vault.key(),
        memories: stats.memories,
        total_tokens: stats.total_tokens,
        oldest: stats.oldest.as_deref(),
        newest: stats.newest.as_deref(),
        sessions: stats.sessions,
        bytes: stats.bytes,
    };
    global.show(shown, || {
        let time = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".into());
        format!(
            "{}, about {}, {} of text, {}\noldest {}, newest {}",
            memories(stats.memories),
            count(stats.total_tokens, "token", "tokens"),
            count(stats.bytes, "byte", "bytes"),
            count(stats.sessions, "session", "sessions"),
            time(&stats.oldest),
            time(&stats.newest)
        )
    })
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    content: &'a str,
    role: &'a str,
    timestamp: i64,
    session_id: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// With its line break.
    fn text(&self) -> Result<String, Failure> {
        let line = sonic_rs::to_string(self).map_err(Failure::failed)?;
        Ok(line + "\n")
    }

    /// Of what has no id yet.
    fn of_new(memory: &'a NewMemory) -> Result<String, Failure> {
        let line = Self {
            id: None,
            content: &memory.text,
            role: memory.role.as_str(),
            timestamp: memory.at_ms,
            session_id: memory.session.as_deref(),
        };
        line.text()
    }
}

fn export(vault: &Vault) -> Result<(), Failure> {
    let mut out = Told::new(io::BufWriter::new(io::stdout().lock()), "memories exported");
    let failed = |error: io::Error| Failure::failed(format!("cannot write to stdout: {error}"));
    match vault {
        Vault::Running { router, key } => {
            let target = format!("{}/export", Vault::target(key));
            router.ask_into("GET", &target, "", b"", &mut out)?;
        }
        Vault::Here { store, vault, .. } => {
            let mut export = wait(store.export(vault))?.map_err(Failure::failed)?;
            loop {
                let page = wait(export.page())?.map_err(Failure::failed)?;
                if page.is_empty() {
                    break;
                }
                for memory in &page {
                    let line = Line {
                        id: Some(memory.id.to_string()),
                        content: &memory.text,
                        role: memory.role.as_str(),
                        timestamp: memory.at_ms,
                        session_id: memory.session.as_deref(),
                    };
                    out.write_all(line.text()?.as_bytes()).map_err(failed)?;
                }
            }
        }
    }
    out.flush().map_err(failed)?;
    if out.told > 0 {
        tell(&format!("{} memories exported, all there are", out.lines));
    }
    Ok(())
}
