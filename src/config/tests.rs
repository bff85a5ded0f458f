mod problems;
mod providers;

use std::collections::HashSet;

use tracing::level_filters::LevelFilter;

use super::*;

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
    assert_eq!(config.admin.listen, Some(admin));
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
            in_flight_max: 16_384,
            upstream_idle_per_origin_max: 256,
            auth_failures_max: 60,
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
            unacknowledged: Duration::from_secs(30),
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
    assert_eq!(parse(&template(false)), Config::defaults(&dir()));
    let first_run = parse(&template(true));
    assert!(first_run.demo.enabled);
    assert_eq!(first_run.limits, Config::defaults(&dir()).limits);
}

/// Takes the comment mark off everything in the template that is a key or a table.
fn template_with_all_keys() -> String {
    let template = template(false);
    let uncommented = template.lines().map(|line| match line.strip_prefix("# ") {
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
fn warnings() {
    let config = parse(
        r#"
        server.listen = ["0.0.0.0:80"]
        admin.listen = "0.0.0.0:81"
        cors.origins = ["*"]
        demo.enabled = true
        [memory.embeddings]
        base_url = "https://10.0.0.1/v1"
        model = "m"
        key_env = "MEMORYROUTER_TEST_OF_A_VARIABLE_THAT_NOBODY_SETS"
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
        "memory.embeddings.key_env",
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
fn hosts_have_no_port() {
    let config = parse(r#"admin.hosts = ["Router.example.com", "2001:DB8:0::1"]"#);
    assert_eq!(config.admin.hosts, ["router.example.com", "2001:db8::1"]);
    for host in ["router.example.com:18401", "[::1]", "10.0.0.1:80", "a:b"] {
        let said = errors(&format!("admin.hosts = [\"{host}\"]"));
        assert!(said.contains("without scheme and port"), "{said}");
    }
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
