//! Whether a text already stands in a request: as a message, or somewhere in it (`inside`).
//!
//! Of a message white space does not count: what a model said in several parts is remembered as one text, and comes
//! back in parts. Of most messages no more is read than how they start. Those that start like a text that is looked for
//! are read whole, once, however many texts start so.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use ahash::RandomState;

use super::inside::Inside;
use super::{Message, RequestBody, each_text};
use crate::provider::answer::without_reasoning;
use crate::provider::json;
use crate::provider::operation::Operation;

/// So many characters tell two messages apart well enough to look at the whole of them only where they agree.
const START_CHARS: usize = 24;

/// More is not read whole for one request, which takes a few milliseconds; a message beyond it counts as another one.
const READ_BYTES_MAX: usize = 4 << 20;

/// Of the newest so many it is looked up what they say: more than any window of a model holds, and some milliseconds.
const MESSAGES_MAX: usize = 16 * 1024;

/// What the messages of a request say, as far as it is needed to find a text again.
pub struct Said<'b> {
    body: &'b [u8],
    by_start: RefCell<HashMap<String, Alike>>,
    /// Bytes that may still be read.
    left: Cell<usize>,
    inside: Inside<'b>,
    hasher: RandomState,
}

/// Messages that start alike.
#[derive(Default)]
struct Alike {
    /// Not read yet.
    messages: Vec<Message>,
    /// The hashes of those that were.
    texts: HashSet<u64>,
}

impl RequestBody {
    /// What it says, in all messages and besides.
    pub fn said<'b>(&self, body: &'b [u8], operation: &Operation<'_>) -> Said<'b> {
        let mut by_start: HashMap<String, Alike> = HashMap::new();
        let messages = self
            .conversation(operation.task)
            .map_or(&[][..], |(messages, _)| &messages.list);
        for message in &messages[messages.len().saturating_sub(MESSAGES_MAX)..] {
            let alike = by_start.entry(message.start_of_text(body)).or_default();
            alike.messages.push(*message);
        }
        Said {
            body,
            by_start: RefCell::new(by_start),
            left: Cell::new(READ_BYTES_MAX),
            inside: Inside::of(body),
            hasher: RandomState::new(),
        }
    }
}

impl Said<'_> {
    /// Whether a message says just this, or it stands somewhere.
    pub fn holds(&self, text: &str) -> bool {
        self.is_message(text) || self.inside.holds(text)
    }

    fn is_message(&self, text: &str) -> bool {
        let start = start_of(text);
        let mut by_start = self.by_start.borrow_mut();
        let Some(alike) = by_start.get_mut(&start).filter(|_| !start.is_empty()) else {
            return false;
        };
        // From the newest on: where not all can be read, those are the ones that are answered.
        while let Some(message) = alike.messages.pop() {
            let bytes = message.content().len();
            if let Some(left) = self.left.get().checked_sub(bytes) {
                self.left.set(left);
                let text = message.text(self.body);
                alike.texts.insert(self.hash(without_reasoning(&text)));
            }
        }
        alike.texts.contains(&self.hash(text))
    }

    fn hash(&self, text: &str) -> u64 {
        let bare: String = text.split_whitespace().collect();
        self.hasher.hash_one(bare)
    }
}

impl Message {
    /// How that starts.
    fn start_of_text(&self, body: &[u8]) -> String {
        let mut start = String::new();
        let mut missing = START_CHARS;
        each_text(body, self.content(), |raw, escaped| {
            // Half of them may be white space, or all of them are needed.
            let text = json::decode_start(raw, 2 * START_CHARS);
            let some = start_of(&text);
            let some = match text.chars().nth(2 * START_CHARS - 1).is_some() {
                true if some.chars().nth(START_CHARS - 1).is_none() => {
                    start_of(&json::decode(raw, escaped))
                }
                _ => some,
            };
            for character in some.chars().take(missing) {
                start.push(character);
                missing -= 1;
            }
            missing > 0
        });
        // An answer is remembered without it, and comes back with it.
        match without_reasoning(&start) {
            answer if answer.len() == start.len() => start,
            _ => start_of(without_reasoning(&self.text(body))),
        }
    }
}

