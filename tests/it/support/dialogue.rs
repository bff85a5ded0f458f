//! Conversations in every dialect: what a caller sends, and what a provider answers, plain and streamed.

use serde_json::{Value, json};

use super::provider::{Received, Then, Wire};

/// One way to hold a conversation through the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Chat,
    Responses,
    Messages,
    Gemini,
}

pub const WAYS: [Way; 4] = [Way::Chat, Way::Responses, Way::Messages, Way::Gemini];

impl Way {
    pub fn path(self, stream: bool) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::Gemini if stream => "/v1beta/models/gemini-x:streamGenerateContent?alt=sse",
            Self::Gemini => "/v1beta/models/gemini-x:generateContent",
        }
    }

    /// The way of a request's target.
    pub fn of(target: &str) -> Self {
        match () {
            () if target.contains("/chat/completions") => Self::Chat,
            () if target.contains("/responses") => Self::Responses,
            () if target.contains("/messages") => Self::Messages,
            () => Self::Gemini,
        }
    }

    /// What the user says, as a message; in parts, or as a bare string where the dialect has that.
    pub fn user(self, text: &str, parts: bool) -> Value {
        match (self, parts) {
            (Self::Chat | Self::Messages, false) => json!({"role": "user", "content": text}),
            (Self::Chat | Self::Messages, true) => {
                json!({"role": "user", "content": [{"type": "text", "text": text}]})
            }
            (Self::Responses, false) => json!({"role": "user", "content": text}),
            (Self::Responses, true) => {
                json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
            }
            (Self::Gemini, _) => json!({"role": "user", "parts": [{"text": text}]}),
        }
    }

    /// What the model says.
    pub fn model(self, text: &str) -> Value {
        match self {
            Self::Gemini => json!({"role": "model", "parts": [{"text": text}]}),
            Self::Responses => {
                json!({"role": "assistant", "content": [{"type": "output_text", "text": text}]})
            }
            _ => json!({"role": "assistant", "content": text}),
        }
    }

    /// A step of an agent: what it calls, and what that gives back.
    pub fn step(self, n: usize, result: &str) -> [Value; 2] {
        let id = format!("call_{n}");
        match self {
            Self::Chat => [
                json!({"role": "assistant", "content": null, "tool_calls": [{"id": id, "type": "function",
                    "function": {"name": "look", "arguments": "{}"}}]}),
                json!({"role": "tool", "tool_call_id": id, "content": result}),
            ],
            Self::Responses => [
                json!({"type": "function_call", "call_id": id, "name": "look", "arguments": "{}"}),
                json!({"type": "function_call_output", "call_id": id, "output": result}),
            ],
            Self::Messages => [
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "look", "input": {}}]}),
                json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": result}]}),
            ],
            Self::Gemini => [
                json!({"role": "model", "parts": [{"functionCall": {"name": "look", "args": {}}}]}),
                json!({"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"r": result}}}]}),
            ],
        }
    }

    /// The body of a request; `members` go in front of the messages.
    pub fn body(self, messages: &[Value], stream: bool, members: &str) -> String {
        let list = serde_json::to_string(messages).unwrap();
        let stream = if stream { "\"stream\":true," } else { "" };
        match self {
            Self::Chat => format!(r#"{{"model":"gpt-4o",{stream}{members}"messages":{list}}}"#),
            Self::Responses => format!(r#"{{"model":"gpt-4o",{stream}{members}"input":{list}}}"#),
            Self::Messages => {
                format!(
                    r#"{{"model":"claude-x","max_tokens":9,{stream}{members}"messages":{list}}}"#
                )
            }
            Self::Gemini => format!(r#"{{{members}"contents":{list}}}"#),
        }
    }
}

/// Answers a request with `text` in its dialect.
pub fn answer(request: &Received, wire: &mut Wire, text: &str) -> Then {
    let way = Way::of(&request.target);
    let streams =
        request.target.contains("streamGenerate") || memchr(&request.body, b"\"stream\":true");
    if streams {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for event in events(way, text) {
            if !wire.send(format!("{:x}\r\n{event}\r\n", event.len())) {
                return Then::Close;
            }
        }
        wire.send("0\r\n\r\n");
    } else {
        wire.send(super::json(200, &plain(way, text).to_string()));
    }
    Then::Keep
}

fn memchr(haystack: &[u8], needle: &[u8]) -> bool {
    super::contains(haystack, needle)
}

pub fn plain(way: Way, text: &str) -> Value {
    match way {
        Way::Chat => {
            json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
        }
        Way::Responses => {
            json!({"status": "completed", "error": null, "output": [{"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": text}]}],
            "usage": {"input_tokens": 1, "output_tokens": 1}})
        }
        Way::Messages => {
            json!({"type": "message", "content": [{"type": "thinking", "thinking": "SECRET-THOUGHT"},
            {"type": "text", "text": text}], "usage": {"input_tokens": 1, "output_tokens": 1}})
        }
        Way::Gemini => json!({"candidates": [{"content": {"role": "model",
            "parts": [{"text": "SECRET-THOUGHT", "thought": true}, {"text": text}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}}),
    }
}

/// The events of a stream that says it.
pub fn events(way: Way, text: &str) -> Vec<String> {
    let named = |name: &str, value: Value| format!("event: {name}\ndata: {value}\n\n");
    let bare = |value: Value| format!("data: {value}\n\n");
    let pieces = text.split_inclusive(' ');
    let mut events: Vec<String> = Vec::new();
    match way {
        Way::Chat => {
            events.push(bare(
                json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
            ));
            events.extend(pieces.map(|piece| {
                bare(json!({"choices": [{"index": 0, "delta": {"content": piece}}]}))
            }));
            events.push(bare(
                json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            ));
            events.push("data: [DONE]\n\n".into());
        }
        Way::Responses => {
            let kind = "response.output_text.delta";
            events.push(named(
                "response.created",
                json!({"type": "response.created", "response": {"error": null}}),
            ));
            events.extend(pieces.map(|piece| named(kind, json!({"type": kind, "delta": piece}))));
            events.push(named(
                "response.completed",
                json!({"type": "response.completed", "response": {"error": null}}),
            ));
        }
        Way::Messages => {
            let delta = |delta: Value| {
                named(
                    "content_block_delta",
                    json!({"type": "content_block_delta", "index": 0, "delta": delta}),
                )
            };
            events.push(named(
                "message_start",
                json!({"type": "message_start", "message": {"content": []}}),
            ));
            events.push(delta(
                json!({"type": "thinking_delta", "thinking": "SECRET-THOUGHT"}),
            ));
            events.extend(pieces.map(|piece| delta(json!({"type": "text_delta", "text": piece}))));
            events.push(named("message_stop", json!({"type": "message_stop"})));
        }
        Way::Gemini => {
            events.extend(pieces.map(|piece| {
                bare(json!({"candidates": [{"content": {"parts": [{"text": piece}]}}]}))
            }));
            events.push(bare(
                json!({"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}]}),
            ));
        }
    }
    events
}
