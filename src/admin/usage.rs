//! `GET /usage`: what keys have used, as JSON or as a table for a spreadsheet.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::answer::{Answer, Denial};
use super::desk::Desk;
use super::request::Request;
use crate::clock::{DAY_SECONDS, day_start, days_to, rfc3339, unix_seconds};
use crate::usage::{By, Figures, Line, Percentiles, Query, Report};

const DEFAULT_DAYS: i64 = 30;
/// Further back nothing is kept.
const DAYS_MAX: i64 = 36_500;

#[derive(Serialize)]
struct Shown<'a> {
    since: String,
    until: String,
    by: Vec<&'a str>,
    rows: Vec<Row>,
    total: Numbers,
}

#[derive(Serialize)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    day: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hour: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Of a key that is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(flatten)]
    numbers: Numbers,
}

#[derive(Serialize)]
struct Numbers {
    requests: u64,
    errors: u64,
    errors_caller: u64,
    errors_router: u64,
    errors_provider: u64,
    aborted: u64,
    truncated: u64,
    input_tokens: u64,
    output_tokens: u64,
    cached_tokens: u64,
    cache_written_tokens: u64,
    reasoning_tokens: u64,
    memory_tokens_recalled: u64,
    memory_tokens_stored: u64,
    estimated_requests: u64,
    unpriced_requests: u64,
    cost: Option<f64>,
    provider_ms: Percentiles,
    router_ms: Percentiles,
}

impl Numbers {
    fn new(figures: &Figures) -> Self {
        // Where nothing that was sent had a price, nought would be a lie: requests that failed are no priced ones.
        let priced = figures.unpriced_requests == 0 || figures.cost_usd > 0.0;
        Self {
            requests: figures.requests,
            errors: figures.errors,
            errors_caller: figures.errors_caller,
            errors_router: figures.errors_router,
            errors_provider: figures.errors_provider,
            aborted: figures.aborted,
            truncated: figures.truncated,
            input_tokens: figures.input_tokens,
            output_tokens: figures.output_tokens,
            cached_tokens: figures.cached_tokens,
            cache_written_tokens: figures.cache_written_tokens,
            reasoning_tokens: figures.reasoning_tokens,
            memory_tokens_recalled: figures.memory_tokens_recalled,
            memory_tokens_stored: figures.memory_tokens_stored,
            estimated_requests: figures.estimated_requests,
            unpriced_requests: figures.unpriced_requests,
            cost: priced.then_some(figures.cost_usd),
            provider_ms: figures.provider_latency_ms,
            router_ms: figures.router_latency_ms,
        }
    }

    fn cells(&self) -> [String; 23] {
        let millis = |time: Option<f64>| time.map_or_else(String::new, |time| time.to_string());
        [
            self.requests.to_string(),
            self.errors.to_string(),
            self.aborted.to_string(),
            self.input_tokens.to_string(),
            self.output_tokens.to_string(),
            self.cached_tokens.to_string(),
            self.cache_written_tokens.to_string(),
            self.reasoning_tokens.to_string(),
            self.memory_tokens_recalled.to_string(),
            self.memory_tokens_stored.to_string(),
            self.estimated_requests.to_string(),
            self.unpriced_requests.to_string(),
            self.cost.map_or_else(String::new, |cost| cost.to_string()),
            millis(self.provider_ms.p50),
            millis(self.provider_ms.p95),
            millis(self.provider_ms.p99),
            millis(self.router_ms.p50),
            millis(self.router_ms.p95),
            millis(self.router_ms.p99),
            self.errors_caller.to_string(),
            self.errors_router.to_string(),
            self.errors_provider.to_string(),
            self.truncated.to_string(),
        ]
    }
}

const COLUMNS: &str = "requests,errors,aborted,input_tokens,output_tokens,cached_tokens,cache_written_tokens,\
    reasoning_tokens,memory_tokens_recalled,memory_tokens_stored,estimated_requests,unpriced_requests,cost,\
    provider_p50_ms,provider_p95_ms,provider_p99_ms,router_p50_ms,router_p95_ms,router_p99_ms,\
    errors_caller,errors_router,errors_provider,truncated";

