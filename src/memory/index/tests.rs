//! What the index keeps, and gives back.

use super::*;
use crate::memory::analyse::analyse;
use crate::memory::rank::{rank, rank_with_vector};

const MINUTE: i64 = 60_000;

fn add(index: &mut Index, seq: u64, minute: i64, session: Option<&str>, text: &str) -> bool {
    index.add(&Entry {
        seq,
        at_ms: minute * MINUTE,
        session,
        tokens: crate::memory::analyse::tokens(text),
        analysed: &analyse(text),
    })
}

fn places(index: &Index, query: &str, session: Option<&str>) -> Vec<u64> {
    rank(index, &analyse(query), session, 10)
        .iter()
        .map(|hit| hit.seq)
        .collect()
}

#[test]
fn places_go_up_only() {
    let mut index = Index::default();
    for (seq, taken) in [
        (5, true),
        (5, false),
        (4, false),
        (6, true),
        (1 << 60, true),
    ] {
        assert_eq!(add(&mut index, seq, 0, None, "apple pie"), taken, "{seq}");
    }
    assert_eq!(index.len(), 3);
    assert!(!index.remove(4));
    assert!(index.remove(5));
    assert!(!index.remove(5));
    assert!(index.remove(1 << 60));
    // Never a place a second time.
    assert!(!add(&mut index, 1 << 60, 0, None, "again"));
    assert_eq!((index.len(), index.is_empty()), (1, false));
    assert!(index.bytes() > 0);
}

#[test]
fn a_session_is_seen_from_within_only() {
    let mut index = Index::default();
    add(&mut index, 1, 0, None, "the parrot sings");
    add(&mut index, 2, 0, Some("a"), "the parrot whistles");
    add(&mut index, 3, 0, Some("b"), "the parrot is silent");
    assert_eq!(places(&index, "parrot", None), [1]);
    let mut both = places(&index, "parrot", Some("a"));
    both.sort_unstable();
    assert_eq!(both, [1, 2]);
    assert_eq!(places(&index, "parrot", Some("c")), [1]);
    assert!(index.remove(2));
    assert_eq!(places(&index, "parrot", Some("a")), [1]);
}

#[test]
fn an_answer_is_found_by_its_question() {
    let mut index = Index::default();
    add(&mut index, 1, 0, None, "How old is your parrot now?");
    add(&mut index, 2, 1, None, "Seven.");
    // Half an hour and a minute later, and nothing to do with it.
    add(&mut index, 3, 32, None, "Eight.");
    assert_eq!(places(&index, "parrot", None), [1, 2]);
    // Between the two of one conversation stands that of another.
    let mut index = Index::default();
    add(&mut index, 1, 0, Some("a"), "How old is your parrot now?");
    add(&mut index, 2, 0, Some("b"), "Where is the station?");
    add(&mut index, 3, 0, Some("a"), "Seven.");
    assert_eq!(places(&index, "parrot", Some("a")), [1, 3]);
}

#[test]
fn a_long_upload_is_not_one_session() {
    let mut index = Index::default();
    for seq in 0..2000 {
        add(&mut index, seq, 0, None, &format!("line {seq} of many"));
    }
    assert_eq!(index.session_count(), 8);
    let of = |index: &Index| {
        rank(index, &analyse("line 1234"), None, 5)
            .first()
            .map(|hit| hit.seq)
    };
    assert_eq!(of(&index), Some(1234));
    for seq in (1..2000).step_by(2) {
        assert!(index.remove(seq));
    }
    index.shrink();
    assert_eq!((index.len(), of(&index)), (1000, Some(1234)));
}

#[test]
fn vectors_find_what_no_word_tells() {
    let mut index = Index::default();
    for (seq, text) in [
        (1, "my cat is grey"),
        (2, "the budget is due"),
        (3, "call the vet"),
    ] {
        // Each a session.
        add(&mut index, seq, seq as i64 * 100, None, text);
    }
    assert!(index.set_vector(1, &[1.0, 0.1]));
    assert!(index.set_vector(2, &[0.0, 1.0]));
    assert!(index.set_vector(3, &[0.9, 0.2]));
    assert!(!index.set_vector(4, &[0.9, 0.2]));
    let found = |index: &Index, vector: &[f32]| -> Vec<u64> {
        let hits = rank_with_vector(index, &analyse("animal"), vector, None, 2);
        hits.iter().map(|hit| hit.seq).collect()
    };
    assert_eq!(found(&index, &[1.0, 0.0]), [1, 3]);
    // A vector of another model is as none.
    assert_eq!(found(&index, &[1.0, 0.0, 0.0]), Vec::<u64>::new());
    index.remove(1);
    assert_eq!(found(&index, &[1.0, 0.0])[0], 3);
    assert!(index.has_vectors() && index.is_settled(3) && !index.is_settled(1));
}

#[test]
fn terms_of_a_row_come_back() {
    let mut bytes = Vec::new();
    let rows = [
        (0, 1),
        (1, 2),
        (127, 1),
        (128, 300),
        (1 << 27, 1),
        (u32::MAX, u16::MAX),
    ];
    for (number, count) in rows {
        postings::write(&mut bytes, number, count);
    }
    assert_eq!(postings::read(&bytes).collect::<Vec<_>>(), rows);
}
