//! What a key can ask about itself: its usage and its standing; and, if it may, the keys of its account.
//!
//! `exchange` calls `serve` once the key is known. Sums come from the usage store's own thread, and the sealed file is
//! changed on a thread made for that: nothing here waits on the worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_channel::oneshot;
use serde::Serialize;

use super::{Caller, Exchange, Next, Stop, Tenant, body};
use crate::audit::{self, Who};
use crate::clock::{self, DAY_SECONDS};
use crate::depth;
use crate::error::{Fault, json_reason};
use crate::http::Framing;
use crate::http::head::{Head, RequestLine};
use crate::keys::{EditError, Editor, KeyForm, KeyState, KeyWish, Object, UnixSeconds};
use crate::respond;
use crate::route::AccountTask;
use crate::usage::{By, Figures, Line, Query, Report};

/// The span that is told of where none is asked for.
const DEFAULT_DAYS: i64 = 30;
/// Changes of the sealed file that are under way or wait for its lock; each has a thread.
const EDITS_MAX: usize = 8;

/// Answers a request about the key.
pub(super) async fn serve(
    task: AccountTask<'_>,
    caller: &mut Caller,
    head: &Head<RequestLine>,
    framing: Framing,
    tenant: &Tenant,
    exchange: &mut Exchange<'_>,
) -> Result<Next, Stop> {
    let manages = !matches!(task, AccountTask::Usage | AccountTask::Stats);
    if manages && !tenant.key.grant.manage_keys {
        return Err(Fault::NoCapability("manage_keys").into());
    }
    if manages {
        // Each change reads and writes all keys: more work than a request to a provider, and limited like one.
        exchange.worker.shared.key_limits.count(&tenant.key)?;
    }
    let (status, body) = match task {
        AccountTask::Usage => {
            let query = head.query(caller.reader.bytes()).unwrap_or_default();
            (200, usage(query, tenant, exchange).await?)
        }
        AccountTask::Stats => (200, stats(tenant, exchange).await?),
        AccountTask::ListKeys => (200, list(tenant, exchange).await?),
        AccountTask::RevokeKey(id) => (200, revoke(id, tenant, exchange).await?),
        AccountTask::MintKey => {
            let request = body::receive(caller, head, framing, exchange).await?;
            exchange.record.request_bytes = request.body().len() as u64;
            (201, mint(request.body(), tenant, exchange).await?)
        }
    };
    let answer = respond::json(status, body.as_bytes(), &[], &exchange.context());
    Ok(exchange.answer(caller, answer).await)
}

#[derive(Serialize)]
struct Usage<'a> {
    key: &'a str,
    period: Span,
    summary: Figures,
    daily: Vec<Line>,
    by_model: Vec<Line>,
}

#[derive(Serialize)]
struct Span {
    start: String,
    end: String,
}

/// `GET /v1/account/usage`: whole days, both of them included.
async fn usage(query: &str, tenant: &Tenant, exchange: &Exchange<'_>) -> Result<String, Fault> {
    let today = clock::day_start(clock::unix_seconds());
    let end = date(query, "end")?.unwrap_or(today);
    let start = date(query, "start")?.unwrap_or(end - (DEFAULT_DAYS - 1) * DAY_SECONDS);
    if start > end {
        return Err(Fault::InvalidParameter("start", "It is behind the end"));
    }
    let ask = |by: &[By]| Query {
        key: Some(tenant.key.id.to_string()),
        provider: None,
        model: None,
        since: start,
        until: end + DAY_SECONDS,
        by: by.to_vec(),
    };
    let daily = answered(ask(&[By::Day]), exchange).await?;
    let by_model = answered(ask(&[By::Provider, By::Model]), exchange).await?;
    json(&Usage {
        key: &tenant.key.id,
        period: Span {
            start: day(start),
            end: day(end),
        },
        summary: daily.total,
        daily: daily.lines,
        by_model: by_model.lines,
    })
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    key: KeyForm<'a>,
    today: Figures,
    month: Figures,
}

