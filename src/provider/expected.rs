//! How many tokens a request may cost, as long as its provider has not counted.
//!
//! `exchange` asks for keys whose tokens are limited, so that many requests at once cannot all pass a limit that is
//! nearly reached; and behind an answer that nobody has counted. Texts are taken by their length. Files (images,
//! documents, sound) are not: how many bytes they have says nothing of their tokens.

use super::operation::Task;

/// A token of text is taken to be this many bytes.
const BYTES_PER_TOKEN: usize = 4;
/// What a file is taken to cost: an image's most with the vendors that say so (OpenAI 1,445, Anthropic about 1,600).
const FILE_TOKENS: usize = 1_500;
/// Texts have a space, or something else that base64 has not, more often than this.
const FILE_BYTES_MIN: usize = 2_048;

/// The tokens that a request of this task may cost.
pub fn tokens(task: Task, body: &[u8]) -> u64 {
    let tokens = match task {
        Task::CountTokens | Task::GeminiCountTokens | Task::Moderations => 0,
        Task::Audio | Task::Images => FILE_TOKENS.min(body.len() / BYTES_PER_TOKEN),
        _ => with_files(body),
    };
    tokens as u64
}

/// Of a body of texts with files between them.
fn with_files(body: &[u8]) -> usize {
    let (mut files, mut of_files) = (0, 0);
    let mut at = 0;
    // A run is looked at from its end, so that most of a text is passed over.
    while let Some(window) = body.get(at..at + FILE_BYTES_MIN) {
        if let Some(other) = window.iter().rposition(|byte| !is_base64(*byte)) {
            at += other + 1;
            continue;
        }
        // It is in a string, and ends with that at the latest.
        let rest = &body[at..];
        let end = memchr::memchr(b'"', rest).unwrap_or(rest.len());
        files += 1;
        of_files += end;
        at += end;
    }
    (body.len() - of_files) / BYTES_PER_TOKEN + files * FILE_TOKENS
}

/// Of either alphabet (RFC 4648).
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_by_their_length_files_by_their_number() {
        let text = "so it goes, ".repeat(20_000);
        let chinese = "\u{4f60}\u{597d}".repeat(2_000);
        let file = "aB3+/_-=".repeat(100_000);
        let part = |file: &str| format!(r#"{{"url":"data:image/png;base64,{file}"}}"#);
        for (body, texts, files) in [
            (String::new(), 0, 0),
            (text.clone(), text.len(), 0),
            (chinese.clone(), chinese.len(), 0),
            (part(&file), part("").len(), 1),
            (
                part(&file) + &text + &part(&file),
                2 * part("").len() + text.len(),
                2,
            ),
            (part(&file[..FILE_BYTES_MIN]), part("").len(), 1),
            // Too short to be told from a text.
            (part(&file[..1_000]), part("").len() + 1_000, 0),
            // Its string does not end.
            (file.clone(), 0, 1),
        ] {
            let expected = texts / BYTES_PER_TOKEN + files * FILE_TOKENS;
            assert_eq!(
                tokens(Task::ChatCompletions, body.as_bytes()),
                expected as u64,
                "{} bytes",
                body.len()
            );
        }
    }

    #[test]
    fn what_costs_no_tokens_is_expected_to_cost_none() {
        let body = vec![b' '; 400_000];
        for (task, expected) in [
            (Task::CountTokens, 0),
            (Task::GeminiCountTokens, 0),
            (Task::Moderations, 0),
            (Task::Audio, 1_500),
            (Task::Images, 1_500),
            (Task::Embeddings, 100_000),
        ] {
            assert_eq!(tokens(task, &body), expected, "{task:?}");
        }
        assert_eq!(tokens(Task::Audio, b"{\"input\":\"hello\"}"), 4);
    }
}
