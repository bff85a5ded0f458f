//! The reading direction of a connection: one buffer, at most one read in flight, which nobody ever cancels.
//!
//! Because a read in flight may be waited for by whoever is interested at the moment, one read serves several ends:
//! on the caller's side it notices that the caller left while its answer streams, and it is already the read of the
//! next request; on a pooled upstream connection it notices that the provider closed, and it is already the read of
//! the next response.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::stream::ReadHalf;

/// What a finished read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// This many bytes were appended to the buffer.
    Bytes(usize),
    /// The peer ended its direction in order.
    End,
    /// The connection failed: reset, broken TLS, shut down by a deadline.
    Failed(io::ErrorKind),
}

/// A read half with its buffer.
pub struct Reader {
    /// Received and not yet used; empty while a read of `fill` is in flight into it.
    buf: Vec<u8>,
    port: Rc<Port>,
    /// The loop that performs reads: one allocation per connection instead of one per read.
    task: Pin<Box<dyn Future<Output = ()>>>,
    in_flight: bool,
    /// Set once the direction has ended; no read is started after it.
    ended: Option<Fill>,
}

#[derive(Default)]
struct Port {
    wanted: Cell<Option<Vec<u8>>>,
    done: Cell<Option<(io::Result<usize>, Vec<u8>)>>,
}

async fn read_loop(mut half: ReadHalf, port: Rc<Port>) {
    loop {
        let buf = poll_fn(|_| match port.wanted.take() {
            Some(buf) => Poll::Ready(buf),
            None => Poll::Pending,
        })
        .await;
        let done = half.read_more(buf).await;
        port.done.set(Some(done));
    }
}

impl Reader {
    pub(super) fn new(half: ReadHalf) -> Self {
        let port = Rc::new(Port::default());
        let task = Box::pin(read_loop(half, port.clone()));
        Self {
            buf: Vec::new(),
            port,
            task,
            in_flight: false,
            ended: None,
        }
    }

    /// Bytes received and not yet taken.
    pub fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Takes all received bytes with their allocation.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buf)
    }

    /// Puts bytes back in front of what came since (a request that was pipelined behind another).
    pub fn put_back(&mut self, mut bytes: Vec<u8>) {
        if bytes.is_empty() && bytes.capacity() <= self.buf.capacity() {
            return;
        }
        bytes.extend_from_slice(&self.buf);
        self.buf = bytes;
    }

    /// Whether the peer's direction has ended, and how.
    pub fn ended(&self) -> Option<Fill> {
        self.ended
    }

    /// Starts a read of about `spare` bytes, if none is in flight, without waiting for it. Bytes that are there
    /// already stay visible.
    pub fn arm(&mut self, spare: usize) {
        if !self.in_flight && self.ended.is_none() {
            let mut buf = if self.buf.is_empty() {
                self.take()
            } else {
                Vec::new()
            };
            // A read that may stay in flight for minutes must not hold the buffer of a large body.
            if buf.capacity() > 4 * spare {
                buf = Vec::new();
            }
            self.submit(buf, spare);
            // Submits the operation; one that completes at once is kept by the port until somebody asks.
            let _ = self
                .task
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    /// Waits for the read in flight; starts one with room for at least `spare` bytes if there is none.
    pub async fn fill(&mut self, spare: usize) -> Fill {
        poll_fn(|cx| self.poll_fill(cx, spare)).await
    }

    /// See [`Reader::fill`]. A read started here appends in place: until it completes, `bytes` is empty.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, spare: usize) -> Poll<Fill> {
        if !self.in_flight {
            if let Some(ended) = self.ended {
                return Poll::Ready(ended);
            }
            let buf = self.take();
            self.submit(buf, spare);
        }
        let _ = self.task.as_mut().poll(cx);
        match self.port.done.take() {
            None => Poll::Pending,
            Some((result, buf)) => Poll::Ready(self.complete(result, buf)),
        }
    }

    /// Looks whether the read in flight has completed, without waiting and without a waker.
    pub fn try_fill(&mut self) -> Option<Fill> {
        if !self.in_flight {
            return self.ended;
        }
        match self.poll_fill(&mut Context::from_waker(Waker::noop()), 0) {
            Poll::Ready(fill) => Some(fill),
            Poll::Pending => None,
        }
    }

    fn submit(&mut self, mut buf: Vec<u8>, spare: usize) {
        buf.reserve(spare.max(1));
        self.port.wanted.set(Some(buf));
        self.in_flight = true;
    }

    fn complete(&mut self, result: io::Result<usize>, buf: Vec<u8>) -> Fill {
        self.in_flight = false;
        if self.buf.is_empty() {
            self.buf = buf;
        } else {
            self.buf.extend_from_slice(&buf);
        }
        let fill = match result {
            Ok(0) => Fill::End,
            Ok(count) => return Fill::Bytes(count),
            Err(error) => Fill::Failed(error.kind()),
        };
        self.ended = Some(fill);
        fill
    }
}
