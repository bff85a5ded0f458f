//! Memory keys over the admin port: list, make, change, rotate, revoke, remove. A token stands only in the answer that
//! makes it.
//!
//! Every change goes through the sealed file, under its lock, and is in use on every core when it is answered.

use serde::{Deserialize, Serialize};

use super::answer::{Answer, Denial};
use super::desk::Desk;
use super::request::Request;
use crate::audit::Who;
use crate::clock::{rfc3339, unix_seconds};
use crate::keys::{KeyChange, KeyRecord, KeyState, Limits, NewKey, Period, UnixSeconds};
use crate::secret::Secret;

const LISTED_MAX: usize = 1000;
/// Nobody plans further ahead.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// A key as it is shown.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    account: &'a str,
    vault: &'a str,
    last4: &'a str,
    created_at: String,
    expires_at: Option<String>,
    state: &'static str,
    models: &'a [String],
    manage_keys: bool,
    limits: ShownLimits,
    tokens: Vec<ShownToken<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

#[derive(Serialize)]
struct ShownToken<'a> {
    last4: &'a str,
    valid_until: Option<String>,
}

/// Limits as they are shown and taken.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct ShownLimits {
    rpm: Option<u32>,
    tpm: Option<u64>,
    concurrent: Option<u32>,
    budget_tokens: Option<u64>,
    budget_period: Option<Span>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Span {
    Day,
    Month,
}

impl<'a> Shown<'a> {
    fn new(record: &'a KeyRecord, token: Option<&'a Secret>) -> Self {
        let tokens = record.tokens.iter().map(|token| ShownToken {
            last4: &token.last4,
            valid_until: token.valid_until.map(rfc3339),
        });
        Self {
            id: &record.id,
            name: &record.name,
            account: &record.account,
            vault: &record.vault,
            last4: record.tokens.first().map_or("", |token| &token.last4),
            created_at: rfc3339(record.created_at),
            expires_at: record.expires_at.map(rfc3339),
            state: state(record, unix_seconds()),
            models: &record.models,
            manage_keys: record.manage_keys,
            limits: ShownLimits::of(&record.limits),
            tokens: tokens.collect(),
            // Tokens are ASCII: minted ones are made so, imported ones were checked.
            token: token.and_then(|token| std::str::from_utf8(token.expose()).ok()),
        }
    }
}

/// What a key is now, in one word.
pub(super) fn state(record: &KeyRecord, now: UnixSeconds) -> &'static str {
    match record.state {
        KeyState::Revoked => "revoked",
        KeyState::Active if record.expires_at.is_some_and(|end| end <= now) => "expired",
        KeyState::Active => "active",
    }
}

impl ShownLimits {
    fn of(limits: &Limits) -> Self {
        Self {
            rpm: limits.requests_per_minute,
            tpm: limits.tokens_per_minute,
            concurrent: limits.concurrent,
            budget_tokens: limits.token_budget.map(|(tokens, _)| tokens),
            budget_period: limits.token_budget.map(|(_, period)| match period {
                Period::Day => Span::Day,
                Period::Month => Span::Month,
            }),
        }
    }

    fn into_limits(self) -> Result<Limits, Denial> {
        let zero = [
            self.rpm.map(u64::from),
            self.tpm,
            self.concurrent.map(u64::from),
            self.budget_tokens,
        ];
        if zero.contains(&Some(0)) {
            return Err(Denial::odd(
                "limits: a limit is at least 1; leave it out for none",
            ));
        }
        let token_budget = match (self.budget_tokens, self.budget_period) {
            (None, None) => None,
            (Some(tokens), Some(Span::Day)) => Some((tokens, Period::Day)),
            (Some(tokens), Some(Span::Month)) => Some((tokens, Period::Month)),
            _ => {
                return Err(Denial::odd(
                    "limits: budget_tokens and budget_period (day or month) go together",
                ));
            }
        };
        Ok(Limits {
            requests_per_minute: self.rpm,
            tokens_per_minute: self.tpm,
            concurrent: self.concurrent,
            token_budget,
        })
    }
}

