//! After the last byte: what was said goes into the vault.
//!
//! The user's text and the answer's, of a good answer that the caller has whole. A caller that leaves in the middle has
//! said something all the same, and keeps its own text; an answer in pieces, or one that calls tools, is not kept, and
//! neither is anything once the provider failed, because then the caller asks again. What was deleted since the turn
//! began is not stored either. The store takes it without a wait, so that nothing here delays the next request.

use super::Exchange;
use super::recall::Recall;
use crate::memory::{NewMemory, Role, block};
use crate::provider::answer::{self, Observed};
use crate::provider::operation::Task;
use crate::record::Ended;
use crate::relay::End;

/// What somebody said, as it is remembered; none if that is nothing but a block of ours, or reasoning.
pub(super) fn said(
    mut text: String,
    role: Role,
    at_ms: i64,
    session: Option<String>,
) -> Option<NewMemory> {
    if role == Role::Assistant {
        let kept = answer::without_reasoning(&text).len();
        text.drain(..text.len() - kept);
    }
    memory(block::own_words(text), role, at_ms, session)
}

fn memory(text: String, role: Role, at_ms: i64, session: Option<String>) -> Option<NewMemory> {
    (!text.is_empty()).then_some(NewMemory {
        text,
        role,
        at_ms,
        session,
    })
}

/// Whether an answer that came without an error is all there. Where streams of a `task` have a last word, one without it
/// broke off, however it ended; an end of the connection alone says nothing.
pub(super) fn is_whole(seen: &Observed, streamed: bool, task: Task, until_close: bool) -> bool {
    let has_last_word = streamed && matches!(task, Task::Messages | Task::Responses);
    seen.ended || seen.finished || !(has_last_word || until_close)
}

/// Remembers a turn. `answer` is the text that the caller got; `last` says that it is whole, and no step of an agent's.
pub(super) fn remember(recall: Recall, answer: String, last: bool, exchange: &mut Exchange<'_>) {
    let Recall {
        settings,
        vault,
        turn,
        recollection,
        at_ms,
        begun,
        ..
    } = recall;
    let good = exchange
        .record
        .status
        .is_some_and(|status| (200..300).contains(&status));
    let (asks, answers) = match exchange.record.ended {
        Ended::Relayed(End::Complete) => (good, good && last),
        Ended::Relayed(End::CallerLeft) => (good, false),
        _ => (false, false),
    };
    if answers && let Some(found) = &recollection {
        found.over();
    }
    let Some(vault) = vault.filter(|_| settings.remembers()) else {
        return;
    };
    let turn = turn.filter(|turn| asks && turn.remembered);
    // Once for all steps of a loop.
    let first = || recollection.is_none_or(|found| found.first_time());
    let asked = turn
        .filter(|_| first())
        // Its text was brought to its own words before anything was recalled.
        .and_then(|turn| memory(turn.text, Role::User, at_ms, settings.session.clone()));
    let answered = match answers && settings.store_answer {
        // When it began: after what it answers and before all that its caller says next, whatever the clock does.
        true => {
            let waited = exchange.record.first_byte.unwrap_or_default();
            let at_ms = at_ms.saturating_add(i64::try_from(waited.as_millis()).unwrap_or(0));
            said(answer, Role::Assistant, at_ms, settings.session)
        }
        false => None,
    };
    let memories: Vec<NewMemory> = asked.into_iter().chain(answered).collect();
    exchange.record.memory_stored = exchange.worker.memory.capture(&vault, memories, begun);
}