impl Row {
    fn new(line: Line, names: &HashMap<&str, &str>) -> Self {
        let name = line.key.as_deref().and_then(|key| names.get(key));
        Self {
            key_name: name.map(|name| (*name).to_owned()),
            numbers: Numbers::new(&line.figures),
            day: line.day,
            hour: line.hour,
            key: line.key,
            provider: line.provider,
            model: line.model,
            route: line.route,
        }
    }

    /// What is counted by no word.
    fn of_all(numbers: Numbers) -> Self {
        Self {
            key_name: None,
            numbers,
            day: None,
            hour: None,
            key: None,
            provider: None,
            model: None,
            route: None,
        }
    }

    fn label(&self, word: &str) -> &str {
        let label = match word {
            "day" => &self.day,
            "hour" => &self.hour,
            "key" => &self.key,
            "provider" => &self.provider,
            "model" => &self.model,
            _ => &self.route,
        };
        label.as_deref().unwrap_or_default()
    }
}

/// The endpoint.
pub(super) async fn answer(desk: &Desk, request: &Request) -> Result<Answer, Denial> {
    let now = unix_seconds();
    let since = match request.parameter("since") {
        None => day_start(now) - (DEFAULT_DAYS - 1) * DAY_SECONDS,
        Some(text) => moment(text, now, false)?,
    };
    let until = match request.parameter("until") {
        None => now,
        Some(text) => moment(text, now, true)?,
    };
    if since > until {
        return Err(Denial::odd("since: not behind until"));
    }
    let mut words: Vec<&str> = match request.parameter("by") {
        None => vec!["day"],
        Some("none") => Vec::new(),
        Some(words) => words.split(',').collect(),
    };
    let mut known = HashSet::new();
    words.retain(|word| known.insert(*word));
    let by = words.iter().map(|word| By::parse(word));
    let by: Option<Vec<By>> = by.collect();
    let by =
        by.ok_or_else(|| Denial::odd("by: day, hour, key, provider, model, route; or none"))?;
    let csv = match request.parameter("format") {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(Denial::odd("format: json or csv")),
    };
    let query = Query {
        key: request.parameter("key").map(str::to_owned),
        provider: request.parameter("provider").map(str::to_owned),
        model: request.parameter("model").map(str::to_owned),
        since,
        until,
        by,
    };
    let report = desk.control.usage().ask(query).await;
    let report = report.map_err(|error| Denial::new(503, error.to_string()))?;
    if leaves_out(&report) {
        return Err(Denial::odd("The answer has too many rows")
            .hint("Ask for a shorter time, for one key, or by fewer words"));
    }
    let snapshot = desk.keys.current();
    let records = snapshot.records().iter();
    let names = records.map(|record| (&*record.id, &*record.name));
    let names: HashMap<&str, &str> = match words.contains(&"key") {
        true => names.collect(),
        false => HashMap::new(),
    };
    let lines = report.lines.into_iter();
    let rows: Vec<Row> = lines.map(|line| Row::new(line, &names)).collect();
    let total = Numbers::new(&report.total);
    if csv {
        return Ok(match words.is_empty() {
            true => table(&[], &[Row::of_all(total)]),
            false => table(&words, &rows),
        });
    }
    Ok(Answer::json(&Shown {
        since: rfc3339(since),
        until: rfc3339(until),
        by: words,
        rows,
        total,
    }))
}

/// Whether the store had no room for all rows: a table without some of them would be taken for whole.
fn leaves_out(report: &Report) -> bool {
    let requests = report.lines.iter().map(|line| line.figures.requests);
    !report.lines.is_empty() && requests.sum::<u64>() < report.total.requests
}