/// The first characters that are no white space.
fn start_of(text: &str) -> String {
    let seen = text.chars().filter(|character| !character.is_whitespace());
    seen.take(START_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::scan_conversation;
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::operation::Task;

    const CHAT: Operation<'static> = Operation {
        dialect: Dialect::OpenAi,
        task: Task::ChatCompletions,
        version: "/v1",
        path: "/chat/completions",
        model: None,
    };

    fn body_of(contents: &[String]) -> String {
        let message = |content: &String| format!(r#"{{"role":"user","content":{content}}}"#);
        let messages: Vec<String> = contents.iter().map(message).collect();
        format!(r#"{{"messages":[{}]}}"#, messages.join(","))
    }

    #[test]
    fn white_space_does_not_count_and_neither_does_reasoning() {
        let gap = " \\n\\t".repeat(60);
        let parts =
            r#"[{"type":"text","text":"Let me see."},{"type":"text","text":"Rex is six."}]"#;
        let reasoned = format!(
            "\"<think>{}</think>\\n\\nSix, I think.\"",
            "How old? ".repeat(9)
        );
        let body = body_of(&[
            parts.into(),
            format!("\"{gap}far{gap}{gap}apart\""),
            reasoned,
        ]);
        let found = scan_conversation(body.as_bytes(), CHAT.dialect).unwrap();
        let said = found.said(body.as_bytes(), &CHAT);
        for (text, holds) in [
            ("Let me see.Rex is six.", true),
            ("Let me see.\nRex is six.", true),
            ("Let me see. Rex is", false),
            ("far apart", true),
            ("far", false),
            ("Six, I think.", true),
            ("", false),
            (" ", false),
        ] {
            assert_eq!(said.holds(text), holds, "{text}");
        }
    }

    #[test]
    fn what_starts_alike_is_read_once_and_not_without_end() {
        let start = "x".repeat(START_CHARS);
        let text = |n: usize| format!("{start} and then {n}");
        let contents: Vec<String> = (0..500).map(|n| format!("\"{}\"", text(n))).collect();
        let body = body_of(&contents);
        let found = scan_conversation(body.as_bytes(), CHAT.dialect).unwrap();
        let said = found.said(body.as_bytes(), &CHAT);
        for n in 0..1000 {
            assert_eq!(said.holds(&text(n)), n < 500, "{n}");
        }
        let read = READ_BYTES_MAX - said.left.get();
        assert_eq!(read, contents.iter().map(String::len).sum::<usize>());
        // Of more than may be read, the newest.
        let long = |n: usize| format!("{start} {n} {}", "y".repeat(READ_BYTES_MAX / 3));
        let body = body_of(&[1, 2, 3].map(|n| format!("\"{}\"", long(n))));
        let found = scan_conversation(body.as_bytes(), CHAT.dialect).unwrap();
        let said = found.said(body.as_bytes(), &CHAT);
        for (n, holds) in [(1, false), (2, true), (3, true)] {
            assert_eq!(said.holds(&long(n)), holds, "{n}");
        }
    }

    #[test]
    fn of_very_many_messages_the_newest_count() {
        let contents: Vec<String> = (0..MESSAGES_MAX + 5)
            .map(|n| format!("\"no {n}.\""))
            .collect();
        let body = body_of(&contents);
        let found = scan_conversation(body.as_bytes(), CHAT.dialect).unwrap();
        let said = found.said(body.as_bytes(), &CHAT);
        assert!(said.is_message("no 5.") && said.is_message(&format!("no {}.", MESSAGES_MAX + 4)));
        assert!(!said.is_message("no 4."));
    }
}
