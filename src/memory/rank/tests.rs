//! The order against a plain writing-out of its formula, over random vaults.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::memory::index::Entry;

/// A memory in a test: its terms, its time in minutes, its session.
#[derive(Clone, Debug)]
struct Said {
    terms: Vec<u64>,
    minute: i64,
    session: Option<&'static str>,
}

fn analysed(terms: &[u64]) -> Analysed {
    let mut counts = BTreeMap::new();
    for term in terms {
        *counts.entry(*term).or_insert(0) += 1;
    }
    Analysed {
        terms: counts.into_iter().collect(),
        len: terms.len() as u32,
    }
}

fn index_of(said: &[Said]) -> Index {
    let mut index = Index::default();
    for (at, said) in said.iter().enumerate() {
        assert!(index.add(&Entry {
            seq: at as u64 * 3 + 1,
            at_ms: said.minute * 60_000,
            session: said.session,
            tokens: 10,
            analysed: &analysed(&said.terms),
        }));
    }
    index
}

/// The formula as it is told, over everything.
fn expected(said: &[Said], query: &[u64], session: Option<&str>) -> Vec<(u64, f32)> {
    let in_scope = |s: &Said| s.session.is_none() || s.session == session;
    // Which session each is of, and its neighbours in it.
    let mut of = Vec::new();
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut open: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for (at, s) in said.iter().enumerate() {
        let current = open.get(&s.session).copied();
        let goes_on = current.filter(|current| {
            let last = *rows[*current].last().unwrap();
            s.session.is_some() || (said[last].minute - s.minute).abs() <= 30
        });
        let current = goes_on.unwrap_or_else(|| {
            rows.push(Vec::new());
            rows.len() - 1
        });
        open.insert(s.session, current);
        rows[current].push(at);
        of.push(current);
    }
    let words = said.iter().map(|s| s.terms.len()).sum::<usize>().max(1) as f32;
    let count =
        |terms: &[u64], term: u64| terms.iter().filter(|t| **t == term).count().min(15) as f32;
    let session_terms: Vec<Vec<u64>> = rows
        .iter()
        .map(|rows| rows.iter().flat_map(|at| said[*at].terms.clone()).collect())
        .collect();
    let bm25 = |count: f32, length: f32, average: f32, idf: f32| {
        idf * count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length / average))
    };
    let weigh = |terms: &[(u64, f32)]| -> Vec<(f32, f32, f32)> {
        let df = |term: u64| said.iter().filter(|s| s.terms.contains(&term)).count() as f32;
        let l: Vec<f32> = said
            .iter()
            .map(|s| {
                let each = terms
                    .iter()
                    .filter(|(term, _)| s.terms.contains(term) && in_scope(s));
                let average = words / said.len() as f32;
                each.map(|(term, weight)| {
                    weight
                        * bm25(
                            count(&s.terms, *term),
                            s.terms.len() as f32,
                            average,
                            idf(said.len() as f32, df(*term)),
                        )
                })
                .sum()
            })
            .collect();
        let visible = |session: &usize| in_scope(&said[rows[*session][0]]);
        let s: Vec<f32> = (0..rows.len())
            .map(|session| {
                let terms = terms
                    .iter()
                    .filter(|(term, _)| session_terms[session].contains(term));
                let terms = terms.filter(|_| visible(&session));
                let average = words / rows.len() as f32;
                terms
                    .map(|(term, weight)| {
                        let holds = (0..rows.len())
                            .filter(|s| session_terms[*s].contains(term) && visible(s));
                        let idf = idf(rows.len() as f32, holds.count() as f32);
                        let counts = rows[session]
                            .iter()
                            .map(|at| count(&said[*at].terms, *term))
                            .sum();
                        weight * bm25(counts, session_terms[session].len() as f32, average, idf)
                    })
                    .sum()
            })
            .collect();
        let n: Vec<f32> = (0..said.len())
            .map(|at| {
                let session = &rows[of[at]];
                let place = session.iter().position(|row| *row == at).unwrap() as i64;
                let l = |offset: i64| {
                    let row = usize::try_from(place + offset)
                        .ok()
                        .and_then(|place| session.get(place));
                    row.map_or(0.0, |row| l[*row])
                };
                l(0) + 0.5 * l(-1) + 0.35 * l(1) + 0.2 * (l(-2) + l(2))
            })
            .collect();
        (0..said.len())
            .map(|at| (n[at], s[of[at]], l[at]))
            .collect()
    };
    let score = |terms: &[(u64, f32)]| -> Vec<(usize, f32)> {
        let weighed = weigh(terms);
        let most = |of: fn(&(f32, f32, f32)) -> f32| weighed.iter().map(of).fold(0.0, f32::max);
        let (most_n, most_s) = (most(|w| w.0), most(|w| w.1));
        let mut found: Vec<(usize, f32)> = weighed
            .iter()
            .enumerate()
            .filter(|(_, w)| w.0 > 0.0 || w.1 > 0.0)
            .map(|(at, w)| (at, w.0 / most_n + 0.3 * w.1 / most_s))
            .collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
        found
    };
    let known: BTreeSet<u64> = said.iter().flat_map(|s| s.terms.clone()).collect();
    let mut terms: Vec<(u64, f32)> = analysed(query)
        .terms
        .into_iter()
        .filter(|(term, _)| known.contains(term))
        .map(|(term, count)| (term, 1.0 + f32::from(count).ln()))
        .collect();
    let mut weights: BTreeMap<u64, f32> = BTreeMap::new();
    for (at, _) in score(&terms).into_iter().take(5) {
        for (term, count) in analysed(&said[at].terms).terms {
            let df = said.iter().filter(|s| s.terms.contains(&term)).count() as f32;
            if !terms.iter().any(|t| t.0 == term) {
                *weights.entry(term).or_default() += f32::from(count) * idf(said.len() as f32, df);
            }
        }
    }
    let mut weights: Vec<(u64, f32)> = weights.into_iter().collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1));
    if weights.len() > 10 && (weights[9].1 - weights[10].1).abs() < 1e-4 {
        // Which of two equal terms joins is not told.
        return Vec::new();
    }
    terms.extend(weights.into_iter().take(10).map(|(term, _)| (term, 0.1)));
    score(&terms)
        .into_iter()
        .map(|(at, score)| (at as u64 * 3 + 1, score))
        .collect()
}

