//! Handing over to the next process: what a failed one leaves alone, and what goes with it besides the callers' sockets.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::eventually;
use crate::support::program::{Home, Served};
use crate::support::request;

const SAY: &str = r#"{"model":"demo/echo","messages":[{"role":"user","content":"hi"}]}"#;

fn home(toml: &str) -> (Home, String) {
    let home = Home::new();
    write(&home, "127.0.0.1:0", toml);
    let token = home.mint();
    (home, token)
}

/// Writes a configuration with the admin port at `admin`.
fn write(home: &Home, admin: &str, toml: &str) {
    let all = format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"{admin}\"\ndemo.enabled = true\n{toml}\n"
    );
    fs::write(home.file("memoryrouter.toml"), all).unwrap();
}

fn answers(router: &Served, token: &str) -> bool {
    let bytes = request("POST", "/v1/chat/completions", &[("x-api-key", token)], SAY);
    router.connect().exchange(bytes).status == 200
}

/// Asks for a handover that is to fail, and sees that the first router goes on.
fn fails(router: &Served, token: &str) {
    let count = |word| router.log().matches(word).count();
    let before = count("did not start");
    router.signal(Signal::SIGUSR2);
    eventually("the refusal", || count("did not start") > before);
    assert!(answers(router, token));
    assert_eq!(count("handed over"), 0, "{}", router.log());
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_successor_without_its_admin_port_changes_nothing() {
    let (home, token) = home("");
    let socket = home.file("data.sock");
    let listen = format!(
        "server.listen = [\"127.0.0.1:0\", \"unix:{}\"]",
        socket.display()
    );
    let toml = fs::read_to_string(home.file("memoryrouter.toml")).unwrap();
    let toml = toml.replace("server.listen = [\"127.0.0.1:0\"]", &listen);
    fs::write(home.file("memoryrouter.toml"), &toml).unwrap();
    let router = home.serve();
    let secret = home.file("admin.token");
    set_mode(&secret, 0o644);
    fails(&router, &token);
    set_mode(&secret, 0o600);
    for admin in ["192.0.2.1:18401", "unix:nodir/a.sock"] {
        let wrong = toml.replace(
            "admin.listen = \"127.0.0.1:0\"",
            &format!("admin.listen = \"{admin}\""),
        );
        fs::write(home.file("memoryrouter.toml"), wrong).unwrap();
        fails(&router, &token);
    }
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    fs::write(home.file("memoryrouter.toml"), toml).unwrap();
    let (code, log) = router.stop();
    assert_eq!(code, 0, "{log}");
    assert!(!socket.exists());
}

#[test]
fn check_reads_the_admin_token_too() {
    let (home, _) = home("");
    assert_eq!(home.run(&["check"]).code, 0);
    set_mode(&home.file("admin.token"), 0o644);
    let done = home.run(&["check"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("admin.token"), "{done:?}");
    fs::remove_file(home.file("admin.token")).unwrap();
    assert_eq!(home.run(&["check"]).code, 0);
}
