//! What turns get back: by all that names them, run by run, within their bounds.

use super::*;
use crate::memory::Role;

fn recollection(text: &str) -> Recollection {
    Recollection::of(&[Recalled {
        id: MemoryId(7),
        text: text.into(),
        role: Role::User,
        at_ms: 0,
        session: None,
        score: 1.0,
        window: Window::Hot,
        tokens: 3,
    }])
}

/// A turn that begins, or goes on from the step of this name.
fn key(turns: &Turns, vault: &str, text: &str, step: &str) -> TurnKey {
    let first = Step {
        bytes: step.as_bytes(),
        call: step,
    };
    turns.key(vault, None, text, 0, (!step.is_empty()).then_some(first))
}

#[test]
fn a_turn_is_found_by_all_that_names_it() {
    let turns = Turns::default();
    let now = Instant::now();
    let named = |vault, session, text, index| {
        let step = Step {
            bytes: b"call",
            call: "",
        };
        turns.key(vault, session, text, index, Some(step))
    };
    let key = named("v", Some("s"), "hello", 3);
    turns.put(key.clone(), recollection("fact"), now);
    let found = turns.get(&key, now).unwrap();
    assert!(found.block.as_deref().unwrap().contains("fact"));
    let block = found.block.as_deref().unwrap();
    assert_eq!((found.tokens, found.memories.len()), (tokens(block), 1));
    assert!(found.first_time() && !found.first_time());
    for other in [
        named("w", Some("s"), "hello", 3),
        named("v", None, "hello", 3),
        named("v", Some("s"), "hello!", 3),
        named("v", Some("s"), "hello", 5),
    ] {
        assert!(turns.get(&other, now).is_none(), "{other:?}");
    }
    let begins = turns.key("v", Some("s"), "hello", 3, None);
    assert!(turns.get(&begins, now).is_none());
}

/// What is done with one turn: `step` gives back what was recalled for it.
struct Agents(Turns, Instant);

impl Agents {
    fn begin(&self, fact: &str) -> Arc<Recollection> {
        let key = key(&self.0, "v", "a", "");
        self.0.put(key, recollection(fact), self.1)
    }

    #[track_caller]
    fn step(&self, step: &str, fact: &str) {
        let found = self.0.get(&key(&self.0, "v", "a", step), self.1).unwrap();
        let block = found.block.as_deref().unwrap();
        assert!(block.contains(fact), "{step}: {block}");
    }
}

#[test]
fn runs_that_begin_with_the_same_words_keep_what_each_got() {
    let agents = Agents(Turns::default(), Instant::now());
    agents.begin("first");
    agents.step("one", "first");
    agents.begin("second");
    agents.step("one", "first");
    agents.step("two", "second");
    agents.begin("third");
    for _ in 0..2 {
        agents.step("one", "first");
        agents.step("two", "second");
    }
    agents.step("three", "third");
    // What cannot be told goes on with the newest, and then keeps that.
    agents.step("four", "third");
    agents.begin("fifth");
    agents.step("four", "third");
    agents.step("five", "fifth");
    agents.step("three", "third");
}

#[test]
fn runs_side_by_side_are_told_apart_by_what_their_answers_called() {
    let agents = Agents(Turns::default(), Instant::now());
    let begun = ["first", "second", "third"].map(|fact| agents.begin(fact));
    begun[0].called("one");
    begun[0].called("other");
    begun[1].called("two");
    begun[2].called(&"x".repeat(CALL_BYTES_MAX + 1));
    for _ in 0..2 {
        agents.step("one", "first");
        agents.step("unknown", "third");
        agents.step("two", "second");
    }
    // An id may be no more than a number: then the newest that it fits.
    for fact in ["fourth", "fifth"] {
        agents.begin(fact).called("call_0");
    }
    agents.step("call_0", "fifth");
}

