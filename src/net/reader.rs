//! The reading direction of a connection: one buffer, at most one read in flight, which nobody ever cancels.
//!
//! Because a read in flight may be waited for by whoever is interested at the moment, one read serves several ends:
//! on the caller's side it notices that the caller left while its answer streams, and it is already the read of the
//! next request; on a pooled upstream connection it notices that the provider closed, and it is already the read of
//! the next response.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use monoio::buf::IoBufMut as _;
use monoio::io::AsyncReadRent;

use super::buffers::{self, Ready};
use super::runtime::sleep;

/// Room for the read that waits for an idle caller's next request: enough to notice it, little enough for thousands.
const IDLE_READ_BYTES: usize = 24;
/// Room for the read that waits for a busy caller's next request: mostly all of it comes with that one read.
const READY_READ_BYTES: usize = 4 * 1024;
/// So many reads in a row may find their bytes there; then the core's others have their turn. A peer that is always
/// faster would keep the core otherwise: with epoll a read that has something to read does not wait.
const UNWAITED_MAX: u8 = 8;

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
    /// The peer's next message will come soon.
    brisk: bool,
    /// Held while a read with a whole buffer waits for it.
    ready: Option<Ready>,
    /// Set once the direction has ended; no read is started after it.
    ended: Option<Fill>,
    /// How many reads in a row were not waited for.
    unwaited: u8,
    /// The others' turn.
    turn: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// What lies between a reader and its loop. Two cells, because most looks find nothing, and one to be told apart would be
/// taken out and put back each time.
#[derive(Default)]
struct Port {
    /// Room for the read that is to be made.
    wanted: Cell<Option<Vec<u8>>>,
    /// What came of it.
    done: Cell<Option<(io::Result<usize>, Vec<u8>)>>,
}

/// Written once for each kind of transport, so that a plain one's does not weigh what TLS needs.
async fn read_loop(mut half: impl AsyncReadRent, port: Rc<Port>) {
    loop {
        let wanted = |_: &mut Context<'_>| port.wanted.take().map_or(Poll::Pending, Poll::Ready);
        let buf = poll_fn(wanted).await;
        let start = buf.len();
        let (result, slice) = half.read(buf.slice_mut(start..)).await;
        let mut buf = slice.into_inner();
        if result.is_err() {
            buf.truncate(start);
        }
        port.done.set(Some((result, buf)));
    }
}

/// The same over TLS, whose reading panics where a record is broken while a write is in flight: it would send an alert,
/// and the buffer for it is the write's. The peer's doing ends its connection, and not the exchange without a trace.
async fn tls_read_loop(half: impl AsyncReadRent, port: Rc<Port>) {
    let mut read = pin!(read_loop(half, port.clone()));
    poll_fn(|cx| {
        let poll = || read.as_mut().poll(cx);
        catch_unwind(AssertUnwindSafe(poll)).unwrap_or(Poll::Ready(()))
    })
    .await;
    let broken = Err(io::ErrorKind::InvalidData.into());
    port.done.set(Some((broken, Vec::new())));
    // Nothing is read behind it.
    std::future::pending().await
}

impl Reader {
    pub(super) fn new(half: impl AsyncReadRent + 'static) -> Self {
        let port = Rc::<Port>::default();
        Self::over(Box::pin(read_loop(half, port.clone())), port)
    }

    pub(super) fn over_tls(half: impl AsyncReadRent + 'static) -> Self {
        let port = Rc::<Port>::default();
        Self::over(Box::pin(tls_read_loop(half, port.clone())), port)
    }

