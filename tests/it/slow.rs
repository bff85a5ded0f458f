//! Who gives or takes slowly, but steadily, is not one that stalls.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::support::{PATIENCE, Provider, Setup, Then};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

#[test]
fn a_providers_pause_and_a_callers_are_two() {
    // Nearly all that a Unix socket holds, so that what follows the pause has no room.
    const FIRST: usize = 200_000;
    const REST: usize = 4 << 20;
    let pause = Duration::from_millis(2500);
    let provider = Provider::start(move |_, wire| {
        let length = FIRST + REST;
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        ));
        wire.send(vec![b'x'; FIRST]);
        thread::sleep(pause);
        wire.send(vec![b'y'; REST]);
        Then::Keep
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("callers");
    let router = Setup::all(&provider)
        .listen(&format!("[\"unix:{}\"]", path.display()))
        .toml("timeouts.stream_idle = \"4s\"")
        .start();
    let mut caller = UnixStream::connect(&path).unwrap();
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    caller
        .write_all(&router.request(CHAT, &[("Connection", "close")], BODY))
        .unwrap();
    thread::sleep(2 * pause);
    let mut answer = Vec::new();
    caller.read_to_end(&mut answer).unwrap();
    assert!(answer.len() > FIRST + REST, "{} bytes", answer.len());
    assert!(answer.ends_with(&[b'y'; REST]));
}
