//! What goes into a request, and what stays out of it.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::memory::analyse::tokens;
use crate::memory::index::Entry;

const HOUR: i64 = 3_600_000;
const NOW: i64 = 1_800_000_000_000;

/// A vault of texts, each with its age in hours and its session.
struct Vault {
    index: Index,
    texts: Vec<String>,
}

fn vault(texts: &[(i64, Option<&str>, &str)]) -> Vault {
    let mut index = Index::default();
    for (at, (age, session, text)) in texts.iter().enumerate() {
        index.add(&Entry {
            seq: at as u64,
            at_ms: NOW - age * HOUR,
            session: *session,
            tokens: tokens(text),
            analysed: &analyse(text),
        });
    }
    Vault {
        index,
        texts: texts.iter().map(|text| text.2.to_owned()).collect(),
    }
}

fn query(text: &str) -> Query<'_> {
    Query {
        text,
        session: None,
        limit: 30,
        tokens_max: 1000,
        now_ms: NOW,
        present: &|_| false,
    }
}

impl Vault {
    fn ask(&self, query: &Query<'_>) -> Vec<u64> {
        self.chosen(query).iter().map(|chosen| chosen.seq).collect()
    }

    fn chosen(&self, query: &Query<'_>) -> Vec<Chosen<&str>> {
        select(&self.index, query, |seq| {
            self.texts.get(seq as usize).map(String::as_str)
        })
    }
}

#[test]
fn one_fact_in_a_small_vault_comes_back() {
    for (told, asked) in [
        ("My dog is called Bello.", "What is the name of my dog?"),
        (
            "My dog is called Bello.",
            "Do you remember which breed, age and size my beautiful little dog has?",
        ),
        (
            "I am allergic to peanuts",
            "Can you suggest a snack without peanuts?",
        ),
        (
            "Meine Lieblingsfarbe ist Türkis.",
            "Was ist meine Lieblingsfarbe?",
        ),
        ("我的猫叫咪咪", "我的猫叫什么?"),
    ] {
        let vault = vault(&[
            (1, None, told),
            (1, None, "The weather is fine, and that is good."),
        ]);
        assert_eq!(vault.ask(&query(asked)).first(), Some(&0), "{asked}");
    }
}

#[test]
fn small_talk_and_strange_things_bring_nothing() {
    let texts: Vec<String> = (0..200)
        .map(|n| format!("Hello, good morning! Please tell me about item {n}, thanks."))
        .collect();
    let rows: Vec<(i64, Option<&str>, &str)> = texts
        .iter()
        .map(|text| (100, None, text.as_str()))
        .collect();
    let vault = vault(&rows);
    for text in [
        "",
        "?",
        "Hi",
        "Hello!",
        "good morning",
        "Thanks a lot",
        "ok",
        "Guten Morgen!",
        "hola",
        "你好!",
        "привет",
        "What is it?",
        "zebra giraffe elephant",
        // Shares one word with all, and is about something else.
        "Please tell me which Portuguese explorer first crossed the southern Indian ocean by galleon",
    ] {
        assert_eq!(vault.ask(&query(text)), [0; 0], "{text}");
    }
    assert_eq!(vault.ask(&query("What about item 17?")).first(), Some(&17));
}

#[test]
fn one_choice_reads_so_much_of_a_vault_and_no_more() {
    let long: String = (0..4000).map(|n| format!("word{n} ")).collect();
    let vault = vault(&[(8, None, &long), (8, None, "My parrot Coco eats mango.")]);
    let asked = analyse("what does my parrot eat?");
    let said = Said::of(&vault.index, &asked);
    let hits = ranked(&vault.index, &asked, None, Scope::Everywhere, 2);
    let [parrot, beside] = hits[..] else {
        panic!("{hits:?}");
    };
    let looks = Looks::default();
    assert!(said.enough_in(&vault.index, &parrot, &looks));
    let mut rounds = 0;
    while !looks.are_spent() {
        assert!(!said.enough_in(&vault.index, &beside, &looks));
        rounds += 1;
    }
    assert!(rounds < 200, "{rounds}");
    assert!(!said.enough_in(&vault.index, &parrot, &looks));
    let query = query("what does my parrot eat?");
    for (looks, taken) in [(Looks::default(), 1), (looks, 0)] {
        let mut choice = Choice {
            index: &vault.index,
            query: &query,
            looks: &looks,
            taken: Vec::new(),
            tokens: 0,
        };
        choice.fill(&mut hits.clone(), &mut |seq| vault.texts.get(seq as usize));
        assert_eq!(choice.taken.len(), taken);
    }
}

