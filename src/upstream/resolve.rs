//! Names to addresses, off the workers: the system's resolver blocks, so every look-up runs on a thread of its own.
//!
//! One resolver serves all cores. Look-ups of one name join; an answer is used for a while, and longer while a newer
//! one is being fetched or cannot be had, so a name server that stalls does not stop traffic.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;

/// The system's resolver does not tell an answer's time to live; providers move addresses within minutes.
const FRESH: Duration = Duration::from_secs(30);

type Addresses = Arc<[SocketAddr]>;

/// Shared by all workers.
#[derive(Clone, Default)]
pub struct Resolver(Arc<Mutex<HashMap<(String, u16), Entry>>>);

#[derive(Default)]
struct Entry {
    /// The last good answer, and when it was got.
    known: Option<(Addresses, Instant)>,
    in_flight: bool,
    waiting: Vec<oneshot::Sender<Option<Addresses>>>,
}

impl Resolver {
    /// The addresses of `host`, never none.
    pub async fn lookup(&self, host: &str, port: u16) -> io::Result<Addresses> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Arc::from([SocketAddr::new(ip, port)]));
        }
        let answer = {
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.entry((host.to_owned(), port)).or_default();
            let fresh = entry
                .known
                .as_ref()
                .is_some_and(|(_, since)| since.elapsed() < FRESH);
            if !fresh && !entry.in_flight {
                entry.in_flight = true;
                self.start(host.to_owned(), port)?;
            }
            if let Some((addresses, _)) = &entry.known {
                return Ok(addresses.clone());
            }
            let (sender, receiver) = oneshot::channel();
            entry.waiting.push(sender);
            receiver
        };
        match answer.await {
            Ok(Some(addresses)) => Ok(addresses),
            _ => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "name does not resolve",
            )),
        }
    }

    fn start(&self, host: String, port: u16) -> io::Result<()> {
        let resolver = self.clone();
        let look_up = move || {
            let found = (host.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect::<Vec<_>>)
                .ok()
                .filter(|addresses| !addresses.is_empty());
            if found.is_none() {
                tracing::warn!(host, "name does not resolve");
            }
            resolver.finish((host, port), found.map(Addresses::from));
        };
        std::thread::Builder::new()
            .name("resolve".into())
            .spawn(look_up)
            .map(drop)
    }

    fn finish(&self, name: (String, u16), found: Option<Addresses>) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(name).or_default();
        entry.in_flight = false;
        if let Some(addresses) = &found {
            entry.known = Some((addresses.clone(), Instant::now()));
        }
        for waiting in entry.waiting.drain(..) {
            // A caller that stopped waiting needs no answer.
            let _ = waiting.send(found.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net;

    #[test]
    fn literals_names_and_nonsense() {
        let resolver = Resolver::default();
        net::run(async {
            assert_eq!(
                &*resolver.lookup("127.0.0.1", 1).await.unwrap(),
                ["127.0.0.1:1".parse().unwrap()]
            );
            assert_eq!(
                &*resolver.lookup("::1", 1).await.unwrap(),
                ["[::1]:1".parse().unwrap()]
            );
            let local = resolver.lookup("localhost", 80).await.unwrap();
            assert!(
                local.iter().all(|address| address.ip().is_loopback()),
                "{local:?}"
            );
            assert!(resolver.lookup("no such name", 80).await.is_err());
        })
        .unwrap();
    }
}
