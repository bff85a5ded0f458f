//! Memory keys over the admin port: list, make, change, rotate, revoke, remove. A token stands only in the answer that
//! makes it.
//!
//! Every change goes through the sealed file, under its lock, and is in use on every core when it is answered.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::answer::{Answer, Denial};
use super::desk::Desk;
use super::memory::unavailable;
use super::request::Request;
use crate::audit::Who;
use crate::clock::{rfc3339, unix_seconds};
use crate::keys::{
    EditError, KeyChange, KeyForm, KeyRecord, KeyState, Limits, LimitsForm, LimitsPatch, NewKey,
    Object, UnixSeconds, named, state_of,
};
use crate::secret::Secret;

const LISTED_MAX: usize = 1000;
/// Nobody plans further ahead.
const SECONDS_MAX: u64 = 100 * 366 * 86_400;

#[derive(Serialize)]
struct List<'a> {
    keys: Vec<KeyForm<'a>>,
    next: Option<String>,
}

/// `GET /keys`: the newest first.
pub(super) fn list(desk: &Desk, request: &Request) -> Result<Answer, Denial> {
    let limit = request.count("limit", LISTED_MAX, LISTED_MAX)?;
    let cursor = request.parameter("cursor").map(Cursor::parse).transpose()?;
    let account = request.parameter("account");
    let state = match request.parameter("state") {
        None | Some("all") => None,
        Some(word @ ("active" | "revoked" | "expired")) => Some(word),
        Some(_) => return Err(Denial::odd("state: active, revoked, expired or all")),
    };
    let words = request.parameter("query").map(str::to_lowercase);
    let snapshot = desk.keys.current();
    let now = unix_seconds();
    let wanted = |record: &&KeyRecord| {
        let said = |text: &str| {
            words
                .as_ref()
                .is_none_or(|words| text.to_lowercase().contains(words))
        };
        account.is_none_or(|account| record.grant.account == account)
            && state.is_none_or(|state| state_of(record, now) == state)
            && (said(&record.id)
                || said(&record.name)
                || record.tokens.iter().any(|token| said(&token.last4)))
    };
    let records = snapshot.records();
    let end = cursor.map_or(records.len(), |cursor| cursor.place(records));
    let records = records.iter().take(end).rev().map(AsRef::as_ref);
    let mut found = records.filter(wanted);
    let page: Vec<&KeyRecord> = found.by_ref().take(limit).collect();
    let more = found.next().is_some();
    let next = page.last().filter(|_| more).map(|last| Cursor::text(last));
    let keys = page.into_iter();
    let keys = keys.map(|record| KeyForm::whole(record, None, now));
    Ok(Answer::json(&List {
        keys: keys.collect(),
        next,
    }))
}

/// The last key of a page: a place that keys which are made or deleted meanwhile do not move.
struct Cursor<'t> {
    created_at: UnixSeconds,
    id: &'t str,
}

impl<'t> Cursor<'t> {
    fn text(record: &KeyRecord) -> String {
        format!("{}.{}", record.created_at, record.id)
    }

    fn parse(text: &'t str) -> Result<Self, Denial> {
        let parts = text.split_once('.');
        let parts = parts.and_then(|(time, id)| Some((time.parse().ok()?, id)));
        let (created_at, id) = parts.ok_or(Denial::odd("cursor: what `next` said before"))?;
        Ok(Self { created_at, id })
    }

    /// How many records, oldest first, stand before it. Where its key is gone, keys of the same second are listed once
    /// more rather than left out.
    fn place(&self, records: &[Arc<KeyRecord>]) -> usize {
        let here = records.iter().rposition(|record| *record.id == *self.id);
        let older = |record: &Arc<KeyRecord>| record.created_at <= self.created_at;
        here.unwrap_or_else(|| records.iter().rposition(older).map_or(0, |last| last + 1))
    }
}

