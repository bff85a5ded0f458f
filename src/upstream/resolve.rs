//! Names to addresses, off the workers: the system's resolver blocks, so every look-up runs on a thread of its own.
//!
//! One resolver serves all cores. Look-ups of one name join; an answer is used for a while, longer while a newer one is
//! being fetched, and any time if none can be had, so a name server that stalls does not stop traffic.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_channel::oneshot;

use crate::net;

/// The system's resolver does not tell an answer's time to live; providers move addresses within minutes.
const FRESH: Duration = Duration::from_secs(30);
/// An older answer is used only if no newer one is to be had: its address may be somebody else's by now.
const STALE: Duration = Duration::from_secs(300);
/// How long a newer answer is waited for before an old one is used all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// A look-up opens files and sockets, and without a descriptor for them the system's resolver says that there is no such
/// name. It is made again for so long, with a pause between: callers that are turned away give theirs back in a moment.
const DESCRIPTORS_PATIENCE: Duration = Duration::from_secs(2);
const DESCRIPTORS_PAUSE: Duration = Duration::from_millis(10);

type Addresses = Arc<[SocketAddr]>;
type Found = Result<Addresses, Unfound>;

/// Why there are no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unfound {
    NoSuchName,
    NoDescriptor,
}

impl From<Unfound> for io::Error {
    fn from(why: Unfound) -> Self {
        match why {
            Unfound::NoSuchName => Self::new(io::ErrorKind::NotFound, "its name does not resolve"),
            Unfound::NoDescriptor => net::out_of_descriptors(),
        }
    }
}

/// Shared by all workers.
#[derive(Clone, Default)]
pub struct Resolver(Arc<Mutex<HashMap<(String, u16), Entry>>>);

#[derive(Default)]
struct Entry {
    /// The last good answer, and when it was got.
    known: Option<(Addresses, Instant)>,
    in_flight: bool,
    waiting: Vec<oneshot::Sender<Found>>,
}

impl Entry {
    fn wait(&mut self) -> oneshot::Receiver<Found> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.push(sender);
        receiver
    }
}

impl Resolver {
    /// The addresses of `host`, never none.
    pub async fn lookup(&self, host: &str, port: u16) -> io::Result<Addresses> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Arc::from([SocketAddr::new(ip, port)]));
        }
        let (known, answer) = {
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.entry((host.to_owned(), port)).or_default();
            let age = entry.known.as_ref().map(|(_, since)| since.elapsed());
            if age.is_none_or(|age| age >= FRESH) {
                self.start(entry, host, port)?;
            }
            let known = entry.known.as_ref().map(|(addresses, _)| addresses.clone());
            match (&known, age) {
                (Some(addresses), Some(age)) if age < STALE => return Ok(addresses.clone()),
                _ => (known, entry.wait()),
            }
        };
        let Some(known) = known else {
            return Ok(answer.await.unwrap_or(Err(Unfound::NoSuchName))?);
        };
        let newer = net::within(PATIENCE, answer).await;
        Ok(newer
            .and_then(Result::ok)
            .and_then(Result::ok)
            .unwrap_or(known))
    }

    /// Other addresses than `tried`, if a look-up that is newer than the one that gave those finds any.
    pub async fn newer(&self, host: &str, port: u16, tried: &Addresses) -> Option<Addresses> {
        let answer = {
            let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.get_mut(&(host.to_owned(), port))?;
            let (known, since) = entry.known.as_ref()?;
            if known != tried {
                return Some(known.clone());
            }
            if since.elapsed() < FRESH {
                return None;
            }
            self.start(entry, host, port).ok()?;
            entry.wait()
        };
        let found = answer.await.ok()?.ok()?;
        (found != *tried).then_some(found)
    }

    /// Begins a look-up unless one is under way.
    fn start(&self, entry: &mut Entry, host: &str, port: u16) -> io::Result<()> {
        if entry.in_flight {
            return Ok(());
        }
        let (resolver, host) = (self.clone(), host.to_owned());
        let look_up = move || {
            let found = find(&host, port);
            if let Err(why) = found {
                tracing::warn!(host, error = %io::Error::from(why), "no address");
            }
            resolver.finish((host, port), found);
        };
        std::thread::Builder::new()
            .name("resolve".into())
            .spawn(look_up)?;
        entry.in_flight = true;
        Ok(())
    }

    fn finish(&self, name: (String, u16), found: Found) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(name).or_default();
        entry.in_flight = false;
        if let Ok(addresses) = &found {
            entry.known = Some((addresses.clone(), Instant::now()));
        }
        for waiting in entry.waiting.drain(..) {
            // A caller that stopped waiting needs no answer.
            let _ = waiting.send(found.clone());
        }
    }
}

/// Asks the system. Blocks.
fn find(host: &str, port: u16) -> Found {
    let began = Instant::now();
    loop {
        let lacked = net::lacks_descriptors();
        let found = (host, port)
            .to_socket_addrs()
            .map(Iterator::collect::<Addresses>);
        match found {
            Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
            _ if !lacked && !net::lacks_descriptors() => return Err(Unfound::NoSuchName),
            _ if began.elapsed() >= DESCRIPTORS_PATIENCE => return Err(Unfound::NoDescriptor),
            _ => std::thread::sleep(DESCRIPTORS_PAUSE),
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

    /// A resolver that has `host` at an address of long ago.
    fn knowing(host: &str, age: Duration) -> (Resolver, Addresses) {
        let resolver = Resolver::default();
        let old: Addresses = Arc::from(["127.0.0.9:80".parse().unwrap()]);
        let entry = Entry {
            known: Some((old.clone(), Instant::now().checked_sub(age).unwrap())),
            ..Entry::default()
        };
        resolver.0.lock().unwrap().insert((host.into(), 80), entry);
        (resolver, old)
    }

    #[test]
    fn an_old_answer_serves_while_a_newer_one_is_fetched_and_not_for_ever() {
        net::run(async {
            let (resolver, old) = knowing("localhost", FRESH / 2);
            assert_eq!(resolver.lookup("localhost", 80).await.unwrap(), old);
            assert_eq!(resolver.newer("localhost", 80, &old).await, None);
            let (resolver, old) = knowing("localhost", FRESH * 2);
            assert_eq!(resolver.lookup("localhost", 80).await.unwrap(), old);
            // It led nowhere.
            let newer = resolver.newer("localhost", 80, &old).await.unwrap();
            assert!(newer != old);
            assert_eq!(resolver.lookup("localhost", 80).await.unwrap(), newer);
            assert_eq!(resolver.newer("localhost", 80, &old).await, Some(newer));
            let (resolver, old) = knowing("localhost", STALE);
            assert!(resolver.lookup("localhost", 80).await.unwrap() != old);
            // Better an old one than none.
            let (resolver, old) = knowing("no such name", STALE);
            assert_eq!(resolver.lookup("no such name", 80).await.unwrap(), old);
            assert_eq!(resolver.newer("no such name", 80, &old).await, None);
        })
        .unwrap();
    }
}
