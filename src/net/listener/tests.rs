//! A burst is taken in whole, a stop loses nobody, and the loop turns meanwhile.

use std::net::TcpStream as StdTcpStream;
use std::rc::Rc;

use super::*;
use crate::net;

#[derive(Default)]
struct Seen {
    peers: Vec<SocketAddr>,
    ended: bool,
}

/// Opens a listener with a task that accepts until it is stopped.
fn waiting(bound: BoundListener) -> (Rc<Listener>, Rc<RefCell<Seen>>) {
    let listener = Rc::new(bound.open().unwrap());
    let seen = Rc::<RefCell<Seen>>::default();
    let (accepting, into) = (listener.clone(), seen.clone());
    net::spawn(async move {
        while let Ok(accepted) = accepting.accept().await {
            into.borrow_mut().peers.extend(accepted.peer);
        }
        into.borrow_mut().ended = true;
    });
    (listener, seen)
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..1000 {
        if what() {
            return;
        }
        net::sleep(Duration::from_millis(5)).await;
    }
    panic!("that did not come about");
}

fn bound() -> (SocketAddr, BoundListener) {
    let (address, mut listeners) = BoundListener::tcp("127.0.0.1:0".parse().unwrap(), 1).unwrap();
    let BoundAddr::Tcp(address) = address else {
        panic!("not TCP")
    };
    (address, listeners.remove(0))
}

#[test]
fn each_caller_of_a_burst_is_taken_in_once() {
    let (address, listener) = bound();
    net::run(async {
        let (_, seen) = waiting(listener);
        let callers: Vec<StdTcpStream> = (0..3 * ACCEPTS_IN_A_ROW)
            .map(|_| StdTcpStream::connect(address).unwrap())
            .collect();
        until(|| seen.borrow().peers.len() >= callers.len()).await;
        net::sleep(Duration::from_millis(20)).await;
        let mut peers = seen.borrow().peers.clone();
        let mut expected: Vec<SocketAddr> = callers
            .iter()
            .map(|caller| caller.local_addr().unwrap())
            .collect();
        peers.sort_unstable();
        expected.sort_unstable();
        assert_eq!(peers, expected);
        assert!(!seen.borrow().ended);
    })
    .unwrap();
}

#[test]
fn the_loop_turns_while_a_burst_is_taken_in() {
    let (address, listener) = bound();
    let _callers: Vec<StdTcpStream> = (0..3 * ACCEPTS_IN_A_ROW)
        .map(|_| StdTcpStream::connect(address).unwrap())
        .collect();
    net::run(async {
        let listener = listener.open().unwrap();
        let mut waited = Vec::new();
        for number in 0..3 * ACCEPTS_IN_A_ROW {
            let mut accepting = pin!(listener.accept());
            let at_once = poll_fn(|cx| Poll::Ready(accepting.as_mut().poll(cx))).await;
            if at_once.is_pending() {
                accepting.await.unwrap();
                waited.push(number);
            }
        }
        assert_eq!(waited, [ACCEPTS_IN_A_ROW, 2 * ACCEPTS_IN_A_ROW]);
    })
    .unwrap();
}

#[test]
fn a_stop_ends_the_wait_and_leaves_the_queue() {
    let (address, listener) = bound();
    net::run(async {
        let (listener, seen) = waiting(listener);
        net::sleep(Duration::from_millis(20)).await;
        listener.stop();
        until(|| seen.borrow().ended).await;
        assert!(listener.stopped());
        assert!(listener.accept().await.is_err(), "and every later one");
        // Whom the kernel connects from here on is not lost.
        let caller = StdTcpStream::connect(address).unwrap();
        let accepted = listener.accept_waiting().unwrap().unwrap();
        assert_eq!(accepted.peer, Some(caller.local_addr().unwrap()));
        assert!(listener.accept_waiting().unwrap().is_none());
        assert!(seen.borrow().peers.is_empty());
    })
    .unwrap();
}

#[test]
fn an_accept_that_is_dropped_loses_nobody() {
    let (address, listener) = bound();
    net::run(async {
        let listener = listener.open().unwrap();
        for _ in 0..20 {
            let moment = Duration::from_millis(1);
            assert!(net::within(moment, listener.accept()).await.is_none());
            let caller = StdTcpStream::connect(address).unwrap();
            let accepted = listener.accept().await.unwrap();
            assert_eq!(accepted.peer, Some(caller.local_addr().unwrap()));
        }
    })
    .unwrap();
}

#[test]
fn whoever_is_accepted_sends_without_delay() {
    let (address, listener) = bound();
    net::run(async {
        let listener = listener.open().unwrap();
        let _caller = StdTcpStream::connect(address).unwrap();
        let Connection::Tcp(stream) = listener.accept().await.unwrap().connection else {
            panic!("not TCP")
        };
        assert!(stream.nodelay().unwrap());
    })
    .unwrap();
}

#[test]
fn a_preference_is_the_kernels_until_it_is_taken_back() {
    let (_, listener) = bound();
    let own = listener.try_clone().unwrap();
    let preferred = || SockRef::from(&own).cpu_affinity().unwrap() as i32;
    net::run(async {
        let listener = listener.open().unwrap();
        assert_eq!(preferred(), -1);
        listener.prefer(Some(1));
        assert_eq!(preferred(), 1);
        listener.prefer(None);
        assert_eq!(preferred(), -1);
    })
    .unwrap();
}

#[test]
fn only_a_socket_without_a_listener_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "mine").unwrap();
    assert!(BoundListener::unix(&path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    let path = dir.path().join("socket");
    let (_, first) = BoundListener::unix(&path).unwrap();
    let error = BoundListener::unix(&path).err();
    assert_eq!(
        error.map(|error| error.kind()),
        Some(io::ErrorKind::AddrInUse)
    );
    drop(first);
    assert!(path.exists());
    BoundListener::unix(&path).unwrap();
}

#[test]
fn a_port_that_is_only_just_let_go_of_is_waited_for() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let bind = || bind_patiently(|| BoundListener::tcp(address, 1));
    let refused = bind().map(drop).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    let gone = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(taken);
    });
    assert!(bind().is_ok());
    gone.join().unwrap();
}
