//! What keys have used that this process has not counted: for their limits, and the models of today.

use super::counts::Meter;
use super::ledger::{LedgerError, Minute, Reading};
use super::place::Place;
use super::recorder::Tally;
use super::refinement::MINUTE_SECONDS;
use super::{Carried, UnixSeconds, hour_of};
use crate::clock;

/// One key's.
pub(super) struct Before {
    pub(super) carried: Carried,
    /// Of today, each once.
    pub(super) models: Vec<String>,
}

/// That of every key, as it stands at `now`. All of it or nothing: what is told of a part would be told again when the
/// rest can be read.
pub(super) fn read(reading: &Reading, now: UnixSeconds) -> Result<Vec<Before>, LedgerError> {
    let (day, month) = (clock::day_start(now), clock::month_start(now));
    let end = hour_of(now) + 1;
    let of_key = |key: String| {
        let mut carried = Carried {
            key,
            minute: None,
            day: (day, 0),
            month: (month, 0),
        };
        let mut models = Vec::new();
        reading.rows(&carried.key, hour_of(month)..end, |place, counts| {
            carried.month.1 = carried.month.1.saturating_add(counts.tokens());
            if place.time >= hour_of(day) {
                carried.day.1 = carried.day.1.saturating_add(counts.tokens());
                if !models.iter().any(|model| model == place.model) {
                    models.push(place.model.to_owned());
                }
            }
        })?;
        let minute = reading.minute(&carried.key)?;
        carried.minute =
            minute.filter(|minute| (0..MINUTE_SECONDS).contains(&(now - minute.started)));
        Ok(Before { carried, models })
    };
    reading.keys()?.into_iter().map(of_key).collect()
}

/// Tells of rows that another process has counted, up to `written_at`.
pub(super) fn of_rows(
    tally: &Tally,
    written_at: Option<UnixSeconds>,
    now: UnixSeconds,
    mut carry: impl FnMut(Carried),
) {
    let (day, month) = (clock::day_start(now), clock::month_start(now));
    for (bytes, counts) in &tally.rows {
        let Some(place) = Place::read(bytes) else {
            continue;
        };
        let since = |start| {
            if place.time >= hour_of(start) {
                counts.tokens()
            } else {
                0
            }
        };
        let is_fresh = |at: &UnixSeconds| (0..MINUTE_SECONDS).contains(&(now - at));
        let asked = written_at.filter(|at| is_fresh(at) && !place.provider.is_empty());
        carry(Carried {
            key: place.key.to_owned(),
            minute: asked.map(|started| Minute {
                started,
                requests: counts.get(Meter::Requests),
                tokens: counts.tokens(),
            }),
            day: (day, since(day)),
            month: (month, since(month)),
        });
    }
}