#[test]
fn a_turn_has_so_many_runs_at_most() {
    let mut agents = Agents(Turns::default(), Instant::now());
    for n in 0..2 * RUNS_PER_TURN {
        agents.1 += Duration::from_millis(1);
        agents.begin("x");
        agents.step(&n.to_string(), "x");
        agents.step("0", "x");
    }
    let shards = agents.0.shards.iter();
    let (runs, bytes) = shards.fold((0, 0), |(runs, bytes), shard| {
        let shard = shard.lock().unwrap();
        let here: usize = shard.turns.values().map(Vec::len).sum();
        (runs + here, bytes + shard.bytes)
    });
    assert_eq!(runs, RUNS_PER_TURN);
    assert_eq!(bytes, runs * recollection("x").bytes());
}

#[test]
fn nobody_gets_the_block_of_one_whose_answer_called_for_something_else() {
    let turns = Turns::default();
    let now = Instant::now();
    let goes_on = |call: &'static str| {
        let bytes = b"the same first words".as_slice();
        turns.key("v", None, "a", 0, Some(Step { bytes, call }))
    };
    for (fact, call) in [("first", "one"), ("second", "two")] {
        let begun = turns.put(key(&turns, "v", "a", ""), recollection(fact), now);
        begun.called(call);
    }
    let got = |call| {
        let found = turns.get(&goes_on(call), now)?;
        found.block.clone()
    };
    for _ in 0..2 {
        assert!(got("one").unwrap().contains("first"));
        assert!(got("two").unwrap().contains("second"));
        assert!(got("three").is_none());
    }
    // One that is recalled anew on its way is known by the same call, whatever its answer calls for then.
    turns
        .put(goes_on("three"), recollection("third"), now)
        .called("four");
    for (call, fact) in [("one", "first"), ("two", "second"), ("three", "third")] {
        assert!(got(call).unwrap().contains(fact));
    }
    assert!(got("four").is_none());
}

#[test]
fn one_memory_is_forgotten_where_it_was_recalled() {
    let turns = Turns::default();
    let now = Instant::now();
    turns.put(key(&turns, "v", "a", "step"), recollection("fact"), now);
    let known = || turns.get(&key(&turns, "v", "a", "step"), now).is_some();
    turns.forget_one("v", MemoryId(8));
    turns.forget_one("w", MemoryId(7));
    assert!(known());
    turns.forget_one("v", MemoryId(7));
    assert!(!known());
}

#[test]
fn an_id_of_any_length_costs_no_room() {
    let agents = Agents(Turns::default(), Instant::now());
    agents.begin("fact");
    let long = "x".repeat(CALL_BYTES_MAX + 1);
    agents.step(&long, "fact");
    assert_eq!(key(&agents.0, "v", "a", &long).call, "");
    let longest = "x".repeat(CALL_BYTES_MAX);
    assert_eq!(key(&agents.0, "v", "a", &longest).call, longest);
}

#[test]
fn turns_end_by_age_and_with_their_vault() {
    let turns = Turns::default();
    let now = Instant::now();
    let mine = || key(&turns, "v", "a", "step");
    let (before, other) = (mine(), key(&turns, "w", "a", "step"));
    for key in [&before, &other] {
        turns.put(key.clone(), recollection("fact"), now);
    }
    assert!(turns.get(&mine(), now + AGE_MAX).is_some());
    assert!(turns.get(&mine(), now + 3 * AGE_MAX).is_none());
    turns.put(mine(), recollection("fact"), now);
    turns.forget("v");
    assert!(turns.get(&mine(), now).is_none());
    // What was asked for before that, and came back after it, is not kept.
    turns.put(before, recollection("fact"), now);
    assert!(turns.get(&mine(), now).is_none());
    turns.put(mine(), recollection("fact"), now);
    assert!(turns.get(&mine(), now).is_some());
    assert!(turns.get(&other, now).is_some());
}

