//! `check`: what would run, and what could not.

use std::fs;

use crate::support::program::Home;

#[test]
fn check_tells_where_callers_and_operators_come_in() {
    let home = Home::new();
    for (toml, line, json) in [
        ("admin.listen = \"off\"", "admin port      off", None),
        (
            "admin.listen = \"127.0.0.1:1\"",
            "admin port      127.0.0.1:1",
            Some("127.0.0.1:1"),
        ),
    ] {
        fs::write(home.file("memoryrouter.toml"), toml).unwrap();
        let text = home.run(&["check"]).stdout;
        assert!(text.lines().any(|found| found == line), "{text}");
        let report = home.run(&["check", "--json"]).json();
        assert_eq!(report["admin"].as_str(), json, "{report}");
    }
}

#[test]
fn check_refuses_what_could_not_be_listened_on_or_written_to() {
    let home = Home::new();
    fs::create_dir(home.file("folder")).unwrap();
    let wrong = [
        (
            "server.listen = \"127.0.0.1:9090\"",
            "is already in server.listen",
        ),
        (
            "server.listen = \"unix:none/a.sock\"",
            "there is no directory",
        ),
        ("server.listen = \"unix:master.key\"", "is no socket"),
        ("admin.listen = \"unix:folder\"", "is no socket"),
        ("memory.path = \"folder\"", "is not a regular file"),
        (
            "memory.path = \"none/memory.redb\"",
            "there is no directory",
        ),
        ("memory.path = \"/dev/null\"", "is not a regular file"),
    ];
    for (toml, why) in wrong {
        fs::write(home.file("memoryrouter.toml"), toml).unwrap();
        let done = home.run(&["check"]);
        assert_eq!(done.code, 78, "{toml}: {done:?}");
        let (setting, _) = toml.split_once(' ').unwrap();
        assert!(done.stderr.contains(why), "{done:?}");
        assert!(done.stderr.contains(setting), "{done:?}");
        assert!(done.stderr.contains("memoryrouter.toml: "), "{done:?}");
    }
    // A socket that is there is the router's own, or will be replaced.
    let _socket = std::os::unix::net::UnixListener::bind(home.file("folder/a.sock")).unwrap();
    let right = "server.listen = \"unix:folder/a.sock\"\nmemory.path = \"folder/memory.redb\"";
    fs::write(home.file("memoryrouter.toml"), right).unwrap();
    assert_eq!(home.run(&["check"]).code, 0);
    fs::create_dir(home.file("usage.redb")).unwrap();
    assert_eq!(home.run(&["check"]).code, 78);
}
