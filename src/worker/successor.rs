//! The process that serves on the same sockets next: `server` says when it does, and who has something to leave to it
//! waits for that or looks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;

/// Whether another process serves on the same sockets.
#[derive(Default)]
pub struct Successor {
    serves: AtomicBool,
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Successor {
    /// It does from now on.
    pub fn arrives(&self) {
        self.serves.store(true, Ordering::Release);
        for waiting in self.lock().drain(..) {
            // Who has gone does not wait.
            let _ = waiting.send(());
        }
    }

    /// Whether it does.
    pub fn serves(&self) -> bool {
        self.serves.load(Ordering::Acquire)
    }

    /// Is over once it does; with an error if it never will.
    pub fn arrived(&self) -> oneshot::Receiver<()> {
        let (told, arrived) = oneshot::channel();
        let mut waiting = self.lock();
        match self.serves() {
            true => {
                let _ = told.send(());
            }
            false => waiting.push(told),
        }
        arrived
    }

    fn lock(&self) -> MutexGuard<'_, Vec<oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_hears_of_it_before_and_after() {
        let successor = Successor::default();
        let mut early = successor.arrived();
        assert_eq!((early.try_recv(), successor.serves()), (Ok(None), false));
        successor.arrives();
        let mut late = successor.arrived();
        assert_eq!(early.try_recv(), Ok(Some(())));
        assert_eq!((late.try_recv(), successor.serves()), (Ok(Some(())), true));
        let mut never = Successor::default().arrived();
        assert!(never.try_recv().is_err());
    }
}
