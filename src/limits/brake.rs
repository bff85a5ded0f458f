//! A brake on guessing keys: so many wrong ones a minute from one address, and then each costs the guesser a connection.
//!
//! `exchange` tells it of keys that nobody has; right ones never come here, so whoever shares an address with a guesser
//! is served as ever. An IPv6 caller has a whole network to call from, so that counts as one address. The table is
//! bounded: when it is full of addresses that guess, all further ones share one place.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::lock;

const MINUTE: Duration = Duration::from_secs(60);
/// Addresses that are remembered: some 4 MiB.
const ADDRESSES_MAX: usize = 65_536;
/// How often a full table is looked through for addresses that have been quiet.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The addresses that wrong keys came from, each with when it has its whole allowance again.
#[derive(Default)]
pub struct AuthBrake {
    rested: DashMap<IpAddr, Instant>,
    swept: Mutex<Option<Instant>>,
}

impl AuthBrake {
    /// A wrong key came from `peer`, which may send `per_minute` of them (0: any number). Says how long it has to wait if
    /// that was one too many.
    pub fn wrong_key(&self, peer: IpAddr, per_minute: u32, now: Instant) -> Option<Duration> {
        let cost = MINUTE.checked_div(per_minute)?;
        let peer = self.place(network_of(peer), now);
        let mut rested = self.rested.entry(peer).or_insert(now);
        let next = (*rested).max(now) + cost;
        match (next - now).checked_sub(MINUTE) {
            Some(wait) if !wait.is_zero() => Some(wait),
            _ => {
                *rested = next;
                None
            }
        }
    }

    /// Its own place in the table, if there is one.
    fn place(&self, peer: IpAddr, now: Instant) -> IpAddr {
        if self.rested.len() < ADDRESSES_MAX || self.rested.contains_key(&peer) {
            return peer;
        }
        let mut swept = lock(&self.swept);
        if swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_INTERVAL) {
            *swept = Some(now);
            self.rested.retain(|_, rested| *rested > now);
        }
        match self.rested.len() < ADDRESSES_MAX {
            true => peer,
            false => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// What one caller can easily call from: who has one IPv6 address has its whole /64.
pub fn network_of(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => IpAddr::V4(address),
            None => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn so_many_at_once_then_one_by_one() {
        let brake = AuthBrake::default();
        let start = Instant::now();
        let wrong = |peer: &str, seconds: u64| {
            brake.wrong_key(ip(peer), 6, start + Duration::from_secs(seconds))
        };
        for _ in 0..6 {
            assert_eq!(wrong("192.0.2.1", 0), None);
        }
        assert_eq!(wrong("192.0.2.1", 0), Some(Duration::from_secs(10)));
        assert_eq!(wrong("192.0.2.1", 4), Some(Duration::from_secs(6)));
        // The refused ones cost no more waiting.
        assert_eq!(wrong("192.0.2.1", 10), None);
        assert!(wrong("192.0.2.1", 10).is_some());
        assert_eq!(wrong("192.0.2.2", 10), None);
        for _ in 0..6 {
            assert_eq!(wrong("192.0.2.1", 500), None);
        }
        assert!(wrong("192.0.2.1", 500).is_some());
        for _ in 0..100 {
            assert_eq!(brake.wrong_key(ip("192.0.2.3"), 0, start), None);
        }
    }

    #[test]
    fn a_network_is_one_address() {
        let brake = AuthBrake::default();
        let now = Instant::now();
        let wrong = |peer: &str| brake.wrong_key(ip(peer), 1, now).is_some();
        assert!(!wrong("2001:db8:1:2::1"));
        assert!(wrong("2001:db8:1:2:ffff::9"));
        assert!(!wrong("2001:db8:1:3::1"));
        assert!(!wrong("::ffff:192.0.2.1"));
        assert!(wrong("192.0.2.1"));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_quiet() {
        let brake = AuthBrake::default();
        let now = Instant::now();
        let address = |number: usize| IpAddr::V4((number as u32).into());
        for number in 0..ADDRESSES_MAX + 1000 {
            brake.wrong_key(address(number), 60, now);
        }
        assert!(brake.rested.len() <= ADDRESSES_MAX + 1);
        // All the others share one place, and its allowance.
        assert!(
            brake
                .wrong_key(address(ADDRESSES_MAX + 1), 60, now)
                .is_some()
        );
        let later = now + Duration::from_secs(5);
        assert_eq!(brake.wrong_key(address(ADDRESSES_MAX + 1), 60, later), None);
        assert!(brake.rested.len() < 100);
    }
}
