//! How memories and their sums look in answers.

use serde::Serialize;

use crate::clock;
use crate::memory::analyse::tokens;
use crate::memory::{Added, Exported, Recalled, VaultStats};

#[derive(Serialize)]
struct Stats<'a> {
    key: &'a str,
    memories: u64,
    #[serde(rename = "totalTokens")]
    total_tokens: u64,
    oldest: Option<String>,
    newest: Option<String>,
    sessions: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Memory<'a> {
    id: String,
    content: &'a str,
    role: &'a str,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<&'a str>,
    session_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Prepared<'a> {
    context: String,
    tokens: u64,
    memories: Vec<Memory<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    memories: Vec<Memory<'a>>,
}

#[derive(Serialize)]
struct Counts {
    total: u64,
    processed: u64,
    stored: u64,
    duplicates: u64,
    failed: u64,
}

#[derive(Serialize)]
struct Uploaded {
    status: &'static str,
    vault: &'static str,
    stats: Counts,
    message: String,
}

#[derive(Serialize)]
struct Ingested {
    status: &'static str,
    stored: u64,
    duplicates: u64,
}

#[derive(Serialize)]
struct Warm {
    status: &'static str,
    memories: u64,
}

/// None of these types can fail to be written.
fn json(value: &impl Serialize) -> String {
    sonic_rs::to_string(value).unwrap_or_default()
}

fn time(at_ms: Option<i64>) -> Option<String> {
    at_ms.map(|at_ms| clock::rfc3339(at_ms.div_euclid(1000)))
}

fn memories(all: &[Recalled]) -> Vec<Memory<'_>> {
    all.iter()
        .map(|memory| Memory {
            id: memory.id.to_string(),
            content: &memory.text,
            role: memory.role.as_str(),
            timestamp: memory.at_ms,
            score: Some(memory.score),
            window: Some(memory.window.as_str()),
            session_id: memory.session.as_deref(),
        })
        .collect()
}

pub(super) fn stats(key: &str, stats: &VaultStats) -> String {
    json(&Stats {
        key,
        memories: stats.memories,
        total_tokens: stats.total_tokens,
        oldest: time(stats.oldest_ms),
        newest: time(stats.newest_ms),
        sessions: stats.sessions,
        bytes: stats.bytes,
    })
}

pub(super) fn warm(stats: &VaultStats) -> String {
    json(&Warm {
        status: "ready",
        memories: stats.memories,
    })
}

pub(super) fn prepared(context: Option<String>, recalled: &[Recalled]) -> String {
    let context = context.unwrap_or_default();
    json(&Prepared {
        tokens: tokens(&context).into(),
        context,
        memories: memories(recalled),
    })
}

pub(super) fn found(recalled: &[Recalled]) -> String {
    json(&Found {
        memories: memories(recalled),
    })
}

pub(super) fn ingested(added: &Added) -> String {
    json(&Ingested {
        status: "complete",
        stored: added.stored,
        duplicates: added.duplicates,
    })
}

pub(super) fn uploaded(session: bool, total: usize, added: &Added) -> String {
    let total = total as u64;
    json(&Uploaded {
        status: "complete",
        vault: if session { "session" } else { "core" },
        stats: Counts {
            total,
            processed: total,
            stored: added.stored,
            duplicates: added.duplicates,
            failed: added.expired,
        },
        message: match added.expired {
            0 => format!(
                "{} of {total} stored, {} known already",
                added.stored, added.duplicates
            ),
            expired => format!(
                "{} of {total} stored, {} known already, {expired} older than memory.retention keeps",
                added.stored, added.duplicates
            ),
        },
    })
}

/// A line of an export, which `upload` takes back.
pub(super) fn line(memory: &Exported) -> String {
    let mut line = json(&Memory {
        id: memory.id.to_string(),
        content: &memory.text,
        role: memory.role.as_str(),
        timestamp: memory.at_ms,
        score: None,
        window: None,
        session_id: memory.session.as_deref(),
    });
    line.push('\n');
    line
}
