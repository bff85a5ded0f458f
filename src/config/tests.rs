mod problems;

use std::collections::HashSet;

use super::*;
use crate::provider::{Dialect, Kind};

fn dir() -> PathBuf {
    PathBuf::from("/var/lib/mr")
}

fn parse(text: &str) -> Config {
    match Config::parse(text, Path::new("mr.toml"), &dir()) {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}

fn errors(text: &str) -> String {
    Config::parse(text, Path::new("mr.toml"), &dir())
        .unwrap_err()
        .to_string()
}

#[test]
fn every_default() {
    let config = Config::defaults(&dir());
    assert_eq!(
        config.server,
        Server {
            listen: vec![Listen::Tcp("127.0.0.1:8080".parse().unwrap())],
            workers: 0,
            tls: None,
        }
    );
    let admin = Listen::Tcp("127.0.0.1:9090".parse().unwrap());
    assert_eq!(config.admin.listen, admin);
    assert_eq!(
        config.keys,
        Keys {
            snapshot: "/var/lib/mr/keys.snapshot".into(),
            master_key: "/var/lib/mr/master.key".into(),
        }
    );
    assert_eq!(
        config.limits,
        Limits {
            head_bytes_max: 65_536,
            headers_max: 100,
            target_bytes_max: 16_384,
            body_bytes_max: 33_554_432,
            connections_max: 65_536,
            upstream_idle_per_origin_max: 256,
        }
    );
    assert_eq!(
        config.timeouts,
        Timeouts {
            head: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            keepalive: Duration::from_secs(75),
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(600),
            stream_idle: Duration::from_secs(600),
            drain: Duration::from_secs(60),
            upstream_idle: Duration::from_secs(30),
        }
    );
    assert_eq!(config.routing.attempts, 3);
    assert_eq!(config.routing.fallback, []);
    let default = config.providers.get(config.routing.default_provider);
    assert_eq!(default.name, "openrouter");
    assert!(config.memory.enabled);
    assert_eq!(config.usage.retention, Duration::from_secs(400 * 86_400));
    assert_eq!(config.errors.format, ErrorFormat::Plain);
    assert!(config.cors.origins.is_empty());
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.log.level, LevelFilter::INFO);
    assert!(config.log.access);
    assert!(!config.demo.enabled);
    assert!(config.warnings().is_empty());
}

#[test]
fn the_template_says_the_defaults() {
    assert_eq!(parse(TEMPLATE), Config::defaults(&dir()));
}

/// Takes the comment mark off everything in the template that is a key or a table.
fn template_with_all_keys() -> String {
    let uncommented = TEMPLATE.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') => rest,
        Some(rest)
            if rest
                .split_once(" = ")
                .is_some_and(|(key, _)| !key.contains(' ')) =>
        {
            rest
        }
        _ => line,
    });
    let mut seen = HashSet::new();
    let mut text = String::new();
    for line in uncommented {
        if line.starts_with('[') {
            seen.clear();
        }
        // `base_url` stands twice, in both of its forms.
        let key = line.split(" = ").next().unwrap_or("");
        if line.contains(" = ") && !line.starts_with('#') && !seen.insert(key) {
            continue;
        }
        text += line;
        text.push('\n');
    }
    text
}

#[test]
fn what_the_template_comments_out_is_right_too() {
    let config = parse(&template_with_all_keys());
    assert!(config.server.tls.is_some());
    let openai = config.providers.get(config.providers.find("oai").unwrap());
    assert_eq!(openai.name, "openai");
    assert_eq!(openai.ca, Some("/var/lib/mr/ca.pem".into()));
    let groq = config.providers.find("groq").unwrap();
    assert_eq!(config.routing.patterns[0], ("llama*".to_owned(), groq));
    let azure = config
        .providers
        .get(config.providers.find("azure").unwrap());
    let azure = azure.azure.clone().unwrap();
    assert_eq!(azure.deployment.as_deref(), Some("main"));
    assert_eq!(azure.deployments["gpt-4o"], "my-gpt-4o");
}

