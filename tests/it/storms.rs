//! Many at once: deadlines that fire together, callers that dribble, while good callers are served.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::program::Home;
use crate::support::{CHAT as BODY, Provider, count, eventually, raise_descriptors, request};

const CHAT: &str = "/v1/chat/completions";

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn deadlines_that_fire_together_lose_no_descriptor() {
    raise_descriptors();
    let callers = count("STORM_CALLERS", 1000);
    let provider = Provider::plain();
    let home = Home::new();
    home.configure(&format!(
        "providers.openai.base_url = \"{}\"\ntimeouts.head = \"2s\"\nserver.workers = 1\nlog.access = false",
        provider.url("/v1")
    ));
    home.run_with(&["providers", "set", "openai"], "sk-stored");
    let token = home.mint();
    let served = home.serve();
    let good = request("POST", CHAT, &[("x-api-key", &token)], BODY);
    assert_eq!(served.connect().exchange(&good).status, 200);
    eventually("the first caller gone", || descriptors(served.pid()) > 0);
    thread::sleep(Duration::from_millis(100));
    let before = descriptors(served.pid());
    for _ in 0..2 {
        let mut stalled: Vec<_> = (0..callers).map(|_| served.connect()).collect();
        for caller in &mut stalled {
            caller.send(&good[..40]);
        }
        let started = Instant::now();
        // The core goes on meanwhile.
        let mut slowest = Duration::ZERO;
        while descriptors(served.pid()) > before + 10 {
            let asked = Instant::now();
            assert_eq!(served.connect().exchange(&good).status, 200);
            slowest = slowest.max(asked.elapsed());
            assert!(
                started.elapsed() < crate::support::PATIENCE,
                "descriptors stay open"
            );
        }
        for caller in &mut stalled {
            assert_eq!(caller.rest(), b"");
        }
        println!("{callers} deadlines together; slowest other request meanwhile {slowest:?}");
    }
    eventually("all descriptors back", || {
        descriptors(served.pid()) <= before
    });
    assert_eq!(served.stop().0, 0);
}

#[test]
fn slow_callers_do_not_starve_good_ones() {
    raise_descriptors();
    let callers = count("STORM_CALLERS", 1000);
    let provider = Provider::plain();
    let home = Home::new();
    home.configure(&format!(
        "providers.openai.base_url = \"{}\"\nlog.access = false",
        provider.url("/v1")
    ));
    home.run_with(&["providers", "set", "openai"], "sk-stored");
    let token = home.mint();
    let served = home.serve();
    let good = request("POST", CHAT, &[("x-api-key", &token)], BODY);
    let done = AtomicBool::new(false);
    let mut slow: Vec<_> = (0..callers).map(|_| served.connect()).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            // One byte each, round after round: a head that never ends.
            for byte in good.iter().cycle().take(60) {
                for caller in &mut slow {
                    caller.send([*byte]);
                }
                thread::sleep(Duration::from_millis(20));
            }
            done.store(true, Ordering::Relaxed);
        });
        let (mut asked, mut slowest) = (0, Duration::ZERO);
        while !done.load(Ordering::Relaxed) {
            let started = Instant::now();
            assert_eq!(served.connect().exchange(&good).status, 200);
            (asked, slowest) = (asked + 1, slowest.max(started.elapsed()));
        }
        assert!(asked > 20, "{asked}");
        println!(
            "{callers} slow callers; {asked} good requests meanwhile, all served, slowest {slowest:?}"
        );
    });
    assert_eq!(served.stop().0, 0);
}
