//! Who gives or takes slowly, but steadily, is not one that stalls.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{Gate, PATIENCE, Provider, Router, Setup, Then, json};

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o","messages":[]}"#;

/// A provider with little room, which answers once `read` has taken a request of so many bytes.
fn provider(read: impl FnOnce(&mut TcpStream) + Send + 'static) -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read(&mut stream);
        stream.write_all(&json(200, "{}")).unwrap();
        // Until the router closes.
        let _ = stream.read(&mut [0]);
    });
    addr
}

/// A large request, and where its bytes end.
fn large() -> String {
    let text = "x".repeat(12 << 20);
    format!(r#"{{"model":"gpt-4o","messages":["{text}"]}}"#)
}

/// Reads up to the end of a large request, `step` bytes at a time with a pause behind each.
fn read_large(stream: &mut TcpStream, step: usize, pause: Duration) {
    let mut room = vec![0; step];
    let mut end = [0; 3];
    while end != *b"\"]}" {
        let read = stream.read(&mut room).unwrap();
        assert!(read > 0, "the router let go");
        let last = &room[..read];
        end.rotate_left(read.min(3));
        let kept = read.min(3);
        end[3 - kept..].copy_from_slice(&last[read - kept..]);
        thread::sleep(pause);
    }
}

fn router_to(addr: SocketAddr, toml: &str) -> Router {
    let setup = Setup::new().provider("openai", &format!("http://{addr}/v1"));
    setup.toml(toml).start()
}

#[test]
fn a_provider_that_reads_late_is_not_gone() {
    let addr = provider(|stream| {
        // Its kernel acknowledges what has room, and says that there is none for more.
        thread::sleep(Duration::from_secs(4));
        read_large(stream, 1 << 20, Duration::ZERO);
    });
    let router = router_to(addr, "timeouts.unacknowledged = \"1s\"");
    assert_eq!(router.post(CHAT, large()).status, 200);
}

#[test]
fn a_providers_time_begins_when_it_has_the_whole_request() {
    // 12 MiB in steps of 256 KiB at most: five seconds at least.
    let addr = provider(|stream| read_large(stream, 256 << 10, Duration::from_millis(100)));
    let router = router_to(addr, "timeouts.first_byte = \"2s\"");
    assert_eq!(router.post(CHAT, large()).status, 200);
}

#[test]
fn an_upload_that_stands_still_is_ended() {
    let gate = Gate::default();
    let waits = gate.clone();
    let addr = provider(move |stream| {
        let started = Instant::now();
        let mut room = [0; 4096];
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Reads nothing until the router has ended it.
        waits.pass();
        while stream.read(&mut room).is_ok_and(|read| read > 0) {
            assert!(started.elapsed() < PATIENCE);
        }
    });
    let router = router_to(addr, "timeouts.first_byte = \"500ms\"");
    assert_eq!(router.post(CHAT, large()).status, 504);
    gate.open();
}

#[test]
fn a_caller_that_takes_an_answer_slowly_gets_all_of_it() {
    const LENGTH: usize = 8 << 20;
    let provider = Provider::start(|_, wire| {
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"
        ));
        wire.send(vec![b'x'; LENGTH]);
        Then::Keep
    });
    let router = Setup::all(&provider)
        .toml("timeouts.stream_idle = \"2s\"")
        .start();
    // With little room, so that its kernel tells of each bit of it; with much, it waits until a sixteenth is free.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    socket.connect(&router.addr().into()).unwrap();
    let mut caller = TcpStream::from(socket);
    caller.set_read_timeout(Some(PATIENCE)).unwrap();
    caller
        .write_all(&router.request(CHAT, &[("Connection", "close")], BODY))
        .unwrap();
    // Too little for the router's socket to have room for all of one write within the time.
    let mut room = [0; 16 * 1024];
    let mut taken = 0;
    for _ in 0..60 {
        // A read with a timeout is not begun anew behind a signal.
        taken += match caller.read(&mut room) {
            Err(error) if error.kind() == ErrorKind::Interrupted => 0,
            read => read.unwrap(),
        };
        thread::sleep(Duration::from_millis(100));
    }
    let mut rest = Vec::new();
    caller.read_to_end(&mut rest).unwrap();
    assert!(taken + rest.len() > LENGTH, "{taken} and {}", rest.len());
}

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
