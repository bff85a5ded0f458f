//! How deep JSON nests. What takes it apart calls itself once for each level, so a few hundred kilobytes of brackets, of
//! a provider's or a caller's, would overflow a thread's stack and end the process.
//!
//! Whoever gives bytes of others to a parser asks here first. Pure.

use std::borrow::Cow;

use memchr::{memchr2, memchr2_iter};

/// Nothing that anybody means is deeper. A level takes 200 bytes of stack, but 20,000 where nothing is optimised.
const DEPTH_MAX: usize = 64;

/// Whether a JSON text, or its beginning, nests no deeper than a parser can bear. That it is JSON is not looked at.
pub fn fits(json: &[u8]) -> bool {
    // Most have no more brackets than that, in strings or not.
    if memchr2_iter(b'[', b'{', json).nth(DEPTH_MAX).is_none() {
        return true;
    }
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = behind_string(json, at),
            _ => {}
        }
    }
    true
}

/// The text without what nests deeper than a parser can bear: where that begins, a list or an object is empty.
pub fn pruned(json: &[u8]) -> Cow<'_, [u8]> {
    if fits(json) {
        return Cow::Borrowed(json);
    }
    let mut kept = Vec::new();
    let (mut depth, mut at, mut from) = (0_usize, 0, 0);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth == DEPTH_MAX {
                    kept.extend_from_slice(&json[from..at]);
                }
            }
            b']' | b'}' => {
                if depth == DEPTH_MAX {
                    from = at - 1;
                }
                depth = depth.saturating_sub(1);
            }
            b'"' => at = behind_string(json, at),
            _ => {}
        }
    }
    if depth < DEPTH_MAX {
        kept.extend_from_slice(&json[from..]);
    }
    Cow::Owned(kept)
}

/// Behind the quote that closes the string in which `at` stands.
fn behind_string(json: &[u8], mut at: usize) -> usize {
    while let Some(found) = json.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        if json[at + found] == b'"' {
            return at + found + 1;
        }
        at += found + 2;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_where_they_nest() {
        let nested = |open: &str, depth: usize, close: &str| {
            format!("{}1{}", open.repeat(depth), close.repeat(depth))
        };
        for (json, expected) in [
            (String::new(), true),
            (nested("[", 64, "]"), true),
            (nested("[", 65, "]"), false),
            (nested("{\"a\":", 64, "}"), true),
            (nested("{\"a\":", 65, "}"), false),
            ("[".repeat(65), false),
            ("[]".repeat(10_000), true),
            ("]".repeat(200) + &"[".repeat(64), true),
            (format!("[\"{}\"]", "[".repeat(10_000)), true),
            (format!("[\"\\\"{}\"]", "[".repeat(10_000)), true),
            (format!("[\"\\\\\",{}", "[".repeat(10_000)), false),
            (format!("\"{}\\", "[".repeat(10_000)), true),
        ] {
            assert_eq!(fits(json.as_bytes()), expected, "{:.40}", json);
            let pruned = pruned(json.as_bytes());
            assert!(fits(&pruned) && (!expected || *pruned == *json.as_bytes()));
        }
        let deep = format!("{{\"a\":{},\"b\":[{{\"c]\":2}}]}}", nested("[", 100, "]"));
        let left = format!(
            "{{\"a\":{}{},\"b\":[{{\"c]\":2}}]}}",
            "[".repeat(63),
            "]".repeat(63)
        );
        assert_eq!(*pruned(deep.as_bytes()), *left.as_bytes());
    }
}
