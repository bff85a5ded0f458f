//! Conversations in LoCoMo's format: sessions of dated turns, and questions with the turns that answer them.

use std::collections::BTreeMap;
use std::error::Error;

use memoryrouter::memory::analyse::{analyse, tokens};
use memoryrouter::memory::index::{Entry, Index};
use serde_json::Value;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

pub(crate) struct Conversation {
    turns: Vec<(i64, String)>,
    pub(crate) questions: Vec<Question>,
}

pub(crate) struct Question {
    pub(crate) text: String,
    pub(crate) category: u64,
    /// Places of the turns that answer it.
    pub(crate) evidence: Vec<u64>,
}

pub(crate) fn read(text: &str) -> Result<Vec<Conversation>, Box<dyn Error>> {
    let samples: Value = serde_json::from_str(text)?;
    let samples = samples.as_array().ok_or("not a list of samples")?;
    samples.iter().map(conversation).collect()
}

fn conversation(sample: &Value) -> Result<Conversation, Box<dyn Error>> {
    let sessions = sample["conversation"]
        .as_object()
        .ok_or("a sample without a conversation")?;
    let mut numbers: Vec<u32> = sessions
        .keys()
        .filter_map(|key| key.strip_prefix("session_")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let (mut turns, mut places) = (Vec::new(), BTreeMap::new());
    for number in numbers {
        let told = sessions.get(&format!("session_{number}_date_time"));
        let starts = told.and_then(Value::as_str).and_then(time);
        let starts = starts.unwrap_or(i64::from(number) * DAY_MS);
        let said = sessions
            .get(&format!("session_{number}"))
            .and_then(Value::as_array);
        for (at, turn) in said.into_iter().flatten().enumerate() {
            let of = |key: &str| turn[key].as_str().unwrap_or_default();
            let mut text = format!("{}: {}", of("speaker"), of("text"));
            if !of("blip_caption").is_empty() {
                text.push_str(&format!(" [shares {}]", of("blip_caption")));
            }
            places.insert(of("dia_id").to_owned(), turns.len() as u64);
            turns.push((starts + at as i64 * MINUTE_MS / 2, text));
        }
    }
    let asked = sample["qa"]
        .as_array()
        .ok_or("a sample without questions")?;
    let questions = asked.iter().map(|asked| {
        let evidence = asked["evidence"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        // Some name several turns in one text.
        let ids = evidence.flat_map(|ids| ids.split(|c: char| !c.is_alphanumeric() && c != ':'));
        let mut evidence: Vec<u64> = ids.filter_map(|id| places.get(id).copied()).collect();
        evidence.sort_unstable();
        evidence.dedup();
        Question {
            text: asked["question"].as_str().unwrap_or_default().to_owned(),
            category: asked["category"].as_u64().unwrap_or_default(),
            evidence,
        }
    });
    let questions = questions.collect();
    Ok(Conversation { turns, questions })
}

/// "1:56 pm on 8 May, 2023"
fn time(told: &str) -> Option<i64> {
    let (clock, date) = told.split_once(" on ")?;
    let (hour, rest) = clock.trim().split_once(':')?;
    let (minute, half) = rest.split_once(' ')?;
    let afternoon = 12 * i64::from(half.eq_ignore_ascii_case("pm"));
    let minutes = (hour.parse::<i64>().ok()? % 12 + afternoon) * 60 + minute.parse::<i64>().ok()?;
    let mut parts = date.split([' ', ',']).filter(|part| !part.is_empty());
    let (day, month, year) = (
        parts.next()?.parse().ok()?,
        parts.next()?,
        parts.next()?.parse().ok()?,
    );
    let month = MONTHS
        .iter()
        .position(|name| month.to_ascii_lowercase().starts_with(name))? as i64
        + 1;
    Some(memoryrouter::clock::days_to(year, month, day) * DAY_MS + minutes * MINUTE_MS)
}

impl Conversation {
    /// Its vault: a turn is a memory, and a pause of half an hour parts its sessions.
    pub(crate) fn index(&self) -> Index {
        let mut index = Index::default();
        for (seq, (at_ms, text)) in self.turns.iter().enumerate() {
            index.add(&Entry {
                seq: seq as u64,
                at_ms: *at_ms,
                session: None,
                tokens: tokens(text),
                analysed: &analyse(text),
            });
        }
        index
    }

    pub(crate) fn text(&self, seq: u64) -> Option<&str> {
        self.turns.get(seq as usize).map(|turn| turn.1.as_str())
    }

    /// Just after its last turn.
    pub(crate) fn ends_ms(&self) -> i64 {
        self.turns.last().map_or(0, |turn| turn.0 + MINUTE_MS)
    }
}
