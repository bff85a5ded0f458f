//! A caller's connection: exchange after exchange until one side has had enough.
//!
//! `server` spawns one per accepted connection. Between exchanges it holds no buffer but a small read in flight; the
//! futures of an exchange and of an end are boxed, so that one that waits stays small. A head that does not come in
//! time ends the connection without an answer, by its deadline.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::exchange::{self, Caller, Next};
use crate::http::head::{self, Head, HeadError, RequestLine};
use crate::net::{Fill, Side, Stream};
use crate::worker::Worker;

/// Room for a head and a short body.
const READ_BYTES: usize = 4 * 1024;
/// A caller whose requests follow each other faster than this is busy: its next request gets room for all of it.
const BRISK_PAUSE: Duration = Duration::from_secs(1);
/// How much of a refused request's rest is read before the connection is closed under it, and for how long: enough
/// that an ordinary caller gets to read its answer instead of a reset (RFC 9112 section 9.6).
const LINGER_BYTES_MAX: usize = 256 * 1024;
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves a connection to its end. `peer` is where it comes from, if that is an address.
pub fn serve(stream: Stream, peer: Option<IpAddr>, worker: Rc<Worker>) -> impl Future<Output = ()> {
    let (reader, writer, hangup) = stream.split();
    let deadline = worker.deadlines.register(Side::Downstream, hangup);
    let mut caller = Caller {
        reader,
        writer,
        deadline,
        peer,
    };
    // Not an `async fn`: its future would keep room for the stream beside the caller that was made of it.
    async move {
        // A new caller's request is on its way: it is waited for, even by a router that goes down.
        let mut wait = Wait::First;
        let mut waits_since = Instant::now();
        let end = loop {
            let (head, arrived) = match next_head(&mut caller, &worker, wait, waits_since).await {
                Some(Ok(found)) => found,
                Some(Err(error)) => {
                    Box::pin(exchange::refuse_head(&mut caller, &worker, error)).await;
                    break Next::Linger;
                }
                None => break Next::Close,
            };
            let over = Box::pin(exchange::run(&mut caller, head, arrived, &worker)).await;
            if over.next != Next::Exchange {
                break over.next;
            }
            (wait, waits_since) = (Wait::Next, over.at);
        };
        if end == Next::Linger {
            Box::pin(linger(&mut caller)).await;
        }
    }
}

/// Which request is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    First,
    Next,
}

/// Waits for the next request's head, and tells when it was there. None when the connection ended, or stayed silent
/// for too long, before one came.
async fn next_head(
    caller: &mut Caller,
    worker: &Worker,
    wait: Wait,
    waits_since: Instant,
) -> Option<Result<(Head<RequestLine>, Instant), HeadError>> {
    let mut scanned = 0;
    let mut begun = false;
    caller.deadline.arm(
        waits_since,
        match wait {
            Wait::First => worker.config.timeouts.head,
            Wait::Next => worker.config.timeouts.keepalive,
        },
    );
    loop {
        if !caller.reader.bytes().is_empty() {
            let limits = worker.head_limits();
            match head::request(caller.reader.bytes(), &mut scanned, &limits).transpose() {
                Some(done) => {
                    let now = Instant::now();
                    let brisk = wait == Wait::Next && now - waits_since < BRISK_PAUSE;
                    caller.reader.set_brisk(brisk);
                    return Some(done.map(|head| (head, now)));
                }
                None if !begun => {
                    begun = true;
                    let timeout = worker.config.timeouts.head;
                    caller.deadline.arm(Instant::now(), timeout);
                }
                None => {}
            }
        }
        let idle = wait == Wait::Next && !begun;
        caller.deadline.set_idle(idle);
        if worker.draining() && idle {
            return None;
        }
        let fill = if begun {
            caller.reader.fill(READ_BYTES).await
        } else {
            caller.reader.arm_next();
            caller.reader.fill(READ_BYTES).await
        };
        caller.deadline.set_idle(false);
        if !matches!(fill, Fill::Bytes(_)) {
            return None;
        }
    }
}

/// Closes so that the caller can still read its answer: our end first, then a bounded read of what is under way.
async fn linger(caller: &mut Caller) {
    caller.deadline.arm(Instant::now(), LINGER_TIMEOUT);
    caller.writer.finish().await;
    let mut read_bytes = 0;
    while let Fill::Bytes(count) = caller.reader.fill(READ_BYTES).await {
        drop(caller.reader.take());
        read_bytes += count;
        if read_bytes > LINGER_BYTES_MAX {
            break;
        }
    }
}