#[test]
fn the_oldest_go_when_there_are_too_many() {
    let turns = Turns::default();
    let start = Instant::now();
    let text = "x".repeat(10_000);
    let key = |n: u32| key(&turns, "v", &n.to_string(), "step");
    for n in 0..4000 {
        let now = start + Duration::from_millis(u64::from(n));
        turns.put(key(n), recollection(&text), now);
        assert!(turns.get(&key(n), now).is_some());
    }
    assert!(turns.get(&key(0), start).is_none());
    let bytes: usize = turns.shards.iter().map(|s| s.lock().unwrap().bytes).sum();
    assert!(bytes <= SHARDS * BYTES_PER_SHARD, "{bytes}");
}

#[test]
fn what_runs_outlives_what_is_over_and_what_others_have_too_much_of() {
    let start = Instant::now();
    let text = "x".repeat(4_000);
    // Whether the vault of the turn in question has others, and whether the turns that come behind it are over, are of one
    // vault, or of one each.
    for (own, over, one_vault, stays) in [
        (1, true, true, true),
        (1, true, false, true),
        (1, false, true, true),
        (50, false, true, true),
        (1, false, false, false),
    ] {
        let turns = Turns::default();
        let mine = |n: u32| key(&turns, "mine", &n.to_string(), "step");
        for n in 0..own {
            turns.put(mine(n), recollection(&text), start);
        }
        for n in 1..8_000 {
            let now = start + Duration::from_millis(n);
            let vault = if one_vault { 0 } else { n };
            let key = key(&turns, &vault.to_string(), &n.to_string(), "");
            let begun = turns.put(key, recollection(&text), now);
            if over {
                begun.over();
            }
        }
        let all_stay = (0..own).all(|n| turns.get(&mine(n), start).is_some());
        assert_eq!(all_stay, stays, "{own} {over} {one_vault}");
        let bytes: usize = turns.shards.iter().map(|s| s.lock().unwrap().bytes).sum();
        assert!(bytes <= SHARDS * BYTES_PER_SHARD, "{bytes}");
    }
}

#[test]
fn a_turn_that_goes_on_after_all_runs_again() {
    let turns = Turns::default();
    let now = Instant::now();
    let begun = turns.put(key(&turns, "v", "a", ""), recollection("fact"), now);
    begun.over();
    let goes_on = turns.get(&key(&turns, "v", "a", "step"), now).unwrap();
    assert!(!goes_on.is_over.load(Ordering::Relaxed));
}

#[test]
fn a_busy_vault_has_room_for_as_many_turns_as_all_together() {
    let turns = Turns::default();
    let start = Instant::now();
    let text = "x".repeat(4_000);
    let key = |n: u32| key(&turns, "v", &n.to_string(), "step");
    for n in 0..2000 {
        let now = start + Duration::from_millis(u64::from(n));
        turns.put(key(n), recollection(&text), now);
    }
    assert!((0..2000).all(|n| turns.get(&key(n), start).is_some()));
}

#[test]
fn a_turn_that_goes_on_says_nothing_a_second_time() {
    let turns = Turns::default();
    let now = Instant::now();
    let begins = || key(&turns, "v", "a", "");
    let goes_on = || key(&turns, "v", "a", "step");
    let first = turns.put(begins(), recollection("fact"), now);
    turns.forget("v");
    // The first step's answer is over behind the deletion.
    assert!(first.first_time());
    let next = turns.put(goes_on(), recollection("other"), now);
    assert!(next.block.is_some() && !next.first_time());
    let known = turns.get(&goes_on(), now).unwrap();
    assert!(known.block.is_some() && !known.first_time());
    // Also where the deletion came while it was recalled.
    let before = goes_on();
    turns.forget("v");
    let straddling = turns.put(before, recollection("fact"), now);
    assert!(straddling.block.is_some() && turns.get(&goes_on(), now).is_none());
    let again = turns.put(goes_on(), recollection("fact"), now);
    assert!(!again.first_time());
    // Somebody begins with these words anew.
    let anew = turns.put(begins(), recollection("fact"), now);
    assert!(anew.first_time());
}
