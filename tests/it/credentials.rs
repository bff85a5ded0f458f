//! Who calls, and with which provider key: carriers, precedence, suffixes, and what never leaves.

use memoryrouter::keys::{KeyState, NewKey};
use memoryrouter::secret::Secret;

use crate::support::program::Home;
use crate::support::{CHAT, Caller, Provider, Router, Setup, contains, request};

const GEMINI: &str = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;

/// Sends a request with exactly these fields.
fn send(
    router: &Router,
    target: &str,
    fields: &[(&str, &str)],
    body: &str,
) -> crate::support::Reply {
    router
        .connect()
        .exchange(request("POST", target, fields, body))
}

#[test]
fn a_memory_key_is_found_in_every_carrier() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let key = router.key.clone();
    let bearer = |scheme: &str| format!("{scheme} {key}");
    let carriers = [
        ("X-Memory-Key", key.clone()),
        ("x-memory-key", key.clone()),
        ("Authorization", bearer("Bearer")),
        ("Authorization", bearer("bearer")),
        ("Authorization", bearer("BEARER  ")),
        ("x-api-key", key.clone()),
        ("X-Api-Key", key.clone()),
        ("x-goog-api-key", key.clone()),
    ];
    let gemini = "/v1beta/models/gemini-2.0-flash:generateContent";
    for (name, value) in &carriers {
        for (target, body) in [
            ("/v1/chat/completions", CHAT),
            ("/v1/messages", CHAT),
            (gemini, GEMINI),
        ] {
            let reply = send(&router, target, &[(name, value)], body);
            assert_eq!(reply.status, 200, "{name}: {value} on {target}: {reply:?}");
        }
    }
    assert_eq!(
        send(&router, &format!("{gemini}?key={key}"), &[], GEMINI).status,
        200
    );
    assert_eq!(
        send(&router, &format!("{gemini}?alt=sse&key={key}"), &[], GEMINI).status,
        200
    );
    assert!(provider.last().target.ends_with("?alt=sse"));
    // The query carries keys on Gemini paths only.
    assert_eq!(
        send(
            &router,
            &format!("/v1/chat/completions?key={key}"),
            &[],
            CHAT
        )
        .status,
        401
    );
    assert!(!contains(&provider.all_bytes(), key.as_bytes()));
    assert!(!contains(&provider.all_bytes(), b"mk_"));
}

#[test]
fn the_first_carrier_of_several_wins_and_no_memory_key_leaves() {
    let provider = Provider::plain();
    let router = Setup::all(&provider)
        .without_stored()
        .stored("openai", "sk-paid-by-default")
        .start();
    // A key of an account that cannot pay tells which of two was taken.
    let poor = router.mint(NewKey {
        account: "poor".into(),
        ..NewKey::default()
    });
    let rich = router.key.clone();
    let (bearer_rich, bearer_poor) = (format!("Bearer {rich}"), format!("Bearer {poor}"));
    let both = [
        (
            [("X-Memory-Key", &rich), ("Authorization", &bearer_poor)],
            200,
        ),
        (
            [("X-Memory-Key", &poor), ("Authorization", &bearer_rich)],
            400,
        ),
        ([("Authorization", &bearer_rich), ("x-api-key", &poor)], 200),
        ([("x-api-key", &poor), ("Authorization", &bearer_rich)], 200),
        ([("x-goog-api-key", &rich), ("x-api-key", &poor)], 400),
        ([("x-goog-api-key", &poor), ("x-api-key", &rich)], 200),
    ];
    for (fields, status) in both {
        let fields = fields.map(|(name, value)| (name, value.as_str()));
        let reply = send(&router, "/v1/chat/completions", &fields, CHAT);
        assert_eq!(reply.status, status, "{fields:?}: {reply:?}");
    }
    // A foreign memory key in a provider's slot is not a provider key either.
    let fields = [
        ("X-Memory-Key", poor.as_str()),
        ("X-Provider-Key", "mk_foreign"),
        ("x-api-key", "mk-other"),
    ];
    assert_eq!(
        send(&router, "/v1/chat/completions", &fields, CHAT).status,
        400
    );
    assert!(!contains(&provider.all_bytes(), b"mk_") && !contains(&provider.all_bytes(), b"mk-"));
}