fn table(words: &[&str], rows: &[Row]) -> Answer {
    // The last column: where the others stand, spreadsheets know by now.
    let named = words.contains(&"key");
    let mut text = words
        .iter()
        .map(|word| format!("{word},"))
        .collect::<String>();
    text += COLUMNS;
    text += if named { ",key_name\r\n" } else { "\r\n" };
    for row in rows {
        for word in words {
            text += &cell(row.label(word));
            text.push(',');
        }
        text += &row.numbers.cells().join(",");
        if named {
            text.push(',');
            text += &cell(row.key_name.as_deref().unwrap_or_default());
        }
        text += "\r\n";
    }
    Answer::of(200, "text/csv; charset=utf-8", text.into_bytes())
        .with("content-disposition", "attachment; filename=\"usage.csv\"")
}

/// A cell (RFC 4180). What a spreadsheet would take for a formula gets a quotation mark in front: a model's name is the
/// caller's word.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

/// A day, a time, or how long ago: `2026-01-31`, `2026-01-31T12:00:00Z`, `7d`. As an end, a day is meant whole.
fn moment(text: &str, now: i64, end: bool) -> Result<i64, Denial> {
    let wrong = || {
        Denial::odd(format!(
            "{text:?} is no time: 2026-01-31, 2026-01-31T12:00:00Z or 7d"
        ))
    };
    if let Some(day) = day(text) {
        return Ok(if end { day + DAY_SECONDS } else { day });
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = i64::try_from(ago.as_secs()).unwrap_or(i64::MAX);
        return Ok(now - ago.min(DAYS_MAX * DAY_SECONDS));
    }
    let time = humantime::parse_rfc3339(text).map_err(|_| wrong())?;
    let since = time
        .duration_since(std::time::UNIX_EPOCH)
        .map_err(|_| wrong())?;
    i64::try_from(since.as_secs()).map_err(|_| wrong())
}

fn day(text: &str) -> Option<i64> {
    let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let time = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok();
    time.filter(|_| plain)?;
    let mut parts = text.split('-').map(str::parse);
    let (year, month, day) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    Some(days_to(year, month, day) * DAY_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let now = 1_800_000_000;
        assert_eq!(moment("1970-01-02", now, false).unwrap(), 86_400);
        assert_eq!(moment("1970-01-02", now, true).unwrap(), 2 * 86_400);
        assert_eq!(moment("1970-01-02T00:00:01Z", now, true).unwrap(), 86_401);
        assert_eq!(moment("1d", now, false).unwrap(), now - 86_400);
        for wrong in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-02-30",
            "2026-1-1",
            "1969-01-01T00:00:00Z",
        ] {
            assert!(moment(wrong, now, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nothing_is_free_because_its_price_is_not_known() {
        let cost = |requests, errors, unpriced_requests, cost_usd| {
            Numbers::new(&Figures {
                requests,
                errors,
                unpriced_requests,
                cost_usd,
                ..Figures::default()
            })
            .cost
        };
        assert_eq!(cost(3, 0, 3, 0.0), None);
        assert_eq!(cost(3, 1, 2, 0.0), None, "a failed request has no price");
        assert_eq!(cost(3, 0, 2, 0.5), Some(0.5), "and is marked");
        assert_eq!(cost(3, 3, 0, 0.0), Some(0.0));
        assert_eq!(cost(0, 0, 0, 0.0), Some(0.0));
    }

    #[test]
    fn an_answer_without_some_rows_is_none() {
        let figures = |requests| Figures {
            requests,
            ..Figures::default()
        };
        let line = |requests| Line {
            key: None,
            provider: None,
            model: None,
            route: None,
            day: None,
            hour: None,
            figures: figures(requests),
        };
        let left_out = |total, lines: &[u64]| {
            leaves_out(&Report {
                total: figures(total),
                lines: lines.iter().map(|requests| line(*requests)).collect(),
            })
        };
        assert!(!left_out(7, &[]), "the sum alone");
        assert!(!left_out(7, &[3, 4]));
        assert!(left_out(7, &[3, 3]));
    }

    #[test]
    fn cells_are_no_formulas() {
        assert_eq!(cell("gpt-4o"), "gpt-4o");
        assert_eq!(cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(cell("=cmd()"), "'=cmd()");
    }
}
