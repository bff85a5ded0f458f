//! Stores a finished exchange, as if it had gone through the router: the newest user message, and what it was answered.
//!
//! The answer is `response`, a text or a provider's answer as it came; without that, the assistant's message behind the
//! user's.

use super::{Asked, CONVERSATION, fault_of, member, shown};
use crate::clock;
use crate::error::Fault;
use crate::exchange::Exchange;
use crate::exchange::remember::said;
use crate::memory::{NewMemory, Role, VaultRef};
use crate::provider::{Dialect, answer, lossy};

pub(super) async fn serve(
    asked: &Asked<'_>,
    vault: &VaultRef,
    exchange: &Exchange<'_>,
) -> Result<String, Fault> {
    if !asked.body.has_messages {
        return Err(Fault::MissingField("messages"));
    }
    let now = clock::unix_millis();
    let session = asked.settings.session.clone();
    let memory = |text: String, role, at_ms| said(text, role, at_ms, session.clone());
    let turn = asked.body.turn(asked.request.body(), &CONVERSATION);
    let asks = turn
        .filter(|turn| turn.remembered)
        .and_then(|turn| memory(turn.text, Role::User, now));
    let response = match member(asked, "response") {
        Some(raw) if raw != "null" => Some(response_text(&raw)?),
        _ => reply_text(asked),
    };
    let answers = response
        .filter(|_| asked.settings.store_answer)
        .and_then(|text| memory(text, Role::Assistant, now));
    let memories: Vec<NewMemory> = asks
        .into_iter()
        .chain(answers)
        .filter(|_| asked.settings.remembers())
        .collect();
    let added = exchange.worker.memory.add_turn(vault, memories).await;
    Ok(shown::ingested(&added.map_err(fault_of)?))
}

/// What `response` says; nothing of one that refuses, or is a step of an agent's.
fn response_text(raw: &str) -> Result<String, Fault> {
    if let Some(text) = lossy::text(raw) {
        return Ok(text.into_owned());
    }
    let dialects = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];
    let mut its = dialects
        .into_iter()
        .filter(|dialect| answer::is_answer(*dialect, raw.as_bytes()));
    let dialect = its.next().ok_or(Fault::InvalidField("response"))?;
    let seen = observed(dialect, raw);
    match seen.error {
        true => Err(Fault::InvalidField("response")),
        false => Ok(spoken(seen)),
    }
}

/// What the assistant's message behind the newest user message says.
fn reply_text(asked: &Asked<'_>) -> Option<String> {
    let body = asked.request.body();
    let index = asked.body.reply(&CONVERSATION)?;
    let messages = sonic_rs::get(body, ["messages"]).ok()?;
    let message = sonic_rs::get(messages.as_raw_str(), [index]).ok()?;
    let raw = message.as_raw_str();
    // OpenAI's calls stand beside the content, Anthropic's in it.
    let calls = observed(Dialect::Anthropic, raw).calls;
    let choice = format!("{{\"choices\":[{{\"message\":{raw}}}]}}");
    (!calls).then(|| spoken(observed(Dialect::OpenAi, &choice)))
}

fn observed(dialect: Dialect, raw: &str) -> answer::Observed {
    let mut seen = answer::Observed::default();
    seen.whole(dialect, raw.as_bytes());
    seen
}

fn spoken(seen: answer::Observed) -> String {
    match seen.calls {
        true => String::new(),
        false => seen.text,
    }
}
