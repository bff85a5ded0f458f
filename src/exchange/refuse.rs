//! Answers to those whose request never becomes an exchange: a head that is no HTTP, a caller for whom there is no room.
//!
//! `connection` and `server` call in. The answer is the last thing on its connection.

use std::time::Instant;

use super::Caller;
use crate::clock;
use crate::error::Fault;
use crate::http::Method;
use crate::http::head::HeadError;
use crate::net::{Deadline, Side, Stream, Writer};
use crate::record::Record;
use crate::respond::{self, Context};
use crate::worker::Worker;

/// Answers a head that is no HTTP. The connection ends behind it.
pub async fn refuse_head(caller: &mut Caller, worker: &Worker, error: HeadError) {
    let limits = worker.head_limits();
    let fault = match error {
        HeadError::Syntax(what) => Fault::Malformed(what),
        HeadError::Version => Fault::Malformed("HTTP version"),
        HeadError::TooLarge => Fault::HeadTooLarge(limits.head_bytes_max),
        HeadError::TooManyFields => Fault::TooManyFields(limits.fields_max),
        HeadError::TargetTooLong => Fault::TargetTooLong(limits.target_bytes_max),
    };
    refuse_unread(&mut caller.writer, &caller.deadline, worker, &fault).await;
}

/// Answers a caller for whom there is no room.
pub async fn turn_away(stream: Stream, worker: &Worker, fault: &Fault) {
    let (_reader, mut writer, hangup) = stream.split();
    let deadline = worker.deadlines.register(Side::Downstream, hangup);
    refuse_unread(&mut writer, &deadline, worker, fault).await;
    writer.finish().await;
}

async fn refuse_unread(writer: &mut Writer, deadline: &Deadline, worker: &Worker, fault: &Fault) {
    let mut record = Record::new(
        worker.next_request_id(),
        Method::Other.as_str(),
        Instant::now(),
    );
    record.refused(fault);
    let context = Context {
        request_id: record.request_id.as_bytes(),
        dialect: None,
        dialect_errors: false,
        close: true,
        head_only: false,
        allowed_origin: None,
    };
    deadline.arm(Instant::now(), worker.config.timeouts.body_idle);
    // Whether the answer arrives is the caller's affair: the connection ends either way.
    let _ = writer.write_all(respond::fault(fault, &context)).await;
    record.ends();
    record.finish();
    let by_key = worker.config.metrics.keys;
    worker
        .metrics
        .finished(record, by_key, clock::unix_millis());
}
