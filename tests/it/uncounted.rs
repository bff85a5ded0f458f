//! Answers that no provider counts: what they are taken to have cost, and that they are no way around a budget.

use memoryrouter::keys::{Limits, Period};
use memoryrouter::usage::{By, Figures, Query};

use crate::support::{CHAT as BODY, Provider, Router, Then, eventually, json};

use crate::key_limits::{ask, limited, post};

const CHAT: &str = "/v1/chat/completions";

#[test]
fn embeddings_that_nobody_counts_are_no_way_around_a_budget() {
    let provider = Provider::start(|request, wire| {
        wire.send(match request.target.as_str() {
            "/v1/embeddings" => json(
                200,
                r#"{"data":[],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            ),
            _ => json(200, r#"{"embedding":{"values":[0.1]}}"#),
        });
        Then::Keep
    });
    let router = Router::start(&provider);
    let budget = Limits {
        token_budget: Some((100, Period::Day)),
        ..Limits::default()
    };
    let text = "so it goes ".repeat(100);
    let body =
        format!(r#"{{"model":"text-embedding-3-small","input":"{text}","content":"{text}"}}"#);
    let mut expected = 0;
    for (path, answers, input, estimated) in [
        ("/v1/embeddings", [200, 200], 16, 0),
        (
            "/v1beta/models/gemini-embedding-001:embedContent",
            [200, 429],
            body.len() as u64 / 4,
            1,
        ),
        (
            "/v1beta/models/gemini-embedding-001:batchEmbedContents",
            [200, 429],
            body.len() as u64 / 4,
            1,
        ),
    ] {
        let key = limited(&router, budget);
        let ask = |()| {
            router
                .connect()
                .exchange(post(&key, path, &[], &body))
                .status
        };
        assert_eq!([(); 2].map(ask), answers, "{path}");
        expected += 2;
        let counted = |by: &[By]| {
            let query = Query {
                until: i64::MAX,
                by: by.to_vec(),
                ..Query::default()
            };
            router.used(&query)
        };
        eventually("the counts", || {
            counted(&[]).is_ok_and(|report| report.total.requests == expected)
        });
        let report = counted(&[By::Route]).unwrap();
        let route = path.replace("/gemini-embedding-001", "");
        let line = report
            .lines
            .iter()
            .find(|line| line.route.as_deref() == Some(&*route) && line.figures.input_tokens > 0);
        let figures = &line.unwrap().figures;
        assert_eq!(
            (figures.input_tokens, figures.estimated_requests),
            (input, estimated),
            "{path}"
        );
    }
}

#[test]
fn answers_that_nobody_counts_are_no_way_around_a_budget() {
    let thought = "so it goes ".repeat(100);
    let stream = |delta: &str| {
        let body = format!("data: {{\"choices\":[{{\"delta\":{delta}}}]}}\n\ndata: [DONE]\n\n");
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let plain = |status, body: &str| String::from_utf8(json(status, body)).unwrap();
    let gemini = "/v1beta/models/gemini-2:streamGenerateContent";
    let said = 275;
    for (path, answer, output, again) in [
        (
            CHAT,
            stream(&format!("{{\"content\":\"\",\"reasoning\":\"{thought}\"}}")),
            said,
            429,
        ),
        (
            CHAT,
            stream(&format!("{{\"refusal\":\"{thought}\"}}")),
            said,
            429,
        ),
        (
            CHAT,
            plain(
                200,
                &format!(
                    "{{\"choices\":[{{\"message\":{{\"content\":\"{thought}\"}}}}],\"usage\":null}}"
                ),
            ),
            said,
            429,
        ),
        (CHAT, plain(200, r#"{"error":{"message":"no"}}"#), 0, 200),
        (CHAT, plain(400, r#"{"error":{"message":"no"}}"#), 0, 400),
        // Broken off before its counts.
        (
            gemini,
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n\
                 [{{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{thought}\"}}]}}}}]}}\n,"
            ),
            said,
            429,
        ),
        ("/v1/moderations", plain(200, r#"{"results":[{}]}"#), 0, 200),
    ] {
        let sent = answer.clone();
        let provider = Provider::start(move |_, wire| {
            wire.send(&sent);
            Then::Close
        });
        let router = Router::start(&provider);
        let key = limited(
            &router,
            Limits {
                token_budget: Some((100, Period::Day)),
                ..Limits::default()
            },
        );
        let ask = || {
            let reply = router.connect().exchange(post(&key, path, &[], BODY));
            (reply.status, reply.complete)
        };
        ask();
        let query = Query {
            until: i64::MAX,
            ..Query::default()
        };
        let total = || {
            router
                .used(&query)
                .map_or_else(|_| Figures::default(), |report| report.total)
        };
        eventually("the count", || total().requests == 1);
        let asked = if output > 0 { BODY.len() as u64 / 4 } else { 0 };
        let total = total();
        assert_eq!(
            (
                total.input_tokens,
                total.output_tokens,
                total.estimated_requests
            ),
            (asked, output, u64::from(output > 0)),
            "{answer}"
        );
        assert_eq!(ask().0, again, "{answer}");
    }
}

#[test]
fn an_answer_that_cannot_be_read_costs_what_it_weighs() {
    let events = format!(
        "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\ndata: [DONE]\n\n",
        "word ".repeat(100)
    );
    for field in [
        "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n",
        "Content-Type: application/json\r\nContent-Encoding: br\r\n",
        "",
    ] {
        let length = events.len();
        let provider = Provider::answering(format!(
            "HTTP/1.1 200 OK\r\n{field}Content-Length: {length}\r\n\r\n{events}"
        ));
        let router = Router::start(&provider);
        let key = limited(
            &router,
            Limits {
                token_budget: Some((100, Period::Day)),
                ..Limits::default()
            },
        );
        let statuses = [(); 2].map(|()| ask(&router, &key).status);
        assert_eq!(statuses, [200, 429], "{field:?}");
        let query = Query {
            until: i64::MAX,
            ..Query::default()
        };
        let (input, output) = (BODY.len() as u64 / 4, (length as u64).div_ceil(4));
        eventually("the estimate", || {
            router.used(&query).is_ok_and(|report| {
                let total = &report.total;
                (total.input_tokens, total.output_tokens) == (input, output)
                    && total.estimated_requests == 1
            })
        });
    }
}