#[test]
fn built_in_providers() {
    let config = Config::defaults(&dir());
    #[rustfmt::skip] // A table reads by rows.
    let expected = [
        ("openai", Kind::OpenAi, "https://api.openai.com/v1"),
        ("anthropic", Kind::Anthropic, "https://api.anthropic.com"),
        ("google", Kind::Google, "https://generativelanguage.googleapis.com"),
        ("xai", Kind::OpenAi, "https://api.x.ai/v1"),
        ("deepseek", Kind::OpenAi, "https://api.deepseek.com/v1"),
        ("mistral", Kind::OpenAi, "https://api.mistral.ai/v1"),
        ("cerebras", Kind::OpenAi, "https://api.cerebras.ai/v1"),
        ("groq", Kind::OpenAi, "https://api.groq.com/openai/v1"),
        ("together", Kind::OpenAi, "https://api.together.xyz/v1"),
        ("openrouter", Kind::OpenAi, "https://openrouter.ai/api/v1"),
        ("azure", Kind::Azure, ""),
        ("ollama", Kind::Keyless, "http://127.0.0.1:11434/v1"),
    ];
    assert_eq!(config.providers.len(), expected.len());
    for ((id, provider), (name, kind, url)) in config.providers.iter().zip(expected) {
        assert_eq!(provider.name, name);
        assert_eq!(provider.kind, kind, "{name}");
        let urls: Vec<_> = provider.base_urls.iter().map(BaseUrl::to_string).collect();
        assert_eq!(urls.join(" "), url, "{name}");
        assert_eq!(config.providers.find(name), Some(id));
        assert_eq!(provider.azure.is_some(), kind == Kind::Azure);
    }
    assert_eq!(config.providers.find("x-ai"), config.providers.find("xai"));
    assert_eq!(config.providers.find("demo"), None);
}

#[test]
fn dialects_by_kind_and_by_hand() {
    use Dialect::{Anthropic, Gemini, OpenAi};
    let config = parse(
        r#"
        [providers]
        a = { base_url = "https://a" }
        b = { base_url = "https://b", kind = "anthropic" }
        c = { base_url = "https://c", kind = "google" }
        d = { base_url = "https://d", kind = "azure" }
        e = { base_url = "https://e", kind = "keyless" }
        f = { base_url = "https://f", kind = "keyless", dialects = ["openai", "anthropic"] }
        "#,
    );
    let cases = [
        ("a", vec![OpenAi]),
        ("b", vec![Anthropic, OpenAi]),
        ("c", vec![Gemini, OpenAi]),
        ("d", vec![OpenAi]),
        ("e", vec![OpenAi]),
        ("f", vec![OpenAi, Anthropic]),
    ];
    for (name, dialects) in cases {
        let provider = config.providers.get(config.providers.find(name).unwrap());
        assert_eq!(provider.dialects, dialects, "{name}");
    }
}

#[test]
fn version_segments_that_a_dialect_brings_are_taken_off() {
    let config = parse(
        r#"
        [providers]
        anthropic = { base_url = "https://a.example/proxy/v1/" }
        google = { base_url = ["https://g.example/v1beta", "https://h.example/v1", "https://i.example/x"] }
        openai = { base_url = "https://o.example/v1" }
        azure = { base_url = "https://z.example/openai/" }
        "#,
    );
    let paths = |name| {
        let provider = config.providers.get(config.providers.find(name).unwrap());
        let paths = provider.base_urls.iter().map(|url| url.path.as_str());
        paths.collect::<Vec<_>>()
    };
    assert_eq!(paths("anthropic"), ["/proxy"]);
    assert_eq!(paths("google"), ["", "", "/x"]);
    assert_eq!(paths("openai"), ["/v1"]);
    assert_eq!(paths("azure"), [""]);
}

#[test]
fn own_patterns_come_before_those_built_in() {
    let config = parse("[routing.patterns]\n\"zz*\" = \"groq\"\n\"gpt-*\" = \"azure\"\n");
    let patterns = config.routing.patterns.iter();
    let named =
        |(text, id): &(String, ProviderId)| (text.clone(), config.providers.get(*id).name.clone());
    let first: Vec<_> = patterns.clone().take(3).map(named).collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        first,
        [
            pair("zz*", "groq"),
            pair("gpt-*", "azure"),
            pair("gpt-*", "openai")
        ]
    );
    let built_in = Config::defaults(&dir()).routing.patterns.len();
    assert_eq!(patterns.len(), built_in + 2);
}

#[test]
fn paths_start_from_the_data_directory() {
    let config = parse(
        r#"
        [server]
        listen = ["unix:run/mr.sock", "unix:/run/mr.sock", "[::1]:0"]
        tls = { cert = "cert.pem", key = "/etc/key.pem" }
        [keys]
        snapshot = "deep/keys"
        "#,
    );
    let listen: Vec<_> = config.server.listen.iter().map(Listen::to_string).collect();
    assert_eq!(
        listen,
        [
            "unix:/var/lib/mr/run/mr.sock",
            "unix:/run/mr.sock",
            "[::1]:0"
        ]
    );
    let tls = config.server.tls.unwrap();
    assert_eq!(tls.cert, Path::new("/var/lib/mr/cert.pem"));
    assert_eq!(tls.key, Path::new("/etc/key.pem"));
    assert_eq!(config.keys.snapshot, Path::new("/var/lib/mr/deep/keys"));
}

