//! The demo provider's OpenAI dialect: chat and text completions, responses, embeddings, moderations.

use sonic_rs::{JsonContainerTrait as _, JsonValueMutTrait as _, JsonValueTrait as _, Value, json};

use super::answer::{
    MODEL, Reply, data, echo, embedding, named, newest, pieces, request_tokens, text_of, tokens,
};

fn usage(input: u64, output: u64) -> Value {
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

/// `POST /v1/chat/completions`. A Responses-shaped body (`input`, no `messages`) is answered alike.
pub(super) fn chat(request: &Value, now: i64) -> Reply {
    let said = match request.get("messages") {
        Some(messages) => newest(messages, "user", "content"),
        None => input_text(&request["input"]),
    };
    let text = echo(&said);
    let usage = usage(request_tokens(&request["messages"]), tokens(&text));
    if request["stream"].as_bool() != Some(true) {
        return Reply::json(
            200,
            &json!({
                "id": "chatcmpl-demo", "object": "chat.completion", "created": now, "model": MODEL,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": null},
                    "logprobs": null, "finish_reason": "stop"}],
                "usage": usage
            }),
        );
    }
    let chunk = |delta: Value, finish: Option<&str>| {
        data(&json!({
            "id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": now, "model": MODEL,
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]
        }))
    };
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), None)];
    events.extend(
        pieces(&text)
            .into_iter()
            .map(|piece| chunk(json!({"content": piece}), None)),
    );
    events.push(chunk(json!({}), Some("stop")));
    if request["stream_options"]["include_usage"].as_bool() == Some(true) {
        events.push(data(&json!({
            "id": "chatcmpl-demo", "object": "chat.completion.chunk", "created": now, "model": MODEL,
            "choices": [], "usage": usage
        })));
    }
    events.push("data: [DONE]\n\n".into());
    Reply::events(events)
}

/// `POST /v1/completions`.
pub(super) fn completions(request: &Value, now: i64) -> Reply {
    let said = text_of(&request["prompt"]);
    let text = echo(&said);
    let whole = |text: &str, finish: Option<&str>| {
        json!({
            "id": "cmpl-demo", "object": "text_completion", "created": now, "model": MODEL,
            "choices": [{"index": 0, "text": text, "logprobs": null, "finish_reason": finish}]
        })
    };
    if request["stream"].as_bool() == Some(true) {
        let mut events: Vec<String> = pieces(&text)
            .into_iter()
            .map(|piece| data(&whole(piece, None)))
            .collect();
        events.push(data(&whole("", Some("stop"))));
        events.push("data: [DONE]\n\n".into());
        return Reply::events(events);
    }
    let mut answer = whole(&text, Some("stop"));
    if let Some(object) = answer.as_object_mut() {
        object.insert("usage", usage(tokens(&said), tokens(&text)));
    }
    Reply::json(200, &answer)
}

/// The text of a Responses `input`: a string, or items of which the newest user message counts.
fn input_text(input: &Value) -> String {
    match input.as_str() {
        Some(text) => text.to_owned(),
        None => newest(input, "user", "content"),
    }
}

/// `POST /v1/responses`.
pub(super) fn responses(request: &Value, now: i64) -> Reply {
    let text = echo(&input_text(&request["input"]));
    let (input, output) = (request_tokens(&request["input"]), tokens(&text));
    let message = |status: &str, content: Value| json!({"type": "message", "id": "msg_demo", "status": status, "role": "assistant", "content": content});
    let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": []});
    let response = |status: &str, items: Value, usage: Value| {
        json!({
            "id": "resp_demo", "object": "response", "created_at": now, "status": status, "error": null,
            "incomplete_details": null, "instructions": null, "metadata": {}, "model": MODEL, "output": items,
            "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "usage": usage
        })
    };
    let done = response(
        "completed",
        json!([message("completed", json!([part(&text)]))]),
        json!({
            "input_tokens": input, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input + output
        }),
    );
    if request["stream"].as_bool() != Some(true) {
        return Reply::json(200, &done);
    }
    let begun = response("in_progress", json!([]), json!(null));
    let mut steps = vec![
        json!({"type": "response.created", "response": begun.clone()}),
        json!({"type": "response.in_progress", "response": begun}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": message("in_progress", json!([]))}),
        json!({"type": "response.content_part.added", "item_id": "msg_demo", "output_index": 0, "content_index": 0,
            "part": part("")}),
    ];
    steps.extend(pieces(&text).into_iter().map(|piece| {
        json!({"type": "response.output_text.delta", "item_id": "msg_demo", "output_index": 0, "content_index": 0,
            "delta": piece, "logprobs": []})
    }));
    steps.extend([
        json!({"type": "response.output_text.done", "item_id": "msg_demo", "output_index": 0, "content_index": 0,
            "text": text.as_str(), "logprobs": []}),
        json!({"type": "response.content_part.done", "item_id": "msg_demo", "output_index": 0, "content_index": 0,
            "part": part(&text)}),
        json!({"type": "response.output_item.done", "output_index": 0,
            "item": message("completed", json!([part(&text)]))}),
        json!({"type": "response.completed", "response": done}),
    ]);
    for (number, step) in steps.iter_mut().enumerate() {
        if let Some(object) = step.as_object_mut() {
            object.insert("sequence_number", number as u64);
        }
    }
    Reply::events(steps.iter().map(named).collect())
}

/// A string, or a list of strings.
fn inputs(input: &Value) -> Vec<String> {
    match input.as_array() {
        Some(list) => list.iter().map(text_of).collect(),
        None => vec![text_of(input)],
    }
}

/// `POST /v1/embeddings`, as numbers or as base64 of little-endian 32-bit floats, which the SDKs ask for.
pub(super) fn embeddings(request: &Value) -> Reply {
    let inputs = inputs(&request["input"]);
    let as_base64 = request["encoding_format"].as_str() == Some("base64");
    let list: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = embedding(text);
            let embedding = if as_base64 {
                json!(base64_floats(&vector))
            } else {
                json!(vector)
            };
            json!({"object": "embedding", "index": index as u64, "embedding": embedding})
        })
        .collect();
    let input: u64 = inputs.iter().map(|text| tokens(text)).sum();
    Reply::json(
        200,
        &json!({
            "object": "list", "data": list, "model": MODEL,
            "usage": {"prompt_tokens": input, "total_tokens": input}
        }),
    )
}

fn base64_floats(vector: &[f64]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|x| (*x as f32).to_le_bytes())
        .collect();
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    out
}

/// `POST /v1/moderations`: nothing is ever flagged.
pub(super) fn moderations(request: &Value) -> Reply {
    let results: Vec<Value> = inputs(&request["input"])
        .iter()
        .map(|_| json!({"flagged": false, "categories": {}, "category_scores": {}}))
        .collect();
    Reply::json(
        200,
        &json!({"id": "modr-demo", "model": MODEL, "results": results}),
    )
}
