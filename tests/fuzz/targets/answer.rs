//! Answers: the field finder reads any bytes of a provider's without a panic, and whole answers like streamed ones.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memoryrouter::provider::Dialect;
use memoryrouter::provider::answer::Observed;

fuzz_target!(|bytes: &[u8]| {
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
        let mut seen = Observed::default();
        seen.event(dialect, b"message_delta", bytes, true);
        seen.tail(dialect, bytes);
        seen.whole(dialect, bytes);
        let mut tail_only = Observed::default();
        let from = bytes.len().saturating_sub(4096);
        tail_only.tail(dialect, &bytes[from..]);
        let valid = serde_json::from_slice::<serde_json::Value>(bytes);
        if let Ok(serde_json::Value::Object(object)) = valid {
            let usage = object.contains_key("usage") || object.contains_key("usageMetadata");
            if tail_only.usage.input.is_some() && from == 0 {
                assert!(usage || memchr_usage(bytes), "counts out of nowhere");
            }
        }
    }
});

/// The finder takes the last object of that name, wherever it stands.
fn memchr_usage(bytes: &[u8]) -> bool {
    bytes.windows(5).any(|window| window == b"usage")
}
