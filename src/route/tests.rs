use super::*;

fn operation<'a>(path: &'a str) -> Operation<'a> {
    match endpoint("POST", path) {
        Ok(Endpoint::Proxy(operation)) => operation,
        other => panic!("{path}: {other:?}"),
    }
}

fn not_found(path: &str) -> (bool, Vec<&'static str>) {
    match endpoint("POST", path) {
        Err(Miss::NotFound { authenticated }) => (authenticated, super::nearest(path)),
        other => panic!("{path}: {other:?}"),
    }
}

const NAMED: [(&str, Dialect, Task); 11] = [
    ("/chat/completions", Dialect::OpenAi, Task::ChatCompletions),
    ("/completions", Dialect::OpenAi, Task::Completions),
    ("/embeddings", Dialect::OpenAi, Task::Embeddings),
    ("/responses", Dialect::OpenAi, Task::Responses),
    ("/moderations", Dialect::OpenAi, Task::Moderations),
    ("/audio/transcriptions", Dialect::OpenAi, Task::Audio),
    ("/audio/speech", Dialect::OpenAi, Task::Audio),
    ("/images/generations", Dialect::OpenAi, Task::Images),
    ("/images/edits/x-1.2", Dialect::OpenAi, Task::Images),
    ("/messages", Dialect::Anthropic, Task::Messages),
    (
        "/messages/count_tokens",
        Dialect::Anthropic,
        Task::CountTokens,
    ),
];

const GEMINI_METHODS: [(&str, Task); 5] = [
    ("generateContent", Task::Generate { stream: false }),
    ("streamGenerateContent", Task::Generate { stream: true }),
    ("countTokens", Task::GeminiCountTokens),
    ("embedContent", Task::GeminiEmbed),
    ("batchEmbedContents", Task::GeminiBatchEmbed),
];

#[test]
fn the_vault_and_its_methods() {
    for (path, method, task) in [
        ("", "DELETE", VaultTask::Clear),
        (
            "/mem_00000000000000ab",
            "DELETE",
            VaultTask::Delete("mem_00000000000000ab"),
        ),
        ("/stats", "GET", VaultTask::Stats),
        ("/export", "GET", VaultTask::Export),
        ("/upload", "POST", VaultTask::Upload),
        ("/warmup", "POST", VaultTask::Warmup),
        ("/prepare", "POST", VaultTask::Prepare),
        ("/ingest", "POST", VaultTask::Ingest),
        ("/search", "POST", VaultTask::Search),
    ] {
        for prefix in ["/memory", "/v1/memory", "/v1/v1/memory"] {
            for slash in ["", "/"] {
                let asked = format!("{prefix}{path}{slash}");
                if task == VaultTask::Clear && slash == "/" {
                    // An id that was left empty.
                    let missed = endpoint(method, &asked);
                    assert!(matches!(missed, Err(Miss::NotFound { .. })), "{asked}");
                    continue;
                }
                assert_eq!(
                    endpoint(method, &asked),
                    Ok(Endpoint::Vault(task)),
                    "{asked}"
                );
                for other in ["GET", "HEAD", "POST", "DELETE", "PUT"] {
                    let takes = other == method || (method == "GET" && other == "HEAD");
                    assert_eq!(endpoint(other, &asked).is_ok(), takes, "{other} {asked}");
                }
            }
        }
    }
}

#[test]
fn every_endpoint_with_without_and_with_doubled_version() {
    for (path, dialect, task) in NAMED {
        for prefix in ["", "/v1", "/v1/v1"] {
            for slash in ["", "/"] {
                let asked = format!("{prefix}{path}{slash}");
                let found = operation(&asked);
                assert_eq!((found.dialect, found.task), (dialect, task), "{asked}");
                assert_eq!((found.path, found.version), (path, "/v1"), "{asked}");
                assert_eq!(found.model, None);
            }
        }
        assert!(not_found(&format!("/v1/v1/v1{path}")).0);
    }
}

#[test]
fn gemini_paths_keep_their_version() {
    for (method, task) in GEMINI_METHODS {
        for (prefix, version) in [
            ("", "/v1beta"),
            ("/v1", "/v1"),
            ("/v1beta", "/v1beta"),
            ("/v1/v1beta", "/v1beta"),
            ("/v1beta/v1beta", "/v1beta"),
            ("/v1/v1", "/v1"),
        ] {
            let path = format!("{prefix}/models/gemini-2.5-pro:{method}");
            let found = operation(&path);
            assert_eq!(
                (found.dialect, found.task),
                (Dialect::Gemini, task),
                "{path}"
            );
            assert_eq!(found.version, version, "{path}");
            assert_eq!(found.path, &path[prefix.len()..]);
            assert_eq!(found.model.unwrap().name, "gemini-2.5-pro");
        }
    }
}