#[test]
fn a_long_chat_takes_no_places_of_what_is_older() {
    let old: Vec<String> = (0..10)
        .map(|n| format!("Grandmother's garden has a pear tree number {n} by the old wall"))
        .collect();
    for (messages, found) in [(20, 10), (140, 10), (600, 10), (5000, 0)] {
        let chat: Vec<String> = (0..messages)
            .map(|n| format!("Garden question {n}: which plants for the garden bed near path {n}?"))
            .collect();
        let other: Vec<String> = (0..messages)
            .map(|n| format!("The train {n} leaves from platform {n}."))
            .collect();
        let other = other.iter().map(|text| (500, None, text.as_str()));
        let told = old.iter().map(|text| (900, None, text.as_str()));
        let said = chat.iter().map(|text| (1, None, text.as_str()));
        let rows: Vec<(i64, Option<&str>, &str)> = told.chain(other).chain(said).collect();
        let asked = Cell::new(0);
        let vault = vault(&rows);
        let present = |text: &str| {
            asked.set(asked.get() + 1);
            text.starts_with("Garden")
        };
        let chosen = vault.ask(&Query {
            present: &present,
            ..query("What about the garden?")
        });
        let (chat, old) = (10 + messages as u64, chosen.iter().filter(|seq| **seq < 10));
        assert!(
            chosen.iter().all(|seq| *seq < chat),
            "{messages}: {chosen:?}"
        );
        assert_eq!(old.count(), found, "{messages}: {chosen:?}");
        // Each is asked for once, and not without end.
        assert!(
            asked.get() <= messages.min(HITS_MAX) + 20,
            "{messages}: {}",
            asked.get()
        );
    }
}

#[test]
fn what_stands_in_the_request_stays_out() {
    let vault = vault(&[
        (9, None, "My parrot Coco eats mango."),
        (8, None, "A parrot can live for sixty years."),
        (7, None, "What does my parrot eat?"),
        (6, None, "The parrot cage is by the window."),
    ]);
    let asked = |text: &str, present: &[&str]| {
        let present = |text: &str| present.contains(&text);
        let mut places = vault.ask(&Query {
            present: &present,
            ..query(text)
        });
        places.sort_unstable();
        places
    };
    let question = "what does my parrot eat?";
    assert_eq!(asked(question, &[]), [0, 1, 3]);
    assert_eq!(asked(question, &["My parrot Coco eats mango."]), [1, 3]);
    let quoted = "You said: My parrot Coco eats mango. What else does my parrot eat?";
    assert_eq!(asked(quoted, &[]), [1, 2, 3]);
    let all: Vec<&str> = vault.texts.iter().map(String::as_str).collect();
    assert_eq!(asked(question, &all), [0; 0]);
}

#[test]
fn what_repeats_is_said_once_and_as_it_was_said_last() {
    let vault = vault(&[
        (50, None, "I eat meat every Sunday."),
        (40, None, "I eat meat every sunday"),
        (30, None, "I don't eat meat every Sunday!"),
        (20, None, "I eat fish every Sunday."),
    ]);
    let mut places = vault.ask(&query("Do I eat meat or fish?"));
    places.sort_unstable();
    assert_eq!(places, [2, 3]);
}

#[test]
fn other_facts_of_the_same_words_are_no_repetitions() {
    for (first, second, asked, facts) in [
        (
            "Anna owes Bob fifty euros for dinner.",
            "Bob owes Anna fifty euros for dinner.",
            "Who owes whom money for dinner?",
            2,
        ),
        (
            "Anna is the manager of Bob in sales.",
            "Bob is the manager of Anna in sales.",
            "Who is the manager in sales?",
            2,
        ),
        (
            "I write C++ for the billing team.",
            "I write C# for the billing team.",
            "Which languages do I write for the billing team?",
            2,
        ),
        (
            "The reactor must stay below -5 degrees in winter mode.",
            "The reactor must stay below 5 degrees in winter mode.",
            "What temperature must the reactor stay below?",
            2,
        ),
        // These say the same.
        (
            "The e-mail server must stay below 5 degrees in winter.",
            "the E mail server, must stay - below 5 degrees - in winter!",
            "How cold may the server get in winter?",
            1,
        ),
        (
            "My parrot and the cat eat mango and C++ books.",
            "A parrot and cat eats mango and c++ books, please",
            "What does my parrot eat?",
            1,
        ),
    ] {
        let vault = vault(&[(50, None, first), (40, None, second)]);
        let mut places = vault.ask(&query(asked));
        places.sort_unstable();
        let expected: &[u64] = if facts == 2 { &[0, 1] } else { &[1] };
        assert_eq!(places, expected, "{first}");
    }
}

#[test]
fn limits_hold_and_what_does_not_fit_is_passed_over() {
    let long = format!("The parrot {}", "talks and talks about seeds ".repeat(40));
    let vault = vault(&[
        (9, None, "The parrot is green."),
        (8, None, &long),
        (7, None, "The parrot likes Vienna."),
        (6, None, "The parrot sleeps at noon."),
    ]);
    let asked = |limit, tokens_max| {
        let chosen = vault.chosen(&Query {
            limit,
            tokens_max,
            ..query("parrot")
        });
        assert!(chosen.len() <= limit);
        let lines = chosen.iter().map(|c| c.tokens as usize).sum::<usize>();
        assert!(lines == 0 || FRAME_TOKENS + lines <= tokens_max);
        chosen.len()
    };
    for (limit, tokens_max, expected) in [
        (0, 1000, 0),
        (30, 0, 0),
        (2, 1000, 2),
        (30, 100, 3),
        (30, 1000, 4),
        (30, FRAME_TOKENS + 6, 1),
        (30, FRAME_TOKENS + 4, 0),
        (30, FRAME_TOKENS, 0),
        (30, 6, 0),
        (1000, 100_000, 4),
    ] {
        assert_eq!(asked(limit, tokens_max), expected, "{limit} {tokens_max}");
    }
}