fn shown<'a>(record: &'a KeyRecord, token: Option<&'a Secret>) -> KeyForm<'a> {
    KeyForm::whole(record, token, unix_seconds())
}

/// `GET /keys/{id}`.
pub(super) fn show(desk: &Desk, id: &str) -> Result<Answer, Denial> {
    let record = desk.record(id)?;
    Ok(Answer::json(&shown(&record, None)))
}

/// Null is as left out.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wish {
    name: Option<String>,
    account: Option<String>,
    expires_at: Option<String>,
    expires_in_s: Option<u64>,
    models: Option<Vec<String>>,
    limits: Option<Object<LimitsForm>>,
    manage_keys: Option<bool>,
    token: Option<String>,
}

/// `POST /keys`.
pub(super) async fn create(desk: &Desk, request: &Request, who: Who) -> Result<Answer, Denial> {
    let wish: Wish = request.json()?;
    let expires_at = end(wish.expires_at, wish.expires_in_s)?;
    if expires_at.is_some_and(|end| end <= unix_seconds()) {
        return Err(Denial::odd("expires_at: it is over already"));
    }
    let Object(limits) = wish.limits.unwrap_or_default();
    let new = NewKey {
        name: wish.name.unwrap_or_default(),
        account: wish.account.unwrap_or_else(|| "default".to_owned()),
        expires_at,
        models: wish.models.unwrap_or_default(),
        limits: limits.into_limits().map_err(Denial::odd)?,
        manage_keys: wish.manage_keys.unwrap_or_default(),
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
                    ("account", record.grant.account.clone()),
                ]
            },
        )
        .await?;
    Ok(Answer::with_status(201, &shown(&record, Some(&token))))
}

const TWO_ENDS: &str = "expires_at and expires_in_s: one of them";

/// When a key is to end, said in one of two ways.
fn end(at: Option<String>, in_seconds: Option<u64>) -> Result<Option<UnixSeconds>, Denial> {
    match (at, in_seconds) {
        (None, None) => Ok(None),
        (Some(at), None) => moment(&at).map(Some),
        (None, Some(seconds)) => {
            let seconds = i64::try_from(seconds.min(SECONDS_MAX)).unwrap_or(i64::MAX);
            Ok(Some(unix_seconds().saturating_add(seconds)))
        }
        (Some(_), Some(_)) => Err(Denial::odd(TWO_ENDS)),
    }
}

fn moment(text: &str) -> Result<UnixSeconds, Denial> {
    let wrong = || Denial::odd("expires_at: a time such as 2027-01-31T12:00:00Z");
    let bare = text.strip_suffix('Z').unwrap_or(text);
    // The parser lets a few characters more stand behind one.
    if bare.contains('Z') {
        return Err(wrong());
    }
    let time = humantime::parse_rfc3339_weak(bare).map_err(|_| wrong())?;
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
    /// Null is never.
    #[serde(deserialize_with = "named")]
    expires_at: Option<Option<String>>,
    expires_in_s: Option<u64>,
    models: Option<Vec<String>>,
    /// Null is none at all.
    #[serde(deserialize_with = "named")]
    limits: Option<Option<Object<LimitsPatch>>>,
    manage_keys: Option<bool>,
}

impl Patch {
    /// The settings that it names.
    fn names(&self) -> Vec<&'static str> {
        let ends = self.expires_at.is_some() || self.expires_in_s.is_some();
        let all = [
            ("name", self.name.is_some()),
            ("expires_at", ends),
            ("models", self.models.is_some()),
            ("limits", self.limits.is_some()),
            ("manage_keys", self.manage_keys.is_some()),
        ];
        let named = all.into_iter().filter(|(_, named)| *named);
        named.map(|(name, _)| name).collect()
    }
}

