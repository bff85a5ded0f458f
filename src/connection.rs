//! A caller's connection: exchange after exchange until one side has had enough.
//!
//! `server` spawns one per accepted connection. Between exchanges it holds no buffer but a small read in flight; the
//! future of an exchange is boxed and lives only as long as the exchange. A head that does not come in time ends the
//! connection without an answer, by its deadline.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::exchange::{self, Caller, Next};
use crate::http::head::{self, Head, HeadError, RequestLine};
use crate::net::{Fill, Side, Stream};
use crate::worker::Worker;

/// Room for a head and a short body.
const READ_BYTES: usize = 8 * 1024;
/// Room for the read that waits for the next request.
const IDLE_READ_BYTES: usize = 256;
/// How much of a refused request's rest is read before the connection is closed under it, and for how long: enough
/// that an ordinary caller gets to read its answer instead of a reset (RFC 9112 section 9.6).
const LINGER_BYTES_MAX: usize = 256 * 1024;
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves a connection to its end. `peer` is where it comes from, if that is an address.
pub async fn serve(stream: Stream, peer: Option<IpAddr>, worker: Rc<Worker>) {
    let (reader, writer, hangup) = stream.split();
    let deadline = worker.deadlines.register(Side::Downstream, hangup);
    let mut caller = Caller {
        reader,
        writer,
        deadline,
        peer,
    };
    // A new caller's request is on its way: it is waited for, even by a router that goes down.
    let mut wait = Wait::First;
    loop {
        let head = match next_head(&mut caller, &worker, wait).await {
            Some(Ok(head)) => head,
            Some(Err(error)) => {
                exchange::refuse_head(&mut caller, &worker, error).await;
                return linger(caller).await;
            }
            None => return,
        };
        match Box::pin(exchange::run(&mut caller, head, &worker)).await {
            Next::Exchange => wait = Wait::Next,
            Next::Linger => return linger(caller).await,
            Next::Close => return,
        }
    }
}

/// Which request is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    First,
    Next,
}

/// Waits for the next request's head. None when the connection ended, or stayed silent for too long, before one came.
async fn next_head(
    caller: &mut Caller,
    worker: &Worker,
    wait: Wait,
) -> Option<Result<Head<RequestLine>, HeadError>> {
    let limits = worker.head_limits();
    let timeouts = &worker.config.timeouts;
    let idle_timeout = match wait {
        Wait::First => timeouts.head,
        Wait::Next => timeouts.keepalive,
    };
    let mut scanned = 0;
    let mut begun = false;
    caller.deadline.arm(Instant::now(), idle_timeout);
    loop {
        if !caller.reader.bytes().is_empty() {
            match head::request(caller.reader.bytes(), &mut scanned, &limits).transpose() {
                Some(done) => return Some(done),
                None if !begun => {
                    begun = true;
                    caller.deadline.arm(Instant::now(), timeouts.head);
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
            caller.reader.arm(IDLE_READ_BYTES);
            caller.reader.fill(IDLE_READ_BYTES).await
        };
        caller.deadline.set_idle(false);
        if !matches!(fill, Fill::Bytes(_)) {
            return None;
        }
    }
}

/// Closes so that the caller can still read its answer: our end first, then a bounded read of what is under way.
async fn linger(mut caller: Caller) {
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
