//! What the kernel knows of the other end of a TCP connection: how much it has taken, and whether it still answers.
//!
//! The wheel asks, and only where an operation takes long: one look costs some microseconds, because the runtime's
//! streams give away a bare number, and a descriptor that may be asked has to be got of it first.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::libc;
use nix::sys::socket::sockopt::GetStruct;
use nix::sys::socket::{ControlMessage, MsgFlags, getsockopt, sendmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// The kernel's `tcp_info` as far as `tcpi_notsent_bytes`, which stands in it since Linux 4.6.
type Info = [u8; 148];
/// Where in it stand: how often the oldest unacknowledged segment was sent again, how many probes of a closed window
/// (or of a silent peer) are unanswered, segments under way, milliseconds since the last acknowledgement, bytes
/// acknowledged, bytes not yet sent.
const RETRANSMITS_AT: usize = 2;
const PROBES_AT: usize = 3;
const UNACKED_AT: usize = 24;
const LAST_ACK_AT: usize = 56;
const BYTES_AT: usize = 120;
const UNSENT_AT: usize = 144;

#[derive(Clone, Copy)]
struct TcpInfo;

nix::getsockopt_impl!(
    TcpInfo,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    Info,
    GetStruct<Info>
);

/// One look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    /// All that the peer has taken since the connection began.
    pub(super) bytes: u64,
    /// Whether there is more for it.
    pub(super) more: bool,
    /// Time since it acknowledged anything, be it a probe.
    since: Duration,
    /// It has been asked more than once, and has not answered.
    unanswered: bool,
}

impl Acknowledged {
    /// Looks; an error for a socket that is none of TCP's.
    pub(super) fn of(fd: RawFd) -> io::Result<Self> {
        let info = getsockopt(&asked(fd)?, TcpInfo)?;
        let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|n| info[at + n]));
        let under_way = word(UNACKED_AT) > 0;
        let lost = under_way && info[RETRANSMITS_AT] > 0;
        Ok(Self {
            bytes: u64::from_ne_bytes(std::array::from_fn(|n| info[BYTES_AT + n])),
            more: under_way || word(UNSENT_AT) > 0,
            since: Duration::from_millis(word(LAST_ACK_AT).into()),
            // One probe is mostly just under way.
            unanswered: lost || info[PROBES_AT] > 1,
        })
    }

    /// Whether the peer's machine has left everything unanswered for so long. One that only reads nothing answers.
    pub(super) fn nothing_for(&self, time: Duration) -> bool {
        self.unanswered && self.since >= time
    }
}

/// The same socket once more, from its number alone: sent to oneself, it comes back as a descriptor.
fn asked(fd: RawFd) -> io::Result<OwnedFd> {
    let (near, far) = UnixStream::pair()?;
    let byte = [IoSlice::new(&[0])];
    let rights = [ControlMessage::ScmRights(&[fd])];
    sendmsg::<()>(near.as_raw_fd(), &byte, &rights, MsgFlags::empty(), None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let (mut byte, flags) = ([0], RecvFlags::CMSG_CLOEXEC);
    recvmsg(&far, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let found = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;

    /// Waits for what the kernel does in its own time.
    fn eventually(near: &TcpStream, holds: impl Fn(Acknowledged) -> bool) {
        let started = Instant::now();
        while !holds(Acknowledged::of(near.as_raw_fd()).unwrap()) {
            assert!(started.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_peer_that_reads_nothing_is_not_one_that_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        near.write_all(b"hello").unwrap();
        eventually(&near, |it| it.bytes >= 5 && !it.more);
        near.set_nonblocking(true).unwrap();
        while near.write(&[0; 65536]).is_ok() {}
        // Probes of the closed window go out, and are answered.
        std::thread::sleep(Duration::from_millis(1500));
        let full = Acknowledged::of(near.as_raw_fd()).unwrap();
        assert!(
            full.more && !full.nothing_for(Duration::from_millis(1200)),
            "{full:?}"
        );
        // Once it reads, more is taken.
        far.set_nonblocking(true).unwrap();
        let mut room = vec![0; 1 << 20];
        eventually(&near, |it| {
            while (&far).read(&mut room.clone()).is_ok_and(|read| read > 0) {}
            it.bytes > full.bytes
        });
        while far.read(&mut room).is_ok_and(|read| read > 0) {}
        // Its machine vanishes: BPF, no byte of any packet.
        let nothing = [socket2::SockFilter::new(0x06, 0, 0, 0)];
        socket2::SockRef::from(&far)
            .attach_filter(&nothing)
            .unwrap();
        near.set_nonblocking(false).unwrap();
        near.write_all(b"anybody?").unwrap();
        eventually(&near, |it| it.nothing_for(Duration::from_secs(1)));
    }

    #[test]
    fn other_sockets_have_nothing_to_tell() {
        let (near, _far) = UnixStream::pair().unwrap();
        assert!(Acknowledged::of(near.as_raw_fd()).is_err());
    }
}
