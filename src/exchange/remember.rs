//! After the last byte: what was said goes into the vault.
//!
//! The user's text and the answer's, of a good answer that the caller has whole. A caller that leaves in the middle
//! has said something all the same, and keeps its own text; an answer in pieces is not kept, and neither is anything
//! once the provider failed, because then the caller asks again. The store takes it without a wait, so that nothing
//! here delays the next request.

use super::Exchange;
use super::recall::Recall;
use crate::clock;
use crate::memory::{NewMemory, Role, analyse, block};
use crate::record::Ended;
use crate::relay::End;

/// Remembers a turn. `answer` is the text that the caller got, whole or not.
pub(super) fn remember(recall: &Recall, answer: &str, whole: bool, exchange: &mut Exchange<'_>) {
    let Some(vault) = recall
        .vault
        .as_ref()
        .filter(|_| recall.settings.remembers())
    else {
        return;
    };
    let good = exchange
        .record
        .status
        .is_some_and(|status| (200..300).contains(&status));
    let (asks, answers) = match exchange.record.ended {
        Ended::Relayed(End::Complete) => (good, good && whole),
        Ended::Relayed(End::CallerLeft) => (good, false),
        _ => (false, false),
    };
    let new = |text: &str, role, at_ms| {
        let text = block::cut(text).trim().to_owned();
        let session = recall.settings.session.clone();
        let memory = NewMemory {
            text,
            role,
            at_ms,
            session,
        };
        (!memory.text.is_empty()).then_some(memory)
    };
    let turn = recall.turn.as_ref().filter(|turn| asks && turn.remembered);
    // Once for all steps of a loop.
    let first = || {
        recall
            .recollection
            .as_ref()
            .is_none_or(|found| found.first_time())
    };
    let asked = turn
        .filter(|_| first())
        .and_then(|turn| new(&turn.text, Role::User, recall.at_ms));
    let answered = match answers && recall.settings.store_answer {
        // An answer is later than what it answers, on a clock that stands still too.
        true => {
            let at_ms = clock::unix_millis().max(recall.at_ms + 1);
            new(answer, Role::Assistant, at_ms)
        }
        false => None,
    };
    let memories: Vec<NewMemory> = asked.into_iter().chain(answered).collect();
    if !memories.is_empty() {
        exchange.record.memory_stored = memories
            .iter()
            .map(|memory| u64::from(analyse::tokens(&memory.text)))
            .sum();
        exchange.worker.memory.capture(vault, memories);
    }
}
