//! A request of the router's own, of whose answer nothing but the status counts.
//!
//! `admin` asks so whether a provider key works, and `traces` hands spans to a collector so. No caller stands behind
//! it: it ends with its answer or with its timeout, and its connection ends with it.

use std::time::{Duration, Instant};

use super::{ANSWER_HEAD_LIMITS, Connection, Failure, Outgoing, Sent, Watch, send};
use crate::net;

/// Sends a whole message and waits at most `timeout` for the head of its answer.
pub async fn status_of(
    connection: Connection,
    message: Vec<u8>,
    timeout: Duration,
) -> Result<u16, Failure> {
    // What is watched in a caller's place never leaves.
    let (near, _far) = net::pair().map_err(|_| Failure::Closed)?;
    let (mut nobody, _writer, _) = near.split();
    let mut watch = Watch::new(&mut nobody);
    let outgoing = Outgoing {
        start: message,
        ..Outgoing::default()
    };
    let (now, limits) = (Instant::now(), &ANSWER_HEAD_LIMITS);
    match send(connection, outgoing, now, timeout, limits, &mut watch).await {
        Sent::Answered(answer) => {
            let status = answer.head.line.status;
            answer.discard().await;
            Ok(status)
        }
        Sent::Failed(failure, _) => Err(failure),
    }
}
