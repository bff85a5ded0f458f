//! What is said about a file that is wrong.

use std::path::Path;

use super::{dir, errors};
use crate::config::Config;

#[test]
fn all_problems_at_once_in_the_files_order() {
    let text = "[server]\nlsiten = []\n\n[limits]\nbody_bytes = \"32MB\"\nheaders = 1\n\n\
                [timeout]\nhead = 10\n[routing]\ndefault_provider = \"antropic\"\n";
    let expected = "\
mr.toml:2: server.lsiten: unknown key; did you mean `listen`?
mr.toml:5: limits.body_bytes: \"32MB\" is not a size; write bytes, or \"64KiB\", \"32MiB\", \"1GiB\"
mr.toml:6: limits.headers: expected a whole number from 16 to 1000
mr.toml:8: timeout: unknown table; did you mean `timeouts`?
mr.toml:11: routing.default_provider: unknown \"antropic\"; did you mean \"anthropic\"?";
    assert_eq!(errors(text), expected);
}

#[test]
fn each_problem_says_what_would_be_right() {
    let long_socket = format!("[server]\nlisten = [\"unix:/{}\"]", "s".repeat(107));
    #[rustfmt::skip] // A table reads by rows.
    let cases = [
        ("foo = 1", "mr.toml:1: foo: unknown key; known here: server, "),
        ("server = 1", "mr.toml:1: server: expected a table, found a whole number"),
        ("[server]\nlisten = 8080", "mr.toml:2: server.listen: expected a string, found a whole"),
        ("[server]\nlisten = []", "mr.toml:2: server.listen: needs at least one address"),
        ("[server]\nlisten = [\n\"127.0.0.1:1\",\n\"localhost:1\"]", "mr.toml:4: server.listen: "),
        ("[server]\nlisten = [\":80\"]", "write \"127.0.0.1:8080\""),
        ("[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", "server.listen: 127.0.0.1:1 stands here twice"),
        ("[server]\nlisten = [\"unix:\"]", "server.listen: expected the path of a file"),
        (&long_socket, "bytes that a socket's path may have"),
        ("[server]\ntls = { cert = \"a\" }", "mr.toml:2: server.tls: needs both `cert` and `key`"),
        ("[server.tls]\ncert = \"a\"\nkey = \"b\"\nkye = \"a\"", "server.tls.kye: unknown key; did you mean `key`?"),
        ("[server]\nworkers = -1", "server.workers: expected a whole number from 0 to 1024"),
        ("[server]\nworkers = 1.5", "server.workers: expected a whole number from 0 to 1024"),
        ("[server]\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:1\"]", "0.0.0.0:1 stands here twice, as 127.0.0.1:1"),
        ("[server]\nlisten = [\"[::]:1\", \"[::1]:1\"]", "[::1]:1 stands here twice, as [::]:1"),
        ("[admin]\nlisten = \"127.0.0.1:8080\"", "127.0.0.1:8080 is already in server.listen"),
        ("[admin]\nlisten = \"0.0.0.0:8080\"", "0.0.0.0:8080 is already in server.listen, as 127.0.0.1:8080"),
        ("[timeouts]\nhead = 10", "mr.toml:2: timeouts.head: 10 has no unit; write \"10s\""),
        ("[timeouts]\nhead = \"0s\"", "timeouts.head: \"0s\" is out of bounds: from 10ms to 7d"),
        ("[limits]\nhead_bytes = 10", "limits.head_bytes: expected a whole number from 1024 to"),
        ("[limits]\nzzz = 1", "limits.zzz: unknown key; known here: head_bytes, headers,"),
        ("[memory]\nenabled = \"yes\"", "memory.enabled: expected true or false, found a string"),
        ("[memory]\npath = \"audit.log\"", "/audit.log is the audit log as well as memory.path"),
        ("[memory]\nretention = \"30days\"\npath = \"./usage.redb\"", "mr.toml:3: memory.path: "),
        ("[memory]\npath = \"memory.spool\"", "is memory.path as well as the spool of memory.path"),
        ("[memory]\npath = \"usage.spool.1\"", "is a spool of usage as well as memory.path"),
        ("[memory]\npath = \"keys.snapshot.seen\"", "is the generation of keys.snapshot as well as memory.path"),
        ("[keys]\nsnapshot = \"memory.redb\"", "mr.toml:2: keys.snapshot: "),
        ("[keys]\nmaster_key = \"keys.snapshot\"", "is keys.snapshot as well as keys.master_key"),
        ("[usage]\nprices = \"bad.memory.spool\"", "usage.prices as well as the damaged spool of memory.path"),
        ("[errors]\nformat = \"dialekt\"", "unknown \"dialekt\"; did you mean \"dialect\"?"),
        ("[log]\nlevel = \"verbose\"", "unknown \"verbose\"; one of: off, error, warn, info,"),
        ("[cors]\norigins = [\"https://a.b/\"]", "cors.origins: \"https://a.b/\" is no origin"),
        ("[cors]\norigins = [\"null\"]", "cors.origins: \"null\" is no origin"),
        ("[providers.new]\nkind = \"openai\"", "mr.toml:1: providers.new: base_url is missing"),
        ("[providers.opnai]\n", "base_url is missing; did you mean [providers.openai]?"),
        ("[providers.x-ai]\nbase_url = \"https://x\"", "this name is another provider's alias"),
        ("[providers.demo]\nbase_url = \"https://x\"", "belongs to the built-in provider"),
        ("[providers.\"a/b\"]\nbase_url = \"https://x\"", "name is 1 to 64 of a-z 0-9 . _ -"),
        ("[providers.groq]\naliases = [\"xai\"]", "groq: the alias \"xai\" names two providers"),
        ("[providers.openai]\nbase_url = \"api.x\"", "a base URL starts with https:// or http://"),
        ("[providers.openai]\nkind = \"opnai\"", "unknown \"opnai\"; did you mean \"openai\"?"),
        ("[providers.openai]\napi_version = \"1\"", "providers.openai.api_version: unknown key"),
        ("[providers.azure]\ndeployment = \"a/b\"", "other characters than A-Z a-z 0-9 . _ -"),
        ("[routing]\nfallback = [\"groc\"]", "unknown \"groc\"; did you mean \"groq\"?"),
        ("[routing]\nattempts = 0", "routing.attempts: expected a whole number from 1 to 100"),
        ("[routing.patterns]\n\"o[0-9\" = \"groq\"", "routing.patterns.o[0-9: a `[` needs characters and a `]`"),
        ("[routing]\ndefault_provider = \"demo\"", "routing.default_provider: unknown \"demo\""),
    ];
    for (text, expected) in cases {
        let errors = errors(text);
        assert!(errors.contains(expected), "{text}\n{errors}\n{expected}");
        assert_eq!(errors.lines().count(), 1, "{text}\n{errors}");
    }
}

#[test]
fn errors_of_syntax_stand_alone() {
    let errors = errors("[server]\nlisten = [\nworkers = 1\n[limits]\nnope = 1\n");
    assert!(errors.starts_with("mr.toml:"), "{errors}");
    assert!(!errors.contains("nope"), "{errors}");
    let twice = Config::parse("[log]\n[log]\n", Path::new("mr.toml"), &dir());
    assert!(twice.unwrap_err().to_string().starts_with("mr.toml:2: "));
}

#[test]
fn a_password_in_a_base_url_is_not_repeated() {
    let errors = errors("[providers.openai]\nbase_url = \"https://me:canary@a\"");
    assert!(!errors.contains("canary"), "{errors}");
}
