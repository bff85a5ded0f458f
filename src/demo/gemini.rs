//! The demo provider's Gemini dialect: generate, stream with and without `alt=sse`, count, embed.

use sonic_rs::{JsonContainerTrait as _, JsonValueMutTrait as _, Value, json};

use super::answer::{
    Content, MODEL, Reply, data, echo, embedding, newest, not_found, pieces, request_tokens, text,
    text_of, tokens,
};

/// Answers `echo:method`.
pub(super) fn answer(model_and_method: &str, query: &str, request: &Value) -> Reply {
    let Some((MODEL, method)) = model_and_method.split_once(':') else {
        let message = format!("the demo provider has one model: {MODEL}");
        return Reply::json(
            404,
            &json!({"error": {"code": 404, "message": message, "status": "NOT_FOUND"}}),
        );
    };
    match method {
        "generateContent" => Reply::json(200, &whole(request)),
        "streamGenerateContent" => stream(request, query.split('&').any(|pair| pair == "alt=sse")),
        "countTokens" => Reply::json(
            200,
            &json!({"totalTokens": request_tokens(&request["contents"])}),
        ),
        "embedContent" => Reply::json(
            200,
            &json!({"embedding": {"values": embedding(&text_of(&request["content"]["parts"]))}}),
        ),
        "batchEmbedContents" => {
            let list: Vec<Value> = request["requests"]
                .as_array()
                .map(|list| list.iter().collect::<Vec<_>>())
                .unwrap_or_default()
                .into_iter()
                .map(|one| json!({"values": embedding(&text_of(&one["content"]["parts"]))}))
                .collect();
            Reply::json(200, &json!({"embeddings": list}))
        }
        _ => not_found(method),
    }
}

fn said(request: &Value) -> String {
    echo(&newest(&request["contents"], "user", "parts"))
}

fn candidate(text: &str, finish: Option<&str>) -> Value {
    let mut candidate =
        json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
    if let (Some(finish), Some(object)) = (finish, candidate.as_object_mut()) {
        object.insert("finishReason", finish);
    }
    candidate
}

fn reply(candidate: Value, input: u64, output: u64) -> Value {
    json!({
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output
        },
        "modelVersion": MODEL, "responseId": "demo"
    })
}

fn whole(request: &Value) -> Value {
    let text = said(request);
    let output = tokens(&text);
    reply(
        candidate(&text, Some("STOP")),
        request_tokens(&request["contents"]),
        output,
    )
}

fn stream(request: &Value, as_events: bool) -> Reply {
    let said = said(request);
    let input = request_tokens(&request["contents"]);
    let pieces = pieces(&said);
    let last = pieces.len().saturating_sub(1);
    let mut sent = String::new();
    let replies = pieces.into_iter().enumerate().map(|(index, piece)| {
        sent.push_str(piece);
        reply(
            candidate(piece, (index == last).then_some("STOP")),
            input,
            tokens(&sent),
        )
    });
    if as_events {
        return Reply::events(replies.map(|reply| data(&reply)).collect());
    }
    let list: Vec<String> = replies.map(|reply| text(&reply)).collect();
    Reply {
        status: 200,
        content: Content::Json(format!("[{}]", list.join(",\r\n"))),
    }
}
