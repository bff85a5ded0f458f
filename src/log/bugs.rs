//! A caught bug, or a file that makes no sense to a crate of ours, as a line of the log: where it was, in the log's own
//! form. What it says of itself is left out, since it may quote what somebody said.

use std::collections::HashMap;
use std::panic;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One place is told of so often: what a damaged file brings about comes by the thousand.
const TOLD_EVERY: Duration = Duration::from_mins(1);

/// The places that were told of. There are no more than the program has.
#[derive(Default)]
struct Told(Mutex<HashMap<String, Instant>>);

impl Told {
    /// Whether it is time to tell of a place.
    fn is_due(&self, place: &str, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |at: &Instant| now.saturating_duration_since(*at) < TOLD_EVERY;
        let is_due = !told.get(place).is_some_and(recent);
        if is_due {
            told.insert(place.to_owned(), now);
        }
        is_due
    }
}

/// From now on, whichever thread it is.
pub(super) fn tell() {
    let told = Told::default();
    panic::set_hook(Box::new(move |bug| {
        let place = bug.location().map(ToString::to_string).unwrap_or_default();
        if told.is_due(&place, Instant::now()) {
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or_default();
            tracing::error!(thread, %place, "a bug was caught");
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_of_now_and_then() {
        let (here, there) = ("a.rs:1:2", "a.rs:3:4");
        let (told, now) = (Told::default(), Instant::now());
        let seconds = |n| now + Duration::from_secs(n);
        for (place, at, due) in [
            (here, 0, true),
            (here, 59, false),
            (there, 59, true),
            (here, 60, true),
            (here, 61, false),
        ] {
            assert_eq!(told.is_due(place, seconds(at)), due, "{place} {at}");
        }
    }
}
