//! Agents that loop over tool results: what their steps leave in the vault, and what they get from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::dialogue::{self, WAYS, Way};
use crate::support::{Provider, Reply, Router, contains, eventually};

const STEP: &str = "Let me look into the shed.";

/// The answer that such a step is: words, and a call.
fn step_answer(way: Way) -> Value {
    match way {
        Way::Chat => json!({"choices": [{"index": 0, "finish_reason": "tool_calls", "message":
            {"role": "assistant", "content": STEP, "tool_calls": [{"id": "x", "type": "function"}]}}]}),
        Way::Responses => {
            json!({"output": [{"type": "message", "content": [{"type": "output_text", "text": STEP}]},
            {"type": "function_call", "name": "look"}]})
        }
        Way::Messages => {
            json!({"content": [{"type": "text", "text": STEP}, {"type": "tool_use", "id": "x"}], "stop_reason": "tool_use"})
        }
        Way::Gemini => {
            json!({"candidates": [{"content": {"parts": [{"text": STEP}, {"functionCall": {"name": "look"}}]},
            "finishReason": "STOP"}]})
        }
    }
}

fn step_events(way: Way) -> String {
    let events = match way {
        Way::Chat => vec![
            (
                "",
                json!({"choices": [{"index": 0, "delta": {"content": STEP}}]}),
            ),
            (
                "",
                json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "x"}]}}]}),
            ),
            (
                "",
                json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
            ),
        ],
        Way::Responses => vec![
            (
                "response.output_text.delta",
                json!({"type": "response.output_text.delta", "delta": STEP}),
            ),
            (
                "response.output_item.added",
                json!({"type": "response.output_item.added", "item": {"type": "function_call"}}),
            ),
            (
                "response.completed",
                json!({"type": "response.completed", "response": {}}),
            ),
        ],
        Way::Messages => vec![
            (
                "content_block_delta",
                json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": STEP}}),
            ),
            (
                "content_block_start",
                json!({"type": "content_block_start", "content_block": {"type": "tool_use", "id": "x"}}),
            ),
            (
                "message_delta",
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
            ),
            ("message_stop", json!({"type": "message_stop"})),
        ],
        Way::Gemini => vec![("", step_answer(way))],
    };
    let event = |(name, data): &(&str, Value)| match *name {
        "" => format!("data: {data}\n\n"),
        name => format!("event: {name}\ndata: {data}\n\n"),
    };
    events.iter().map(event).collect()
}

fn contents(router: &Router) -> Vec<String> {
    let bearer = router.bearer();
    let reply = router.ask("GET", "/v1/memory/export", &[("Authorization", &bearer)]);
    let content = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["content"].as_str().unwrap().to_owned()
    };
    reply.text().lines().map(content).collect()
}

#[test]
fn an_answer_that_calls_a_tool_is_not_stored() {
    for way in WAYS {
        for stream in [false, true] {
            let provider = Provider::start(move |request, wire| {
                if request.text().contains("looked up") {
                    return dialogue::answer(request, wire, "It was a bird.");
                }
                if stream {
                    let events = step_events(way);
                    wire.send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{events}",
                        events.len()
                    ));
                } else {
                    wire.send(crate::support::json(200, &step_answer(way).to_string()));
                }
                crate::support::Then::Keep
            });
            let router = Router::start(&provider);
            let mut messages = vec![way.user("What made that noise?", false)];
            let post = |messages: &[Value]| {
                let reply = router.post(way.path(stream), way.body(messages, stream, ""));
                assert_eq!((reply.status, reply.complete), (200, true));
            };
            post(&messages);
            messages.extend(way.step(1, "looked up"));
            post(&messages);
            let last = "It was a bird.".to_owned();
            eventually("the last answer", || contents(&router).contains(&last));
            let expected = ["What made that noise?", "It was a bird."];
            assert_eq!(contents(&router), expected, "{way:?} {stream}");
            // As an exchange that went another way, too.
            let ingested = json!({"messages": [], "response": step_answer(way)}).to_string();
            let reply = router.post("/v1/memory/ingest", ingested);
            assert_eq!(reply.json()["stored"], 0, "{reply:?}");
        }
    }
}

