//! How deep JSON nests. What takes it apart calls itself once for each level, so a few hundred kilobytes of brackets, of
//! a provider's or a caller's, would overflow a thread's stack and end the process.
//!
//! Whoever gives bytes of others to a parser asks here first. Pure.

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
        }
    }
}