#[test]
fn a_provider_key_of_the_request_comes_before_the_stored_one() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let key = router.key.as_str();
    let bearer = router.bearer();
    let sent = |fields: &[(&str, &str)]| {
        assert_eq!(
            send(&router, "/v1/chat/completions", fields, CHAT).status,
            200,
            "{fields:?}"
        );
        provider
            .last()
            .fields
            .get("authorization")
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        sent(&[("Authorization", &bearer)]),
        "Bearer stored-openai-key"
    );
    assert_eq!(
        sent(&[("Authorization", &bearer), ("X-Provider-Key", "sk-x")]),
        "Bearer sk-x"
    );
    assert_eq!(
        sent(&[("X-Memory-Key", key), ("Authorization", "Bearer sk-a")]),
        "Bearer sk-a"
    );
    assert_eq!(
        sent(&[("X-Memory-Key", key), ("Authorization", "bearer   sk-a")]),
        "Bearer sk-a"
    );
    assert_eq!(
        sent(&[("X-Memory-Key", key), ("x-api-key", "sk-b")]),
        "Bearer sk-b"
    );
    assert_eq!(
        sent(&[("X-Memory-Key", key), ("x-goog-api-key", "sk-c")]),
        "Bearer sk-c"
    );
    let all = [
        ("X-Memory-Key", key),
        ("x-api-key", "sk-b"),
        ("Authorization", "Bearer sk-a"),
        ("X-Provider-Key", "sk-x"),
    ];
    assert_eq!(sent(&all), "Bearer sk-x");
    assert_eq!(sent(&all[..3]), "Bearer sk-a");
    // In the query too, on every path and however its name is spelled.
    for query in ["?key=sk-q", "?a=1&%6Bey=sk-q"] {
        let target = format!("/v1/chat/completions{query}");
        let fields = [("Authorization", bearer.as_str())];
        assert_eq!(send(&router, &target, &fields, CHAT).status, 200);
        let paid = provider.last();
        assert_eq!(paid.fields.get("authorization"), Some("Bearer sk-q"));
        assert!(!paid.target.contains("sk-q"), "{}", paid.target);
    }
    // Kept for no other request.
    assert_eq!(
        sent(&[("Authorization", &bearer)]),
        "Bearer stored-openai-key"
    );
}

#[test]
fn the_same_credential_twice_with_two_values_is_refused() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let key = router.key.as_str();
    let bearer = router.bearer();
    for (name, first, second) in [
        ("Authorization", bearer.as_str(), "Bearer sk-other"),
        ("x-api-key", key, "sk-other"),
        ("X-Memory-Key", key, "mk_other"),
        ("x-goog-api-key", key, "other"),
    ] {
        let mut caller = router.connect();
        let reply = caller.exchange(request(
            "POST",
            "/v1/chat/completions",
            &[(name, first), (name, second)],
            CHAT,
        ));
        assert_eq!(
            (reply.status, reply.field("connection")),
            (400, Some("close")),
            "{name}"
        );
        assert_eq!(caller.rest(), b"", "{name}");
        assert!(
            !contains(&reply.body, first.as_bytes()) && !contains(&reply.body, second.as_bytes())
        );
        let same = send(
            &router,
            "/v1/chat/completions",
            &[(name, first), (name, first)],
            CHAT,
        );
        assert_eq!(same.status, 200, "{name} twice with one value");
    }
    assert_eq!(provider.count(), 4);
    // Nor is anything behind it served where there is no body that would end the connection.
    let gemini = "/v1beta/models/gemini-2.0-flash:generateContent";
    for (method, target, fields) in [
        (
            "GET",
            "/v1/models",
            vec![("x-api-key", key), ("x-api-key", "mk_other")],
        ),
        (
            "POST",
            "/v1/chat/completions",
            vec![("x-api-key", key), ("x-api-key", "mk_other")],
        ),
        (
            "POST",
            "/v1/memory/search",
            vec![("x-goog-api-key", key), ("x-goog-api-key", "")],
        ),
        ("POST", &format!("{gemini}?key={key}&key=AIza"), vec![]),
        (
            "POST",
            &format!("{gemini}?key=AIza&alt=sse&key={key}"),
            vec![],
        ),
    ] {
        let mut caller = router.connect();
        let refused = request(method, target, &fields, "");
        caller.send([refused, request("GET", "/health", &[], "")].concat());
        let reply = caller.reply();
        assert_eq!(
            (reply.status, reply.field("connection")),
            (400, Some("close")),
            "{method} {target}"
        );
        assert!(!contains(&reply.body, key.as_bytes()));
        assert_eq!(caller.rest(), b"", "{method} {target}");
    }
    let encoded = key.replacen('_', "%5F", 1);
    let same = format!("{gemini}?key={key}&key={encoded}");
    assert_eq!(send(&router, &same, &[], GEMINI).status, 200);
    assert_eq!(provider.count(), 5);
}