#[test]
fn what_the_router_answers_itself() {
    for method in ["GET", "HEAD"] {
        for (path, expected) in [
            ("/", Endpoint::Root),
            ("/health", Endpoint::Health),
            ("/health/", Endpoint::Health),
            ("/ready", Endpoint::Ready),
            ("/models", Endpoint::Models),
            ("/v1/models", Endpoint::Models),
            ("/v1/models/", Endpoint::Models),
            ("/v1/v1/models", Endpoint::Models),
            ("/v1beta/models", Endpoint::Models),
            ("/v1/v1beta/models", Endpoint::Models),
        ] {
            assert_eq!(endpoint(method, path), Ok(expected), "{path}");
        }
    }
}

#[test]
fn another_method_is_told_which_one() {
    for (method, path, allow, authenticated) in [
        ("GET", "/v1/chat/completions", "POST", true),
        ("HEAD", "/chat/completions", "POST", true),
        ("PUT", "/v1/messages", "POST", true),
        ("GET", "/v1beta/models/m:generateContent", "POST", true),
        ("POST", "/v1/models", "GET, HEAD", true),
        ("POST", "/health", "GET, HEAD", false),
        ("POST", "/", "GET, HEAD", false),
        ("get", "/health", "GET, HEAD", false),
        ("", "/health", "GET, HEAD", false),
    ] {
        let expected = Err(Miss::MethodNotAllowed {
            allow,
            authenticated,
        });
        assert_eq!(endpoint(method, path), expected, "{method} {path}");
    }
}

#[test]
fn unknown_paths_are_told_what_is_near() {
    for (path, authenticated, nearest) in [
        ("/v1/chat/completion", true, "/v1/chat/completions"),
        ("/v1/chat/complete", true, "/v1/chat/completions"),
        ("/v1/message", true, "/v1/messages"),
        ("/v1/embedding", true, "/v1/embeddings"),
        ("/chat/completion", false, "/v1/chat/completions"),
        ("/healthz", false, "/health"),
        (
            "/v1beta/models/x:generate",
            true,
            "/v1beta/models/{model}:generateContent",
        ),
    ] {
        let (told, names) = not_found(path);
        assert_eq!(told, authenticated, "{path}");
        assert_eq!(names.len(), 3);
        assert_eq!(names[0], nearest, "{path}");
    }
    for path in [
        "/v1",
        "/v1/",
        "/v1/x",
        "/v1beta/x",
        "/v1/memory/other",
        "/v1/memory/mem_1/x",
        "/v1/account/usages",
        "/v1/keys/a/b",
    ] {
        assert!(not_found(path).0, "{path}");
    }
    for path in [
        "",
        "//",
        "/x",
        "/V1/chat/completions",
        "/favicon.ico",
        "*",
        "/é\u{202e}",
    ] {
        assert!(!not_found(path).0, "{path}");
    }
}

#[test]
fn no_path_climbs_or_hides_anything() {
    for path in [
        "/v1/audio",
        "/v1/audio/",
        "/v1/audio//x",
        "/v1/audio/../files",
        "/v1/audio/./x",
        "/v1/audio/%2e%2e/files",
        "/v1/audio/a?b",
        "/v1/audio/a b",
        "/v1/chat//completions",
        "/v1/chat/completions//",
        "/v1/chat%2Fcompletions",
        "/v1/Chat/Completions",
        "/v1beta/models/:generateContent",
        "/v1beta/models/..:generateContent",
        "/v1beta/models/../x:generateContent",
        "/v1beta/models/a/../../x:generateContent",
        "/v1beta/models/%2e%2e/x:generateContent",
        "/v1beta/models/a%2F..%2Fx:generateContent",
        "/v1beta/models/a//b:generateContent",
        "/v1beta/models//a:generateContent",
        "/v1beta/models/a/:generateContent",
        "/v1beta/models/a%00:generateContent",
        "/v1beta/models/a%0d%0ax:generateContent",
        "/v1beta/models/a%3Fx:generateContent",
        "/v1beta/models/a%23x:generateContent",
        "/v1beta/models/a%252e:generateContent",
        "/v1beta/models/a%2:generateContent",
        "/v1beta/models/a%zz:generateContent",
        "/v1beta/models/a%C3%A9:generateContent",
        "/v1beta/models/a:deleteEverything",
        "/v1beta/models/a",
        "/v1beta/models/a:generateContent/x",
        "/v1beta/tunedModels/a:generateContent",
    ] {
        assert!(not_found(path).0, "{path}");
    }
}

#[test]
fn a_long_path_is_compared_in_part() {
    let path = format!("/v1/{}", "x".repeat(1 << 20));
    assert!(not_found(&path).0);
}

#[test]
fn the_usual_ones_are_no_others() {
    for (path, ..) in NAMED {
        for path in [
            path.to_owned(),
            format!("/v1{path}"),
            format!("/v1/v1{path}"),
            format!("/v1{path}/"),
        ] {
            for method in ["POST", "GET"] {
                let found = usual(method, path.as_bytes());
                let fixed = method == "POST"
                    && path == format!("/v1{}", &path[3..])
                    && fixed(&path.as_bytes()[3..]).is_some();
                assert_eq!(found.is_some(), fixed, "{method} {path}");
                if found.is_some() {
                    assert_eq!(found, endpoint(method, &path).ok());
                }
            }
        }
    }
    assert_eq!(usual("POST", b"/v1/models"), None);
    assert_eq!(usual("POST", b"/"), None);
}
