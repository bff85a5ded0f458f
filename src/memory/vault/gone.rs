//! What goes out of a vault: all of it, or some by their numbers, a few under one lock.

use ahash::RandomState;

use super::{Kept, Vault, hash};
use crate::memory::change::Op;
use crate::memory::seal::Sealer;

/// Which of many go.
pub(in crate::memory) enum Which<'a> {
    /// Those of a session.
    Session(&'a str),
    /// Those from before a time.
    OlderThan(i64),
}

impl Vault {
    /// Takes all memories out; what comes next is numbered on. The old vault is for dropping without the lock.
    pub(in crate::memory) fn clear(&mut self) -> Self {
        let empty = Self {
            next_seq: self.next_seq,
            vectors_from: self.next_seq,
            removals: self.removals + 1,
            ..Self::default()
        };
        std::mem::replace(self, empty)
    }

    /// The numbers of some that are to go, of a session or older than a time: at most so many, and none behind so many
    /// bytes.
    pub(in crate::memory) fn some_of(
        &self,
        which: &Which<'_>,
        at_most: usize,
        bytes: usize,
    ) -> Vec<u64> {
        let mut left = bytes;
        let fits = |kept: &&Kept| {
            let fits = left > 0;
            left = left.saturating_sub(kept.text.len());
            fits
        };
        let goes = |kept: &&Kept| match which {
            Which::Session(session) => kept.session.as_deref() == Some(*session),
            Which::OlderThan(at_ms) => kept.at_ms < *at_ms,
        };
        let found = self.kept.iter().filter(goes).take(at_most);
        let found = found.take_while(fits);
        found.map(|kept| kept.seq).collect()
    }

    /// Takes memories out of answers, by their numbers in their order; the change is for the log.
    pub(in crate::memory) fn remove(
        &mut self,
        sealer: &Sealer,
        seqs: Vec<u64>,
        hasher: &RandomState,
    ) -> Option<Op> {
        // Both are in the order of their numbers.
        let mut next = seqs.iter().copied().peekable();
        let gone: Vec<Kept> = self
            .kept
            .extract_if(.., |kept| next.next_if_eq(&kept.seq).is_some())
            .collect();
        for kept in &gone {
            self.index.remove(kept.seq);
            self.first_said.remove(&kept.seq);
            let hash = hash(hasher, kept.session.as_deref(), &kept.text);
            if self.by_text.get(&hash) == Some(&kept.seq) {
                self.by_text.remove(&hash);
            }
            self.text_bytes -= kept.text.len();
            self.total_tokens -= u64::from(kept.tokens);
            if let Some(session) = &kept.session
                && let Some(count) = self.sessions.get_mut(session)
            {
                *count -= 1;
                if *count == 0 {
                    self.sessions.remove(session);
                }
            }
        }
        if gone.is_empty() {
            return None;
        }
        self.removals += 1;
        let tag = sealer.tag;
        Some(Op::Remove {
            tag,
            seqs,
            before: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::row::Row;
    use crate::memory::words::{NewMemory, Role};

    #[test]
    fn a_few_go_at_once_and_of_long_ones_fewer() {
        let mut vault = Vault::default();
        for seq in 0..9 {
            let memory = NewMemory {
                text: format!("memory {seq}"),
                role: Role::User,
                at_ms: seq as i64,
                session: None,
            };
            vault.restore(seq, Row::new(memory), &RandomState::new());
        }
        for (older_than, at_most, bytes, gone) in [
            (9, 64, 1000, 9),
            (2, 64, 1000, 2),
            (9, 4, 1000, 4),
            // The one that reaches so many is the last.
            (9, 64, 17, 3),
            (9, 64, 16, 2),
            (9, 64, 1, 1),
        ] {
            let some = vault.some_of(&Which::OlderThan(older_than), at_most, bytes);
            assert_eq!(
                some,
                (0..gone).collect::<Vec<u64>>(),
                "{older_than} {at_most} {bytes}"
            );
        }
    }
}