#[test]
fn mode_suffixes_come_off_and_others_belong_to_the_key() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    for (suffix, status) in [
        (":read", 200),
        (":write", 200),
        (":off", 200),
        (":READ", 401),
        (":on", 401),
        (":", 401),
        (":read:off", 401),
        (":x", 401),
    ] {
        let token = format!("{}{suffix}", router.key);
        for (name, value) in [
            ("X-Memory-Key", token.clone()),
            ("Authorization", format!("Bearer {token}")),
        ] {
            assert_eq!(
                send(&router, "/v1/chat/completions", &[(name, &value)], CHAT).status,
                status,
                "{name} {suffix}"
            );
        }
    }
}

#[test]
fn only_known_and_living_keys_open_and_all_others_get_one_answer() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let expired = router.mint(NewKey {
        expires_at: Some(1),
        ..NewKey::default()
    });
    let token = Secret::new(b"mk_revoked_one".to_vec());
    router.mint(NewKey {
        token: Some(token),
        ..NewKey::default()
    });
    let ask = |key: &str| {
        send(
            &router,
            "/v1/chat/completions",
            &[("X-Memory-Key", key)],
            CHAT,
        )
    };
    assert_eq!(ask("mk_revoked_one").status, 200);
    router.edit(|editor| {
        let last = editor.contents.keys.last().unwrap().id.clone();
        editor.set_state(&last, KeyState::Revoked)
    });
    let mut wrong_checksum = router.key.clone();
    let last = wrong_checksum.pop().unwrap();
    wrong_checksum.push(if last == 'a' { 'b' } else { 'a' });
    for key in [
        "mk_unknown",
        "mk-",
        "mk_",
        "mk_revoked_one",
        &expired,
        &wrong_checksum,
    ] {
        let reply = ask(key);
        assert_eq!(reply.status, 401);
        let body =
            r#"{"error": "Invalid or inactive memory key", "hint": "Memory keys start with mk_"}"#;
        assert_eq!(reply.text(), body);
    }
    for fields in [
        &[][..],
        &[("Authorization", "Bearer sk-only")],
        &[("Authorization", "Basic bWtfYQ==")],
        &[("X-Memory-Key", "sk-not-a-memory-key")],
        &[("x-api-key", "MK_upper")],
        &[("X-Memory-Key", "")],
    ] {
        let reply = send(&router, "/v1/chat/completions", fields, CHAT);
        assert_eq!(reply.status, 401, "{fields:?}");
        let body = r#"{"error": "Missing or invalid authentication", "hint": "Use: Authorization: Bearer mk_xxx"}"#;
        assert_eq!(reply.text(), body, "{fields:?}");
    }
    assert_eq!(provider.count(), 1);
}

#[test]
fn imported_keys_of_any_form_work_like_minted_ones() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    for token in ["mk_app1_xxx", "mk-legacy", "mk_a.b~c-d_e", "mk_ä"] {
        let secret = Secret::new(token.as_bytes().to_vec());
        if token.is_ascii() {
            router.mint(NewKey {
                token: Some(secret),
                ..NewKey::default()
            });
        }
        let mut caller: Caller = router.connect();
        let mut raw = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-Memory-Key: ".to_vec();
        raw.extend(token.as_bytes());
        raw.extend(format!("\r\nContent-Length: {}\r\n\r\n{CHAT}", CHAT.len()).as_bytes());
        let reply = caller.exchange(raw);
        assert_eq!(
            reply.status,
            if token.is_ascii() { 200 } else { 401 },
            "{token}"
        );
    }
}

#[test]
fn no_memory_key_leaves_in_fields_that_are_no_carrier_or_in_trailers() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let key = router.key.as_str();
    let bearer = router.bearer();
    let chunked = format!(
        "{:x}\r\n{CHAT}\r\n0\r\nX-Trailer: {key}\r\nAuthorization: Bearer {key}\r\n\r\n",
        CHAT.len()
    );
    let head = format!(
        "POST /v1/chat/completions?user={key}&x=1 HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\nX-Custom: {key}\r\n\
         Cookie: k={key}\r\nReferer: http://a/?key={key}\r\nX-Fine: yes\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let reply = router
        .connect()
        .exchange([head.as_bytes(), chunked.as_bytes()].concat());
    assert_eq!(reply.status, 200, "{reply:?}");
    let sent = provider.only();
    assert!(
        !contains(&sent.raw, key.as_bytes()),
        "{}",
        String::from_utf8_lossy(&sent.raw)
    );
    assert_eq!(sent.fields.get("x-fine"), Some("yes"));
    assert_eq!(sent.text(), CHAT);
    // As a name, in a list of languages, percent-encoded.
    let encoded = format!("http://a/?key={}", key.replacen('_', "%5F", 1));
    let fields = [
        ("Authorization", bearer.as_str()),
        (key, "1"),
        (&format!("X-{key}"), "1"),
        ("Accept-Language", key),
        ("Referer", &encoded),
        ("X-Fine", "100%"),
    ];
    let reply = send(&router, "/v1/chat/completions", &fields, CHAT);
    assert_eq!(reply.status, 200, "{reply:?}");
    let sent = provider.last();
    assert!(
        !contains(&sent.raw, &key.as_bytes()[3..]),
        "{}",
        String::from_utf8_lossy(&sent.raw)
    );
    assert_eq!(sent.fields.get("x-fine"), Some("100%"));
}

