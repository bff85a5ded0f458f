//! The memory browser: what a key's vault holds, looked through, exported, deleted.
//!
//! The vault is reached through the key's record, as a request of that key reaches it. Large vaults go by page, with a
//! turn for everybody else in between.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use super::answer::{Answer, Broken, Denial, JSON_LINES, Piece, Pieces, Reply};
use super::desk::Desk;
use super::request::Request;
use crate::audit::{self, Who};
use crate::clock::{rfc3339, unix_millis};
use crate::exchange;
use crate::memory::{
    Browse, Cursor, Delete, Export, Exported, MemoryError, MemoryId, MemoryStore, NewMemory,
    PAGE_BYTES, Recalled, VaultRef, VaultStats,
};
use crate::net;

const SHOWN: usize = 50;
const SHOWN_MAX: usize = 500;
/// Sessions that are listed; the newest of them.
const SESSIONS_MAX: usize = 1000;

#[derive(Serialize)]
struct Memory<'a> {
    id: String,
    content: &'a str,
    role: &'a str,
    timestamp: i64,
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u32>,
}

impl<'a> Memory<'a> {
    fn found(memory: &'a Recalled) -> Self {
        Self {
            id: memory.id.to_string(),
            content: &memory.text,
            role: memory.role.as_str(),
            timestamp: memory.at_ms,
            session_id: memory.session.as_deref(),
            score: Some(memory.score),
            window: Some(memory.window.as_str()),
            tokens: Some(memory.tokens),
        }
    }

    fn exported(memory: &'a Exported) -> Self {
        Self {
            id: memory.id.to_string(),
            content: &memory.text,
            role: memory.role.as_str(),
            timestamp: memory.at_ms,
            session_id: memory.session.as_deref(),
            score: None,
            window: None,
            tokens: None,
        }
    }
}

#[derive(Serialize)]
struct Stats {
    memories: u64,
    total_tokens: u64,
    oldest: Option<String>,
    newest: Option<String>,
    sessions: u64,
    bytes: u64,
}

fn time(at_ms: i64) -> String {
    rfc3339(at_ms.div_euclid(1000))
}

impl From<VaultStats> for Stats {
    fn from(stats: VaultStats) -> Self {
        Self {
            memories: stats.memories,
            total_tokens: stats.total_tokens,
            oldest: stats.oldest_ms.map(time),
            newest: stats.newest_ms.map(time),
            sessions: stats.sessions,
            bytes: stats.bytes,
        }
    }
}

#[derive(Serialize)]
struct List<'a> {
    memories: Vec<Memory<'a>>,
    next: Option<String>,
    stats: Stats,
}

pub(super) fn unavailable(error: MemoryError) -> Denial {
    Denial::new(503, "Memory is not available").hint(error.to_string())
}

/// The vault that a key's record names.
pub(super) fn vault(desk: &Desk, id: &str) -> Result<VaultRef, Denial> {
    let record = desk.record(id)?;
    Ok(VaultRef::new(&record.vault, record.vault_key))
}

/// `GET /keys/{id}/memories`: best first for a query; without one the newest first, page by page.
pub(super) async fn list(desk: &Desk, request: &Request, id: &str) -> Result<Answer, Denial> {
    let vault = vault(desk, id)?;
    let limit = request.count("limit", SHOWN, SHOWN_MAX)?;
    let text = request.parameter("query").unwrap_or_default().trim();
    let before = match request.parameter("cursor") {
        None => None,
        Some(cursor) => Some(
            Cursor::parse(cursor).ok_or_else(|| Denial::odd("cursor: what `next` said before"))?,
        ),
    };
    let browse = Browse {
        text,
        session: request.session()?,
        limit,
        before,
        now_ms: unix_millis(),
    };
    let store = desk.control.memory();
    let found = store.search(&vault, &browse).await.map_err(unavailable)?;
    let stats = store.stats(&vault).await.map_err(unavailable)?;
    let bytes: usize = found.iter().map(|memory| memory.text.len()).sum();
    let full = text.is_empty() && (found.len() == limit || bytes >= PAGE_BYTES);
    let next = found
        .last()
        .filter(|_| full)
        .map(|last| last.cursor().to_string());
    Ok(Answer::json(&List {
        memories: found.iter().map(Memory::found).collect(),
        next,
        stats: stats.into(),
    }))
}