#[derive(Serialize)]
struct List<'a> {
    keys: Vec<Shown<'a>>,
    next: Option<String>,
}

/// `GET /keys`: the newest first.
pub(super) fn list(desk: &Desk, request: &Request) -> Result<Answer, Denial> {
    let limit = request.count("limit", LISTED_MAX, LISTED_MAX)?;
    let skipped = match request.parameter("cursor") {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| Denial::odd("cursor: what `next` said before"))?,
    };
    let account = request.parameter("account");
    let words = request.parameter("query").map(str::to_lowercase);
    let snapshot = desk.keys.current();
    let wanted = |record: &&KeyRecord| {
        let said = |text: &str| {
            words
                .as_ref()
                .is_none_or(|words| text.to_lowercase().contains(words))
        };
        account.is_none_or(|account| record.account == account)
            && (said(&record.id)
                || said(&record.name)
                || record.tokens.iter().any(|token| said(&token.last4)))
    };
    let records = snapshot.records().iter().rev().map(AsRef::as_ref);
    let mut found = records.filter(wanted).skip(skipped);
    let keys: Vec<_> = found
        .by_ref()
        .take(limit)
        .map(|record| Shown::new(record, None))
        .collect();
    let next = found.next().map(|_| (skipped + keys.len()).to_string());
    Ok(Answer::json(&List { keys, next }))
}

/// `GET /keys/{id}`.
pub(super) fn show(desk: &Desk, id: &str) -> Result<Answer, Denial> {
    let record = desk.record(id)?;
    Ok(Answer::json(&Shown::new(&record, None)))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    name: String,
    account: Option<String>,
    expires_at: Option<String>,
    expires_in_s: Option<u64>,
    models: Vec<String>,
    limits: ShownLimits,
    manage_keys: bool,
    token: Option<String>,
}

/// `POST /keys`.
pub(super) async fn create(desk: &Desk, request: &Request, who: Who) -> Result<Answer, Denial> {
    let wish: Wish = request.json()?;
    let new = NewKey {
        name: wish.name,
        account: wish.account.unwrap_or_else(|| "default".to_owned()),
        expires_at: end(wish.expires_at, wish.expires_in_s)?,
        models: wish.models,
        limits: wish.limits.into_limits()?,
        manage_keys: wish.manage_keys,
        token: wish.token.map(|token| Secret::new(token.into_bytes())),
    };
    let (record, token) = desk
        .edit(
            who,
            "key made",
            |editor| editor.add_key(new),
            |(record, _)| {
                vec![
                    ("key", record.id.to_string()),
                    ("account", record.account.clone()),
                ]
            },
        )
        .await?;
    Ok(Answer::with_status(201, &Shown::new(&record, Some(&token))))
}

/// When a key is to end, said in one of two ways.
fn end(at: Option<String>, in_seconds: Option<u64>) -> Result<Option<UnixSeconds>, Denial> {
    match (at, in_seconds) {
        (None, None) => Ok(None),
        (Some(at), None) => moment(&at).map(Some),
        (None, Some(seconds)) => {
            let seconds = i64::try_from(seconds.min(SECONDS_MAX)).unwrap_or(i64::MAX);
            Ok(Some(unix_seconds().saturating_add(seconds)))
        }
        (Some(_), Some(_)) => Err(Denial::odd("expires_at and expires_in_s: one of them")),
    }
}

