//! The wheel: what fires when, what is moved, what is forgotten.

use super::*;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

fn closed(peer: &UnixStream) -> bool {
    use std::io::Read;
    peer.set_nonblocking(true).unwrap();
    matches!((&*peer).read(&mut [0; 1]), Ok(0))
}

#[test]
fn fires_once_due_and_not_before() {
    let start = Instant::now();
    let wheel = Deadlines::new(start);
    let (near, far) = UnixStream::pair().unwrap();
    let deadline = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
    deadline.arm(start, Duration::from_secs(1));
    assert_eq!(wheel.advance(start + Duration::from_millis(990)), 0);
    assert!(!closed(&far) && !deadline.fired());
    assert_eq!(wheel.advance(start + Duration::from_millis(1060)), 1);
    assert!(closed(&far) && deadline.fired());
    assert_eq!(wheel.advance(start + Duration::from_secs(9)), 0);
}

#[test]
fn moves_later_and_earlier_and_disarms() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let wheel = Deadlines::new(start);
    let (near, far) = UnixStream::pair().unwrap();
    let deadline = wheel.register(Side::Upstream, Hangup::new(near.as_raw_fd()));
    deadline.arm(start, Duration::from_millis(100));
    deadline.arm(at(50), Duration::from_secs(10));
    assert_eq!(wheel.advance(at(5000)), 0, "moved later");
    deadline.arm(at(5000), Duration::from_millis(100));
    deadline.disarm();
    assert_eq!(wheel.advance(at(20_000)), 0, "disarmed");
    deadline.arm(at(20_000), Duration::from_secs(60));
    deadline.arm(at(20_000), Duration::from_millis(100));
    assert_eq!(wheel.advance(at(20_200)), 1, "moved earlier");
    assert!(closed(&far));
}

#[test]
fn a_reminder_wakes_and_ends_nothing() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let wheel = Deadlines::new(start);
    let (near, far) = UnixStream::pair().unwrap();
    let deadline = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
    let mut cx = Context::from_waker(Waker::noop());
    let mut came = || deadline.poll_reminder(&mut cx).is_ready();
    deadline.remind(start, Duration::from_secs(1));
    wheel.advance(at(990));
    assert!(!came());
    wheel.advance(at(1_060));
    assert!(came() && !deadline.fired() && !closed(&far));
    deadline.arm(at(1_100), Duration::from_secs(2));
    assert!(!came(), "what is armed has forgotten it");
    deadline.remind(at(2_000), Duration::from_secs(1));
    assert!(!came(), "the last one is over");
    deadline.arm(at(2_100), Duration::from_secs(2));
    wheel.advance(at(3_900));
    assert!(!came(), "what is armed reminds nobody");
    assert_eq!(wheel.advance(at(4_200)), 1);
    assert!(deadline.fired() && closed(&far));
}

/// A TCP connection: the end that is written to until it takes no more, and the end that reads or does not.
fn full() -> (std::net::TcpStream, std::net::TcpStream) {
    use std::io::Write;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    while near.write(&[0; 65536]).is_ok() {}
    (near, far)
}

#[test]
fn who_takes_what_is_written_is_let_go_on() {
    use std::io::Read;
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let wheel = Deadlines::new(start);
    let (near, mut far) = full();
    let hangup = Hangup::new(near.as_raw_fd());
    let deadline = wheel.register(Side::Downstream, hangup.clone());
    deadline.arm_writing(start, Duration::from_secs(1));
    assert_eq!(wheel.advance(at(2)), 0, "the first look compares nothing");
    let mut room = vec![0; 1 << 16];
    for second in 1..5 {
        let before = hangup.acknowledged().unwrap().bytes;
        while hangup.acknowledged().unwrap().bytes == before {
            far.read_exact(&mut room).unwrap();
        }
        assert_eq!(wheel.advance(at(2 * second + 2)), 0, "{second}");
    }
    // What the kernel still had on its way may have arrived meanwhile.
    let mut fired = 0;
    for second in 6..20 {
        fired += wheel.advance(at(2 * second));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(fired == 1 && deadline.fired());
}

#[test]
fn who_has_taken_all_has_no_more_time_for_it() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let wheel = Deadlines::new(start);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let deadline = wheel.register(Side::Upstream, Hangup::new(near.as_raw_fd()));
    deadline.arm_writing(start, Duration::from_secs(1));
    assert_eq!(wheel.advance(at(2)), 1);
    assert!(deadline.fired());
}

#[test]
fn a_part_that_has_gone_out_counts_where_the_kernel_cannot_tell() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let wheel = Deadlines::new(start);
    let (near, _far) = UnixStream::pair().unwrap();
    let deadline = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
    deadline.arm_writing(start, Duration::from_secs(1));
    deadline.slot.hangup.set_wrote();
    assert_eq!(wheel.advance(at(2)), 0);
    assert_eq!(wheel.advance(at(4)), 1, "nothing more has");
    assert!(deadline.fired());
}

#[test]
fn who_answers_and_reads_nothing_is_not_gone() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let wheel = Deadlines::new(start);
    let (near, far) = full();
    let deadline = wheel.register(Side::Upstream, Hangup::new(near.as_raw_fd()));
    deadline.expect_acknowledgements(Duration::from_secs(1));
    deadline.arm(start, Duration::from_secs(600));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(wheel.advance(at(5)), 0);
    // From here on its machine drops what comes: BPF, no byte of any packet.
    let nothing = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    socket2::SockRef::from(&far)
        .attach_filter(&nothing)
        .unwrap();
    let mut second = 5;
    while wheel.advance(at(second)) == 0 {
        assert!(second < 599 && !deadline.fired());
        second += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(deadline.deserted() && !deadline.fired());
}

