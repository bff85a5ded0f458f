use super::*;

fn edited(original: &str, edit: impl FnOnce(&mut Splices) -> Result<(), Overlap>) -> String {
    let mut splices = Splices::new();
    edit(&mut splices).unwrap();
    let result = splices.apply(original.as_bytes());
    assert_eq!(result.len(), splices.len_after(original.len()));
    assert!(
        splices
            .segments(original.as_bytes())
            .all(|segment| !segment.is_empty())
    );
    String::from_utf8(result).unwrap()
}

#[test]
fn nothing_edited_is_one_segment_of_the_same_bytes() {
    let splices = Splices::new();
    assert!(splices.is_empty());
    let original = b"abc";
    let segments: Vec<_> = splices.segments(original).collect();
    assert_eq!(segments, [original]);
    assert!(std::ptr::eq(segments[0].as_ptr(), original.as_ptr()));
    assert_eq!(splices.segments(b"").count(), 0);
}

#[test]
fn edits_in_any_order_land_where_they_belong() {
    assert_eq!(
        edited("0123456789", |s| {
            s.remove(8..10)?;
            s.replace(2..4, *b"xyz")?;
            s.insert(0, *b"<")
        }),
        "<01xyz4567"
    );
    assert_eq!(edited("abc", |s| s.insert(3, *b"!")), "abc!");
    assert_eq!(
        edited("abc", |s| {
            s.insert(1, *b"1")?;
            s.insert(1, *b"2")?;
            s.insert(1, *b"3")
        }),
        "a123bc"
    );
    assert_eq!(
        edited("abc", |s| {
            s.remove(1..2)?;
            s.insert(1, *b"1")?;
            s.insert(1, *b"2")
        }),
        "a12c"
    );
    assert_eq!(
        edited("abc", |s| {
            s.insert(2, *b"1")?;
            s.remove(1..2)?;
            s.remove(0..1)
        }),
        "1c"
    );
    assert_eq!(
        edited("abc", |s| {
            s.remove(1..2)?;
            s.insert(2, *b"x")
        }),
        "axc"
    );
    assert_eq!(
        edited("abc", |s| {
            s.remove(0..3)?;
            s.remove(1..1)
        }),
        ""
    );
}

#[test]
fn overlaps_are_refused_and_change_nothing() {
    let mut splices = Splices::new();
    splices.remove(2..5).unwrap();
    splices.remove(7..9).unwrap();
    let before = splices.clone();
    for range in [2..5, 1..3, 4..6, 3..4, 0..20, 6..8, 8..10] {
        assert_eq!(splices.remove(range.clone()), Err(Overlap), "{range:?}");
    }
    assert_eq!(splices.insert(3, *b"x"), Err(Overlap));
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = 6..5;
    assert_eq!(splices.remove(backwards), Err(Overlap));
    assert_eq!(splices, before);
    splices.remove(5..7).unwrap();
    assert_eq!(splices.apply(b"0123456789"), b"019");
}

#[test]
fn a_plan_for_a_longer_body_does_not_panic() {
    let mut splices = Splices::new();
    splices.remove(1..2).unwrap();
    splices.replace(5..9, *b"x").unwrap();
    for len in 0..12 {
        let original = vec![b'.'; len];
        assert_eq!(splices.apply(&original).len(), splices.len_after(len));
    }
}

proptest::proptest! {
    #[test]
    fn equals_editing_one_by_one_from_the_end(
        original in proptest::collection::vec(0u8.., 0..60),
        edits in proptest::collection::vec((0usize..60, 0usize..8, proptest::collection::vec(0u8.., 0..4)), 0..12),
    ) {
        let mut splices = Splices::new();
        let mut naive: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
        for (start, len, bytes) in edits {
            let range = start.min(original.len())..(start + len).min(original.len());
            if range.is_empty() && bytes.is_empty() {
                continue;
            }
            let meets = naive.iter().any(|(other, _)| {
                range.start < other.end && other.start < range.end
                    || range.is_empty() && other.start < range.start && range.start < other.end
                    || other.is_empty() && range.start < other.start && other.start < range.end
            });
            let added = splices.replace(range.clone(), bytes.clone());
            proptest::prop_assert_eq!(added.is_err(), meets, "{:?} {:?}", range, naive);
            if !meets {
                naive.push((range, bytes));
            }
        }
        // Insertions stand before what starts at their place, in the order in which they came.
        naive.sort_by_key(|(range, _)| (range.start, !range.is_empty()));
        let mut expected = original.clone();
        for (range, bytes) in naive.into_iter().rev() {
            expected.splice(range, bytes);
        }
        proptest::prop_assert_eq!(splices.apply(&original), expected);
        proptest::prop_assert_eq!(splices.segments(&original).collect::<Vec<_>>().concat(), splices.apply(&original));
    }
}
