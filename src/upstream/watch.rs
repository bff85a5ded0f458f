//! An eye on the caller while the router is busy with the provider: when the caller leaves, the provider's connection
//! is shut down at once, since a provider bills for answers that nobody reads.
//!
//! `exchange` makes one as soon as a request has been read whole; `send` and `relay` wait under it. The read that it
//! keeps in flight is already the one of the caller's next request.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::net::{Deadline, Fill, Reader};

/// How much a caller may send ahead while its answer streams; beyond it, it is no longer watched.
const AHEAD_BYTES_MAX: usize = 16 * 1024;

/// Looks after the caller's connection while the router is busy with the provider's: whenever it has to wait, since
/// looking costs as much as the read that is looked at.
pub struct Watch<'a> {
    caller: &'a mut Reader,
}

impl<'a> Watch<'a> {
    /// Starts to watch; the request must have been read whole.
    pub fn new(caller: &'a mut Reader) -> Self {
        caller.arm_next();
        Self { caller }
    }

    /// Whether the caller has left.
    pub fn left(&self) -> bool {
        self.caller.ended().is_some()
    }

    /// Polls `future` to its end, and shuts `upstream` down when the caller leaves meanwhile.
    pub async fn during<F: Future>(
        &mut self,
        upstream: &Deadline,
        mut future: Pin<&mut F>,
    ) -> F::Output {
        poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            if polled.is_pending() {
                self.poll(cx, upstream);
            }
            polled
        })
        .await
    }

    /// Polls `future` to its end, noticing meanwhile whether the caller leaves; for what cannot be hurried.
    pub async fn beside<F: Future>(&mut self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            if polled.is_pending() {
                self.poll_caller(cx);
            }
            polled
        })
        .await
    }

    /// Polls `write`, which goes to the caller, to its end. When the caller leaves meanwhile, both connections are shut
    /// down: it may have stopped reading long before, and a provider that is stuck behind it sees nothing less. Mostly
    /// the write is through when it is asked again, so that the caller is only looked at if it is not: then something
    /// else woke, and that may be the caller's read, which this task has waited for before.
    pub async fn while_writing<F: Future>(
        &mut self,
        upstream: &Deadline,
        downstream: &Deadline,
        mut write: Pin<&mut F>,
    ) -> F::Output {
        let mut asked = false;
        poll_fn(|cx| {
            let polled = write.as_mut().poll(cx);
            if polled.is_pending() && std::mem::replace(&mut asked, true) && self.poll_caller(cx) {
                upstream.hang_up();
                downstream.hang_up();
            }
            polled
        })
        .await
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, upstream: &Deadline) {
        if self.poll_caller(cx) {
            upstream.hang_up();
        }
    }

    /// Whether the caller left just now.
    fn poll_caller(&mut self, cx: &mut Context<'_>) -> bool {
        while self.caller.ended().is_none() && self.caller.bytes().len() < AHEAD_BYTES_MAX {
            self.caller.arm_next();
            match self.caller.poll_fill(cx, 0) {
                Poll::Pending => return false,
                // The next request, sent ahead: keep watching behind it.
                Poll::Ready(Fill::Bytes(_)) => {}
                Poll::Ready(_) => return true,
            }
        }
        false
    }
}
