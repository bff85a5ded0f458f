//! How good recall is, and how fast: `recall [FILE]`
//!
//! FILE holds conversations in LoCoMo's format, with questions and the turns that answer them. Prints which share of
//! those turns is among the best 5, 10, 25 and 50, and inside 500, 1,000 and 2,000 tokens, by the product's own code;
//! then times and memory over vaults of made-up chat.

use std::error::Error;
use std::time::{Duration, Instant};

use memoryrouter::memory::Query;
use memoryrouter::memory::analyse::analyse;
use memoryrouter::memory::rank::rank;
use memoryrouter::memory::select::select;

mod locomo;
mod vault;

use locomo::Conversation;

const PLACES: [usize; 4] = [5, 10, 25, 50];
const TOKENS: [usize; 3] = [500, 1000, 2000];
const CATEGORIES: [(u64, &str); 4] = [
    (1, "several turns"),
    (2, "time"),
    (3, "inference"),
    (4, "one turn"),
];

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(file) = std::env::args().nth(1) {
        quality(&locomo::read(&std::fs::read_to_string(file)?)?);
    }
    speed();
    Ok(())
}

/// What was found, over some questions.
#[derive(Default)]
struct Tally {
    questions: usize,
    places: [f64; PLACES.len()],
    tokens: [f64; TOKENS.len()],
    request: f64,
    request_memories: usize,
}

impl Tally {
    fn print(&self, name: &str) {
        let of = |sum: f64| 100.0 * sum / self.questions.max(1) as f64;
        let places: String = self
            .places
            .iter()
            .map(|sum| format!("{:8.1}", of(*sum)))
            .collect();
        let tokens: String = self
            .tokens
            .iter()
            .map(|sum| format!("{:8.1}", of(*sum)))
            .collect();
        let each = self.request_memories as f64 / self.questions.max(1) as f64;
        println!(
            "{name:<14} {:>6} {places}  {tokens}  {:8.1} {each:8.1}",
            self.questions,
            of(self.request)
        );
    }
}

fn quality(conversations: &[Conversation]) {
    let mut tallies: Vec<Tally> = CATEGORIES.iter().map(|_| Tally::default()).collect();
    let mut all = Tally::default();
    for conversation in conversations {
        let index = conversation.index();
        for question in &conversation.questions {
            let category = CATEGORIES
                .iter()
                .position(|category| category.0 == question.category);
            let (Some(at), false) = (category, question.evidence.is_empty()) else {
                continue;
            };
            let share = |found: &[u64]| {
                let met = question.evidence.iter().filter(|turn| found.contains(turn));
                met.count() as f64 / question.evidence.len() as f64
            };
            let hits = rank(&index, &analyse(&question.text), None, 1000);
            let found: Vec<u64> = hits.iter().map(|hit| hit.seq).collect();
            let request = Query {
                text: &question.text,
                session: None,
                limit: 30,
                tokens_max: 1000,
                now_ms: conversation.ends_ms(),
                present: &|_| false,
            };
            let chosen = select(&index, &request, |seq| conversation.text(seq));
            let chosen: Vec<u64> = chosen.iter().map(|chosen| chosen.seq).collect();
            for tally in [&mut tallies[at], &mut all] {
                tally.questions += 1;
                for (sum, places) in tally.places.iter_mut().zip(PLACES) {
                    *sum += share(&found[..places.min(found.len())]);
                }
                for (sum, most) in tally.tokens.iter_mut().zip(TOKENS) {
                    let mut left = most;
                    let fits = hits.iter().take_while(|hit| {
                        let tokens = hit.tokens as usize;
                        let fits = tokens <= left;
                        left = left.saturating_sub(tokens);
                        fits
                    });
                    *sum += share(&found[..fits.count()]);
                }
                tally.request += share(&chosen);
                tally.request_memories += chosen.len();
            }
        }
    }
    println!(
        "recall in %          n      R@5    R@10    R@25    R@50     @500t  @1000t  @2000t   request memories"
    );
    for (tally, (_, name)) in tallies.iter().zip(CATEGORIES) {
        tally.print(name);
    }
    all.print("all");
}

fn speed() {
    println!(
        "\nwarm recall     p50 rank  p99 rank  p50 request  p99 request  bytes/memory  add one"
    );
    for size in [1_000, 10_000, 100_000] {
        let (mut index, texts) = vault::vault(size);
        index.shrink();
        let mut dice = vault::Dice(11);
        let questions: Vec<String> = (0..2000)
            .map(|_| vault::question(&texts, &mut dice))
            .collect();
        let ranked = times(&questions, |question| {
            rank(&index, &analyse(question), None, 30).len()
        });
        let now_ms = i64::MAX / 2;
        let chosen = times(&questions, |question| {
            let query = Query {
                text: question,
                session: None,
                limit: 30,
                tokens_max: 1000,
                now_ms,
                present: &|_| false,
            };
            select(&index, &query, |seq| texts.get(seq as usize)).len()
        });
        let bytes = index.bytes() as f64 / size as f64;
        let added = times(&texts[..1000], |text| analyse(text).terms.len());
        println!(
            "{size:>9} {:>14.1?} {:>9.1?} {:>12.1?} {:>12.1?} {bytes:>13.0} {:>8.1?}",
            ranked.0, ranked.1, chosen.0, chosen.1, added.0
        );
    }
}

/// The middle and the 99th of a hundred of the times that it takes, once warm.
fn times(texts: &[String], mut run: impl FnMut(&str) -> usize) -> (Duration, Duration) {
    let mut times = Vec::with_capacity(texts.len());
    for round in 0..2 {
        times.clear();
        for text in texts {
            let started = Instant::now();
            std::hint::black_box(run(text));
            times.push(started.elapsed());
        }
        if round > 0 {
            times.sort_unstable();
        }
    }
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
