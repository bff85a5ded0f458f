//! Chooses from a vault what goes into one request.

use super::analyse::analyse;
use super::index::Index;
use super::rank::rank;
use super::words::{Query, Window};

/// A memory chosen for a request, with its text as `text_of` gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen<T> {
    /// Its place in the vault.
    pub seq: u64,
    /// As it was read.
    pub text: T,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: i64,
    /// Of its text, estimated.
    pub tokens: u32,
    /// Of the session that was asked for, not of the core vault.
    pub in_session: bool,
    /// Within one answer: the best has about 1.
    pub score: f32,
    /// How long ago.
    pub window: Window,
}

/// What helps with the query, best first. `text_of` reads the text of a place, for those only that are about to be
/// chosen; what it has none for is passed over.
pub fn select<T: AsRef<str>>(
    index: &Index,
    query: &Query<'_>,
    mut text_of: impl FnMut(u64) -> Option<T>,
) -> Vec<Chosen<T>> {
    let mut chosen = Vec::new();
    let mut tokens_left = query.tokens_max;
    for hit in rank(index, &analyse(query.text), query.session, query.limit) {
        if hit.tokens as usize > tokens_left {
            continue;
        }
        if let Some(text) = text_of(hit.seq) {
            if (query.present)(text.as_ref()) {
                continue;
            }
            tokens_left -= hit.tokens as usize;
            chosen.push(Chosen {
                seq: hit.seq,
                text,
                at_ms: hit.at_ms,
                tokens: hit.tokens,
                in_session: hit.in_session,
                score: hit.score,
                window: Window::of(hit.at_ms, query.now_ms),
            });
        }
    }
    chosen
}
