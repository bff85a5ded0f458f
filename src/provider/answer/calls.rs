//! What an answer asks its caller to do: it is then a step of an agent's and not what the model has to say.
//!
//! An event or a plain answer is parsed for it only if it holds a word that all such have. What a provider's own tools
//! do on the way to an answer is no call.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use sonic_rs::{JsonContainerTrait as _, JsonValueTrait as _, Value};

use super::super::{Dialect, lossy};

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

/// The first call in an event's data, or in a plain answer, by its id; that is empty where it has none.
pub(super) fn first_in(dialect: Dialect, data: &[u8]) -> Option<String> {
    let holds = |word: &Finder<'_>| word.find(data).is_some();
    let may = match dialect {
        Dialect::OpenAi => holds(&TOOL_CALLS) || holds(&CALL),
        Dialect::Anthropic => holds(&TOOL_USE),
        Dialect::Gemini => holds(&FUNCTION_CALL),
    };
    if !may {
        return None;
    }
    let value: Value = lossy::parse(data)?;
    let id = match dialect {
        Dialect::OpenAi => of_openai(&value),
        Dialect::Anthropic => of_anthropic(&value),
        // Without `alt=sse` a stream is one array of answers.
        Dialect::Gemini => match value.is_array() {
            true => each(&value).find_map(of_gemini),
            false => of_gemini(&value),
        },
    };
    id.map(|id| id.as_str().unwrap_or_default().to_owned())
}

fn of_openai(value: &Value) -> Option<&Value> {
    // Of several answers that were asked for, only the first one's text counts.
    let first = each(&value["choices"]).filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0);
    let mut messages = first.flat_map(|choice| [&choice["delta"], &choice["message"]]);
    let is_call = |item: &&Value| ITEMS.iter().any(|kind| is(&item["type"], kind));
    let items = || [&value["item"]].into_iter().chain(each(&value["output"]));
    messages
        .find_map(of_message)
        .or_else(|| items().find(is_call).map(|item| &item["call_id"]))
}

fn of_message(message: &Value) -> Option<&Value> {
    let call = each(&message["tool_calls"]).next();
    let function = || Some(&message["function_call"]).filter(|call| call.is_object());
    call.or_else(function).map(|call| &call["id"])
}

fn of_anthropic(value: &Value) -> Option<&Value> {
    let mut parts = each(&value["content"]).chain([&value["content_block"]]);
    let delta = &value["delta"];
    parts
        .find(|part| is(&part["type"], "tool_use"))
        .map(|part| &part["id"])
        .or_else(|| is(&delta["stop_reason"], "tool_use").then(|| &delta["id"]))
}

fn of_gemini(value: &Value) -> Option<&Value> {
    let mut calls =
        each(&value["candidates"][0]["content"]["parts"]).map(|part| &part["functionCall"]);
    calls.find(|call| call.is_object()).map(|call| &call["id"])
}

fn is(value: &Value, word: &str) -> bool {
    value.as_str() == Some(word)
}

/// The elements of a list; none if it is no list.
fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flat_map(|list| list.iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_every_dialect() {
        use Dialect::{Anthropic, Gemini, OpenAi};
        #[rustfmt::skip] // Rows read by themselves.
        let rows = [
            (OpenAi, r#"{"choices":[{"index":0,"finish_reason":"tool_calls","message":{"content":"I look","tool_calls":[{"id":"x"},{"id":"y"}]}}]}"#, Some("x")),
            (OpenAi, r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0}]}}]}"#, Some("")),
            (OpenAi, r#"{"choices":[{"delta":{"function_call":{"name":"f"}}}]}"#, Some("")),
            (OpenAi, r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":0}]}}]}"#, None),
            (OpenAi, r#"{"choices":[{"delta":{"content":"tool_calls","tool_calls":[],"function_call":null}}]}"#, None),
            (OpenAi, r#"{"choices":[{"delta":{"content":"\"tool_calls\": [{}]"}}]}"#, None),
            (OpenAi, r#"{"type":"response.output_item.added","item":{"type":"function_call","id":"fc","call_id":"c"}}"#, Some("c")),
            (OpenAi, r#"{"type":"response.output_item.done","item":{"type":"web_search_call"}}"#, None),
            (OpenAi, r#"{"output":[{"type":"message","content":[]},{"type":"custom_tool_call"}]}"#, Some("")),
            (OpenAi, r#"{"output":[{"type":"file_search_call"},{"type":"message"}],"parallel_tool_calls":true}"#, None),
            (Anthropic, r#"{"content":[{"type":"text","text":"I look"},{"type":"tool_use","id":"t"}],"stop_reason":"tool_use"}"#, Some("t")),
            (Anthropic, r#"{"type":"content_block_start","content_block":{"type":"tool_use","id":"t"}}"#, Some("t")),
            (Anthropic, r#"{"type":"message_delta","delta":{"stop_reason":"tool_use"}}"#, Some("")),
            (Anthropic, r#"{"content":[{"type":"server_tool_use"},{"type":"text","text":"tool_use"}],"stop_reason":"end_turn"}"#, None),
            (Gemini, r#"{"candidates":[{"content":{"parts":[{"text":"I look"},{"functionCall":{"name":"f"}}]}}]}"#, Some("")),
            (Gemini, r#"[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]},{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}]"#, Some("")),
            (Gemini, r#"{"candidates":[{"content":{"parts":[{"text":"\"functionCall\""}]}}]}"#, None),
        ];
        for (dialect, data, found) in rows {
            assert_eq!(
                first_in(dialect, data.as_bytes()).as_deref(),
                found,
                "{data}"
            );
        }
    }
}