#[test]
fn a_step_that_wants_nothing_recalled_gets_nothing() {
    let provider = Provider::start(|request, wire| dialogue::answer(request, wire, "Thanks."));
    let router = Router::start(&provider);
    for way in WAYS {
        let fact = json!({"content": "The shed opens with 7421."}).to_string();
        assert_eq!(router.post("/v1/memory/upload", fact).status, 200);
        let mut messages = vec![way.user("How does the shed open?", false)];
        let ask = |messages: &[Value], fields: &[(&str, &str)]| -> Reply {
            let body = way.body(messages, false, "\"memory_store\":false,");
            router.post_with(way.path(false), fields, body)
        };
        let got = |reply: &Reply| {
            let chunks = reply.field("x-memory-chunks-retrieved").unwrap().to_owned();
            let tokens = reply.field("x-memory-tokens-retrieved").unwrap().to_owned();
            (
                chunks != "0",
                tokens != "0",
                contains(&provider.last().body, b"7421"),
            )
        };
        assert_eq!(got(&ask(&messages, &[])), (true, true, true));
        messages.extend(way.step(1, "nothing"));
        for fields in [("X-Memory-Mode", "write"), ("X-Context-Limit", "0")] {
            assert_eq!(got(&ask(&messages, &[fields])), (false, false, false));
        }
        // The other steps get what they got.
        assert_eq!(got(&ask(&messages, &[])), (true, true, true));
    }
}

/// What the router sent as the newest request's message at `at`.
fn sent(provider: &Provider, at: usize) -> String {
    let value: Value = serde_json::from_str(provider.last().text()).unwrap();
    let mut lists = ["messages", "input", "contents"].iter();
    let list = lists.find_map(|name| value.get(name)).unwrap();
    list[at].to_string()
}

fn upload(router: &Router, text: &str) {
    let fact = json!({ "content": text }).to_string();
    assert_eq!(router.post("/v1/memory/upload", fact).status, 200);
}

fn ask(router: &Router, way: Way, messages: &[Value]) -> Reply {
    let body = way.body(messages, false, "\"memory_mode\":\"read\",");
    let reply = router.post(way.path(false), body);
    assert_eq!(reply.status, 200);
    reply
}

/// A picture, as the last thing that a step gives back.
fn with_picture(way: Way, mut step: Vec<Value>) -> Vec<Value> {
    let (list, picture) = match way {
        Way::Chat => {
            let picture =
                json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}});
            step.push(json!({"role": "user", "content": [picture]}));
            return step;
        }
        Way::Responses => {
            let picture = json!({"type": "input_image", "image_url": "data:image/png;base64,AA"});
            step.push(json!({"role": "user", "content": [picture]}));
            return step;
        }
        Way::Messages => (
            "content",
            json!({"type": "image", "source": {"type": "base64", "data": "AA"}}),
        ),
        Way::Gemini => (
            "parts",
            json!({"inlineData": {"mimeType": "image/png", "data": "AA"}}),
        ),
    };
    step[1][list].as_array_mut().unwrap().push(picture);
    step
}

#[test]
fn a_picture_beside_a_result_leaves_the_loop_its_block() {
    let provider = Provider::start(|request, wire| dialogue::answer(request, wire, "Thanks."));
    let router = Router::start(&provider);
    upload(&router, "The invoice archive is sorted by supplier.");
    for way in WAYS {
        let mut messages = vec![way.user("How is the invoice archive sorted?", true)];
        ask(&router, way, &messages);
        let first = sent(&provider, 0);
        assert!(first.contains("supplier"), "{way:?} {first}");
        for n in 1..3 {
            messages.extend(with_picture(way, way.step(n, "a screenshot").to_vec()));
            let reply = ask(&router, way, &messages);
            assert_eq!(reply.field("x-memory-chunks-retrieved"), Some("1"));
            assert_eq!(sent(&provider, 0), first, "{way:?} {n}");
        }
    }
}

