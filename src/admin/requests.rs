//! The last requests, as the admin port shows them: ids, names, sizes and times, and nothing that was said.

use std::borrow::Cow;

use serde::Serialize;

use super::answer::{Answer, Denial};
use super::desk::Desk;
use super::request::Request;
use crate::error::FaultSide;
use crate::metrics::Recent;

const SHOWN: usize = 100;
const SHOWN_MAX: usize = 1000;

#[derive(Serialize)]
struct List {
    requests: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    at_ms: i64,
    id: String,
    provider_id: Option<String>,
    key: Option<String>,
    method: &'static str,
    route: &'static str,
    provider: Option<String>,
    model: Option<String>,
    status: Option<u16>,
    side: Option<&'static str>,
    end: &'static str,
    request_bytes: u64,
    response_bytes: u64,
    receive_ms: f64,
    memory_ms: f64,
    overhead_ms: Option<f64>,
    first_byte_ms: Option<f64>,
    total_ms: f64,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    cache_written_tokens: Option<u64>,
    reasoning_tokens: Option<u64>,
    /// Whether the tokens are no count of the provider's.
    estimated: bool,
    attempts: u32,
    reused: bool,
    worker: usize,
}

impl Row {
    fn new(recent: Recent) -> Self {
        let Recent {
            at_ms,
            total,
            worker,
            record,
        } = recent;
        let millis = |time: std::time::Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            at_ms,
            side: record.side().map(side_name),
            end: record.ended.as_str(),
            id: record.request_id.to_string(),
            provider_id: record.provider_request_id.text().map(Cow::into_owned),
            key: record.key_id.as_deref().map(str::to_owned),
            method: record.method,
            route: record.route,
            provider: record.provider.as_deref().map(str::to_owned),
            model: record.model.as_deref().map(str::to_owned),
            status: record.status,
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
            receive_ms: millis(record.received),
            memory_ms: millis(record.memory),
            overhead_ms: record.overhead.map(millis),
            first_byte_ms: record.first_byte.map(millis),
            total_ms: millis(total),
            input_tokens: record.usage.input,
            output_tokens: record.usage.output,
            cached_tokens: record.usage.cached,
            cache_written_tokens: record.usage.cache_written,
            reasoning_tokens: record.usage.reasoning,
            estimated: record.usage.estimated,
            attempts: record.attempts,
            reused: record.reused,
            worker,
        }
    }
}

/// In one word.
pub(super) fn side_name(side: FaultSide) -> &'static str {
    match side {
        FaultSide::Caller => "caller",
        FaultSide::Router => "router",
        FaultSide::Provider => "provider",
    }
}

/// `GET /requests`: the newest first.
pub(super) fn answer(desk: &Desk, request: &Request) -> Result<Answer, Denial> {
    let count = request.count("limit", SHOWN, SHOWN_MAX)?;
    let recent = desk.control.shared().metrics.recent(count);
    Ok(Answer::json(&List {
        requests: recent.into_iter().map(Row::new).collect(),
    }))
}
