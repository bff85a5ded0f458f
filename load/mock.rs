//! A provider that costs as little as possible: one thread, fixed answers. `mock PORT`
//!
//! Answers with about 1 KB of JSON; a request whose target holds `stream` gets 200 events of a stream instead.

use std::error::Error;
use std::rc::Rc;

use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};

const EVENTS: usize = 200;

fn plain() -> Vec<u8> {
    let text = "word ".repeat(160);
    let body = format!(
        r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":11,"completion_tokens":160,"total_tokens":171}}}}"#
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_1\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// Where the first request in `bytes` ends, if it is all there: a head with a Content-Length.
fn end_of_request(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = end + length.unwrap_or(0);
    (bytes.len() >= whole).then_some(whole)
}

async fn serve(mut stream: TcpStream, plain: Rc<Vec<u8>>) {
    let mut received = Vec::with_capacity(16 * 1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let (read, returned) = stream.read(buffer).await;
        buffer = returned;
        match read {
            Ok(0) | Err(_) => return,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
        }
        while let Some(end) = end_of_request(&received) {
            let line = received.iter().position(|byte| *byte == b'\r').unwrap_or(0);
            let streams = received[..line].windows(6).any(|six| six == b"stream");
            received.drain(..end);
            if streams {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                if stream.write_all(head.as_bytes().to_vec()).await.0.is_err() {
                    return;
                }
                let event =
                    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"}}]}\n\n";
                let chunk = format!("{:x}\r\n{event}\r\n", event.len()).into_bytes();
                for _ in 0..EVENTS {
                    if stream.write_all(chunk.clone()).await.0.is_err() {
                        return;
                    }
                    // Each event is its own packet, as a model's tokens are.
                    monoio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                if stream.write_all(b"0\r\n\r\n".to_vec()).await.0.is_err() {
                    return;
                }
            } else if stream.write_all(plain.as_ref().clone()).await.0.is_err() {
                return;
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("mock PORT")?.parse()?;
    let mut runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new()
        .enable_timer()
        .build()?;
    runtime.block_on(async move {
        let options = ListenerOpts::new().backlog(4096);
        let listener = TcpListener::bind_with_config(("127.0.0.1", port), &options)?;
        let plain = Rc::new(plain());
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            monoio::spawn(serve(stream, plain.clone()));
        }
    })
}