/// `GET /v1/me/stats`: the key as it stands, and what it has used of its day and month.
async fn stats(tenant: &Tenant, exchange: &Exchange<'_>) -> Result<String, Fault> {
    let now = clock::unix_seconds();
    let since = |since| Query {
        key: Some(tenant.key.id.to_string()),
        provider: None,
        model: None,
        since,
        until: now + 1,
        by: Vec::new(),
    };
    json(&Stats {
        key: KeyForm::new(&tenant.key, None, now),
        today: answered(since(clock::day_start(now)), exchange)
            .await?
            .total,
        month: answered(since(clock::month_start(now)), exchange)
            .await?
            .total,
    })
}

async fn answered(query: Query, exchange: &Exchange<'_>) -> Result<Report, Fault> {
    let asked = exchange.worker.usage.store().ask(query).await;
    asked.map_err(|error| {
        // The store tells once what is wrong with it.
        tracing::debug!(%error, "a question about usage has no answer");
        Fault::UsageUnavailable
    })
}

#[derive(Serialize)]
struct List<'a> {
    keys: Vec<KeyForm<'a>>,
}

async fn list(tenant: &Tenant, exchange: &Exchange<'_>) -> Result<String, Fault> {
    let (keys, own) = (exchange.worker.keys.current(), tenant.key.grant.clone());
    let listed = move || {
        let now = clock::unix_seconds();
        let records = keys.records().iter();
        let own = records.filter(|record| record.grant.account == own.account);
        let keys = own.map(|record| KeyForm::new(record, None, now)).collect();
        json(&List { keys })
    };
    aside(exchange, listed).await?
}

async fn mint(body: &[u8], tenant: &Tenant, exchange: &Exchange<'_>) -> Result<String, Fault> {
    let wish: KeyWish = match body.trim_ascii() {
        b"" => KeyWish::default(),
        body if !depth::fits(body) => {
            return Err(Fault::InvalidKey("The body nests too deep".into()));
        }
        body => {
            let wish: Result<Object<KeyWish>, _> = sonic_rs::from_slice(body);
            let wish = wish.map_err(|error| {
                let reason = json_reason::<KeyWish>(body, &error);
                reason.map_or(Fault::InvalidJson, Fault::InvalidKey)
            });
            wish?.0
        }
    };
    let now = clock::unix_seconds();
    let names = &exchange.worker.plan.table.prefixes;
    let new = wish
        .granted(&tenant.key, names, now)
        .map_err(Fault::InvalidKey)?;
    let minted = edit(tenant, exchange, "key made", move |editor| {
        let (record, token) = editor.mint_key(new)?;
        Ok((record.id.to_string(), (record, token)))
    });
    let (record, token) = minted.await?;
    json(&KeyForm::new(&record, Some(&token), now))
}

async fn revoke(id: &str, tenant: &Tenant, exchange: &Exchange<'_>) -> Result<String, Fault> {
    let (id, account) = (id.to_owned(), tenant.key.grant.account.clone());
    let revoked = edit(tenant, exchange, "key revoked", move |editor| {
        if editor.key(&id)?.grant.account != account {
            return Err(EditError::NotFound(id));
        }
        Ok((id.clone(), editor.set_state(&id, KeyState::Revoked)?))
    });
    let record = revoked.await?;
    json(&KeyForm::new(&record, None, clock::unix_seconds()))
}

/// Changes the sealed file on a thread of its own and waits until this process has the change in use. `change` also
/// says which key it was about.
async fn edit<T: Send + 'static>(
    tenant: &Tenant,
    exchange: &Exchange<'_>,
    what: &'static str,
    change: impl FnOnce(&mut Editor<'_>) -> Result<(String, T), EditError> + Send + 'static,
) -> Result<T, Fault> {
    let store = exchange.worker.keys.clone();
    let dir = exchange.worker.config.dir.clone();
    let who = Who::Key(tenant.key.id.to_string());
    let work = move || {
        let (id, result) = store.edit(change)?;
        audit::append(&dir, &who, what, &[("key", &id)]);
        store.reload();
        Ok(result)
    };
    aside(exchange, work).await?.map_err(|error| match error {
        EditError::NotFound(_) => Fault::NoSuchKey,
        EditError::Invalid(why) => Fault::InvalidKey(why),
        EditError::Full => Fault::KeysFull,
        error => {
            tracing::error!(%error, "keys could not be changed");
            Fault::KeysUnavailable
        }
    })
}

