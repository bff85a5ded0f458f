//! The place where something is counted, and its bytes: they sort by key, then time, so that one key's span is one range.

/// What stands for models beyond those that a key may have in a day.
pub const OTHER_MODEL: &str = "(other)";

/// No row's model is longer; a longer one is cut.
const MODEL_BYTES_MAX: usize = 128;

/// A key, an hour or a day since 1970, a provider, a route, a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) key: &'a str,
    pub(super) time: u32,
    pub(super) provider: &'a str,
    pub(super) route: &'a str,
    pub(super) model: &'a str,
}

impl<'a> Place<'a> {
    /// Writes it over what is in `out`. A NUL ends each text but the model, which callers choose and which ends it all.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let model = self.model.floor_char_boundary(MODEL_BYTES_MAX);
        let model = &self.model.as_bytes()[..model];
        out.clear();
        text(out, self.key);
        out.extend_from_slice(&self.time.to_be_bytes());
        text(out, self.provider);
        text(out, self.route);
        out.extend_from_slice(model);
    }

    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let key = until_nul(&mut rest)?;
        let (time, behind) = rest.split_first_chunk()?;
        rest = behind;
        Some(Self {
            key,
            time: u32::from_be_bytes(*time),
            provider: until_nul(&mut rest)?,
            route: until_nul(&mut rest)?,
            model: std::str::from_utf8(rest).ok()?,
        })
    }

    /// The bytes that all places of `key` from `time` on stand behind.
    pub(super) fn start(key: &str, time: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(key.len() + 5);
        text(&mut out, key);
        out.extend(time.to_be_bytes());
        out
    }

    /// The bytes that stand behind every place of `key` and before those of any other.
    pub(super) fn behind(key: &str) -> Vec<u8> {
        let mut out = key.replace('\0', "?").into_bytes();
        out.push(1);
        out
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    // Hardly ever there is one.
    if has_nul(text.as_bytes()) {
        let nul = |byte: &&mut u8| **byte == 0;
        out[start..]
            .iter_mut()
            .filter(nul)
            .for_each(|nul| *nul = b'?');
    }
    out.push(0);
}

/// Word by word, the last two over each other: for texts this short, less than the start of a search.
fn has_nul(text: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let Some(last) = text.last_chunk() else {
        return text.contains(&0);
    };
    // A byte's highest bit, where it is zero; and maybe some above one that is.
    let marks = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        word.wrapping_sub(ONES) & !word & HIGHS
    };
    let words = text.as_chunks().0.iter();
    words.fold(marks(last), |any, word| any | marks(word)) != 0
}

fn until_nul<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let end = memchr::memchr(0, rest)?;
    let text = std::str::from_utf8(&rest[..end]).ok()?;
    *rest = &rest[end + 1..];
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_back_and_sort_by_key_and_time() {
        let place = |key, time, model| Place {
            key,
            time,
            provider: "openai",
            route: "/v1/chat/completions",
            model,
        };
        let bytes = |place: Place<'_>| {
            let mut out = vec![9];
            place.write(&mut out);
            out
        };
        let rows = [
            place("key_a", 5, "gpt\0x"),
            place("key_a", 5, "é"),
            place("key_a", 256, ""),
            place("key_ab", 1, "m"),
        ];
        let hostile = Place {
            key: "a\0b",
            provider: "twelve bytes\0",
            route: "\0four words and one to be one more",
            ..place("", 0, "m\0")
        };
        let read = bytes(hostile);
        let read = Place::read(&read).unwrap();
        assert_eq!((read.key, read.provider), ("a?b", "twelve bytes?"));
        let route = "?four words and one to be one more";
        assert_eq!((read.route, read.model), (route, "m\0"));
        for row in rows {
            assert_eq!(Place::read(&bytes(row)), Some(row));
        }
        assert!(rows.is_sorted_by_key(|row| bytes(*row)));
        assert!(
            Place::start("key_a", 6) > bytes(rows[1]) && Place::start("key_a", 6) < bytes(rows[2])
        );
        assert!(Place::behind("key_a") > bytes(rows[2]) && Place::behind("key_a") < bytes(rows[3]));
        let long = "é".repeat(100);
        let cut = bytes(place("k", 1, &long));
        assert_eq!(Place::read(&cut).unwrap().model.len(), 128);
        assert_eq!(Place::read(b"abc"), None);
    }
}
