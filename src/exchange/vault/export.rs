//! A vault as lines of JSON, page by page, so that a large one is never held as a whole.

use std::time::Instant;

use super::{fault_of, shown};
use crate::exchange::{Caller, Exchange, Next, Stop};
use crate::http::{Version, chunk};
use crate::memory::VaultRef;
use crate::record::Ended;
use crate::respond;

/// Sends all that there is when it is read.
pub(super) async fn serve(
    vault: &VaultRef,
    caller: &mut Caller,
    exchange: &mut Exchange<'_>,
) -> Result<Next, Stop> {
    let chunked = exchange.version == Version::Http11;
    if !chunked {
        // A caller of HTTP/1.0 knows by the connection's end that it has everything.
        exchange.keep_alive = false;
    }
    let store = &exchange.worker.memory;
    let mut export = store.export(vault).await.map_err(fault_of)?;
    let mut page = export.page().await.map_err(fault_of)?;
    let mut out = respond::stream("application/x-ndjson", chunked, &exchange.context());
    let next = exchange.next();
    (exchange.record.status, exchange.record.ended) = (Some(200), Ended::Answered);
    let body = !exchange.context().head_only;
    loop {
        let lines: String = page.iter().map(shown::line).collect();
        if body && !lines.is_empty() {
            exchange.record.response_bytes += lines.len() as u64;
            match chunked {
                true => chunk::put(&mut out, lines.as_bytes()),
                false => out.extend_from_slice(lines.as_bytes()),
            }
        }
        let is_last = page.is_empty() || !body;
        if is_last && body && chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
        let worker = exchange.worker;
        caller
            .deadline
            .arm_writing(Instant::now(), worker.config.timeouts.body_idle);
        let (result, written) = caller.writer.write_all(out).await;
        caller.deadline.disarm();
        if result.is_err() {
            exchange.record.ended = Ended::CallerLeft;
            return Ok(Next::Close);
        }
        if is_last {
            return Ok(next);
        }
        out = written;
        out.clear();
        page = match export.page().await {
            Ok(page) => page,
            // The caller must see that it has not got everything.
            Err(_) => return Ok(Next::Close),
        };
    }
}
