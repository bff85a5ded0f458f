//! Accepts that wait side by side: a burst finds them all, and an end ends them all.

use std::cell::RefCell;
use std::net::TcpStream as StdTcpStream;
use std::time::Duration;

use super::*;
use crate::net;

#[derive(Default)]
struct Seen {
    peers: Vec<SocketAddr>,
    ended: usize,
    /// Kept, or what was accepted would be closed.
    streams: Vec<Stream>,
}

/// Opens a listener with as many accepts waiting as there are to be, in tasks of their own, which go on until they are
/// ended.
fn waiting(bound: BoundListener) -> (Rc<Listener>, Rc<RefCell<Seen>>) {
    let listener = Rc::new(bound.open().unwrap());
    let seen = Rc::<RefCell<Seen>>::default();
    for _ in 0..listener.accepts_at_once() {
        let (listener, seen) = (listener.clone(), seen.clone());
        net::spawn(async move {
            while let Ok(accepted) = listener.accept().await {
                let mut seen = seen.borrow_mut();
                seen.peers.extend(accepted.peer);
                seen.streams.push(accepted.stream);
            }
            seen.borrow_mut().ended += 1;
        });
    }
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
        // More than wait, so that some of them are taken by accepts that begin anew.
        let callers: Vec<StdTcpStream> = (0..3 * ACCEPTS_AT_ONCE)
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
        assert_eq!(seen.borrow().ended, 0);
    })
    .unwrap();
}

#[test]
fn an_end_ends_all_that_wait_and_leaves_the_queue() {
    let (address, listener) = bound();
    net::run(async {
        let (listener, seen) = waiting(listener);
        net::sleep(Duration::from_millis(20)).await;
        listener.stop().now();
        until(|| seen.borrow().ended == listener.accepts_at_once()).await;
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
fn who_is_left_in_the_queue_is_taken_and_nobody_else_is_waited_for() {
    let (address, listener) = bound();
    net::run(async {
        let (listener, seen) = waiting(listener);
        listener.stop().now();
        until(|| seen.borrow().ended == listener.accepts_at_once()).await;
        assert!(listener.take_left().await.unwrap().is_none());
        let callers = [(); 3].map(|()| StdTcpStream::connect(address).unwrap());
        for caller in &callers {
            let accepted = listener.take_left().await.unwrap().unwrap();
            assert_eq!(accepted.peer, Some(caller.local_addr().unwrap()));
        }
        assert!(listener.take_left().await.unwrap().is_none());
    })
    .unwrap();
}

#[test]
fn only_a_socket_without_a_listener_gives_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "mine").unwrap();
    assert!(BoundListener::unix(&path, 1).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    let path = dir.path().join("socket");
    let (_, first) = BoundListener::unix(&path, 1).unwrap();
    let error = BoundListener::unix(&path, 1).err();
    assert_eq!(
        error.map(|error| error.kind()),
        Some(io::ErrorKind::AddrInUse)
    );
    drop(first);
    assert!(path.exists());
    BoundListener::unix(&path, 1).unwrap();
}