    fn over(task: Pin<Box<dyn Future<Output = ()>>>, port: Rc<Port>) -> Self {
        Self {
            buf: Vec::new(),
            port,
            task,
            in_flight: false,
            brisk: false,
            ready: None,
            ended: None,
            unwaited: 0,
            turn: None,
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

    /// Drops the first `count` bytes, or what there is of them.
    pub fn discard(&mut self, count: usize) {
        self.buf.drain(..count.min(self.buf.len()));
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

    /// Moves what was received into a large buffer, if one with room for `bytes` waits and it would have to grow.
    pub fn make_room(&mut self, bytes: usize) {
        if !self.in_flight
            && self.buf.capacity() < bytes
            && let Some(mut larger) = buffers::large(bytes)
        {
            larger.extend_from_slice(&self.buf);
            buffers::recycle(std::mem::replace(&mut self.buf, larger));
        }
    }

    /// Says whether the peer's next message is expected soon: then a read waits for it with room for all of it, as far
    /// as this core has that room to spare.
    pub fn set_brisk(&mut self, brisk: bool) {
        self.brisk = brisk;
    }

    /// Whether it is.
    pub fn brisk(&self) -> bool {
        self.brisk
    }

    /// Starts the read that waits for the peer's next message, if none is in flight.
    pub fn arm_next(&mut self) {
        if self.in_flight {
            return;
        }
        self.ready = if self.brisk { Ready::reserve() } else { None };
        self.arm(match self.ready {
            Some(_) => READY_READ_BYTES,
            None => IDLE_READ_BYTES,
        });
    }

    /// Waits for the read in flight; starts one with room for at least `spare` bytes if there is none.
    pub async fn fill(&mut self, spare: usize) -> Fill {
        poll_fn(|cx| self.poll_fill(cx, spare)).await
    }

    /// See [`Reader::fill`]. A read started here appends in place: until it completes, `bytes` is empty.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, spare: usize) -> Poll<Fill> {
        if let Some(turn) = &mut self.turn {
            ready!(turn.as_mut().poll(cx));
            self.turn = None;
        }
        if !self.in_flight {
            if let Some(ended) = self.ended {
                return Poll::Ready(ended);
            }
            let buf = self.take();
            self.submit(buf, spare);
        }
        let fill = self.poll_in_flight(cx);
        self.unwaited = match fill {
            Poll::Ready(_) => self.unwaited + 1,
            Poll::Pending => 0,
        };
        if self.unwaited == UNWAITED_MAX {
            self.unwaited = 0;
            // Until the next tick of the loop's clock: what is only woken again would leave no time for timers.
            self.turn = Some(Box::pin(sleep(Duration::ZERO)));
        }
        fill
    }

    fn poll_in_flight(&mut self, cx: &mut Context<'_>) -> Poll<Fill> {
        let _ = self.task.as_mut().poll(cx);
        match self.port.done.take() {
            Some((result, buf)) => Poll::Ready(self.complete(result, buf)),
            None => Poll::Pending,
        }
    }

    /// Looks whether the read in flight has completed, without waiting and without a waker.
    pub fn try_fill(&mut self) -> Option<Fill> {
        if !self.in_flight {
            return self.ended;
        }
        match self.poll_in_flight(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(fill) => Some(fill),
            Poll::Pending => None,
        }
    }

    fn submit(&mut self, mut buf: Vec<u8>, spare: usize) {
        let spare = spare.max(1);
        // Where little would be moved, a buffer that is there already is cheaper than one that grows.
        if buf.capacity() - buf.len() < spare && buf.len() <= spare / 8 {
            let mut larger = buffers::buffer(buf.len() + spare);
            larger.extend_from_slice(&buf);
            buffers::recycle(std::mem::replace(&mut buf, larger));
        } else {
            buf.reserve(spare);
        }
        self.port.wanted.set(Some(buf));
        self.in_flight = true;
    }

    fn complete(&mut self, result: io::Result<usize>, buf: Vec<u8>) -> Fill {
        self.in_flight = false;
        self.ready = None;
        if self.buf.is_empty() {
            self.buf = buf;
        } else {
            self.buf.extend_from_slice(&buf);
            buffers::recycle(buf);
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

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Shutdown, TcpStream};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::net::{self, BoundAddr, BoundListener, Deadlines, Side};

    /// Runs `test` with both ends of a TCP connection: ours on the loop, the peer's blocking.
    fn connected<F: Future<Output = ()>>(test: impl FnOnce(net::Stream, TcpStream) -> F) {
        let (bound, mut listeners) = BoundListener::tcp("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let BoundAddr::Tcp(address) = bound else {
            panic!("not TCP")
        };
        let peer = TcpStream::connect(address).unwrap();
        net::run(async {
            let listener = listeners.remove(0).open().unwrap();
            let accepted = listener.accept().await.unwrap();
            test(accepted.open().unwrap(), peer).await;
        })
        .unwrap();
    }

    #[test]
    fn an_armed_read_serves_whoever_waits() {
        connected(|stream, mut peer| async move {
            let (mut reader, _writer, _) = stream.split();
            reader.arm(4);
            assert_eq!(reader.try_fill(), None);
            reader.put_back(b"before ".to_vec());
            assert_eq!(
                reader.bytes(),
                b"before ",
                "visible while a read is in flight"
            );
            peer.write_all(b"abc").unwrap();
            assert_eq!(reader.fill(1000).await, Fill::Bytes(3));
            assert_eq!(reader.bytes(), b"before abc");
            peer.write_all(b"def").unwrap();
            assert_eq!(reader.fill(1000).await, Fill::Bytes(3), "appended in place");
            assert_eq!(reader.take(), b"before abcdef");
            peer.shutdown(Shutdown::Write).unwrap();
            assert_eq!(reader.fill(1).await, Fill::End);
            assert_eq!(
                (reader.fill(1).await, reader.try_fill()),
                (Fill::End, Some(Fill::End))
            );
        });
    }

    #[test]
    fn a_deadline_ends_a_read_without_losing_bytes() {
        connected(|stream, mut peer| async move {
            let wheel = Deadlines::new(Instant::now());
            let deadline = wheel.register(Side::Downstream, stream.hangup());
            let (mut reader, _writer, _) = stream.split();
            peer.write_all(b"abc").unwrap();
            assert_eq!(reader.fill(10).await, Fill::Bytes(3));
            reader.arm(10);
            deadline.arm(Instant::now(), Duration::from_millis(10));
            net::sleep(Duration::from_millis(60)).await;
            assert_eq!(wheel.advance(Instant::now()), 1);
            assert!(!matches!(reader.fill(10).await, Fill::Bytes(_)));
            assert!(deadline.fired());
            assert_eq!(reader.bytes(), b"abc");
        });
    }

    #[test]
    fn writing_and_reading_run_at_once() {
        connected(|stream, peer| async move {
            let (mut reader, mut writer, _) = stream.split();
            let echo = std::thread::spawn(move || {
                let mut peer_out = peer.try_clone().unwrap();
                std::io::copy(&mut &peer, &mut peer_out).unwrap();
            });
            let sent: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
            let expected = sent.clone();
            net::spawn(async move {
                assert!(writer.write_all(sent).await.0.is_ok());
                writer.finish().await;
                // Dropping the writer would close the connection under the reader.
                net::sleep(Duration::from_secs(5)).await;
            });
            while reader.bytes().len() < expected.len() {
                assert!(matches!(reader.fill(64 * 1024).await, Fill::Bytes(_)));
            }
            assert!(reader.take() == expected);
            assert_eq!(reader.fill(1).await, Fill::End);
            echo.join().unwrap();
        });
    }
}
