//! How deep JSON nests. What takes it apart calls itself once for each level, so a few hundred kilobytes of brackets, of
//! a provider's or a caller's, would overflow a thread's stack and end the process.
//!
//! Whoever gives bytes of others to a parser asks here first. Pure.

use memchr::memchr2;

/// As deep as a request's body may be.
const DEPTH_MAX: usize = 128;

/// Whether a JSON text, or its beginning, nests no deeper than a parser can bear. That it is JSON is not looked at.
pub fn fits(json: &[u8]) -> bool {
    // Each level takes a byte: most events of a stream are done here.
    if json.len() <= DEPTH_MAX {
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
            (nested("[", 128, "]"), true),
            (nested("[", 129, "]"), false),
            (nested("{\"a\":", 128, "}"), true),
            (nested("{\"a\":", 129, "}"), false),
            ("[".repeat(129), false),
            ("[]".repeat(10_000), true),
            ("]".repeat(200) + &"[".repeat(128), true),
            (format!("[\"{}\"]", "[".repeat(10_000)), true),
            (format!("[\"\\\"{}\"]", "[".repeat(10_000)), true),
            (format!("[\"\\\\\",{}", "[".repeat(10_000)), false),
            (format!("\"{}\\", "[".repeat(10_000)), true),
        ] {
            assert_eq!(fits(json.as_bytes()), expected, "{:.40}", json);
        }
    }
}
