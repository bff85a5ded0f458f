//! The operator's port of the built program: over a hand-over, beside the command line, with stores that cannot be
//! written, and without a secret in anything that it shows.

use std::net::SocketAddr;
use std::thread;

use serde_json::Value;

use crate::support::program::{Home, Served, free_port};
use crate::support::{CHAT, Caller, Provider, Reply, eventually, request};

/// A served router with a provider and its admin port.
struct Operated {
    home: Home,
    served: Served,
    admin: SocketAddr,
    token: String,
}

impl Operated {
    fn start(provider: &Provider, toml: &str, prepare: impl FnOnce(&Home)) -> Self {
        let home = Home::new();
        let port = free_port();
        let url = provider.url("/v1");
        let all = format!(
            "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:{port}\"\n\
             providers.openai.base_url = \"{url}\"\n{toml}\n"
        );
        std::fs::write(home.file("memoryrouter.toml"), all).unwrap();
        prepare(&home);
        let served = home.serve();
        let admin = SocketAddr::from(([127, 0, 0, 1], port));
        let token = std::fs::read_to_string(home.file("admin.token")).unwrap();
        eventually("the admin port", || {
            std::net::TcpStream::connect(admin).is_ok()
        });
        Self {
            home,
            served,
            admin,
            token: token.trim().to_owned(),
        }
    }

    fn ask(&self, method: &str, target: &str, body: &str) -> Reply {
        Caller::connect(self.admin).exchange(self.asking(method, target, body))
    }

    fn asking(&self, method: &str, target: &str, body: &str) -> String {
        format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
    }

    /// A sample of the metrics page.
    fn metric(&self, name: &str) -> Option<f64> {
        let page = self.ask("GET", "/metrics", "");
        let line = page
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    fn chat(&self, key: &str, fields: &[(&str, &str)], body: &str) -> Reply {
        let bearer = format!("Bearer {key}");
        let mut all = vec![
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ];
        all.extend_from_slice(fields);
        self.served
            .connect()
            .exchange(request("POST", "/v1/chat/completions", &all, body))
    }
}

#[test]
fn a_successor_takes_the_port_over() {
    let provider = Provider::plain();
    let mut router = Operated::start(&provider, "", |_| {});
    let pid = |reply: &Reply| reply.json()["pid"].as_u64().unwrap();
    let first = pid(&router.ask("GET", "/admin/v1/overview", ""));
    router.served.hand_over();
    let successor = u64::from(router.served.pid());
    assert_ne!(first, successor);
    eventually("the successor answers", || {
        let Ok(_) = std::net::TcpStream::connect(router.admin) else {
            return false;
        };
        let mut caller = Caller::connect(router.admin);
        caller.send(router.asking("GET", "/admin/v1/overview", ""));
        caller
            .try_reply()
            .is_some_and(|reply| pid(&reply) == successor)
    });
    let made = router.ask("POST", "/admin/v1/keys", "{}");
    assert_eq!(made.status, 201, "{}", made.text());
    let log = router.served.stop().1;
    assert!(!log.contains("admin.listen"), "{log}");
}

#[test]
fn the_command_line_knows_keys_that_were_made_or_deleted_just_now() {
    let provider = Provider::plain();
    let router = Operated::start(&provider, "", |_| {});
    let line = "{\"content\":\"the sky is blue\"}\n";
    // Often enough that the router has not looked by itself.
    for _ in 0..3 {
        let made = router.home.run(&["keys", "create", "--json"]).json();
        let id = made["id"].as_str().unwrap();
        let import = ["memory", "import", "--key", id];
        let done = router.home.run_with(&import, line);
        assert_eq!(done.code, 0, "{done:?}");
        let vault = format!("/admin/v1/vaults/{}", made["vault"].as_str().unwrap());
        let named = router.ask("DELETE", &vault, "");
        assert_eq!(named.status, 409, "{}", named.text());
        let done = router.home.run(&["keys", "delete", id]);
        assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:?}");
        // Its texts are out of the router's RAM, too.
        let hot = router.metric("memoryrouter_memory_hot_vaults");
        assert_eq!(hot, Some(0.0));
        let gone = router.home.run(&["memory", "export", "--key", id]);
        assert_eq!((gone.code, gone.stdout.as_str()), (1, ""), "{gone:?}");
        assert!(gone.stderr.contains("no such key"), "{gone:?}");
    }
    assert_eq!(router.served.stop().0, 0);
}

