//! What was deleted lately, so that nothing that was said before a deletion is stored behind it.
//!
//! A turn is stored once its answer is over, a long one by a thread of the store's own, and one of a process that is on
//! its way out by its successor: a deletion can come in between. Deletions are counted, and a turn notes the count as
//! it begins; what was deleted since then is not stored. Another process goes by the clock instead. A deletion is noted
//! before its memories are removed, and asked for under their vault's lock, so that none can slip through. Explicit
//! writes are not held to it: whoever writes and deletes at once gets either order.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::seal::Tag;
use crate::clock;

/// Vaults with a deletion that is remembered. The one whose last is the oldest makes place, and from then on whatever
/// was said before that deletion, in any vault, is not stored: rather too little than what somebody deleted.
const VAULTS_MAX: usize = 4096;
/// Sessions and single texts of one vault. The oldest makes place, and counts as a deletion of all.
const SOME_MAX: usize = 64;

/// When a turn began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// How many deletions there had been.
    count: u64,
    pub(super) at_ms: i64,
}

/// When something was said that is about to be stored.
#[derive(Clone, Copy, Debug)]
pub(super) enum Said {
    /// In a turn that began then.
    Since(Moment),
    /// By the clock, where another process noted it.
    At(i64),
}

/// What was deleted: sessions and texts by the hashes that the store knows them by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    All,
    Session(u64),
    Text(u64),
}

/// A deletion.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    number: u64,
    at_ms: i64,
}

impl Mark {
    fn is_behind(self, said: Said) -> bool {
        match said {
            Said::Since(moment) => self.number > moment.count,
            Said::At(at_ms) => self.number > 0 && self.at_ms >= at_ms,
        }
    }
}

#[derive(Default)]
struct OfVault {
    /// Of all that it held.
    all: Mark,
    /// Of less, in their order.
    some: VecDeque<(What, Mark)>,
}

impl OfVault {
    fn last(&self) -> Mark {
        let some = self.some.back().map(|(_, mark)| *mark);
        some.filter(|mark| mark.number > self.all.number)
            .unwrap_or(self.all)
    }
}

#[derive(Default)]
struct Noted {
    vaults: HashMap<Tag, OfVault>,
    /// What was said before this is not stored, in whichever vault.
    everywhere: Mark,
}

/// The deletions.
#[derive(Default)]
pub(super) struct Deletions {
    count: AtomicU64,
    noted: Mutex<Noted>,
}

impl Deletions {
    /// Now, for a turn that begins.
    pub(super) fn moment(&self) -> Moment {
        Moment {
            count: self.count.load(Ordering::Acquire),
            at_ms: clock::unix_millis(),
        }
    }

    /// Notes a deletion, before its memories are removed.
    pub(super) fn note(&self, tag: &Tag, what: What, at_ms: i64) {
        let mut noted = self.lock();
        let number = self.count.load(Ordering::Relaxed) + 1;
        self.count.store(number, Ordering::Release);
        let mark = Mark { number, at_ms };
        let of_vault = noted.vaults.entry(*tag).or_default();
        match what {
            What::All => {
                of_vault.all = mark;
                of_vault.some.clear();
            }
            some => of_vault.some.push_back((some, mark)),
        }
        if of_vault.some.len() > SOME_MAX
            && let Some((_, oldest)) = of_vault.some.pop_front()
        {
            of_vault.all = oldest;
        }
        if noted.vaults.len() > VAULTS_MAX {
            let last = noted.vaults.iter().map(|(tag, of)| (of.last(), *tag));
            if let Some((mark, tag)) = last.min_by_key(|(mark, _)| mark.number) {
                noted.vaults.remove(&tag);
                noted.everywhere = mark;
            }
        }
    }

    /// Whether something may have been deleted since; mostly nothing was.
    pub(super) fn any_since(&self, said: Said) -> bool {
        let before = match said {
            Said::Since(moment) => moment.count,
            Said::At(_) => 0,
        };
        self.count.load(Ordering::Acquire) != before
    }

    /// Whether a text of a session was deleted after it was said.
    pub(super) fn includes(&self, tag: &Tag, session: Option<u64>, text: u64, said: Said) -> bool {
        if !self.any_since(said) {
            return false;
        }
        let noted = self.lock();
        let of_vault = noted.vaults.get(tag);
        let of_it =
            |what: What| what == What::Text(text) || session.map(What::Session) == Some(what);
        noted.everywhere.is_behind(said)
            || of_vault.is_some_and(|of_vault| {
                let mut some = of_vault.some.iter();
                of_vault.all.is_behind(said)
                    || some.any(|(what, mark)| of_it(*what) && mark.is_behind(said))
            })
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Tag = [1; 16];

    #[test]
    fn only_what_was_said_before_and_deleted_is_gone() {
        let deletions = Deletions::default();
        let other = [2; 16];
        let before = deletions.moment();
        assert!(!deletions.includes(&MINE, None, 7, Said::Since(before)));
        deletions.note(&MINE, What::Session(5), 1000);
        deletions.note(&MINE, What::Text(7), 2000);
        let between = deletions.moment();
        for (tag, session, text, said, gone) in [
            (MINE, Some(5), 1, Said::Since(before), true),
            (MINE, Some(5), 1, Said::Since(between), false),
            (MINE, Some(5), 1, Said::At(1000), true),
            (MINE, Some(5), 1, Said::At(1001), false),
            (MINE, Some(6), 1, Said::Since(before), false),
            (MINE, None, 1, Said::Since(before), false),
            (MINE, Some(6), 7, Said::Since(before), true),
            (MINE, None, 7, Said::At(2000), true),
            (other, Some(5), 7, Said::Since(before), false),
        ] {
            let found = deletions.includes(&tag, session, text, said);
            assert_eq!(found, gone, "{session:?} {text} {said:?}");
        }
        deletions.note(&MINE, What::All, 3000);
        assert!(deletions.includes(&MINE, None, 1, Said::Since(between)));
        assert!(!deletions.includes(&other, None, 1, Said::Since(between)));
        assert!(!deletions.includes(&MINE, None, 1, Said::Since(deletions.moment())));
    }

    #[test]
    fn what_there_is_no_room_for_counts_as_more() {
        let deletions = Deletions::default();
        let before = deletions.moment();
        deletions.note(&MINE, What::Text(0), 0);
        let behind_first = deletions.moment();
        for text in 1..=SOME_MAX as u64 {
            deletions.note(&MINE, What::Text(text), 0);
        }
        // The first has made place: all that was said before it is gone, and only that.
        assert!(deletions.includes(&MINE, None, 999, Said::Since(before)));
        assert!(!deletions.includes(&MINE, None, 999, Said::Since(behind_first)));
        assert!(deletions.includes(&MINE, None, 1, Said::Since(behind_first)));
        let tag = |number: usize| {
            let mut tag = [3; 16];
            tag[..8].copy_from_slice(&number.to_le_bytes());
            tag
        };
        for number in 0..VAULTS_MAX {
            deletions.note(&tag(number), What::All, 0);
        }
        assert!(deletions.includes(&tag(VAULTS_MAX), None, 1, Said::Since(behind_first)));
        assert!(!deletions.includes(&tag(VAULTS_MAX), None, 1, Said::Since(deletions.moment())));
        assert!(deletions.lock().vaults.len() <= VAULTS_MAX);
    }
}
