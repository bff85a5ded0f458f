//! What is asked of a vault: recall, looking through it, its export. Nothing here changes it.

use super::{Kept, Vault};
use crate::memory::analyse::analyse;
use crate::memory::rank::{Hit, rank};
use crate::memory::select::select_with_vector;
use crate::memory::words::{Browse, Exported, MemoryId, Query, Recalled, VaultStats, Window};

impl Vault {
    /// What helps with a query, best first.
    pub(in crate::memory) fn recall(
        &self,
        query: &Query<'_>,
        vector: Option<&[f32]>,
    ) -> Vec<Recalled> {
        let chosen = select_with_vector(&self.index, query, vector, |seq| {
            self.get(seq).map(|kept| &*kept.text)
        });
        let recalled = chosen.into_iter().filter_map(|chosen| {
            let kept = self.get(chosen.seq)?;
            Some(kept.recalled(chosen.score, query.now_ms))
        });
        recalled.collect()
    }

    /// What a person looks for: by words best first, else from the newest on.
    pub(in crate::memory) fn browse(&self, browse: &Browse<'_>) -> Vec<Recalled> {
        let session = browse.session;
        let wanted = |kept: &&Kept| {
            (session.is_none() || kept.session.as_deref() == session)
                && browse.before.is_none_or(|before| kept.seq < before.0)
        };
        if browse.text.trim().is_empty() {
            let found = self.kept.iter().rev().filter(wanted).take(browse.limit);
            return found
                .map(|kept| kept.recalled(0.0, browse.now_ms))
                .collect();
        }
        // Each session is a scope of its own to the ranking: all of them are asked, and the best of all kept.
        let analysed = analyse(browse.text);
        let scopes = match session {
            Some(session) => vec![Some(session)],
            None => std::iter::once(None)
                .chain(self.sessions.keys().map(|session| Some(&**session)))
                .collect(),
        };
        let mut hits: Vec<Hit> = scopes
            .into_iter()
            .flat_map(|scope| {
                let hits = rank(&self.index, &analysed, scope, self.kept.len());
                hits.into_iter()
                    .filter(move |hit| hit.in_session == scope.is_some())
            })
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score));
        let found = hits.into_iter().filter_map(|hit| {
            let kept = self.get(hit.seq).filter(wanted)?;
            Some(kept.recalled(hit.score, browse.now_ms))
        });
        found.take(browse.limit).collect()
    }

    /// Memories behind a place, oldest first.
    pub(in crate::memory) fn export(&self, after: Option<MemoryId>, max: usize) -> Vec<Exported> {
        let start = after.map_or(0, |id| self.kept.partition_point(|kept| kept.seq <= id.0));
        let kept = self.kept[start..].iter().take(max);
        kept.map(Kept::exported).collect()
    }

    pub(in crate::memory) fn stats(&self) -> VaultStats {
        let times = || self.kept.iter().map(|kept| kept.at_ms);
        VaultStats {
            memories: self.kept.len() as u64,
            total_tokens: self.total_tokens,
            oldest_ms: times().min(),
            newest_ms: times().max(),
            sessions: self.sessions.len() as u64,
            bytes: self.text_bytes as u64,
        }
    }
}

impl Kept {
    fn recalled(&self, score: f32, now_ms: i64) -> Recalled {
        Recalled {
            id: MemoryId(self.seq),
            text: self.text.to_string(),
            role: self.role.clone(),
            at_ms: self.at_ms,
            session: self.session.as_deref().map(str::to_owned),
            score,
            window: Window::of(self.at_ms, now_ms),
            tokens: self.tokens,
        }
    }

    fn exported(&self) -> Exported {
        Exported {
            id: MemoryId(self.seq),
            text: self.text.to_string(),
            role: self.role.clone(),
            at_ms: self.at_ms,
            session: self.session.as_deref().map(str::to_owned),
        }
    }
}
