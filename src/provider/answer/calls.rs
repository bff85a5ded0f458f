//! Whether an answer asks its caller to do something: it is then a step of an agent's and not what the model has to say.
//!
//! An event or a plain answer is parsed for it only if it holds a word that all such have. What a provider's own tools
//! do on the way to an answer is no call.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use sonic_rs::{JsonContainerTrait as _, JsonValueTrait as _, Value};

use super::super::Dialect;
use crate::depth;

static TOOL_CALLS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"tool_calls\""));
static CALL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"_call\""));
static TOOL_USE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"tool_use\""));
static FUNCTION_CALL: LazyLock<Finder<'static>> =
    LazyLock::new(|| Finder::new(b"\"functionCall\""));

/// Items of OpenAI's responses that the caller is to act on.
const ITEMS: [&str; 6] = [
    "function_call",
    "custom_tool_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
    "computer_call",
];

/// Whether an event's data, or a plain answer, holds a call.
pub(super) fn any_in(dialect: Dialect, data: &[u8]) -> bool {
    let holds = |word: &Finder<'_>| word.find(data).is_some();
    let may = match dialect {
        Dialect::OpenAi => holds(&TOOL_CALLS) || holds(&CALL),
        Dialect::Anthropic => holds(&TOOL_USE),
        Dialect::Gemini => holds(&FUNCTION_CALL),
    };
    may && depth::fits(data)
        && sonic_rs::from_slice(data).is_ok_and(|value: Value| match dialect {
            Dialect::OpenAi => of_openai(&value),
            Dialect::Anthropic => {
                let delta = &value["delta"];
                any(&value["content"], |part| is(&part["type"], "tool_use"))
                    || is(&value["content_block"]["type"], "tool_use")
                    || is(&delta["stop_reason"], "tool_use")
            }
            // Without `alt=sse` a stream is one array of answers.
            Dialect::Gemini => match value.is_array() {
                true => any(&value, of_gemini),
                false => of_gemini(&value),
            },
        })
}

fn of_openai(value: &Value) -> bool {
    let is_item = |item: &Value| ITEMS.iter().any(|kind| is(&item["type"], kind));
    // Of several answers that were asked for, only the first one's text counts.
    let is_first = |choice: &Value| choice["index"].as_u64().unwrap_or(0) == 0;
    let calls = |message: &Value| {
        any(&message["tool_calls"], |_| true) || message["function_call"].is_object()
    };
    any(&value["choices"], |choice| {
        is_first(choice) && (calls(&choice["delta"]) || calls(&choice["message"]))
    }) || is_item(&value["item"])
        || any(&value["output"], is_item)
}

fn of_gemini(value: &Value) -> bool {
    let parts = &value["candidates"][0]["content"]["parts"];
    any(parts, |part| part["functionCall"].is_object())
}

fn is(value: &Value, word: &str) -> bool {
    value.as_str() == Some(word)
}

fn any(list: &Value, wanted: impl Fn(&Value) -> bool) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_every_dialect() {
        use Dialect::{Anthropic, Gemini, OpenAi};
        #[rustfmt::skip] // Rows read by themselves.
        let rows = [
            (OpenAi, r#"{"choices":[{"index":0,"finish_reason":"tool_calls","message":{"content":"I look","tool_calls":[{"id":"x"}]}}]}"#, true),
            (OpenAi, r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}"#, true),
            (OpenAi, r#"{"choices":[{"delta":{"function_call":{"name":"f"}}}]}"#, true),
            (OpenAi, r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0}]}}]}"#, false),
            (OpenAi, r#"{"choices":[{"delta":{"content":"tool_calls","tool_calls":[],"function_call":null}}]}"#, false),
            (OpenAi, r#"{"choices":[{"delta":{"content":"\"tool_calls\": [{}]"}}]}"#, false),
            (OpenAi, r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}"#, true),
            (OpenAi, r#"{"type":"response.output_item.done","item":{"type":"web_search_call"}}"#, false),
            (OpenAi, r#"{"output":[{"type":"message","content":[]},{"type":"custom_tool_call"}]}"#, true),
            (OpenAi, r#"{"output":[{"type":"file_search_call"},{"type":"message"}],"parallel_tool_calls":true}"#, false),
            (Anthropic, r#"{"content":[{"type":"text","text":"I look"},{"type":"tool_use","id":"t"}],"stop_reason":"tool_use"}"#, true),
            (Anthropic, r#"{"type":"content_block_start","content_block":{"type":"tool_use"}}"#, true),
            (Anthropic, r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"}}"#, true),
            (Anthropic, r#"{"content":[{"type":"server_tool_use"},{"type":"text","text":"tool_use"}],"stop_reason":"end_turn"}"#, false),
            (Gemini, r#"{"candidates":[{"content":{"parts":[{"text":"I look"},{"functionCall":{"name":"f"}}]}}]}"#, true),
            (Gemini, r#"[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]},{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}]"#, true),
            (Gemini, r#"{"candidates":[{"content":{"parts":[{"text":"\"functionCall\""}]}}]}"#, false),
        ];
        for (dialect, data, found) in rows {
            assert_eq!(any_in(dialect, data.as_bytes()), found, "{data}");
        }
    }
}