#[test]
fn a_memory_key_inside_a_provider_key_is_refused() {
    let provider = Provider::plain();
    let router = Router::start(&provider);
    let key = router.key.as_str();
    let quoted = format!("\"{key}\"");
    for (target, name, value) in [
        (
            "/v1/chat/completions",
            "Authorization",
            format!("Bearer {quoted}"),
        ),
        ("/v1/chat/completions", "x-api-key", quoted.clone()),
        (
            "/v1/chat/completions",
            "X-Provider-Key",
            format!("key={key}"),
        ),
        (
            "/v1/chat/completions",
            "X-Provider-Key",
            key.replacen('m', "%6D", 1),
        ),
        (
            &format!("/v1beta/models/gemini-x:generateContent?key=%22{key}"),
            "X-Fine",
            "1".into(),
        ),
    ] {
        let fields = [("X-Memory-Key", key), (name, value.as_str())];
        let reply = send(&router, target, &fields, CHAT);
        let error = "A memory key stands in the provider key";
        assert_eq!((reply.status, &reply.json()["error"]), (400, &error.into()));
    }
    // Alone it is no key that could be used.
    let alone = [("Authorization", format!("Bearer {quoted}"))];
    let alone = alone
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let reply = send(&router, "/v1/chat/completions", &alone, CHAT);
    assert_eq!(reply.status, 401);
    assert_eq!(provider.accepted(), 0);
    // Chance may have it that a provider's own key looks a little like one.
    let fields = [("X-Memory-Key", key), ("X-Provider-Key", "sk-proj-a-mk_b")];
    assert_eq!(
        send(&router, "/v1/chat/completions", &fields, CHAT).status,
        200
    );
}

#[test]
fn a_memory_key_in_a_model_or_target_is_refused_before_anybody_hears_of_it() {
    let provider = Provider::plain();
    let home = Home::new();
    home.configure(&format!(
        "providers.openai.base_url = \"{0}\"\nproviders.google.base_url = \"{0}\"\n",
        provider.url("/v1")
    ));
    let key = home.mint();
    let (bearer, secret) = (format!("Bearer {key}"), &key[3..]);
    let encoded = key.replacen('_', "%5F", 1);
    let served = home.serve();
    let chat = |model: &str| CHAT.replace("gpt-4o", model);
    let of_path = |target: String| (target, GEMINI.to_owned(), "request target");
    let of_model = |body: String| ("/v1/chat/completions".to_owned(), body, "model");
    let gemini = |model: &str| {
        let target = format!("/v1beta/models/{model}:generateContent");
        (target, GEMINI.to_owned(), "model")
    };
    for (target, body, place) in [
        of_model(chat(&key)),
        of_model(chat(&format!("openai/{key}"))),
        of_model(chat(&format!("openai/{encoded}"))),
        of_model(chat(&key.replacen('_', "\\u005f", 1))),
        gemini(&key),
        gemini(&format!("openai%2F{key}")),
        of_path(format!(
            "/v1beta/models/gemini-x:generateContent?u=http://a/{key}"
        )),
        of_path(format!(
            "/v1beta/models/gemini-x:generateContent?u=http://a/{encoded}"
        )),
    ] {
        let fields = [
            ("Authorization", bearer.as_str()),
            ("X-Provider-Key", "sk-own"),
        ];
        let reply = served
            .connect()
            .exchange(request("POST", &target, &fields, body));
        assert_eq!(
            (reply.status, reply.text()),
            (
                400,
                &*format!(
                    r#"{{"error": "A memory key stands in the {place}", "hint": "Use: Authorization: Bearer mk_xxx"}}"#
                )
            ),
            "{target}"
        );
    }
    assert_eq!(provider.accepted(), 0, "nobody was dialled");
    let (code, log) = served.stop();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("400") && !log.contains(secret), "{log}");
    let usage = home.run(&["usage", "--by", "model", "--json"]);
    assert_eq!(usage.code, 0, "{usage:?}");
    assert!(!usage.stdout.contains(secret), "{usage:?}");
}
