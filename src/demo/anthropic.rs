//! The demo provider's Anthropic dialect: messages, plain and streamed, and token counting.

use sonic_rs::{JsonValueTrait as _, Value, json};

use super::answer::{MODEL, Reply, echo, named, newest, pieces, request_tokens, tokens};

/// `POST /v1/messages`.
pub(super) fn messages(request: &Value) -> Reply {
    let text = echo(&newest(&request["messages"], "user", "content"));
    let (input, output) = (request_tokens(&request["messages"]), tokens(&text));
    let usage = |output: u64| {
        json!({
            "input_tokens": input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": output
        })
    };
    let message = |content: Value, stop: Option<&str>, output: u64| {
        json!({
            "id": "msg_demo", "type": "message", "role": "assistant", "model": MODEL, "content": content,
            "stop_reason": stop, "stop_sequence": null, "usage": usage(output)
        })
    };
    if request["stream"].as_bool() != Some(true) {
        let content = json!([{"type": "text", "text": text.as_str()}]);
        return Reply::json(200, &message(content, Some("end_turn"), output));
    }
    let mut events = vec![
        named(&json!({"type": "message_start", "message": message(json!([]), None, 1)})),
        named(&json!({
            "type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}
        })),
        named(&json!({"type": "ping"})),
    ];
    events.extend(pieces(&text).into_iter().map(|piece| {
        named(&json!({
            "type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}
        }))
    }));
    events.extend([
        named(&json!({"type": "content_block_stop", "index": 0})),
        named(&json!({
            "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
            "usage": {"output_tokens": output}
        })),
        named(&json!({"type": "message_stop"})),
    ]);
    Reply::events(events)
}

/// `POST /v1/messages/count_tokens`.
pub(super) fn count_tokens(request: &Value) -> Reply {
    Reply::json(
        200,
        &json!({"input_tokens": request_tokens(&request["messages"])}),
    )
}