#[derive(Serialize)]
struct Session {
    session_id: String,
    memories: u64,
    newest: String,
}

#[derive(Serialize)]
struct Sessions {
    sessions: Vec<Session>,
    /// Older ones that are not among them.
    left_out: usize,
}

/// `GET /keys/{id}/sessions`: the last used first.
pub(super) async fn sessions(desk: &Desk, id: &str) -> Result<Answer, Denial> {
    let vault = vault(desk, id)?;
    let store = desk.control.memory();
    let mut sessions: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    let mut export = store.export(&vault).await.map_err(unavailable)?;
    loop {
        let page = export.page().await.map_err(unavailable)?;
        for memory in &page {
            if let Some(session) = &memory.session {
                let (count, newest) = sessions.entry(session.clone()).or_default();
                *count += 1;
                *newest = memory.at_ms.max(*newest);
            }
        }
        if page.is_empty() {
            break;
        }
        net::sleep(Duration::ZERO).await;
    }
    let mut sessions: Vec<(String, (u64, i64))> = sessions.into_iter().collect();
    sessions.sort_by_key(|(_, (_, newest))| std::cmp::Reverse(*newest));
    let left_out = sessions.len().saturating_sub(SESSIONS_MAX);
    sessions.truncate(SESSIONS_MAX);
    let sessions = sessions
        .into_iter()
        .map(|(session_id, (memories, newest))| Session {
            session_id,
            memories,
            newest: time(newest),
        });
    Ok(Answer::json(&Sessions {
        sessions: sessions.collect(),
        left_out,
    }))
}

#[derive(Serialize)]
struct Deleted {
    deleted: u64,
}

/// `DELETE /keys/{id}/memories[/{m}]`.
pub(super) async fn delete(
    desk: &Desk,
    request: &Request,
    id: &str,
    memory: Option<&str>,
    who: Who,
) -> Result<Answer, Denial> {
    let vault = vault(desk, id)?;
    let session = request.session()?;
    let which = match (memory, session) {
        (Some(memory), _) => {
            let id = MemoryId::parse(memory);
            Delete::One(id.ok_or_else(|| Denial::new(404, "no such memory"))?)
        }
        (None, Some(session)) => Delete::Session(session.to_owned()),
        (None, None) => Delete::All,
    };
    let deleted = desk.control.memory().delete(&vault, which).await;
    let deleted = deleted.map_err(unavailable)?;
    if memory.is_some() && deleted == 0 {
        return Err(Denial::new(404, "no such memory"));
    }
    let mut about = vec![("key", id.to_owned()), ("deleted", deleted.to_string())];
    about.extend(memory.map(|memory| ("memory", memory.to_owned())));
    about.extend(session.map(|session| ("session", session.to_owned())));
    write_down(desk, who, "memories deleted", about).await?;
    Ok(Answer::json(&Deleted { deleted }))
}