#[test]
fn changes_of_both_sides_at_once_are_all_kept() {
    let provider = Provider::plain();
    let router = Operated::start(&provider, "", |_| {});
    let many = 12;
    thread::scope(|scope| {
        scope.spawn(|| {
            for index in 0..many {
                let done = router
                    .home
                    .run(&["keys", "create", "--name", &format!("cli-{index}")]);
                assert_eq!(done.code, 0, "{done:?}");
            }
        });
        scope.spawn(|| {
            for index in 0..many {
                let body = format!("{{\"name\":\"admin-{index}\"}}");
                assert_eq!(router.ask("POST", "/admin/v1/keys", &body).status, 201);
            }
        });
    });
    let listed = router.home.run(&["keys", "list", "--json"]).json();
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    for index in 0..many {
        for side in ["cli", "admin"] {
            assert!(
                names.contains(&&*format!("{side}-{index}")),
                "{side}-{index}"
            );
        }
    }
    eventually("the router has them all", || {
        let keys = router.ask("GET", "/admin/v1/keys", "").json();
        keys["keys"].as_array().unwrap().len() == names.len()
    });
    let audit = std::fs::read_to_string(router.home.file("audit.log")).unwrap();
    let who = |who: &str| {
        let lines = audit
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["who"] == who && line["what"] == "key made")
            .count()
    };
    assert_eq!((who("cli"), who("admin token")), (many, many));
}

#[test]
fn a_refused_file_is_not_changed_as_if_it_were_in_use() {
    let provider = Provider::plain();
    let mut manager = String::new();
    let router = Operated::start(&provider, "", |home| {
        for _ in 0..6 {
            home.mint();
        }
        let made = home.run(&["keys", "create", "--manage-keys", "--json"]);
        manager = made.json()["token"].as_str().unwrap().to_owned();
    });
    // Newer, with none of the keys, and nobody said that they should be gone.
    let other = Home::new();
    std::fs::remove_file(other.file("keys.snapshot")).unwrap();
    std::fs::copy(router.home.file("master.key"), other.file("master.key")).unwrap();
    assert_eq!(other.run(&["init"]).code, 0);
    for number in 10..22 {
        let key = format!("sk-01234567{number}");
        other.run_with(&["providers", "set", "openai"], &key);
    }
    let (file, new) = (
        router.home.file("keys.snapshot"),
        other.file("keys.snapshot"),
    );
    let good = std::fs::read(&file).unwrap();
    std::fs::copy(&new, &file).unwrap();
    let made = router.ask("POST", "/admin/v1/keys", "{}");
    assert_eq!(made.status, 500, "{}", made.text());
    assert!(
        made.text().contains("where 7 were in use"),
        "{}",
        made.text()
    );
    let fields = [("x-api-key", manager.as_str())];
    let mint = || {
        let mint = request("POST", "/v1/keys", &fields, "{}");
        router.served.connect().exchange(mint).status
    };
    assert_eq!(mint(), 503);
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&new).unwrap());
    std::fs::write(&file, good).unwrap();
    assert_eq!(router.ask("POST", "/admin/v1/keys", "{}").status, 201);
    assert!(mint() < 300);
}

#[test]
fn stores_that_cannot_be_written_cost_no_request() {
    let provider = Provider::plain();
    let stores = ["memory.redb", "usage.redb"];
    let router = Operated::start(&provider, "", |home| {
        let stored = home.run_with(&["providers", "set", "openai"], "sk-0123456789");
        assert_eq!(stored.code, 0, "{stored:?}");
        for store in stores {
            std::fs::create_dir(home.file(store)).unwrap();
            std::fs::write(home.file(store).join("x"), "").unwrap();
        }
    });
    let key = router.home.mint();
    eventually("the key", || router.chat(&key, &[], CHAT).status == 200);
    for _ in 0..20 {
        assert_eq!(router.chat(&key, &[], CHAT).status, 200);
    }
    for name in ["memoryrouter_memory_up", "memoryrouter_usage_up"] {
        assert_eq!(router.metric(name), Some(0.0), "{name}");
    }
    let overview = router.ask("GET", "/admin/v1/overview", "").json();
    assert_eq!(overview["memory"]["state"], "failed");
    assert!(overview["usage"]["reason"].is_string());
    assert_eq!(router.ask("GET", "/admin/v1/usage", "").status, 503);
    let keys = router.ask("GET", "/admin/v1/keys", "").json();
    let id = keys["keys"][0]["id"].as_str().unwrap();
    let import = || {
        let target = format!("/admin/v1/keys/{id}/memories/import");
        let told = router.ask("POST", &target, "{\"content\":\"a\"}\n");
        let audit = std::fs::read_to_string(router.home.file("audit.log")).unwrap();
        let complete = told.text().contains("complete");
        (complete, audit.matches("memories imported").count())
    };
    assert_eq!(
        import(),
        (false, 0),
        "what was not stored is not written down"
    );
    for store in stores {
        std::fs::remove_dir_all(router.home.file(store)).unwrap();
    }
    eventually("both recover without a restart", || {
        router.metric("memoryrouter_memory_up") == Some(1.0)
            && router.metric("memoryrouter_usage_up") == Some(1.0)
    });
    assert_eq!(import(), (true, 1));
    assert_eq!(router.chat(&key, &[], CHAT).status, 200);
    eventually("nothing was lost", || {
        router.ask("GET", "/admin/v1/usage?by=none", "").json()["total"]["requests"].as_u64()
            >= Some(22)
    });
}

