//! `traceparent` (W3C Trace Context, section 3.2): which trace a request belongs to, and which span it is a part of.

use std::cell::Cell;

/// An exchange's place in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: u128,
    /// The caller's span; none where the trace begins here.
    pub parent: Option<u64>,
    /// The span of the exchange.
    pub exchange: u64,
    /// The span of the wait for the provider, which the provider's own are parts of.
    pub upstream: u64,
    /// Whether the caller wants its trace kept.
    pub sampled: bool,
}

impl Context {
    /// From a caller's field; a new trace where there is none, or none that can be read.
    pub fn new(field: Option<&[u8]>, ids: &Ids) -> Self {
        let carried = field.and_then(parse);
        let (trace, parent, sampled) = match carried {
            Some((trace, parent, sampled)) => (trace, Some(parent), sampled),
            None => {
                let trace = u128::from(ids.next()) << 64 | u128::from(ids.next());
                (trace, None, true)
            }
        };
        Self {
            trace,
            parent,
            exchange: ids.next(),
            upstream: ids.next(),
            sampled,
        }
    }

    /// The field that goes to the provider.
    pub fn to_field(self) -> String {
        let flags = u8::from(self.sampled);
        format!("00-{:032x}-{:016x}-{flags:02x}", self.trace, self.upstream)
    }
}

/// Version 00, or a later one whose first parts are the same. Upper case is wrong, and so are ids of zeros.
fn parse(field: &[u8]) -> Option<(u128, u64, bool)> {
    let text = std::str::from_utf8(field).ok()?;
    let mut parts = text.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let shaped = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    if !shaped || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let parent = u64::from_str_radix(parent, 16).ok().filter(|id| *id != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((trace, parent, flags & 1 == 1))
}

/// Ids that differ: a random start, then a generator that visits every number once (Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", SplitMix64). They are no secrets.
#[derive(Debug)]
pub struct Ids(Cell<u64>);

impl Ids {
    /// From a random number.
    pub fn new(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// Never 0.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut id = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (id ^ (id >> 31)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_trace_goes_on() {
        let ids = Ids::new(7);
        let field = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = Context::new(Some(field), &ids);
        assert_eq!(context.trace, 0x0af7651916cd43dd8448eb211c80319c);
        assert_eq!(context.parent, Some(0xb7ad6b7169203331));
        let sent = context.to_field();
        assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && sent.ends_with("-01"));
        assert!(!sent.contains("b7ad6b7169203331"));
        assert_eq!(
            parse(sent.as_bytes()).map(|found| found.1),
            Some(context.upstream)
        );
        let unsampled = field.map(|byte| byte).to_vec();
        let unsampled = [&unsampled[..54], b"0"].concat();
        assert!(!Context::new(Some(&unsampled), &ids).sampled);
    }

    #[test]
    fn what_cannot_be_read_begins_a_new_trace() {
        let ids = Ids::new(7);
        for odd in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let context = Context::new(Some(odd.as_bytes()), &ids);
            assert_eq!(context.parent, None, "{odd}");
        }
        let later = "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert!(Context::new(Some(later.as_bytes()), &ids).parent.is_some());
    }
}