#[test]
fn the_last_days_have_one_place_in_five() {
    let mut texts: Vec<(i64, String)> = (0..40)
        .map(|n| {
            (
                5000,
                format!("The parrot, the parrot: note {n} of the parrot"),
            )
        })
        .collect();
    texts.extend((0..10).map(|n| {
        (
            10,
            format!("Something about day {n} and the sea, sky, hills, trees and a parrot"),
        )
    }));
    let rows: Vec<(i64, Option<&str>, &str)> =
        texts.iter().map(|t| (t.0, None, t.1.as_str())).collect();
    let vault = vault(&rows);
    let chosen = vault.chosen(&Query {
        limit: 10,
        ..query("parrot")
    });
    let recent = chosen
        .iter()
        .filter(|c| c.window <= Window::Working)
        .count();
    assert_eq!((chosen.len(), recent), (10, 2));
    assert!(chosen.is_sorted_by(|a, b| a.score >= b.score));
    let chosen = vault.chosen(&Query {
        limit: 4,
        ..query("parrot")
    });
    assert!(chosen.iter().all(|c| c.window == Window::Archive));
}

#[test]
fn a_session_comes_first_and_leaves_place() {
    let mut texts: Vec<(i64, Option<&str>, String)> = (0..20)
        .map(|n| (9, Some("s"), format!("In this session the parrot says {n}")))
        .collect();
    texts.extend((0..20).map(|n| (9, None, format!("Parrot parrot {n}"))));
    texts.push((9, Some("other"), "The parrot of another session".to_owned()));
    let rows: Vec<(i64, Option<&str>, &str)> =
        texts.iter().map(|t| (t.0, t.1, t.2.as_str())).collect();
    let vault = vault(&rows);
    let chosen = vault.chosen(&Query {
        limit: 10,
        session: Some("s"),
        ..query("parrot")
    });
    assert_eq!(chosen.iter().filter(|c| c.in_session).count(), 5);
    assert_eq!(chosen.len(), 10);
    let chosen = vault.chosen(&Query {
        limit: 30,
        session: Some("s"),
        ..query("parrot")
    });
    assert_eq!(chosen.iter().filter(|c| c.in_session).count(), 15);
    assert!(vault.chosen(&query("parrot")).iter().all(|c| !c.in_session));
}

#[test]
fn long_questions_are_read_at_both_ends() {
    let vault = vault(&[
        (9, None, "The parrot is green."),
        (9, None, "The canary is yellow."),
    ]);
    let filler = "lorem ipsum ".repeat(20_000);
    let mut found = vault.ask(&query(&format!("parrot {filler} canary")));
    found.sort_unstable();
    assert_eq!(found, [0, 1]);
    assert_eq!(
        vault.ask(&query(&format!("{filler} parrot {filler}"))),
        [0; 0]
    );
    let wide = "猫".repeat(5000);
    assert_eq!(vault.ask(&query(&format!("{wide} parrot")))[0], 0);
}

#[test]
fn a_text_that_is_gone_is_passed_over() {
    let vault = vault(&[
        (9, None, "The parrot is green."),
        (9, None, "The parrot is old."),
    ]);
    let found = select(&vault.index, &query("parrot"), |seq| {
        (seq == 1).then_some("The parrot is old.")
    });
    assert_eq!(
        found.iter().map(|chosen| chosen.seq).collect::<Vec<_>>(),
        [1]
    );
}

proptest! {
    #[test]
    fn any_choice_keeps_to_its_limits(
        texts in proptest::collection::vec(("[a-e ]{0,30}", 0_i64..200, any::<bool>()), 0..60),
        asked in "[a-e ]{0,20}",
        limit in 0_usize..40,
        tokens_max in FRAME_TOKENS..150,
        session in any::<bool>(),
    ) {
        let rows: Vec<(i64, Option<&str>, &str)> = texts
            .iter()
            .map(|(text, age, own)| (*age, own.then_some("s"), text.as_str()))
            .collect();
        let vault = vault(&rows);
        let query = Query { limit, tokens_max, session: session.then_some("s"), ..query(&asked) };
        let chosen = vault.chosen(&query);
        prop_assert!(chosen.len() <= limit);
        let lines = chosen.iter().map(|c| c.tokens as usize).sum::<usize>();
        prop_assert!(FRAME_TOKENS + lines <= tokens_max);
        prop_assert!(chosen.is_sorted_by(|a, b| a.score >= b.score));
        prop_assert!(session || chosen.iter().all(|c| !c.in_session));
        let mut places: Vec<u64> = chosen.iter().map(|c| c.seq).collect();
        places.sort_unstable();
        places.dedup();
        prop_assert_eq!(places.len(), chosen.len());
        prop_assert_eq!(chosen, vault.chosen(&query));
    }
}