#[test]
fn no_secret_is_shown_or_logged() {
    let provider = Provider::plain();
    let toml = "log.level = \"trace\"\ntimeouts.connect = \"200ms\"\nmetrics.keys = true\n\
                providers.mistral.base_url = \"http://127.0.0.1:1/v1\"";
    let router = Operated::start(&provider, toml, |home| {
        home.run_with(&["providers", "set", "openai"], "sk-canary-stored-0001");
    });
    let key = router.home.run_with(
        &["keys", "create", "--import", "--json"],
        "mk_canary_memory_0002",
    );
    assert_eq!(key.code, 0, "{key:?}");
    let key = "mk_canary_memory_0002";
    let say = CHAT.replace("hi", "canary-prompt-0003");
    eventually("the key", || router.chat(key, &[], &say).status == 200);
    let pass = [
        ("X-Provider-Key", "sk-canary-passed-0004"),
        ("X-Session-ID", "s1"),
    ];
    assert_eq!(router.chat(key, &pass, &say).status, 200);
    router.chat("mk_canary_unknown_0005", &[], &say);
    router.chat(key, &[], &say.replace("gpt-4o", "mistral/x"));
    router.chat(key, &[], &say.replace("\"messages\"", "\"massages\""));
    router.chat(key, &[], "{\"canary-broken-0006");

    let store = r#"{"key":"sk-canary-stored-0007"}"#;
    let providers = "/admin/v1/accounts/default/providers";
    assert_eq!(
        router
            .ask("POST", &format!("{providers}/openai"), store)
            .status,
        201
    );
    assert_eq!(
        router
            .ask("POST", &format!("{providers}/openai/2/test"), "")
            .status,
        200
    );
    let mint = r#"{"token":"mk_canary_minted_0008","name":"n"}"#;
    let made = router.ask("POST", "/admin/v1/keys", mint);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let odd = r#"{"token":"mk_canary_odd_0009","naem":"sk-canary-odd-0010"}"#;
    let mut shown = router.ask("POST", "/admin/v1/keys", odd).text().to_owned();
    let odd = r#"{"key":["sk-canary-odd-0011"]}"#;
    shown += router
        .ask("POST", &format!("{providers}/openai"), odd)
        .text();
    let play = format!(r#"{{"key_id":"{id}","path":"/v1/chat/completions","body":{say}}}"#);
    assert_eq!(
        router.ask("POST", "/admin/v1/playground", &play).status,
        200
    );
    let login = |token: &str| {
        let body = format!("{{\"token\":\"{token}\"}}");
        let text = format!(
            "POST /admin/v1/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Caller::connect(router.admin).exchange(text)
    };
    shown += login("canary-guess-0012").text();
    let session = login(&router.token);
    let cookie = session
        .field("set-cookie")
        .unwrap()
        .split(['=', ';'])
        .nth(1)
        .unwrap()
        .to_owned();
    shown += session.text();
    for target in [
        "/admin/v1/overview",
        "/admin/v1/requests",
        "/admin/v1/keys",
        "/admin/v1/accounts",
        providers,
        "/admin/v1/usage?by=key,model,provider,day",
        "/admin/v1/config",
        "/admin/v1/log",
        "/admin/v1/session",
        &format!("/admin/v1/models?key={id}"),
        "/metrics",
    ] {
        let reply = router.ask("GET", target, "");
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        shown += reply.text();
    }
    shown += &std::fs::read_to_string(router.home.file("audit.log")).unwrap();
    let token = router.token.clone();
    let (_, log) = router.served.stop();
    assert!(log.contains("access"), "{log}");
    for (place, text) in [("an answer", &shown), ("the log", &log)] {
        let found = text
            .find("canary")
            .map(|at| &text[at.saturating_sub(200)..(at + 40).min(text.len())]);
        assert_eq!(found, None, "a canary in {place}");
        assert!(!text.contains(&token), "the admin token in {place}");
        assert!(!text.contains(&cookie), "a session in {place}");
    }
}