#[test]
fn a_dropped_connection_is_never_hit() {
    let start = Instant::now();
    let wheel = Deadlines::new(start);
    let (near, far) = UnixStream::pair().unwrap();
    let first = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
    first.arm(start, Duration::from_millis(100));
    drop(first);
    assert_eq!(wheel.open_downstream(), 0);
    let second = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
    assert_eq!(wheel.advance(start + Duration::from_secs(5)), 0);
    assert!(!closed(&far) && !second.fired());
    assert_eq!(wheel.open_downstream(), 1);
}

#[test]
fn connections_that_are_gone_leave_nothing_behind_for_long() {
    let start = Instant::now();
    let wheel = Deadlines::new(start);
    let (near, _far) = UnixStream::pair().unwrap();
    let mut kept = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
    for step in 0..10_000 {
        let now = start + step * TICK;
        let passing = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
        passing.arm(now, Duration::from_secs(600));
        drop(std::mem::replace(&mut kept, passing));
        wheel.advance(now);
    }
    let queued: usize = wheel.slots.borrow().queue.values().map(Vec::len).sum();
    assert!(queued as u64 <= HORIZON + 2, "{queued}");
    let end = start + 10_000 * TICK + Duration::from_secs(601);
    assert_eq!(wheel.advance(end), 1, "only the one that is still there");
}

#[test]
fn drain_hangs_up_idle_callers_only() {
    let wheel = Deadlines::new(Instant::now());
    let pairs: Vec<_> = (0..4).map(|_| UnixStream::pair().unwrap()).collect();
    let sides = [
        Side::Downstream,
        Side::Downstream,
        Side::Downstream,
        Side::Upstream,
    ];
    let held: Vec<_> = pairs
        .iter()
        .zip(sides)
        .map(|(pair, side)| wheel.register(side, Hangup::new(pair.0.as_raw_fd())))
        .collect();
    held[0].set_idle(true);
    held[1].set_late();
    let state = || -> Vec<_> {
        let ends = pairs.iter().map(|pair| closed(&pair.1));
        ends.zip(held.iter().map(Deadline::cut)).collect()
    };
    let (open, ended, cut) = ((false, false), (true, false), (true, true));
    wheel.hang_up_downstream(true);
    assert_eq!(state(), [ended, open, open, open]);
    assert_eq!(wheel.cut_downstream(true), 2);
    // It can still be told.
    assert_eq!(state(), [cut, open, (false, true), open]);
    wheel.hang_up_cut();
    assert_eq!(state(), [cut, open, cut, open]);
    assert_eq!(wheel.cut_downstream(false), 1);
    wheel.hang_up_cut();
    assert_eq!(state(), [cut, cut, cut, open]);
}

#[test]
fn the_keeper_wakes_for_what_comes_up_earlier() {
    let pause = || super::super::sleep(Duration::from_millis(10));
    super::super::run(async move {
        let wheel = Deadlines::new(Instant::now());
        super::super::spawn(wheel.clone().keep());
        let pairs: Vec<_> = (0..2).map(|_| UnixStream::pair().unwrap()).collect();
        let register =
            |end: &UnixStream| wheel.register(Side::Upstream, Hangup::new(end.as_raw_fd()));
        pause().await;
        let late = register(&pairs[0].0);
        late.arm(Instant::now(), Duration::from_secs(600));
        pause().await;
        let soon = register(&pairs[1].0);
        soon.arm(Instant::now(), Duration::from_millis(50));
        // Well before the late one is looked at.
        for _ in 0..500 {
            pause().await;
            if soon.fired() {
                break;
            }
        }
        assert!(soon.fired() && !late.fired());
        assert!(closed(&pairs[1].1) && !closed(&pairs[0].1));
    })
    .unwrap();
}

#[test]
fn an_older_entry_of_a_connection_does_not_live_on() {
    let start = Instant::now();
    let at = |secs| start + Duration::from_secs(secs);
    let wheel = Deadlines::new(start);
    let (near, _far) = UnixStream::pair().unwrap();
    let deadline = wheel.register(Side::Downstream, Hangup::new(near.as_raw_fd()));
    // Each short one is queued before the long one's entry, which is looked at no more.
    for round in 0..100 {
        let now = at(round * 2);
        wheel.advance(now);
        deadline.arm(now, Duration::from_secs(1));
        deadline.arm(now, Duration::from_secs(600));
    }
    let entries: usize = wheel.slots.borrow().queue.values().map(Vec::len).sum();
    assert!(entries <= 10, "{entries}");
    assert_eq!(wheel.advance(at(2 * 99 + 599)), 0);
    assert_eq!(wheel.advance(at(2 * 99 + 601)), 1);
}

#[test]
fn after_a_hold_up_who_was_waited_for_comes_first() {
    super::super::run(async {
        let wheel = Deadlines::new(Instant::now());
        super::super::spawn(wheel.clone().keep());
        let (near, _far) = UnixStream::pair().unwrap();
        let deadline = Rc::new(wheel.register(Side::Upstream, Hangup::new(near.as_raw_fd())));
        deadline.arm(Instant::now(), Duration::from_millis(50));
        let waited_for = deadline.clone();
        super::super::spawn(async move {
            super::super::sleep(Duration::from_millis(20)).await;
            // What has come is seen some turns later.
            for _ in 0..3 {
                super::super::sleep(Duration::ZERO).await;
            }
            waited_for.disarm();
        });
        super::super::sleep(Duration::from_millis(5)).await;
        std::thread::sleep(Duration::from_millis(400));
        super::super::sleep(Duration::from_millis(100)).await;
        assert!(!deadline.fired());
    })
    .unwrap();
}
