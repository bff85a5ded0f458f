//! A caller's connection: exchange after exchange until one side has had enough.
//!
//! `server` spawns one per accepted connection. While it waits it holds no buffer but a small read in flight; the
//! futures of exchanges and of an end are boxed, so that one that waits stays small. Exchanges that follow each other
//! without a pause share one box: it weighs three and a half kilobytes, and to make it anew would be to touch all of
//! them. A head that does not come in time ends the connection without an answer, by its deadline.

use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::exchange::{self, Caller, Next};
use crate::http::head::{self, Head, HeadError, RequestLine};
use crate::net::{Fill, Side, Stream};
use crate::worker::Worker;

/// Room for a head and a short body.
const READ_BYTES: usize = 4 * 1024;
/// A caller whose requests follow each other faster than this is busy: its next request gets room for all of it, and
/// the box of the one before.
const BRISK_PAUSE: Duration = Duration::from_secs(1);
/// How long a kept connection is kept by a router that goes down. Whoever sends requests over it may have sent one
/// before hearing of the end, and most cannot send it again; its answer says that it is the last.
pub const LAST_PAUSE: Duration = Duration::from_secs(1);
/// The rest of a refused request is read and dropped before the connection is closed: most callers write all of it
/// before they read, and a reset would take the answer from them (RFC 9112 section 9.6). Up to so many times the
/// largest body that is served: what is refused for its size is mostly not much larger.
const LINGER_BODIES_MAX: usize = 4;
/// A caller that has stopped sending has its answer, or lost a segment and repeats it within this.
const LINGER_PAUSE: Duration = Duration::from_secs(2);
/// The largest body that is served, at 10 Mbit/s.
const LINGER_TIMEOUT: Duration = Duration::from_secs(30);
/// What is refused takes at most this part of all connections (one in so many) from what is served.
const LINGERING_SHARE: usize = 8;
/// Few reads for a large body; the buffer is one connection's for all of them.
const LINGER_READ_BYTES: usize = 64 * 1024;

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
        let mut since = Instant::now();
        let end = loop {
            let came = match next_head(&mut caller, &worker, wait, since).await {
                Came::End => break Next::Close,
                came => came,
            };
            match Box::pin(exchanges(&mut caller, &worker, came, since)).await {
                Ok(over_at) => (wait, since) = (Wait::Next, over_at),
                Err(end) => break end,
            }
        };
        if end == Next::Linger {
            Box::pin(linger(&mut caller, &worker)).await;
        }
    }
}

/// Serves what came, and what follows it without a pause. Returns since when the caller pauses, or how the connection
/// ends.
async fn exchanges(
    caller: &mut Caller,
    worker: &Worker,
    mut came: Came,
    mut since: Instant,
) -> Result<Instant, Next> {
    loop {
        match came {
            Came::Head(head, arrived) => {
                let over = exchange::run(caller, &head, arrived, worker).await;
                head.recycle();
                if over.next != Next::Exchange {
                    return Err(over.next);
                }
                since = over.at;
            }
            Came::Refused(error) => {
                Box::pin(exchange::refuse_head(caller, worker, error)).await;
                return Err(Next::Linger);
            }
            Came::End => return Err(Next::Close),
            Came::Pause => return Ok(since),
        }
        // One request alone says nothing of a next one: thousands of such callers would hold a box each for a while.
        if !caller.reader.brisk() {
            return Ok(since);
        }
        came = next_head(caller, worker, Wait::Soon, since).await;
    }
}

/// Which request is waited for, and for how long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The first of a connection.
    First,
    /// One that follows another.
    Next,
    /// The same, until the caller has paused.
    Soon,
}

/// What a wait came to.
enum Came {
    /// A head, and when it was whole.
    Head(Head<RequestLine>, Instant),
    /// A head that is none.
    Refused(HeadError),
    /// The connection's end, or silence for too long.
    End,
    /// Nothing yet.
    Pause,
}

/// Waits for the next request's head, after an exchange that was over at `since`.
async fn next_head(caller: &mut Caller, worker: &Worker, wait: Wait, since: Instant) -> Came {
    let timeouts = &worker.config.timeouts;
    // Who waited before is ended by the drain, in the same time.
    let draining = worker.draining();
    if draining {
        caller.deadline.set_late();
    }
    let mut scanned = 0;
    let mut begun = false;
    match wait {
        Wait::First => caller.deadline.arm(since, timeouts.head),
        Wait::Next if draining => caller
            .deadline
            .arm(since, LAST_PAUSE.min(timeouts.keepalive)),
        Wait::Next => caller.deadline.arm(since, timeouts.keepalive),
        Wait::Soon => caller
            .deadline
            .remind(since, BRISK_PAUSE.min(timeouts.keepalive)),
    }
    loop {
        if !caller.reader.bytes().is_empty() {
            let limits = worker.head_limits();
            match head::request(caller.reader.bytes(), &mut scanned, &limits) {
                Ok(Some(head)) => {
                    let now = Instant::now();
                    // It came in time, and what is done for it now has deadlines of its own.
                    caller.deadline.disarm();
                    if worker.draining() {
                        caller.deadline.set_late();
                    }
                    let brisk = wait != Wait::First && now < since + BRISK_PAUSE;
                    caller.reader.set_brisk(brisk);
                    return Came::Head(head, now);
                }
                Err(error) => return Came::Refused(error),
                Ok(None) if !begun => {
                    begun = true;
                    caller.deadline.arm(Instant::now(), timeouts.head);
                }
                Ok(None) => {}
            }
        }
        caller
            .deadline
            .set_idle(wait != Wait::First && !begun && !draining);
        if !begun {
            caller.reader.arm_next();
        }
        let (reader, deadline) = (&mut caller.reader, &caller.deadline);
        let fill = poll_fn(|cx| match reader.poll_fill(cx, READ_BYTES) {
            Poll::Pending if wait == Wait::Soon => deadline.poll_reminder(cx).map(|()| None),
            fill => fill.map(Some),
        });
        match fill.await {
            None => return Came::Pause,
            Some(Fill::Bytes(_)) => caller.deadline.set_idle(false),
            Some(_) => return Came::End,
        }
    }
}

/// Closes so that the caller can still read its answer: our end first, then a bounded read of what is under way.
async fn linger(caller: &mut Caller, worker: &Worker) {
    let until = Instant::now() + LINGER_TIMEOUT;
    let arm = |caller: &Caller| {
        let now = Instant::now();
        let pause = LINGER_PAUSE.min(until.saturating_duration_since(now));
        caller.deadline.arm(now, pause);
    };
    arm(caller);
    caller.writer.finish().await;
    let lingering_max = worker.connections_max.div_ceil(LINGERING_SHARE);
    let Some(_lingering) = worker.shared.linger(lingering_max) else {
        return;
    };
    let mut left_bytes = LINGER_BODIES_MAX.saturating_mul(worker.config.limits.body_bytes_max);
    while left_bytes > 0
        && let Fill::Bytes(count) = caller.reader.fill(LINGER_READ_BYTES).await
    {
        caller.reader.discard(caller.reader.bytes().len());
        left_bytes = left_bytes.saturating_sub(count);
        arm(caller);
    }
}