#[test]
fn the_demo_provider_is_there_only_if_enabled() {
    let mut config = parse("[demo]\nenabled = true\n[routing]\ndefault_provider = \"demo\"\n");
    let id = config.providers.find(DEMO).unwrap();
    assert_eq!(config.routing.default_provider, id);
    assert!(config.providers.get(id).base_urls.is_empty());
    config
        .providers
        .set_demo_address("127.0.0.1:4242".parse().unwrap());
    let demo = config.providers.get(id);
    assert_eq!(demo.base_urls[0].to_string(), "http://127.0.0.1:4242");
    assert_eq!(demo.kind, Kind::Keyless);
    assert!(demo.speaks(Dialect::Gemini) && demo.speaks(Dialect::Anthropic));
}

#[test]
fn warnings() {
    let config = parse(
        r#"
        server.listen = ["0.0.0.0:80"]
        admin.listen = "0.0.0.0:81"
        cors.origins = ["*"]
        demo.enabled = true
        [providers]
        far = { base_url = "http://10.0.0.1" }
        near = { base_url = "http://localhost:1" }
        "#,
    );
    let warnings = config.warnings();
    let about: Vec<_> = warnings
        .iter()
        .filter_map(|text| text.split(':').next())
        .collect();
    let expected = [
        "providers.far.base_url",
        "server.listen",
        "admin.listen",
        "cors.origins",
        "demo.enabled",
    ];
    assert_eq!(about, expected, "{warnings:#?}");
}

#[test]
fn web_origins_are_kept_as_browsers_send_them() {
    let config =
        parse(r#"cors.origins = ["HTTPS://App.Example.com:443", "http://localhost:3000"]"#);
    assert_eq!(
        config.cors.origins,
        ["https://app.example.com", "http://localhost:3000"]
    );
}

#[test]
fn workers_default_to_the_cores() {
    let mut server = Config::defaults(&dir()).server;
    assert!(server.workers_count() >= 1);
    server.workers = 7;
    assert_eq!(server.workers_count(), 7);
}

#[test]
fn locations() {
    let none = |_: &str| None;
    let both = |name: &str| Some(std::ffi::OsString::from(format!("/env/{name}")));
    let only_dir = |name: &str| (name == "MEMORYROUTER_DIR").then(|| "/env/d".into());
    let path = |text: &str| Some(PathBuf::from(text));
    let shown = |location: Location| {
        let Location {
            dir,
            file,
            file_named,
        } = location;
        format!("{} {} {file_named}", dir.display(), file.display())
    };
    let default = Location::resolve(None, None, none);
    assert_eq!(shown(default), "./data ./data/memoryrouter.toml false");
    let dir = Location::resolve(path("/d"), None, both);
    assert_eq!(shown(dir), "/d /d/memoryrouter.toml false");
    let file = Location::resolve(None, path("/etc/mr.toml"), both);
    assert_eq!(shown(file), "/etc /etc/mr.toml true");
    let bare = Location::resolve(None, path("mr.toml"), none);
    assert_eq!(shown(bare), ". mr.toml true");
    let two = Location::resolve(path("/d"), path("/etc/mr.toml"), none);
    assert_eq!(shown(two), "/d /etc/mr.toml true");
    let env = Location::resolve(None, None, only_dir);
    assert_eq!(shown(env), "/env/d /env/d/memoryrouter.toml false");
    let env = Location::resolve(None, None, both);
    assert_eq!(
        shown(env),
        "/env/MEMORYROUTER_DIR /env/MEMORYROUTER_CONFIG true"
    );
}

#[test]
fn files_that_are_absent_or_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    let some = Some(dir.path().to_owned());
    let location = Location::resolve(some.clone(), None, |_| None);
    assert_eq!(
        Config::load(&location).unwrap(),
        Config::defaults(dir.path())
    );

    let named = Location::resolve(some, Some(dir.path().join("no.toml")), |_| None);
    let error = Config::load(&named).unwrap_err().to_string();
    assert!(error.contains("no.toml: cannot be read"), "{error}");

    std::fs::write(dir.path().join(FILE_NAME), b"\xff").unwrap();
    let error = Config::load(&location).unwrap_err().to_string();
    assert!(
        error.contains("memoryrouter.toml: cannot be read"),
        "{error}"
    );
}
