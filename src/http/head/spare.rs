//! A core's spare lists of fields: the one that was used last is the next head's, which the processor still has at hand.

use std::cell::RefCell;

use super::Field;

/// As many fields as nearly all heads have; a longer list is not kept.
const FIELDS: usize = 32;
/// As many as a busy core has exchanges in flight, two heads each: 160 KiB.
const SPARE_MAX: usize = 256;

thread_local! {
    static SPARE: RefCell<Vec<Vec<Field>>> = const { RefCell::new(Vec::new()) };
}

/// An empty list with room for `count` fields.
pub(super) fn list(count: usize) -> Vec<Field> {
    let spare = match count {
        0..=FIELDS => SPARE
            .try_with(|spare| spare.borrow_mut().pop())
            .ok()
            .flatten(),
        _ => None,
    };
    // With the room of all others, so that none grows beyond what is kept.
    spare.unwrap_or_else(|| Vec::with_capacity(count.max(FIELDS)))
}

/// Takes a list that nobody needs any more.
pub(super) fn give_back(mut fields: Vec<Field>) {
    fields.clear();
    // At a thread's end there are none any more.
    let _ = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if fields.capacity() <= FIELDS && spare.len() < SPARE_MAX {
            spare.push(fields);
        }
    });
}
