//! Recall over a small corpus: the turns that answer a question are among the best.

use memoryrouter::memory::Query;
use memoryrouter::memory::analyse::analyse;
use memoryrouter::memory::rank::rank;
use memoryrouter::memory::select::select;

#[path = "../../load/locomo.rs"]
mod locomo;

const CORPUS: &str = include_str!("../data/recall.json");

#[test]
fn the_turns_that_answer_are_among_the_best() {
    let conversations = locomo::read(CORPUS).unwrap();
    let (mut questions, mut at_10, mut at_25, mut in_request) = (0.0, 0.0, 0.0, 0.0);
    let mut missed = Vec::new();
    for conversation in &conversations {
        let index = conversation.index();
        for question in &conversation.questions {
            // The fifth kind has no answer.
            if question.category == 5 || question.evidence.is_empty() {
                continue;
            }
            let share = |found: &[u64]| {
                let met = question.evidence.iter().filter(|turn| found.contains(turn));
                met.count() as f64 / question.evidence.len() as f64
            };
            let hits = rank(&index, &analyse(&question.text), None, 25);
            let found: Vec<u64> = hits.iter().map(|hit| hit.seq).collect();
            questions += 1.0;
            at_10 += share(&found[..10.min(found.len())]);
            at_25 += share(&found);
            let query = Query {
                text: &question.text,
                session: None,
                limit: 30,
                tokens_max: 1000,
                now_ms: conversation.ends_ms(),
                present: &|_| false,
            };
            let chosen = select(&index, &query, |seq| conversation.text(seq));
            let chosen: Vec<u64> = chosen.iter().map(|chosen| chosen.seq).collect();
            in_request += share(&chosen);
            if share(&chosen) < 1.0 {
                missed.push(question.text.as_str());
            }
        }
    }
    assert!(questions >= 40.0);
    for (name, sum, floor) in [
        ("10", at_10, 0.9),
        ("25", at_25, 0.97),
        ("request", in_request, 0.95),
    ] {
        assert!(
            sum / questions >= floor,
            "{name}: {} of {questions}; missed {missed:?}",
            sum
        );
    }
}
