//! What a caller has deleted, and what a deletion leaves alone.

use crate::support::dialogue::{self, WAYS, Way};
use crate::support::{Gate, Provider, Reply, Router, eventually, request};

fn ask(router: &Router, method: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
    let bearer = router.bearer();
    let mut all = vec![("Authorization", bearer.as_str())];
    all.extend_from_slice(fields);
    let path = format!("/v1/memory{path}");
    router.connect().exchange(request(method, &path, &all, ""))
}

/// The texts in the vault.
#[track_caller]
fn texts(router: &Router) -> Vec<String> {
    let reply = ask(router, "GET", "/export", &[]);
    assert_eq!((reply.status, reply.complete), (200, true), "{reply:?}");
    let content = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["content"].as_str().unwrap().to_owned()
    };
    reply.text().lines().map(content).collect()
}

#[test]
fn what_was_said_before_a_deletion_is_not_stored_behind_it() {
    let (asked, answered) = (Gate::default(), Gate::default());
    let provider = {
        let (asked, answered) = (asked.clone(), answered.clone());
        Provider::start(move |request, wire| {
            if request.text().contains("Wait") {
                asked.open();
                answered.pass();
            }
            dialogue::answer(request, wire, "Understood, thank you.")
        })
    };
    let router = Router::start(&provider);
    let way = Way::Chat;
    let say = |text: &str, session: &str| {
        let body = way.body(&[way.user(text, false)], false, "");
        let reply = router.post_with(way.path(false), &[("X-Session-ID", session)], body);
        assert_eq!((reply.status, reply.complete), (200, true));
    };
    // Texts of this length are stored by another thread than short ones.
    for text in [
        "Wait.".to_owned(),
        format!("Wait. {}", "word ".repeat(5000)),
    ] {
        for (deleted, gone) in [(None, true), (Some("mine"), true), (Some("other"), false)] {
            std::thread::scope(|scope| {
                let said = scope.spawn(|| say(&text, "mine"));
                asked.pass();
                let fields = deleted.map(|session| ("X-Session-ID", session));
                let fields: Vec<_> = fields.into_iter().collect();
                assert_eq!(ask(&router, "DELETE", "", &fields).status, 200);
                answered.open();
                said.join().unwrap();
            });
            // What is stored behind the next answer comes after all that was to be stored behind the last.
            say("Done.", "end");
            eventually("what was said last", || {
                texts(&router).contains(&"Done.".into())
            });
            if !gone {
                eventually("what nobody deleted", || texts(&router).len() == 4);
            }
            assert_eq!(
                texts(&router).iter().any(|kept| kept.starts_with("Wait")),
                !gone
            );
            assert_eq!(ask(&router, "DELETE", "", &[]).status, 200);
        }
    }
}

#[test]
fn a_loop_that_goes_on_says_nothing_a_second_time() {
    let provider = Provider::start(|request, wire| dialogue::answer(request, wire, "It is."));
    let router = Router::start(&provider);
    for way in WAYS {
        let mut messages = vec![way.user("Is the shed shut?", false)];
        let post = |messages: &[serde_json::Value]| {
            let reply = router.post(way.path(false), way.body(messages, false, ""));
            assert_eq!((reply.status, reply.complete), (200, true));
        };
        post(&messages);
        eventually("both", || texts(&router).len() == 2);
        assert_eq!(ask(&router, "DELETE", "", &[]).status, 200);
        messages.extend(way.step(1, "shut"));
        post(&messages);
        // What the answer says was said after the deletion.
        eventually("the answer", || !texts(&router).is_empty());
        assert_eq!(texts(&router), ["It is."], "{way:?}");
        // Who begins anew with the same words has said them now.
        post(&messages[..1]);
        eventually("the question", || texts(&router).len() == 2);
        assert_eq!(ask(&router, "DELETE", "", &[]).status, 200);
    }
}

#[test]
fn a_deletion_that_names_less_takes_no_more() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let lines = r#"{"content":"of all"}
        {"content":"of the first","session_id":"s1"}
        {"content":"of the second","session_id":"s2"}"#;
    assert_eq!(router.post("/v1/memory/upload", lines).status, 200);
    for (path, status) in [
        ("/", 404),
        ("/?x=1", 404),
        ("?session=s1", 400),
        ("?session_id=s1&id=mem_0000000000000001", 400),
        ("?session_id=", 400),
        ("?session_id=a%20b", 400),
        ("?mode=on", 400),
    ] {
        let reply = ask(&router, "DELETE", path, &[]);
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert_eq!(texts(&router).len(), 3, "{path}");
    }
    for (path, fields, left) in [
        (
            "?session_id=s%31",
            &[][..],
            &["of all", "of the second"][..],
        ),
        // A header says more than the query.
        ("?session_id=s1", &[("X-Session-ID", "s2")], &["of all"]),
        ("?session_id=s3", &[], &["of all"]),
        ("", &[], &[]),
    ] {
        assert_eq!(ask(&router, "DELETE", path, fields).status, 200, "{path}");
        assert_eq!(texts(&router), left, "{path}");
    }
    let more = "/v1/memory/upload?session_id=s1";
    assert_eq!(
        router.post(more, r#"{"content":"more"}"#).json()["vault"],
        "session"
    );
}