/// A setting of a key, for the audit log.
fn written(record: &KeyRecord, name: &str) -> String {
    match name {
        "name" => record.name.to_string(),
        "expires_at" => record.expires_at.map_or_else(|| "never".into(), rfc3339),
        "models" => record.grant.models.join(","),
        // Numbers and a word cannot fail to be written.
        "limits" => sonic_rs::to_string(&LimitsForm::new(&record.grant.limits)).unwrap_or_default(),
        _ => record.grant.manage_keys.to_string(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Active,
    Revoked,
}

/// `PATCH /keys/{id}`.
pub(super) async fn change(
    desk: &Desk,
    request: &Request,
    id: String,
    who: Who,
) -> Result<Answer, Denial> {
    let patch: Patch = request.json()?;
    let named = patch.names();
    if named.is_empty() && patch.state.is_none() {
        return show(desk, &id);
    }
    let expires_at = match (patch.expires_at, patch.expires_in_s) {
        (Some(_), Some(_)) => return Err(Denial::odd(TWO_ENDS)),
        (Some(None), None) => Some(None),
        (None, None) => None,
        (at, in_seconds) => Some(end(at.flatten(), in_seconds)?),
    };
    let what = match patch.state {
        Some(State::Revoked) => "key revoked",
        Some(State::Active) => "key enabled",
        None => "key changed",
    };
    let mut change = KeyChange {
        name: patch.name,
        state: patch.state.map(|state| match state {
            State::Active => KeyState::Active,
            State::Revoked => KeyState::Revoked,
        }),
        expires_at,
        models: patch.models,
        limits: None,
        manage_keys: patch.manage_keys,
    };
    let limits = patch.limits;
    let record = desk
        .edit(
            who,
            what,
            move |editor| {
                // Under the lock: what the change leaves out is as it is then.
                change.limits = match limits {
                    None => None,
                    Some(None) => Some(Limits::default()),
                    Some(Some(Object(patch))) => {
                        let now = &editor.key(&id)?.grant.limits;
                        Some(patch.applied_to(now).map_err(EditError::Invalid)?)
                    }
                };
                editor.change_key(&id, change)
            },
            move |record| {
                let key = ("key", record.id.to_string());
                let changed = named.iter().map(|name| (*name, written(record, name)));
                std::iter::once(key).chain(changed).collect()
            },
        )
        .await?;
    Ok(Answer::json(&shown(&record, None)))
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
    Ok(Answer::json(&shown(&record, Some(&token))))
}

#[derive(Serialize)]
struct Gone<'a> {
    id: &'a str,
    state: &'static str,
}

fn is_named(desk: &Desk, vault: &str) -> bool {
    let snapshot = desk.keys.reader().get().clone();
    snapshot.records().iter().any(|key| *key.vault == *vault)
}

/// Drops what nobody can read any more. If the log cannot be written now, it stays, and stays unreadable.
async fn forget(desk: &Desk, vault: String) -> Result<(), Denial> {
    let memory = desk.control.memory().clone();
    let forget = move || memory.forget_vaults(&|id| id != vault);
    match desk.blocking.run(forget).await? {
        Ok(_) => Ok(()),
        Err(error) => {
            tracing::warn!(%error, "the memories of a removed key stay in the log, sealed");
            Err(unavailable(error))
        }
    }
}

/// `DELETE /vaults/{id}`: what a key that the command line removed has left.
pub(super) async fn forget_vault(desk: &Desk, vault: String) -> Result<Answer, Denial> {
    if is_named(desk, &vault) {
        return Err(Denial::new(409, "A key has this vault"));
    }
    forget(desk, vault.clone()).await?;
    Ok(Answer::json(&Gone {
        id: &vault,
        state: "deleted",
    }))
}

/// `DELETE /keys/{id}`: revokes, or removes for good where that is asked for.
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
    if forever && !is_named(desk, &record.vault) {
        // The key is gone in any case; what stays has been told in the log.
        let _ = forget(desk, record.vault.to_string()).await;
    }
    Ok(Answer::json(&Gone {
        id: &record.id,
        state,
    }))
}