fn moment(text: &str) -> Result<UnixSeconds, Denial> {
    let wrong = || Denial::odd("expires_at: a time such as 2027-01-31T12:00:00Z");
    let time = humantime::parse_rfc3339_weak(text.trim_end_matches('Z')).map_err(|_| wrong())?;
    let since = time
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(|_| wrong())?;
    i64::try_from(since.as_secs()).map_err(|_| wrong())
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Patch {
    name: Option<String>,
    state: Option<State>,
    /// Present and null is never.
    #[serde(deserialize_with = "present")]
    expires_at: Option<Option<String>>,
    expires_in_s: Option<u64>,
    models: Option<Vec<String>>,
    limits: Option<ShownLimits>,
    manage_keys: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Active,
    Revoked,
}

fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `PATCH /keys/{id}`.
pub(super) async fn change(
    desk: &Desk,
    request: &Request,
    id: String,
    who: Who,
) -> Result<Answer, Denial> {
    let patch: Patch = request.json()?;
    let expires_at = match (patch.expires_at, patch.expires_in_s) {
        (Some(None), None) => Some(None),
        (None, None) => None,
        (at, in_seconds) => Some(end(at.flatten(), in_seconds)?),
    };
    let what = match patch.state {
        Some(State::Revoked) => "key revoked",
        Some(State::Active) => "key enabled",
        None => "key changed",
    };
    let change = KeyChange {
        name: patch.name,
        state: patch.state.map(|state| match state {
            State::Active => KeyState::Active,
            State::Revoked => KeyState::Revoked,
        }),
        expires_at,
        models: patch.models,
        limits: patch.limits.map(ShownLimits::into_limits).transpose()?,
        manage_keys: patch.manage_keys,
    };
    let record = desk
        .edit(
            who,
            what,
            move |editor| editor.change_key(&id, change),
            |record| vec![("key", record.id.to_string())],
        )
        .await?;
    Ok(Answer::json(&Shown::new(&record, None)))
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rotation {
    grace_s: u64,
}

/// `POST /keys/{id}/rotate`.
pub(super) async fn rotate(
    desk: &Desk,
    request: &Request,
    id: String,
    who: Who,
) -> Result<Answer, Denial> {
    let Rotation { grace_s } = request.json()?;
    let grace = i64::try_from(grace_s.min(SECONDS_MAX)).unwrap_or(i64::MAX);
    let old_until = unix_seconds().saturating_add(grace);
    let (record, token) = desk
        .edit(
            who,
            "key rotated",
            move |editor| editor.rotate(&id, old_until),
            |(record, _)| vec![("key", record.id.to_string())],
        )
        .await?;
    Ok(Answer::json(&Shown::new(&record, Some(&token))))
}

#[derive(Serialize)]
struct Gone<'a> {
    id: &'a str,
    state: &'static str,
}

/// `DELETE /keys/{id}`: revokes, or removes for good where that is asked for.
/// Drops what nobody can read any more. If the log cannot be written now, it stays, and stays unreadable.
async fn forget_vault(desk: &Desk, gone: &KeyRecord) {
    let vault = gone.vault.clone();
    let snapshot = desk.keys.reader().get().clone();
    if snapshot.records().iter().any(|other| other.vault == vault) {
        return;
    }
    let memory = desk.control.memory().clone();
    let forget = move || memory.forget_vaults(&|id| id != vault);
    if let Ok(Err(error)) = desk.blocking.run(forget).await {
        tracing::warn!(%error, "the memories of a removed key stay in the log, sealed");
    }
}

pub(super) async fn delete(
    desk: &Desk,
    request: &Request,
    id: String,
    who: Who,
) -> Result<Answer, Denial> {
    let forever = match request.parameter("forever") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Denial::odd("forever: true or false")),
    };
    let (what, state) = if forever {
        ("key removed", "deleted")
    } else {
        ("key revoked", "revoked")
    };
    let record = desk
        .edit(
            who,
            what,
            move |editor| {
                if forever {
                    editor.remove_key(&id)
                } else {
                    editor.set_state(&id, KeyState::Revoked)
                }
            },
            |record| vec![("key", record.id.to_string())],
        )
        .await?;
    if forever {
        forget_vault(desk, &record).await;
    }
    Ok(Answer::json(&Gone {
        id: &record.id,
        state,
    }))
}
