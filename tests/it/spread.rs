//! Callers spread over the workers, wherever they come from, and none is lost on the way.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;

use crate::support::{CHAT as BODY, Caller, Provider, Router, Setup, eventually};

const CHAT: &str = "/v1/chat/completions";
const WORKERS: usize = 4;

fn counts(router: &Router) -> Vec<usize> {
    let cores = router.running().control().shared().metrics.cores();
    let count = |core: &std::sync::Arc<memoryrouter::metrics::CoreMetrics>| {
        core.connections.load(Ordering::Relaxed)
    };
    cores.iter().map(count).collect()
}

/// No further from even than so many standard deviations of a hash's spreading.
fn assert_level(router: &Router, callers: usize, deviations: usize) {
    let counts = counts(router);
    assert_eq!(counts.iter().sum::<usize>(), callers, "{counts:?}");
    let even = callers / WORKERS;
    let most = even + deviations * even.isqrt() + 3;
    assert!(counts.iter().all(|count| *count <= most), "{counts:?}");
}

#[test]
fn one_thread_that_opens_all_connections_finds_all_workers() {
    let provider = Provider::plain();
    let router = Setup::all(&provider).workers(WORKERS).start();
    let bytes = router.request(CHAT, &[], BODY);
    let mut callers = Vec::new();
    for many in [8, 64, 256] {
        while callers.len() < many {
            let mut caller = router.connect();
            assert_eq!(caller.exchange(&bytes).status, 200);
            callers.push(caller);
        }
        assert_level(&router, many, 1);
    }
    callers.truncate(16);
    eventually("the others have gone", || {
        counts(&router).iter().sum::<usize>() == 16
    });
    for caller in &mut callers {
        assert_eq!(caller.exchange(&bytes).status, 200);
    }
}

#[test]
fn a_burst_that_nobody_answers_yet_is_spread_too() {
    const CALLERS: usize = 400;
    let provider = Provider::plain();
    let router = Setup::all(&provider).workers(WORKERS).start();
    let bytes = router.request(CHAT, &[], BODY);
    let mut callers: Vec<Caller> = (0..CALLERS).map(|_| router.connect()).collect();
    eventually("all are in", || {
        counts(&router).iter().sum::<usize>() == CALLERS
    });
    // Who is only just coming in is not passed on to those who take in others themselves.
    assert_level(&router, CALLERS, 3);
    for caller in &mut callers {
        assert!(caller.send(&bytes));
    }
    for caller in &mut callers {
        assert_eq!(caller.reply().status, 200);
    }
}

#[test]
fn callers_of_a_unix_socket_are_spread_too() {
    let provider = Provider::plain();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("router.sock");
    let listen = format!("[\"127.0.0.1:0\", \"unix:{}\"]", path.display());
    let setup = Setup::all(&provider).workers(WORKERS);
    let router = setup.listen(&listen).start();
    let bytes = router.request(CHAT, &[], BODY);
    let callers: Vec<UnixStream> = (0..64)
        .map(|_| {
            let mut caller = UnixStream::connect(&path).unwrap();
            caller.write_all(&bytes).unwrap();
            let mut line = String::new();
            let mut reader = BufReader::new(&caller);
            reader.read_line(&mut line).unwrap();
            assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
            caller
        })
        .collect();
    assert_level(&router, callers.len(), 1);
}

#[test]
fn who_is_passed_on_while_the_router_drains_is_answered() {
    let provider = Provider::plain();
    for _ in 0..10 {
        let router = Setup::all(&provider).workers(WORKERS).start();
        let bytes = router.request(CHAT, &[], BODY);
        let mut callers: Vec<Caller> = (0..100).map(|_| router.connect()).collect();
        router.running().drain();
        for caller in &mut callers {
            assert!(caller.send(&bytes));
        }
        for caller in &mut callers {
            let reply = caller.reply();
            assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
        }
        drop(callers);
        router.stop();
    }
}
