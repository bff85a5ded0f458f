//! Wall time as the router uses it: seconds and milliseconds since 1970, and RFC 3339 text.
//!
//! Durations and deadlines use `std::time::Instant`; this is for what is stored or shown.

use std::time::{Duration, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// Seconds of a UTC day; there are no leap seconds in Unix time.
pub const DAY_SECONDS: i64 = 86_400;

/// Seconds since 1970-01-01T00:00:00Z.
pub fn unix_seconds() -> i64 {
    since_1970().tv_sec()
}

/// Milliseconds since then, up to one tick of the kernel (1 to 10 ms) old.
pub fn unix_millis() -> i64 {
    let now = since_1970();
    now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000
}

/// The kernel's last tick costs a fifth of asking the clock itself, twice an exchange.
fn since_1970() -> TimeSpec {
    clock_gettime(ClockId::CLOCK_REALTIME_COARSE).unwrap_or_else(|_| TimeSpec::new(0, 0))
}

/// `2026-01-31T12:00:00Z`. Times before 1970 show as 1970, times after 9999 as the last second of it.
pub fn rfc3339(unix_seconds: i64) -> String {
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(unix_seconds).unwrap_or(0).min(LAST);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// The first second of the UTC day of `now`.
pub fn day_start(now: i64) -> i64 {
    now.div_euclid(DAY_SECONDS) * DAY_SECONDS
}

/// The first second of the UTC month of `now`.
pub fn month_start(now: i64) -> i64 {
    let (year, month) = year_and_month(now.div_euclid(DAY_SECONDS));
    days_to(year, month, 1) * DAY_SECONDS
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date
/// algorithms", days_from_civil).
pub fn days_to(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is a year's last.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year and month of a day since 1970-01-01 (the same, civil_from_days).
pub fn year_and_month(days: i64) -> (i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (((5 * day_of_year + 2) / 153) + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_back_over_eight_centuries() {
        assert_eq!(days_to(1970, 1, 1), 0);
        assert_eq!(days_to(2000, 3, 1), 11_017);
        let mut expected = days_to(1600, 1, 1);
        for year in 1600..2400 {
            for month in 1..=12 {
                let first = days_to(year, month, 1);
                assert_eq!(first, expected, "{year}-{month}");
                let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
                let length = match month {
                    2 => 28 + i64::from(leap),
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                assert_eq!(year_and_month(first), (year, month));
                assert_eq!(year_and_month(first + length - 1), (year, month));
                expected += length;
            }
        }
    }

    #[test]
    fn shows_and_clamps() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(-5), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-31T23:59:59Z");
    }
}
