//! What an exchange is called: in its line, in its answer, wherever it is spoken of.

use std::borrow::Cow;
use std::fmt;

/// An exchange's id: 24 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 24]);

impl RequestId {
    /// From what is drawn once per core, and a count.
    pub fn new(prefix: u64, count: u32) -> Self {
        let [high, low] = [(prefix >> 32) as u32, prefix as u32].map(hex);
        let mut digits = [0; 24];
        for (place, eight) in digits.chunks_exact_mut(8).zip([high, low, hex(count)]) {
            place.copy_from_slice(&eight);
        }
        Self(digits)
    }

    /// The digits' bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Eight digits, the highest first, all at once: each exchange has an id.
fn hex(number: u32) -> [u8; 8] {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // Halves apart, then bytes, then digits, until each has a byte of its own.
    let number = u64::from(number);
    let number = (number | number << 16) & 0x0000_ffff_0000_ffff;
    let number = (number | number << 8) & 0x00ff_00ff_00ff_00ff;
    let number = (number | number << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 where there is a letter.
    let letters = (number + 6 * ONES) >> 4 & ONES;
    let digits = number + u64::from(b'0') * ONES + u64::from(b'a' - b'0' - 10) * letters;
    digits.to_be_bytes()
}

/// A provider's id of its answer: none if it is empty. Kept here whole, because to free what lies elsewhere for as long
/// as the last exchanges are kept costs more than the copy.
#[derive(Clone, Copy)]
pub struct ForeignId {
    bytes: [u8; Self::BYTES_MAX],
    len: u8,
}

impl ForeignId {
    /// The known ones have up to 40; what is longer is cut.
    const BYTES_MAX: usize = 47;

    /// From a field's value.
    pub fn new(id: &[u8]) -> Self {
        let len = id.len().min(Self::BYTES_MAX);
        let mut bytes = [0; Self::BYTES_MAX];
        bytes[..len].copy_from_slice(&id[..len]);
        Self {
            bytes,
            len: len as u8,
        }
    }

    /// Its text.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        let id = &self.bytes[..usize::from(self.len)];
        (!id.is_empty()).then(|| String::from_utf8_lossy(id))
    }
}

impl Default for ForeignId {
    fn default() -> Self {
        Self::new(b"")
    }
}

impl fmt::Debug for ForeignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_providers_id_is_kept_up_to_its_bound() {
        assert_eq!(ForeignId::default().text(), None);
        assert_eq!(ForeignId::new(b"req_\xff").text().unwrap(), "req_\u{fffd}");
        let long = ForeignId::new(&[b'x'; 1000]);
        assert_eq!(long.text().unwrap(), "x".repeat(47));
    }

    proptest! {
        #[test]
        fn digits_are_those_of_the_numbers(prefix: u64, count: u32) {
            let id = RequestId::new(prefix, count);
            prop_assert_eq!(id.as_str(), format!("{prefix:016x}{count:08x}"));
            prop_assert_eq!(id.as_bytes(), id.as_str().as_bytes());
        }
    }
}
