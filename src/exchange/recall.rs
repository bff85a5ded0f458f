//! Before the request leaves: what the vault holds that helps with it, put at the end of the newest user message.
//!
//! `exchange` calls it once the order is known. A vault that fails or takes too long leaves the request as it
//! was. While an agent loops over tool results the same turn gets the same block: it is recalled once and kept. What
//! happened is told in the answer's head, and `remember` goes on from it once the answer is over.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::body::Request;
use super::order::Order;
use super::settings::Settings;
use super::{Exchange, Tenant};
use crate::clock;
use crate::http::encode;
use crate::memory::turns::{Recollection, Step};
use crate::memory::{Moment, Query, Recalled, VaultRef, block};
use crate::net;
use crate::provider::body::Turn;
use crate::record::Record;

/// Of a long message, what it begins and ends with says what it is about.
const QUERY_BYTES: usize = 4 * 1024;

/// As many memories are told of in the debug header; there may be more.
const SHOWN_MAX: usize = 50;

/// What memory did for one request.
pub(super) struct Recall {
    pub(super) settings: Settings,
    /// The vault, where the request has to do with it at all.
    pub(super) vault: Option<VaultRef>,
    pub(super) turn: Option<Turn>,
    pub(super) recollection: Option<Arc<Recollection>>,
    /// When the user's words came.
    pub(super) at_ms: i64,
    /// Deletions from then on hold for what was said here too.
    pub(super) begun: Moment,
    pub(super) took: Duration,
    failed: bool,
}

/// What was recalled for this turn before, else what the vault gives now.
async fn find(
    turn: &Turn,
    vault: &VaultRef,
    order: &Order<'_>,
    request: &Request<'_>,
    tenant: &Tenant,
    exchange: &Exchange<'_>,
    recall: &mut Recall,
) -> Arc<Recollection> {
    let turns = &exchange.worker.memory.turns();
    let session = recall.settings.session.as_deref();
    let step = turn.first_step(request.body());
    let step = step.as_ref().map(|(bytes, call)| Step { bytes, call });
    let key = turns.key(&tenant.key.vault, session, &turn.text, turn.index, step);
    if let Some(known) = turns.get(&key, Instant::now()) {
        return known;
    }
    let text = shortened(&turn.text);
    let mut found = Recollection::default();
    if recall.settings.recalls() && !text.is_empty() {
        let said = OnceCell::new();
        let body = request.body();
        let present = |text: &str| {
            said.get_or_init(|| order.body.said(body, order.operation))
                .holds(text)
        };
        let query = Query {
            text: &text,
            session,
            limit: recall.settings.limit,
            tokens_max: exchange.worker.config.memory.tokens_max,
            now_ms: recall.at_ms,
            present: &present,
        };
        // Apart: with the store's future in it, an exchange without memory would weigh a half more.
        match Box::pin(ask(vault, &query, exchange)).await {
            Some(memories) => found = Recollection::of(&memories),
            None => recall.failed = true,
        }
    }
    turns.put(key, found, Instant::now())
}

/// Waits for a vault that is not in RAM as long as `recall_timeout` says, and then for the query's vector as long as
/// the deadline of embeddings says. One time for both would let an embedder that stalls take what words find as well.
async fn ask(
    vault: &VaultRef,
    query: &Query<'_>,
    exchange: &Exchange<'_>,
) -> Option<Vec<Recalled>> {
    let memory = &exchange.worker.memory;
    let timeout = exchange.worker.config.memory.recall_timeout;
    // The store has told why, or goes on loading; the request goes on without.
    let loaded = net::within(timeout, memory.load(vault)).await?.ok()?;
    Some(memory.recall_in(&loaded, query).await)
}

/// Start and end of a long text.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= 2 * QUERY_BYTES {
        return Cow::Borrowed(text);
    }
    let head = &text[..text.floor_char_boundary(QUERY_BYTES)];
    let tail = &text[text.ceil_char_boundary(text.len() - QUERY_BYTES)..];
    Cow::Owned([head, "\n", tail].concat())
}

impl Recall {
    /// Nothing yet.
    pub(super) fn new(order: &Order<'_>, exchange: &Exchange<'_>) -> Self {
        Self {
            settings: order.settings.clone(),
            vault: None,
            turn: None,
            recollection: None,
            at_ms: 0,
            begun: exchange.worker.memory.moment(),
            took: Duration::ZERO,
            failed: false,
        }
    }

