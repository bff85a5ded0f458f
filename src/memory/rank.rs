//! Orders a vault's memories by how well they answer a query.

use super::analyse::Analysed;
use super::index::Index;

/// A memory that matches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its place in the vault.
    pub seq: u64,
    /// When it was said, in milliseconds since 1970.
    pub at_ms: i64,
    /// Of its text, estimated.
    pub tokens: u32,
    /// Of the session that was asked for, not of the core vault.
    pub in_session: bool,
    /// Within one answer: the best has about 1.
    pub score: f32,
}

/// The best `limit` memories of the scope, best first: those of `session` and of no session alike. The plain order,
/// as it is measured; `select` chooses from it for a request.
pub fn rank(index: &Index, query: &Analysed, session: Option<&str>, limit: usize) -> Vec<Hit> {
    let found = index.matches(query, session).into_iter();
    let mut hits: Vec<Hit> = found
        .map(|(seq, at_ms, tokens, in_session, score)| Hit {
            seq,
            at_ms,
            tokens,
            in_session,
            score,
        })
        .collect();
    hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.seq.cmp(&a.seq)));
    hits.truncate(limit);
    hits
}