/// What `work` comes to on a thread of its own: over a million keys it takes seconds.
async fn aside<T: Send + 'static>(
    exchange: &Exchange<'_>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let place = Place::take(&exchange.worker.shared.key_edits).ok_or(Fault::KeysUnavailable)?;
    let (reply, answer) = oneshot::channel();
    let work = move || {
        // Whoever asked may have left; what was changed stays.
        let _ = reply.send(work());
        drop(place);
    };
    let started = std::thread::Builder::new()
        .name("key-work".into())
        .spawn(work);
    match started {
        Ok(_) => answer.await.map_err(|_| Fault::KeysUnavailable),
        Err(_) => Err(Fault::KeysUnavailable),
    }
}

/// One of the threads that may read or change all keys.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>) -> Option<Self> {
        let room = |taken| (taken < EDITS_MAX).then_some(taken + 1);
        let taken = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        taken.is_ok().then(|| Self(count.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, Fault> {
    sonic_rs::to_string(value).map_err(|_| Fault::UsageUnavailable)
}

fn day(time: UnixSeconds) -> String {
    clock::rfc3339(time).chars().take(10).collect()
}

/// A date of the query, as the first second of its day.
fn date(query: &str, name: &'static str) -> Result<Option<UnixSeconds>, Fault> {
    let given = query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        (found == name).then_some(value)
    });
    let Some(text) = given.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wrong = Fault::InvalidParameter(name, "A date like 2026-01-31");
    // A time of the day behind it is a whole day's all the same.
    let (day, time) = match text.split_once('T') {
        Some((day, time)) => (day, Some(time)),
        None => (text, None),
    };
    let is_date = shaped(day, "0000-00-00") && time.is_none_or(is_time);
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let parsed = (number(0..4), number(5..7), number(8..10));
    let (true, (Some(year @ 1970..), Some(month @ 1..=12), Some(of_month @ 1..=31))) =
        (is_date, parsed)
    else {
        return Err(wrong);
    };
    let days = clock::days_to(year, month, of_month);
    // The 31st of a month that has none would be the next one's.
    if clock::year_and_month(days) != (year, month) {
        return Err(wrong);
    }
    Ok(Some(days * DAY_SECONDS))
}

/// RFC 3339's time of the day, whose seconds, fraction and zone may be missing. `+` and `:` may come percent-encoded.
fn is_time(text: &str) -> bool {
    let text = text.replace("%3A", ":").replace("%3a", ":");
    let text = text.replace("%2B", "+").replace("%2b", "+");
    let end = text.find(['Z', '+', '-']).unwrap_or(text.len());
    let (time, zone) = text.split_at(end);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let zone = match zone.strip_prefix(['+', '-']) {
        Some(zone) => shaped(zone, "00:00") || shaped(zone, "0000"),
        None => zone.is_empty() || zone == "Z",
    };
    (shaped(time, "00:00:00") || shaped(time, "00:00")) && fraction && zone
}

/// Whether a text is `form` with a digit for each zero.
fn shaped(text: &str, form: &str) -> bool {
    let fits = |(byte, form): (u8, u8)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (query, expected) in [
            ("", Ok(None)),
            ("end=2026-01-01", Ok(None)),
            ("start=", Ok(None)),
            ("x=1&start=1970-01-02", Ok(Some(86_400))),
            ("start=2024-02-29T12:00:00Z", Ok(Some(1_709_164_800))),
            ("start=2024-02-29T12:00", Ok(Some(1_709_164_800))),
            (
                "start=2024-02-29T12%3A00:00.25+01:00",
                Ok(Some(1_709_164_800)),
            ),
        ] {
            assert_eq!(date(query, "start"), expected, "{query}");
        }
        for wrong in [
            "yesterday",
            "2023-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "1969-12-31",
            "2026-1-1",
            "2026/01/01",
            "2026-01-01x",
            "20260101",
            "-026-01-01",
            "2026-01-31é",
            "2026-01-31T",
            "2026-01-31Tgarbage",
            "2026-01-31T12:00:00Zx",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12",
            "2026-01-31T12:00:00+1",
        ] {
            let found = date(&format!("start={wrong}"), "start");
            assert!(
                matches!(found, Err(Fault::InvalidParameter("start", _))),
                "{wrong}"
            );
        }
    }
}
