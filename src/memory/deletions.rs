//! What was deleted lately, so that nothing that was said before a deletion is stored behind it.
//!
//! A turn is stored once its answer is over, a long one by a thread of the store's own, and one of a process that is on
//! its way out by its successor: a deletion can come in between. Deletions are counted, and a turn notes the count as
//! it begins; what was deleted since then is not stored. Another process goes by the clock instead. A deletion is noted
//! before its memories are removed, and asked for under their vault's lock, so that none can slip through. Explicit
//! writes are not held to it: whoever writes and deletes at once gets either order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::seal::Tag;
use crate::clock;

/// Deletions that are remembered, of all vaults: some ten MiB, and more than a store makes durable in half a minute. The
/// vault whose last is the oldest makes place, and from then on whatever was said before that deletion, in any vault, is
/// dropped: rather too little than what somebody deleted. Only a turn that runs for that long can meet with it.
const MARKS_MAX: usize = 1 << 16;
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

/// What becomes of something that is about to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Stored,
    /// It was deleted after it was said.
    Deleted,
    /// It may have been: what was deleted since is no longer all known.
    Dropped,
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
    /// The last of those that made place.
    forgotten: Mark,
}

impl OfVault {
    fn last(&self) -> Mark {
        let some = self.some.back().map(|(_, mark)| *mark);
        some.filter(|mark| mark.number > self.all.number)
            .unwrap_or(self.all)
    }

    fn marks(&self) -> usize {
        1 + self.some.len()
    }
}

#[derive(Default)]
struct Noted {
    vaults: HashMap<Tag, OfVault>,
    /// The vaults by the numbers of their last.
    order: BTreeMap<u64, Tag>,
    marks: usize,
    /// What was said before this is not stored, in whichever vault.
    everywhere: Mark,
}

impl Noted {
    fn take(&mut self, tag: &Tag) -> Option<OfVault> {
        let of_vault = self.vaults.remove(tag)?;
        self.order.remove(&of_vault.last().number);
        self.marks -= of_vault.marks();
        Some(of_vault)
    }
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
        let mut of_vault = noted.take(tag).unwrap_or_default();
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
            of_vault.forgotten = oldest;
        }
        noted.marks += of_vault.marks();
        noted.order.insert(number, *tag);
        noted.vaults.insert(*tag, of_vault);
        while noted.marks > MARKS_MAX
            && let Some(oldest) = noted.order.first_key_value().map(|(_, tag)| *tag)
            && let Some(gone) = noted.take(&oldest)
        {
            noted.everywhere = gone.last();
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

    /// What becomes of a text of a session that was said then.
    pub(super) fn fate(&self, tag: &Tag, session: Option<u64>, text: u64, said: Said) -> Fate {
        if !self.any_since(said) {
            return Fate::Stored;
        }
        let noted = self.lock();
        let of_it =
            |what: What| what == What::Text(text) || session.map(What::Session) == Some(what);
        let of_vault = noted.vaults.get(tag);
        let is_deleted = |of_vault: &OfVault| {
            let mut some = of_vault.some.iter();
            of_vault.all.is_behind(said)
                || some.any(|(what, mark)| of_it(*what) && mark.is_behind(said))
        };
        let is_forgotten = |of_vault: &OfVault| of_vault.forgotten.is_behind(said);
        if of_vault.is_some_and(is_deleted) {
            Fate::Deleted
        } else if noted.everywhere.is_behind(said) || of_vault.is_some_and(is_forgotten) {
            Fate::Dropped
        } else {
            Fate::Stored
        }
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
        assert_eq!(
            deletions.fate(&MINE, None, 7, Said::Since(before)),
            Fate::Stored
        );
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
            let fate = deletions.fate(&tag, session, text, said);
            let expected = if gone { Fate::Deleted } else { Fate::Stored };
            assert_eq!(fate, expected, "{session:?} {text} {said:?}");
        }
        deletions.note(&MINE, What::All, 3000);
        for (tag, since, fate) in [
            (MINE, between, Fate::Deleted),
            (other, between, Fate::Stored),
            (MINE, deletions.moment(), Fate::Stored),
        ] {
            assert_eq!(deletions.fate(&tag, None, 1, Said::Since(since)), fate);
        }
    }

    #[test]
    fn what_there_is_no_room_for_drops_what_was_said_before_it() {
        let deletions = Deletions::default();
        let before = deletions.moment();
        deletions.note(&MINE, What::Text(0), 0);
        let behind_first = deletions.moment();
        for text in 1..=SOME_MAX as u64 {
            deletions.note(&MINE, What::Text(text), 0);
        }
        let fate = |tag: &Tag, text, since| deletions.fate(tag, None, text, Said::Since(since));
        // The first has made place: all that was said before it is gone, and only that.
        assert_eq!(fate(&MINE, 999, before), Fate::Dropped);
        assert_eq!(fate(&MINE, 999, behind_first), Fate::Stored);
        assert_eq!(fate(&MINE, 1, behind_first), Fate::Deleted);
        let tag = |number: usize| {
            let mut tag = [3; 16];
            tag[..8].copy_from_slice(&number.to_le_bytes());
            tag
        };
        // Others' deletions drop nothing for as long as there is room for all of them.
        let room = MARKS_MAX - SOME_MAX - 1;
        for number in 0..room {
            deletions.note(&tag(number), What::All, 0);
        }
        assert_eq!(fate(&tag(room), 1, before), Fate::Stored);
        let behind_some = deletions.moment();
        deletions.note(&tag(0), What::All, 0);
        assert_eq!(fate(&tag(room), 1, before), Fate::Stored);
        deletions.note(&tag(room), What::Text(2), 0);
        assert_eq!(fate(&tag(room), 1, behind_first), Fate::Dropped);
        assert_eq!(fate(&tag(room), 1, behind_some), Fate::Stored);
        assert_eq!(fate(&tag(0), 1, behind_some), Fate::Deleted);
        let noted = deletions.lock();
        let marks: usize = noted.vaults.values().map(OfVault::marks).sum();
        assert!(marks <= MARKS_MAX, "{marks}");
        assert_eq!(
            (noted.marks, noted.order.len()),
            (marks, noted.vaults.len())
        );
    }
}
