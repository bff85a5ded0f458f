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