fn said() -> impl Strategy<Value = Vec<Said>> {
    let one = (
        proptest::collection::vec((0_u64..40).prop_map(|t| t * t / 40), 0..8),
        0_i64..45,
        prop_oneof![4 => Just(None), 1 => Just(Some("a")), 1 => Just(Some("b"))],
    );
    proptest::collection::vec(one, 1..60).prop_map(|rows| {
        let mut minute = 0;
        rows.into_iter()
            .map(|(terms, pause, session)| {
                minute += pause;
                Said {
                    terms,
                    minute,
                    session,
                }
            })
            .collect()
    })
}

#[test]
fn a_search_adds_up_no_more_rows_than_it_may() {
    // Term t stands in so many rows.
    let rows = [3, 1, 2, 4];
    let said: Vec<Said> = (0..4)
        .map(|row| Said {
            terms: (0..4).filter(|term| row < rows[*term as usize]).collect(),
            minute: 0,
            session: None,
        })
        .collect();
    let index = index_of(&said);
    let search = Search::new(&index, Scope::Everywhere);
    let terms: Vec<(u32, f32)> = (0..4)
        .map(|term| (index.number_of(term).unwrap(), 1.0))
        .collect();
    for (rows_max, at_most, expected) in [
        (10, 4, &[0, 1, 2, 3][..]),
        (9, 4, &[0, 1, 2]),
        (10, 2, &[0, 1]),
        (5, 4, &[0, 1]),
        (2, 4, &[1]),
        (0, 4, &[]),
    ] {
        let expected: Vec<(u32, f32)> = expected.iter().map(|at: &usize| terms[*at]).collect();
        assert_eq!(
            search.affordable(&terms, rows_max, at_most),
            expected,
            "{rows_max} {at_most}"
        );
    }
}