#[test]
fn agents_that_begin_with_the_same_words_keep_their_own_blocks() {
    let provider = Provider::start(|request, wire| dialogue::answer(request, wire, "Thanks."));
    let router = Router::start(&provider);
    for way in WAYS {
        let question = format!("Why do the tests of apollo {way:?} fail?");
        let mut first = vec![way.user(&question, false)];
        let mut second = first.clone();
        upload(&router, &format!("The tests of apollo {way:?} need gcc."));
        ask(&router, way, &first);
        let block = sent(&provider, 0);
        first.extend(way.step(1, "red"));
        ask(&router, way, &first);
        assert_eq!(sent(&provider, 0), block, "{way:?}");
        upload(
            &router,
            &format!("The tests of apollo {way:?} need python."),
        );
        ask(&router, way, &second);
        let other = sent(&provider, 0);
        assert!(
            block != other && other.contains("python"),
            "{way:?} {other}"
        );
        // As its caller sends it now, a mark of a cache is gone or new.
        first[1]["cache_control"] = json!({"type": "ephemeral"});
        first.extend(way.step(2, "red"));
        second.extend(way.step(7, "green").map(|mut element| {
            element["note"] = json!("another call");
            element
        }));
        for _ in 0..2 {
            ask(&router, way, &first);
            assert_eq!(sent(&provider, 0), block, "{way:?}");
            ask(&router, way, &second);
            assert_eq!(sent(&provider, 0), other, "{way:?}");
        }
    }
}

/// An answer that calls for step `n`.
fn calling(way: Way, n: usize) -> Value {
    let id = format!("call_{n}");
    let mut answer = step_answer(way);
    match way {
        Way::Chat => answer["choices"][0]["message"]["tool_calls"][0]["id"] = json!(id),
        Way::Responses => answer["output"][1]["call_id"] = json!(id),
        Way::Messages => answer["content"][1]["id"] = json!(id),
        // Gemini's results name no call.
        Way::Gemini => {}
    }
    answer
}

#[test]
fn agents_side_by_side_are_told_apart_by_what_they_were_called_for() {
    let answers = Arc::new(AtomicUsize::new(0));
    let count = answers.clone();
    let provider = Provider::start(move |request, wire| {
        let n = count.fetch_add(1, Ordering::Relaxed);
        let answer = calling(Way::of(&request.target), n).to_string();
        wire.send(crate::support::json(200, &answer));
        crate::support::Then::Keep
    });
    let router = Router::start(&provider);
    for way in [Way::Chat, Way::Responses, Way::Messages] {
        let question = format!("Why do the tests of apollo {way:?} fail?");
        let post = |messages: &[Value]| {
            let reply = router.post(way.path(false), way.body(messages, false, ""));
            assert_eq!((reply.status, reply.complete), (200, true));
            sent(&provider, 0)
        };
        let mut runs = ["gcc", "make", "python"].map(|tool| {
            upload(
                &router,
                &format!("The tests of apollo {way:?} need {tool}."),
            );
            let n = answers.load(Ordering::Relaxed);
            let messages = vec![way.user(&question, false)];
            let block = post(&messages);
            assert!(block.contains(tool), "{way:?} {block}");
            (n, messages, block)
        });
        for _ in 0..2 {
            for (n, messages, block) in &mut runs {
                messages.extend(way.step(*n, "red"));
                assert_eq!(post(messages), *block, "{way:?} {n}");
            }
        }
    }
}

#[test]
fn system_prompts_behind_a_message_are_no_loop() {
    let provider = Provider::start(|request, wire| dialogue::answer(request, wire, "Thanks."));
    let router = Router::start(&provider);
    for way in [Way::Chat, Way::Responses] {
        let question = format!("What is on my {way:?} schedule this week?");
        let messages = [
            way.user(&question, false),
            json!({"role": "system", "content": "Answer in JSON."}),
            json!({"role": "developer", "content": "It is Monday."}),
        ];
        let chunks = || {
            let reply = ask(&router, way, &messages);
            reply.field("x-memory-chunks-retrieved").unwrap().to_owned()
        };
        let before = chunks();
        upload(
            &router,
            &format!("Dentist on my {way:?} schedule this week."),
        );
        assert_ne!(chunks(), before, "{way:?}");
    }
}
