//! What of a provider's answers is remembered, whatever form they have and however they end.

use serde_json::{Value, json};

use crate::support::dialogue::{self, WAYS, Way};
use crate::support::{Gate, Provider, Router, Then, eventually};

/// Waits until so many memories lie in the vault, and returns all: role and text, oldest first.
#[track_caller]
fn holds(router: &Router, count: usize) -> Vec<(String, String)> {
    let bearer = router.bearer();
    let mut kept = Vec::new();
    eventually(&format!("{count} memories"), || {
        let reply = router.ask("GET", "/v1/memory/export", &[("Authorization", &bearer)]);
        let memories = reply.text().lines().map(|line| {
            let memory: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| memory[name].as_str().unwrap().to_owned();
            (text("role"), text("content"))
        });
        kept = memories.collect();
        kept.len() >= count
    });
    kept
}

#[test]
fn a_caller_that_leaves_behind_the_last_word_has_the_answer() {
    let gate = Gate::default();
    let waits = gate.clone();
    let provider = Provider::start(move |request, wire| {
        let events = dialogue::events(Way::of(&request.target), "All of it.").concat();
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.send(format!("{:x}\r\n{events}\r\n", events.len()));
        waits.pass();
        Then::Close
    });
    // Gemini's streams have no last word.
    for (way, answers) in WAYS.map(|way| (way, usize::from(way != Way::Gemini))) {
        let router = Router::start(&provider);
        let body = way.body(&[way.user("My boat is blue.", false)], true, "");
        let mut caller = router.connect();
        caller.send(router.request(way.path(true), &[], body));
        caller.head().unwrap();
        let events = dialogue::events(way, "All of it.");
        let last = events.last().unwrap().trim_end().as_bytes();
        let mut got = Vec::new();
        while !got.ends_with(last) {
            got.extend(caller.bytes(1));
        }
        drop(caller);
        let kept = holds(&router, 1 + answers);
        let said = kept.iter().filter(|(role, _)| role == "assistant").count();
        assert_eq!((kept.len(), said), (1 + answers, answers), "{way:?}");
        gate.open();
    }
}

/// Answers with `text` and no word about how long that is.
fn until_close(media_type: &'static str, text: String) -> Provider {
    Provider::start(move |_, wire| {
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n\r\n{text}"
        ));
        Then::Close
    })
}

/// Answers with `events`, and ends in good order.
fn chunked(events: String) -> Provider {
    Provider::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        wire.send(format!("{:x}\r\n{events}\r\n0\r\n\r\n", events.len()));
        Then::Keep
    })
}

/// The texts that are remembered of one exchange, all at once.
fn kept_of(provider: &Provider, way: Way, stream: bool) -> Vec<String> {
    let router = Router::start(provider);
    let body = way.body(&[way.user("My boat is blue.", false)], stream, "");
    assert_eq!(router.post(way.path(stream), body).status, 200);
    let texts = holds(&router, 1).into_iter().map(|(_, text)| text);
    texts.collect()
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole_if_it_says_so() {
    const JSON: &str = "application/json";
    const EVENTS: &str = "text/event-stream";
    for way in WAYS {
        let text = dialogue::plain(way, "All of it.").to_string();
        let cut = text[..text.len() - 1].to_owned();
        let provider = until_close(JSON, text);
        assert_eq!(kept_of(&provider, way, false).len(), 2, "{way:?}");
        let provider = until_close(JSON, cut);
        assert_eq!(kept_of(&provider, way, false).len(), 1, "{way:?}");
    }
    let delta = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"All of it.\"}}]}\n\n";
    let stop = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let provider = until_close(EVENTS, [delta, stop].concat());
    assert_eq!(kept_of(&provider, Way::Chat, true).len(), 2);
    let provider = until_close(EVENTS, delta.to_owned());
    assert_eq!(kept_of(&provider, Way::Chat, true).len(), 1);
}

#[test]
fn a_stream_without_the_last_word_of_its_dialect_broke_off() {
    for way in [Way::Responses, Way::Messages] {
        let events = dialogue::events(way, "All of it.");
        let (_, cut) = events.split_last().unwrap();
        let provider = chunked(events.concat());
        assert_eq!(kept_of(&provider, way, true).len(), 2, "{way:?}");
        let provider = chunked(cut.concat());
        assert_eq!(
            kept_of(&provider, way, true),
            ["My boat is blue."],
            "{way:?}"
        );
    }
}

#[test]
fn answers_in_parts_and_behind_reasoning_are_remembered() {
    let parts = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "SECRET-THOUGHT"}]},
        {"type": "text", "text": "Your boat "}, {"type": "text", "text": "is blue."}]);
    let tagged = json!("<think>\nSECRET-THOUGHT\n</think>\n\nYour boat is blue.");
    for content in [parts, tagged] {
        let said = content.clone();
        let provider = Provider::start(move |request, wire| {
            let choice = |name: &str| json!({"choices": [{"index": 0, name: {"content": said}}]});
            match request.text().contains("\"stream\":true") {
                true => {
                    let events = format!("data: {}\n\ndata: [DONE]\n\n", choice("delta"));
                    let length = events.len();
                    wire.send(format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {length}\r\n\r\n{events}"
                    ))
                }
                false => wire.send(json_answer(&choice("message"))),
            };
            Then::Keep
        });
        for stream in [false, true] {
            let router = Router::start(&provider);
            let way = Way::Chat;
            let asked = way.user("Which colour has my boat?", false);
            router.post(
                way.path(stream),
                way.body(std::slice::from_ref(&asked), stream, ""),
            );
            let kept = holds(&router, 2);
            let answer = ("assistant".to_owned(), "Your boat is blue.".to_owned());
            assert_eq!(kept[1], answer, "{content} {stream}");
            // It stands in the next request as the caller got it, and needs no recalling.
            let messages = [
                asked,
                json!({"role": "assistant", "content": content}),
                way.user("So my boat is blue?", false),
            ];
            let reply = router.post(way.path(stream), way.body(&messages, stream, ""));
            assert_eq!(reply.field("x-memory-chunks-retrieved"), Some("0"));
        }
    }
}

#[test]
fn usage_counts_what_was_taken_and_no_word_of_it_twice() {
    let provider = Provider::start(|request, wire| dialogue::answer(request, wire, "It is blue."));
    let router = Router::start(&provider);
    let bearer = router.bearer();
    let get = |path: &str| {
        router
            .ask("GET", path, &[("Authorization", &bearer)])
            .json()
    };
    let way = Way::Chat;
    let body = way.body(&[way.user("Which colour has my boat?", false)], false, "");
    // Of a vault that is not in RAM nobody knows at once what it holds.
    get("/v1/memory/stats");
    for _ in 0..5 {
        assert_eq!(router.post(way.path(false), &body).status, 200);
    }
    // The other requests are counted as well.
    eventually("the counts", || {
        let usage = get("/v1/account/usage");
        let mut models = usage["by_model"].as_array().unwrap().iter();
        models.any(|it| it["model"] == "gpt-4o" && it["requests"] == 5)
    });
    let summary = &get("/v1/account/usage")["summary"];
    let vault = get("/v1/memory/stats");
    assert_eq!(vault["memories"], 2);
    assert_eq!(summary["memory_tokens_stored"], vault["totalTokens"]);
}

fn json_answer(body: &Value) -> Vec<u8> {
    crate::support::json(200, &body.to_string())
}