#[test]
fn of_a_long_row_feedback_takes_a_sample() {
    let long: Vec<u64> = (0..3000)
        .flat_map(|term| vec![term; 1 + term as usize / 1000])
        .collect();
    let index = index_of(&[Said {
        terms: long,
        minute: 0,
        session: None,
    }]);
    let search = Search::new(&index, Scope::Everywhere);
    let found = Found {
        score: 1.0,
        matched: 1.0,
        row: 0,
    };
    let query = [(index.number_of(1000).unwrap(), 1.0)];
    let numbers: Vec<u32> = (1001..1011)
        .map(|term| index.number_of(term).unwrap())
        .collect();
    let feedback = search.feedback(&[found, found], &query);
    assert_eq!(
        feedback.iter().map(|term| term.0).collect::<Vec<_>>(),
        numbers
    );
}

proptest! {
    #[test]
    fn the_best_are_those_of_the_formula(
        said in said(),
        query in proptest::collection::vec(0_u64..45, 0..6),
        session in prop_oneof![Just(None), Just(Some("a")), Just(Some("nobody"))],
        limit in 1_usize..40,
    ) {
        let expected = expected(&said, &query, session);
        let found = rank(&index_of(&said), &analysed(&query), session, limit);
        prop_assume!(!expected.is_empty() || found.is_empty());
        prop_assert_eq!(found.len(), expected.len().min(limit));
        for (hit, (_, score)) in found.iter().zip(&expected) {
            prop_assert!((hit.score - score).abs() < 1e-3, "{:?} against {:?}", found, expected);
        }
        let scores: BTreeMap<u64, f32> = expected.iter().copied().collect();
        for hit in &found {
            prop_assert!(scores.get(&hit.seq).is_some_and(|score| (hit.score - score).abs() < 1e-3));
        }
    }

    #[test]
    fn removing_leaves_what_was_never_added(
        mut said in said(),
        gone in proptest::collection::vec(any::<bool>(), 60),
        query in proptest::collection::vec(0_u64..12, 1..6),
    ) {
        // In one session, so that a gap does not part what a removed one had joined; of so few terms that all join
        // the query, so that nothing hangs on which of two equal ones does.
        for said in &mut said {
            said.session = Some("a");
            said.terms.iter_mut().for_each(|term| *term %= 10);
        }
        let mut index = index_of(&said);
        let mut kept = Index::default();
        for (at, said) in said.iter().enumerate() {
            if gone[at] {
                prop_assert!(index.remove(at as u64 * 3 + 1));
                prop_assert!(!index.remove(at as u64 * 3 + 1));
            } else {
                kept.add(&Entry {
                    seq: at as u64 * 3 + 1,
                    at_ms: said.minute * 60_000,
                    session: said.session,
                    tokens: 10,
                    analysed: &analysed(&said.terms),
                });
            }
        }
        prop_assert_eq!(index.len(), kept.len());
        let found = |index: &Index| -> Vec<(u64, i32)> {
            let hits = rank(index, &analysed(&query), Some("a"), 20);
            let mut hits: Vec<(u64, i32)> =
                hits.iter().map(|hit| (hit.seq, (hit.score * 1000.0).round() as i32)).collect();
            hits.sort_by_key(|hit| (-hit.1, hit.0));
            hits
        };
        let scores = |found: Vec<(u64, i32)>| found.into_iter().map(|f| f.1).collect::<Vec<_>>();
        let (after, never) = (scores(found(&index)), scores(found(&kept)));
        prop_assert_eq!(after.len(), never.len());
        for (after, never) in after.iter().zip(&never) {
            prop_assert!((after - never).abs() <= 2, "{} against {}", after, never);
        }
    }
}