pub(super) async fn write_down(
    desk: &Desk,
    who: Who,
    what: &'static str,
    about: Vec<(&'static str, String)>,
) -> Result<(), Denial> {
    let dir = desk.config().dir.clone();
    let write = move || {
        let about: Vec<(&str, &str)> = about
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        audit::append(&dir, &who, what, &about);
    };
    desk.blocking.run(write).await
}

/// `GET /keys/{id}/memories/export`: lines that an import takes back, the oldest first; of one session, or all.
pub(super) async fn export(desk: &Desk, request: &Request, id: &str) -> Result<Reply, Denial> {
    let vault = vault(desk, id)?;
    request.only(&["session"])?;
    let session = request.session()?.map(str::to_owned);
    let store = desk.control.memory();
    let mut export = store.export(&vault).await.map_err(unavailable)?;
    let first = export.page().await.map_err(unavailable)?;
    let (pieces, reader) = Pieces::new();
    net::spawn(write_pages(export, first, session, pieces));
    let name = format!("attachment; filename=\"memories-{id}.jsonl\"");
    let answer = Answer::of(200, JSON_LINES, Vec::new()).with("content-disposition", name);
    Ok(Reply::Pieces(answer, reader))
}

async fn write_pages(
    mut export: Export,
    mut page: Vec<Exported>,
    session: Option<String>,
    mut pieces: Pieces,
) {
    let wanted = |memory: &&Exported| session.is_none() || memory.session == session;
    while !page.is_empty() {
        let mut lines = Vec::new();
        for memory in page.iter().filter(wanted) {
            lines.extend(sonic_rs::to_vec(&Memory::exported(memory)).unwrap_or_default());
            lines.push(b'\n');
        }
        if lines.is_empty() {
            // An empty piece would end the answer.
            net::sleep(Duration::ZERO).await;
        } else if pieces.send(Ok(lines)).await.is_err() {
            return;
        }
        page = match export.page().await {
            Ok(page) => page,
            // The caller must see that it has not got everything.
            Err(_) => return drop(pieces.send(Err(Broken)).await),
        };
    }
}

/// Memories stored at once, between two words about how far it is.
const IMPORTED_AT_ONCE: usize = 500;

#[derive(Serialize)]
struct Progress {
    processed: usize,
    total: usize,
}

#[derive(Serialize)]
struct Imported {
    status: &'static str,
    stats: Counts,
}

#[derive(Default, Serialize)]
struct Counts {
    total: u64,
    processed: u64,
    stored: u64,
    duplicates: u64,
    failed: u64,
}

#[derive(Serialize)]
struct NotImported {
    status: &'static str,
    error: String,
    processed: usize,
}

/// `POST /keys/{id}/memories/import`: all lines are read before the first is stored; then it tells how far it is.
pub(super) async fn import(
    desk: &Rc<Desk>,
    request: &Request,
    id: &str,
    who: Who,
) -> Result<Reply, Denial> {
    let vault = vault(desk, id)?;
    let session = request.session()?;
    let memories = exchange::read_lines(&request.body, session, unix_millis()).await?;
    let (mut pieces, reader) = Pieces::new();
    let (desk, id) = (desk.clone(), id.to_owned());
    net::spawn(async move {
        let store = desk.control.memory().clone();
        let (lines, last) = store_pages(store, vault, memories, &mut pieces).await;
        if lines > 0 {
            let about = vec![("key", id), ("lines", lines.to_string())];
            // What is stored stays, whether it could be written down or not.
            let _ = write_down(&desk, who, "memories imported", about).await;
        }
        // Whether anybody hears it or not, there is nothing left to do.
        let _ = pieces.send(last).await;
    });
    let answer = Answer::of(200, JSON_LINES, Vec::new());
    Ok(Reply::Pieces(answer, reader))
}

/// Stores everything, or up to what cannot be stored; returns how many lines that were, and the last word about it.
async fn store_pages(
    store: MemoryStore,
    vault: VaultRef,
    memories: Vec<NewMemory>,
    pieces: &mut Pieces,
) -> (usize, Piece) {
    let line = |value: Result<Vec<u8>, _>| {
        let mut line: Vec<u8> = value.unwrap_or_default();
        line.push(b'\n');
        Ok(line)
    };
    let total = memories.len();
    let mut counts = Counts {
        total: total as u64,
        ..Counts::default()
    };
    let mut left = memories.into_iter().peekable();
    let mut processed = 0;
    while left.peek().is_some() {
        let page: Vec<NewMemory> = left.by_ref().take(IMPORTED_AT_ONCE).collect();
        let count = page.len();
        match store.add(&vault, page).await {
            Ok(added) => {
                counts.stored += added.stored;
                counts.duplicates += added.duplicates;
            }
            Err(error) => {
                let failed = NotImported {
                    status: "failed",
                    error: error.to_string(),
                    processed,
                };
                return (processed, line(sonic_rs::to_vec(&failed)));
            }
        }
        processed += count;
        counts.processed = processed as u64;
        let progress = Progress { processed, total };
        // An import goes on when whoever began it has left: half of one would be worse.
        let _ = pieces.send(line(sonic_rs::to_vec(&progress))).await;
    }
    let done = Imported {
        status: "complete",
        stats: counts,
    };
    (processed, line(sonic_rs::to_vec(&done)))
}
