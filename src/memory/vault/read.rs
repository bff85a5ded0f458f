//! What is asked of a vault: recall, looking through it, its export. Nothing here changes it.

use memchr::memmem;

use super::{Kept, Vault};
use crate::memory::analyse::analyse;
use crate::memory::rank::{Scope, ranked};
use crate::memory::select::select_with_vector;
use crate::memory::words::{
    Browse, Cursor, Exported, MemoryId, PAGE_BYTES, Query, Recalled, VaultStats, Window,
};

impl Vault {
    /// What helps with a query, best first, and is not from before `oldest_ms`.
    pub(in crate::memory) fn recall(
        &self,
        query: &Query<'_>,
        vector: Option<&[f32]>,
        oldest_ms: i64,
    ) -> Vec<Recalled> {
        let chosen = select_with_vector(&self.index, query, vector, |seq| {
            let kept = self.get(seq).filter(|kept| kept.at_ms >= oldest_ms);
            kept.map(|kept| &*kept.text)
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
                && browse.before.is_none_or(|before| kept.cursor() < before)
        };
        let mut bytes = 0;
        let fits = |recalled: &Recalled| {
            let fits = bytes < PAGE_BYTES;
            bytes += recalled.text.len();
            fits
        };
        let asked = analyse(browse.text);
        if asked.terms.is_empty() {
            // All that there is, or what holds just these signs: a picture is no word.
            let signs = memmem::Finder::new(browse.text.trim());
            let holds = |kept: &&Kept| signs.find(kept.text.as_bytes()).is_some();
            let all = self.kept.iter().filter(wanted).filter(holds);
            let all = all.map(Kept::cursor);
            let newest = newest(all.collect(), browse.limit).into_iter();
            let found = newest.filter_map(|cursor| self.get(cursor.id.0));
            let found = found.map(|kept| kept.recalled(0.0, browse.now_ms));
            return found.take_while(fits).collect();
        }
        let (scope, limit) = match (session, browse.before) {
            (None, None) => (Scope::Everywhere, browse.limit),
            (None, Some(_)) => (Scope::Everywhere, self.kept.len()),
            (session, _) => (Scope::Of(session), self.kept.len()),
        };
        let hits = ranked(&self.index, &asked, None, scope, limit);
        let found = hits.into_iter().filter_map(|hit| {
            let kept = self.get(hit.seq).filter(wanted)?;
            Some(kept.recalled(hit.score, browse.now_ms))
        });
        found.take(browse.limit).take_while(fits).collect()
    }

    /// All that there is, oldest first.
    pub(in crate::memory) fn in_order(&self) -> Vec<MemoryId> {
        let mut all: Vec<Cursor> = self.kept.iter().map(Kept::cursor).collect();
        // Mostly it is the order in which they came, which takes this no time.
        all.sort();
        all.into_iter().map(|cursor| cursor.id).collect()
    }

    /// The next of these, as many as make a page; none once there are no more.
    pub(in crate::memory) fn page(
        &self,
        ids: &mut impl Iterator<Item = MemoryId>,
        max: usize,
    ) -> Vec<Exported> {
        let mut page = Vec::new();
        let mut bytes = 0;
        while bytes < PAGE_BYTES
            && page.len() < max
            // What was removed meanwhile is passed over.
            && let Some(kept) = ids.find_map(|id| self.get(id.0))
        {
            bytes += kept.text.len();
            page.push(kept.exported());
        }
        page
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

/// The newest of them, newest first.
fn newest(mut all: Vec<Cursor>, limit: usize) -> Vec<Cursor> {
    let order = |a: &Cursor, b: &Cursor| b.cmp(a);
    if all.len() > limit {
        all.select_nth_unstable_by(limit, order);
        all.truncate(limit);
    }
    all.sort_unstable_by(order);
    all
}

impl Kept {
    fn cursor(&self) -> Cursor {
        Cursor {
            at_ms: self.at_ms,
            id: MemoryId(self.seq),
        }
    }

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