    /// Recalls, and puts what was recalled into the order.
    pub(super) async fn recall(
        &mut self,
        order: &mut Order<'_>,
        request: &Request<'_>,
        tenant: &Tenant,
        exchange: &Exchange<'_>,
    ) {
        let wanted = self.settings.recalls() || self.settings.remembers();
        if !wanted || !order.operation.task.converses() {
            return;
        }
        let started = Instant::now();
        self.at_ms = clock::unix_millis();
        let vault = tenant.vault();
        if let Some(mut turn) = order.body.turn(request.body(), order.operation) {
            turn.text = block::own_words(turn.text);
            let found = find(&turn, &vault, order, request, tenant, exchange, self).await;
            if self.settings.recalls()
                && let Some(block) = &found.block
            {
                order.insertion = Some(turn.insertion(block));
            }
            self.turn = Some(turn);
            self.recollection = Some(found);
        }
        self.vault = Some(vault);
        self.took = started.elapsed();
    }

    /// The answer calls a tool, and will be known by that.
    pub(super) fn called(&self, id: &str) {
        if let Some(recollection) = &self.recollection {
            recollection.called(id);
        }
    }

    /// Whether the answer's text will be stored.
    pub(super) fn keeps_answer(&self) -> bool {
        self.vault.is_some() && self.settings.remembers() && self.settings.store_answer
    }

    /// What went into the request. A step of a loop that wants nothing recalled gets nothing of what another step got.
    fn given(&self) -> Option<&Recollection> {
        let wanted = self.settings.recalls();
        self.recollection.as_deref().filter(|_| wanted)
    }

    /// How many memories went into the request.
    fn count(&self) -> usize {
        self.given().map_or(0, |found| found.memories.len())
    }

    /// Their tokens.
    pub(super) fn tokens(&self) -> u32 {
        self.given().map_or(0, |found| found.tokens)
    }

    /// Appends the fields that tell of it.
    pub(super) fn fields(&self, out: &mut Vec<u8>, record: &Record) {
        // Not by `write!`, which takes ten times as long and is called for each answer.
        out.extend_from_slice(b"x-memory-mode: ");
        out.extend_from_slice(self.settings.mode.as_str().as_bytes());
        out.extend_from_slice(b"\r\nx-memory-chunks-retrieved: ");
        encode::decimal(out, self.count() as u64);
        out.extend_from_slice(b"\r\nx-memory-tokens-retrieved: ");
        encode::decimal(out, self.tokens().into());
        if let Some(session) = &self.settings.session {
            out.extend_from_slice(b"\r\nx-session-id: ");
            out.extend_from_slice(session.as_bytes());
        }
        out.extend_from_slice(b"\r\nx-mr-overhead-ms: ");
        encode::millis(out, record.overhead.unwrap_or_default());
        out.extend_from_slice(b"\r\nx-mr-memory-ms: ");
        encode::millis(out, self.took);
        if self.settings.debug {
            out.extend_from_slice(b"\r\nx-mr-debug: ");
            out.extend_from_slice(self.summary().as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    /// For whoever looks for why something was recalled or not: no text, one line, ASCII.
    fn summary(&self) -> String {
        let Settings {
            mode,
            store,
            store_answer,
            limit,
            session,
            ..
        } = &self.settings;
        let session = session.as_ref().map(|session| format!("\"{session}\""));
        let turn = self.turn.as_ref();
        let mut summary = format!(
            "{{\"mode\":\"{}\",\"session\":{},\"limit\":{limit},\"store\":{store},\"store_response\":{store_answer},\
             \"query_bytes\":{},\"loop\":{},\"failed\":{},\"memories\":[",
            mode.as_str(),
            session.as_deref().unwrap_or("null"),
            turn.map_or(0, |turn| turn.text.len()),
            turn.is_some_and(|turn| turn.loops),
            self.failed,
        );
        let memories = self.given().into_iter().flat_map(|found| &found.memories);
        for (n, (id, window, score)) in memories.take(SHOWN_MAX).enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let window = window.as_str();
            let _ = write!(
                summary,
                "{comma}{{\"id\":\"{id}\",\"window\":\"{window}\",\"score\":{score:.3}}}"
            );
        }
        summary += "]}";
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_asked_for_by_both_ends() {
        assert_eq!(shortened("short"), "short");
        let long = format!("a{}z", "é".repeat(10_000));
        let asked = shortened(&long);
        assert!(asked.starts_with('a') && asked.ends_with('z'));
        assert!(asked.len() <= 2 * QUERY_BYTES + 1, "{}", asked.len());
    }
}
