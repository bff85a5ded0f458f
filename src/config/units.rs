//! Lengths of time and sizes in bytes as an operator writes them.

use std::time::Duration;

use super::reader::{Value, Wrong, count, string};

/// Units of a size. Decimal ones (kB, MB) are refused rather than guessed at.
const SIZES: [(&str, usize); 4] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Reads a time such as `"10s"`, `"1h 30m"`, `"500ms"` between `least` and `most`.
pub(super) fn duration<'a>(
    least: Duration,
    most: Duration,
) -> impl Fn(&'a Value<'a>) -> Result<Duration, Wrong> {
    move |value| {
        if let Some(number) = value.get_ref().as_integer() {
            return Err(format!("{number} has no unit; write \"{number}s\" for seconds").into());
        }
        let text = string(value)?;
        let length = humantime::parse_duration(text).map_err(|_| {
            format!("{text:?} is not a time; write it like \"500ms\", \"10s\", \"5m\", \"400d\"")
        })?;
        if (least..=most).contains(&length) {
            return Ok(length);
        }
        let [least, most] = [least, most].map(written);
        Err(format!("{text:?} is out of bounds: from {least} to {most}").into())
    }
}

/// A time as one would write it: in the largest unit that has it whole.
pub fn written(time: Duration) -> String {
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ];
    let millis = time.as_millis();
    let whole = units.iter().find(|(_, unit)| millis.is_multiple_of(*unit));
    let (name, unit) = whole.filter(|_| millis > 0).unwrap_or(&("ms", 1));
    format!("{}{name}", millis / unit)
}

/// Reads a size such as `"64KiB"` or a plain number of bytes, between `least` and `most`.
pub(super) fn bytes<'a>(
    least: usize,
    most: usize,
) -> impl Fn(&'a Value<'a>) -> Result<usize, Wrong> {
    move |value| {
        if value.get_ref().is_integer() {
            return count(least, most)(value);
        }
        let text = string(value)?;
        let size = parse_bytes(text).ok_or_else(|| {
            format!("{text:?} is not a size; write bytes, or \"64KiB\", \"32MiB\", \"1GiB\"")
        })?;
        if (least..=most).contains(&size) {
            return Ok(size);
        }
        Err(format!("{text:?} is out of bounds: from {least} to {most} bytes").into())
    }
}

/// A whole number and a unit, with or without a space between.
fn parse_bytes(text: &str) -> Option<usize> {
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits_end);
    let (_, size) = SIZES
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?;
    number.parse::<usize>().ok()?.checked_mul(*size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("1B", Some(1)),
            ("64KiB", Some(65_536)),
            ("64 KiB", Some(65_536)),
            ("64kib", Some(65_536)),
            ("32MiB", Some(33_554_432)),
            ("1GiB", Some(1_073_741_824)),
            ("0KiB", Some(0)),
            ("64KB", None),
            ("64K", None),
            ("1.5MiB", None),
            ("-1KiB", None),
            ("KiB", None),
            ("", None),
            ("64", None),
            ("99999999999999999999KiB", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, size) in cases {
            assert_eq!(parse_bytes(text), size, "{text:?}");
        }
    }

    #[test]
    fn durations() {
        let read = |text: &str| {
            let toml = format!("{text:?}");
            let value = toml::de::DeValue::parse(&toml).unwrap();
            duration(Duration::ZERO, Duration::from_secs(40_000_000))(&value).ok()
        };
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let cases = [
            ("10s", seconds(10)),
            ("5m", seconds(300)),
            ("400d", seconds(34_560_000)),
            ("500ms", Some(Duration::from_millis(500))),
            ("1h 30m", seconds(5_400)),
            ("0s", seconds(0)),
            ("0", seconds(0)),
            ("10", None),
            ("", None),
            ("-5s", None),
            ("ten seconds", None),
            ("500d", None),
        ];
        for (text, length) in cases {
            assert_eq!(read(text), length, "{text:?}");
        }
    }

    #[test]
    fn times_as_they_are_written() {
        for text in [
            "0ms", "500ms", "10s", "90s", "5m", "36h", "7d", "400d", "36500d",
        ] {
            assert_eq!(written(humantime::parse_duration(text).unwrap()), text);
        }
    }

    #[test]
    fn a_time_without_unit_is_refused() {
        let value = toml::de::DeValue::parse("10").unwrap();
        let wrong = duration(Duration::ZERO, Duration::MAX)(&value).unwrap_err();
        assert!(
            format!("{wrong:?}").contains(r#"write \"10s\""#),
            "{wrong:?}"
        );
    }
}
